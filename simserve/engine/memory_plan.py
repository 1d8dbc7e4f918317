"""Where the memory of an accelerator goes: the result of `memory.plan_memory`, and its lines for people."""

from __future__ import annotations

from dataclasses import dataclass

from simserve.devices.accelerator import GIB


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where the memory of the fullest rank goes.

    Attributes:
        total_bytes: What the accelerator offers.
        gpu_memory_utilization: Share of it that the engine may use.
        weight_bytes, activation_bytes, runtime_bytes, graph_bytes: What does not serve KV.
        kv_bytes: What is left for KV blocks.
        block_bytes: Bytes of one block on this rank.
        block_size: Tokens of a block, on all ranks that share a sequence together.
        num_gpu_blocks: Blocks of the pool, vLLM's null block included.
        kv_windows: Each KV group's window in tokens, None for full attention.
        max_model_len: Longest request that is accepted.
        stage: Index of the pipeline stage that limits the pool.
        notes: What was reduced or overridden, and why.
        offloaded_bytes: Weights of this rank that lie in host memory, beyond `weight_bytes`.
    """

    total_bytes: int
    gpu_memory_utilization: float
    weight_bytes: int
    activation_bytes: int
    runtime_bytes: int
    graph_bytes: int
    kv_bytes: int
    block_bytes: int
    block_size: int
    num_gpu_blocks: int
    kv_windows: tuple[int | None, ...]
    max_model_len: int
    stage: int = 0
    notes: tuple[str, ...] = ()
    offloaded_bytes: int = 0

    @property
    def kv_tokens(self) -> int:
        """Tokens of the pool, shared by all KV groups; the null block holds none."""
        return (self.num_gpu_blocks - 1) * self.block_size

    def sizes(self) -> dict[str, int]:
        """Return the items of `lines` by name, in bytes, and the size of a block of this rank."""
        return {
            "total_bytes": self.total_bytes,
            "left_to_others_bytes": self.total_bytes - int(self.total_bytes * self.gpu_memory_utilization),
            "weight_bytes": self.weight_bytes,
            "activation_bytes": self.activation_bytes,
            "runtime_bytes": self.runtime_bytes,
            "graph_bytes": self.graph_bytes,
            "kv_bytes": self.kv_bytes,
            "block_bytes": self.block_bytes,
        }

    def lines(self) -> list[tuple[str, int, str]]:
        """Return (label, bytes, note) for each item of the plan; the deductions are negative."""
        outside = self.total_bytes - int(self.total_bytes * self.gpu_memory_utilization)
        weights = "of one rank, with the table of RoPE"
        if self.offloaded_bytes:
            weights += f"; {self.offloaded_bytes / GIB:.1f} GiB more in host memory"
        blocks = (
            f"{self.num_gpu_blocks:,} blocks of {self.block_size} tokens, {self.block_bytes:,} bytes each"
        )
        return [
            ("memory of one GPU", self.total_bytes, f"pipeline stage {self.stage}"),
            ("left to others", -outside, f"gpu_memory_utilization {self.gpu_memory_utilization:g}"),
            ("weights", -self.weight_bytes, weights),
            ("activations", -self.activation_bytes, "peak at max_num_batched_tokens"),
            ("runtime", -self.runtime_bytes, "libraries, buffers, collectives"),
            (
                "CUDA graphs",
                -self.graph_bytes,
                "" if self.graph_bytes else "outside the share in this version",
            ),
            ("KV cache", self.kv_bytes, blocks),
        ]
