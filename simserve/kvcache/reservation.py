"""How much memory a request gets in one piece.

- `max`: the longest request that the engine accepts (`max_model_len`).
- `max_tokens`: the prompt and the request's own `max_tokens`.
- `pow2`: the prompt and the true output's length, rounded up to a power of two.
- `oracle`: the prompt and the true output's length.
- `grow`: what is there now.

`max`, `pow2` and `oracle` are the baselines of Kwon et al., "Efficient Memory Management for Large Language
Model Serving with PagedAttention", SOSP 2023, section 6.1; `max_tokens` is algorithm 1 of Yu et al., "Orca: A
Distributed Serving System for Transformer-Based Generative Models", OSDI 2022.
"""

from __future__ import annotations

from simserve.errors import InputError, nearest
from simserve.workload.request import Request

RESERVES = ("max", "max_tokens", "pow2", "oracle", "grow")


class Reservation:
    """Says how many tokens a request's region is made for.

    Args:
        reserve: One of RESERVES.
        max_model_len: Longest prompt and output.

    Raises:
        InputError: For an unknown reservation.
    """

    def __init__(self, reserve: str, max_model_len: int) -> None:
        if reserve not in RESERVES:
            raise InputError(f"unknown KV reservation {reserve!r}{nearest(reserve, RESERVES)}")
        self.reserve = reserve
        self.max_model_len = max_model_len

    def final_tokens(self, request: Request) -> int:
        """Return the length of prompt and output at the end, as far as `max_model_len` lets it come."""
        outputs = min(request.output_tokens, self.max_model_len - request.prompt_tokens)
        return request.prompt_tokens + max(1, outputs)

    def tokens(self, request: Request, known_tokens: int) -> int:
        """Return the tokens that a region is made for when a request is admitted.

        Args:
            request: The request.
            known_tokens: Tokens that must have their places now; after a preemption outputs are among them.
        """
        if self.reserve == "max":
            return self.max_model_len
        if self.reserve == "grow":
            return known_tokens
        prompt = request.prompt_tokens
        final = self.final_tokens(request)
        if self.reserve == "max_tokens":
            return max(final, min(prompt + request.max_tokens, self.max_model_len))
        if self.reserve == "pow2":
            return prompt + (1 << (final - prompt - 1).bit_length())
        return final
