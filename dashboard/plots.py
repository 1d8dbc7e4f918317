"""Pictures and tables on a page, each with its download."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import wraps
from io import StringIO
from math import isnan
from typing import TYPE_CHECKING, Any

import streamlit as st

from simserve import SimserveError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

# Told apart on light and on dark grounds, and by people who do not tell red from green.
COLORS = ("#4c8bd6", "#e07a5f", "#3fa58a", "#d9a521", "#a06cd5", "#8d99ae")
# Less empty space around a page than Streamlit leaves, so that figures and picture fit on one screen.
_ROOM = "<style>.stMainBlockContainer{padding:1rem 3rem 3rem}.stMainBlockContainer h1{padding-top:0}</style>"
# What Markdown, and Streamlit's directives in it, would read as more than a letter.
_MARKS = re.compile(r"([\\`*_{}\[\]()#!|$<>~:&^])")
GOOD, FAIR, BAD = "#3fa58a", "#d9a521", "#d1495b"


def page(show: Callable[[], None]) -> Callable[[], None]:
    """Return a page that tells an error of its input in one message, not as a traceback."""

    @wraps(show)
    def guarded() -> None:
        st.html(_ROOM)
        try:
            show()
        except SimserveError as error:
            show_error(error, "Change what it names above, or choose another run; nothing has been lost.")

    return guarded


def show_error(error: object, advice: str) -> None:
    """Show an error, a line of it a line, and below what to do."""
    st.error("  \n".join(map(plain_text, str(error).splitlines())), icon=":material/error:")
    st.caption(advice)


def plain_text(text: object) -> str:
    """Return a text for places that show Markdown, where it will read as it is: names may be a stranger's."""
    return _MARKS.sub(r"\\\1", " ".join(str(text).split()))


def show_figure(figure: go.Figure, name: str, table: Callable[[], pd.DataFrame] | None = None) -> None:
    """Show a picture in the page's colours, and offer it as PNG (its camera) and as an HTML file.

    Args:
        figure: The picture.
        name: Of the files.
        table: Makes what is drawn as a table, to be offered as CSV beside it.
    """
    st.plotly_chart(figure, **_options(figure, name))
    with st.container(horizontal=True):
        _offer_html(figure, name)
        if table is not None:
            offer_csv(table, name)


def pick_point(figure: go.Figure, name: str) -> str | None:
    """Show a picture as `show_figure` does, and return the `customdata` of the point that was clicked."""
    picked = st.plotly_chart(figure, **_options(figure, name), on_select="rerun", selection_mode="points")
    _offer_html(figure, name)
    return picked_of(picked)


def picked_of(state: Any) -> str | None:
    """Return the `customdata` of the first selected point; None if there is none."""
    points = state["selection"]["points"] if state and "selection" in state else []
    found = points[0].get("customdata") if points else None
    found = found[0] if isinstance(found, list | tuple) and found else found
    return None if found is None else str(found)


def _options(figure: go.Figure, name: str) -> dict[str, Any]:
    # The ground and the letters are those of the page, light or dark.
    figure.update_layout(template=None, margin={"l": 60, "r": 20, "t": 60, "b": 50})
    camera = {"format": "png", "filename": name, "scale": 2}
    config = {"displaylogo": False, "toImageButtonOptions": camera}
    return {"width": "stretch", "key": f"figure-{name}", "config": config}


def _offer_html(figure: go.Figure, name: str) -> None:
    st.download_button(
        "HTML", lambda: figure.to_html(include_plotlyjs=True), f"{name}.html", "text/html",
        key=f"html-{name}", icon=":material/download:", type="tertiary", on_click="ignore",
    )  # fmt: skip


def show_table(frame: pd.DataFrame | pd.io.formats.style.Styler, name: str, **options: Any) -> None:
    """Show a table, and offer it as CSV."""
    st.dataframe(frame, hide_index=True, width="stretch", placeholder="–", **options)
    given: Any = frame
    plain: pd.DataFrame = getattr(given, "data", given)
    offer_csv(lambda: plain, name)


def show_small_table(frame: pd.DataFrame, name: str) -> None:
    """Show a table of a few rows as text, and offer it as CSV.

    The grid of `show_table` is over a megabyte of JavaScript, which a page of figures can do without.
    """
    head = "| " + " | ".join(map(_cell, frame.columns)) + " |"
    rule = "|:---|" + "---:|" * (len(frame.columns) - 1)
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in frame.astype(object).itertuples(index=False)]
    st.markdown("\n".join((head, rule, *rows)))
    offer_csv(lambda: frame, name)


def _cell(value: object) -> str:
    missing = value is None or (isinstance(value, float) and isnan(value))
    return plain_text(format_figure(None if missing else value))


def offer_csv(make: Callable[[], pd.DataFrame], name: str) -> None:
    """Offer a table as CSV; it is made when it is asked for."""

    def text() -> str:
        out = StringIO()
        make().to_csv(out, index=False)
        return out.getvalue()

    st.download_button(
        "CSV", text, f"{name}.csv", "text/csv",
        key=f"csv-{name}", icon=":material/download:", type="tertiary", on_click="ignore",
    )  # fmt: skip


def show_metrics(figures: Sequence[tuple[str, str] | tuple[str, str, str, str]]) -> None:
    """Show figures side by side: label, value, and if need be a remark and its colour."""
    for column, figure in zip(st.columns(len(figures)), figures, strict=True):
        label, value, *remark = figure
        shown: dict[str, Any] = {}
        if remark:
            shown = {"delta": remark[0], "delta_color": remark[1], "delta_arrow": "off"}
        column.metric(label, value, border=True, height="stretch", **shown)


def format_figure(value: object) -> str:
    """Return a figure as people read it: grouped, and no more than four digits that count."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def format_change(percents: object) -> str:
    """Return a change in per cent as people read it: "=" for none, from ten times as much on the factor."""
    if not isinstance(percents, int | float) or isnan(percents):
        return "–"
    if not percents:
        return "="
    factor = percents / 100 + 1
    if factor < 10:
        return f"{percents:+.1f}"
    return f"x{factor:,.0f}" if factor >= 100 else f"x{factor:.3g}"


def percent(value: float | None) -> str:
    """Return a share in per cent, "–" where it is not known."""
    return "–" if value is None else f"{value:.1%}"
