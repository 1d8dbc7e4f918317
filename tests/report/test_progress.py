"""The progress line draws on a terminal only, and is gone at the end."""

from __future__ import annotations

import io

from simserve.report.progress import ProgressLine


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_it_shows_time_requests_and_what_is_left() -> None:
    terminal = Terminal()
    progress = ProgressLine(terminal)
    progress(12_500_000_000, 50, 200)
    assert "simulated 12.5 s  50 of 200 requests (25%)" in terminal.getvalue()
    assert "s left" in terminal.getvalue()
    drawn = len(terminal.getvalue())
    progress(13_000_000_000, 51, 200)
    assert len(terminal.getvalue()) == drawn, "not drawn again at once"
    progress.close()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_nothing_is_drawn_elsewhere() -> None:
    stream = io.StringIO()
    progress = ProgressLine(stream)
    progress(1, 1, 2)
    progress.close()
    assert not progress.shown
    assert stream.getvalue() == ""
