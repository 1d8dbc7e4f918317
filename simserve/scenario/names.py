"""Checks that the names in a scenario exist, and that each model fits its engine's parallelism."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from simserve.data_files import find_file
from simserve.errors import InputError, UnknownNameError
from simserve.model.shape import ModelShape
from simserve.registry import lookup
from simserve.scenario.catalog import load_hardware, load_model
from simserve.scenario.files import named_files
from simserve.scenario.known_names import find_hardware, find_model
from simserve.scenario.places import KeyPath
from simserve.scenario.schema import Engine, Pool, Scenario

_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_P = ParamSpec("_P")
_T = TypeVar("_T")


def find_imports(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path of every text of a scenario that could name code to import, and the text.

    Every text counts that reads `package.module:Class`, under whichever key but `name`: what is not known to
    be harmless is refused. Nothing is looked up or imported.

    Args:
        data: A scenario's values, before they are checked.
        path: Of `data` in the scenario.
    """
    if isinstance(data, str):
        if _IMPORT_PATH.fullmatch(data.strip()):
            yield path, data
    elif isinstance(data, dict):
        for key, value in data.items():
            if key != "name":
                yield from find_imports(value, (*path, key))
    elif isinstance(data, list | tuple):
        for index, value in enumerate(data):
            yield from find_imports(value, (*path, index))


def check_names(scenario: Scenario) -> list[tuple[KeyPath, str]]:
    """Return what is wrong with the names in a scenario: the path of each, and a message.

    Args:
        scenario: A validated scenario.
    """
    check = _NameCheck()
    for path, file in named_files(scenario):
        check.attempt(path, find_file, file, scenario.folder, or_folder=path[:2] == ("cost", "tables"))
    for key in ("trace", "pairs"):
        source = getattr(scenario.workload, key)
        if source is not None and source.format != "auto":
            check.attempt(("workload", key, "format"), _check_format, source.format)
    for index, pool in enumerate(scenario.pools):
        _check_pool(check, scenario, pool, ("pools", index))
    router = scenario.router
    check.policy("router", router.policy, ("router", "policy"))
    if router.policy in ("session_affinity", "prefix_aware"):
        check.policy("router", router.fallback, ("router", "fallback"))
    if ":" not in router.policy and router.options:
        message = f"options are for routers of your own; the policy {router.policy!r} has keys instead"
        check.wrong.append((("router", "options"), message))
    return check.wrong


def use_catalog_names(scenario: Scenario) -> Scenario:
    """Return the scenario with each model and accelerator under the catalog's name.

    So one thing has one name in all that is printed and written, whichever alias a file uses.

    Args:
        scenario: One whose names are known to exist; a model that no pool uses stays as it is.
    """
    beside = scenario.folder
    changes: dict[str, object] = {"pools": tuple(_use_catalog_names(pool, beside) for pool in scenario.pools)}
    if scenario.model is not None and any(pool.model is None for pool in scenario.pools):
        changes["model"] = find_model(scenario.model, beside).name
    return scenario.model_copy(update=changes)


def _use_catalog_names(pool: Pool, beside: Path | None) -> Pool:
    changes: dict[str, object] = {"hardware": find_hardware(pool.hardware, beside).name}
    if pool.model is not None:
        changes["model"] = find_model(pool.model, beside).name
    speculative = pool.engine.speculative
    if speculative is not None and speculative.model is not None:
        drafter = speculative.model_copy(update={"model": find_model(speculative.model, beside).name})
        changes["engine"] = pool.engine.model_copy(update={"speculative": drafter})
    return pool.model_copy(update=changes)


def _check_format(name: str) -> None:
    from simserve.workload.trace import FORMATS

    if name not in FORMATS:
        raise UnknownNameError("trace format", name, ["auto", *FORMATS])


def _check_pool(check: _NameCheck, scenario: Scenario, pool: Pool, path: KeyPath) -> None:
    check.policy("engine", pool.engine.kind, (*path, "engine", "kind"))
    check.attempt((*path, "hardware"), load_hardware, pool.hardware, scenario.folder)
    model_path = ("model",) if pool.model is None else (*path, "model")
    model = check.attempt(model_path, load_model, scenario.model_of(pool), scenario.folder)
    if model is not None:
        check.wrong.extend(_check_parallelism(pool.engine, model, (*path, "engine")))
    speculative = pool.engine.speculative
    if speculative is not None and speculative.model is not None:
        at = (*path, "engine", "speculative", "model")
        check.attempt(at, load_model, speculative.model, scenario.folder)


def _check_parallelism(engine: Engine, model: ModelShape, path: KeyPath) -> list[tuple[KeyPath, str]]:
    """Refuse what vLLM's `ModelConfig.verify_with_parallel_config` refuses."""
    wrong: list[tuple[KeyPath, str]] = []
    ranks, stages = engine.tensor_parallel_size, engine.pipeline_parallel_size
    if model.num_heads % ranks:
        message = f"{ranks} ranks cannot share the {model.num_heads} attention heads of {model.name} equally"
        wrong.append(((*path, "tensor_parallel_size"), message))
    if stages > model.num_layers:
        message = f"{stages} stages cannot share the {model.num_layers} layers of {model.name}"
        wrong.append(((*path, "pipeline_parallel_size"), message))
    group = ranks * engine.data_parallel_size
    if model.is_moe and engine.enable_expert_parallel and model.num_experts % group:
        key = "data_parallel_size" if engine.data_parallel_size > 1 else "tensor_parallel_size"
        message = f"{group} ranks cannot share the {model.num_experts} experts of {model.name} equally"
        wrong.append(((*path, key), message))
    return wrong


class _NameCheck:
    """Collects the errors of look-ups.

    Attributes:
        wrong: Path and message of each look-up that failed.
    """

    def __init__(self) -> None:
        self.wrong: list[tuple[KeyPath, str]] = []

    def attempt(
        self, path: KeyPath, find: Callable[_P, _T], *args: _P.args, **options: _P.kwargs
    ) -> _T | None:
        """Return what `find` finds, or None and a message for `path`."""
        try:
            return find(*args, **options)
        except InputError as error:
            self.wrong.append((path, str(error)))
            return None

    def policy(self, kind: str, name: str, path: KeyPath) -> None:
        """Look a policy up in the registry."""
        if ":" in name and not _IMPORT_PATH.fullmatch(name):
            self.wrong.append((path, f"expected package.module:Class, got {name!r}"))
        else:
            self.attempt(path, lookup, kind, name)
