"""SGLang's scheduler: prefill first, a radix cache, retraction; a file for every rule."""

from simserve.registry import register
from simserve.scheduler.sglang.scheduler import SglangScheduler

__all__ = ["SglangScheduler"]

register("engine", "sglang")(SglangScheduler)
