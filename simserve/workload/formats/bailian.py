"""Qwen-Bailian usage traces: JSONL with chats, turns and the hash ids of 16-token prompt blocks."""

from __future__ import annotations

from pathlib import Path

from simserve.workload.json_rows import Record, read_jsonl
from simserve.workload.rows import TraceRows
from simserve.workload.workload import Workload

BLOCK_TOKENS = 16


def read(path: Path, release: str = "recorded") -> Workload:
    """Read a Bailian trace (timestamp in s; `type` becomes the tenant, a chain's first chat its session).

    Args:
        path: The trace.
        release: "recorded": each turn arrives at its recorded time; "completion": a turn arrives when its
            parent has completed plus the recorded gap, which contains the original service time.

    Raises:
        TraceError: If a row is broken.
    """
    rows = TraceRows(path)
    ids: list[list[int]] = []
    turns: dict[str, tuple[int, str]] = {}  # chat id -> its row and its session, the first chat's id
    for record in read_jsonl(path):
        time_ns = record.time_ns("timestamp", 1_000_000_000)
        row = rows.add(time_ns, record.tokens("input_length"), record.tokens("output_length"))
        chat, parent = _id(record, "chat_id"), _id(record, "parent_chat_id")
        parent_row, session = turns.get(parent, (-1, chat))
        turns[chat] = (row, session)
        rows.session.append(session)
        rows.tenant.append(record.text("type"))
        if release == "completion":
            gap = 0 if parent_row < 0 else time_ns - rows.arrival_ns[parent_row]
            if gap < 0:
                record.fail("timestamp", "expected a turn to come after its parent")
            rows.link(parent_row, gap)
        ids.append(record.integers("hash_ids"))
    rows.set_blocks(ids, BLOCK_TOKENS, outputs=False)
    return rows.workload("Qwen-Bailian trace, prompts from 16-token block hashes", block_tokens=BLOCK_TOKENS)


def _id(record: Record, key: str) -> str:
    if key not in record:
        record.fail(key, "expected a chat's id (-1: none)")
    return record.text(key)
