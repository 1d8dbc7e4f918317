"""Writes an instance's steps into its log: every end, and a row a stretch of equal decode steps."""

from __future__ import annotations

from simserve.metrics.record import StepLog
from simserve.scheduler.batch import Batch


class StepRecorder:
    """Appends to a `StepLog`. Consecutive decode steps with the same batch and queue share a row."""

    def __init__(self, log: StepLog) -> None:
        self.log = log
        self._decodes = -1
        self._waiting = -1

    def record(self, batch: Batch, start_ns: int, end_ns: int) -> None:
        """Append one dispatched step."""
        log = self.log
        log.end_ns.append(end_ns)
        if batch.chunks:
            self._decodes = -1
        elif batch.decodes == self._decodes and batch.waiting == self._waiting:
            log.steps[-1] += 1
            return
        else:
            self._decodes = batch.decodes
            self._waiting = batch.waiting
        self._open(
            batch.step, 1, start_ns, batch.prefill_tokens, batch.decodes,
            batch.running, batch.waiting, batch.used_blocks,
        )  # fmt: skip

    def record_decodes(
        self, step: int, steps: int, start_ns: int, decodes: int, running: int, waiting: int, used_blocks: int
    ) -> None:
        """Append `steps` equal decode steps; their ends are appended by the caller."""
        if decodes == self._decodes and waiting == self._waiting:
            self.log.steps[-1] += steps
            return
        self._decodes = decodes
        self._waiting = waiting
        self._open(step, steps, start_ns, 0, decodes, running, waiting, used_blocks)

    def _open(
        self,
        step: int,
        steps: int,
        start_ns: int,
        prefill_tokens: int,
        decodes: int,
        running: int,
        waiting: int,
        used_blocks: int,
    ) -> None:
        log = self.log
        log.first_step.append(step)
        log.steps.append(steps)
        log.start_ns.append(start_ns)
        log.prefill_tokens.append(prefill_tokens)
        log.decode_tokens.append(decodes)
        log.running.append(running)
        log.waiting.append(waiting)
        log.used_blocks.append(used_blocks)
