"""The progress line on standard error: simulated time, finished requests, and how long it will take."""

from __future__ import annotations

import sys
import time
from typing import TextIO

# Between two drawings; the callback itself may come far more often.
_INTERVAL_S = 0.1


class ProgressLine:
    """One line that is drawn over; nothing at all where the stream is no terminal.

    Args:
        stream: Where to draw; None for standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self.shown = self._stream.isatty()
        self._started_s = time.monotonic()
        self._drawn_s = 0.0

    def __call__(self, now_ns: int, finished: int, total: int) -> None:
        """Draw the state, at most ten times a second.

        Args:
            now_ns: Simulated time.
            finished: Requests that have ended.
            total: Requests of the workload.
        """
        wall_s = time.monotonic()
        if not self.shown or wall_s - self._drawn_s < _INTERVAL_S:
            return
        self._drawn_s = wall_s
        text = f"simulated {now_ns / 1e9:,.1f} s  {finished:,} of {total:,} requests"
        if 0 < finished <= total:
            left_s = (wall_s - self._started_s) * (total - finished) / finished
            text += f" ({finished / total:.0%})  about {left_s:,.0f} s left"
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()

    def close(self) -> None:
        """Wipe the line."""
        if self.shown and self._drawn_s:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
