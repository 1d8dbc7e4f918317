"""Norms, RoPE, activations, ...: `elementwise.parquet` with op, tokens, width, time_us.

And `llmcompass_vector_ops.parquet` with op, M, N, gelem_per_s.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from simserve.cost.calibrate.family import Family, family_rows
from simserve.cost.calibrate.tables import (
    measured_seconds,
    name_shapes,
    number_column,
    text_column,
)
from simserve.cost.kernels.elementwise import elementwise_form
from simserve.cost.kernels.form import Array, Constants, KernelForm

if TYPE_CHECKING:
    import pandas as pd

VECTOR_OPS = "llmcompass_vector_ops"


class Kind(NamedTuple):
    """What an operator does.

    Attributes:
        name: Of the kind.
        bytes_an_element: That it must move an element of `width`, from its definition, operands in 16 bits.
        by_rows: Whether each row is one thread block's.
    """

    name: str
    bytes_an_element: float
    by_rows: bool


# By its name in tables. A norm, RoPE, softmax, GELU and an embedding read and write each element once, an
# addition reads two. A sampler reads the logits as float32, a router's GEMM (v0 tables) its row.
_KINDS = {
    "layernorm": Kind("norm", 4.0, True), "qk_norm": Kind("head_norm", 4.0, False),
    "rope": Kind("rope", 4.0, True), "rotary_emb": Kind("rope", 4.0, True), "add": Kind("add", 6.0, False),
    "emb": Kind("embedding", 4.0, True), "embedding": Kind("embedding", 4.0, True),
    "mlp_act": Kind("activation", 4.0, True), "act_fn": Kind("activation", 4.0, True),
    "gelu": Kind("activation", 4.0, False), "softmax": Kind("softmax", 4.0, True),
    "sampler": Kind("sampler", 4.0, True), "gate": Kind("gate", 2.0, True),
}  # fmt: skip
_OTHER = Kind("other", 4.0, True)
# A gated activation reads gate and up and writes their product, all of `width`.
_GATED_BYTES = 2.0
# Models of these families normalise with LayerNorm; the others with RMSNorm, which 2024's PyTorch code
# spreads over several kernels.
_LAYER_NORM = re.compile(r"phi|gpt|opt-|bloom|falcon|mpt", re.IGNORECASE)
LAYER_NORM = "layer_norm"
# LLMServingSim's profiles hold, at every TP, one measurement of what it does not split: norms of queries and
# keys, and the experts' activation, whose widths are those of TP 1 whatever the tables say (equal times).
_REPEATING = "LLMServingSim"
_ROUTED = re.compile(r"moe|-a\d+b|\d+x\d+b", re.IGNORECASE)


class ElementwiseFamily(Family):
    """One operator a variant; the shape is the width of a row, over which the rows are swept."""

    name = "elementwise"
    stems = ("elementwise", VECTOR_OPS)

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with the shape columns of `ElementwiseForm`; see `Family.rows`."""
        op = text_column(table, "op")
        if stem == VECTOR_OPS:
            tokens, width = number_column(table, "M", minimum=1), number_column(table, "N", minimum=1)
            seconds = tokens * width / (number_column(table, "gelem_per_s", above=True) * 1e9)
        else:
            tokens = number_column(table, "tokens", minimum=1)
            width, seconds = number_column(table, "width", minimum=1), measured_seconds(table)
        names = [str(name) for name in op.cat.categories]
        kinds, codes = [kind_of(name) for name in names], op.cat.codes.to_numpy()
        an_element = np.array([kind.bytes_an_element for kind in kinds])[codes]
        by_rows = np.array([kind.by_rows for kind in kinds])[codes]
        if "gated" in table:
            activation = np.array([kind.name == "activation" for kind in kinds])[codes]
            gated = activation & (number_column(table, "gated", missing=0.0) > 0)
            an_element = an_element + _GATED_BYTES * gated
        width = width * _repeated(table, [kind.name for kind in kinds], codes)
        shape = {"width": width}
        if stem == VECTOR_OPS:
            # Tables of one row length or of one row count: either is swept.
            shape["tokens"] = tokens
        columns = {
            "tokens": tokens,
            "bytes": tokens * width * an_element,
            "width": width,
            "block_width": np.where(by_rows, width, 0.0),
        }
        return family_rows(
            stem,
            table,
            columns,
            op=op,
            variant=_variants(op, kinds, text_column(table, "model", default=""), width),
            shape=name_shapes(shape, "x".join(f"{{{name}}}" for name in shape)),
            seconds=seconds,
            framework="",
            dtype="float16",
        )

    def form(self, variant: str) -> KernelForm:
        """One form for all operators."""
        return elementwise_form()

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """Arithmetic does not bound them; any dtype's peak will do."""
        return "bfloat16"

    def generic(self, variant: str) -> Constants:
        """About the medians of the fits of all GPUs."""
        return {parameter.name: parameter.start for parameter in elementwise_form().parameters}

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """The form leaves steps of launches and caches along both sizes."""
        return (("tokens", 1.0), ("width", 1.0))

    def alternatives(self, variant: str, fitted: Collection[str]) -> list[str]:
        """Operators of the same kind, then norms, which most kernels of a layer are; none for serving's "".

        Most tables are of kernels launched one by one; inside a CUDA graph the generic constants hold.
        """
        if not variant:
            return []
        kind = kind_of(variant.partition("/")[0]).name
        alike = [name for name in sorted(fitted) if kind_of(name.partition("/")[0]).name == kind]
        return alike + [name for name in sorted(fitted) if "norm" in name and name not in alike]


def kind_of(op: str) -> Kind:
    """Return the kind of an operator by its name in tables."""
    return next((kind for name, kind in _KINDS.items() if op == name or op.endswith("_" + name)), _OTHER)


def _repeated(table: pd.DataFrame, kinds: list[str], codes: npt.NDArray[np.integer]) -> Array:
    """Return how many times its stated width a row's kernel was measured at."""
    if "source" not in table or "tp" not in table:
        return np.ones(len(table))
    source, model = text_column(table, "source"), text_column(table, "model", default="")
    repeating = np.array([str(name).startswith(_REPEATING) for name in source.cat.categories], bool)
    routed = np.array([bool(_ROUTED.search(str(name))) for name in model.cat.categories], bool)
    kind = np.array(kinds)[codes]
    wide = (kind == "head_norm") | (kind == "activation") & routed[model.cat.codes.to_numpy()]
    once = repeating[source.cat.codes.to_numpy()] & wide
    return np.where(once, number_column(table, "tp", minimum=1), 1.0)


def _variants(op: pd.Series[str], kinds: list[Kind], model: pd.Series[str], width: Array) -> pd.Series[str]:
    """The operator; norms of a model with LayerNorm, and samplers of each vocabulary, apart."""
    kind = np.array([kind.name for kind in kinds])[op.cat.codes.to_numpy()]
    layer_norms = [bool(_LAYER_NORM.search(str(name))) for name in model.cat.categories]
    normal = (kind == "norm") & np.array(layer_norms, bool)[model.cat.codes.to_numpy()]
    apart = np.where(normal, f"/{LAYER_NORM}", "").astype(object)
    # What a token is drawn from (top-k, top-p, all) is a model family's setting, as its vocabulary is.
    drawn = kind == "sampler"
    apart[drawn] = np.char.add("/", np.char.mod("%d", width[drawn]))
    named: pd.Series[str] = (op.astype(str) + apart).astype("category")
    return named


FAMILIES = (ElementwiseFamily(),)
