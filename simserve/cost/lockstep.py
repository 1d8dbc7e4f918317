"""The time of a step that several data-parallel ranks run together, each with a batch of its own.

Attention and dense layers run on a rank's own batch; the experts see the tokens of all ranks, and no rank
gets past a layer before all are there. So a step is the slowest rank's own work, and the shared work once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from simserve.cost.grid import Array
from simserve.cost.host import HostTime
from simserve.cost.roofline import RooflineTimer
from simserve.cost.stage_cost import ROW_KNOTS, StageCost
from simserve.cost.timer import Chunk, StepTimer
from simserve.model.operators import Operator

_NS = 1e9


class BatchShape(NamedTuple):
    """The shape of one rank's batch, as a `StepTimer` takes it."""

    decodes: int
    context_tokens: int
    window_tokens: int
    chunks: Sequence[Chunk]
    samples: int

    @property
    def tokens(self) -> int:
        """Tokens that it runs."""
        return self.decodes + sum(chunk.tokens for chunk in self.chunks)


# What a rank runs that has nothing to do while others have: one token, and nothing is sampled
# (`execute_dummy_batch` in vllm/v1/worker/gpu_worker.py).
DUMMY = BatchShape(1, 1, 1, (), 0)


class LockstepTimer(Protocol):
    """Prices one pipeline stage of all ranks. Implementations are pure."""

    def step_ns(self, batches: Sequence[BatchShape]) -> int:
        """Duration of one step; a batch a rank."""

    def decode_ns(self, batches: Sequence[BatchShape], steps: int) -> list[int]:
        """Durations of `steps` steps that only decode: the contexts grow as in `StepTimer.decode_ns`.

        `DUMMY` batches stay as they are. The same integers as `steps` calls of `step_ns`.
        """

    def send_ns(self, tokens: int) -> int:
        """Time to hand `tokens` activations of one rank to the next stage."""


class SlowestRank:
    """Where nothing is known of what ranks share: the longest of their steps.

    Args:
        timer: Of one rank.
    """

    def __init__(self, timer: StepTimer) -> None:
        self._timer = timer

    def step_ns(self, batches: Sequence[BatchShape]) -> int:
        """Duration of one step; see `LockstepTimer.step_ns`."""
        price = self._timer.batch_ns
        return max(
            price(b.decodes, b.context_tokens, b.window_tokens, list(b.chunks), b.samples) for b in batches
        )

    def decode_ns(self, batches: Sequence[BatchShape], steps: int) -> list[int]:
        """Durations of decode steps; see `LockstepTimer.decode_ns`."""
        timer = self._timer
        durations = [
            [self.step_ns([batch])] * steps
            if batch is DUMMY
            else timer.decode_ns(batch.decodes, batch.context_tokens, batch.window_tokens, steps)
            for batch in batches
        ]
        return [max(step) for step in zip(*durations, strict=True)]

    def send_ns(self, tokens: int) -> int:
        """Time to hand activations on."""
        return self._timer.send_ns(tokens)


