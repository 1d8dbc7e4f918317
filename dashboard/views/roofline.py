"""*Roofline*: one step of a model on an accelerator, each operator a point; sliders move them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from dashboard.plots import format_figure, page, percent, show_figure, show_metrics, show_table
from dashboard.run_choice import tell_unknown
from simserve import catalog_names, draw_roofline
from simserve import roofline as find_roofline

if TYPE_CHECKING:
    import pandas as pd

_BATCHES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_CONTEXTS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_PROMPTS = (0, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_RANKS = (1, 2, 4, 8)
_FACTORS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
_AS_PUBLISHED = "as published"
_PRECISIONS = (_AS_PUBLISHED, "fp8", "int8", "awq")
_KV_PRECISIONS = (_AS_PUBLISHED, "fp8")


@page
def show() -> None:
    """Show the page."""
    st.title("Roofline")
    knobs, picture = st.columns([1, 3], gap="large")
    with knobs:
        model, hardware = _ask_names()
        batch = _slide("Decoding requests", _BATCHES, 32, "batch")
        context = _slide("Context of each, tokens", _CONTEXTS, 2048, "context")
        prefill = _slide("Prompt in the same step, tokens", _PROMPTS, 0, "prefill")
        ranks = _slide("Tensor parallel", _RANKS, 1, "tp")
        quantization = _precision("Precision of the weights", _PRECISIONS, "quantization")
        kv_cache_dtype = _precision("Precision of the KV cache", _KV_PRECISIONS, "kv_cache_dtype")
        st.caption("What if the hardware had this many times its")
        factors = {name: _factor(name) for name in ("bandwidth", "flops", "link")}
    if not batch and not prefill:
        picture.info("An empty step: move *Decoding requests* or *Prompt* up.", icon=":material/lightbulb:")
        return
    changed = ",".join(f"{name}={factor}x" for name, factor in factors.items() if factor != 1)
    found = find_roofline(
        model, hardware, batch=int(batch), context=int(context), prefill=int(prefill),
        tensor_parallel_size=int(ranks), quantization=quantization, kv_cache_dtype=kv_cache_dtype,
        what_if=changed or None,
    )  # fmt: skip
    step = found.step
    with picture:
        largest = max(step.rows, key=lambda row: row.share)
        figures = [
            (
                "Step",
                f"{step.step_s * 1e3:.3g} ms",
                f"{format_figure(round(batch / step.step_s))} tokens/s",
                "gray",
            ),
            ("Speed of light", percent(step.ideal_s / step.step_s), f"{step.ideal_s * 1e3:.3g} ms", "gray"),
            ("Largest part", percent(largest.share), largest.operator, "gray"),
        ]
        if prefill:
            rate = f"{format_figure(round(prefill / step.step_s))}/s"
            figures.insert(1, ("Prompt tokens", rate, f"{prefill:,} in each step", "gray"))
        if found.changed is not None:
            ratio = found.changed.step_s / step.step_s
            gain = "green" if ratio < 1 else "red" if ratio > 1 else "gray"
            figures.append(("What if", f"{found.changed.step_s * 1e3:.3g} ms", f"{ratio - 1:+.1%}", gain))
        show_metrics([(label, value, remark, color) for label, value, remark, color in figures])
        figure = draw_roofline(found).update_layout(legend={"orientation": "h", "y": -0.15})
        show_figure(figure, "roofline")
    show_table(_table(found.as_dict()), "operators")


def _ask_names() -> tuple[str, str]:
    models, accelerators = catalog_names("models"), catalog_names("hardware")
    tell_unknown("model", models)
    tell_unknown("hardware", accelerators)
    model = st.selectbox(
        "Model", models, index=models.index("llama-3.1-8b"), key="model", bind="query-params"
    )
    hardware = st.selectbox(
        "Hardware", accelerators, index=accelerators.index("h100-sxm"), key="hardware", bind="query-params"
    )
    return model, hardware


def _slide(label: str, options: tuple[int, ...], value: int, key: str) -> int:
    chosen: int = st.select_slider(label, options, value, key=key, bind="query-params")
    return chosen


def _precision(label: str, options: tuple[str, ...], key: str) -> str | None:
    """Ask for a precision; None: as the model is published."""
    chosen: str = st.select_slider(label, options, _AS_PUBLISHED, key=key, bind="query-params")
    return None if chosen == _AS_PUBLISHED else chosen


def _factor(name: str) -> float:
    label = {"bandwidth": "memory bandwidth", "flops": "FLOP/s", "link": "link rate"}[name]
    chosen: float = st.select_slider(
        label, _FACTORS, 1.0, key=name, bind="query-params", format_func=lambda factor: f"{factor:g}x"
    )
    return chosen


def _table(found: dict[str, list[dict[str, float]]]) -> pd.DataFrame:
    """Return a row an operator, in units that people read."""
    import pandas as pd

    rows = pd.DataFrame(found["operators"]).drop(columns=["calibration", "family"])
    table = pd.DataFrame(
        {
            "operator": rows["operator"],
            "bound": rows["bound"],
            "launches": rows["launches"],
            "µs": rows["seconds"] * 1e6,
            "share, %": rows["share"] * 100,
            "of light, %": rows["speed_of_light"].astype(float) * 100,
            "GFLOPs": rows["flops"] / 1e9,
            "MB": rows["bytes"] / 1e6,
            "FLOP/byte": rows["intensity"].astype(float),
        }
    )
    return table.round(2)
