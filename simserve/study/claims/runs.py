"""All claims, and how they are run: every case a task of a pool of processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from simserve.study.claims.case import Case, Found, run_case
from simserve.study.claims.claim import Claim
from simserve.study.claims.fastserve import FASTSERVE
from simserve.study.claims.orca import BATCHING, ORCA
from simserve.study.claims.paged_attention import MEMORY, RATES, SWAPPING
from simserve.study.claims.radix_attention import RADIX
from simserve.study.claims.sarathi import ALONE, PIPELINE
from simserve.study.claims.vtc import VTC

CLAIMS = {
    claim.key: claim
    for claim in (ORCA, BATCHING, MEMORY, RATES, SWAPPING, ALONE, PIPELINE, RADIX, FASTSERVE, VTC)
}


def run_claims(claims: Sequence[Claim], workers: int | None = None) -> dict[str, dict[str, Found]]:
    """Run all cases of some claims.

    Args:
        claims: Which.
        workers: Processes; None: one a core.

    Returns:
        By claim and by case, what was found.
    """
    cases = [(claim.key, case) for claim in claims for case in claim.cases]
    workers = min(workers or len(os.sched_getaffinity(0)), len(cases))
    # Spawned, not forked: a fork of a process with threads (numpy, arrow) may hang.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        found = list(pool.map(_run, [case for _, case in cases]))
    by_claim: dict[str, dict[str, Found]] = {claim.key: {} for claim in claims}
    for (key, case), each in zip(cases, found, strict=True):
        by_claim[key][case.name] = each
    return by_claim


def _run(case: Case) -> Found:
    found = run_case(case)
    print(f"{case.name}: {found.runs} runs", file=sys.stderr, flush=True)
    return found
