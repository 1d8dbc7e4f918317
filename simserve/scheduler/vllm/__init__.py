"""vLLM's V1 scheduler: `stepwise` is the algorithm, `scheduler` makes the same decisions in bulk."""

from simserve.registry import register
from simserve.scheduler.vllm.scheduler import VllmScheduler

__all__ = ["VllmScheduler"]

register("engine", "vllm")(VllmScheduler)
