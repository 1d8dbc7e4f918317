"""The files that a scenario names, and where they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from simserve.data_files import KINDS, data_folder, find_file
from simserve.errors import InputError
from simserve.scenario.places import KeyPath
from simserve.scenario.schema import Scenario
from simserve.scenario.workload_schema import ArrivalSpec, WorkloadSpec


def named_files(scenario: Scenario) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path of every key that names a file, and the file as written."""
    for path, file in _workload_files(scenario.workload):
        yield ("workload", *path), file
    for index, table in enumerate(scenario.cost.tables):
        yield ("cost", "tables", index), table
    if scenario.model is not None and _is_model_file(scenario.model):
        yield ("model",), scenario.model
    for index, pool in enumerate(scenario.pools):
        if pool.model is not None and _is_model_file(pool.model):
            yield ("pools", index, "model"), pool.model
        if pool.hardware.endswith((".yaml", ".yml")):
            yield ("pools", index, "hardware"), pool.hardware
        speculative = pool.engine.speculative
        if speculative is not None and speculative.model is not None and _is_model_file(speculative.model):
            yield ("pools", index, "engine", "speculative", "model"), speculative.model


def files_outside(scenario: Scenario, folders: Iterable[Path]) -> list[tuple[KeyPath, str]]:
    """Return the path of every key that names a file elsewhere than under `folders`, and a message.

    The package's own data may always be read. A symbolic link counts as what it leads to, a file that does
    not exist as nothing.
    """
    allowed = [*(folder.resolve() for folder in folders), *(data_folder(kind).resolve() for kind in KINDS)]
    wrong = []
    for path, name in (*named_files(scenario), *_model_folders(scenario)):
        try:
            found = find_file(name, scenario.folder, or_folder=True).resolve()
        except InputError:
            continue
        if not any(found.is_relative_to(folder) for folder in allowed):
            wrong.append((path, f"{name!r} is outside of the folders that may be read"))
    return wrong


def _model_folders(scenario: Scenario) -> Iterator[tuple[KeyPath, str]]:
    """Yield the models that may be folders with a config.json, and that file."""
    names: list[tuple[KeyPath, str | None]] = [(("model",), scenario.model)]
    for index, pool in enumerate(scenario.pools):
        names.append((("pools", index, "model"), pool.model))
        if pool.engine.speculative is not None:
            names.append((("pools", index, "engine", "speculative", "model"), pool.engine.speculative.model))
    for path, name in names:
        if name is not None and not _is_model_file(name):
            yield path, f"{name}/config.json"


def lasting_path(file: str, beside: Path | None) -> str:
    """Return a path under which a file is found from any folder on this machine.

    What is found in the package's data keeps its name; what is found beside the scenario or in the
    working directory becomes absolute; what is not found stays as it is.

    Args:
        file: The path as a scenario names it; of a folder too.
        beside: The scenario's folder, if it has one.
    """
    wanted = Path(file).expanduser()
    if wanted.is_absolute():
        return str(wanted)
    packaged = _packaged(wanted)
    for folder in (beside, Path.cwd()):
        if folder is not None and (folder / wanted).exists():
            found = (folder / wanted).resolve()
            return file if packaged is not None and packaged == found else str(found)
    return file


def _packaged(wanted: Path) -> Path | None:
    """Return the file of that name in the package's data, if there is one."""
    if wanted.parts and wanted.parts[0] in KINDS:
        path = (data_folder(wanted.parts[0]).parent / wanted).resolve()
        return path if path.is_file() else None
    return None


def _is_model_file(name: str) -> bool:
    return name.endswith(".json")


def _workload_files(workload: WorkloadSpec) -> Iterator[tuple[KeyPath, str]]:
    if workload.trace is not None:
        yield ("trace", "path"), workload.trace.path
        yield from _schedule_file(workload.trace.arrivals, ("trace", "arrivals"))
    if workload.pairs is not None:
        yield ("pairs", "path"), workload.pairs.path
    if workload.servegen is not None:
        yield ("servegen", "windows"), workload.servegen.windows
        if workload.servegen.lengths is not None:
            yield ("servegen", "lengths"), workload.servegen.lengths
    yield from _schedule_file(workload.arrivals, ("arrivals",))


def _schedule_file(arrivals: ArrivalSpec | None, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if arrivals is not None and arrivals.schedule is not None and arrivals.schedule.path is not None:
        yield (*path, "schedule", "path"), arrivals.schedule.path
