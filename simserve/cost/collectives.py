"""Seconds of collectives and sends of one group of ranks, over the links that join them.

Within a host or a scale-up domain a collective is one kernel (`kernels/collective.py`). A group on several
hosts runs it in stages, as NCCL and DeepEP do: within each host, and across hosts between ranks of the same
place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simserve.cost.calibrate.communication import serving_variants
from simserve.cost.fitted_kernel import FittedKernel
from simserve.cost.kernel_book import KernelBook
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.cost.kernels.collective import (
    ALL_GATHER,
    ALL_REDUCE,
    ALL_TO_ALL,
    OPERATIONS,
    REDUCE_SCATTER,
    SEND,
)
from simserve.cost.kernels.form import Array
from simserve.devices.accelerator import Accelerator
from simserve.devices.topology import GPUS_PER_NODE, Link, group_link

# Message over which the slope of a send is taken.
_LARGE_BYTES = 64e6
FAMILY = "communication"


@dataclass(frozen=True)
class Collectives:
    """Collectives among the ranks of a group, and sends to the next pipeline stage.

    Attributes:
        ranks: Of the group.
        hosts: Hosts (or scale-up domains that span hosts) that the ranks are spread over.
        link: What bounds the group.
        send_link: What joins a rank with its peer in the next stage.
        within, across: Kernels by operation, of the ranks of one host and of one rank a host.
        send_ranks: Ranks that this stage and the next one are together.
    """

    ranks: int
    hosts: int
    link: Link
    send_link: Link
    within: Mapping[str, FittedKernel]
    across: Mapping[str, FittedKernel]
    send_ranks: int = 2

    @property
    def local(self) -> int:
        """Ranks of the group on one host."""
        return -(-self.ranks // self.hosts)

    def seconds(self, operation: str, message_bytes: Array) -> Array:
        """Seconds of a collective, elementwise; 0 for one rank or no bytes.

        Args:
            operation: One of `kernels.collective.OPERATIONS`.
            message_bytes: As `CollectiveForm` counts them for the whole group.
        """
        message = np.asarray(message_bytes, np.float64)
        if self.ranks == 1:
            return np.zeros_like(message)
        busy = np.maximum(message, 1.0)
        priced = self._one_host_s(operation, busy) if self.hosts == 1 else self._hosts_s(operation, busy)
        return np.where(message > 0, priced, 0.0)

    def all_gather_s(self, gathered_bytes: Array) -> Array:
        """Seconds until every rank has all `gathered_bytes`, of which it had its share."""
        return self.seconds(ALL_GATHER, gathered_bytes)

    def ideal_s(self, operation: str, message_bytes: Array) -> Array:
        """Seconds of what a rank must receive, at the group's link rate."""
        if self.ranks == 1:
            return np.zeros_like(message_bytes)
        factor = 2.0 if operation == ALL_REDUCE else 1.0
        return np.asarray(factor * message_bytes * (self.ranks - 1) / self.ranks / self.link.bytes_per_s)

    def provenance(self, operation: str, message_bytes: Array) -> tuple[str, str, float | None]:
        """Tier, source and stated error (percent) of what prices an operation on such messages."""
        if self.ranks == 1:
            return "given", "a single rank", None
        kernel = self.within.get(operation) or self.within[ALL_REDUCE]
        tier, source, error = kernel.provenance(_columns(message_bytes, self.ranks, across=False))
        return tier, source if self.hosts == 1 else f"{source}, composed over {self.hosts} hosts", error

    def send_latency_s(self) -> float:
        """Fixed part of handing activations to the next stage."""
        gather_s = float(self.all_gather_s(np.ones(1))[0])
        return float(self._send_s(np.ones(1))[0]) + gather_s

    def send_s_a_byte(self) -> float:
        """Seconds for each byte handed to the next stage.

        As vLLM does: each rank sends its share and the receivers gather the rest from their peers
        (`send_tensor_dict` with `all_gather_group`, vllm/distributed/parallel_state.py).
        """
        large = np.full(1, _LARGE_BYTES)
        whole_s = float(self._send_s(large / self.ranks)[0] + self.all_gather_s(large)[0])
        return max(whole_s - self.send_latency_s(), 0.0) / _LARGE_BYTES

    def _send_s(self, message_bytes: Array) -> Array:
        kernels = self.across if self.send_link.kind == "network" else self.within
        ranks = float(self.send_ranks if self.send_link.kind != "network" else 2)
        return _price(kernels[SEND], message_bytes, ranks, across=kernels is self.across)

    def _one_host_s(self, operation: str, message: Array) -> Array:
        return _price(self.within[operation], message, self.ranks, across=False)

    def _hosts_s(self, operation: str, message: Array) -> Array:
        """Stages within the hosts and across them; see the module."""
        within, across, local, hosts = self.within, self.across, self.local, self.hosts
        if operation == ALL_TO_ALL:
            # Rows for this host and rows for others travel at once.
            near_s = _price(within[ALL_TO_ALL], message * local / self.ranks, local, across=False)
            far_s = _price(across[ALL_TO_ALL], message, hosts, across=True)
            return np.maximum(near_s, far_s)
        part = message / local
        far_s = _price(across[operation], part, hosts, across=True)
        if operation == ALL_REDUCE:
            scatter_s = _price(within[REDUCE_SCATTER], message, local, across=False)
            return scatter_s + far_s + _price(within[ALL_GATHER], message, local, across=False)
        return far_s + _price(within[operation], message, local, across=False)


