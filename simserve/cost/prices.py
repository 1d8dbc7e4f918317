"""Which kernel model prices which operator, as a serving engine launches it (cold caches)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simserve.cost.collectives import Collectives
from simserve.cost.fitted_kernel import FittedKernel
from simserve.cost.kernel_book import KernelBook
from simserve.cost.kernels.expert_load import RANDOM
from simserve.cost.kernels.form import Array, Shapes
from simserve.cost.kernels.gemm import ELEMENT_BYTES, SERVING_VARIANTS, gemm_shapes
from simserve.devices.accelerator import Accelerator
from simserve.model.operators import Operator, OperatorFamily

# Dtype of 16-bit operands in tables of measured kernels.
KERNEL_DTYPE = "bfloat16"
_WIDE_BYTES = 2.0
# What a power limit slows down under load.
_MATRIX_FAMILIES = (OperatorFamily.GEMM, OperatorFamily.EXPERTS)
# Formats whose experts nobody has measured, and what comes nearest: on GPUs without FP4 units vLLM runs
# MXFP4 experts through Marlin, as any 4-bit weights.
_EXPERT_DTYPES = {"mxfp4": "int4_wo"}


class OperatorPrices:
    """Seconds of operators whose work follows from the number of rows.

    Args:
        book: Kernels of the accelerator.
        collectives: By number of ranks.
        frameworks: Whose kernels the engine runs, by family and dtype, where they are not its own.
        expert_skew: How tokens choose experts: `RANDOM` independently and all alike, 0 evenly, above 0 the
            exponent of a power law.
    """

    def __init__(
        self,
        book: KernelBook,
        collectives: Mapping[int, Collectives],
        frameworks: Mapping[tuple[str, str], str],
        expert_skew: float = RANDOM,
    ) -> None:
        self.book = book
        self.frameworks = frameworks
        self.collectives = collectives
        self.expert_skew = expert_skew

    def seconds(self, operator: Operator, rows: Array) -> Array:
        """Seconds of one launch for a batch of `rows` rows, elementwise; 0 for no rows."""
        some = np.maximum(rows, 1.0)
        if operator.family.is_collective:
            priced = self._collective_s(operator, some)
        elif operator.family is OperatorFamily.QUANTIZE:
            priced = self._pass_s(operator.kernel_dtype, some, operator.width)
        elif operator.family is OperatorFamily.GEMM:
            priced = self._gemm_s(operator, some)
        else:
            priced = self.kernel(operator).seconds(self.shapes(operator, some))
        if operator.family in _MATRIX_FAMILIES:
            priced = np.maximum(priced, operator.flops(some) / self._sustained(operator))
        return np.where(rows > 0, priced, 0.0)

    def _sustained(self, operator: Operator) -> float:
        """FLOP/s that matrix multiplications keep while one follows the other."""
        return self.book.sustained_flops_per_s(operator.kernel_dtype or operator.dtype)

    def kernel(self, operator: Operator) -> FittedKernel:
        """The kernel that prices an operator other than a collective."""
        dtype = operator.kernel_dtype or operator.dtype
        if operator.family in (OperatorFamily.GEMM, OperatorFamily.QUANTIZE):
            return self.gemm_kernel(dtype)
        if operator.family is OperatorFamily.EXPERTS:
            expert_dtype = _EXPERT_DTYPES.get(dtype, dtype)
            return self.book.kernel("moe", expert_dtype, framework=self._framework("moe", dtype))
        return self.book.kernel(str(operator.family), dtype)

    def _framework(self, family: str, dtype: str) -> str:
        return self.frameworks.get((family, dtype), "")

    def gemm_kernel(self, dtype: str) -> FittedKernel:
        """The kernel of GEMMs in a dtype."""
        framework = self._framework("gemm", dtype)
        return self.book.kernel("gemm", dtype, variant=SERVING_VARIANTS, framework=framework)

    def shapes(self, operator: Operator, rows: Array) -> Shapes:
        """The shape columns of one launch."""
        if operator.family is OperatorFamily.GEMM:
            dtype = operator.kernel_dtype or operator.dtype
            sizes = same(rows, operator.n), same(rows, operator.k)
            return gemm_shapes(rows, *sizes, dtype)
        if operator.family is OperatorFamily.EXPERTS:
            return self._expert_shapes(operator, rows)
        return {
            "tokens": rows * operator.row_scale,
            "bytes": operator.moved_bytes(rows),
            "width": same(rows, operator.width),
        }

    def _gemm_s(self, operator: Operator, rows: Array) -> Array:
        """A GEMM whose inputs are quantized already: what was measured less the pass that quantizes them."""
        kernel, shapes = self.kernel(operator), self.shapes(operator, rows)
        whole = kernel.seconds(shapes)
        if not self._is_narrow(operator):
            return whole
        alone = whole - self._pass_s(operator.kernel_dtype, rows, operator.k)
        return np.maximum(alone, operator.moved_bytes(rows) / kernel.device.bytes_per_s)

    def _pass_s(self, dtype: str, rows: Array, width: float) -> Array:
        """The pass that quantizes `rows` rows, as measured GEMMs of narrow inputs contain it.

        All of them do, so a fit cannot tell its launch from the GEMM's; a 16-bit GEMM of the same framework
        has the latter alone.
        """
        narrow, wide = self.gemm_kernel(dtype).constants, self._wide_kernel(dtype).constants
        launch_s = narrow["overhead_s"] + narrow["quantise_s"] - wide["overhead_s"]
        kernel = self.gemm_kernel(dtype)
        moved = rows * width * (_WIDE_BYTES + ELEMENT_BYTES[dtype][0])
        rate = kernel.device.bytes_per_s * narrow["bandwidth_efficiency"]
        return max(launch_s, 0.0) + moved / rate

    def _wide_kernel(self, dtype: str) -> FittedKernel:
        """The 16-bit GEMMs of the framework whose GEMMs run in a dtype."""
        framework = self._framework("gemm", dtype)
        return self.book.kernel("gemm", KERNEL_DTYPE, variant=SERVING_VARIANTS, framework=framework)

    def _is_narrow(self, operator: Operator) -> bool:
        widths = ELEMENT_BYTES.get(operator.kernel_dtype)
        return widths is not None and widths[0] < _WIDE_BYTES

    def _expert_shapes(self, operator: Operator, rows: Array) -> Shapes:
        experts = operator.experts
        assert experts is not None
        constant = {
            "hidden": experts.hidden,
            "inter": experts.intermediate,
            "topk": experts.experts_per_token,
            "experts": experts.num_experts,
            "moe_tp": experts.tensor_ranks,
            "moe_ep": experts.expert_ranks,
            "skew": self.expert_skew,
            "activated": -1.0,
            "gated": 1.0,
            "weight_bytes": experts.weight_bytes,
            "activation_bytes": experts.activation_bytes,
        }
        shapes = {name: same(rows, float(value)) for name, value in constant.items()}
        return {"tokens": rows * operator.row_scale, **shapes}

    def _collective_s(self, operator: Operator, rows: Array) -> Array:
        links, message = self.collectives[operator.ranks], operator.moved_bytes(rows)
        return links.seconds(str(operator.family), message)


def engine_kernels(accelerator: Accelerator) -> dict[tuple[str, str], str]:
    """Return whose kernels vLLM serves with, by family and dtype, where they are not its own rows in tables.

    On data-centre Blackwell it multiplies FP8 through FlashInfer, as TensorRT-LLM does (`Fp8LinearOp` in
    vllm/model_executor/layers/quantization/utils/w8a8_utils.py). On Hopper its FP8 experts were measured with
    FlashInfer's untuned kernels and not with Triton's, its default.
    """
    if "fp4" in accelerator.peak_flops and accelerator.link_domain > 1:
        return {("gemm", "fp8"): "trtllm"}
    return {("moe", "fp8"): "trtllm"} if "Hopper" in accelerator.architecture else {}


def same(rows: Array, value: float) -> Array:
    """Return a column of one value, as long as `rows`."""
    return np.full_like(rows, value)
