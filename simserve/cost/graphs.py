"""CUDA graphs: which batch sizes are captured, and to which of them a batch is padded.

vLLM replays a captured graph of the next larger size, so a batch of 9 costs what 16 tokens cost; batches
above the largest size run without a graph (`CompilationConfig`, `VllmConfig._set_cudagraph_sizes` and
`pad_for_cudagraph` in vLLM 0.19's vllm/config).
"""

from __future__ import annotations

from functools import cache

# Sizes of a full capture: 1, 2, 4, then by 8 to 256 and by 16 above (VllmConfig._set_cudagraph_sizes).
_SMALLEST = (1, 2, 4)
_FINE_STEP, _FINE_END, _COARSE_STEP = 8, 256, 16
# Decode batches up to twice max_num_seqs are captured, 512 tokens at most (the same function).
_LARGEST = 512


@cache
def capture_sizes(max_num_seqs: int, max_num_batched_tokens: int = 8192) -> tuple[int, ...]:
    """Return the captured batch sizes in tokens, ascending, as vLLM chooses them by default."""
    largest = min(2 * max_num_seqs, _LARGEST, max_num_batched_tokens)
    sizes = [
        *_SMALLEST,
        *range(_FINE_STEP, _FINE_END, _FINE_STEP),
        *range(_FINE_END, _LARGEST + 1, _COARSE_STEP),
    ]
    return tuple(size for size in sizes if size <= largest)
