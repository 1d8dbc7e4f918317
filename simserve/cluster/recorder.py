"""Writes the end of every request into the run's log."""

from __future__ import annotations

from collections.abc import Callable

from simserve.metrics.record import COMPLETED, RequestLog, extend_column
from simserve.scheduler.sequence import Sequence as Running
from simserve.workload.request import Request

Progress = Callable[[int, int, int], None]
# Rows kept before they move to the columns of the log; as often the progress function is called.
_ROWS_KEPT = 256


class Sent:
    """A request on its way.

    Attributes:
        request: The request.
        sent_ns: When the client sent it.
        instance: Which instance it went to, -1 for none.
        engine: Which engine of that, a data-parallel rank: the number of its step log.
        failed_ns: When the client gave it up, -1 if it did not.
    """

    __slots__ = ("engine", "failed_ns", "instance", "request", "sent_ns")

    def __init__(self, request: Request, sent_ns: int) -> None:
        self.request = request
        self.sent_ns = sent_ns
        self.instance = -1
        self.engine = -1
        self.failed_ns = -1


class RequestRecorder:
    """Appends to a `RequestLog`; rows are kept as tuples and moved to its columns many at a time.

    Args:
        total: Requests of the workload, for progress.
        progress: Called now and then with (now_ns, ended, total).

    Attributes:
        log: A row for every request that has ended.
    """

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.log = RequestLog()
        self._total = total
        self._progress = progress
        self._rows: list[tuple[int | str, ...]] = []

    def record(self, sent: Sent, sequence: Running | None, status: str, reason: str, end_ns: int) -> None:
        """Note a request's end."""
        request = sent.request
        if sequence is None:
            state = (0, 0, -1, -1, -1, 0)
        else:
            state = (
                sequence.outputs,
                max(0, sequence.cached_tokens),
                sequence.first_step,
                sequence.first_token_step,
                sequence.finish_step if status == COMPLETED else -1,
                sequence.preemptions,
            )
            if sequence.cached_tokens > 0:
                self.log.prefixes.count(request.prompt, sequence.cached_tokens)
            if sequence.token_steps is not None:
                self.log.token_steps[request.id] = sequence.token_steps
            if sequence.spans is not None:
                self.log.spans[request.id] = sequence.spans
        self._rows.append(
            (
                request.id, request.session, request.tenant, request.slo_class, sent.sent_ns,
                request.prompt_tokens, sent.engine, end_ns, status, reason, *state,
            )
        )  # fmt: skip
        if len(self._rows) >= _ROWS_KEPT:
            self.flush()
            if self._progress is not None:
                self._progress(end_ns, len(self.log.request_id), self._total)

    def flush(self) -> None:
        """Move the rows kept to the columns of the log."""
        if not self._rows:
            return
        log = self.log
        columns = (
            log.request_id, log.session, log.tenant, log.slo_class, log.arrival_ns,
            log.prompt_tokens, log.instance, log.end_ns, log.status, log.reason,
            log.output_tokens, log.cached_tokens, log.first_step, log.first_token_step, log.finish_step,
            log.preemptions,
        )  # fmt: skip
        for column, values in zip(columns, zip(*self._rows, strict=True), strict=True):
            if isinstance(column, list):
                column.extend(values)
            else:
                extend_column(column, values)  # type: ignore[arg-type]
        self._rows.clear()
