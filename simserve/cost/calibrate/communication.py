"""Collectives and sends: `comm.parquet` with kernel, op, num_gpus, gpus_per_node, bytes, time_us."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.calibrate.family import Family, family_rows
from simserve.cost.calibrate.tables import (
    bad_row,
    name_shapes,
    number_column,
    text_column,
)
from simserve.cost.kernels.collective import (
    ALL_GATHER,
    ALL_REDUCE,
    ALL_TO_ALL,
    OPERATIONS,
    REDUCE_SCATTER,
    SEND,
    collective_form,
)
from simserve.cost.kernels.form import Constants, KernelForm
from simserve.errors import nearest

if TYPE_CHECKING:
    import pandas as pd

# Spellings of operations in tables.
SPELLINGS = {"alltoall": ALL_TO_ALL, "send_recv": SEND, "sendrecv": SEND}
_MAX_RANKS = 1024.0
# A variant that ends so joins several hosts.
ACROSS = "across"
# Fitted to all measured GPUs together: vLLM's captured all-reduce, NCCL for the others. A GPU left out is off
# by 24 % over NVLink and by 90 % over PCIe (all-reduce), by 22 to 29 % (gathers, exchanges), by 40 % (sends).
_GATHERED: dict[str, float] = {
    "short_s": 6.48e-6, "short_rank_s": 1.09e-6, "short_link_efficiency": 0.224, "long_s": 2.53e-5,
    "long_rank_s": 1.46e-6, "long_link_efficiency": 0.642, "in_switch_efficiency": 0.6, "host_rank_s": 1e-9,
    "host_share": 0.577, "p": 1.05,
}  # fmt: skip
_GENERIC: dict[str, dict[str, float]] = {
    ALL_REDUCE: {
        "short_s": 5.33e-6, "short_rank_s": 1e-9, "short_link_efficiency": 0.472, "long_s": 2.44e-5,
        "long_rank_s": 1e-9, "long_link_efficiency": 0.661, "in_switch_efficiency": 0.543,
        "host_rank_s": 1.91e-6, "host_share": 0.496, "p": 1.0,
    },
    ALL_GATHER: _GATHERED,
    REDUCE_SCATTER: _GATHERED,
    ALL_TO_ALL: _GATHERED,
    SEND: {
        "short_s": 6.29e-6, "short_rank_s": 4.33e-7, "short_link_efficiency": 0.195, "long_s": 1.37e-5,
        "long_rank_s": 9.88e-7, "long_link_efficiency": 0.78, "in_switch_efficiency": 0.6,
        "host_rank_s": 4.6e-6, "host_share": 0.369, "p": 1.73,
    },
}  # fmt: skip
# Fitted with two algorithms: the middle one is the long one.
GENERIC: dict[str, Constants] = {
    operation: {
        **constants,
        "middle_s": constants["long_s"],
        "middle_rank_s": constants["long_rank_s"],
        "middle_link_efficiency": constants["long_link_efficiency"],
        "pair_speedup": 1.0,
        "crowding": 0.0,
    }
    for operation, constants in _GENERIC.items()
}
# Kernels for serving, best first: what engines capture into CUDA graphs, then NCCL, then anything measured.
_KERNELS = (
    "vLLM_custom_graph", "NCCL", "nccl", "SGLang_CustomAllReduce_graph", "TRTLLM", "oneCCL",
    "vLLM_custom_eager", "SGLang_CustomAllReduce_eager",
)  # fmt: skip


def serving_variants(
    operation: str, fitted: Collection[str], across: bool = False, engine_version: str = ""
) -> list[str]:
    """Return the fitted variants that may price an operation in serving, best first.

    By kernel, then by version: of the engine's own kernels the last one that is no newer than the engine, of
    others the newest.

    Args:
        operation: One of `OPERATIONS`.
        fitted: Variants that are fitted on the accelerator.
        across: Over several hosts, where such were measured.
        engine_version: vLLM's release, as `0.19`; "": the newest.
    """
    parts = {variant: variant.split("/") for variant in sorted(fitted)}
    mine = [name for name, part in parts.items() if part[0] == operation and (part[-1] == ACROSS) == across]
    return sorted(mine, key=lambda name: _rank(parts[name][1], parts[name][2], engine_version))


def _rank(kernel: str, version: str, engine_version: str) -> tuple[int, bool, list[int]]:
    place = _KERNELS.index(kernel) if kernel in _KERNELS else len(_KERNELS)
    numbers = _numbers(version)
    engine = _numbers(engine_version)
    newer = kernel.startswith("vLLM") and bool(engine) and numbers[: len(engine)] > engine
    return place, newer, [number if newer else -number for number in numbers]


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


class CommunicationFamily(Family):
    """Collectives of one operation and kernel; the shape is the message's size, whatever the ranks."""

    name = "communication"
    stems = ("comm",)

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with the shape columns of `CollectiveForm`; see `Family.rows`."""
        import pandas as pd

        # Some tables begin with an empty message: it takes as long as one byte.
        size = np.maximum(number_column(table, "bytes"), 1.0)
        # Sixteen rows of a table name a million GPUs, by a slip of columns; no group is larger than this.
        ranks = np.minimum(number_column(table, "num_gpus", minimum=2), _MAX_RANKS)
        a_node = np.zeros(len(table))
        if "gpus_per_node" in table:
            a_node = number_column(table, "gpus_per_node", missing=0.0)
        across = (a_node > 0) & (a_node < number_column(table, "num_gpus"))
        op, kernel = text_column(table, "op"), text_column(table, "kernel", default="")
        names = pd.Series(op.astype(str) + "/" + kernel.astype(str), table.index)
        operations = {str(name): _operation(table, op, str(name)) for name in op.cat.categories}
        version = text_column(table, "version", default="")
        named = op.map(operations).astype(str) + "/" + kernel.astype(str) + "/" + version.astype(str)
        variants = pd.Series(np.where(across, named + f"/{ACROSS}", named), table.index)
        columns = {"bytes": size, "ranks": ranks, "across": np.where(across, 1.0, 0.0)}
        return family_rows(
            stem,
            table,
            columns,
            op=names.astype("category"),
            variant=variants.astype("category"),
            shape=name_shapes({"bytes": size}, "{bytes}"),
            dtype="",
        )

    def form(self, variant: str) -> KernelForm:
        """The form of the variant's operation."""
        return collective_form(variant.partition("/")[0])

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """Sums are bound by links; any dtype's peak will do."""
        return "bfloat16"

    def generic(self, variant: str) -> Constants:
        """See `GENERIC`."""
        return GENERIC.get(variant.partition("/")[0], GENERIC[ALL_GATHER])

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """Libraries change protocols with size and ranks: interpolated between measured sizes."""
        return (("bytes", 1.0), ("ranks", 6.0))

    def residual_shrinkage(self, variant: str) -> float:
        """Messages are measured often: what a size lacks is no scatter."""
        return 0.02

    def alternatives(self, variant: str, fitted: Collection[str]) -> list[str]:
        """Other versions of the kernel, newest first, then the operation's other kernels."""
        operation, *rest = variant.split("/")
        others = serving_variants(operation, fitted, across=rest[-1:] == [ACROSS])
        return sorted(others, key=lambda name: name.split("/")[1:2] != rest[:1])


def _operation(table: pd.DataFrame, op: pd.Series[str], name: str) -> str:
    """Return the operation by a table's spelling.

    Raises:
        InputError: If there is none.
    """
    operation = SPELLINGS.get(name, name)
    if operation not in OPERATIONS:
        row = int(np.flatnonzero((op == name).to_numpy())[0])
        known = (*OPERATIONS, *SPELLINGS)
        raise bad_row(table, row, f"op: expected a collective, got {name!r}{nearest(name, known)}")
    return operation


FAMILIES = (CommunicationFamily(),)
