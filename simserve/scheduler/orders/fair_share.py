"""Fair shares between tenants: the virtual token counter.

Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, algorithm 2. Any two tenants that stay
backlogged get service that differs by at most 2 max(w_p L_input, w_q M) (theorem 4.4), where L_input is the
longest prompt and M the most tokens of a running batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

from simserve.registry import register
from simserve.scheduler.orders.order import Order, OrderSettings
from simserve.scheduler.sequence import Sequence


@register("order", "vtc")
class VirtualTokenCounter(Order):
    """The tenant that has got the least, first; its requests by arrival (Sheng et al., OSDI 2024).

    A tenant that comes back to the queue starts level with those who wait, so that nobody saves up. A prompt
    counts, cached or not, when its request is admitted first; what is computed again after a preemption is
    nobody's service.

    Options:
        input_weight: What a prompt token counts (w_p).
        output_weight: What an output token counts (w_q).

    Attributes:
        counters: What each tenant has got, in weighted tokens.
    """

    dynamic = True
    option_defaults: ClassVar[Mapping[str, Any]] = {"input_weight": 1, "output_weight": 2}

    def __init__(self, settings: OrderSettings | None = None, **options: Any) -> None:
        super().__init__(settings, **options)
        self._input_weight = self.positive_option("input_weight")
        self._output_weight = self.positive_option("output_weight")
        self.counters: dict[str, float] = {}
        # How many requests of a tenant wait, and who left the queue last.
        self._waiting: dict[str, int] = {}
        self._last_left: str | None = None

    def key(self, sequence: Sequence) -> Any:
        """Return the tenant's counter."""
        return self.counters[sequence.request.tenant]

    def group(self, sequence: Sequence) -> Hashable:
        """Return the tenant."""
        return sequence.request.tenant

    def arrived(self, sequence: Sequence) -> None:
        """Lift a tenant that did not wait to the least counter of those who do, or of the last who did."""
        tenant = sequence.request.tenant
        if tenant not in self._waiting:
            level = 0.0
            if self._waiting:
                level = min(self.counters[each] for each in self._waiting)
            elif self._last_left is not None:
                level = self.counters[self._last_left]
            self.counters[tenant] = max(self.counters.get(tenant, 0), level)
        self._enter(tenant)

    def returned(self, sequence: Sequence) -> None:
        """Count a request that waits again; its tenant was being served, and is not lifted."""
        self._enter(sequence.request.tenant)

    def admitted(self, sequence: Sequence) -> None:
        """Count the prompt as served."""
        self.withdrawn(sequence)
        if not sequence.preemptions:
            self.counters[sequence.request.tenant] += self._input_weight * sequence.request.prompt_tokens

    def withdrawn(self, sequence: Sequence) -> None:
        """Note that a request of the tenant does not wait any more."""
        tenant = sequence.request.tenant
        self._last_left = tenant
        self._waiting[tenant] -= 1
        if not self._waiting[tenant]:
            del self._waiting[tenant]

    def served(self, sequence: Sequence, tokens: int) -> None:
        """Count output tokens."""
        self.counters[sequence.request.tenant] += self._output_weight * tokens

    def _enter(self, tenant: str) -> None:
        self._waiting[tenant] = self._waiting.get(tenant, 0) + 1
