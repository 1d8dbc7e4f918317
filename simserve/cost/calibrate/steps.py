"""Tables of whole steps: serving runs, Splitwise's iterations, DistServe's fitted coefficients.

They are compared with steps composed from kernels; no constant is fitted to them but those of the host
profiles of the engines of 2023 and 2024.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.calibrate.silicon_runs import SiliconRuns
from simserve.cost.calibrate.step_composition import Setup, StepModels
from simserve.cost.calibrate.step_tables import CalibrationOf, Priced, Row, compared_rows, price_rows
from simserve.cost.calibrate.tables import number_column, text_column

if TYPE_CHECKING:
    import pandas as pd


class SplitwiseSteps:
    """`step_splitwise`: decode steps of an engine of 2023 (vLLM 0.2 without CUDA graphs)."""

    stems = ("step_splitwise",)

    def rows(self, stem: str, table: pd.DataFrame, calibration_of: CalibrationOf) -> pd.DataFrame:
        """See `StepTable.rows`."""
        models = StepModels(calibration_of)
        priced = price_rows(table.to_dict("records"), lambda row: self._price(row, models))
        return compared_rows(
            table, priced, number_column(table, "token_ms", above=True) * 1e-3,
            hardware=text_column(table, "hardware").astype(str), framework="vllm", dtype="float16",
            op=stem + "/" + text_column(table, "model").astype(str),
        )  # fmt: skip

    def _price(self, row: Row, models: StepModels) -> Priced:
        hardware = str(row["hardware"])
        setup = Setup(
            hardware=hardware.removesuffix("-pcap"), framework="vllm", model=str(row["model"]),
            tensor_parallel_size=int(row["tensor_parallel"]), host="vllm-0.2", fusion="eager",
            host_factor=_host_factor(hardware),
        )  # fmt: skip
        model = models.of(setup)
        context = int(row["prompt_size"]) + int(row["token_size"]) // 2
        reason = "times of the power-capped GPU are made up from the others" if "pcap" in hardware else ""
        return model.decode_s(int(row["batch_size"]), context), model.timer.calibration.tier, reason


# The batch at which DistServe's coefficients are evaluated: tokens of a prompt; decodes, on both sides of
# the fits' threshold of 95 requests, and the context of each.
_PROMPT, _CONTEXT = 512, 512
_DECODES = {"decoding_smallbs": 32, "decoding_largebs": 128}


class DistServeSteps:
    """`step_distserve_fits`: fitted coefficients of steps, evaluated at one typical batch."""

    stems = ("step_distserve_fits",)

    def rows(self, stem: str, table: pd.DataFrame, calibration_of: CalibrationOf) -> pd.DataFrame:
        """See `StepTable.rows`."""
        models = StepModels(calibration_of)
        records = table.to_dict("records")
        return compared_rows(
            table, price_rows(records, lambda row: self._price(row, models)),
            np.array([self._measured_s(row) for row in records]),
            hardware=text_column(table, "hardware").astype(str),
            framework=text_column(table, "engine").astype(str), dtype="float16",
            op=stem + "/" + text_column(table, "phase").astype(str),
        )  # fmt: skip

    def _measured_s(self, row: Row) -> float:
        a, b, c = (float(row[name]) for name in ("a_ms", "b_ms_per_token", "c"))
        if row["phase"] == "prefill":
            return (a + b * _PROMPT + c * _PROMPT**2) * 1e-3
        decodes = _DECODES[row["phase"]]
        return (a + b * decodes * _CONTEXT + c * decodes) * 1e-3

    def _price(self, row: Row, models: StepModels) -> Priced:
        engine, tp = str(row["engine"]), int(row["tp"])
        setup = Setup(
            hardware=str(row["hardware"]), framework=engine, model=str(row["model"]), tensor_parallel_size=tp,
            host="distserve" if engine == "distserve" else "vllm-0.2", fusion="eager",
        )  # fmt: skip
        model = models.of(setup)
        seconds = (
            model.prefill_s(_PROMPT)
            if row["phase"] == "prefill"
            else model.decode_s(_DECODES[row["phase"]], _CONTEXT)
        )
        return seconds, model.timer.calibration.tier, ""


def _host_factor(hardware: str) -> float:
    """Hosts of DGX H100 run the same engine in 0.65 of the time of DGX A100's (kernel study, section 6)."""
    return 0.65 if hardware.startswith("h100") else 1.0


STEP_TABLES = (SiliconRuns(), SplitwiseSteps(), DistServeSteps())
