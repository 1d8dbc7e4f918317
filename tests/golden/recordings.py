"""Which decision logs this folder holds; run as a program, it records them again.

Do that only after a change that is meant to change decisions, and read the difference before it is kept:
`.venv/bin/python tests/golden/recordings.py [NAME...]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from simserve.scenario.loader import load_scenario
from simserve.testing.recording import record_decisions

FOLDER = Path(__file__).parent
STEPS = 120
_ENGINE = "pools.0.engine."
# Name of a log: what it sets in load.yaml.
RECORDINGS = {
    "vllm": ["kind=vllm"],
    "sglang": ["kind=sglang", "options={schedule_conservativeness: 0.3}"],
    "sarathi": ["kind=sarathi"],
    "sarathi-sjf": ["kind=sarathi", "order={policy: sjf, predictor: {kind: noisy, sigma: 0.5}}"],
    "sarathi-radix": ["kind=sarathi", "kv_cache={kind: radix, eviction: slru}"],
    "vllm-v0": ["kind=vllm-v0", "options={preemption_mode: recompute}"],
    "vllm-v0-swap": ["kind=vllm-v0", "options={preemption_mode: swap, swap_space: 1}"],
    "orca": ["kind=orca", "options={reserve: max_tokens}"],
    "static": ["kind=static", "options={max_wait_s: 0.1}"],
    "dynamic": ["kind=dynamic", "options={preferred_batch_size: [2, 4], max_queue_delay_s: 0.05}"],
    "tensorrt-llm": ["kind=tensorrt-llm"],
    "tensorrt-llm-max-utilization": [
        "kind=tensorrt-llm",
        "options={capacity_scheduler_policy: MAX_UTILIZATION, context_chunking_policy: EQUAL_PROGRESS}",
    ],
    "lightllm": ["kind=lightllm", "options={router_max_new_token_len: 2}", "block_size=1"],
    "fastserve": ["kind=fastserve", "options={base_quantum_s: 0.02, starvation_threshold_s: 0.5}"],
}


def record(name: str) -> None:
    """Write a log again."""
    settings = [_ENGINE + setting for setting in RECORDINGS[name]]
    if name == "lightllm":
        settings.append(_ENGINE + f"num_gpu_blocks_override={16 * 19 + 1}")
    scenario = load_scenario(str(FOLDER / "load.yaml"), settings)
    record_decisions(scenario, steps=STEPS).write(FOLDER / f"{name}.json")


if __name__ == "__main__":
    for each in sys.argv[1:] or RECORDINGS:
        record(each)
