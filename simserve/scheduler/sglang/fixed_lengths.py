"""When memory is freed, where every request generates exactly its `max_new_tokens` and nothing is cached."""

from __future__ import annotations

from collections.abc import Sequence

from simserve.scheduler.sglang.row import Row

# SGLang's IGNORE_EOS_RESERVE_TOKENS: kept free for each request that still runs.
_RESERVE_TOKENS = 1


class FreedTimes:
    """All requests by the tokens they have left: the order in which they will give back what they hold.

    Args:
        ratio: The new-token ratio, for requests that may end earlier.
        candidate: The request to be admitted.
        running: (row, its outputs) of the running batch.
        admitted: Those admitted in the same batch.
    """

    def __init__(
        self, ratio: float, candidate: Row, running: Sequence[tuple[Row, int]], admitted: Sequence[Row]
    ) -> None:
        self._ratio = ratio
        rows = [(candidate, candidate.outputs), *running, *((row, row.outputs) for row in admitted)]
        states = [state for row, generated in rows if (state := self._state(row, generated)) is not None]
        # (tokens left, tokens held)
        self._states = sorted(states, key=_left)

    def _state(self, row: Row, generated: int) -> tuple[float, int] | None:
        left = row.max_new * (1.0 if row.ignore_eos else self._ratio) - generated
        return (left, row.request.prompt_tokens + generated) if left > 0 else None

    def insert(self, row: Row) -> None:
        """Add a further candidate.

        As in SGLang, one that has most left comes before the last and not behind it.
        """
        state = self._state(row, row.outputs)
        if state is None:
            return
        states = self._states
        place = 0
        for place, other in enumerate(states):  # noqa: B007 - used after the loop
            if state[0] <= other[0]:
                break
        states.insert(place, state)

    def suffices(self, free_tokens: int) -> bool:
        """Whether nobody runs out of memory before those ahead of it have ended, from `free_tokens` on."""
        freed = 0
        alive = len(self._states)
        for left, held in self._states:
            if free_tokens + freed - left * alive <= _RESERVE_TOKENS * alive:
                return False
            freed += held
            alive -= 1
        return True


def _left(state: tuple[float, int]) -> float:
    return state[0]
