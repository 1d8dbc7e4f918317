"""A run as the JSON that `vllm bench serve --save-result --save-detailed` writes (vLLM 0.19)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from simserve.report.run_folder import Column, Floats, RunFolder
from simserve.report.token_times import token_gaps

# A simulated run starts at the epoch: in the form of vLLM's dates.
_DATE = "19700101-000000"
# Keys of the summary that vLLM's benchmark writes under the same names.
_FIGURES = ("ttft", "tpot", "itl", "e2el")
_STATISTICS = ("mean", "median", "std", "p90", "p95", "p99")


def write_vllm_bench(run: RunFolder, path: Path) -> None:
    """Write the file; times are those of the simulated clock.

    Requests are in the order in which they were sent. Of those that did not complete `errors` says why, and
    they have no tokens. Where the summary has no figure, since nothing completed, vLLM has 0.
    """
    path.write_text(json.dumps(bench_result(run)) + "\n", encoding="utf-8")


def bench_result(run: RunFolder) -> dict[str, Any]:
    """Return the content of the file."""
    summary, requests = run.summary, run.requests
    order = np.lexsort((requests["request_id"], requests["arrival_s"]))
    gaps = token_gaps(run)
    done = (requests["status"] == "completed")[order]
    ttft, arrivals = requests["ttft_s"][order], requests["arrival_s"][order]
    span_s = float(arrivals[-1] - arrivals[0]) if len(arrivals) > 1 else 0.0
    ttfts = [float(value) if ok else 0.0 for value, ok in zip(ttft, done, strict=True)]
    itls = [gaps[row].tolist() if ok else [] for row, ok in zip(order.tolist(), done, strict=True)]
    ends = arrivals + requests["e2el_s"][order]
    return {
        "date": _DATE,
        "endpoint_type": "simserve",
        "backend": "simserve",
        "label": summary["name"] or None,
        "model_id": summary["pools"][0]["model"],
        "tokenizer_id": summary["pools"][0]["model"],
        "num_prompts": len(order),
        "request_rate": (len(order) - 1) / span_s if span_s else "inf",
        "burstiness": _burstiness(np.diff(arrivals)),
        "max_concurrency": run.scenario["workload"].get("client", {}).get("max_concurrency"),
        **{key: summary[key] for key in ("duration", "completed", "failed", "total_input_tokens")},
        **{key: summary[key] or 0.0 for key in ("total_output_tokens", "request_throughput")},
        "request_goodput": summary["request_goodput"],
        **{key: summary[key] or 0.0 for key in ("output_throughput", "total_token_throughput")},
        **{
            f"{kind}_{name}_ms": summary[f"{kind}_{name}_ms"] or 0.0
            for name in _FIGURES
            for kind in _STATISTICS
        },
        "max_output_tokens_per_s": _peak_chunks(arrivals[done], np.array(ttfts)[done], _of(itls, done)),
        "max_concurrent_requests": _peak_requests(arrivals[done], ends[done]),
        # Of recordings alone: seconds of audio transcribed in a second.
        "rtfx": 0.0,
        "input_lens": requests["prompt_tokens"][order].tolist(),
        "output_lens": np.where(done, requests["output_tokens"][order], 0).tolist(),
        "ttfts": ttfts,
        "itls": itls,
        "start_times": arrivals.tolist(),
        "generated_texts": [""] * len(order),
        "errors": ["" if ok else _reason(run, row) for row, ok in zip(order.tolist(), done, strict=True)],
    }


def _of(values: list[list[float]], chosen: Column) -> list[list[float]]:
    return [value for value, ok in zip(values, chosen, strict=True) if ok]


def _peak_chunks(starts_s: Floats, ttfts_s: Floats, itls_s: list[list[float]]) -> float:
    """Return the most chunks of streams that came in one second, counted from the first request on."""
    if not len(starts_s):
        return 0.0
    streams = zip((starts_s + ttfts_s).tolist(), itls_s, strict=True)
    came_s = np.concatenate([np.cumsum([first_s, *gaps_s]) for first_s, gaps_s in streams])
    return float(np.bincount((came_s - starts_s.min()).astype(np.int64)).max())


def _peak_requests(starts_s: Floats, ends_s: Floats) -> int:
    """Return the most requests that were under way in one second, counted from the first request on.

    As vLLM 0.19 has it: two of which one ends and the other begins in the same second count both.
    """
    if not len(starts_s):
        return 0
    first, last = (np.floor(times - starts_s.min()).astype(np.int64) for times in (starts_s, ends_s))
    change = np.bincount(first, minlength=int(last.max()) + 2)
    change -= np.bincount(last + 1, minlength=int(last.max()) + 2)
    return int(np.cumsum(change).max())


def _reason(run: RunFolder, row: int) -> str:
    return str(run.requests["reason"][row] or run.requests["status"][row])


def _burstiness(gaps_s: Floats) -> float | None:
    """The shape of a gamma distribution whose gaps vary as much (1: Poisson); None if they do not vary."""
    if len(gaps_s) < 2 or not gaps_s.std():
        return None
    return float((gaps_s.mean() / gaps_s.std()) ** 2)
