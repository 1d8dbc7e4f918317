"""BurstGPT traces (Wang et al. 2024): CSV of ChatGPT and GPT-4 requests with whole-second times."""

from __future__ import annotations

from pathlib import Path

from simserve.workload.csv_rows import read_csv
from simserve.workload.rows import TraceRows
from simserve.workload.workload import Workload

COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens")


def read(path: Path, model: str = "", log_type: str = "", release: str = "recorded") -> Workload:
    """Read a BurstGPT trace; failed requests have a response of 0 tokens there, and run as 1.

    Args:
        path: The trace.
        model: Keep only this model's requests ("ChatGPT", "GPT-4"); empty: all. The model becomes the tenant.
        log_type: Keep only this type ("Conversation log", "API log"); empty: all.
        release: "recorded", or "completion" for files with `Session ID`: a request of a session arrives when
            the one before has completed, plus the recorded time between them less its `Elapsed time`.

    Raises:
        TraceError: If a row is broken.
    """
    rows = TraceRows(path)
    last_turns: dict[str, tuple[int, int]] = {}  # session -> row and recorded end of its last request
    left_out = 0
    for row in read_csv(path, COLUMNS):
        if (model and row.text("Model") != model) or (log_type and row.text("Log Type") != log_type):
            left_out += 1
            continue
        time_ns = row.time_ns("Timestamp")
        index = rows.add(time_ns, row.tokens("Request tokens"), row.tokens("Response tokens"))
        rows.tenant.append(row.text("Model"))
        session = row.text("Session ID")
        rows.session.append(session)
        if release == "completion":
            predecessor, end_ns = last_turns.get(session, (-1, time_ns)) if session else (-1, time_ns)
            if predecessor >= 0 and rows.arrival_ns[predecessor] > time_ns:
                row.fail("Timestamp", "expected the requests of a session in order of time")
            rows.link(predecessor, max(0, time_ns - end_ns))
            elapsed_ns = row.time_ns("Elapsed time") if row.text("Elapsed time") else 0
            last_turns[session] = (index, time_ns + elapsed_ns)
    if left_out:
        rows.notes.append(f"{left_out} requests of other models or log types left out")
    return rows.workload("BurstGPT trace, times in whole seconds")
