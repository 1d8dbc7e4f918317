"""Changes to a whole workload: a part of it, another rate, other arrivals, token limits, tenants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from simserve import rng
from simserve.errors import InputError
from simserve.workload.workload import IntColumn, Labels, Workload

# As far as 64 bits of nanoseconds reach.
_LATEST_NS = 2.0**63


def select(
    workload: Workload,
    *,
    start_ns: int = 0,
    duration_ns: int | None = None,
    max_input_tokens: int | None = None,
    max_output_tokens: int | None = None,
    limit: int | None = None,
) -> Workload:
    """Return the part of a workload that fulfils all conditions; a cut window starts at time 0.

    A session is cut where a turn is left out: the turns behind it go too.

    Args:
        workload: Not changed.
        start_ns: Earliest arrival.
        duration_ns: Latest arrival after that; None: no limit.
        max_input_tokens, max_output_tokens: Longest lengths; None: no limit.
        limit: How many requests at most, in order of arrival; None: no limit.
    """
    kept = workload.arrival_ns >= start_ns
    if duration_ns is not None:
        kept &= workload.arrival_ns < start_ns + duration_ns
    if max_input_tokens is not None:
        kept &= workload.prompt_tokens <= max_input_tokens
    if max_output_tokens is not None:
        kept &= workload.output_tokens <= max_output_tokens
    if not kept.all():
        if workload.predecessor is not None:
            _drop_followers(kept, workload.predecessor)
        workload = workload.take(np.flatnonzero(kept))
    if start_ns:
        workload = replace(workload, arrival_ns=workload.arrival_ns - start_ns)
    return workload if limit is None else workload.head(limit)


def _drop_followers(kept: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], predecessor: IntColumn) -> None:
    for row in np.flatnonzero(predecessor >= 0).tolist():
        if not kept[predecessor[row]]:
            kept[row] = False


def scale_rate(workload: Workload, factor: float) -> Workload:
    """Return the workload with arrivals `factor` times as fast; think times between turns stay.

    Raises:
        InputError: If the clock, 64 bits of nanoseconds, cannot hold the last.
    """
    if factor == 1:
        return workload
    if workload.count and float(workload.arrival_ns.max()) >= factor * _LATEST_NS:
        raise InputError("arrivals reach beyond 292 years; expected a higher rate_scale")
    return _shift(workload, np.rint(workload.arrival_ns / factor).astype(np.int64))


def with_arrivals(workload: Workload, arrival_ns: IntColumn) -> Workload:
    """Return the workload with other arrival times for the requests that nothing has to release.

    Args:
        workload: Not changed.
        arrival_ns: Shape (requests without a predecessor,), non-decreasing.
    """
    times = workload.arrival_ns.copy()
    first_turns = slice(None) if workload.predecessor is None else workload.predecessor < 0
    times[first_turns] = arrival_ns
    return replace(_shift(workload, times), has_arrivals=True)


def _shift(workload: Workload, arrival_ns: IntColumn) -> Workload:
    """The workload with new times of first turns; follow-ups keep their distance to the last."""
    predecessor = workload.predecessor
    if predecessor is None:
        return replace(workload, arrival_ns=arrival_ns)
    old, new = workload.arrival_ns.tolist(), arrival_ns.tolist()
    for row, before in enumerate(predecessor.tolist()):
        if before >= 0:
            new[row] = new[before] + old[row] - old[before]
    shifted = replace(workload, arrival_ns=np.array(new, dtype=np.int64))
    return shifted.take(np.argsort(shifted.arrival_ns, kind="stable"))


def limit_tokens(workload: Workload, max_tokens: int) -> Workload:
    """Return the workload with a limit on every output: longer ones are cut, shorter ones end by EOS."""
    return replace(
        workload,
        output_tokens=np.minimum(workload.output_tokens, max_tokens),
        max_tokens=np.full(workload.count, max_tokens, dtype=np.int64),
    )


@dataclass(frozen=True, slots=True)
class Tenant:
    """A part of the traffic.

    Attributes:
        name: Its label; empty: none.
        weight: Its share, relative to the others'.
        priority, slo_class: None: as the workload has them.
    """

    name: str
    weight: float = 1.0
    priority: int | None = None
    slo_class: str | None = None


def label_tenants(workload: Workload, tenants: Sequence[Tenant], seed: int) -> Workload:
    """Return the workload with its requests spread over tenants at random; turns of a session stay together.

    Args:
        workload: Not changed; its tenants are replaced.
        tenants: At least one.
        seed: The workload's seed.
    """
    if not tenants:
        raise InputError("expected at least one tenant")
    bounds = np.cumsum([tenant.weight for tenant in tenants])
    draws = rng.stream(seed, "tenants").random(workload.count) * bounds[-1]
    codes = np.minimum(np.searchsorted(bounds, draws, side="right"), len(tenants) - 1).astype(np.int64)
    if workload.predecessor is not None:
        codes = codes[_first_turns(workload.predecessor)]
    old_priority = (
        np.zeros(workload.count, dtype=np.int64) if workload.priority is None else workload.priority
    )
    choices = np.array([tenant.priority or 0 for tenant in tenants], dtype=np.int64)
    given = np.array([tenant.priority is not None for tenant in tenants])
    return replace(
        workload,
        tenant=Labels(codes, tuple(tenant.name for tenant in tenants)),
        priority=np.where(given[codes], choices[codes], old_priority),
        slo_class=_classes(workload, tenants, codes),
    )


def _classes(workload: Workload, tenants: Sequence[Tenant], codes: IntColumn) -> Labels | None:
    if all(tenant.slo_class is None for tenant in tenants):
        return workload.slo_class
    old = [""] * workload.count if workload.slo_class is None else workload.slo_class.texts(0, workload.count)
    own = [tenant.slo_class for tenant in tenants]
    return Labels.encode(
        [
            text if own[code] is None else str(own[code])
            for code, text in zip(codes.tolist(), old, strict=True)
        ]
    )


def _first_turns(predecessor: IntColumn) -> IntColumn:
    """The row of the first turn of each row's session."""
    first = list(range(len(predecessor)))
    for row, before in enumerate(predecessor.tolist()):
        if before >= 0:
            first[row] = first[before]
    return np.array(first, dtype=np.int64)
