"""Which data-parallel rank of an instance gets a request: vLLM's front end and its coordinator.

The front end keeps two numbers a rank, requests waiting and running, as the coordinator has published them
last, and counts each request that it sends as one more that waits. It takes the rank with the smallest
4 x waiting + running, the first among equals (`DPLBAsyncMPClient.get_core_engine_for_request` in
vllm/v1/engine/core_client.py, vLLM 0.15 to 0.23; one front end, so the first is rank 0).

The coordinator publishes the counts that ranks have told it 100 ms after the last time, if any has changed,
else every 5 s; of the ranks' common steps it takes one that all have told of (`DPCoordinatorProc` in
vllm/v1/engine/coordinator.py). What it publishes is older than what the front end has counted meanwhile, and
replaces that.
"""

from __future__ import annotations

_WAITING_WEIGHT = 4
_MS = 1_000_000
# Time between two publications where counts have changed, and where not; and how long the coordinator waits
# for more counts of a step before it publishes.
_CHANGED_NS, _UNCHANGED_NS, _COLLECTING_NS = 100 * _MS, 5000 * _MS, 50 * _MS


class Coordinator:
    """Collects the ranks' counts and publishes them. No clock: what was due is done when it is asked.

    Args:
        ranks: How many.

    Attributes:
        published: (waiting, running) of each rank, as published last.
        publications: How many there have been.
    """

    def __init__(self, ranks: int) -> None:
        self.published = [(0, 0)] * ranks
        self.publications = 0
        self._counts = list(self.published)
        # Those of the last step that all ranks have told of.
        self._whole_step: list[tuple[int, int]] | None = None
        self._step = (-1, -1)
        self._has_changed = False
        self._last_ns = 0
        self._due_ns = _UNCHANGED_NS

    def tell(self, rank: int, counts: tuple[int, int], step: tuple[int, int], now_ns: int) -> None:
        """Take what a rank says of itself: (waiting, running) after a step, (wave, step)."""
        self.catch_up(now_ns)
        if step > self._step:
            if self._has_changed:
                self._whole_step = list(self._counts)
            self._step = step
        self._counts[rank] = counts
        self._has_changed = True
        self._plan(now_ns)

    def catch_up(self, now_ns: int) -> None:
        """Publish what was due by now."""
        while self._due_ns <= now_ns:
            now = self._due_ns
            if self._whole_step is not None:
                self.published, self._whole_step = self._whole_step, None
            else:
                self.published, self._has_changed = list(self._counts), False
            self.publications += 1
            self._last_ns = now
            self._plan(now)

    def _plan(self, now_ns: int) -> None:
        interval = _CHANGED_NS if self._has_changed else _UNCHANGED_NS
        collecting = _COLLECTING_NS if self._whole_step is None else 0
        self._due_ns = max(now_ns + collecting, self._last_ns + interval)


class RankChoice:
    """The front end of one instance.

    Args:
        ranks: Data-parallel ranks.
    """

    def __init__(self, ranks: int) -> None:
        self._coordinator = Coordinator(ranks)
        self._seen = 0
        self._waiting = [0] * ranks
        self._running = [0] * ranks

    def choose(self, now_ns: int) -> int:
        """Return the rank that gets a request now, and count it there."""
        coordinator = self._coordinator
        coordinator.catch_up(now_ns)
        if coordinator.publications != self._seen:
            self._seen = coordinator.publications
            self._waiting = [waiting for waiting, _ in coordinator.published]
            self._running = [running for _, running in coordinator.published]
        scores = [_WAITING_WEIGHT * w + r for w, r in zip(self._waiting, self._running, strict=True)]
        rank = scores.index(min(scores))
        self._waiting[rank] += 1
        return rank

    def report(self, rank: int, waiting: int, running: int, wave: int, step: int, now_ns: int) -> None:
        """Take what a rank says of its load after step `step` of a wave.

        Only ranks in lock-step do: those of dense models run by themselves and tell nothing before vLLM 0.26
        (pull request 49204), so that their front end counts what it sends, and forgets it every 5 s.
        """
        self._coordinator.tell(rank, (waiting, running), (wave, step), now_ns)
