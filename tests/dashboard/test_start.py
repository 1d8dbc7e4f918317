"""`simserve dashboard`: on localhost only, on the folders named, with public names alone."""

from __future__ import annotations

import ast
import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

import simserve
from simserve.cli import dashboard as dashboard_cli
from simserve.cli.entry import app
from simserve.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "dashboard").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_public_names_are_used(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.module.startswith("simserve."), f"line {node.lineno}: {node.module}"
            if node.module == "simserve":
                assert {alias.name for alias in node.names} <= set(simserve.__all__)
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("simserve") for alias in node.names)


def test_it_listens_on_localhost_only(tmp_path: Path) -> None:
    command, environment = dashboard_cli.dashboard_command([str(tmp_path), "."], port=8600, browser=False)
    assert "--server.address=127.0.0.1" in command
    assert "--server.port=8600" in command
    assert "--logger.hideWelcomeMessage=true" in command, "our own line says where it is"
    folders = environment["SIMSERVE_DASHBOARD_DIRS"].split(os.pathsep)
    assert folders == [str(tmp_path.resolve()), str(Path.cwd())]
    with pytest.raises(InputError, match="no such folder"):
        dashboard_cli.dashboard_command([str(tmp_path / "none")], port=8600, browser=False)


def test_without_streamlit_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_cli, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'simserve\[dashboard\]'"):
        dashboard_cli.start_dashboard([], port=8501, browser=False)


def test_the_command_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], int, bool]] = []
    monkeypatch.setattr(
        dashboard_cli,
        "start_dashboard",
        lambda folders, *, port, browser: seen.append((folders, port, browser)),
    )
    done = CliRunner().invoke(app, ["dashboard", "here", "there", "--port", "9000", "--no-browser"])
    assert done.exit_code == 0, done.output
    assert seen == [(["here", "there"], 9000, False)]


def test_every_page_is_in_the_navigation(runs: Path) -> None:
    pytest.importorskip("streamlit")
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=60).run()
    assert not app.exception
    assert app.title[0].value == "Run"
    named = (ROOT / "dashboard" / "app.py").read_text()
    for path in (ROOT / "dashboard" / "views").glob("[a-z]*.py"):
        assert f"{path.stem}.show" in named


def test_a_taken_port_is_told_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = CliRunner().invoke(app, ["dashboard", str(tmp_path), "--port", str(port)])
    assert isinstance(done.exception, InputError)
    assert f"port {port} is taken; expected a free one: --port {port + 1}" in str(done.exception)
