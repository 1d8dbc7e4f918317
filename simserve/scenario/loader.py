"""Loads a scenario: text -> values with places -> long form -> overrides -> checked models."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simserve.data_files import data_folder, find_file
from simserve.errors import InputError, ScenarioError, nearest
from simserve.scenario.files import files_outside
from simserve.scenario.names import check_names, find_imports, use_catalog_names
from simserve.scenario.overrides import apply_override
from simserve.scenario.places import KeyPath, Places, dotted
from simserve.scenario.problems import scenario_error, show
from simserve.scenario.schema import Scenario
from simserve.scenario.section_file import check_section
from simserve.scenario.short_forms import expand_short_forms
from simserve.scenario.yaml_text import read_yaml

_EXPECTATION = "expected a mapping with at least `model`, `workload` and `pools`"


def load_scenario(
    source: str | Path,
    overrides: Iterable[str] = (),
    *,
    allow_imports: bool = True,
    allow_files: Iterable[Path] | None = None,
) -> Scenario:
    """Return the scenario of a YAML file or text, with overrides applied and the catalog's names.

    Args:
        source: A path (sought as `find_file` does), or a text: a string with a line break, or one that
            starts with `{`.
        overrides: `path=value` each, as `--set` takes them; later ones win.
        allow_imports: Whether a policy may be `package.module:Class`, which imports that module. False for
            scenarios from strangers.
        allow_files: Folders under which the files that it names must lie, beside the package's own data.
            None: anywhere.

    Raises:
        ScenarioError: If it cannot be read or something in it is wrong: all that is wrong, a line each,
            with file, line and column, or the override that it comes from.
    """
    text, file, folder = _read_source(source)
    data, places = read_yaml(text, file)
    if data is None:
        raise ScenarioError(f"is empty; {_EXPECTATION}", file=file)
    if not isinstance(data, dict):
        raise ScenarioError(f"{_EXPECTATION}, got {show(data)}", file=file, line=1, column=1)
    if ("base" in data or "axes" in data) and "workload" not in data:
        raise ScenarioError(f"is a sweep: `simserve sweep {file} --out DIR` runs it", file=file)
    data = _to_long_form(data, places)
    for override in overrides:
        apply_override(data, override, places)
        data = _to_long_form(data, places)
    if not allow_imports:
        found = find_imports(data)
        _refuse(
            ((path, f"{text!r} would import code, which is not allowed here") for path, text in found), places
        )
    scenario = check_section(Scenario, data, places)
    scenario._folder = folder
    if allow_files is not None:
        _refuse(files_outside(scenario, allow_files), places)
    _refuse(check_names(scenario), places)
    return use_catalog_names(scenario)


def _refuse(wrong: Iterable[tuple[KeyPath, str]], places: Places) -> None:
    """Raise one error for all that is wrong, if anything is."""
    found = [(places.of_value(path), f"{dotted(path)}: {text}") for path, text in wrong]
    if found:
        raise scenario_error(found)


def _read_source(source: str | Path) -> tuple[str, str, Path | None]:
    """Return text, name for messages and folder of a scenario."""
    if isinstance(source, str) and ("\n" in source or source.lstrip().startswith("{")):
        return source, "<text>", None
    path = find_scenario(str(source))
    try:
        return path.read_text(encoding="utf-8"), str(source), path.parent
    except UnicodeDecodeError as error:
        raise ScenarioError(
            f"is no UTF-8 text (byte {error.start}); expected YAML", file=str(source)
        ) from None
    except OSError as error:
        raise ScenarioError(f"cannot be read: {error.strerror}", file=str(source)) from None


def find_scenario(name: str) -> Path:
    """Return the path of a scenario file, or of a shipped scenario (`quickstart`).

    Raises:
        ScenarioError: If there is none; names the nearest shipped one.
    """
    try:
        return find_file(name)
    except InputError as error:
        shipped = scenario_names()
        if name in shipped:
            return data_folder("scenarios") / f"{name}.yaml"
        written = Path(name, "scenario.yaml")
        if written.is_file():
            raise ScenarioError(f"is the folder of a run: its scenario is {written}", file=name) from None
        if Path(name).is_dir():
            raise ScenarioError("is a folder; expected a scenario's file", file=name or "''") from None
        stem = name.removeprefix("scenarios/").removesuffix(".yaml")
        hint = nearest(stem, shipped, "`simserve list scenarios` names those")
        raise ScenarioError(f"{error.message}, nor is it a shipped scenario{hint}") from None


def scenario_names() -> list[str]:
    """Return the names of the shipped scenarios, such as `quickstart` and `benchmarks/2x50k`."""
    folder = data_folder("scenarios")
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return [name for name in names if not name.startswith("sweeps/")]


def _to_long_form(data: dict[str, Any], places: Places) -> dict[str, Any]:
    if isinstance(data.get("pools"), dict):
        places.wrap_in_list(("pools",))
    return expand_short_forms(data)
