"""KV memory in which each sequence has places of its own: nothing is found again, nothing is awaited."""

from __future__ import annotations

from typing import Protocol

from simserve.kvcache.run import NO_HITS, Hits, Table


class Holder(Table, Protocol):
    """A table whose sequence has computed so many tokens, those of the present step included."""

    computed: int


class UnsharedCache:
    """The part of `PagedCache`'s interface that is about prefixes.

    Attributes:
        free_suffices: Whether whoever needs a unit gets it as long as one is free: not everywhere.
    """

    free_suffices = False

    def attach(self, table: Table) -> None:
        """Prepare the table of a request that has just been added: nothing to do."""

    def lookup(self, table: Table, known_tokens: int) -> tuple[Hits, int]:
        """Return no hits."""
        return NO_HITS, 0

    def publish(self, table: Table, tokens: int) -> None:
        """Nothing is shared."""

    def await_hit(self, table: Table, hits: Hits) -> None:
        """Nothing is ever hit."""

    def missed_stream(self, table: Table, hits: Hits) -> int | None:
        """Return None: nobody's tokens are awaited."""
        return None

    def release(self, table: Table) -> None:
        """Return what a sequence holds, if anything."""
        raise NotImplementedError

    def evict_all(self, table: Table) -> None:
        """Return what a preempted sequence holds."""
        self.release(table)
