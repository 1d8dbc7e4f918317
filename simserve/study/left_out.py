"""Constants set without any run of a model, and what they give on its runs: leave one model out.

Two constants are set by whole runs: what a step waits for its host, and what client and server add. Each is
what a run's measurement exceeds the simulation by, averaged over a model's runs and then over the models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simserve.study.run_file import RUN_FILE, read_run_file
from simserve.study.validate import ServerConstants, Validation, validate_run

# A client that lags longer than this waits for a saturated server, whose queue and not its step time decides.
_SHORTEST_LAG_S = 0.01
_MEANS = ("ttft_mean_s", "tpot_mean_s", "e2el_mean_s", "output_throughput")


@dataclass(frozen=True, eq=False)
class LeftOut:
    """One run with constants that no run of its model had a part in.

    Attributes:
        model: Its model.
        constants: Set by the runs of all other models.
        shipped, validation: The run with the profiles' constants, and with those.
    """

    model: str
    constants: ServerConstants
    shipped: Validation
    validation: Validation

    def errors(self) -> dict[str, tuple[float | None, float | None]]:
        """Return the errors of the means in percent, with the shipped constants and without the model."""
        shipped, without = self.shipped.figures(), self.validation.figures()
        return {name: (shipped[name].error_percent, without[name].error_percent) for name in _MEANS}

    def as_dict(self) -> dict[str, Any]:
        """Return it in the form of `simserve validate --leave-one-out --json`."""
        errors = self.errors()
        return {
            "run": self.validation.name,
            "model": self.model,
            "constants": self.constants._asdict(),
            "error_percent": {
                name: {"shipped": pair[0], "left_out": pair[1]} for name, pair in errors.items()
            },
        }


def leave_models_out(folders: Sequence[str | Path], cost: Mapping[str, Any] | None = None) -> list[LeftOut]:
    """Validate each run with constants set by the runs of the other models.

    Args:
        folders: Of the runs, of two models at least.
        cost: The scenarios' `cost` section; None for the analytic one.

    Raises:
        InputError: If something in a folder is wrong, or the run cannot be simulated.
    """
    models = [read_run_file(Path(folder) / RUN_FILE).facts.model for folder in folders]
    versions = [read_run_file(Path(folder) / RUN_FILE).facts.engine_version for folder in folders]
    shipped = [validate_run(folder, cost) for folder in folders]
    found = []
    for folder, model, version, whole in zip(folders, models, versions, shipped, strict=True):
        others = [(name, run) for name, run in zip(models, shipped, strict=True) if name != model]
        constants = set_constants(others, ServerConstants.of(version))
        found.append(LeftOut(model, constants, whole, validate_run(folder, cost, constants=constants)))
    return found


def set_constants(runs: Sequence[tuple[str, Validation]], used: ServerConstants) -> ServerConstants:
    """Return the constants that runs ask for.

    Args:
        runs: Model and validation of each.
        used: The constants that they were simulated with.
    """
    steps = [(model, step_excess_s(run)) for model, run in runs]
    first_tokens = [(model, first_token_excess_s(run)) for model, run in runs]
    return ServerConstants(
        max(used.exposed_s + _mean_by_model(steps), 0.0),
        max(used.front_end_s + _mean_by_model(first_tokens), 0.0),
    )


def step_excess_s(run: Validation) -> float | None:
    """Return how much longer a measured decode step is, at the measured mean batch; None if nothing tells."""
    fits = run.step_fits()
    measured, simulated = fits["measured"], fits["simulated"]
    if measured is None or simulated is None or _is_saturated(run):
        return None
    return measured.mean_step_s - (simulated.base_s + simulated.per_sequence_s * measured.mean_batch)


def first_token_excess_s(run: Validation) -> float | None:
    """Return how much later a measured first token comes, in the median; None if nothing tells."""
    if not run.front_end_s or _is_saturated(run):
        return None
    late = run.measured.latencies.ttft_s - run.served.latencies.ttft_s
    return float(np.nanmedian(late))


def _is_saturated(run: Validation) -> bool:
    return max(run.client_lags_s().values()) > _SHORTEST_LAG_S


def _mean_by_model(excesses: Sequence[tuple[str, float | None]]) -> float:
    by_model: dict[str, list[float]] = {}
    for model, excess in excesses:
        if excess is not None:
            by_model.setdefault(model, []).append(excess)
    means = [float(np.mean(values)) for values in by_model.values()]
    return float(np.mean(means)) if means else 0.0
