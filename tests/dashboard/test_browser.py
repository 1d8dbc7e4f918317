"""The main path in a real browser: run the quickstart, look at it from all sides, compare two, open a sweep.

Screenshots of every page go to build/screenshots. Run with `make test-ui`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")
pytestmark = pytest.mark.ui

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """\
base: quickstart
axes:
  - {key: pools.0.hardware, values: [l40s, h100-sxm]}
  - {key: workload.trace.rate_scale, values: [0.5, 1, 2, 4]}
overrides: [pools.0.replicas=1, workload.trace.limit=60]
"""
# How far the first axis of the first picture reaches.
REACH = "document.querySelector('.js-plotly-plot')?.layout?.xaxis?.range?.[1]"
SHOTS = ROOT / "build" / "screenshots"
PATIENCE_MS = 90_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the dashboard is started with."""
    return tmp_path_factory.mktemp("ui")


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    """The dashboard on a folder of its own, with a sweep in it."""
    from simserve.cli.dashboard import dashboard_command

    (home / "sweep.yaml").write_text(SWEEP)
    subprocess.run(
        [sys.executable, "-m", "simserve", "sweep", str(home / "sweep.yaml"), "--out", str(home / "swept"),
         "--workers", "1", "--price", "l40s=1", "--price", "h100-sxm=3"],
        check=True, capture_output=True,
    )  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, environment = dashboard_command([str(home)], port=port, browser=False)
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health").close()
                break
            except OSError:
                assert time.monotonic() < deadline_s, "the dashboard does not start"
                time.sleep(0.2)
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, or the one that CHROMIUM names."""
    api = pytest.importorskip("playwright.sync_api")
    chromium = Path(os.environ.get("CHROMIUM") or "/usr/bin/chromium")
    if not chromium.exists():
        pytest.fail(f"there is no browser at {chromium}; name one in CHROMIUM")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        yield started
        started.close()


def open_tab(browser: Any, url: str, scheme: str = "light") -> Any:
    tab = browser.new_page(viewport={"width": 1400, "height": 1000}, color_scheme=scheme)
    tab.set_default_timeout(PATIENCE_MS)
    tab.goto(url)
    return tab


def settle(tab: Any) -> None:
    """Wait until the page's script has run: what is typed or chosen amid a run may be lost."""
    tab.wait_for_timeout(500)
    tab.locator('[data-test-script-state="notRunning"]').wait_for()