class RooflineLockstep:
    """Prices the operators of all ranks: a rank's own with its batch, the experts and their exchange once.

    Where every rank's batch fits a CUDA graph, all are padded to the largest (`coordinate_batch_across_dp`
    in vllm/v1/worker/dp_utils.py, vLLM 0.19); where one does not, all run without a graph, each with the
    tokens it has.

    Args:
        timer: Of one rank, built for that many data-parallel ranks.
    """

    def __init__(self, timer: RooflineTimer) -> None:
        cost = timer.cost
        own = [operator for operator in cost.operators.token_operators if not _is_shared(operator)]
        shared = [operator for operator in cost.operators.token_operators if _is_shared(operator)]
        self._timer = timer
        self._cost = cost
        self._own_s, self._shared_s = _sum_tables(cost, own), _sum_tables(cost, shared)
        self._own_ns: dict[int, int] = {}
        self._shared_ns: dict[int, int] = {}
        # Attention, LM head and sampling of a rank's own batch; the host's time is added once.
        rest = replace(
            cost,
            operators=replace(cost.operators, token_operators=()),
            host=HostTime(graph_sizes=cost.host.graph_sizes),
        )
        self._rest = RooflineTimer(rest, timer.calibration)
        self._graph_end = cost.host.graph_sizes[-1] if cost.host.graph_sizes else 0

    def step_ns(self, batches: Sequence[BatchShape]) -> int:
        """Duration of one step; see `LockstepTimer.step_ns`."""
        rest = self._rest
        fixed, shared, least = self._fixed_ns([batch.tokens for batch in batches], batches)
        longest = 0
        for batch, own in zip(batches, fixed, strict=True):
            longest = max(
                longest,
                own
                + rest.batch_ns(
                    batch.decodes,
                    batch.context_tokens,
                    batch.window_tokens,
                    list(batch.chunks),
                    batch.samples,
                ),
            )
        return max(longest + shared, least)

    def decode_ns(self, batches: Sequence[BatchShape], steps: int) -> list[int]:
        """Durations of decode steps; see `LockstepTimer.decode_ns`."""
        rest = self._rest
        fixed, shared, least = self._fixed_ns([batch.decodes for batch in batches], batches)
        durations = []
        for batch, own in zip(batches, fixed, strict=True):
            shape = (batch.decodes, batch.context_tokens, batch.window_tokens)
            if batch is DUMMY:
                durations.append([own + rest.batch_ns(*shape, [], 0)] * steps)
            else:
                durations.append([own + duration for duration in rest.decode_ns(*shape, steps)])
        return [max(*step, least - shared) + shared for step in zip(*durations, strict=True)]

    def send_ns(self, tokens: int) -> int:
        """Time to hand activations on."""
        return self._timer.send_ns(tokens)

    def _fixed_ns(self, tokens: list[int], batches: Sequence[BatchShape]) -> tuple[list[int], int, int]:
        """What tokens alone decide: each rank's own part, the shared part, the shortest step."""
        cost, largest = self._cost, max(tokens)
        rows = tokens
        if largest <= self._graph_end:
            rows = [int(cost.padded(np.array([float(largest)]))[0])] * len(tokens)
        sequences = max(batch.decodes + len(batch.chunks) for batch in batches)
        shown_s = cost.host.step_s + cost.host.sequence_s * sequences
        shown, least = int(_NS * shown_s), int(_NS * (shown_s + cost.least_s(largest, sequences)))
        shared = self._shared_ns.get(sum(rows))
        if shared is None:
            # An operator's rows are those of one rank; it multiplies them with the number of ranks itself.
            shared = int(_NS * float(np.interp(sum(rows) / len(rows), ROW_KNOTS, self._shared_s)) + 0.5)
            self._shared_ns[sum(rows)] = shared
        return [self._own(row) for row in rows], shared + shown, least

    def _own(self, rows: int) -> int:
        known = self._own_ns.get(rows)
        if known is None:
            known = self._own_ns[rows] = int(_NS * float(np.interp(rows, ROW_KNOTS, self._own_s)) + 0.5)
        return known


def _is_shared(operator: Operator) -> bool:
    """Whether an operator works on the tokens of all ranks: the experts, and the exchange around them."""
    return operator.experts is not None or (
        operator.family.is_collective and operator.name in ("dispatch_experts", "combine_experts")
    )


def _sum_tables(cost: StageCost, operators: Sequence[Operator]) -> Array:
    total = np.zeros_like(ROW_KNOTS)
    for operator in operators:
        total += operator.count * cost.table(operator)
    return total


def lockstep_timer(timer: StepTimer) -> LockstepTimer:
    """Return what prices a stage of several ranks, from the timer of one."""
    return RooflineLockstep(timer) if isinstance(timer, RooflineTimer) else SlowestRank(timer)
