"""`python -m simserve.study.claims`: run the claims, print their tables, write them into the page."""

from __future__ import annotations

import argparse
from pathlib import Path

from simserve.study.claims.page import format_claim, write_tables
from simserve.study.claims.runs import CLAIMS, run_claims


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m simserve.study.claims", description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"of {', '.join(CLAIMS)}; default: all")
    parser.add_argument("--page", type=Path, help="Markdown file whose tables are written again")
    parser.add_argument("--workers", type=int, help="processes; default: one a core")
    given = parser.parse_args()
    unknown = [name for name in given.claims if name not in CLAIMS]
    if unknown:
        parser.error(f"unknown claim {unknown[0]!r}; expected of {', '.join(CLAIMS)}")
    chosen = [CLAIMS[name] for name in given.claims or CLAIMS]
    found = run_claims(chosen, given.workers)
    tables = {claim.key: format_claim(claim, found[claim.key]) for claim in chosen}
    for key, table in tables.items():
        print(f"## {key}\n{table}\n")
    if given.page:
        write_tables(given.page, tables)


if __name__ == "__main__":
    main()
