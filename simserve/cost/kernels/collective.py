"""Collectives and sends over the links that join the ranks, form A4: the fastest of three algorithms counts.

Short: an all-reduce in one shot (each rank reads the others' whole messages) and NCCL's LL protocol for the
others. Middle: two shots of the same kernels, or the protocol LL128. Long: around a ring, or inside the
switch (NVLS), and the bandwidth protocols. Each is the p-norm of a latency, which grows with the ranks, and
of a rank's traffic over its link.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from simserve.cost.kernels.form import Array, Constants, Device, KernelForm, Parameter, Shapes

ALL_REDUCE = "all_reduce"
ALL_GATHER = "all_gather"
REDUCE_SCATTER = "reduce_scatter"
ALL_TO_ALL = "all_to_all"
SEND = "send"
# Ranks that the links of one host carry without getting into each other's way.
_UNCROWDED = 4.0
OPERATIONS = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL, SEND)


def long_share(operation: str, ranks: Array) -> Array:
    """Bytes that a rank must receive over its link, as a share of the message.

    All-reduce: 2 (n - 1) / n around a ring or in two shots. All-gather, reduce-scatter and all-to-all:
    (n - 1) / n of what all ranks have, or one has for all. (nccl-tests, PERFORMANCE.md)
    """
    if operation == SEND:
        return np.ones_like(ranks)
    return (2.0 if operation == ALL_REDUCE else 1.0) * (ranks - 1) / ranks


def in_switch_share(ranks: Array) -> Array:
    """The same of an all-reduce that the switch sums: a rank receives its part's sum, then all parts."""
    return (ranks + 1) / ranks


def joined_directly(ranks: Array, across: Array, device: Device) -> npt.NDArray[np.bool_]:
    """Whether a scale-up link joins the ranks of a group."""
    return np.asarray((ranks <= device.link_domain) & (device.link_domain > 1) & (across == 0))


def link_rate(ranks: Array, across: Array, device: Device) -> Array:
    """Rate of the link that bounds a group: to other hosts, in the scale-up domain, or through the host."""
    direct = joined_directly(ranks, across, device)
    rate = np.where(direct, device.link_bytes_per_s, device.pcie_bytes_per_s)
    return np.where(across > 0, np.minimum(device.network_bytes_per_s, device.pcie_bytes_per_s), rate)


class CollectiveForm:
    """Seconds of one collective.

    Shape columns: bytes (all-reduce: of the message; all-gather: of the gathered whole; reduce-scatter: of
    what is summed; all-to-all: that a rank sends to all, itself among them; send: sent), ranks, across (1 if
    the ranks are on several hosts).

    Attributes:
        operation: One of `OPERATIONS`.
        ascending: Columns with which times never fall; with the ranks they do where a switch sums.
    """

    name = "A4"
    ascending = ("bytes",)
    parameters = (
        Parameter("short_s", 5e-7, 2e-4, 3e-6),
        Parameter("short_rank_s", 1e-9, 3e-5, 4e-7),
        Parameter("short_link_efficiency", 0.005, 3.0, 0.5),
        Parameter("middle_s", 5e-7, 3e-4, 6e-6),
        Parameter("middle_rank_s", 1e-9, 3e-5, 5e-7),
        Parameter("middle_link_efficiency", 0.005, 3.0, 0.4),
        Parameter("long_s", 5e-7, 3e-4, 1e-5),
        Parameter("long_rank_s", 1e-9, 3e-5, 7e-7),
        Parameter("long_link_efficiency", 0.005, 3.0, 0.75),
        Parameter("in_switch_efficiency", 0.005, 1.0, 0.6),
        # Over PCIe (measured: L40S, RTX PRO 6000) latency grows faster with the ranks, and rates are lower.
        Parameter("host_rank_s", 1e-9, 3e-5, 3e-6),
        Parameter("host_share", 0.01, 2.0, 0.5),
        # Two accelerators beneath one switch, or with a bridge (A100 and H100 PCIe), are faster than that;
        # more than four share what the links of the host carry.
        Parameter("pair_speedup", 0.5, 60.0, 1.0),
        Parameter("crowding", 0.0, 1.5, 0.0),
        Parameter("p", 1.0, 12.0, 2.0),
    )

    def __init__(self, operation: str) -> None:
        """Price one of `OPERATIONS`."""
        self.operation = operation

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one collective a row; see `KernelForm.seconds`.

        Links have no caches: `warm` only lifts the floor.
        """
        ranks, p = shapes["ranks"], constants["p"]
        through_host = ~joined_directly(ranks, shapes["across"], device)
        slower = np.where(through_host, self._host_slowdown(ranks, constants), 1.0)
        later_s = np.where(through_host, constants["host_rank_s"] * ranks, 0.0)
        transfer_s = slower * shapes["bytes"] / link_rate(ranks, shapes["across"], device)
        once_s = transfer_s * long_share(self.operation, ranks)
        long_s = once_s / constants["long_link_efficiency"]
        if self.operation == ALL_REDUCE:
            short_s = transfer_s * (ranks - 1)
            in_switch_s = transfer_s * in_switch_share(ranks) / constants["in_switch_efficiency"]
            long_s = np.where(through_host, long_s, np.minimum(long_s, in_switch_s))
        else:
            short_s = once_s
        best = np.full_like(once_s, np.inf)
        for name, moved_s in (
            ("short", short_s / constants["short_link_efficiency"]),
            ("middle", once_s / constants["middle_link_efficiency"]),
            ("long", long_s),
        ):
            latency_s = later_s + constants[f"{name}_s"] + constants[f"{name}_rank_s"] * ranks
            best = np.minimum(best, _norm(latency_s, moved_s, p))
        return np.asarray(best if warm else np.maximum(best, self.bound_seconds(shapes, device)))

    @staticmethod
    def _host_slowdown(ranks: Array, constants: Constants) -> Array:
        """How many times longer messages take through the host than its datasheet says."""
        crowd = (np.maximum(ranks, _UNCROWDED) / _UNCROWDED) ** constants["crowding"]
        return crowd / constants["host_share"] / np.where(ranks <= 2, constants["pair_speedup"], 1.0)

    def bound_seconds(self, shapes: Shapes, device: Device) -> Array:
        """What the links allow: no rank receives faster than its own."""
        ranks = shapes["ranks"]
        share = long_share(self.operation, ranks)
        if self.operation == ALL_REDUCE:
            share = np.minimum(share, in_switch_share(ranks))
        return np.asarray(shapes["bytes"] * share / link_rate(ranks, shapes["across"], device))


def _norm(one: Array, other: Array, p: float) -> Array:
    large = np.maximum(one, other)
    return np.asarray(large * ((one / large) ** p + (other / large) ** p) ** (1 / p))


@cache
def collective_form(operation: str) -> KernelForm:
    """The form of one of `OPERATIONS`."""
    return CollectiveForm(operation)
