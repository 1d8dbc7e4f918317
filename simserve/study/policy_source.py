"""The source of a user's own policies: what `package.module:Class` in a scenario means."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

_POLICY = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_OURS = "simserve"


def hash_sources(texts: Iterable[str]) -> dict[str, str]:
    """Return the hash of the source of every policy among some texts; those that name none are passed over.

    The source is that of the module that holds the class, and of the modules of its base classes that are
    neither simserve's nor Python's.

    Args:
        texts: All texts of a scenario that was loaded: its policies have been imported by then.
    """
    return {text: _hash_source(*match.groups()) for text in texts if (match := _match(text))}


def _match(text: str) -> re.Match[str] | None:
    match = _POLICY.fullmatch(text)
    return match if match is not None and _exists(match.group(1)) else None


def _exists(module: str) -> bool:
    try:
        return module in sys.modules or find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _hash_source(module: str, name: str) -> str:
    digest = hashlib.sha256()
    for file in dict.fromkeys(_files(import_module(module), name)):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _files(module: ModuleType, name: str) -> Iterator[str]:
    """Yield the source files of a class, its own first."""
    modules = [module]
    made = getattr(module, name, None)
    for base in inspect.getmro(made) if inspect.isclass(made) else ():
        package = base.__module__.partition(".")[0]
        if package != _OURS and package not in sys.stdlib_module_names:
            modules.append(import_module(base.__module__))
    for each in modules:
        file = inspect.getsourcefile(each) if getattr(each, "__file__", None) else None
        if file is not None:
            yield file
