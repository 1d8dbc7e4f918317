"""Multi-turn sessions: every turn's prompt is all that was said before, and new tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from simserve import rng
from simserve.units import NS_PER_S
from simserve.workload.lengths import Constant, Lengths
from simserve.workload.workload import IntColumn, Prompts


@dataclass(frozen=True)
class Sessions:
    """How sessions go on after their first turn.

    Attributes:
        turns: Turns of a session.
        new_tokens: New tokens of later turns; None: drawn like the first prompt.
        think_time_s: Mean time from a turn's completion to the next turn.
        think_time_cv: Its coefficient of variation (gamma); 0: constant.
        max_context_tokens: A session ends before a later turn whose prompt and output would exceed this.
    """

    turns: Lengths = field(default_factory=lambda: Constant(1))
    new_tokens: Lengths | None = None
    think_time_s: float = 0.0
    think_time_cv: float = 1.0
    max_context_tokens: int | None = None

    def think_ns(self, seed: int, count: int) -> IntColumn:
        """Return `count` think times in ns."""
        if not self.think_time_s:
            return np.zeros(count, dtype=np.int64)
        if not self.think_time_cv:
            return np.full(count, round(self.think_time_s * NS_PER_S), dtype=np.int64)
        shape = self.think_time_cv**-2
        times_s = rng.stream(seed, "think times").standard_gamma(shape, count) * (self.think_time_s / shape)
        result: IntColumn = np.rint(times_s * NS_PER_S).astype(np.int64)
        return result


@dataclass(frozen=True)
class Turns:
    """Turns of many sessions, session after session; columns have shape (turns,), those named so (sessions,).

    Attributes:
        session, turn: Which session, and which turn of it, from 0.
        new_tokens, output_tokens: What a turn adds to the context.
        prefix_tokens: Tokens before the first turn's, shape (sessions,).
    """

    session: IntColumn
    turn: IntColumn
    new_tokens: IntColumn
    output_tokens: IntColumn
    prefix_tokens: IntColumn

    @staticmethod
    def lay_out(counts: IntColumn) -> tuple[IntColumn, IntColumn]:
        """Return session and turn of every row, from the number of turns of each session."""
        session = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        first = np.cumsum(counts) - counts
        return session, np.arange(len(session), dtype=np.int64) - first[session]

    def take(self, kept: IntColumn) -> Turns:
        """Return the turns of the given rows; whole tails of sessions only may be left out."""
        session, turn = self.session[kept], self.turn[kept]
        return Turns(session, turn, self.new_tokens[kept], self.output_tokens[kept], self.prefix_tokens)

    @property
    def prompt_tokens(self) -> IntColumn:
        """Prompt of each turn: prefix, all former turns, and its new tokens."""
        both = np.cumsum(self.new_tokens + self.output_tokens)
        before_session = (both - self.new_tokens - self.output_tokens)[self._first_rows()]
        result: IntColumn = self.prefix_tokens[self.session] + both - before_session - self.output_tokens
        return result

    @property
    def shared_tokens(self) -> IntColumn:
        """Leading tokens of prompt and output that another turn or session has too."""
        prompts = self.prompt_tokens
        ends = prompts + self.output_tokens
        before = np.where(self.turn > 0, np.roll(ends, 1), self.prefix_tokens[self.session])
        goes_on = np.append(self.turn[1:] > 0, False)
        return np.where(goes_on, ends, before)

    def prompts(self, row_of: IntColumn, groups: IntColumn) -> Prompts:
        """Return the prompts' segments in this table's order.

        Streams are numbered so: the output of row r is r; the new tokens of session s are rows + s; the
        prefix of group g is rows + sessions + g.

        Args:
            row_of: Row in the workload of each turn, shape (turns,).
            groups: Prefix group of each session, shape (sessions,).
        """
        count, sessions = len(self.turn), len(self.prefix_tokens)
        prefixed = (self.prefix_tokens > 0).astype(np.int64)
        sizes = prefixed[self.session] + 2 * self.turn + 1
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        owner = np.repeat(np.arange(count, dtype=np.int64), sizes)
        session = self.session[owner]
        place = np.arange(offsets[-1]) - offsets[owner] - prefixed[session]  # -1: the prefix
        is_prefix, is_output = place < 0, place % 2 == 1
        is_output &= ~is_prefix
        said = self._first_rows()[owner] + np.maximum(place, 0) // 2  # the turn that said this segment
        new_before = np.cumsum(self.new_tokens) - self.new_tokens
        new_start = new_before[said] - new_before[self._first_rows()[owner]]
        stream = np.where(is_output, row_of[said], count + session)
        stream = np.where(is_prefix, count + sessions + groups[session], stream)
        start = np.where(is_output | is_prefix, 0, new_start)
        length = np.where(is_output, self.output_tokens[said], self.new_tokens[said])
        return Prompts(offsets, stream, start, np.where(is_prefix, self.prefix_tokens[session], length))

    def _first_rows(self) -> IntColumn:
        result: IntColumn = np.arange(len(self.turn), dtype=np.int64) - self.turn
        return result
