"""What engines without chunked prefill and prefix caches have in common: whole prompts, no token budget."""

from __future__ import annotations

from typing import ClassVar

from simserve.scheduler.base import BaseScheduler


class UnbudgetedScheduler(BaseScheduler):
    """A base for policies that compute prompts whole, in steps of any size, and share no prefixes."""

    unused_keys: ClassVar = (
        "max_num_batched_tokens",
        "long_prefill_token_threshold",
        "scheduler_reserve_full_isl",
    )
    fixed_keys: ClassVar = {
        **BaseScheduler.fixed_keys,
        "enable_chunked_prefill": False,
        "enable_prefix_caching": False,
    }
    has_token_budget = False
