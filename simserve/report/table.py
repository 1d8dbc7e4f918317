"""Tables on the screen: aligned text, or rich's when standard output is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

Row = Sequence[str]


def format_table(headers: Row, rows: Sequence[Row]) -> str:
    """Return a table as aligned text: the first column to the left, the others to the right."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    texts = []
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        texts.append("  ".join(cells).rstrip())
    return "\n".join(texts)


def print_table(headers: Row, rows: Sequence[Row]) -> None:
    """Print a table to standard output; rich is only imported for a terminal."""
    if not sys.stdout.isatty():
        print(format_table(headers, rows))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, justify="right" if number else "left")
    for row in rows:
        # As Text: a name may hold square brackets, which rich would take for markup.
        table.add_row(*map(Text, row))
    Console().print(table)


def format_number(value: object) -> str:
    """Return a figure to four digits with thousands separated; "-" for None; other things as they are."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
