"""What a conformance run of SGLang's logs found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from simserve.conformance.case_outcome import CaseOutcome
from simserve.conformance.comparison import LEVELS
from simserve.conformance.report import ConformanceReport

_LEVEL_MEANING = {"L1": "decisions", "L2": "+ tokens free, cached, evicted", "L3": "+ full, new-token ratio"}


@dataclass(slots=True)
class SglangReport:
    """Outcomes of all replayed logs.

    Attributes:
        loops: Logs of the event loop, level by level.
        checks: Cases of the other logs: operations on the cache, and single rules.
        notes: What was skipped or ignored, one line each.
    """

    loops: ConformanceReport = field(default_factory=ConformanceReport)
    checks: list[CaseOutcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything agrees."""
        return self.loops.ok and all(not outcome.failures for outcome in self.checks)

    @property
    def passed(self) -> dict[str, int]:
        """Loop logs that agree by level, and single checks that agree."""
        return {**self.loops.passed, "checks": sum(outcome.agreed for outcome in self.checks)}

    @property
    def failures(self) -> list[dict[str, str]]:
        """One entry a scenario or case that differs: its file, the level, the first difference."""
        return self.loops.failures + [
            {"file": outcome.file, "level": "checks", "detail": detail}
            for outcome in self.checks
            for detail in outcome.failures
        ]

    def to_json(self) -> dict[str, Any]:
        """Return `{"scenarios", "passed": {"L1", "L2", "L3", "checks"}, "failures": [...]}`.

        `scenarios` counts the loop logs, and `cases` the scenarios of the other logs.
        """
        return {
            "scenarios": len(self.loops.outcomes),
            "cases": len(self.checks),
            "checks": sum(outcome.checks for outcome in self.checks),
            "passed": self.passed,
            "failures": self.failures,
        }

    def lines(self) -> list[str]:
        """Return the report as lines of text: notes, differences, then the counts."""
        lines = [f"note: {note}" for note in self.notes]
        lines += [f"{failure['file']}: {failure['level']}: {failure['detail']}" for failure in self.failures]
        loops = self.loops
        for level in LEVELS if loops.outcomes else ():
            lines.append(
                f"{level} ({_LEVEL_MEANING[level]}): {loops.passed[level]} of {len(loops.outcomes)} "
                f"scenarios, {loops.agreed_decisions[level]} of {loops.decisions} decisions agree"
            )
        if self.checks:
            lines.append(
                f"checks (cache, orders, admission, ratio): {self.passed['checks']} of "
                f"{sum(outcome.checks for outcome in self.checks)} agree, in {len(self.checks)} cases"
            )
        return lines
