"""Imports go one way: a room may import the rooms above it in the list, and nothing below."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import simserve

PACKAGE = Path(simserve.__file__).parent
# docs/architecture.md, "The house"; rooms of one line may import each other.
LAYERS = (
    ("errors", "version"),
    ("units", "rng", "registry", "data_files"),
    ("workload",),
    ("model",),
    ("devices",),
    ("cost",),
    ("kvcache",),
    ("scheduler",),
    ("conformance",),
    ("engine",),
    ("cluster",),
    ("metrics",),
    ("scenario",),
    ("simulation",),
    ("study",),
    ("report",),
    ("testing",),
    ("cli",),
    ("__main__",),
)
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}
# The record of a run is pure columns, which the engine and the cluster write.
EXCEPTIONS = {("engine", "simserve.metrics.record"), ("cluster", "simserve.metrics.record")}
PURE = ("kvcache", "scheduler", "cost")
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and full name of every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; expected a full name"
            base = node.module or ""
            if base == "simserve":
                yield from ((node.lineno, f"simserve.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_above(path: Path) -> None:
    room = room_of(path)
    assert room in HEIGHT, f"{room} has no place in the layering"
    wrong = []
    for line, name in imports_of(path):
        if not name.startswith("simserve."):
            continue
        target = name.split(".")[1]
        assert target in HEIGHT, f"{path}:{line}: {name} has no place in the layering"
        allowed = target == room or HEIGHT[target] <= HEIGHT[room] or (room, name) in EXCEPTIONS
        if not allowed:
            wrong.append(f"{path}:{line}: {room} may not import {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", PURE)
def test_policies_and_prices_never_see_the_clock(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        assert not [name for _, name in imports_of(path) if name.split(".")[0] == "simpy"], path


def test_rooms_are_empty_at_their_door() -> None:
    for path in PACKAGE.glob("*/__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) <= 1, f"{path}: only a docstring may stand here, or every import pays for it"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("simserve", ("numpy", "pandas", "pydantic", "simpy", "typer", "yaml")),
        (
            "simserve.cli.entry",
            ("numpy", "pandas", "pyarrow", "pydantic", "simpy", "networkx", "yaml", "rich"),
        ),
        ("simserve.metrics.result", ("pandas", "pyarrow", "pydantic", "networkx", "rich")),
    ],
)
def test_importing_is_cheap(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
