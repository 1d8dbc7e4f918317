"""What a conformance run found: scenarios and decisions that agree, per level, and the first differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from simserve.conformance.comparison import LEVELS, Outcome

_LEVEL_MEANING = {"L1": "decisions", "L2": "+ free blocks, hits", "L3": "+ block ids, evictions"}


@dataclass(slots=True)
class ConformanceReport:
    """Outcomes of all replayed logs.

    Attributes:
        outcomes: One a log, in the order of the replay.
        notes: What was skipped or ignored, one line each.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every scenario agrees at every level."""
        return all(outcome.passed == len(LEVELS) for outcome in self.outcomes)

    @property
    def passed(self) -> dict[str, int]:
        """Scenarios that agree, by level."""
        return {level: sum(outcome.passed > n for outcome in self.outcomes) for n, level in enumerate(LEVELS)}

    @property
    def agreed_decisions(self) -> dict[str, int]:
        """Decisions that agree, by level."""
        return {level: sum(o.agreed[n] for o in self.outcomes) for n, level in enumerate(LEVELS)}

    @property
    def decisions(self) -> int:
        """Decisions compared."""
        return sum(outcome.decisions for outcome in self.outcomes)

    @property
    def failures(self) -> list[dict[str, str]]:
        """One entry a scenario that differs: its file, the lowest level that fails, the first difference."""
        return [
            {"file": outcome.file, "level": LEVELS[outcome.passed], "detail": outcome.detail}
            for outcome in self.outcomes
            if outcome.passed < len(LEVELS)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return `{"scenarios", "passed": {"L1", "L2", "L3"}, "failures": [{"file", "level", "detail"}]}`."""
        return {"scenarios": len(self.outcomes), "passed": self.passed, "failures": self.failures}

    def lines(self) -> list[str]:
        """Return the report as lines of text: notes, differences, then the counts."""
        lines = [f"note: {note}" for note in self.notes]
        lines += [f"{failure['file']}: {failure['level']}: {failure['detail']}" for failure in self.failures]
        for level in LEVELS:
            lines.append(
                f"{level} ({_LEVEL_MEANING[level]}): {self.passed[level]} of {len(self.outcomes)} scenarios, "
                f"{self.agreed_decisions[level]} of {self.decisions} decisions agree"
            )
        return lines
