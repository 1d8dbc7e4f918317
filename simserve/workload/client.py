"""The client: how many requests it has in flight at most, and how long it waits for one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """The load generator in front of the cluster, part of the system where it holds requests back.

    Attributes:
        max_concurrency: Most requests in flight; a due request is sent when a place is free, in the order in
            which they became due (as `vllm bench serve --max-concurrency`). None: no cap.
        timeout_ns: A request that has not completed so long after it was sent is aborted. None: never.
    """

    max_concurrency: int | None = None
    timeout_ns: int | None = None
