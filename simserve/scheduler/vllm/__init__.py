"""vLLM's V1 scheduler: `stepwise` is the algorithm, `scheduler` the same decisions in bulk."""

from __future__ import annotations

from simserve.registry import register
from simserve.scheduler.vllm.stepwise import StepwiseScheduler


@register("engine", "vllm")
class VllmScheduler(StepwiseScheduler):
    """vLLM V1: continuous batching with chunked prefill, paged KV cache, preemption by recompute."""
