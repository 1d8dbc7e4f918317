"""The main path in a real browser: run the quickstart, look at it, its memory and cluster, compare two, move sliders.

Screenshots of every page go to build/screenshots. Run with `make test-ui`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")
pytestmark = pytest.mark.ui

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "build" / "screenshots"
PATIENCE_MS = 90_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dashboard on a folder of its own."""
    from simserve.cli.dashboard import dashboard_command

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, environment = dashboard_command([str(tmp_path_factory.mktemp("ui"))], port=port, browser=False)
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
    replicas = tab.get_by_role("spinbutton", name="replicas")
    replicas.fill("1")
    replicas.press("Enter")
    settle(tab)
    press_run(tab)
    tab.get_by_text("Done.").wait_for()

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
    for text in ("One GPU", "KV blocks, instance 0", "Empty places in last blocks"):
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
    assert "at=100" in tab.url, "the address holds the moment"
    shoot(tab, "cluster")

    turn_to(tab, "Compare")
    choice = tab.get_by_role("combobox")
    for _ in range(2):
        choice.click()
        tab.get_by_role("option").first.click()
        settle(tab)
    tab.get_by_text("Share of requests that took no longer").wait_for()
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

    for name, text in (("Trace", "Arrivals in intervals"), ("Sweep", "There is no sweep")):
        turn_to(tab, name)
        tab.get_by_text(text).first.wait_for()
        shoot(tab, name.lower())
    tab.close()
