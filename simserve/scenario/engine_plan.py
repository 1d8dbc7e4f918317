"""What every instance of a pool is made of: built from it, and explained to the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, signature
from typing import Any

from simserve.cost.build import ExplainableTimer
from simserve.cost.operator_time import OperatorTime
from simserve.cost.roofline import RooflineTimer
from simserve.cost.timer import Chunk
from simserve.devices.accelerator import Accelerator
from simserve.engine.clock import StageClock
from simserve.engine.draft_cost import DraftCost
from simserve.engine.memory_plan import MemoryPlan
from simserve.engine.profile import EngineProfile
from simserve.engine.transfers import TierPath, TransferClock
from simserve.errors import InputError, UnknownNameError, nearest
from simserve.metrics.bottleneck import TimeSplit
from simserve.metrics.pools import PoolInfo
from simserve.metrics.record import StepLog
from simserve.model.shape import ModelShape
from simserve.registry import lookup
from simserve.scenario.engine_kind import own_options, takes_options
from simserve.scenario.engine_schema import Engine
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.contract import Scheduler

# Steps of a pool that are taken apart to tell what bounds it.
_SAMPLED_STEPS = 64


@dataclass(frozen=True)
class EnginePlan:
    """What every instance of a pool is made of."""

    engine: Engine
    config: SchedulerConfig
    memory: MemoryPlan
    profile: EngineProfile
    shape: ModelShape
    accelerator: Accelerator
    timers: list[ExplainableTimer]
    draft: DraftCost | None
    notes: list[str]

    def build_scheduler(self, *, jump: bool) -> Scheduler:
        """Return a scheduler of the engine's kind, with an empty KV pool."""
        kind = lookup("engine", self.engine.kind)
        options = own_options(self.engine) if takes_options(self.engine) else {}
        _check_options(kind, options)
        scheduler: Scheduler = kind(self.config, jump=jump, **options)
        return scheduler

    def build_clock(self) -> StageClock:
        """Return the clock of an instance's pipeline stages."""
        return StageClock(
            self.timers,
            host_ns=0,  # the timers know the host's time
            serial=self.config.async_scheduling,
            draft=self.draft,
            transfers=self.build_transfers(),
            weight_reads=self.weight_reads,
        )

    @property
    def weight_reads(self) -> list[Callable[[int], int]]:
        """For each stage how long a step's weights have the path from the host; [] where none lie there."""
        if not self.engine.cpu_offload_gb:
            return []
        return [timer.weight_reads_ns for timer in self.timers if isinstance(timer, RooflineTimer)]

    def build_transfers(self) -> TransferClock:
        """Return the paths over which one rank moves KV entries."""
        cache = self.config.cache
        tiers = cache.tiers.specs if cache is not None and cache.tiers is not None else ()
        return TransferClock(
            self.accelerator.pcie_bytes_per_s,
            self.accelerator.memory_bandwidth_bytes_per_s,
            [
                TierPath(tier.name, tier.read_bytes_per_s, tier.written_at_bytes_per_s, tier.latency_s)
                for tier in tiers
            ],
        )

    @cached_property
    def calibration(self) -> dict[str, Any]:
        """Which calibration the step times rest on, and its stated error."""
        return dict(self.timers[0].calibration.summary())

    def pool_info(self, name: str, instances: Sequence[int]) -> PoolInfo:
        """Describe the pool for the figures; `instances` are the numbers of its engines' step logs."""
        gpus = self.engine.tensor_parallel_size * self.engine.pipeline_parallel_size
        idle_w, busy_w, price = (
            None if each is None else each * gpus
            for each in (
                self.accelerator.idle_power_w,
                self.accelerator.busy_power_w,
                self.accelerator.price_usd_per_hour,
            )
        )
        kind = lookup("engine", self.engine.kind)
        has_budget = getattr(kind, "has_token_budget", True)
        return PoolInfo(
            name=name,
            instances=tuple(instances),
            hardware=self.accelerator.name,
            model=self.shape.name,
            engine=f"vllm {self.profile.version}" if self.engine.kind == "vllm" else self.engine.kind,
            tensor_parallel_size=self.engine.tensor_parallel_size,
            pipeline_parallel_size=self.engine.pipeline_parallel_size,
            data_parallel_size=self.engine.data_parallel_size,
            accelerators=gpus,
            max_num_seqs=self.config.max_num_seqs,
            max_num_batched_tokens=self.config.max_num_batched_tokens if has_budget else None,
            joins_running=getattr(kind, "joins_running", True),
            idle_power_w=idle_w,
            busy_power_w=busy_w,
            price_usd_per_hour=price,
            kv_block_tokens=self.config.block_size,
            memory=self.memory.sizes(),
        )

    def split_time(self, logs: Sequence[StepLog]) -> TimeSplit:
        """Estimate what a pool's steps waited for, from a sample of them weighted with their number."""
        totals = dict.fromkeys(("compute", "bandwidth", "communication", "overhead"), 0.0)
        rows = [
            (log, row) for log in logs for row in _spread(len(log.steps), _SAMPLED_STEPS // len(logs) + 1)
        ]
        for log, row in rows:
            for timer in self.timers:
                parts = timer.bound_seconds(
                    *self.step_shape(
                        log.decode_tokens[row],
                        log.prefill_tokens[row],
                        log.running[row],
                        log.used_blocks[row],
                    )
                )
                for key, seconds in parts.items():
                    totals[key] += seconds * log.steps[row]
        return TimeSplit(**{f"{key}_s": seconds for key, seconds in totals.items()})

    def explain_step(
        self, decodes: int, prefill: int, running: int, used_blocks: int, prompts: int
    ) -> list[OperatorTime]:
        """Return a row an operator of a step on record, on all stages; arguments as of `step_shape`."""
        shape = self.step_shape(decodes, prefill, running, used_blocks, prompts)
        return [row for timer in self.timers for row in timer.explain(*shape)]

    def step_shape(
        self, decodes: int, prefill: int, running: int, used_blocks: int, prompts: int | None = None
    ) -> tuple[int, int, int, list[Chunk], int]:
        """Return the shape of a step on record, as a `StepTimer` takes it.

        The record does not hold contexts: the tokens of the used blocks, shared among those that run, stand
        for them. Nor does it hold chunks: they are taken to be equal, and without a history if they are of
        prompts.

        Args:
            decodes, prefill: Tokens of the step.
            running: Requests that run.
            used_blocks: KV blocks that they own.
            prompts: How many of them have a chunk of their prompt in the step; 0: the tokens are drafts that
                all of them verify. None: not known.
        """
        share = min(1.0, decodes / max(1, running))
        context = max(decodes, round(used_blocks * self.config.block_size * share))
        drafts = prompts == 0
        count = max(1, min(running if drafts else prompts or 1, prefill))
        history = used_blocks * self.config.block_size // count if drafts else 0
        size, longer = divmod(prefill, count)
        chunks = [Chunk(size + (number < longer), history) for number in range(count)] if prefill else []
        return decodes, context, min(context, self._window * decodes), chunks, decodes + len(chunks)

    @property
    def _window(self) -> int:
        return min((group.window for group in self.config.kv_groups if group.window), default=0)

    def explain(self, what: str) -> list[str]:
        """Return the lines of `simserve run --explain`."""
        if what == "memory":
            return [*_memory_lines(self.memory), *self._limit_lines()]
        if what == "step":
            return _step_lines(self)
        raise InputError(f"cannot explain {what!r}{nearest(what, ('memory', 'step'))}")

    def _limit_lines(self) -> list[str]:
        """The limits of a batch, and which of them are defaults: those depend on the accelerator."""
        info = self.pool_info("", ())
        default = f" (default on {self.accelerator.name})"
        return [
            f"  {key} {value:,}{default if getattr(self.engine, key) is None else ''}"
            for key in ("max_num_seqs", "max_num_batched_tokens")
            if (value := getattr(info, key)) is not None
        ]


def _check_options(kind: type, options: Mapping[str, Any]) -> None:
    """Refuse options that the class of an engine of the user's own does not take."""
    parameters = signature(kind).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return
    valid = {parameter.name for parameter in parameters} - {"config", "observe", "jump"}
    for name in options:
        if name not in valid:
            raise UnknownNameError(f"option of {kind.__name__}", name, valid)


def _spread(rows: int, samples: int) -> range:
    """Return at most about `samples` row numbers, evenly spread."""
    return range(0, rows, max(1, rows // samples))


def _memory_lines(plan: MemoryPlan) -> list[str]:
    lines = [f"  {label:<20} {size / 2**30:>9.2f} GiB  {note}" for label, size, note in plan.lines()]
    lines.append(f"  num_gpu_blocks {plan.num_gpu_blocks:,} ({plan.kv_tokens:,} tokens)")
    lines.append(f"  max_model_len {plan.max_model_len:,}")
    return lines + [f"  note: {note}" for note in plan.notes]


def _provenance(row: OperatorTime) -> str:
    return f"{row.tier}: {row.source}" if row.tier else ""


def _step_lines(plan: EnginePlan) -> list[str]:
    """One step of 16 decodes at 2,048 tokens of context, and one prefill of 2,048 tokens."""
    lines = []
    for title, decodes, context, chunks in (
        ("decode, 16 requests of 2,048 tokens", 16, 16 * 2048, []),
        ("prefill of 2,048 tokens", 0, 0, [Chunk(2048, 0)]),
    ):
        shape = (decodes, context, decodes * min(2048, plan._window), chunks, decodes + len(chunks))
        for stage, timer in enumerate(plan.timers):
            rows = timer.explain(*shape)
            total = sum(row.seconds for row in rows)
            lines.append(f"  {title}, stage {stage}: {total * 1e3:.3f} ms")
            lines += [
                f"    {row.operator:<24} x{row.launches:<4} {row.seconds * 1e3:>9.4f} ms "
                f"{row.seconds / total:>6.1%}  {row.bound:<13}  {_provenance(row)}".rstrip()
                for row in rows
            ]
    return lines
