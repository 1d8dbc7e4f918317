"""The virtual token counter: how far apart the service of two backlogged clients can be."""

from __future__ import annotations

from collections.abc import Mapping

from simserve.study.claims.case import Case, Found
from simserve.study.claims.claim import NEAR, Claim, Row

# Theorem 4.4: 2 max(w_p x longest prompt, w_q x tokens of KV memory) = 2 max(256, 2 x 10,000).
BOUND_TOKENS = 2 * max(1 * 256, 2 * 10_000)


def _judge(found: Mapping[str, Found]) -> list[Row]:
    def figure(order: str, name: str) -> float | None:
        return found[order].figures[name]

    gap, share = "service gap, tokens", "service, fast over slow"
    return [
        Row(
            "vtc: largest difference of service",
            f"at most {BOUND_TOKENS:,}",
            None,
            BOUND_TOKENS / NEAR,
            figure("vtc", gap),
            "{:,.0f}",
        ),
        Row("fcfs: the same", "grows without bound", BOUND_TOKENS, None, figure("fcfs", gap), "{:,.0f}"),
        Row(
            "vtc: service of the fast client over the slow one's",
            "1",
            1.0,
            1.0,
            figure("vtc", share),
            "{:.2f}",
        ),
        Row("fcfs: the same", "2 (their rates)", 2.0, 2.0, figure("fcfs", share), "{:.2f}"),
    ]


VTC = Claim(
    "vtc",
    tuple(
        Case(
            order,
            "claims/vtc",
            (f"pools.0.engine.order={order}",),
            ("service gap, tokens", "service, fast over slow", "output tokens/s"),
        )
        for order in ("vtc", "fcfs")
    ),
    _judge,
)
