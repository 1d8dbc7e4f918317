"""Which calibration priced the steps, and its stated error: what every result carries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CalibrationNote:
    """Which calibration priced the steps, for the reports.

    Attributes:
        tier: "calibrated", "generic", or "given" (times stated by the user).
        source: Where the constants are from.
        error_percent: Stated error; None where there is none to state.
        error_of: What that error is the error of.
    """

    tier: str
    source: str
    error_percent: float | None
    error_of: str

    def summary(self) -> dict[str, str | float | None]:
        """Return the note as the `calibration` entry of summary.json."""
        return {
            "tier": self.tier,
            "source": self.source,
            "error_percent": self.error_percent,
            "error_of": self.error_of,
        }
