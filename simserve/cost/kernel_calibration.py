"""Which kernel model, with which constants, prices a kernel family on one accelerator.

Tiers: `calibrated` (fitted on measured kernels of that accelerator), `stand-in` (fitted there, but on another
framework, variant or dtype) and `generic` (one set of constants for all accelerators,
applied to its peaks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from math import inf
from typing import Any

from simserve.cost.calibrate.families import family_named
from simserve.cost.calibration_file import Fit, decode_residuals, read_fits, read_sustained
from simserve.cost.fitted_kernel import FittedKernel, describe_device
from simserve.cost.kernels.form import KernelForm
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError

# The engine that simserve imitates by default comes first.
FRAMEWORKS = ("vllm", "sglang", "trtllm")
SIXTEEN_BITS = ("bfloat16", "float16")
# Which dtype's fit may stand for another's, nearest first.
STAND_INS = {
    "bfloat16": ("float16",),
    "float16": ("bfloat16",),
    "fp8": ("fp8_block", "sq"),
    "fp8_block": ("fp8",),
    "nvfp4": ("mxfp4",),
    "mxfp4": ("nvfp4",),
    "int8": ("sq", "fp8"),
    "sq": ("int8", "fp8"),
    "int4_wo": ("int8_wo",),
    "int8_wo": ("int4_wo",),
}


class KernelCalibration:
    """The fits of one accelerator."""

    def __init__(
        self,
        accelerator: Accelerator,
        content: Mapping[str, Any] | None = None,
        generic: Mapping[str, Any] | None = None,
        file: str | None = None,
    ) -> None:
        """Read the mappings of calibration files.

        Args:
            accelerator: Its peaks.
            content: Of its own file; None where nobody has measured it.
            generic: Of `generic.yaml`; None: the families' own generic constants.
            file: Name of the first, for errors.

        Raises:
            InputError: If an entry is wrong.
        """
        self.accelerator = accelerator
        self.file = file
        self.fits = read_fits(content or {}, file)
        self.generic_fits = read_fits(generic or {})
        self._sustained = read_sustained(content or {}, file)
        self._kernels: dict[tuple[str, str, str, tuple[str, ...], str], FittedKernel] = {}

    def kernel(
        self,
        family: str,
        dtype: str,
        kv_dtype: str = "",
        variant: str | Sequence[str] = "",
        framework: str = "",
    ) -> FittedKernel:
        """Return what prices a kernel family.

        Args:
            family: "gemm", "decode_attention", ...
            dtype: Of the arithmetic's operands, as tables spell it ("bfloat16", "fp8", "nvfp4").
            kv_dtype: Of the KV cache, for attention.
            variant: The family's variant; several: the first that was fitted.
            framework: Whose kernels are wanted first; then vLLM's, SGLang's, TensorRT-LLM's, any other.

        Returns:
            A kernel of the best tier there is; never an error for want of a fit.
        """
        variants = (variant,) if isinstance(variant, str) else tuple(variant)
        key = (family, dtype, kv_dtype, variants, framework)
        if key not in self._kernels:
            self._kernels[key] = self._find(*key)
        return self._kernels[key]

    def sustained_flops_per_s(self, dtype: str) -> float:
        """Return the rate that long GEMMs keep; infinite where nobody has measured it."""
        return self._sustained.get("bfloat16" if dtype in SIXTEEN_BITS else dtype, inf)

    def find_fit(
        self, family: str, dtype: str, kv_dtype: str, variants: Sequence[str], framework: str = ""
    ) -> Fit | None:
        """Return the fit that `kernel` uses; None if it is generic."""
        mine = [fit for fit in self.fits if fit.family == family]
        # Attention takes the KV cache's width from its shape columns: fits of 16 bits price any other, last.
        for kv in dict.fromkeys(
            (kv_dtype, *STAND_INS.get(kv_dtype, ()), *(SIXTEEN_BITS if kv_dtype else ()))
        ):
            for names in _choices(dtype, framework):
                alike = [fit for fit in mine if fit.dtype in names and fit.kv_dtype == kv]
                found = first_variant(family, alike, variants)
                if found:
                    return min(
                        found, key=lambda fit: (*rank_framework(fit.framework, framework), fit.dtype != dtype)
                    )
        return None

    def _find(
        self, family: str, dtype: str, kv_dtype: str, variants: tuple[str, ...], framework: str
    ) -> FittedKernel:
        model = family_named(family)
        device = describe_device(self.accelerator, model.compute_dtype(dtype, kv_dtype))
        fit = self.find_fit(family, dtype, kv_dtype, variants, framework)
        if fit is None:
            return self._generic(family, dtype, kv_dtype, variants)
        form = model.form(fit.variant)
        check_constants(fit, form, self.file)
        same = fit.dtype == dtype or (not framework and {fit.dtype, dtype} == set(SIXTEEN_BITS))
        exact = same and fit.kv_dtype == kv_dtype and framework in ("", fit.framework)
        # An empty variant leaves the choice to the family.
        exact &= fit.variant in variants or "" in variants
        return FittedKernel(
            form=form,
            constants=fit.constants,
            device=device,
            tier="calibrated" if exact else "stand-in",
            source=f"{fit.rows} measured kernels ({fit.framework}, {fit.dtype}) on {self.accelerator.name}",
            error_percent=fit.error.get("mape"),
            residuals=decode_residuals(fit.residuals, self.file) if fit.residuals else None,
        )

    def _generic(self, family: str, dtype: str, kv_dtype: str, variants: tuple[str, ...]) -> FittedKernel:
        model = family_named(family)
        fit = self._generic_fit(family, dtype, kv_dtype, variants)
        variant = fit.variant if fit else variants[-1]
        return FittedKernel(
            form=model.form(variant),
            constants=fit.constants if fit else model.generic(variant),
            device=describe_device(self.accelerator, model.compute_dtype(dtype, kv_dtype)),
            tier="generic",
            source=f"datasheet of {self.accelerator.name}, constants of other GPUs",
            error_percent=fit.error.get("mape") if fit else None,
        )

    def _generic_fit(self, family: str, dtype: str, kv_dtype: str, variants: tuple[str, ...]) -> Fit | None:
        """The generic constants that come nearest: of the dtype, of the first variant, of the KV dtype.

        Attention takes the KV cache's width from its shape columns, so another kernel's constants are further
        off than those of another KV dtype.
        """
        mine = [fit for fit in self.generic_fits if fit.family == family]
        for alike in ([fit for fit in mine if fit.dtype == dtype], mine):
            found = first_variant(family, alike, variants)
            if found:
                return min(found, key=lambda fit: fit.kv_dtype != kv_dtype)
        return None


def _choices(dtype: str, framework: str) -> list[tuple[str, ...]]:
    """Return the dtypes whose fits may price a dtype, nearest first; those of one entry are as good.

    The two 16-bit dtypes run at the same rate: serving rather takes its engine's fit of the other one than
    another laboratory's of this one.
    """
    if dtype in SIXTEEN_BITS and not framework:
        return [SIXTEEN_BITS]
    return [(name,) for name in (dtype, *STAND_INS.get(dtype, ()))]


def check_constants(fit: Fit, form: KernelForm, file: str | None) -> None:
    """Check that a fit has the constants of its form.

    Raises:
        InputError: If one is missing, as in a file that another version of the form wrote.
    """
    for parameter in form.parameters:
        if parameter.name not in fit.constants:
            message = (
                f"the {fit.family} fit of {fit.framework} {fit.dtype} lacks the constant {parameter.name!r}"
            )
            raise InputError(f"{message} of form {form.name}; run `simserve calibrate fit` again", file=file)


def first_variant(family: str, fits: Sequence[Fit], variants: Sequence[str]) -> list[Fit]:
    """Return the fits of the first variant that there is; else of the family's nearest alternative to one."""
    names = {fit.variant for fit in fits}
    model = family_named(family)
    others = (other for wanted in variants for other in model.alternatives(wanted, names))
    for variant in chain(variants, others):
        if variant in names:
            return [fit for fit in fits if fit.variant == variant]
    return []


def rank_framework(framework: str, wanted: str = "") -> tuple[bool, int, str]:
    """Return how far a framework is from the wanted one; sorts the nearest first."""
    place = FRAMEWORKS.index(framework) if framework in FRAMEWORKS else len(FRAMEWORKS)
    return (framework != wanted, place, framework)
