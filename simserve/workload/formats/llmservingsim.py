"""LLMServingSim workloads: flat requests, agentic sessions, and a compact form with block hashes."""

from __future__ import annotations

from pathlib import Path

from simserve.workload.json_rows import Record, read_jsonl
from simserve.workload.lines import MOST_NS
from simserve.workload.rows import TraceRows
from simserve.workload.workload import Workload

BLOCK_TOKENS = 16


def read(path: Path, release: str = "completion") -> Workload:
    """Read LLMServingSim JSONL in any of its forms; they may be mixed.

    - flat: input_toks, output_toks, arrival_time_ns and, if known, input_tok_ids and output_tok_ids;
    - agentic: session_id, arrival_time_ns, sub_requests of input_toks, output_toks, tool_duration_ns (and
      ids): each is released when the one before has completed plus that one's tool time;
    - compact: arrival_ns, input_length, output_length, hash_ids of the full 16-token blocks of prompt and
      output.

    Args:
        path: The workload.
        release: "completion" as above, or "recorded": later turns come at the session's arrival plus tool
            times.

    Raises:
        TraceError: If a row is broken.
    """
    reader = _Reader(path, release == "completion")
    for record in read_jsonl(path):
        if "sub_requests" in record:
            reader.add_session(record)
        elif "hash_ids" in record or "arrival_ns" in record:
            reader.add_compact(record)
        else:
            reader.add_flat(record, record.integer("arrival_time_ns"), "", -1, 0)
    return reader.workload()


class _Reader:
    """The rows of one file, and a hash for each distinct chain of token blocks."""

    def __init__(self, path: Path, chained: bool) -> None:
        self.rows = TraceRows(path)
        self._chained = chained
        self._ids: list[list[int]] = []
        # Blocks given as tokens get negative ids, so that they never meet a compact row's ids.
        self._chains: dict[tuple[int, tuple[int, ...]], int] = {}
        self._has_sessions = False

    def add_compact(self, record: Record) -> None:
        """Add a row of the compact form."""
        self.rows.add(
            record.integer("arrival_ns"), record.tokens("input_length"), record.tokens("output_length")
        )
        self._finish(record.integers("hash_ids"), "", -1, 0)

    def add_flat(self, record: Record, time_ns: int, session: str, predecessor: int, gap_ns: int) -> int:
        """Add a flat request, or a session's, and return its row."""
        prompt, output = record.tokens("input_toks"), record.tokens("output_toks")
        row = self.rows.add(time_ns, prompt, output)
        prompt_ids, output_ids = record.integers("input_tok_ids"), record.integers("output_tok_ids")
        if prompt_ids and len(prompt_ids) != prompt:
            record.fail("input_tok_ids", f"expected {prompt} tokens, as input_toks says")
        tokens = prompt_ids + output_ids[:output] if prompt_ids else []
        self._finish(self._chain(tokens), session, predecessor, gap_ns)
        return row

    def add_session(self, record: Record) -> None:
        """Add the requests of an agentic session."""
        self._has_sessions = True
        turns = record.fields["sub_requests"]
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            record.fail("sub_requests", "expected a list of objects")
        time_ns, gap_ns, predecessor = record.integer("arrival_time_ns"), 0, -1
        for fields in turns:
            turn = record.part(fields)
            time_ns += gap_ns
            if time_ns > MOST_NS:
                record.fail("sub_requests", "expected tool times within 146 years")
            predecessor = self.add_flat(turn, time_ns, record.text("session_id"), predecessor, gap_ns)
            gap_ns = turn.integer("tool_duration_ns") if "tool_duration_ns" in turn else 0

    def workload(self) -> Workload:
        """Return what was read."""
        rows = self.rows
        if any(self._ids):
            rows.set_blocks(self._ids, BLOCK_TOKENS, outputs=True)
            source = "LLMServingSim workload, prompts and outputs from 16-token blocks"
            return rows.workload(source, block_tokens=BLOCK_TOKENS)
        return rows.workload("LLMServingSim workload, every prompt of its own")

    def _finish(self, ids: list[int], session: str, predecessor: int, gap_ns: int) -> None:
        self._ids.append(ids)
        self.rows.session.append(session)
        self.rows.link(predecessor if self._chained else -1, gap_ns)

    def _chain(self, tokens: list[int]) -> list[int]:
        ids: list[int] = []
        previous = 0
        for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            key = (previous, tuple(tokens[start : start + BLOCK_TOKENS]))
            previous = self._chains.setdefault(key, -1 - len(self._chains))
            ids.append(previous)
        return ids
