"""A pipeline stage of a model as a list of operators, with the FLOPs and bytes of each on one rank.

FLOPs count a multiply-add as two. Bytes are what a kernel must move if nothing is cached between
kernels: its weights once, its inputs and outputs once (the roofline's compulsory traffic, Williams,
Waterman and Patterson 2009). Matrix sizes follow from the layer definitions in Hugging Face
`transformers`; sharding follows vLLM's column- and row-parallel layers (Megatron-LM, arXiv:1909.08053).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class OperatorFamily(StrEnum):
    """Which kernel model prices an operator."""

    GEMM = "gemm"
    EXPERTS = "moe"
    ELEMENTWISE = "elementwise"
    QUANTIZE = "quantize"
    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "all_gather"
    REDUCE_SCATTER = "reduce_scatter"
    ALL_TO_ALL = "all_to_all"

    @property
    def is_collective(self) -> bool:
        """Whether it is priced from the links and not from the accelerator."""
        return self in _COLLECTIVES


_COLLECTIVES = frozenset(
    (
        OperatorFamily.ALL_REDUCE,
        OperatorFamily.ALL_GATHER,
        OperatorFamily.REDUCE_SCATTER,
        OperatorFamily.ALL_TO_ALL,
    )
)


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """Routed experts of a layer: how many distinct ones a batch touches decides the bytes.

    Attributes:
        num_experts, experts_per_token: Of the router.
        bytes_an_expert: Weight bytes of one expert that a rank of its group holds.
        hidden, intermediate: Widths of one whole expert.
        tensor_ranks, expert_ranks: Ranks that share each expert's width, and ranks that share the experts.
        weight_bytes, activation_bytes: Bytes of a weight and of an activation, scales included.
    """

    num_experts: int
    experts_per_token: int
    bytes_an_expert: float
    hidden: int = 0
    intermediate: int = 0
    tensor_ranks: int = 1
    expert_ranks: int = 1
    weight_bytes: float = 2.0
    activation_bytes: float = 2.0

    def activated(self, tokens: Array) -> Array:
        """Expected number of distinct experts that `tokens` tokens touch, on all ranks.

        Each token picks `experts_per_token` of `num_experts`, all alike: a given expert stays
        untouched with probability (1 - k / E) a token.
        """
        idle = 1.0 - self.experts_per_token / self.num_experts
        return self.num_experts * (1.0 - np.power(idle, tokens))


@dataclass(frozen=True, slots=True)
class Operator:
    """One kernel that a step launches `count` times; its work is linear in its rows, but for experts.

    Attributes:
        name: What it is ("qkv", "lm_head", ...).
        family: Which kernel model prices it.
        count: Launches a step (usually the stage's layers).
        flops_a_row: FLOPs a token (or a sampled row) and launch.
        bytes_a_row: Activation bytes a row; for a collective the message's bytes.
        fixed_bytes: Weight bytes a launch.
        dtype: Dtype of the arithmetic, a key of `Accelerator.peak_flops`.
        kernel_dtype: What tables of measured kernels call it ("fp8_block", "int4_wo", ...); "": as `dtype`.
        n, k: A GEMM's weights are k x n.
        width: Elements of a row of an elementwise operator or of a quantisation.
        row_scale: Rows of a launch for each row of this rank's batch (expert parallelism gathers the tokens
            of all data-parallel ranks).
        ranks: Ranks of a collective.
        experts: Set where the weight bytes depend on the tokens.
    """

    name: str
    family: OperatorFamily
    count: int
    flops_a_row: float
    bytes_a_row: float
    fixed_bytes: float
    dtype: str
    kernel_dtype: str = ""
    n: float = 0.0
    k: float = 0.0
    width: float = 0.0
    row_scale: float = 1.0
    ranks: int = 1
    experts: ExpertWeights | None = None

    def flops(self, rows: Array) -> Array:
        """FLOPs of one launch for a batch of `rows` rows."""
        return self.flops_a_row * rows

    def moved_bytes(self, rows: Array) -> Array:
        """Bytes of one launch for a batch of `rows` rows; 0 for no rows."""
        weights: Array | float = self.fixed_bytes
        if self.experts is not None:
            touched = self.experts.activated(rows * self.row_scale) / self.experts.expert_ranks
            weights = touched * self.experts.bytes_an_expert
        return np.where(rows > 0, weights + self.bytes_a_row * rows, 0.0)


@dataclass(frozen=True, slots=True)
class AttentionOperator:
    """Attention of the layers that share a window, on one rank; its work depends on contexts.

    Attributes:
        layers: How many layers of the stage.
        window: Tokens attended at most; 0: all.
        prefill_flops_a_pair: FLOPs for one query token and one key of a prefill, all heads.
        decode_flops_a_key: FLOPs for one key of a decoding request.
        history_flops_a_token: FLOPs to expand a cached token before a prefill attends to it (MLA).
        kv_bytes_a_token: Bytes of the KV cache read for one token of context, scales included.
        query_bytes_a_token: Bytes of the query and the output of one token.
        dtype: Dtype of the arithmetic: the KV cache's where tensor cores multiply it, else the activations'.
        kv_dtype: Format of the KV cache.
        heads, kv_heads, head_dim: On this rank; for MLA the query heads, 1 and the width of a head's key.
        latent_dim, rope_dim, value_dim: Widths of MLA's latent, of its RoPE part and of a head's value; 0 for
            ordinary attention.
        context_ranks: Ranks that share the tokens of each sequence: a decode reads its share of the keys for
            the heads of all of them.
        interleave: Tokens that go to one of those ranks before the next one takes over.
    """

    layers: int
    window: int
    prefill_flops_a_pair: float
    decode_flops_a_key: float
    history_flops_a_token: float
    kv_bytes_a_token: float
    query_bytes_a_token: float
    dtype: str
    kv_dtype: str = "bfloat16"
    heads: int = 1
    kv_heads: int = 1
    head_dim: int = 128
    latent_dim: int = 0
    rope_dim: int = 0
    value_dim: int = 0
    context_ranks: int = 1
    interleave: int = 1

    def local_context(self, context: Array) -> Array:
        """Tokens of a context on the rank that holds most of them, the mean over where contexts end.

        Of the last round of `interleave` tokens a rank the first rank has its whole share, the last none.
        """
        ranks = self.context_ranks
        if ranks == 1:
            return context
        return np.maximum(context / ranks + self.interleave * (ranks - 1) / (2 * ranks), 1.0)


@dataclass(frozen=True, slots=True)
class StageOperators:
    """Everything that one rank of a pipeline stage runs in a step.

    Attributes:
        token_operators: Run on every token of the batch.
        sample_operators: Run on the sampled rows only.
        attention: One entry a window size.
        send_bytes_a_token: Bytes handed to the next stage for a token (all ranks together); 0 in the last.
    """

    token_operators: tuple[Operator, ...]
    sample_operators: tuple[Operator, ...]
    attention: tuple[AttentionOperator, ...]
    send_bytes_a_token: float


def attended_pairs(tokens: int, history: int, window: int = 0) -> float:
    """Query-key pairs of a causal chunk: its token i attends to `history + i` keys, at most `window`."""
    if not window or history + tokens <= window:
        return tokens * (history + (tokens + 1) / 2)
    growing = max(0, window - history)
    return growing * (history + (growing + 1) / 2) + (tokens - growing) * window


def attended_pairs_of(tokens: Array, history: Array, window: int = 0) -> Array:
    """`attended_pairs`, elementwise."""
    if not window:
        return tokens * (history + (tokens + 1) / 2)
    growing = np.clip(window - history, 0.0, tokens)
    return growing * (history + (growing + 1) / 2) + (tokens - growing) * window


def attended_keys(tokens: int, history: int, window: int = 0) -> int:
    """Distinct keys that a chunk reads: all, or the window before its first token and the chunk itself."""
    return history + tokens if not window else min(history, window) + tokens
