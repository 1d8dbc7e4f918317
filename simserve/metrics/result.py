"""`Result`: what a simulation gives back. Figures and tables are derived from the record when asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.metrics.bottleneck import TimeSplit
from simserve.metrics.columns import RequestColumns
from simserve.metrics.pools import PoolInfo
from simserve.metrics.record import RequestLog, StepLog
from simserve.metrics.run_info import RunInfo
from simserve.metrics.slo import SloTargets
from simserve.metrics.summary import Window, summarise

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from simserve.metrics.prefix_table import HeldPrefix
    from simserve.metrics.time_parts import Price


class Result:
    """The outcome of one run.

    Attributes:
        name: The scenario's name.
        scenario: The scenario that ran, as given to `simulate`.
        seed: The seed of the run.
        requests: The request log.
        steps: The step logs, one an instance.
        pools: What the instances are.
        warnings: What the user should know, one line each.
        info: Time and memory of the run on this machine; None if not measured.
        calibration: Which calibration priced the steps, and its stated error.
        zero_lengths: How many lengths of 0 in the trace ran as 1.
        partial: Whether the run was stopped before its end.
        prefixes: The prefixes that caching saved the most tokens of.
    """

    def __init__(
        self,
        *,
        requests: RequestLog,
        steps: Sequence[StepLog],
        name: str = "",
        scenario: object = None,
        scenario_text: str | Callable[[], str] = "",
        seed: int = 0,
        pools: Sequence[PoolInfo] = (),
        slo: SloTargets | None = None,
        window: Window | None = None,
        time_split: Sequence[TimeSplit] = (),
        calibration: Mapping[str, Any] | None = None,
        warnings: Sequence[str] = (),
        info: RunInfo | None = None,
        duration_ns: int | None = None,
        zero_lengths: int = 0,
        partial: bool = False,
        prefixes: Sequence[HeldPrefix] = (),
        prices: Sequence[Price] = (),
    ) -> None:
        """Keep the record; nothing is computed yet.

        Args:
            requests, steps: The record.
            name, scenario, seed, pools, calibration, warnings, info, zero_lengths, partial, prefixes: See the
                class.
            scenario_text: The resolved scenario as YAML, or a function that makes it when it is written.
            slo: Targets for attainment and goodput.
            window: Time left out of the figures.
            time_split: Where each instance's time went, for the bottleneck.
            duration_ns: Length of the run; None for the last end of a request.
            prices: What prices a step of each pool, for where the time went; may be empty.
        """
        self.requests, self.steps = requests, tuple(steps)
        self.name, self.scenario, self.seed = name, scenario, seed
        self.pools, self.calibration = tuple(pools), calibration
        self.warnings, self.info = list(warnings), info
        self.zero_lengths, self.partial = zero_lengths, partial
        self.prefixes = tuple(prefixes)
        self._scenario_text = scenario_text
        self._slo, self._window = slo, window
        self._time_split, self._duration_ns = time_split, duration_ns
        self._prices = prices

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The figures of the run by their names in summary.json, None where unknown."""
        from simserve.version import __version__

        figures = summarise(
            self.requests,
            self._columns,
            pools=self.pools,
            slo=self._slo,
            window=self._window,
            time_split=self._time_split,
            duration_ns=self._duration_ns,
        )
        bottleneck = figures.pop("bottleneck")
        return figures | {
            "calibration": dict(self.calibration) if self.calibration is not None else None,
            "bottleneck": bottleneck,
            "zero_lengths": self.zero_lengths,
            "warnings": self.warnings,
            "partial": self.partial,
            "name": self.name,
            "simserve_version": __version__,
            "seed": self.seed,
        }

    def within(self, window: Window) -> Result:
        """Return the same run with the figures of another part of it."""
        other = copy(self)
        other._window = window
        other.__dict__.pop("summary", None)
        return other

    @cached_property
    def _columns(self) -> RequestColumns:
        return RequestColumns.of(self.requests, self.steps)

    def summary_json(self) -> str:
        """Return the summary as the text of summary.json."""
        return json.dumps(self.summary, indent=2) + "\n"

    @property
    def scenario_yaml(self) -> str:
        """The resolved scenario as YAML, "" if none was given."""
        return self._scenario_text() if callable(self._scenario_text) else self._scenario_text

    def requests_table(self) -> pa.Table:
        """Return a row a request (the columns of requests.parquet)."""
        from simserve.metrics.tables import requests_table

        return requests_table(self.requests, self._columns)

    def steps_table(self) -> pa.Table:
        """Return a row a stretch of steps (the columns of steps.parquet)."""
        from simserve.metrics.tables import steps_table

        return steps_table(self.steps)

    def step_times_table(self) -> pa.Table:
        """Return a row a step (the columns of step_times.parquet)."""
        from simserve.metrics.tables import step_times_table

        return step_times_table(self.steps)

    def spans_table(self) -> pa.Table:
        """Return a row a span of a request's life (the columns of spans.parquet)."""
        from simserve.metrics.spans import spans_table

        return spans_table(self.requests, self._columns)

    def kv_memory_table(self) -> pa.Table | None:
        """Return a row a change of the KV memory (kv_memory.parquet), None if all of it is paged."""
        from simserve.metrics.kv_memory import kv_memory_table

        if all(log.fragmentation is None for log in self.steps):
            return None
        return kv_memory_table(self.steps)

    def prefix_table(self) -> pa.Table | None:
        """Return a row a shared prefix (prefixes.parquet), None if none was ever found in a cache."""
        from simserve.metrics.prefix_table import prefix_table

        return prefix_table(self.prefixes) if self.prefixes else None

    def time_parts_table(self) -> pa.Table | None:
        """Return where the time of the steps went (time_parts.parquet), None if nothing can price a step."""
        from simserve.metrics.time_parts import time_parts_table

        if not self._prices:
            return None
        return time_parts_table(self.requests, self._columns, self.pools, self._prices)

    def to_pandas(self) -> pd.DataFrame:
        """Return the requests as a pandas DataFrame, a row a request."""
        frame: pd.DataFrame = self.requests_table().to_pandas()
        return frame

    def write(self, folder: str | Path) -> Path:
        """Write the run into `folder` (see `simserve.metrics.writer.write_run`) and return its path."""
        from simserve.metrics.writer import write_run

        return write_run(self, Path(folder))
