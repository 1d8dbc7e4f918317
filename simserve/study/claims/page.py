"""The tables of docs/background/claims.md, between its markers; the words around them are written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from simserve.errors import InputError
from simserve.study.claims.case import Case, Found
from simserve.study.claims.claim import Claim, Row


def format_claim(claim: Claim, found: Mapping[str, Found]) -> str:
    """Return what a claim says and what came out, then every case, as Markdown."""
    command = f"`make claims CLAIMS={claim.key}`"
    lines = _table(("claim", "claimed", "simulated", "verdict"), map(_cells, claim.judge(found)))
    lines += ["", f"{command} ran:", ""]
    names = list(dict.fromkeys(name for each in found.values() for name in each.figures))
    sought = any(each.rate_per_s is not None for each in found.values())
    bounded = list(dict.fromkeys(name for each in found.values() for name in each.beyond))
    head = (
        "case",
        *(("highest rate, 1/s",) if sought else ()),
        *names,
        *(f"{name} beyond" for name in bounded),
    )
    rows = (_case_cells(case, found[case.name], names, bounded, sought=sought) for case in claim.cases)
    return "\n".join([*lines, *_table(head, rows)])


def put_tables(page: str, tables: Mapping[str, str]) -> str:
    """Return a page with the tables between their markers replaced.

    Raises:
        InputError: If the page lacks a table's markers.
    """
    for key, table in tables.items():
        begin, end = f"<!-- {key}: made by make claims -->", f"<!-- end of {key} -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise InputError(f"the page has no place for {key!r}: expected {begin} and {end}")
        page = f"{before}{begin}\n{table}\n{end}{after}"
    return page


def write_tables(path: Path, tables: Mapping[str, str]) -> None:
    """Put tables into a page's file."""
    path.write_text(put_tables(path.read_text(encoding="utf-8"), tables), encoding="utf-8")


def _cells(row: Row) -> tuple[str, ...]:
    simulated = "none" if row.simulated is None else row.form.format(row.simulated)
    verdict = row.verdict if row.least is not None or row.most is not None else ""
    return row.what, row.claimed, simulated, verdict


def _case_cells(
    case: Case, found: Found, names: list[str], bounded: list[str], *, sought: bool
) -> tuple[str, ...]:
    rate = (_figure(found.rate_per_s) if found.rate_per_s != 0 else "none",) if sought else ()
    figures = [*(found.figures.get(name) for name in names), *(found.beyond.get(name) for name in bounded)]
    return case.name, *rate, *map(_figure, figures)


def _figure(value: float | None) -> str:
    """Return three digits that mean something."""
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return f"{value:.5f}".rstrip("0") if "e" in text else text


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]
