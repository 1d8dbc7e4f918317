"""The built wheel carries the data folders and runs the quickstart from anywhere."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What a wheel is built from; not .venv, build outputs or caches.
SOURCES = (
    "pyproject.toml", "README.md", "LICENSE", "dashboard", "simserve", "hardware", "models", "scenarios",
    "traces",
)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, folder / "src" / name, ignore=ignore)
        else:
            (folder / "src").mkdir(exist_ok=True)
            shutil.copy(source, folder / "src" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*command, "--wheel-dir", str(folder), str(folder / "src"), cwd=folder)
    (built,) = folder.glob("simserve-*.whl")
    return built


def run(*command: str, cwd: Path) -> str:
    # Nothing of the checkout may be found by chance.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_carries_the_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for kind, ending in (
        ("dashboard", ".py"),
        ("hardware", ".yaml"),
        ("models", ".json"),
        ("scenarios", ".yaml"),
        ("traces", ".gz"),
    ):
        assert any(name.startswith(f"simserve/data/{kind}/") and name.endswith(ending) for name in names), (
            kind
        )
    assert "simserve/py.typed" in names


def test_an_installed_wheel_runs_the_quickstart_elsewhere(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "fresh"
    venv.create(home, with_pip=False, symlinks=True)
    python = str(home / "bin" / "python")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = home / "lib" / version / "site-packages"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, str(wheel), cwd=tmp_path)
    lend_dependencies(packages)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = run(python, "-c", "import simserve; print(simserve.__file__)", cwd=elsewhere).strip()
    assert Path(where).is_relative_to(home), "the wheel's own copy runs, not the checkout's"
    simserve = str(home / "bin" / "simserve")
    out = run(simserve, "run", "scenarios/quickstart.yaml", "--json", cwd=elsewhere)
    summary = json.loads(out)
    assert summary["completed"] > 0
    assert summary["failed"] == summary["unfinished"] == 0
    listed = json.loads(run(simserve, "list", "hardware", "--json", cwd=elsewhere))
    assert "h100-sxm" in [entry["name"] for entry in listed["hardware"]]


def lend_dependencies(packages: Path) -> None:
    """Link the installed dependencies into a venv, without the editable simserve among them."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    for folder in map(Path, folders):
        for entry in folder.iterdir() if folder.is_dir() else ():
            ours = "simserve" in entry.name
            target = packages / entry.name
            if not ours and entry.suffix != ".pth" and not target.exists():
                target.symlink_to(entry)
