"""Step timers without a hardware model: a constant step, or one linear in the batch's shape.

For queueing checks against closed forms, and for users who have measured their own coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence

from simserve.cost.calibration_note import CalibrationNote
from simserve.cost.operator_time import OperatorTime
from simserve.cost.timer import Chunk

_NS = 1e9


class LinearTimer:
    """`base + a * prefill tokens + b * decodes + c * context tokens` seconds a step; a `StepTimer`.

    Context tokens are the KV tokens that decoding requests read and the history before each chunk.

    Args:
        base_s: Seconds of any step.
        per_prefill_token_s: For every token of a prefill chunk.
        per_decode_s: For every decoding request.
        per_context_token_s: For every token of context.
    """

    __slots__ = ("_base_ns", "_context_ns", "_decode_ns", "_prefill_ns", "calibration")

    def __init__(
        self,
        base_s: float,
        per_prefill_token_s: float = 0.0,
        per_decode_s: float = 0.0,
        per_context_token_s: float = 0.0,
    ) -> None:
        self._base_ns = _NS * base_s + 0.5  # rounds, once
        self._prefill_ns = _NS * per_prefill_token_s
        self._decode_ns = _NS * per_decode_s
        self._context_ns = _NS * per_context_token_s
        self.calibration = CalibrationNote("given", "step time stated in the scenario", None, "")

    def decode_ns(self, decodes: int, context_tokens: int, window_tokens: int, steps: int) -> list[int]:
        """Durations of `steps` decode-only steps; see `StepTimer.decode_ns`."""
        base = self._base_ns + self._decode_ns * decodes
        slope = self._context_ns
        if slope == 0.0:
            return [int(base)] * steps
        end = context_tokens + decodes * steps
        return [int(base + slope * context) for context in range(context_tokens, end, decodes)]

    def batch_ns(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: list[Chunk], samples: int
    ) -> int:
        """Duration of one step with prefill chunks; see `StepTimer.batch_ns`."""
        tokens = history = 0
        for chunk in chunks:
            tokens += chunk.tokens
            history += chunk.history
        base = self._base_ns + self._decode_ns * decodes
        return int(base + self._context_ns * (context_tokens + history) + self._prefill_ns * tokens)

    def send_ns(self, tokens: int) -> int:
        """Time to hand activations to the next stage: none, it is in the stated time."""
        return 0

    def explain(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> list[OperatorTime]:
        """The whole step as one row: what it is bound by is not known, so it counts as overhead."""
        seconds = self.batch_ns(decodes, context_tokens, window_tokens, list(chunks), samples) / _NS
        return [OperatorTime("step", 1, 0.0, 0.0, seconds, seconds, "overhead")]

    def bound_seconds(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> dict[str, float]:
        """The step's seconds, all of them as overhead."""
        seconds = self.batch_ns(decodes, context_tokens, window_tokens, list(chunks), samples) / _NS
        return {"compute": 0.0, "bandwidth": 0.0, "communication": 0.0, "overhead": seconds}


class ConstantTimer(LinearTimer):
    """The same seconds for every step; a `StepTimer`.

    Args:
        step_s: Seconds of any step.
    """

    __slots__ = ()

    def __init__(self, step_s: float) -> None:
        super().__init__(step_s)
