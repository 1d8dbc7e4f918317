"""The contract between an engine and the cost model: a batch's shape goes in, integer nanoseconds come out.

A `StepTimer` prices the steps of one pipeline stage of one instance; it knows nothing of requests.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Chunk(NamedTuple):
    """One request's prefill chunk (or speculative verification) in a step."""

    tokens: int
    history: int


class StepTimer(Protocol):
    """Seconds of a step of one pipeline stage, from the shape of its batch.

    Implementations are pure: the same arguments give the same integers, in whatever order they are asked.
    """

    def decode_ns(self, decodes: int, context_tokens: int, window_tokens: int, steps: int) -> list[int]:
        """Durations of `steps` consecutive steps that only decode.

        In step j (from 0) the batch has `decodes` requests of one new token each, and the sum of their
        contexts (KV tokens read, the new one included) is `context_tokens + j * decodes`.
        `window_tokens` is the sum of min(context, window) for models with a sliding window, the same in
        all of these steps.

        Every duration is rounded once to integer ns; asking for k steps at once gives the same
        integers as asking k times for one.
        """

    def batch_ns(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: list[Chunk], samples: int
    ) -> int:
        """Duration of one step with `decodes` decoding requests and a list of prefill chunks.

        `samples` is the number of rows that reach the LM head. With no chunks and samples == decodes
        this equals `decode_ns(..., 1)[0]`.
        """

    def send_ns(self, tokens: int) -> int:
        """Time to hand `tokens` activations to the next pipeline stage (0 for the last)."""