def _price(kernel: FittedKernel, message: Array, ranks: float, *, across: bool) -> Array:
    if ranks <= 1:
        return np.zeros_like(message)
    return kernel.seconds(_columns(message, ranks, across=across))


def _columns(message: Array, ranks: float, *, across: bool) -> dict[str, Array]:
    return {
        "bytes": message,
        "ranks": np.full_like(message, ranks),
        "across": np.full_like(message, 1.0 if across else 0.0),
    }


def build_collectives(
    accelerator: Accelerator,
    ranks: int,
    stages: int = 1,
    book: KernelBook | None = None,
    engine_version: str = "",
) -> Collectives:
    """Collectives of a group of `ranks` in a pipeline of `stages`.

    Args:
        accelerator: Its links.
        ranks: Of the group.
        stages: Pipeline stages; their ranks are neighbours, in the same host while they fit.
        book: Kernels of the accelerator; None: generic constants.
        engine_version: vLLM's release, whose all-reduce it is; "": the newest.
    """
    kernels = book or KernelCalibration(accelerator)
    domain = max(accelerator.link_domain, GPUS_PER_NODE)
    # All kernels are looked up at once: a lookup is cheap, and the links of a stage rarely change.
    return Collectives(
        ranks=ranks,
        hosts=-(-ranks // domain),
        link=group_link(accelerator, ranks),
        send_link=group_link(accelerator, ranks * stages if stages > 1 else max(ranks, 2)),
        within={name: find_kernel(kernels, name, engine_version, across=False) for name in OPERATIONS},
        across={name: find_kernel(kernels, name, engine_version, across=True) for name in OPERATIONS},
        send_ranks=min(ranks * stages, domain) if stages > 1 else 2,
    )


def find_kernel(book: KernelBook, operation: str, engine_version: str = "", *, across: bool) -> FittedKernel:
    """Return what prices an operation: its best measured kernel, else the generic constants."""
    fits: Sequence[Any] = [fit for fit in getattr(book, "fits", ()) if fit.family == FAMILY]
    variants = serving_variants(operation, {fit.variant for fit in fits}, across, engine_version)
    for variant in variants:
        mine = [fit for fit in fits if fit.variant == variant]
        best = min(mine, key=lambda fit: _DTYPES.index(fit.dtype) if fit.dtype in _DTYPES else len(_DTYPES))
        return book.kernel(FAMILY, best.dtype, "", variant, best.framework)
    return book.kernel(FAMILY, "bfloat16", "", operation)


# Of messages, best first; their times differ little.
_DTYPES = ("bfloat16", "float16", "")
