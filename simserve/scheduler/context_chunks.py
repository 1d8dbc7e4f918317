"""How TensorRT-LLM's micro-batch scheduler cuts prompts into what is left of a step's token budget."""

from __future__ import annotations

from collections.abc import Sequence


def cut_in_order(left: Sequence[int], budget: int, unit: int) -> list[int]:
    """Return a chunk of each prompt, first come first served.

    Args:
        left: Tokens that each prompt has left.
        budget: Tokens of all chunks at most.
        unit: A chunk that does not end its prompt is a multiple of this.
    """
    chunks = []
    for tokens in left:
        chunks.append(tokens if tokens <= budget else budget // unit * unit)
        budget -= chunks[-1]
    return chunks


def cut_equally(left: Sequence[int], budget: int, unit: int) -> list[int]:
    """Return a chunk of each prompt, a unit for each in turn while the budget lasts; see `cut_in_order`."""
    chunks = [0] * len(left)
    grows = True
    while grows:
        grows = False
        for number, tokens in enumerate(left):
            more = min(unit, tokens - chunks[number])
            if 0 < more <= budget:
                chunks[number] += more
                budget -= more
                grows = True
    return chunks
