"""Builds single operators from sizes: GEMMs and their quantisation, elementwise kernels, collectives."""

from __future__ import annotations

from simserve.model.dtype import dtype_bytes
from simserve.model.operators import Operator, OperatorFamily
from simserve.model.precision import Precision


class OperatorBuilder:
    """Builds operators in the dtypes of one run.

    Args:
        precision: Those dtypes.
    """

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.act_bytes = dtype_bytes(precision.activation)

    def gemm(self, name: str, count: int, n: float, k: float, *, quantized: bool = True) -> Operator:
        """[rows, k] x [k, n]: weights once, rows in and out."""
        precision = self.precision
        fmt = precision.weights
        stored = fmt if fmt and quantized and not fmt.experts_only else None
        weight_bytes = stored.weight_bytes if stored else self.act_bytes
        dtype = precision.compute if stored else precision.activation
        read = precision.quantized_activation_bytes if stored else self.act_bytes
        return Operator(
            name, OperatorFamily.GEMM, count, 2.0 * n * k, k * read + n * self.act_bytes,
            n * k * weight_bytes, dtype, precision.gemm_dtype if stored else precision.activation, n=n, k=k,
        )  # fmt: skip

    def quantized_gemm(self, name: str, count: int, n: float, k: float, after: str = "") -> list[Operator]:
        """A GEMM and, where activations are quantized, the kernel that quantizes its input.

        Args:
            name: Of the GEMM.
            count: Launches.
            n, k: Of its weights.
            after: The elementwise operator that writes its input and may quantize it in passing; "" for none.
        """
        gemm = self.gemm(name, count, n, k)
        fmt = self.precision.weights
        if not self.precision.quantizes_activations or (fmt is not None and fmt.experts_only):
            return [gemm]
        moved = k * (self.act_bytes + self.precision.quantized_activation_bytes)
        label = f"quantize_{name}_after_{after}" if after else f"quantize_{name}"
        return [
            Operator(
                label, OperatorFamily.QUANTIZE, count, 0.0, moved, 0.0, self.precision.activation,
                self.precision.gemm_dtype, width=k,
            ),
            gemm,
        ]  # fmt: skip

    def mlp(self, name: str, layers: int, hidden: int, local: float, *, gated: bool) -> list[Operator]:
        """A dense MLP of `local` columns on this rank: up (and gate), activation, down."""
        inputs = 2 if gated else 1
        return [
            *self.quantized_gemm(f"{name}_up", layers, inputs * local, hidden, after="norm"),
            self.elementwise(f"{name}_activation", layers, (inputs + 1) * local, local),
            *self.quantized_gemm(f"{name}_down", layers, hidden, local, after="activation"),
        ]

    def elementwise(
        self, name: str, count: int, elements: float, width: float, row_scale: float = 1.0
    ) -> Operator:
        """A kernel that reads and writes `elements` elements a row of `width`."""
        return Operator(
            name, OperatorFamily.ELEMENTWISE, count, 0.0, elements * self.act_bytes * row_scale, 0.0,
            self.precision.activation, width=width, row_scale=row_scale,
        )  # fmt: skip

    def collective(
        self, name: str, family: OperatorFamily, count: int, elements: float, ranks: int
    ) -> Operator:
        """A collective whose message has `elements` elements a row."""
        return Operator(
            name, family, count, 0.0, elements * self.act_bytes, 0.0, self.precision.activation, ranks=ranks
        )
