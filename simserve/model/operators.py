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
    EXPERTS = "experts"
    ELEMENTWISE = "elementwise"
    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "all_gather"


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """Routed experts on one rank: how many distinct ones a batch touches decides the bytes.

    Attributes:
        num_experts, experts_per_token: Of the router.
        bytes_an_expert: Weight bytes of one expert's share on this rank.
    """

    num_experts: int
    experts_per_token: int
    bytes_an_expert: float

    def activated(self, tokens: Array) -> Array:
        """Expected number of distinct experts that `tokens` tokens touch.

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
        dtype: Dtype of the arithmetic.
        experts: Set where the weight bytes depend on the tokens.
    """

    name: str
    family: OperatorFamily
    count: int
    flops_a_row: float
    bytes_a_row: float
    fixed_bytes: float
    dtype: str
    experts: ExpertWeights | None = None

    def flops(self, rows: Array) -> Array:
        """FLOPs of one launch with `rows` rows."""
        return self.flops_a_row * rows

    def moved_bytes(self, rows: Array) -> Array:
        """Bytes of one launch with `rows` rows; 0 for no rows."""
        weights: Array | float = self.fixed_bytes
        if self.experts is not None:
            weights = self.experts.activated(rows) * self.experts.bytes_an_expert
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
        kv_bytes_a_token: Bytes of the KV cache read for one token of context.
        query_bytes_a_token: Bytes of the query and the output of one token.
        dtype: Dtype of the arithmetic.
    """

    layers: int
    window: int
    prefill_flops_a_pair: float
    decode_flops_a_key: float
    history_flops_a_token: float
    kv_bytes_a_token: float
    query_bytes_a_token: float
    dtype: str


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


def attended_keys(tokens: int, history: int, window: int = 0) -> int:
    """Distinct keys that a chunk reads: all, or the window before its first token and the chunk itself."""
    return history + tokens if not window else min(history, window) + tokens
