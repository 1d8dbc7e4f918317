"""Random draws keyed by (seed, purpose) or (seed, request, purpose): no order of events can change them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    import numpy as np

_MASK = (1 << 64) - 1
# Increment and finaliser constants of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
# generators", OOPSLA 2014; the constants of Vigna's public-domain splitmix64.c).
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def stream(seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """Return a numpy generator of its own for a purpose; the same arguments give the same draws.

    Args:
        seed: The scenario's seed, at least 0.
        purpose: What is drawn ("arrivals", "prompt lengths", ...).
        keys: Further keys, such as a client's number; each at least 0.
    """
    import numpy as np

    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, crc32(purpose.encode()), *keys]))
    )


def keyed_uniform(seed: int, request_id: int, purpose: str, index: int = 0) -> float:
    """Return the draw number `index` of a request for a purpose, uniform in [0, 1).

    Cheap enough for the simulator's loop (about a microsecond) and without any state.
    """
    state = _mix(_purpose_key(seed, purpose) ^ _mix((request_id * _GOLDEN + 1) & _MASK))
    return (_mix((state + (index + 1) * _GOLDEN) & _MASK) >> 11) * 2.0**-53


@lru_cache(maxsize=1024)
def _purpose_key(seed: int, purpose: str) -> int:
    return _mix((_mix(seed & _MASK) + crc32(purpose.encode()) * _GOLDEN) & _MASK)


def _mix(x: int) -> int:
    """The finaliser of SplitMix64: a bijection of 64-bit integers that spreads every bit."""
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)
