"""The cluster: a client sends requests, a router spreads them over instances, every end is recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from simpy import Environment, Event
from simpy.events import NORMAL

from simserve.cluster.data_parallel import DataParallelInstance
from simserve.cluster.recorder import Progress, RequestRecorder, Sent
from simserve.cluster.routers import Router
from simserve.engine.alarm import Alarm
from simserve.engine.instance import Instance
from simserve.engine.loop import EngineLoop, Waiting
from simserve.metrics.record import COMPLETED, FAILED, UNFINISHED
from simserve.scheduler.sequence import Sequence as Running
from simserve.workload.client import Client
from simserve.workload.request import Request

AnyInstance = Instance | DataParallelInstance


@dataclass(slots=True)
class PoolState:
    """A pool's instances and its queue.

    Attributes:
        instances: Its instances.
        seats: `max_num_seqs` of each, over all its ranks.
        max_model_len: Longest prompt plus output.
        queue_limit: Most requests waiting, None for no limit.
        shed: At the limit, drop the one that has waited longest instead of the newcomer.
    """

    instances: list[AnyInstance]
    seats: int
    max_model_len: int
    queue_limit: int | None = None
    shed: bool = False


class Cluster:
    """Serves a workload. Built idle; `start` sets the arrivals going.

    Args:
        env: The clock, in integer nanoseconds.
        pools: The pools; their instances are numbered through in order.
        router: Chooses an instance for each request.
        client: The load generator's limits.
        total: Requests of the workload, for progress.
        progress: Called now and then with (now_ns, ended, total).

    Attributes:
        log: A row for every request that has ended.
    """

    def __init__(
        self,
        env: Environment,
        pools: Sequence[PoolState],
        client: Client,
        *,
        total: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.env = env
        self.pools = pools
        self._recorder = RequestRecorder(total, progress)
        self.log = self._recorder.log
        self.instances: list[AnyInstance] = []
        self._pool_of: list[PoolState] = []
        self._client = client
        self._cap = client.max_concurrency
        self._coming: Iterator[Request] = iter(())
        # Read from the workload, and due later.
        self._next: Request | None = None
        self._in_flight: dict[int, Sent] = {}
        # Due, and held back by the client's own cap.
        self._held: deque[Request] = deque()
        # Released by a completion, waiting for their gap to pass.
        self._thinking: dict[int, Request] = {}
        self._router: Router | None = None
        self._arrival = Alarm(env, self._arrive)

    def connect(self, router: Router) -> None:
        """Set the router, and take the pools' instances over from it."""
        self._router = router
        for pool in self.pools:
            for instance in pool.instances:
                self.instances.append(instance)
                self._pool_of.append(pool)

    # -- the client -----------------------------------------------------------------------------------------

    def start(self, requests: Iterator[Request]) -> None:
        """Let the requests arrive, in order of their due times."""
        self._coming = requests
        self._next = next(requests, None)
        self._arrive(None)

    def _arrive(self, _: Event | None) -> None:
        """Send what is due now, and come back when the next one is."""
        now: int = self.env.now  # type: ignore[assignment]
        while (request := self._next) is not None:
            delay = request.arrival_ns - now
            if delay > 0:
                self._arrival.set(delay, NORMAL)
                return
            self._due(request)
            self._next = next(self._coming, None)

    def _due(self, request: Request) -> None:
        cap = self._cap
        if cap is not None and len(self._in_flight) >= cap:
            self._held.append(request)
        else:
            self._send(request)

    def _send(self, request: Request) -> None:
        now: int = self.env.now  # type: ignore[assignment]
        sent = Sent(request, now)
        router = self._router
        assert router is not None
        index = router.choose(request, now)
        pool = self._pool_of[index]
        if pool.queue_limit is not None or request.prompt_tokens >= pool.max_model_len:
            refusal = self._refuse(request, self.instances[index], pool)
            if refusal:
                self._fail(sent, refusal)
                return
        sent.instance = index
        self._in_flight[request.id] = sent
        router.sent(request, index)
        sent.engine = self.instances[index].submit(request, sent)
        if self._client.timeout_ns is not None:
            self._call_in(self._client.timeout_ns, lambda: self._time_out(sent))

    def _refuse(self, request: Request, instance: AnyInstance, pool: PoolState) -> str:
        """Return why a request cannot be taken, or nothing."""
        if request.prompt_tokens >= pool.max_model_len:
            return (
                f"refused: a prompt of {request.prompt_tokens} tokens leaves no room for output in "
                f"max_model_len {pool.max_model_len}"
            )
        if pool.queue_limit is None or not (instance.waiting or instance.outstanding >= pool.seats):
            return ""
        if sum(each.waiting for each in pool.instances) < pool.queue_limit:
            return ""
        if pool.shed:
            victims = [v for each in pool.instances if (v := each.oldest_waiting()) is not None]
            if victims:
                victim = max(victims, key=Waiting.rank)
                self.instances[victim.owner.instance].cancel(victim.request.id, "shed: queue full")
                return ""
        return "rejected: queue full"

    def _time_out(self, sent: Sent) -> None:
        if self._in_flight.get(sent.request.id) is sent:
            now: int = self.env.now  # type: ignore[assignment]
            sent.failed_ns = now
            self.instances[sent.instance].cancel(sent.request.id, "timeout")
            del self._in_flight[sent.request.id]
            if self._held:
                self._call_in(0, self._send_held)

    def _send_held(self) -> None:
        if self._held and (self._cap is None or len(self._in_flight) < self._cap):
            self._send(self._held.popleft())

    def _call_in(self, delay_ns: int, call: Callable[[], None]) -> None:
        event = self.env.timeout(delay_ns)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: call())

    # -- ends -----------------------------------------------------------------------------------------------

    def ended(self, engine: EngineLoop, sequence: Running, now: int, reason: str) -> None:
        """Record a request that an engine has completed or dropped, and release what waits for it."""
        sent: Sent = sequence.owner
        assert self._router is not None
        self._router.ended(sent.instance)
        if sent.failed_ns >= 0:
            self._recorder.record(sent, sequence, FAILED, "timeout", sent.failed_ns)
            self._drop_follow_ups(sent.request, sent.failed_ns)
            return
        if reason:
            self._recorder.record(sent, sequence, FAILED, reason, now)
            self._drop_follow_ups(sent.request, now)
        else:
            self._recorder.record(sent, sequence, COMPLETED, sequence.reason, now)
            for request in sent.request.follow_ups:
                self._think(request)
        del self._in_flight[sent.request.id]
        if self._held:
            self._call_in(0, self._send_held)

    def _think(self, request: Request) -> None:
        self._thinking[request.id] = request

        def release() -> None:
            del self._thinking[request.id]
            self._due(request)

        self._call_in(request.gap_ns, release)

    def _fail(self, sent: Sent, reason: str) -> None:
        """Record a request that never reached an instance."""
        self._recorder.record(sent, None, FAILED, reason, sent.sent_ns)
        self._drop_follow_ups(sent.request, sent.sent_ns)
        if self._held:
            self._call_in(0, self._send_held)

    def _drop_follow_ups(self, request: Request, now: int) -> None:
        """A session ends with its first failure: its later turns would ask about answers never given."""
        for follow_up in request.follow_ups:
            self._recorder.record(Sent(follow_up, now), None, FAILED, "an earlier turn failed", now)
            self._drop_follow_ups(follow_up, now)

    def stop(self) -> None:
        """Record every request that has neither completed nor failed, by id (the run was stopped)."""
        for instance in self.instances:
            instance.close()
        open_requests = [(sent.request.id, sent) for sent in self._in_flight.values()]
        pending = [*self._held, *self._thinking.values()]
        if self._next is not None:
            pending.append(self._next)
        open_requests += [(request.id, Sent(request, request.arrival_ns)) for request in pending]
        for _, sent in sorted(open_requests, key=lambda pair: pair[0]):
            sequence = None
            if sent.instance >= 0:
                sequence = self.instances[sent.instance].find_sequence(sent.request.id)
            self._recorder.record(sent, sequence, UNFINISHED, "the run was stopped", -1)
            self._leave_follow_ups(sent.request)
        self._recorder.flush()

    def _leave_follow_ups(self, request: Request) -> None:
        for follow_up in request.follow_ups:
            self._recorder.record(Sent(follow_up, follow_up.arrival_ns), None, UNFINISHED, "never sent", -1)
            self._leave_follow_ups(follow_up)
