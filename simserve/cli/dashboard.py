"""`simserve dashboard`: starts Streamlit on this machine alone."""

from __future__ import annotations

import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from simserve.data_files import data_folder
from simserve.errors import InputError

# As in dashboard/folders.py, which is not imported here.
_VARIABLE = "SIMSERVE_DASHBOARD_DIRS"


def start_dashboard(folders: list[str], *, port: int, browser: bool) -> None:
    """Become the dashboard's process.

    Args:
        folders: What it may open; [] is the working directory.
        port: Where it listens, on localhost only.
        browser: Whether to open a browser.

    Raises:
        InputError: If a folder does not exist, the port is taken, or Streamlit or plotly is not installed.
    """
    missing = [name for name in ("streamlit", "plotly") if find_spec(name) is None]
    if missing:
        raise InputError(f"the dashboard needs {' and '.join(missing)}: pip install 'simserve[dashboard]'")
    command, environment = dashboard_command(folders, port=port, browser=browser)
    _check_port(port)
    served = environment[_VARIABLE].replace(os.pathsep, ", ")
    print(f"simserve dashboard at http://localhost:{port}, over {served}; Ctrl-C ends it")
    sys.stdout.flush()
    os.execve(command[0], command, environment)


def _check_port(port: int) -> None:
    """Refuse a port that somebody listens on: Streamlit would end without a word of --port."""
    with socket.socket() as probe:
        # As the server will: what a connection has just left behind does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise InputError(f"port {port} is taken; expected a free one: --port {port + 1}") from None


def dashboard_command(folders: list[str], *, port: int, browser: bool) -> tuple[list[str], dict[str, str]]:
    """Return the command line that serves the dashboard, and its environment.

    Raises:
        InputError: If a folder does not exist.
    """
    wanted = [Path(folder).expanduser().resolve() for folder in folders or ["."]]
    for folder in wanted:
        if not folder.is_dir():
            raise InputError("no such folder", file=str(folder))
    home = data_folder("dashboard")
    options = {
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.headless": "false" if browser else "true",
        "server.showEmailPrompt": "false",
        "server.fileWatcherType": "none",
        "server.maxUploadSize": "50",
        # Our own line has said where it is, and that Ctrl-C ends it.
        "logger.hideWelcomeMessage": "true",
        "logger.level": "error",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": "localhost",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "type",
    }
    # -P: no module is taken from the working directory, where a stranger's files may lie.
    command = [sys.executable, "-P", "-m", "dashboard.server", "run", str(home / "app.py")]
    command += [f"--{name}={value}" for name, value in options.items()]
    path = [str(home.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        _VARIABLE: os.pathsep.join(map(str, wanted)),
    }
    return command, environment
