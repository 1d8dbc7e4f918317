"""Simulations on a Ray cluster: the same tasks, on as many machines as there are.

All machines see the results' folder under the same path (a shared file system), and have simserve installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from simserve.errors import InputError
from simserve.study.executor import MOST_TRIES, Outcome, Task, record_failure, run_task


class RayExecutor:
    """Tasks of a Ray cluster; Ray tries those of a machine or a worker that died again.

    Args:
        address: Of an existing cluster; None: one of this machine's own, for as long as it is needed.
        workers: CPUs of that own cluster; None: all.

    Raises:
        InputError: If Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise InputError("--executor ray needs Ray: pip install 'simserve[ray]'") from None
        self._ray: Any = ray
        if ray.is_initialized():
            return
        try:
            if address is None:
                ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
            else:
                ray.init(address=address, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"cannot reach a Ray cluster at {address!r}: {error}") from error

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Yield outcomes as they come."""
        ray = self._ray
        remote = ray.remote(max_retries=MOST_TRIES - 1, num_cpus=1)(run_task)
        waiting = {remote.remote(task): task for task in tasks}
        try:
            while waiting:
                ended, _ = ray.wait(list(waiting), num_returns=1)
                for reference in ended:
                    task = waiting.pop(reference)
                    try:
                        yield ray.get(reference)
                    except ray.exceptions.RayError as error:
                        reason = f"its process died {MOST_TRIES} times ({type(error).__name__})"
                        record_failure(Path(task.folder), reason)
                        yield Outcome(task.identity, reason)
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster; one of our own ends."""
        self._ray.shutdown()
