"""What each modelled effect is worth on measured runs: switch it off, and see the error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from simserve.cost.host_profiles import host_profile
from simserve.study.run_file import RUN_FILE, RunFacts, read_run_file
from simserve.study.validate import ServerConstants, validate_run

# The engine whose first asynchronous scheduling hid less of the host's time.
_EARLIER_HOST = "vllm-0.11"


class Effect(NamedTuple):
    """One effect, switched off.

    Attributes:
        name: What is different.
        facts: The run's facts without it; the same facts where the run does not have it.
        cost: The `cost` section without it.
        constants: The constants without it, by those of the release.
    """

    name: str
    facts: Callable[[RunFacts], RunFacts] = lambda facts: facts
    cost: dict[str, Any] | None = None
    constants: Callable[[ServerConstants], ServerConstants] = lambda constants: constants


def _without(**changes: Any) -> Callable[[RunFacts], RunFacts]:
    return lambda facts: facts.model_copy(update=changes)


EFFECTS = (
    Effect("asynchronous scheduling off", _without(async_scheduling=False)),
    Effect("CUDA graphs off", _without(cuda_graphs=False)),
    Effect("prefix cache off", _without(enable_prefix_caching=False)),
    Effect("KV pool derived, not the stated one", _without(num_gpu_blocks=None)),
    Effect("no limit in the client", _without(client_max_concurrency=None)),
    Effect("latencies from the sending, not the queue", _without(latency_from="sent")),
    Effect("matrix multiplications at boost clocks", cost={"kind": "analytic", "sustained_rates": False}),
    Effect(
        "the host of 2025's engines",
        constants=lambda given: given._replace(exposed_s=host_profile(_EARLIER_HOST).exposed_s),
    ),
    Effect("no time of client and server", constants=lambda given: given._replace(front_end_s=0.0)),
)


@dataclass(frozen=True, slots=True)
class Worth:
    """Errors of a run's means in percent, by effect; None where the run does not have it.

    Attributes:
        run: Its name.
        whole: With everything on: TTFT and TPOT.
        without: The same by the name of what is off.
    """

    run: str
    whole: tuple[float, float]
    without: dict[str, tuple[float, float] | None]


def measure_effects(folders: Sequence[str | Path]) -> list[Worth]:
    """Validate each run as it is, and with each effect switched off.

    Raises:
        InputError: If something in a folder is wrong, or the run cannot be simulated.
    """
    return [_measure(Path(folder)) for folder in folders]


def _measure(folder: Path) -> Worth:
    facts = read_run_file(folder / RUN_FILE).facts
    used = ServerConstants.of(facts.engine_version)
    queued = facts.latency_from == "queued"
    without: dict[str, tuple[float, float] | None] = {}
    for effect in EFFECTS:
        changed, constants = effect.facts(facts), effect.constants(used)
        same = changed == facts and effect.cost is None and constants == used
        # Where latencies count from the engine's queue, nothing is added to them.
        same |= queued and changed == facts and constants.front_end_s != used.front_end_s
        without[effect.name] = None if same else _errors(folder, effect.cost, constants, changed)
    return Worth(folder.name, _errors(folder, None, used, facts), without)


def _errors(
    folder: Path, cost: dict[str, Any] | None, constants: ServerConstants, facts: RunFacts
) -> tuple[float, float]:
    figures = validate_run(folder, cost, constants=constants, facts=facts).figures()
    ttft, tpot = (figures[name].error_percent for name in ("ttft_mean_s", "tpot_mean_s"))
    assert ttft is not None
    assert tpot is not None
    return ttft, tpot
