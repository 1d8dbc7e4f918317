"""Calls on a Ray cluster: the same functions, on as many machines as there are.

All machines have simserve installed in the same version, and see the files that a study names, and a sweep's
folder, under the same paths (a shared file system).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from simserve.errors import InputError
from simserve.study.executor import MOST_TRIES, Died

A = TypeVar("A")
R = TypeVar("R")

# Calls under way for each CPU: one that runs and one that waits, so that none idles, and a cluster that
# grows with its queue sees one.
_CALLS_A_CPU = 2
_MOST_WAIT_S = 10.0
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}


class RayExecutor:
    """Calls of a Ray cluster; Ray tries those of a machine or a worker that died again.

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
                ray.init(num_cpus=workers, include_dashboard=False, **_QUIET)
            else:
                _check_reachable(address)
                ray.init(address=address, **_QUIET)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"cannot reach a Ray cluster at {address!r}: {error}") from error

    def run(self, call: Callable[[A], R], feed: Callable[[], A | None]) -> Iterator[tuple[A, R | Died]]:
        """See `simserve.study.executor.Executor`."""
        ray = self._ray
        remote = ray.remote(max_retries=MOST_TRIES - 1, num_cpus=1)(call)
        under: dict[Any, A] = {}
        try:
            while True:
                room = _CALLS_A_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
                while len(under) < room and (argument := feed()) is not None:
                    under[remote.remote(argument)] = argument
                if not under:
                    return
                ended, _ = ray.wait(list(under), num_returns=1)
                for reference in ended:
                    argument = under.pop(reference)
                    yield argument, self._result_of(reference)
        finally:
            for reference in under:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster; one of our own ends."""
        self._ray.shutdown()

    def _result_of(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            raise error.cause from error
        except errors.RayError as error:
            return Died(f"its process died {MOST_TRIES} times ({type(error).__name__})")


def _check_reachable(address: str) -> None:
    """See that somebody listens at `host:port`: Ray itself would try again for many minutes.

    Raises:
        OSError: If nobody does.
        ValueError: If the port is none.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), _MOST_WAIT_S).close()
