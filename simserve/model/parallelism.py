"""How the ranks of one pipeline stage share a layer."""

from __future__ import annotations

from dataclasses import dataclass

from simserve.errors import InputError, UnknownNameError

# vLLM's names (`all2all_backend`): gather all tokens and scatter the sums, or exchange only the rows routed.
ALL2ALL_BACKENDS = (
    "allgather_reducescatter",
    "naive",
    "pplx",
    "deepep_high_throughput",
    "deepep_low_latency",
)


@dataclass(frozen=True, slots=True)
class Parallelism:
    """Ranks of a pipeline stage, under vLLM's option names.

    Attributes:
        tensor_parallel_size: Ranks that share heads and widths.
        data_parallel_size: Copies of the attention, each with its own requests, in lock-step: every one of
            them runs as many tokens as this rank, and the experts are shared among all of them.
        enable_expert_parallel: Experts are whole and spread over all ranks, instead of cut by width.
        all2all_backend: How tokens reach the experts of other data-parallel ranks.
        decode_context_parallel_size: Of the tensor-parallel ranks that hold the same KV heads, how many share
            the tokens of each sequence; 1: each holds all of them.
        cp_kv_cache_interleave_size: Tokens that go to one of those ranks before the next one takes over.
    """

    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    all2all_backend: str = "allgather_reducescatter"
    decode_context_parallel_size: int = 1
    cp_kv_cache_interleave_size: int = 1

    def __post_init__(self) -> None:
        if self.tensor_parallel_size < 1 or self.data_parallel_size < 1:
            raise InputError("tensor_parallel_size and data_parallel_size: expected 1 or more")
        if self.all2all_backend not in ALL2ALL_BACKENDS:
            raise UnknownNameError("all2all_backend", self.all2all_backend, ALL2ALL_BACKENDS)

    @property
    def expert_group(self) -> int:
        """Ranks that share a layer's experts."""
        return self.tensor_parallel_size * self.data_parallel_size

    @property
    def expert_ranks(self) -> int:
        """Ranks over which whole experts are spread."""
        return self.expert_group if self.enable_expert_parallel else 1

    @property
    def expert_tensor_ranks(self) -> int:
        """Ranks that share each expert's width."""
        return 1 if self.enable_expert_parallel else self.expert_group

    @property
    def exchanges_rows(self) -> bool:
        """Whether dispatch and combine are all-to-alls of the routed rows."""
        return self.enable_expert_parallel and self.all2all_backend not in (
            "allgather_reducescatter",
            "naive",
        )
