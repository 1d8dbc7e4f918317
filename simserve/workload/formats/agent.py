"""Agent sessions: JSONL of LLM calls (session, turn, t_us, lengths, hash ids of 16-token prompt blocks)."""

from __future__ import annotations

from pathlib import Path

from simserve.workload.json_rows import read_jsonl
from simserve.workload.rows import TraceRows
from simserve.workload.workload import Workload

BLOCK_TOKENS = 16


def read(
    path: Path, release: str = "completion", subtract_base_s: float = 0.0, subtract_per_token_s: float = 0.0
) -> Workload:
    """Read agent sessions: session, turn, t_us (microseconds), input_length, output_length, hash_ids.

    First turns arrive at their recorded times. A later turn is released when the one before it has completed,
    after the recorded gap between the two calls. That gap holds the tool's time and the original model's
    latency; the latter can be taken off with an estimate of it. The ids cover prompts only, so what a turn
    generates is not found again in the next prompt's blocks: prefix hits are a lower bound.

    Args:
        path: The trace.
        release: "completion" as above, or "recorded": every turn arrives at its recorded time.
        subtract_base_s: The original model's latency in each gap: this much a call ...
        subtract_per_token_s: ... plus this much for each output token of the call before.

    Raises:
        TraceError: If a row is broken, or a session's turns are out of order.
    """
    rows = TraceRows(path)
    ids: list[list[int]] = []
    last_turns: dict[str, tuple[int, int]] = {}  # session -> row and number of its last turn
    for record in read_jsonl(path):
        time_ns = record.time_ns("t_us", 1_000)
        row = rows.add(time_ns, record.tokens("input_length"), record.tokens("output_length"))
        if "session" not in record:
            record.fail("session", "expected the session's name or number")
        session, turn = record.text("session"), record.integer("turn")
        predecessor, last_turn = last_turns.get(session, (-1, -1))
        if turn <= last_turn or (predecessor >= 0 and time_ns < rows.arrival_ns[predecessor]):
            record.fail("turn", f"expected the turns of session {session} in order of number and time")
        last_turns[session] = (row, turn)
        rows.session.append(session)
        if release == "completion":
            gap_ns = 0
            if predecessor >= 0:
                latency_s = subtract_base_s + subtract_per_token_s * rows.output_tokens[predecessor]
                gap_ns = max(0, time_ns - rows.arrival_ns[predecessor] - round(latency_s * 1e9))
            rows.link(predecessor, gap_ns)
        ids.append(record.integers("hash_ids"))
    rows.set_blocks(ids, BLOCK_TOKENS, outputs=False)
    return rows.workload("agent sessions, prompts from 16-token block hashes", block_tokens=BLOCK_TOKENS)
