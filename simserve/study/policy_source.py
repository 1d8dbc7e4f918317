"""The source of a user's own policies: what `package.module:Class` in a scenario means."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

_POLICY = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_OURS = "simserve"
# Folders in which Python's installers put packages: those change with their versions.
_INSTALLED = {"site-packages", "dist-packages"}


def hash_sources(texts: Iterable[str]) -> dict[str, str]:
    """Return the hash of the source of every policy among some texts; those that name none are passed over.

    The source is that of the module that holds the class, and of all modules that it imports, and these in
    turn, that are neither simserve's, nor Python's, nor installed. Data that a policy reads is not seen.

    Args:
        texts: All texts of a scenario that was loaded: its policies have been imported by then.
    """
    return {text: _hash_source(match.group(1)) for text in texts if (match := _match(text))}


def _match(text: str) -> re.Match[str] | None:
    match = _POLICY.fullmatch(text)
    return match if match is not None and _exists(match.group(1)) else None


def _exists(module: str) -> bool:
    try:
        return module in sys.modules or find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _hash_source(module: str) -> str:
    digest = hashlib.sha256()
    for name, file in _own_files(module).items():
        digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _own_files(first: str) -> dict[str, Path]:
    """Return the files of a module and of what it imports, by the module's name, in the order of imports."""
    found: dict[str, Path] = {}
    left = deque([first])
    while left:
        name = left.popleft()
        file = None if name in found else _own_file(name)
        if file is not None:
            found[name] = file
            left += _imports(name, file)
    return found


def _own_file(name: str) -> Path | None:
    """Return the file of a module of the user's own; None if it is somebody else's, or none."""
    package = name.partition(".")[0]
    if package == _OURS or package in sys.stdlib_module_names or not _exists(name):
        return None
    spec = getattr(sys.modules.get(name), "__spec__", None) or find_spec(name)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    installed = _INSTALLED & {part.name for part in Path(spec.origin).parents}
    return None if installed else Path(spec.origin)


def _imports(module: str, file: Path) -> Iterator[str]:
    """Yield the names that may be modules in the import statements of a source file, in their order."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # an extension module
        return
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield from _with_parents(each.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from _with_parents(base)
            yield from (f"{base}.{each.name}" for each in node.names)


def _with_parents(name: str) -> Iterator[str]:
    """Yield `a`, `a.b`, `a.b.c` of a name: importing the last runs all."""
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))
