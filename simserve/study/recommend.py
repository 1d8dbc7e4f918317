"""`recommend`: the configuration that serves a load within its objectives best.

For cost, accelerators and energy each candidate gets the fewest instances that hold the load; for throughput
an accelerator, each is asked for the highest rate that it holds as it is. Candidates whose bound is worse
than what has been found are not simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from simserve.errors import InputError, SimulationError
from simserve.scenario.engine_plan import EnginePlan
from simserve.study.candidates import Candidate, Unfit
from simserve.study.executor import Executor, InProcess
from simserve.study.options import Option, Recommendation
from simserve.study.probe import Probe, ProbeTask, natural_rate
from simserve.study.search import run_searches
from simserve.study.sizing import Limits, Sizes
from simserve.study.slo_terms import SloTerm
from simserve.study.space_search import Found, Objective, Question, SpaceSearch
from simserve.workload.workload import Workload

Powers = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search ends early.

    Attributes:
        probes: Simulations that it may ask for; None: any number.
        seconds: Time after which it is stopped, so that the result depends on the machine; None: never.
    """

    probes: int | None = None
    seconds: float | None = None


def recommend(
    space: Sequence[Candidate | Unfit],
    workload: Workload,
    slo: Sequence[SloTerm],
    *,
    objective: Objective = "cost",
    rate_per_s: float | None = None,
    limits: Limits | None = None,
    budget: Budget | None = None,
    powers: Powers | None = None,
    executor: Executor | None = None,
    tolerance: float = 0.02,
    runners_up: int = 2,
    seeds: int = 1,
    tried: Callable[[Candidate, Sizes, int, Probe], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Recommendation:
    """Try every candidate that can be best, and rank them.

    What is found does not depend on the executor.

    Args:
        space: The candidates.
        workload: The load.
        slo: Terms that must hold.
        objective: What the best is best in.
        rate_per_s: Requests a second; None: the workload's own. For `throughput_per_gpu` where the search for
            the highest rate begins.
        limits: What no option may exceed.
        budget: When to end early.
        powers: W of one accelerator without and with a step executing, by its name.
        executor: Where probes run; None: here.
        tolerance: Of the rates of `throughput_per_gpu`, as of `capacity`.
        runners_up: How many beside the best are wanted: what cannot be among them is not simulated.
        seeds: Draws of the requests, from the scenario's seed on: what holds does so with each of them.
        tried: Called after each probe with its seed, in the search's order.
        progress: Called with how many probes have ended.

    Raises:
        InputError: If a price or a power that the objective needs is unknown, or there is nothing to stretch.
        SimulationError: If every process that was to simulate one died.
    """
    powers, budget, terms = powers or {}, budget or Budget(), tuple(slo)
    fit = {number: each for number, each in enumerate(space) if isinstance(each, Candidate)}
    check_figures(space, objective, powers)
    rate = rate_per_s or natural_rate(workload)
    search = SpaceSearch(
        fit, workload, terms, objective, rate, limits or Limits(), tolerance, runners_up, seeds
    )  # fmt: skip

    def seed_of(question: Question) -> int:
        return fit[question[0]].scenario.seed + question[3]

    def task_of(question: Question) -> ProbeTask:
        number, sizes, asked, _ = question
        return ProbeTask(fit[number].with_sizes(sizes, seed_of(question)), terms, asked, powers)

    def tell(question: Question, probe: Probe) -> None:
        if tried is not None:
            tried(fit[question[0]], question[1], seed_of(question), probe)

    done = run_searches(
        [search], task_of, executor or InProcess(),
        told=tell, progress=progress, most=budget.probes, most_s=budget.seconds,
    )  # fmt: skip
    _check_alive([probe for _, probe in done.paths[0]])
    options = _read_options(space, done.found[0], dict(done.paths[0]), terms)
    held = sorted((each for each in options if each.holds), key=lambda option: option.rank(objective))
    out = [each for each in options if not each.holds]
    searched = objective == "throughput_per_gpu"
    return Recommendation(objective, None if searched else rate, (*held, *out), done.stopped)


def _read_options(
    space: Sequence[Candidate | Unfit],
    found: Sequence[Found],
    answered: Mapping[Question, Probe],
    slo: tuple[SloTerm, ...],
) -> list[Option]:
    """Return what became of each candidate, in the order of the space."""
    by_number = {each.number: each for each in found}
    options = []
    for number, candidate in enumerate(space):
        asked = [(question, probe) for question, probe in answered.items() if question[0] == number]
        probes = tuple(
            (sizes, rate, candidate.scenario.seed + seed, probe.holds)
            for (_, sizes, rate, seed), probe in asked
            if isinstance(candidate, Candidate)
        )
        if isinstance(candidate, Unfit):
            options.append(Option(candidate.settings, f"cannot be: {candidate.reason}"))
        elif number not in by_number:
            options.append(Option(candidate.settings, "not reached", probes=probes))
        elif not by_number[number].sizes:
            options.append(Option(candidate.settings, by_number[number].reason, probes=probes))
        else:
            each = by_number[number]
            first, *further = [
                probe
                for (_, sizes, rate, _), probe in asked
                if (sizes, rate) == (each.sizes, each.rate_per_s)
            ]
            broken = (term for q in each.beyond if q in answered for term in answered[q].broken(slo))
            options.append(
                Option(
                    settings=candidate.settings,
                    verdict="holds",
                    sizes=each.sizes,
                    gpus=candidate.gpus(each.sizes),
                    usd_per_hour=candidate.usd_per_hour(each.sizes),
                    rate_per_s=each.rate_per_s,
                    figures=_worst_figures(first, further, slo),
                    window=first.window,
                    bottleneck=first.bottleneck,
                    doubt=first.doubt,
                    binds=tuple(dict.fromkeys(broken)),
                    unfinished=each.unfinished,
                    probes=probes,
                )
            )
    return options


def _worst_figures(
    first: Probe, further: Sequence[Probe], slo: tuple[SloTerm, ...]
) -> dict[str, float | None]:
    """Return the first's figures; those of the terms, all of which hold, as the worst of all have them."""
    figures = dict(first.figures)
    for term in slo:
        values = [value for probe in (first, *further) if (value := probe.figures[term.key]) is not None]
        figures[term.key] = max(values) if term.at_most else min(values)
    return figures


def _check_alive(probes: Sequence[Probe]) -> None:
    """Tell processes that cannot work from configurations that hold nothing."""
    if probes and all(probe.died for probe in probes):
        raise SimulationError(f"nothing could be simulated: {probes[0].error}; try --workers 1")


def check_figures(space: Sequence[Candidate | Unfit], objective: Objective, powers: Powers) -> None:
    """Refuse to count what is not known of some candidates.

    Args:
        space: The candidates.
        objective: What is counted.
        powers: As of `recommend`.

    Raises:
        InputError: If a price or a power that the objective needs is unknown.
    """
    fit = [each for each in space if isinstance(each, Candidate)]
    _check_prices(fit, objective)
    _check_powers(fit, objective, powers)


def _check_prices(candidates: Iterable[Candidate], objective: Objective) -> None:
    """Refuse to count money where a price is not known; names all of those."""
    engines = _engines(candidates) if objective == "cost" else ()
    names = list(dict.fromkeys(plan.accelerator.name for plan, price in engines if price is None))
    if names:
        options = " ".join(f"--price {name}=USD" for name in names)
        raise InputError(
            f"no price of {', '.join(names)} is known; give one with {options}, or --objective gpus"
        )


def _check_powers(candidates: Iterable[Candidate], objective: Objective, powers: Powers) -> None:
    """Refuse to count energy where what an accelerator draws is not known."""
    for plan, _ in _engines(candidates) if objective == "energy" else ():
        accelerator, info = plan.accelerator, plan.pool_info("", (0,))
        name = accelerator.name
        if name in powers or (info.idle_power_w is not None and info.busy_power_w is not None):
            continue
        watts = accelerator.tdp_w
        bound = (
            "" if watts is None else f", --power {name}=tdp to count its board's limit of {watts:g} W always"
        )
        raise InputError(
            f"the power of {name} is not known; give what it draws without and with a step executing, "
            f"in watts, with --power {name}=IDLE:BUSY{bound}, or choose another --objective"
        )


def _engines(candidates: Iterable[Candidate]) -> Iterator[tuple[EnginePlan, float | None]]:
    for each in candidates:
        yield from zip(each.plans, each.prices_usd_per_hour, strict=True)
