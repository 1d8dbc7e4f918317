"""What a scenario can name, by kind."""

from __future__ import annotations

from collections.abc import Callable

from simserve import registry
from simserve.data_files import data_folder
from simserve.errors import UnknownNameError
from simserve.scenario.known_names import hardware_names, model_names
from simserve.scenario.loader import scenario_names

_TRACES = (".csv", ".jsonl", ".parquet")


def catalog_names(kind: str) -> list[str]:
    """Return the shipped names of a kind, sorted.

    Args:
        kind: "models", "hardware", "schedulers", "routers", "orders", "evictions", "scenarios" or "traces"
            (their paths, as a scenario writes them).

    Raises:
        UnknownNameError: If there is no such kind.
    """
    if kind not in _NAMES:
        raise UnknownNameError("kind of names", kind, list(_NAMES))
    return _NAMES[kind]()


def _trace_names() -> list[str]:
    folder = data_folder("traces")
    return sorted(
        f"traces/{path.relative_to(folder).as_posix()}"
        for path in folder.rglob("*")
        if path.name.removesuffix(".gz").endswith(_TRACES)
    )


_NAMES: dict[str, Callable[[], list[str]]] = {
    "models": model_names,
    "hardware": hardware_names,
    "schedulers": lambda: registry.names("engine"),
    "routers": lambda: registry.names("router"),
    "orders": lambda: registry.names("order"),
    "evictions": lambda: registry.names("eviction"),
    "scenarios": scenario_names,
    "traces": _trace_names,
}
