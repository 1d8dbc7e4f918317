"""Which layers a pipeline stage holds, and the weights that one of its ranks keeps."""

from __future__ import annotations

from typing import NamedTuple

from simserve.errors import InputError
from simserve.model.dtype import dtype_bytes, weight_format
from simserve.model.shape import ModelShape


class Stage(NamedTuple):
    """Layers `first_layer ... last_layer - 1`, and whether embedding and LM head stand here."""

    first_layer: int
    last_layer: int
    has_embedding: bool
    has_lm_head: bool

    @property
    def num_layers(self) -> int:
        """Number of layers of the stage."""
        return self.last_layer - self.first_layer


def split_stages(num_layers: int, pipeline_parallel_size: int) -> list[Stage]:
    """Split the layers over pipeline stages as vLLM does.

    Left-over layers go to the stages before the last one, from the back, since the last one has the
    LM head (`get_pp_indices` in vllm/distributed/utils.py).

    Raises:
        InputError: If there are more stages than layers.
    """
    stages = pipeline_parallel_size
    if stages < 1 or stages > num_layers:
        raise InputError(f"pipeline_parallel_size {stages} is not in 1 ... {num_layers} (the model's layers)")
    counts = [num_layers // stages] * stages
    for back in range(2, num_layers % stages + 2):
        counts[-back] += 1
    result: list[Stage] = []
    first = 0
    for index, count in enumerate(counts):
        result.append(Stage(first, first + count, index == 0, index == stages - 1))
        first += count
    return result


def stage_weight_bytes(
    shape: ModelShape,
    stage: Stage,
    *,
    tensor_parallel_size: int = 1,
    data_parallel_size: int = 1,
    dtype: str | None = None,
    quantization: str | None = None,
    layers_only: bool = False,
) -> int:
    """Bytes of the weights that one rank of a stage holds.

    Projections and experts are sharded, experts over the data-parallel ranks too (whole ones or slices,
    which comes to the same: `FusedMoEParallelConfig.make` in
    vllm/model_executor/layers/fused_moe/config.py); norms, routers, biases of row-parallel layers and MLA's
    latent projections are held by every rank (vLLM's QKV-, Column-, Row- and ReplicatedLinear); KV heads
    are replicated when there are fewer than ranks. Quantization stores the projections (or the experts
    only) in its format; embedding, LM head, norms and routers keep `dtype`.

    Args:
        shape: The model.
        stage: Its layers.
        tensor_parallel_size: Ranks of the stage.
        data_parallel_size: Copies of the stage that share its experts.
        dtype: Dtype of unquantized weights; default: as published.
        quantization: Name of a weight format; default: as published.
        layers_only: Leave out embedding, LM head and outer norms.
    """
    plain = dtype_bytes(dtype or shape.dtype)
    method = quantization or shape.quantization
    fmt = weight_format(method) if method else None
    expert_bytes = fmt.weight_bytes if fmt else plain
    dense_bytes = fmt.weight_bytes if fmt and not fmt.experts_only else plain
    total = 0.0
    for layer in range(stage.first_layer, stage.last_layer):
        sharded, replicated = attention_split(shape, tensor_parallel_size)
        if shape.layer_experts[layer]:
            ranks = tensor_parallel_size * data_parallel_size
            experts = shape.num_experts * shape.expert_parameters() / ranks
            total += experts * expert_bytes + shape.router_parameters() * plain
            sharded += shape.shared_parameters() / tensor_parallel_size
        else:
            sharded += shape.mlp_parameters() / tensor_parallel_size
        total += (sharded + replicated) * dense_bytes + shape.norm_parameters() * plain
    outer = 0.0 if layers_only else _outer_parameters(shape, stage, tensor_parallel_size) * plain
    return int(total + outer)


def attention_split(shape: ModelShape, tensor_parallel_size: int) -> tuple[float, float]:
    """Split one layer's attention parameters into (sharded on this rank, replicated on every rank)."""
    tp = tensor_parallel_size
    if shape.is_mla:
        hidden = shape.hidden_size
        latent = (hidden + 1) * (shape.kv_lora_rank + shape.q_lora_rank) + hidden * shape.qk_rope_head_dim
        return (shape.attention_parameters() - latent) / tp, float(latent)
    kv_width = 2 * shape.head_dim * (shape.hidden_size + shape.qkv_bias)
    kv_here = kv_width * shape.kv_heads_per_rank(tp)
    rest = shape.attention_parameters() - kv_width * shape.num_kv_heads
    return rest / tp + kv_here, 0.0


def _outer_parameters(shape: ModelShape, stage: Stage, tensor_parallel_size: int) -> float:
    """Parameters outside the layers on one rank: embedding, positions, LM head, outer norms."""
    rows = shape.padded_vocab() * shape.hidden_size / tensor_parallel_size
    norm = shape.hidden_size * (1 + shape.norm_bias)
    total = 0.0
    if stage.has_embedding:
        total += rows + shape.learned_positions * shape.hidden_size + norm * shape.embedding_norm
    if stage.has_lm_head:
        total += norm
        # A tied head costs nothing, unless the embedding stands on another stage.
        if not shape.tie_word_embeddings or not stage.has_embedding:
            total += rows
    return total
