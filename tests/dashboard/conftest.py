"""The dashboard's pages without a browser, on a folder of small runs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import simserve

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]
FEW = ("workload.trace.limit=60",)


def write_run(folder: Path, *overrides: str) -> Path:
    return simserve.simulate(simserve.load_scenario("quickstart", [*FEW, *overrides])).write(folder)


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, a trace and a scenario."""
    folder = tmp_path_factory.mktemp("dashboard")
    write_run(folder / "two")
    write_run(folder / "one", "pools.0.replicas=1", "pools.0.engine.max_num_seqs=4")
    return folder


@pytest.fixture
def runs(made_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the folder that the dashboard was started with."""
    monkeypatch.setenv("SIMSERVE_DASHBOARD_DIRS", str(made_runs))
    return made_runs


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the dashboard was started with."""
    monkeypatch.setenv("SIMSERVE_DASHBOARD_DIRS", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # As `simserve dashboard` does it for its process.
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    yield
    streamlit = sys.modules.get("streamlit")
    if streamlit is not None:
        streamlit.cache_data.clear()
        streamlit.cache_resource.clear()


@pytest.fixture
def open_page() -> Callable[..., AppTest]:
    """Return a function that opens a page of the dashboard, given its name and its part of the address."""
    from streamlit.testing.v1 import AppTest

    def open_one(name: str, **query: str) -> AppTest:
        app = AppTest.from_string(f"from dashboard.views import {name}\n{name}.show()\n", default_timeout=60)
        for key, value in query.items():
            app.query_params[key] = value
        return app.run()

    return open_one


@pytest.fixture
def words_of() -> Callable[[AppTest], str]:
    """Return a function that collects all that a page says in boxes and text, as it reads."""

    def collect(app: AppTest) -> str:
        kinds = (app.error, app.warning, app.info, app.success, app.caption, app.markdown, app.subheader)
        text = "\n".join(str(element.value) for kind in kinds for element in kind)
        return re.sub(r"\\(_|[^\w\s])", r"\1", text)

    return collect
