"""ServeGen client populations (Xiang et al. 2025): requests from clients' windows and quantiles.

A window of 600 s states a client's rate and the gamma or Weibull distribution fitted to its gaps. The fits'
means differ from 1/rate, and a renewal process started afresh in each window would add (cv^2 - 1)/2 requests
to it. So the number of requests in a window is rate x 600 s (rounded up or down at random), and gaps of the
fitted shape are scaled to fill the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from simserve import rng
from simserve.errors import TraceError
from simserve.units import NS_PER_S
from simserve.workload.arrivals import MOST_REQUESTS
from simserve.workload.csv_rows import Row, read_csv
from simserve.workload.rates import FloatColumn
from simserve.workload.rows import trace_name
from simserve.workload.workload import IntColumn, Labels, Workload

WINDOW_COLUMNS = ("client", "start_s", "rate_rps", "dist", "p1")
LENGTH_COLUMNS = ("client", "start_s", "field")
WINDOW_S = 600.0
_WINDOWS, _LENGTHS = "client_windows", "length_quantiles"

LengthTables: TypeAlias = dict[tuple[int, str], list[tuple[float, "FloatColumn"]]]
"""Client and field -> (start_s, lengths at the file's probabilities), in order of time."""


@dataclass(frozen=True, slots=True)
class _Window:
    client: int
    start_s: float
    rate_per_s: float
    dist: str
    shape: float


@dataclass(slots=True)
class _Draws:
    """Requests drawn so far, a part for each window."""

    times_s: list[FloatColumn] = field(default_factory=list)
    prompts: list[IntColumn] = field(default_factory=list)
    outputs: list[IntColumn] = field(default_factory=list)
    clients: list[IntColumn] = field(default_factory=list)


def read(
    path: Path,
    seed: int = 0,
    start_s: float = 0.0,
    duration_s: float = 600.0,
    clients: int | None = None,
    rate_per_s: float | None = None,
    rate_scale: float = 1.0,
    lengths: str | Path | None = None,
) -> Workload:
    """Draw the requests of a part of a population's time; the client is the tenant.

    Prompt and output lengths are drawn independently, by inverse transform of the quantiles in force. A
    client without quantiles borrows another's, chosen once by its share of the requests.

    Args:
        path: CSV of client windows: client, start_s, rate_rps, cv, dist, p1 (shape), p2 (scale, not used).
        seed: Seed of all draws.
        start_s: Start of the part, which becomes time 0.
        duration_s: Its length.
        clients: Only so many clients, the busiest of that part; None: all.
        rate_per_s: Scale all rates so that this is the mean total rate; None: as recorded.
        rate_scale: Scale all rates by this, in addition.
        lengths: CSV of client, start_s, field, mean, q0 ... q1; None: beside `path`, named with
            `length_quantiles`.

    Raises:
        TraceError: If a row is broken, or no client is active in that part.
    """
    windows = [
        w for w in _read_windows(path) if w.start_s < start_s + duration_s and w.start_s + WINDOW_S > start_s
    ]
    volume: dict[int, float] = {}
    for window in windows:
        overlap = min(window.start_s + WINDOW_S, start_s + duration_s) - max(window.start_s, start_s)
        volume[window.client] = volume.get(window.client, 0.0) + window.rate_per_s * overlap
    busiest = sorted(volume, key=lambda client: (-volume[client], client))[:clients]
    total = sum(volume[client] for client in busiest)
    if not total:
        raise TraceError(f"no client is active from {start_s:g} s on for {duration_s:g} s", file=str(path))
    scale = rate_scale * (1.0 if rate_per_s is None else rate_per_s * duration_s / total)
    if total * scale > MOST_REQUESTS:
        message = f"about {total * scale:.0e} requests would arrive; expected at most {MOST_REQUESTS:.0e}"
        raise TraceError(message, file=str(path))
    probabilities, tables = _read_lengths(_lengths_path(path, lengths))
    owners = _length_owners(busiest, volume, tables, seed)
    chosen, draws = set(busiest), _Draws()
    for window in windows:
        if window.client in chosen:
            _draw_window(window, scale, owners[window.client], probabilities, tables, seed, draws)
    return _assemble(path, draws, start_s, duration_s, seed)


def _read_windows(path: Path) -> list[_Window]:
    windows = []
    for row in read_csv(path, WINDOW_COLUMNS):
        rate = row.number_at_least_0("rate_rps")
        if rate == 0:
            continue
        if row.text("dist") not in ("Gamma", "Weibull"):
            row.fail("dist", "expected Gamma or Weibull")
        shape = row.number_at_least_0("p1")
        if shape == 0:
            row.fail("p1", "expected a shape above 0")
        windows.append(
            _Window(row.tokens("client"), row.number_at_least_0("start_s"), rate, row.text("dist"), shape)
        )
    return windows


def _lengths_path(path: Path, lengths: str | Path | None) -> Path:
    if lengths is not None:
        return Path(lengths)
    beside = path.with_name(path.name.replace(_WINDOWS, _LENGTHS))
    if beside == path or not beside.is_file():
        expected = beside.name if beside != path else _LENGTHS
        message = f"no length quantiles beside {path.name}; expected {expected}, or the option `lengths`"
        raise TraceError(message, file=str(path))
    return beside


def _read_lengths(path: Path) -> tuple[FloatColumn, LengthTables]:
    tables: LengthTables = {}
    names: list[str] = []
    probabilities = np.empty(0)
    for row in read_csv(path, LENGTH_COLUMNS):
        if not names:
            names, probabilities = _probabilities(row)
        values = np.array([row.number_at_least_0(name) for name in names])
        key = row.tokens("client"), row.text("field")
        tables.setdefault(key, []).append((row.number_at_least_0("start_s"), values))
    for rows in tables.values():
        rows.sort(key=lambda entry: entry[0])
    if not tables:
        raise TraceError("there are no length quantiles", file=str(path))
    return probabilities, tables


def _probabilities(row: Row) -> tuple[list[str], FloatColumn]:
    names = [name for name in row.columns if name[:1] == "q" and name[1:].replace(".", "", 1).isdigit()]
    values = np.array([float(name[1:]) for name in names])
    if len(names) < 2 or values[0] != 0 or values[-1] != 1 or np.any(np.diff(values) <= 0):
        row.fail("field", "expected columns q0 ... q1 behind it, in order")
    return names, values


def _length_owners(
    busiest: list[int], volume: dict[int, float], tables: LengthTables, seed: int
) -> dict[int, int]:
    """Whose lengths each client uses: its own where it has any."""
    known = {client for client, name in tables if name == "output_tokens"}
    donors = sorted(known & volume.keys()) or sorted(known)
    weights = np.cumsum([volume.get(client, 1.0) for client in donors])
    owners = {}
    for client in busiest:
        draw = rng.keyed_uniform(seed, client, "servegen donor") * weights[-1]
        owners[client] = (
            client if client in known else donors[int(np.searchsorted(weights, draw, side="right"))]
        )
    return owners


def _draw_window(
    window: _Window,
    scale: float,
    owner: int,
    probabilities: FloatColumn,
    tables: LengthTables,
    seed: int,
    draws: _Draws,
) -> None:
    generator = rng.stream(seed, "servegen", window.client, int(window.start_s))
    count = int(window.rate_per_s * scale * WINDOW_S + generator.random())
    if not count:
        return
    gaps = (
        generator.standard_gamma(window.shape, count + 1)
        if window.dist == "Gamma"
        else generator.weibull(window.shape, count + 1)
    )
    total = gaps.sum()
    # A shape near 0 can underflow to gaps of 0 throughout: then the requests come at once, in mid-window.
    places = np.cumsum(gaps[:-1]) / total if total > 0 else np.full(count, 0.5)
    draws.times_s.append(window.start_s + places * WINDOW_S)

    def lengths(name: str) -> FloatColumn | None:
        table = tables.get((owner, name))
        if table is None:
            return None
        values = next((row for start, row in reversed(table) if start <= window.start_s), table[0][1])
        return np.rint(np.interp(generator.random(count), probabilities, values))

    prompt = _first(lengths("input_tokens"), lengths("text_tokens"), np.ones(count))
    for kind in ("image", "audio", "video"):
        per_item, items = lengths(f"{kind}_tokens"), lengths(f"{kind}_count")
        if per_item is not None and items is not None:
            prompt = prompt + per_item * items
    draws.prompts.append(prompt.astype(np.int64))
    draws.outputs.append(_first(lengths("output_tokens"), np.ones(count)).astype(np.int64))
    draws.clients.append(np.full(count, window.client, dtype=np.int64))


def _first(*columns: FloatColumn | None) -> FloatColumn:
    return next(column for column in columns if column is not None)


def _assemble(path: Path, draws: _Draws, start_s: float, duration_s: float, seed: int) -> Workload:
    times_s = np.concatenate([*draws.times_s, np.empty(0)]) - start_s
    kept = np.flatnonzero((times_s >= 0) & (times_s < duration_s))
    if not len(kept):
        raise TraceError("the rates are so low that no request arrives", file=str(path))
    order = kept[np.argsort(times_s[kept], kind="stable")]
    clients = np.concatenate(draws.clients)[order]
    names, codes = np.unique(clients, return_inverse=True)
    return Workload(
        name=trace_name(path).replace(f"_{_WINDOWS}", ""),
        arrival_ns=np.rint(times_s[order] * NS_PER_S).astype(np.int64),
        prompt_tokens=np.concatenate(draws.prompts)[order],
        output_tokens=np.concatenate(draws.outputs)[order],
        tenant=Labels(codes.astype(np.int64), tuple(f"client-{number}" for number in names.tolist())),
        source=f"drawn from a ServeGen population, seed {seed}",
    )
