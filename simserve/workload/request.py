"""What is asked of the cluster: requests, and prompts as lists of segments.

A prompt is a list of segments `(stream, start, length)`: the tokens `start ... start + length - 1` of
an endless token stream. Equal segments are equal tokens, tokens of different streams differ, so block
hashes of any block size and token-level radix keys follow from segments and no token array is ever held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Segment(NamedTuple):
    """Tokens `start ... start + length - 1` of stream `stream`."""

    stream: int
    start: int
    length: int


@dataclass(slots=True)
class Request:
    """One request, as the client sends it. Nothing in the simulator mutates it.

    Attributes:
        id: Unique, dense from 0 in the order of the workload; the last tie-break everywhere.
        arrival_ns: When the client wants to send it, in ns since the start of the run. For a follow-up
            (see `follow_ups`) it is ignored: it is due `gap_ns` after its predecessor has completed.
        prompt: Segments of the prompt; empty means `prompt_tokens` tokens that nobody else has.
        prompt_tokens: Prompt length, at least 1.
        output_tokens: Tokens that the model will generate, at least 1.
        max_tokens: The request's own limit; above `output_tokens` the request ends by EOS instead.
        output_stream: Stream of the generated tokens (token j of the output is token j of the stream).
        shared_tokens: How many leading tokens of prompt + output may stand in another request too.
            0 for a prompt of its own; an upper bound is right, only slower.
        priority: Lower runs first (as in vLLM).
        tenant, session, slo_class: Labels for routing and reports; empty means none.
        gap_ns: Think or tool time between the predecessor's completion and this request.
        follow_ups: Requests released by the completion of this one (the next turn of its session).
        ignore_eos: Whether the client asked for exactly `max_tokens`; SGLang then reserves all of them.
    """

    id: int
    arrival_ns: int
    prompt: tuple[Segment, ...]
    prompt_tokens: int
    output_tokens: int
    max_tokens: int
    output_stream: int
    shared_tokens: int = 0
    priority: int = 0
    tenant: str = ""
    session: str = ""
    slo_class: str = ""
    gap_ns: int = 0
    follow_ups: tuple[Request, ...] = ()
    ignore_eos: bool = False
