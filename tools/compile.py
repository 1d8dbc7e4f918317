"""Compiles the hot modules to C with mypyc: the same results, in half to two thirds of the CPU time.

`python tools/compile.py` copies the package into build/compiled and compiles the hot modules there; the
package in the checkout stays plain Python. `PYTHONPATH=build/compiled simserve run ...` uses the copy, and so
does `python -P -m simserve` (without `-P` the working directory comes first). Without a C compiler, Python's
headers or mypyc it says so and succeeds: plain Python does the same, slower.

Policies of the user's own run with the compiled package too, but for one: a class that extends the vLLM
scheduler needs plain Python, as a compiled class has no subclass in Python.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ("hardware", "models", "scenarios", "traces")
# What runs once a step, a block or a request; the rest of a run is start-up, numpy and writing, and what
# users subclass: routers, orders, eviction policies and the base of the other engine kinds.
HOT = (
    "workload/request.py",
    "cost/context_line.py",
    "cost/grid.py",
    "cost/roofline.py",
    "cost/timer.py",
    "kvcache/block_group.py",
    "kvcache/block_pool.py",
    "kvcache/chunk_keys.py",
    "kvcache/grouped.py",
    "kvcache/paged.py",
    "kvcache/pool.py",
    "kvcache/prefix_keys.py",
    "kvcache/run.py",
    "kvcache/run_pool.py",
    "scheduler/batch.py",
    "scheduler/config.py",
    "scheduler/contract.py",
    "scheduler/sequence.py",
    "scheduler/sglang/decoders.py",
    "scheduler/sglang/row.py",
    "scheduler/vllm/*.py",
    "engine/clock.py",
    "engine/draft_cost.py",
    "engine/instance.py",
    "engine/lockstep*.py",
    "engine/loop.py",
    "engine/step_log.py",
    "engine/stretch*.py",
    "engine/wave.py",
    "cluster/cluster.py",
    "cluster/recorder.py",
)
# -O1 compiles in half the time of -O3, and the result runs as fast. A fused multiply-add, which gcc uses on
# Arm unless told not to, rounds once where Python rounds twice: it would change results.
_FLAGS = {"MYPYC_OPT_LEVEL": "1", "MYPYC_DEBUG_LEVEL": "0"}
_C_FLAGS = "-ffp-contract=off"
# The hot modules use nothing of these libraries; reading their types would take twenty seconds.
_CONFIG = """[mypy]
[mypy-pandas.*,pyarrow.*,networkx.*,pydantic.*,typer.*,rich.*]
follow_imports = skip
ignore_missing_imports = True
"""
# The compiled file of every module is small beside the one that they share: let them not wait for it.
_SETUP = "[build_ext]\nparallel = 2\n"
_STAMP = "stamp"


def main() -> int:
    """Build the compiled package, or check it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "compiled", help="folder to build in")
    parser.add_argument("--check", action="store_true", help="build nothing; exit 1 if it is not up to date")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    if options.check:
        return 0 if is_current(out) else 1
    missing = missing_tool()
    if missing:
        print(f"not compiled, plain Python is used: {missing}")
    elif is_current(out):
        print(f"{_shown(out)} is up to date; {_usage(out)}")
    else:
        started = time.perf_counter()
        copy_package(out)
        if not compile_modules(out):
            print(f"mypyc failed; its output is in {_shown(out / 'compile.log')}", file=sys.stderr)
            return 1
        # The other modules as byte code, also where Python is told not to write any.
        compileall.compile_dir(out / "simserve", quiet=1)
        (out / _STAMP).write_text(digest() + "\n")
        print(
            f"compiled {len(hot_modules())} modules in {time.perf_counter() - started:.0f} s; {_usage(out)}"
        )
    return 0


def missing_tool() -> str:
    """Return which tool of the compilation this machine lacks, "" for none."""
    if importlib.util.find_spec("mypyc") is None or importlib.util.find_spec("setuptools") is None:
        return "mypyc and setuptools are not installed (the extra `dev` has them)"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cl")[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python's C headers are not installed (python3-dev or python3-devel)"
    return ""


def sources() -> list[Path]:
    """Return the files of the package that are copied, sorted."""
    return sorted([*(ROOT / "simserve").rglob("*.py"), ROOT / "simserve" / "py.typed"])


def hot_modules() -> list[str]:
    """Return the modules to compile, relative to the package, sorted."""
    package = ROOT / "simserve"
    found = {path.relative_to(package).as_posix() for pattern in HOT for path in package.glob(pattern)}
    return sorted(name for name in found if not name.endswith("__init__.py"))


def digest() -> str:
    """Return a hash of all that the compiled package depends on: sources, this tool, Python, mypyc."""
    mypy = version("mypy") if importlib.util.find_spec("mypyc") else "no mypy"
    made_with = f"{sys.implementation.cache_tag} {sysconfig.get_platform()} {mypy}"
    total = hashlib.sha256(made_with.encode())
    for path in (Path(__file__).resolve(), *sources()):
        content = path.read_bytes()
        total.update(f"\n{path.relative_to(ROOT).as_posix()} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


def is_current(out: Path) -> bool:
    """Say whether `out` holds a complete build of the sources as they are now."""
    stamp = out / _STAMP
    return stamp.is_file() and stamp.read_text().strip() == digest()


def copy_package(out: Path) -> None:
    """Empty `out`, copy the package into it, and put the data folders beside it, where it looks for them.

    Raises:
        SystemExit: If `out` holds something that this tool did not make.
    """
    if out.exists():
        if any(out.iterdir()) and not (out / "mypy.ini").is_file():
            raise SystemExit(f"{out} holds something else; name another folder, or empty it")
        shutil.rmtree(out)
    for path in sources():
        target = out / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (out / "mypy.ini").write_text(_CONFIG)
    (out / "setup.cfg").write_text(_SETUP)
    for name in DATA:
        try:
            (out / name).symlink_to(os.path.relpath(ROOT / name, out), target_is_directory=True)
        except OSError:  # Windows, without the right to make links
            shutil.copytree(ROOT / name, out / name)


def compile_modules(out: Path) -> bool:
    """Compile the hot modules of the copy in place; return whether that succeeded.

    An extension module stands beside its source, and Python prefers it. mypyc's own output goes to
    compile.log, and what only the compilation needs is removed.
    """
    environment = {**os.environ, **_FLAGS, "CFLAGS": f"{os.environ.get('CFLAGS', '')} {_C_FLAGS}".strip()}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-m", "mypyc", "--config-file", "mypy.ini"]
    modules = hot_modules()
    command += [f"simserve/{module}" for module in modules]
    with (out / "compile.log").open("w") as log:
        done = subprocess.run(command, cwd=out, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode:
        return False
    shutil.rmtree(out / "build")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return all((out / "simserve" / module).with_suffix(suffix).is_file() for module in modules)


def _usage(out: Path) -> str:
    """Return how a compiled package is used from the checkout."""
    return f"use it with: PYTHONPATH={_shown(out)} {_shown(Path(sys.executable).parent)}/simserve run ..."


def _shown(path: Path) -> str:
    """Return a path as seen from the checkout."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
