"""Arrow arrays straight from numpy buffers and lists of labels.

`pyarrow.array` imports pandas to look at what it was given, which costs more than writing a whole run; these
constructors do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from simserve.metrics.columns import Floats, Ints, Mask

_NS_PER_S = 1e9


def ints(values: Ints) -> pa.Array:
    """Return an int64 array."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, _buffer(values, np.int64)])


def small_ints(values: Ints | npt.NDArray[np.int32]) -> pa.Array:
    """Return an int32 array."""
    return pa.Array.from_buffers(pa.int32(), len(values), [None, _buffer(values, np.int32)])


def doubles(values: Floats) -> pa.Array:
    """Return a double array."""
    return pa.Array.from_buffers(pa.float64(), len(values), [None, _buffer(values, np.float64)])


def seconds(times_ns: Ints | Floats, known: Mask | None = None) -> pa.Array:
    """Return a double array of seconds, null where `known` is False.

    Args:
        times_ns: `[n]`, in ns.
        known: `[n]`; None: all are.
    """
    values = _buffer(times_ns / _NS_PER_S, np.float64)
    if known is None or bool(known.all()):
        return pa.Array.from_buffers(pa.float64(), len(times_ns), [None, values])
    bits = np.packbits(known, bitorder="little")
    return pa.Array.from_buffers(pa.float64(), len(times_ns), [pa.py_buffer(bits), values])


def labels(values: Sequence[str]) -> pa.Array:
    """Return a dictionary-encoded string array; the dictionary is in order of first appearance."""
    codes = {name: code for code, name in enumerate(dict.fromkeys(values))}
    return coded_labels(np.fromiter(map(codes.__getitem__, values), np.int32, len(values)), list(codes))


def coded_labels(codes: npt.NDArray[np.int32], names: Sequence[str]) -> pa.Array:
    """Return the dictionary-encoded strings `names[codes[i]]`."""
    encoded = [name.encode() for name in names]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    text = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    dictionary = pa.Array.from_buffers(pa.utf8(), len(names), text)
    indices = pa.Array.from_buffers(pa.int32(), len(codes), [None, _buffer(codes, np.int32)])
    return pa.DictionaryArray.from_arrays(indices, dictionary)


def table(columns: dict[str, pa.Array]) -> pa.Table:
    """Return a table of equally long arrays, by name."""
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def _buffer(values: npt.NDArray[Any], dtype: Any) -> pa.Buffer:
    return pa.py_buffer(np.ascontiguousarray(values, dtype=dtype))
