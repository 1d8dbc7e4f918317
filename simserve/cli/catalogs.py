"""`simserve list`: what a scenario can name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from simserve.report.table import format_number

Entry = dict[str, object]
_UNITS = {
    "parameters": (1e9, "B"),
    "memory_bytes": (2**30, "GiB"),
    "bytes_per_s": (1e9, "GB/s"),
    "flops": (1e12, "TFLOP/s"),
    "bytes": (1e3, "kB"),
}


def print_catalog(what: str, *, as_json: bool) -> None:
    """Print the entries of a catalog, a line each, or as one JSON object with a list under its name."""
    entries = _CATALOGS[what]()
    if as_json:
        print(json.dumps({what: entries}, indent=2))
        return
    headers = list(entries[0]) if entries else []
    rows = [headers, *([_cell(name, entry[name]) for name in headers] for entry in entries)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(name: str, value: object) -> str:
    """Return a figure in the unit that people use for it; a text as it is."""
    if not isinstance(value, int | float):
        return str(value)
    for ending, (divisor, unit) in _UNITS.items():
        if name.endswith(ending):
            return f"{format_number(value / divisor)} {unit}"
    return str(value)


def _models() -> list[Entry]:
    from simserve.scenario.catalog import load_model
    from simserve.scenario.known_names import model_names

    entries: list[Entry] = []
    for name in model_names():
        shape = load_model(name)
        entries.append(
            {
                "name": name,
                "parameters": shape.parameters().total,
                "active_parameters": shape.active_parameters(),
            }
        )
    return entries


def _hardware() -> list[Entry]:
    from simserve.scenario.catalog import load_hardware
    from simserve.scenario.known_names import hardware_names

    entries: list[Entry] = []
    for name in hardware_names():
        accelerator = load_hardware(name)
        entries.append(
            {
                "name": name,
                "memory_bytes": accelerator.memory_bytes,
                "memory_bandwidth_bytes_per_s": accelerator.memory_bandwidth_bytes_per_s,
                "bfloat16_flops": accelerator.peak_for("bfloat16"),
                "aliases": ", ".join(accelerator.aliases),
            }
        )
    return entries


def _policies(kind: str) -> Callable[[], list[Entry]]:
    def entries() -> list[Entry]:
        from simserve import registry

        found: list[Entry] = []
        for name, about in sorted(registry.describe(kind).items()):
            defaults = getattr(registry.lookup(kind, name), "option_defaults", None) or {}
            options = ", ".join(f"{key}={value}" for key, value in defaults.items())
            found.append({"name": name, "about": about, "options": options})
        return found

    return entries


def _scenarios() -> list[Entry]:
    from simserve.data_files import data_folder
    from simserve.scenario.loader import scenario_names

    folder = data_folder("scenarios")
    return [
        {"path": f"scenarios/{name}.yaml", "about": _first_comment(folder / f"{name}.yaml")}
        for name in scenario_names()
    ]


def _traces() -> list[Entry]:
    from simserve.data_files import data_folder

    folder = data_folder("traces")
    paths = sorted(path for path in folder.rglob("*") if _is_trace(path))
    return [{"path": f"traces/{path.relative_to(folder)}", "bytes": path.stat().st_size} for path in paths]


def _is_trace(path: Path) -> bool:
    name = path.name.removesuffix(".gz")
    return path.is_file() and name.endswith((".csv", ".jsonl", ".parquet"))


def _first_comment(path: Path) -> str:
    """Return the first comment of a scenario that speaks to its reader, without the mark."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "yaml-language-server" not in line:
            return line.removeprefix("#").strip()
    return ""


_CATALOGS: dict[str, Callable[[], list[Entry]]] = {
    "models": _models,
    "hardware": _hardware,
    "routers": _policies("router"),
    "schedulers": _policies("engine"),
    "orders": _policies("order"),
    "evictions": _policies("eviction"),
    "scenarios": _scenarios,
    "traces": _traces,
}
