"""The figures of a run's summary as the pages show them: none where nothing was observed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simserve import tokens_at_once


def observed_figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary without a TPOT where all tokens of every request came at once: its 0 is no speed."""
    if not tokens_at_once(summary):
        return dict(summary)
    return {key: None if "_tpot_" in key else value for key, value in summary.items()}


def explain_missing(summary: Mapping[str, Any]) -> str | None:
    """Return why a run has no TPOT and ITL; None if it has them, or nothing completed."""
    if tokens_at_once(summary):
        return "No TPOT and ITL: each request got all its tokens at once, as a static batch gives them."
    if summary["completed"] and summary.get("mean_tpot_ms") is None:
        return "No TPOT and ITL: no completed request has more than one output token."
    return None
