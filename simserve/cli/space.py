"""The space that `recommend` searches: what was asked for, and what is taken where nothing was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simserve.errors import InputError

if TYPE_CHECKING:
    from simserve.scenario.schema import Scenario

Axes = dict[str, list[Any]]
HARDWARE, RANKS = "hardware", "engine.tensor_parallel_size"
# Within a node of eight, the usual size; ranks that a model cannot be split into are out with the reason.
_RANKS = (1, 2, 4, 8)


def read_axes(given: Mapping[str, str | None], others: Sequence[str]) -> Axes:
    """Return the axes: keys and their values.

    Args:
        given: Values separated by commas, by key; None where there are none.
        others: `KEY=A,B,...` each.

    Raises:
        InputError: If an axis has no values, or stands twice.
    """
    texts = [f"{key}={values}" for key, values in given.items() if values is not None]
    axes: Axes = {}
    for text in (*texts, *others):
        key, equals, values = (part.strip() for part in text.partition("="))
        key = key.removeprefix("pools.0.")
        found = [_read_value(part.strip()) for part in values.split(",") if part.strip()]
        if not equals or not key or not found:
            raise InputError(f"--axis {text}: expected KEY=A,B,..., such as engine.max_num_seqs=64,256")
        if key in axes:
            raise InputError(f"--axis {text}: {key} stands twice")
        axes[key] = found
    return axes


def fill_space(axes: Axes, prices: Mapping[str, float], scenario: Scenario) -> Axes:
    """Return the axes with what is taken where nothing was asked for.

    Without accelerators: those that have a price, else the scenario's own. Without ranks: 1, 2, 4 and 8. With
    several pools: nothing, since their product soon is large.

    Raises:
        InputError: If an axis is of no key, or an accelerator, a model or an engine that was asked for is
            none; names the nearest.
    """
    for key in axes:
        _check_key(key)
    axes = {key: [_name(key, value, scenario) for value in values] for key, values in axes.items()}
    if len(scenario.pools) > 1:
        return axes
    hardware = axes.get(HARDWARE) or [*prices] or [scenario.pools[0].hardware]
    return {HARDWARE: hardware, RANKS: axes.get(RANKS) or [*_RANKS], **axes}


def _check_key(key: str) -> None:
    from simserve.scenario.known_keys import check_path
    from simserve.scenario.schema import Scenario

    path = key if key.startswith("pools.") else f"pools.0.{key}"
    try:
        check_path(Scenario, tuple(int(part) if part.isdecimal() else part for part in path.split(".")))
    except InputError as error:
        raise InputError(f"--axis {key}: {error.message}") from None


def _name(key: str, value: Any, scenario: Scenario) -> Any:
    """Return the catalog's name, where a key's value is a name: "4090" was read as a number."""
    from simserve.registry import lookup
    from simserve.scenario.known_names import find_hardware, find_model

    last = key.rpartition(".")[2]
    if last == HARDWARE:
        return find_hardware(str(value), scenario.folder).name
    if last == "model" and value is not None:
        return find_model(str(value), scenario.folder).name
    if key.endswith("engine.kind"):
        lookup("engine", str(value))
    return value


def describe_space(axes: Axes) -> str:
    """Return the axes and how many configurations they make, in words."""
    total = 1
    for values in axes.values():
        total *= len(values)
    parts = (f"{key.rpartition('.')[2]} {', '.join(map(str, values))}" for key, values in axes.items())
    counted = "1 configuration" if total == 1 else f"{total:,} configurations"
    return f"{counted}: {'; '.join(parts) or 'the scenario as it is'}"


def _read_value(text: str) -> Any:
    from simserve.scenario.yaml_text import read_scalar

    return read_scalar(text)
