"""Processes: which of them is to blame for a death, and that none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simserve.errors import InputError
from simserve.study.executor import MOST_TRIES, Died, InProcess, LocalExecutor


def call(text: str) -> str:
    """Return it in capitals; "die" kills the process, "err" is bad input, a path kills it the first time."""
    if text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "err":
        raise InputError("bad")
    if text.startswith("/") and not Path(text).exists():
        Path(text).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return text.upper()


def run(executor: LocalExecutor | InProcess, *texts: str) -> dict[str, str | Died]:
    queue = iter(texts)
    return dict(executor.run(call, lambda: next(queue, None)))


def test_this_process_calls_one_after_the_other() -> None:
    assert run(InProcess(), "a", "b") == {"a": "A", "b": "B"}


def test_who_kills_its_process_is_found_out_and_the_innocent_end(tmp_path: Path) -> None:
    once = str(tmp_path / "once")
    found = run(LocalExecutor(2), "a", "die", "b", once)
    assert {key: value for key, value in found.items() if not isinstance(value, Died)} == {
        **{text: text.upper() for text in "ab"},
        once: once.upper(),
    }
    died = found["die"]
    assert isinstance(died, Died)
    assert f"died {MOST_TRIES} times" in died.reason


def test_what_a_call_raises_ends_the_run() -> None:
    with pytest.raises(InputError, match="bad"):
        run(LocalExecutor(1), "err")


def test_no_process_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    """A worker that is idle would wait for work for ever."""
    script = (
        "import os, time\n"
        "from simserve.study.executor import LocalExecutor\n"
        "if __name__ == '__main__':\n"
        "    names = iter(['a', 'b'])\n"
        "    for _ in LocalExecutor(2).run(str.upper, lambda: next(names, None)):\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
    )
    (tmp_path / "parent.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert len(of_session(process.pid)) > 1
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while (left := of_session(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def of_session(session: int) -> list[int]:
    """Return the processes of a session that live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found
