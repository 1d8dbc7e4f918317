"""What accelerators cost and draw, as the user says it: prices have a date and a source, the catalog none."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError
from simserve.scenario.catalog import load_hardware
from simserve.scenario.section import Section
from simserve.scenario.section_file import check_section, read_mapping

_Usd = Annotated[float, Field(ge=0, lt=1e6)]


class PriceFile(Section):
    """Prices of accelerators, with where they are from."""

    date: Annotated[datetime.date, Field(strict=False)] = Field(description="When they were read.")
    source: str = Field(min_length=1, description="Where they are from.")
    usd_per_hour: dict[str, _Usd] = Field(min_length=1, description="USD an hour of one accelerator.")


def read_price_file(path: str) -> PriceFile:
    """Read a file of prices: `date`, `source`, and `usd_per_hour`, a mapping by accelerator.

    Raises:
        InputError: For what is wrong in it, with file, line and column.
    """
    data, places = read_mapping(Path(path), "a mapping with date, source and usd_per_hour")
    return check_section(PriceFile, data, places)


def read_prices(file: str | None, texts: Sequence[str]) -> dict[str, float]:
    """Return USD an hour by the catalog's name of the accelerator.

    Args:
        file: A file of prices, or None.
        texts: `NAME=USD` each; they win over the file.

    Raises:
        InputError: If one is no price, or of no accelerator; names the nearest.
    """
    found: dict[str, float] = {}
    if file is not None:
        found = {load_hardware(key).name: usd for key, usd in read_price_file(file).usd_per_hour.items()}
    for text in texts:
        name, equals, value = text.partition("=")
        usd = _number(value)
        if not equals or usd is None:
            raise InputError(f"--price {text}: expected NAME=USD an hour, such as h100-sxm=2.5")
        found[load_hardware(name.strip()).name] = usd
    return found


def read_powers(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the power of one accelerator without and with a step executing, in W, by the catalog's name.

    Args:
        texts: `NAME=IDLE:BUSY` each, or `NAME=tdp`: the board's limit all the time, an upper bound.

    Raises:
        InputError: If one is no power, or of no accelerator; names the nearest.
    """
    found: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if values.strip() == "tdp":
            board = load_hardware(name.strip())
            found[board.name] = _board_limit(board)
            continue
        idle, colon, busy = values.partition(":")
        idle_w, busy_w = _number(idle), _number(busy)
        if not equals or not colon or idle_w is None or busy_w is None or idle_w > busy_w:
            raise InputError(
                f"--power {text}: expected NAME=IDLE:BUSY in watts, such as l40s=35:320, or NAME=tdp"
            )
        found[load_hardware(name.strip()).name] = (idle_w, busy_w)
    return found


def describe_hardware(summary: Mapping[str, Any], prices: Mapping[str, float]) -> dict[str, Any]:
    """Return what a run's accelerators are, and its throughput for each and for a dollar.

    Args:
        summary: Of the run.
        prices: USD an hour of one accelerator, before the catalog's.
    """
    pools = summary["pools"]
    count = sum(pool["accelerators"] for pool in pools)
    known = [price_of(pool["hardware"], prices) for pool in pools]
    usd = None
    if None not in known:
        usd = sum(pool["accelerators"] * (price or 0.0) for pool, price in zip(pools, known, strict=True))
    output, tokens = summary["output_throughput"], summary["total_token_throughput"]
    return {
        "hardware": "+".join(dict.fromkeys(pool["hardware"] for pool in pools)),
        "accelerators": count,
        "usd_per_hour": usd,
        "output_throughput_per_accelerator": None if output is None else output / count,
        "total_token_throughput_per_accelerator": None if tokens is None else tokens / count,
        "output_tokens_per_usd": None if output is None or not usd else output * 3600 / usd,
    }


def price_of(hardware: str, prices: Mapping[str, float], beside: Path | None = None) -> float | None:
    """Return USD an hour of one accelerator: as given, or the catalog's; None if neither knows it."""
    if hardware in prices:
        return prices[hardware]
    try:
        accelerator = load_hardware(hardware, beside)
    except InputError:  # a file that lies elsewhere now
        return None
    return prices.get(accelerator.name, accelerator.price_usd_per_hour)


def _board_limit(accelerator: Accelerator) -> tuple[float, float]:
    if accelerator.tdp_w is None:
        raise InputError(f"--power {accelerator.name}=tdp: the catalog knows no limit of this board")
    return accelerator.tdp_w, accelerator.tdp_w


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
