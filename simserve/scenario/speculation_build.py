"""From the `speculative` section to what a scheduler verifies, and to the model that drafts."""

from __future__ import annotations

from dataclasses import replace

from simserve.model.shape import ModelShape
from simserve.rng import keyed_uniform
from simserve.scenario.catalog import load_model
from simserve.scenario.engine_schema import Speculative
from simserve.scenario.schema import Scenario
from simserve.scheduler.config import Acceptance, Speculation


def plan_speculation(speculative: Speculative | None, seed: int) -> Speculation | None:
    """Return what the scheduler drafts and accepts; None without speculative decoding."""
    if speculative is None:
        return None
    drafts = speculative.num_speculative_tokens
    given = speculative.acceptance
    rates = (given,) * drafts if isinstance(given, float | int) else tuple(given)
    return Speculation(speculative.method, drafts, _acceptance(rates, seed))


def _acceptance(rates: tuple[float, ...], seed: int) -> Acceptance:
    """Accept drafts from the first on, each with its position's probability, until one is rejected."""

    def accept(request_id: int, verified_steps: int, drafts: int) -> int:
        for position in range(drafts):
            draw = keyed_uniform(seed, request_id, "acceptance", verified_steps * len(rates) + position)
            if draw >= rates[position]:
                return position
        return drafts

    return accept


def draft_shape(speculative: Speculative | None, shape: ModelShape, scenario: Scenario) -> ModelShape | None:
    """Return the draft model; EAGLE's head is one layer of the model (Li et al., 2024, section 3)."""
    if speculative is None or speculative.method == "ngram":
        return None
    if speculative.model is not None:
        return load_model(speculative.model, scenario.folder)
    return replace(
        shape,
        name=f"{shape.name} (EAGLE)",
        num_layers=1,
        layer_windows=shape.layer_windows[-1:],
        layer_experts=shape.layer_experts[-1:],
    )
