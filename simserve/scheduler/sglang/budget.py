"""What one prefill batch may take: SGLang's admission test, request by request.

Tokens are charged before they are taken: each admitted request those that it computes, a page more for its
last one, and those that it may generate. Running requests are charged a share of theirs, the new-token ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from simserve.scheduler.sglang.config import SglangConfig
from simserve.scheduler.sglang.fixed_lengths import FreedTimes
from simserve.scheduler.sglang.memory import TokenPool
from simserve.scheduler.sglang.row import Row

# SGLang's SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION: no request reserves more tokens to generate.
CLIP_MAX_NEW_TOKENS = 4096


class Verdict(Enum):
    """Whether the next waiting request may be tried, and why not."""

    CONTINUE = 0
    NO_TOKEN = 1
    OTHER = 2


class PrefillBudget:
    """The budgets of one pass, charged as requests are admitted.

    Args:
        config: Options.
        pool: KV memory; admitted requests lock their prefix in it.
        ratio: The new-token ratio.
        running: (row, its outputs) of the running batch.
        mixed_tokens: Tokens that running requests decode in the same batch.

    Attributes:
        admitted: (row, tokens it computes) in order.
        chunked: The admitted request whose prompt was cut, None if none was.
        rem_input, rem_chunk: Prompt tokens left to `max_prefill_tokens` and `chunked_prefill_size`.
    """

    def __init__(
        self,
        config: SglangConfig,
        pool: TokenPool,
        ratio: float,
        running: Sequence[tuple[Row, int]],
        mixed_tokens: int = 0,
    ) -> None:
        self._config = config
        self._pool = pool
        self._ratio = ratio
        self._page = pool.page_size
        self._running = running
        reserved = 0.0
        for row, generated in running:
            reserved += self.reserve_of(row, generated)
        self._total_off = mixed_tokens + reserved
        self._current_off = mixed_tokens
        self.rem_input = config.max_prefill_tokens - mixed_tokens
        chunk = config.chunked_prefill_size
        self.rem_chunk = None if chunk is None else chunk - mixed_tokens
        self.admitted: list[tuple[Row, int]] = []
        self.chunked: Row | None = None
        self._freed: FreedTimes | None = None

    def reserve_of(self, row: Row, generated: int) -> float:
        """Return the tokens kept for what a running request may still generate."""
        ratio = 1.0 if row.ignore_eos else self._ratio
        return min(row.max_new - generated, CLIP_MAX_NEW_TOKENS) * ratio

    @property
    def rem_total(self) -> float:
        """Tokens left when everybody has generated what is reserved for it."""
        return self._pool.available - self._total_off

    @property
    def rem_current(self) -> int:
        """Tokens left now."""
        return self._pool.available - self._current_off

    @property
    def state(self) -> Verdict:
        """Whether anything is left to give."""
        if self.rem_total <= 0 or self.rem_current <= 0:
            return Verdict.NO_TOKEN
        if self.rem_input <= 0 or (self.rem_chunk is not None and self.rem_chunk <= 0):
            return Verdict.OTHER
        return Verdict.CONTINUE

    def give_back(self, row: Row, generated: int) -> None:
        """Take back what is reserved for a running request that is preempted."""
        self._total_off -= self.reserve_of(row, generated)

    def continue_chunk(self, row: Row, limit: int | None) -> bool:
        """Admit the next chunk of a prompt, which is never refused; return whether the prompt is done.

        Args:
            row: The chunked request, its prefix at the end of the last chunk.
            limit: At most so many tokens; None: no such limit.
        """
        assert self.rem_chunk is not None
        room = min(self.rem_chunk, int(self.rem_total))
        if room <= 0:
            room = self.rem_chunk
        if limit is not None:
            room = min(room, limit)
        rest = row.known - row.prefix
        tokens = max(0, min(rest, room))
        is_done = rest <= room
        self._charge(row, tokens, min(row.max_new, CLIP_MAX_NEW_TOKENS) if is_done else 0)
        return is_done

    def admit(self, row: Row, *, has_chunk: bool) -> Verdict:
        """Try a waiting request that has just been looked up in the tree.

        Args:
            row: Is admitted, and its prefix locked, if it is the last of `admitted` afterwards.
            has_chunk: Whether a chunked request goes on after this batch.

        Returns:
            CONTINUE if the next one may be tried.
        """
        most = self._config.prefill_max_requests
        if most is not None and len(self.admitted) >= most:
            return Verdict.OTHER
        if row.ignore_eos and self._pool.tree.disable:
            return self._admit_fixed_length(row)
        tree, node = self._pool.tree, row.node
        # What is to be hit is no room for it.
        tree.lock(node)
        try:
            host_hit = row.host_hit
            tokens, verdict = self._fit(row, has_chunk, host_hit)
            if tokens and host_hit and not self._pool.load_back(row):
                tokens, verdict = self._fit(row, has_chunk, 0)
            if tokens:
                self._pool.hold(row)
                is_cut = row.prefix + tokens < row.known
                self._charge(row, tokens, 0 if is_cut else min(row.max_new, CLIP_MAX_NEW_TOKENS))
                if is_cut:
                    self.chunked = row
                verdict = self.state
        finally:
            tree.unlock(node)
        return verdict

    def _fit(self, row: Row, has_chunk: bool, host_hit: int) -> tuple[int, Verdict]:
        """Return how many tokens of a request this batch computes; if none, why.

        What the host has of it (`host_hit` tokens) is not computed, but takes room.
        """
        page = self._page
        rest = row.known - row.prefix
        future = min(max(row.max_new - row.outputs, 0), CLIP_MAX_NEW_TOKENS)
        if rest + future + page >= self.rem_total:
            return 0, Verdict.NO_TOKEN
        prefix = row.prefix + host_hit
        rest -= host_hit
        paged = self._pool.whole_pages(rest)
        if self.rem_chunk is None:
            # The first request of a batch may be longer than the budget.
            if self.admitted and paged >= self.rem_input:
                return 0, Verdict.OTHER
        elif paged > self.rem_chunk:
            if has_chunk and self._config.schedule_policy == "shortest-prefill-first":
                return 0, Verdict.OTHER
            end = (prefix + self.rem_chunk // page * page) // page * page
            return max(0, end - prefix), Verdict.OTHER
        return rest, Verdict.CONTINUE

    def _admit_fixed_length(self, row: Row) -> Verdict:
        """Admit by when memory will be freed, which is known where EOS is ignored and nothing is cached."""
        pool = self._pool
        rest = row.known - row.prefix
        paged = pool.whole_pages(rest) + self._page
        if paged > min(self.rem_current, self.rem_total):
            return Verdict.NO_TOKEN
        if self._freed is None:
            self._freed = FreedTimes(self._ratio, row, self._running, [each for each, _ in self.admitted])
        else:
            self._freed.insert(row)
        if not self._freed.suffices(self.rem_current - paged):
            return Verdict.NO_TOKEN
        if self.rem_chunk is None or rest <= self.rem_chunk:
            pool.hold(row)
            self._charge(row, rest, min(row.max_new, CLIP_MAX_NEW_TOKENS))
        elif self.rem_chunk <= 0:
            return Verdict.OTHER
        else:
            pool.hold(row)
            self.chunked = row
            self._charge(row, self.rem_chunk, 0)
        return self.state

    def _charge(self, row: Row, tokens: int, future: int) -> None:
        """Count an admitted request against all budgets."""
        self.admitted.append((row, tokens))
        paged = self._pool.whole_pages(tokens)
        now = paged + self._page
        self._total_off += now + future
        self._current_off += now
        self.rem_input -= paged
        if self.rem_chunk is not None:
            self.rem_chunk -= paged
