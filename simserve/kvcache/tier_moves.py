"""Moves between tiers: what one call of a `TierStack` sets going, each with a number."""

from __future__ import annotations

from typing import NamedTuple

# What lies above the first tier, in the words of a `Move`.
GPU = "gpu"


class Move(NamedTuple):
    """Bytes on their way from one tier to another (`GPU` is one).

    Attributes:
        source, target, size_bytes: What moves where.
        ticket: Its number; -1: none waits for it.
        after: Numbers of the moves that wrote what it reads.
    """

    source: str
    target: str
    size_bytes: int
    ticket: int = -1
    after: tuple[int, ...] = ()


class MoveCounter:
    """Adds up what moves on each way during one call; a way is one move, whatever it carries."""

    def __init__(self) -> None:
        # Of the call under way: by (source, target) bytes, number, and numbers of what has to land before.
        self._moved: dict[tuple[str, str], tuple[int, int, dict[int, None]]] = {}
        self._tickets = 0

    def count(self, source: str, target: str, size_bytes: int, came_with: int) -> int:
        """Count bytes that move.

        Args:
            source, target, size_bytes: What moves where.
            came_with: Number of the move that wrote them at the source; -1: none.

        Returns:
            The number of their move.
        """
        way = source, target
        if way not in self._moved:
            self._tickets += 1
            self._moved[way] = (0, self._tickets, {})
        size, ticket, after = self._moved[way]
        if came_with >= 0:
            after[came_with] = None
        self._moved[way] = (size + size_bytes, ticket, after)
        return ticket

    def take(self) -> list[Move]:
        """Return the moves of the call that ends, in the order in which they began."""
        moves = [
            Move(source, target, size, ticket, tuple(after))
            for (source, target), (size, ticket, after) in self._moved.items()
        ]
        self._moved.clear()
        return moves
