"""The families of kernels that can be calibrated; a module of this folder lists its own in `FAMILIES`."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from simserve.cost.calibrate.family import Family
from simserve.errors import UnknownNameError

# Modules of this folder, each with a tuple `FAMILIES`.
MODULES = (
    "gemm",
    "quantize",
    "decode_attention",
    "prefill_attention",
    "mixed_attention",
    "mla",
    "moe",
    "grouped_gemm",
    "elementwise",
    "communication",
)


@cache
def all_families() -> tuple[Family, ...]:
    """Return every family, in the order of `MODULES`."""
    return tuple(family for module in MODULES for family in _families_in(module))


@cache
def family_named(name: str) -> Family:
    """Return one family; only its own module is imported where that has the family's name.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    places = [name, *MODULES] if name in MODULES else list(MODULES)
    for module in places:
        for family in _families_in(module):
            if family.name == name:
                return family
    raise UnknownNameError("kernel family", name, [family.name for family in all_families()])


def families_of(stem: str) -> tuple[Family, ...]:
    """Return the families that read tables of this stem; several may share one, each taking other rows."""
    return tuple(family for family in all_families() if stem in family.stems)


@cache
def _families_in(module: str) -> tuple[Family, ...]:
    families: tuple[Family, ...] = import_module(f"simserve.cost.calibrate.{module}").FAMILIES
    return families
