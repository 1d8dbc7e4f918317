"""The rows that decode, as one aggregate: they all take a token in each of the same steps.

A decode pass takes every row of the running batch or none, so the group counts its own steps (ordinals), and
a row that joined at ordinal j with c tokens in the pool has c + k - j of them before ordinal k. So a pass
needs no loop over rows: the sum of contexts is a line over ordinals, who needs a page is one counter for each
residue of the page size, and who ends stands under the ordinal of its last token.
"""

from __future__ import annotations

from array import array
from heapq import heappop, heappush

from simserve.errors import IntegrityError
from simserve.scheduler.sglang.row import NOT_JOINED, Row


class Decoders:
    """Decoding rows that are scheduled together.

    Attributes:
        ordinal: Number of the next decode step to be scheduled.
        completed: Number of the next one to be completed.
        count: Rows in the next step.
    """

    __slots__ = (
        "_base",
        "_enders",
        "_ends",
        "_page_size",
        "_residues",
        "_steps",
        "completed",
        "count",
        "ordinal",
    )  # fmt: skip

    def __init__(self, page_size: int) -> None:
        self.ordinal = 0
        self.completed = 0
        self.count = 0
        self._page_size = page_size
        # Sum over the rows of their tokens before ordinal 0, as if they had always decoded.
        self._base = 0
        # Rows by the residue of the ordinals in which they need a page.
        self._residues = [0] * page_size
        # Rows by the ordinal that gives them their last token, and a heap of those ordinals; one stays in the
        # heap when its rows have left early.
        self._enders: dict[int, list[Row]] = {}
        self._ends: list[int] = []
        # The engine's step of each ordinal.
        self._steps = array("q")

    # -- joining and leaving --------------------------------------------------------------------------------

    def join(self, row: Row) -> None:
        """Take in a row that has its prompt computed; its first output may still be in flight."""
        ordinal = self.ordinal
        row.group = self
        row.joined = ordinal
        row.is_resting = False
        row.base = row.committed - ordinal
        self.count += 1
        self._base += row.base
        self._residues[-row.base % self._page_size] += 1
        remaining = row.limit - row.outputs - row.inflight
        row.end = end = ordinal + remaining - 1
        if remaining > 0:
            group = self._enders.get(end)
            if group is None:
                self._enders[end] = [row]
                heappush(self._ends, end)
            else:
                group.append(row)

    def rest(self, row: Row) -> None:
        """Schedule a row no longer: all of its tokens are computed or in flight."""
        if row.is_resting:
            return
        row.is_resting = True
        row.committed = self.committed(row)
        self.count -= 1
        self._base -= row.base
        self._residues[-row.base % self._page_size] -= 1

    def leave(self, row: Row) -> None:
        """Take out a row before its end; what is in flight for it is lost."""
        self.settle(row)
        self.rest(row)
        group = self._enders.get(row.end)
        if group is not None and row in group:
            group.remove(row)
            if not group:
                del self._enders[row.end]
        row.joined = NOT_JOINED

    def settle(self, row: Row) -> None:
        """Write the tokens that a row has gained since it joined into its own fields."""
        gained = self.completed - row.joined
        if gained > 0:
            steps = self._steps[row.joined : row.joined + gained]
            expected = row.first_token_step + row.outputs
            if row.token_steps is None and not (steps[0] == expected and steps[-1] - expected == gained - 1):
                row.token_steps = array("q", range(row.first_token_step, expected))
            if row.token_steps is not None:
                row.token_steps.extend(steps)
            row.outputs += gained
            row.known += gained
            row.joined = self.completed

    # -- a row as of now ------------------------------------------------------------------------------------

    def committed(self, row: Row) -> int:
        """Return the tokens that a scheduled row has in the pool."""
        return row.base + self.ordinal

    def generated(self, row: Row) -> int:
        """Return the outputs of a row that are known."""
        gained = self.completed - row.joined
        return row.outputs + gained if gained > 0 else row.outputs

    # -- steps ----------------------------------------------------------------------------------------------

    def pages_needed(self, ordinal: int) -> int:
        """Return how many rows need a page at an ordinal."""
        return self._residues[ordinal % self._page_size]

    def context_tokens(self, ordinal: int) -> int:
        """Return the sum of the contexts that the rows read at an ordinal, the new tokens included."""
        return self._base + self.count * (ordinal + 1)

    def schedule(self, first_step: int, steps: int = 1) -> int:
        """Count decode steps, the engine's steps from `first_step` on; returns the first ordinal."""
        begin = self.ordinal
        self._steps.extend(range(first_step, first_step + steps))
        self.ordinal = end = begin + steps
        next_end = self.next_end()
        if 0 <= next_end < end:
            # They end in the order of the batch; retraction may change that of the rows meanwhile.
            for ordinal in range(max(begin, next_end), end):
                self.enders(ordinal).sort(key=_order)
        return begin

    def next_end(self) -> int:
        """Return the ordinal at which the next row ends, -1 if none."""
        ends = self._ends
        while ends and ends[0] not in self._enders:
            heappop(ends)
        return ends[0] if ends else -1

    def enders(self, ordinal: int) -> list[Row]:
        """Return the rows that an ordinal gives their last token; once it is scheduled, in batch order."""
        return self._enders.get(ordinal, [])

    def complete(self) -> list[Row]:
        """Count the oldest step in flight as completed; returns the rows that end with it, settled."""
        ended = self._enders.pop(self.completed, [])
        self.completed += 1
        for row in ended:
            self.settle(row)
            self.rest(row)
        return ended

    def check_integrity(self, rows: list[Row]) -> None:
        """Check the sums against the rows that are scheduled. Raises IntegrityError."""
        members = [row for row in rows if row.joined != NOT_JOINED]
        residues = [0] * self._page_size
        for row in members:
            residues[-row.base % self._page_size] += 1
        if (len(members), sum(row.base for row in members), residues) != (
            self.count,
            self._base,
            self._residues,
        ):
            raise IntegrityError(f"{len(members)} decoding rows do not add up to the sums kept of them")


def _order(row: Row) -> int:
    return row.order
