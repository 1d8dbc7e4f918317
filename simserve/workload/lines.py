"""Trace files as streams of lines, plain or gzipped."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from simserve.errors import TraceError

_GZIP_MAGIC = b"\x1f\x8b"
# Larger than any real number in a trace; 2^53 is where floats stop being exact integers.
LARGEST = 2**53
MOST_TOKENS = 2**31
# About 146 years: all sums of a trace's times stay within 64 bits.
MOST_NS = 2**62


def open_text(path: Path) -> io.TextIOWrapper:
    """Open a plain or gzipped file as UTF-8 text; what it is, is seen from its first bytes.

    Raises:
        TraceError: If it cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == _GZIP_MAGIC
        raw = gzip.open(path, "rb") if zipped else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise TraceError(f"cannot read the trace: {error.strerror or error}", file=str(path)) from error
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, plain or gzipped.

    Raises:
        TraceError: If it cannot be read, with the number of the line at which it broke.
    """
    number = 0
    with open_text(path) as file:
        try:
            for number, line in enumerate(file, start=1):  # noqa: B007
                yield line
        except UnicodeDecodeError as error:
            raise TraceError("this is no UTF-8 text", file=str(path), line=number + 1) from error
        except (OSError, EOFError, zlib.error) as error:
            raise TraceError(
                f"the file is cut off or damaged: {error}", file=str(path), line=number + 1
            ) from error
