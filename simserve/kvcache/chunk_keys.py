"""The chunks of requests, as tiers know them: their keys, and how many of them have been offered."""

from __future__ import annotations

from simserve.kvcache.prefix_keys import block_keys, token_segments
from simserve.workload.request import Request


class ChunkKeys:
    """Keys by request.

    Args:
        chunk_tokens: Tokens of a chunk.
    """

    def __init__(self, chunk_tokens: int) -> None:
        self._chunk_tokens = chunk_tokens
        # By request id: keys of its chunks, and how many of them the tiers have been offered.
        self._keys: dict[int, list[int]] = {}
        self._offered: dict[int, int] = {}
        # Of the request asked for last: who waits first in a queue is asked for again and again.
        self._asked: tuple[int, list[int]] = (-1, [])

    def of(self, request: Request) -> list[int]:
        """Return the keys of all chunks that a request can ever fill."""
        keys = self._keys.get(request.id)
        if keys is None:
            if self._asked[0] != request.id:
                chunks = (request.prompt_tokens + request.max_tokens) // self._chunk_tokens
                self._asked = request.id, block_keys(token_segments(request), self._chunk_tokens, chunks)
            keys = self._asked[1]
        return keys

    def keep(self, request: Request) -> list[int]:
        """Return the keys, and keep them until the request is forgotten."""
        keys = self._keys[request.id] = self.of(request)
        return keys

    def offer(self, request: Request, tokens: int) -> list[int]:
        """Return the keys of the whole chunks of the first tokens that have not been offered before."""
        offered = self._offered.get(request.id, 0)
        full = tokens // self._chunk_tokens
        if full <= offered:
            return []
        self._offered[request.id] = full
        return self.of(request)[offered:full]

    def note_offered(self, request: Request, chunks: int) -> None:
        """Note that the tiers have the first chunks of a request already."""
        self._offered[request.id] = max(self._offered.get(request.id, 0), chunks)

    def forget(self, request: Request) -> None:
        """Forget a request."""
        self._keys.pop(request.id, None)
        self._offered.pop(request.id, None)
