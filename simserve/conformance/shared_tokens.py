"""How many leading tokens of each request may stand in another one too: the tight bound for a replay.

A workload states this bound for each request (`Request.shared_tokens`), and the KV cache keeps what lies
beyond it as extents. A log can be replayed with the trivial bound (everything) or with this one; the
decisions must be the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from simserve.conformance.golden import GoldenRequest
from simserve.workload.request import Segment


def count_shared_tokens(requests: Sequence[GoldenRequest]) -> dict[int, int]:
    """Return, by request id, the longest prefix of prompt + output that some other request has as well."""
    sequences = {r.id: (*r.prompt, Segment(r.out_seed, 0, r.max_tokens)) for r in requests}
    # Only requests with the same first token can share a prefix.
    groups: dict[tuple[int, int], list[int]] = {}
    for request_id, sequence in sequences.items():
        groups.setdefault((sequence[0].stream, sequence[0].start), []).append(request_id)
    shared = dict.fromkeys(sequences, 0)
    for members in groups.values():
        for n, one in enumerate(members):
            for other in members[n + 1 :]:
                length = common_prefix(sequences[one], sequences[other])
                shared[one] = max(shared[one], length)
                shared[other] = max(shared[other], length)
    return shared


def common_prefix(one: Sequence[Segment], other: Sequence[Segment]) -> int:
    """Return how many leading tokens two segment lists have in common."""
    total = 0
    a, b = iter(one), iter(other)
    left, right = next(a, None), next(b, None)
    while left and right and left[:2] == right[:2]:
        length = min(left.length, right.length)
        total += length
        left = _rest(left, length) or next(a, None)
        right = _rest(right, length) or next(b, None)
    return total


def _rest(segment: Segment, taken: int) -> Segment | None:
    """What is left of a segment behind its first `taken` tokens; None if nothing."""
    if segment.length == taken:
        return None
    return Segment(segment.stream, segment.start + taken, segment.length - taken)
