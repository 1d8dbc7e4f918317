"""Seconds of collectives and sends over the links that join the ranks."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from simserve.cost.kernels.roofline import Array, smooth_maximum
from simserve.devices.accelerator import Accelerator

# Generic share of a link's rate, and the shortest all-reduce, from the measured all-reduces of
# A100, H100, H200, B200 (NVLink: bus bandwidth 221/300 to 355/450 of the rate a direction, 4.2 to 7.6 us)
# and L40S, RTX PRO 6000 (PCIe: 19/32 to 24/64; 5.3 us for two ranks, 6.4 us more for each further pair).
_SCALE_UP_EFFICIENCY = 0.74
_SCALE_UP_LATENCY_S = 5e-6
_PCIE_EFFICIENCY = 0.4
_PCIE_LATENCY_A_RANK_S = 3.2e-6
# A two-shot all-reduce runs two phases, each with its own barrier.
_TWO_SHOT_PHASES = 2.0


@dataclass(frozen=True, slots=True)
class Link:
    """The link that a group of ranks talks over.

    Attributes:
        kind: Its name.
        bytes_per_s: Physical rate, a direction and rank.
        scale_up: NVLink and its like (True) or PCIe (False).
    """

    kind: str
    bytes_per_s: float
    scale_up: bool

    @property
    def achieved_bytes_per_s(self) -> float:
        """Rate that a large transfer reaches (generic)."""
        return self.bytes_per_s * (_SCALE_UP_EFFICIENCY if self.scale_up else _PCIE_EFFICIENCY)

    def latency_s(self, ranks: int) -> float:
        """Shortest collective among `ranks` (generic)."""
        return _SCALE_UP_LATENCY_S if self.scale_up else _PCIE_LATENCY_A_RANK_S * ranks


def link_between(accelerator: Accelerator, ranks: int) -> Link:
    """Return the link that joins `ranks` accelerators: the scale-up link within its domain, else PCIe."""
    if 1 < ranks <= accelerator.link_domain:
        return Link(accelerator.link_kind, accelerator.link_bytes_per_s, scale_up=True)
    return Link("PCIe", accelerator.pcie_bytes_per_s, scale_up=False)


@dataclass(frozen=True, slots=True)
class AllReduceConstants:
    """Form A3: the faster of one-shot and two-shot, each a p-norm of a latency and a transfer.

    Attributes:
        one_shot_s, two_shot_s: Latency of each.
        one_shot_bytes_per_s, two_shot_bytes_per_s: Rates; a rank receives (n - 1) whole messages in
            the one-shot form and 2 (n - 1) / n of one in the two-shot form.
        p: Exponent of the p-norm.
        error_percent: Mean absolute error of the fit; None where nothing was fitted.
        source: Where the constants are from.
    """

    one_shot_s: float
    one_shot_bytes_per_s: float
    two_shot_s: float
    two_shot_bytes_per_s: float
    p: float = inf
    error_percent: float | None = None
    source: str = ""


def generic_all_reduce(link: Link, ranks: int) -> AllReduceConstants:
    """Constants for links that nobody has measured."""
    rate, latency_s = link.achieved_bytes_per_s, link.latency_s(ranks)
    return AllReduceConstants(latency_s, rate, _TWO_SHOT_PHASES * latency_s, rate)


@dataclass(frozen=True, slots=True)
class Collectives:
    """Collectives among the tensor-parallel ranks of one stage, and sends to the next one.

    Attributes:
        ranks: Tensor-parallel ranks.
        link: What joins them.
        constants: Of their all-reduce.
        send_link: What joins a rank with its peer in the next stage.
    """

    ranks: int
    link: Link
    constants: AllReduceConstants
    send_link: Link

    def all_reduce_s(self, message_bytes: Array) -> Array:
        """Seconds to sum messages of `message_bytes` over the ranks; 0 for one rank or no bytes."""
        if self.ranks == 1:
            return np.zeros_like(message_bytes)
        c, n = self.constants, self.ranks
        # No rank receives faster than its link.
        one_rate = min(c.one_shot_bytes_per_s, self.link.bytes_per_s)
        two_rate = min(c.two_shot_bytes_per_s, self.link.bytes_per_s)
        one_transfer = message_bytes * ((n - 1) / one_rate)
        two_transfer = message_bytes * (2 * (n - 1) / n / two_rate)
        one_shot = smooth_maximum(np.full_like(message_bytes, c.one_shot_s), one_transfer, c.p)
        two_shot = smooth_maximum(np.full_like(message_bytes, c.two_shot_s), two_transfer, c.p)
        return np.where(message_bytes > 0, np.minimum(one_shot, two_shot), 0.0)

    def all_gather_s(self, gathered_bytes: Array) -> Array:
        """Seconds until every rank has all `gathered_bytes`, of which it had its share."""
        if self.ranks == 1:
            return np.zeros_like(gathered_bytes)
        received = gathered_bytes * (self.ranks - 1) / self.ranks
        busy = self.link.latency_s(self.ranks) + received / self.link.achieved_bytes_per_s
        return np.where(gathered_bytes > 0, busy, 0.0)

    def send_latency_s(self) -> float:
        """Fixed part of handing activations to the next stage."""
        gather_s = self.link.latency_s(self.ranks) if self.ranks > 1 else 0.0
        return self.send_link.latency_s(2) + gather_s

    def send_s_a_byte(self) -> float:
        """Seconds for each byte handed to the next stage.

        As vLLM does: each rank sends its share and the receivers gather the rest from their peers
        (`send_tensor_dict` with `all_gather_group`, vllm/distributed/parallel_state.py).
        """
        gathered = (self.ranks - 1) / self.ranks / self.link.achieved_bytes_per_s
        return 1.0 / self.ranks / self.send_link.achieved_bytes_per_s + gathered


def build_collectives(
    accelerator: Accelerator, ranks: int, stages: int, constants: AllReduceConstants | None
) -> Collectives:
    """Collectives of a tensor-parallel group of `ranks` in a pipeline of `stages`.

    Args:
        accelerator: Its links.
        ranks: Tensor-parallel ranks a stage.
        stages: Pipeline stages; their ranks are neighbours in the scale-up domain while they fit.
        constants: Measured constants of this group size; None: generic.
    """
    link = link_between(accelerator, ranks)
    return Collectives(
        ranks=ranks,
        link=link,
        constants=constants or generic_all_reduce(link, ranks),
        send_link=link_between(accelerator, ranks * stages) if stages > 1 else link,
    )
