"""Lists the operators of mixture-of-experts layers: router, routed and shared experts, their exchange."""

from __future__ import annotations

from simserve.errors import InputError
from simserve.model.operator_build import OperatorBuilder
from simserve.model.operators import ExpertWeights, Operator, OperatorFamily
from simserve.model.parallelism import Parallelism
from simserve.model.shape import ModelShape


def list_expert_operators(
    shape: ModelShape, make: OperatorBuilder, layers: int, ranks: Parallelism
) -> list[Operator]:
    """List what one rank runs in `layers` MoE layers.

    Raises:
        InputError: If there are fewer experts than ranks to spread them over.
    """
    if ranks.expert_ranks > shape.num_experts:
        raise InputError(
            f"{ranks.expert_ranks} expert-parallel ranks cannot share the {shape.num_experts} experts of "
            f"{shape.name}"
        )
    hidden, top_k = shape.hidden_size, shape.experts_per_token
    copies = float(ranks.data_parallel_size)
    result = [
        make.gemm("router", layers, shape.num_experts, hidden, quantized=False),
        make.elementwise("route", layers, 2 * shape.num_experts + 2 * top_k, shape.num_experts),
        *_exchange("dispatch", shape, make, layers, ranks),
        _experts(shape, make, layers, ranks, copies),
        *_exchange("combine", shape, make, layers, ranks),
    ]
    if shape.shared_expert_intermediate_size:
        local = shape.shared_expert_intermediate_size / ranks.tensor_parallel_size
        result += make.mlp("shared_expert", layers, hidden, local, gated=True)
        result.append(make.elementwise("add_shared_expert", layers, 3 * hidden, hidden))
    return result


def _experts(
    shape: ModelShape, make: OperatorBuilder, layers: int, ranks: Parallelism, copies: float
) -> Operator:
    """The routed experts of a layer as one fused kernel: both GEMMs, the activation and the weighted sum.

    Each token's row meets `experts_per_token` of them, of which this rank has its share: experts cut by
    width (tensor parallel) or whole ones (expert parallel); with balanced routing FLOPs and expected weight
    bytes of a rank are the same.
    """
    hidden, top_k = shape.hidden_size, shape.experts_per_token
    precision, fmt, plain = make.precision, make.precision.weights, make.act_bytes
    weight_bytes = fmt.weight_bytes if fmt else plain
    read = precision.quantized_activation_bytes if fmt else plain
    inner = shape.moe_intermediate_size / ranks.expert_tensor_ranks
    rows = copies * top_k / ranks.expert_ranks
    moved = hidden * read + (2 * inner) * plain + 3 * inner * plain + inner * read + 2 * hidden * plain
    weights = ExpertWeights(
        num_experts=shape.num_experts,
        experts_per_token=top_k,
        bytes_an_expert=3 * hidden * inner * weight_bytes,
        hidden=hidden,
        intermediate=shape.moe_intermediate_size,
        tensor_ranks=ranks.expert_tensor_ranks,
        expert_ranks=ranks.expert_ranks,
        weight_bytes=weight_bytes,
        activation_bytes=read,
    )
    return Operator(
        "experts", OperatorFamily.EXPERTS, layers, rows * 6.0 * hidden * inner, rows * moved, 0.0,
        precision.compute if fmt else precision.activation,
        precision.gemm_dtype if fmt else precision.activation,
        row_scale=copies, experts=weights,
    )  # fmt: skip


def _exchange(
    name: str, shape: ModelShape, make: OperatorBuilder, layers: int, ranks: Parallelism
) -> list[Operator]:
    """How tokens reach the experts of other ranks, and their sums come back.

    Within one data-parallel copy every rank has all tokens: nothing to send, and the all-reduce after the
    MLP sums the experts' shares. Across copies vLLM gathers all tokens and scatters the sums, or sends each
    token's row to each of its experts (DeepEP).
    """
    copies = ranks.data_parallel_size
    if copies == 1:
        return []
    hidden = shape.hidden_size
    if ranks.exchanges_rows:
        # Of a token's rows, those for experts of other ranks travel.
        away = (ranks.expert_ranks - 1) / ranks.expert_ranks
        elements = shape.experts_per_token * hidden * away / ranks.tensor_parallel_size
        family = OperatorFamily.ALL_TO_ALL
    else:
        elements = float(hidden * copies)
        family = OperatorFamily.ALL_GATHER if name == "dispatch" else OperatorFamily.REDUCE_SCATTER
    return [make.collective(f"{name}_experts", family, layers, elements, ranks.expert_group)]
