"""The requests of a scenario, made once in a process for all runs that share them."""

from __future__ import annotations

from simserve.data_files import find_file
from simserve.scenario.files import named_files
from simserve.scenario.schema import Scenario
from simserve.scenario.workload_build import workload_of
from simserve.workload.workload import Workload

# Seeds of a study that take turns; no more, since a big trace takes a gigabyte.
_KEPT = 4
_built: dict[str, Workload] = {}


def load_of(scenario: Scenario) -> Workload:
    """Return the requests of a scenario; equal workloads with equal seeds are built once.

    Raises:
        InputError: If its files cannot be read, or hold something else.
    """
    key = _key(scenario)
    if key not in _built:
        load = workload_of(scenario)
        while len(_built) >= _KEPT:
            del _built[next(iter(_built))]
        _built[key] = load
    return _built[key]


def _key(scenario: Scenario) -> str:
    """Return what the requests follow from; a file that has been written again is another."""
    files = []
    for path, name in named_files(scenario):
        if path[0] == "workload":
            file = find_file(name, scenario.folder, or_folder=True)
            status = file.stat()
            files.append((str(file), status.st_mtime_ns, status.st_size))
    return f"{scenario.seed} {files} {scenario.workload.model_dump_json()}"
