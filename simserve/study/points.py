"""The points of a sweep, and what makes a point the one it is.

A point is identified by the hash of its resolved scenario, of the contents of the files that it names, of
the source of its own policies and of simserve's version; never by a path. So a point that has been run is
found again whatever folder the sweep lies in, and one whose trace has changed is run anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from simserve.data_files import data_folder, find_file
from simserve.errors import InputError
from simserve.scenario.catalog import load_hardware, load_model
from simserve.scenario.dump import dump_scenario
from simserve.scenario.files import named_files
from simserve.scenario.loader import load_scenario
from simserve.scenario.schema import Scenario
from simserve.study.policy_source import hash_sources
from simserve.study.sweep_file import SweepFile
from simserve.version import __version__


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a sweep.

    Attributes:
        number: Its place in the sweep, from 0.
        settings: Values of the axes' keys; names as the catalog has them.
        seed: Of the run.
        text: The resolved scenario, as `dump_scenario` writes it.
        identity: Hash of all that its result depends on.
    """

    number: int
    settings: dict[str, Any]
    seed: int
    text: str
    identity: str


def expand_points(sweep: SweepFile, folder: Path | None = None) -> Iterator[Point]:
    """Yield the points of a sweep: the grid of its axes, the last fastest, with each seed in turn.

    Args:
        sweep: What is swept.
        folder: Of the sweep's file: the base is sought there first.

    Raises:
        ScenarioError: If the scenario of a point is wrong; names its settings.
    """
    base = str(_find_base(sweep.base, folder))
    names = [name for axis in sweep.axes for name in axis.names()]
    number = 0
    for position in product(*(axis.settings() for axis in sweep.axes)):
        values = [value for part in position for value in part]
        settings = dict(zip(names, values, strict=True))
        changes = [*sweep.overrides, *(f"{name}={write_value(value)}" for name, value in settings.items())]
        first = _load(base, changes, values)
        settings = resolved_settings(settings, first)
        for seed in _seeds(sweep, first.seed):
            scenario = first if seed == first.seed else load_scenario(base, [*changes, f"seed={seed}"])
            yield Point(number, settings, seed, dump_scenario(scenario), identify(scenario))
            number += 1


def _load(base: str, changes: list[str], values: list[Any]) -> Scenario:
    """Load a point's scenario; says how a range becomes whole numbers where they are wanted."""
    try:
        return load_scenario(base, changes)
    except InputError as error:
        broken = any(isinstance(value, float) and not value.is_integer() for value in values)
        if broken and "whole number" in error.message:
            error.message += "; with round: true a range has whole numbers alone"
        raise


def resolved_settings(settings: Mapping[str, Any], scenario: Scenario) -> dict[str, Any]:
    """Return settings with the names that the scenario made of them: the catalog's for aliases of it.

    Args:
        settings: Keys of the scenario and the values that they were set to.
        scenario: As it was loaded with them.
    """
    data = scenario.model_dump(mode="json")
    return {key: _resolved(data, key, value) for key, value in settings.items()}


def _resolved(data: Any, key: str, value: Any) -> Any:
    for part in key.split("."):
        data = (
            data[int(part)] if isinstance(data, list) else data.get(part) if isinstance(data, dict) else None
        )
    return data if isinstance(data, str) and isinstance(value, str) else value


def write_value(value: Any) -> str:
    """Return a value as `--set` reads it."""
    return json.dumps(value) if not isinstance(value, str) or not value else value


def identify(scenario: Scenario) -> str:
    """Return the hash of all that a scenario's result depends on, in hexadecimal."""
    data = scenario.model_dump(mode="json")
    for path, file in named_files(scenario):
        holder: Any = data
        for part in path[:-1]:
            holder = holder[part]
        holder[path[-1]] = _hash_file(find_file(file, scenario.folder, or_folder=True))
    content = json.dumps(
        [__version__, data, _describe_catalog(scenario), hash_sources(_texts(data))], sort_keys=True
    )
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _describe_catalog(scenario: Scenario) -> list[str]:
    """Return what the catalog says of each name, hashed: it may come to mean something else."""
    found = []
    for pool in scenario.pools:
        accelerator = load_hardware(pool.hardware, scenario.folder)
        drafted = pool.engine.speculative.model if pool.engine.speculative is not None else None
        models = (scenario.model_of(pool), *([] if drafted is None else [drafted]))
        entries = [accelerator, *(load_model(name, scenario.folder) for name in models)]
        calibration = data_folder("hardware") / "calibration" / f"{accelerator.name}.yaml"
        found.append(hashlib.sha256(repr(entries).encode()).hexdigest())
        found += [_hash_file(calibration)] if calibration.is_file() else []
    return found


def _find_base(base: str, folder: Path | None) -> Path | str:
    if folder is not None and (folder / base).is_file():
        return folder / base
    return base


def _seeds(sweep: SweepFile, first: int) -> tuple[int, ...]:
    if isinstance(sweep.seeds, int):
        return tuple(range(first, first + sweep.seeds))
    return sweep.seeds


def _hash_file(path: Path) -> str:
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", file=str(file)) from error
    return digest.hexdigest()


def _texts(data: Any) -> Iterator[str]:
    """Yield every text in a scenario, in its order."""
    if isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _texts(value)
    elif isinstance(data, str):
        yield data