def shoot(tab: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    settle(tab)
    # Grey places stand where something is still being loaded.
    tab.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
    tab.wait_for_timeout(1000)
    tab.screenshot(path=str(SHOTS / f"{name}.png"))


def press_run(tab: Any) -> None:
    tab.get_by_role("button", name="Run", exact=False).filter(has_text="play_arrow").click()
    tab.get_by_text("Bottleneck.").wait_for()


def turn_to(tab: Any, name: str) -> None:
    tab.get_by_role("link", name=name).click()
    tab.get_by_role("heading", name=name, exact=True, level=1).wait_for()
    settle(tab)


def test_the_main_path(browser: Any, address: str) -> None:
    tab = open_tab(browser, address)
    tab.get_by_text("Press Run").wait_for()
    shoot(tab, "run")
    press_run(tab)
    tab.locator(".js-plotly-plot").first.wait_for()
    assert "p99 within 1 s" in tab.inner_text("body")
    settle(tab)
    tab.get_by_text("and its knobs").click()
    replicas = tab.get_by_role("spinbutton", name="replicas")
    replicas.fill("1")
    replicas.press("Enter")
    settle(tab)
    assert "pools.0.replicas=1" in tab.url, "the address holds the knobs"
    press_run(tab)
    tab.get_by_text("1 x h100-sxm").wait_for()
    tab.get_by_text("Done.").wait_for()
    settle(tab)
    tab.reload()
    tab.get_by_text("1 x h100-sxm").wait_for()
    settle(tab)
    with tab.context.expect_page() as opened:
        tab.get_by_role("link", name="compare it with the run before").click()
    opened.value.get_by_text("that took no longer").wait_for()
    opened.value.close()

    turn_to(tab, "Result")
    tab.locator(".js-plotly-plot").first.wait_for()
    tab.get_by_text("Load over time", exact=True).click()
    tab.get_by_text("KV blocks in use, share").wait_for()
    assert "result-picture=" in tab.url, "the address holds the view"
    shoot(tab, "result")
    dark = open_tab(browser, tab.url, "dark")
    dark.get_by_text("KV blocks in use, share").wait_for()
    shoot(dark, "result-dark")
    dark.close()

    turn_to(tab, "Memory")
    for text in ("One GPU", "KV blocks, ", "Empty places in last blocks"):
        tab.get_by_text(text).first.wait_for()
    shoot(tab, "memory")
    turn_to(tab, "Cluster")
    tab.get_by_text("router, least_outstanding").wait_for()
    tab.get_by_role("radio", name="KV use").click()
    tab.get_by_text("KV use: most KV blocks held").wait_for()
    assert "measure=KV" in tab.url
    slider = tab.get_by_role("slider").first
    slider.focus()
    slider.press("End")
    settle(tab)
    assert "at=" in tab.url, "the address holds the moment"
    shoot(tab, "cluster")

    turn_to(tab, "Compare")
    choice = tab.get_by_role("combobox")
    for _ in range(2):
        choice.click()
        tab.get_by_role("option").filter(has_text="simserve-runs").first.click()
        settle(tab)
    tab.keyboard.press("Escape")
    tab.get_by_text("that took no longer").wait_for()
    assert tab.url.count("runs=") == 2
    shoot(tab, "compare")

    turn_to(tab, "Roofline")
    tab.get_by_text("llama-3.1-8b on h100-sxm").wait_for()
    slider = tab.get_by_role("slider").first
    before = tab.get_by_test_id("stMetricValue").first.inner_text()
    slider.focus()
    slider.press("ArrowRight")
    tab.get_by_text("64 decoding at").wait_for()
    assert tab.get_by_test_id("stMetricValue").first.inner_text() != before
    assert "batch=64" in tab.url
    shoot(tab, "roofline")

    turn_to(tab, "Trace")
    tab.get_by_text("Arrivals in intervals").first.wait_for()
    shoot(tab, "trace")

    turn_to(tab, "Sweep")
    tab.get_by_text("Throughput against latency").wait_for()
    shoot(tab, "sweep")
    tab.locator(".js-plotly-plot .points path").first.click(force=True)
    tab.get_by_text("Open it on a page of its own").wait_for()
    tab.get_by_text("Bottleneck.").wait_for()
    tab.close()


def test_the_part_of_a_run_is_in_the_address(browser: Any, address: str) -> None:
    tab = open_tab(browser, f"{address}/result?result-picture=Requests")
    tab.get_by_text("Lives of").wait_for()
    settle(tab)
    slider = tab.get_by_role("slider").first
    slider.focus()
    for _ in range(3):
        slider.press("PageUp")
    tab.get_by_text("that lived from").wait_for()
    assert "result-part=" in tab.url
    again = open_tab(browser, tab.url)
    again.get_by_text("that lived from").wait_for()
    again.close()
    tab.close()


def test_a_result_of_100000_requests_opens_in_three_seconds(browser: Any, address: str, home: Path) -> None:
    import simserve

    # A page opens with the latest run, so the large one is made older.
    folder = simserve.simulate(simserve.load_scenario("benchmarks/64x100k")).write(home / "large")
    os.utime(folder, (0, 0))
    tab = open_tab(browser, f"{address}/result")
    tab.locator(".js-plotly-plot .main-svg").first.wait_for()
    settle(tab)
    before = tab.evaluate(REACH)
    choice = tab.get_by_role("combobox").first
    choice.click()
    choice.fill("large")
    option = tab.get_by_role("option", name="large", exact=True)
    option.wait_for()
    tab.wait_for_timeout(500)
    started_s = time.perf_counter()
    option.click()
    tab.get_by_text("benchmark 64x100k").first.wait_for()
    tab.wait_for_function(f"old => ({REACH}) && ({REACH}) !== old", arg=before)
    assert time.perf_counter() - started_s < 3
    tab.close()


@pytest.mark.parametrize("name", ["", "result", "memory", "cluster", "compare", "sweep", "roofline", "trace"])
def test_every_page_opens_in_the_dark(browser: Any, address: str, name: str) -> None:
    tab = open_tab(browser, f"{address}/{name}", "dark")
    tab.get_by_role("heading", level=1).wait_for()
    shoot(tab, f"{name or 'run'}-dark")
    assert not tab.get_by_test_id("stException").count()
    tab.close()
