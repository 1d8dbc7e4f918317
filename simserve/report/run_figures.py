"""Pictures of a run, from its folder: for the HTML report and the dashboard alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simserve.errors import UnknownNameError
from simserve.report.figure_style import Window
from simserve.report.latency_figures import latencies_over_time, latency_distributions
from simserve.report.life_figures import request_lives
from simserve.report.load_figures import load_over_time
from simserve.report.run_folder import RunFolder
from simserve.report.step_figures import step_durations, step_time

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Those that show time along their axis can be of a part of it.
_OVER_TIME: tuple[Callable[..., Any], ...] = (latencies_over_time, load_over_time, request_lives)
FIGURES: tuple[Callable[..., Any], ...] = (
    latency_distributions, latencies_over_time, load_over_time, request_lives, step_time, step_durations,
)  # fmt: skip
_BY_NAME = {draw.__name__: draw for draw in FIGURES}


def draw_run(run: RunFolder, picture: str, window_s: Window = None) -> go.Figure:
    """Draw one picture of a run, of at most 20,000 points.

    Args:
        run: The folder of a run.
        picture: "latency_distributions", "latencies_over_time", "load_over_time", "request_lives",
            "step_time" or "step_durations".
        window_s: From and to, in simulated seconds: what a picture over time shows, in as much detail as
            there is room for. None: the whole run; other pictures always show all of it.

    Raises:
        UnknownNameError: If there is no such picture.
        InputError: If a table of the run cannot be read, or is not there.
    """
    if picture not in _BY_NAME:
        raise UnknownNameError("picture", picture, list(_BY_NAME))
    draw = _BY_NAME[picture]
    figure: go.Figure = draw(run, window_s) if draw in _OVER_TIME else draw(run)
    return figure
