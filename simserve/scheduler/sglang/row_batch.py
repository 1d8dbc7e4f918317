"""The requests of one SGLang batch: a prefill's, or those that decode."""

from __future__ import annotations

from simserve.scheduler.sglang.decoders import Decoders
from simserve.scheduler.sglang.row import Row


class RowBatch:
    """What SGLang calls a schedule batch.

    Attributes:
        rows: Its requests; of a prefill batch in order of admission, then those that decode in it.
        full: Whether nobody may join until somebody leaves.
        prefill_tokens: Tokens of the prefill that it was born from; as it decodes later it still counts them
            as processed, which is what `hrrn` sees.
        chunked: The request whose prompt it leaves unfinished.
    """

    __slots__ = ("chunked", "full", "prefill_tokens", "rows")

    def __init__(
        self, rows: list[Row], *, full: bool = False, prefill_tokens: int = 0, chunked: Row | None = None
    ) -> None:
        self.rows = rows
        self.full = full
        self.prefill_tokens = prefill_tokens
        self.chunked = chunked


class MicroBatch:
    """What a pipeline keeps of each batch in flight, and an engine without one once.

    Attributes:
        batch: The running batch.
        decoders: Its rows as one.
        last: The prefill batch of its last pass, None if that decoded or did nothing.
    """

    __slots__ = ("batch", "decoders", "last")

    def __init__(self, page_size: int) -> None:
        self.batch = RowBatch([])
        self.decoders = Decoders(page_size)
        self.last: RowBatch | None = None
