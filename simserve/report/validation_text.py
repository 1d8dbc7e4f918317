"""Measured against simulated on the screen: a table a run, and one of all runs."""

from __future__ import annotations

from collections.abc import Sequence

from simserve.report.table import print_table
from simserve.study.comparison import KOLMOGOROV_BOUND, Bound
from simserve.study.effects import EFFECTS, Worth
from simserve.study.left_out import LeftOut
from simserve.study.validate import WARM_UP_REQUESTS, Validation

# Shorter than this the client kept up.
_SHORTEST_LAG_S = 0.01
_OVERVIEW = ("ttft_mean_s", "tpot_mean_s", "e2el_mean_s", "output_throughput", "makespan_s")


def print_validation(run: Validation) -> None:
    """Print all figures of a run, what was added to them, and what was assumed."""
    figures, later = run.figures(), run.later_figures() or {}
    print(f"{run.name}: {len(run.measured):,} requests{_troubles(run)}")
    rows = [
        [
            _label(name),
            _value(name, figure.measured),
            _value(name, figure.simulated),
            _percent(figure.error_percent),
            _percent(later[name].error_percent) if name in later else "-",
            _bound(figure.bound),
            _verdict(figure.holds),
        ]
        for name, figure in figures.items()
    ]
    headers = ("", "measured", "simulated", "error", f"without first {WARM_UP_REQUESTS}", "bound", "")
    print_table(headers, rows)
    for name, each in run.deviations().items():
        print(
            f"mean |error| of a request's {name.upper()}: "
            f"{each.mean_absolute_s * 1e3:,.1f} ms, {each.percent:.1f} %"
        )
    distance = run.kolmogorov()
    if distance is not None:
        verdict = _verdict(distance <= KOLMOGOROV_BOUND)
        print(f"Kolmogorov distance of E2EL: {distance:.3f} (bound {KOLMOGOROV_BOUND:g}) {verdict}")
    lags = run.client_lags_s()
    if max(lags.values()) >= _SHORTEST_LAG_S:
        told = ", ".join(f"{side} {lag_s:,.3f} s" for side, lag_s in lags.items())
        print(f"the client sent a request so long after it was due, on average: {told}")
    _print_steps(run)
    _print_seen(run)
    front_end = f"{run.front_end_s * 1e3:,.1f} ms in each TTFT and E2EL"
    print(f"client and server (HTTP, tokenizer, detokenizer): {front_end}")
    calibration = run.result.calibration
    if calibration:
        print(f"step times: {calibration.get('tier')}, {calibration.get('source')}")
    for note in run.notes:
        print(f"note: {note}")


def _print_steps(run: Validation) -> None:
    """Print what a step costs on both sides, where the requests tell."""
    for side, fit in run.step_fits().items():
        if fit is None:
            continue
        token_s = fit.per_prompt_token_s
        token = "" if token_s is None else f", {token_s * 1e6:+.1f} us for each of its tokens"
        print(
            f"steps, {side}: {fit.base_s * 1e3:.2f} ms, {fit.per_sequence_s * 1e3:+.4f} for each sequence "
            f"({fit.mean_step_s * 1e3:.2f} at {fit.mean_batch:.0f}), {fit.per_prompt_s * 1e3:+.2f} "
            f"for each new prompt{token}; the fit errs by {fit.error_percent:.1f} %"
        )


def _print_seen(run: Validation) -> None:
    """Print the steps that can be seen one by one, by the prompts that were prefilled in them."""
    for side, seen in run.seen_steps().items():
        parts = [f"{each.new_prompts}: {each.median_s * 1e3:.1f} ({each.mean_batch:.0f})" for each in seen]
        if parts:
            print(f"seen steps, {side}, by new prompts: median ms (sequences decoding) {', '.join(parts)}")


def print_overview(runs: Sequence[Validation]) -> None:
    """Print a row a run: the errors of its means, and how many figures are within their bounds."""
    rows = []
    for run in runs:
        figures = run.figures()
        judged = [holds for holds in run.verdicts().values() if holds is not None]
        distance = run.kolmogorov()
        rows.append(
            [
                run.name,
                *(_percent(figures[name].error_percent) for name in _OVERVIEW),
                "-" if distance is None else f"{distance:.2f}",
                f"{sum(judged)} of {len(judged)}",
            ]
        )
    headers = ("run", "TTFT", "TPOT", "E2EL", "throughput", "makespan", "Kolmogorov", "within bounds")
    print_table(headers, rows)


def print_left_out(runs: Sequence[LeftOut]) -> None:
    """Print a row a run: its errors with the shipped constants, and with those set without its model."""
    rows = []
    for run in runs:
        errors = run.errors().values()
        host, front_end = (f"{value * 1e3:.2f}" for value in run.constants)
        cells = [f"{_percent(shipped)} -> {_percent(without)}" for shipped, without in errors]
        rows.append([run.validation.name, run.model.split("/")[-1], host, front_end, *cells])
    print("errors with the shipped constants -> with those set by the runs of other models")
    headers = ("run", "without", "host ms", "front end ms", "TTFT", "TPOT", "E2EL", "throughput")
    print_table(headers, rows)


def print_effects(runs: Sequence[Worth]) -> None:
    """Print a row an effect: the errors of TTFT and TPOT of each run without it."""
    print("errors of the TTFT mean / TPOT mean in percent when one thing is switched off; =: not in the run")
    rows = [["as it is", *(_pair(run.whole) for run in runs)]]
    for effect in EFFECTS:
        rows.append([effect.name, *(_pair(run.without[effect.name]) for run in runs)])
    print_table(("", *(run.run for run in runs)), rows)


def _pair(errors: tuple[float, float] | None) -> str:
    return "=" if errors is None else f"{errors[0]:+.0f} / {errors[1]:+.0f}"


def _troubles(run: Validation) -> str:
    parts = []
    if run.served.failed:
        parts.append(f"{run.served.failed:,} did not complete in the simulation")
    if run.served.preemptions:
        parts.append(f"{run.served.preemptions:,} simulated preemptions")
    return "".join(f"; {part}" for part in parts)


def _label(name: str) -> str:
    if name == "output_throughput":
        return "output throughput, tokens/s"
    if name == "makespan_s":
        return "makespan, s"
    metric, statistic, _ = name.split("_")
    return f"{metric.upper()} {statistic}, ms"


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name in ("output_throughput", "makespan_s"):
        return f"{value:,.1f}"
    return f"{value * 1e3:,.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def _bound(bound: Bound) -> str:
    text = f"{bound.percent:g} %"
    return f"{text} or {bound.seconds * 1e3:g} ms" if bound.seconds else text


def _verdict(holds: bool | None) -> str:
    return {None: "not measured", True: "ok", False: "off"}[holds]
