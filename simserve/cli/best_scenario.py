"""What `recommend` found, as a scenario's file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.errors import InputError

if TYPE_CHECKING:
    from simserve.scenario.schema import Slo
    from simserve.study.slo_terms import SloTerm


def write_best(
    file: str, changes: list[str], terms: Sequence[SloTerm], name: str, command: str, out: str
) -> None:
    """Write a changed scenario, under a name that tells what it is, after a comment with the command.

    Args:
        file: The scenario that was asked about.
        changes: Its overrides.
        terms: What held; those on a latency become the targets that the scenario does not name itself.
        name: Of the written one.
        command: What found it.
        out: The file.

    Raises:
        InputError: If it cannot be written.
    """
    from simserve.scenario.dump import dump_scenario
    from simserve.scenario.loader import load_scenario

    best = load_scenario(file, changes)
    best = best.model_copy(update={"name": name, "slo": _with_targets(best.slo, terms)})
    comment = f"# Found by: {command}\n"
    try:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(comment + dump_scenario(best), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=out) from error
    print(f"the best as a scenario: {out}", file=sys.stderr)


def _with_targets(slo: Slo, terms: Sequence[SloTerm]) -> Slo:
    """Return the targets with those of the terms, so that a run counts its goodput by them."""
    found: dict[str, float] = {}
    for term in terms:
        target = f"{term.key.split('_')[1]}_s"
        if term.key.endswith("_ms") and target in type(slo).model_fields and getattr(slo, target) is None:
            found.setdefault(target, round(term.bound / 1e3, 9))
    return slo.model_copy(update=found)
