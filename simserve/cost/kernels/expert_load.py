"""How many tokens meet each expert of the busiest rank: the loads behind a mixture-of-experts kernel's time.

Three kinds of routing, named by their skew:

- `BALANCED` (0): every expert is met equally often, as benchmarks' balanced routing has it. Few tokens meet
  as many experts as they can.
- `RANDOM` (below 0): each token picks its experts independently and all alike; some experts stay idle.
- a power law's exponent (above 0): experts' loads are drawn from a power law between 1 and 0.8 of the tokens,
  or between 0.01 and 2 where there are fewer picks than experts, scaled to the picks and rounded, no expert
  above one pick a token; so the measured tables were made (aiconfigurator, collector/helper.py,
  `power_law_logits_v3`).

The rank with the most picks sets the time of expert parallelism, so its loads are what counts. Loads are
averaged over seeded draws; every statistic is made to ascend with the tokens.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simserve.cost.kernels.form import Array

BALANCED = 0.0
RANDOM = -1.0
# Rows of the tiles that grouped GEMMs are built from.
TILE_ROWS = (8, 16, 32, 64, 128)
# Columns of a load table: activated experts, picks, then picks padded to each of `TILE_ROWS`.
ACTIVATED, PICKS, PADDED = 0, 1, 2
# Tables hold four sizes an octave, among them all that benchmarks use, up to this exponent of 2.
_OCTAVES = 18
_SIZES = np.unique(
    [f * 2.0**i for i in range(_OCTAVES + 1) for f in (1, 1.25, 1.5, 1.75) if f * 2**i % 1 == 0]
)
# Experts drawn in all, so that the average is as sure for few experts as for many; and the fewest draws.
_DRAWN_EXPERTS = 2048
_MIN_DRAWS = 8


def load_columns(tokens: Array, routing: tuple[int, int, int, float]) -> Array:
    """Return the loads of the busiest rank, a row a batch.

    Args:
        tokens: Tokens that the expert-parallel ranks route together, at least 1.
        routing: Experts, experts a token picks, expert-parallel ranks, skew.

    Returns:
        One row an entry of `tokens`; columns as named above, interpolated between the tabulated sizes.
    """
    table = load_table(*routing)
    known = np.log(_SIZES)
    inside = np.log(np.clip(tokens, _SIZES[0], _SIZES[-1]))
    result = np.column_stack([np.exp(np.interp(inside, known, column)) for column in np.log(table).T])
    # Beyond the table all but the number of experts grows with the tokens.
    result[:, PICKS:] *= np.maximum(tokens / _SIZES[-1], 1.0)[:, None]
    return result


@lru_cache(maxsize=4096)
def load_table(experts: int, picks: int, ranks: int, skew: float) -> Array:
    """Return the loads of the busiest rank at the tabulated sizes, ascending along them."""
    draws = max(_MIN_DRAWS, _DRAWN_EXPERTS // experts) if skew else 1
    rng = np.random.default_rng([experts, picks])
    uniform = rng.random((draws, experts))
    rows = []
    for tokens in _SIZES:
        if skew == BALANCED:
            loads = _balanced(int(tokens), experts, picks)[None, :]
        elif skew < 0:
            seeded = np.random.default_rng([experts, picks, 1])
            loads = seeded.binomial(int(tokens), min(1.0, picks / experts), (draws, experts)).astype(float)
        else:
            loads = _power_law(int(tokens), picks, skew, uniform, ranks)
        rows.append(_summarise(loads.reshape(len(loads), ranks, -1)))
    return np.maximum.accumulate(np.array(rows), axis=0)


def _summarise(loads: Array) -> Array:
    """Mean statistics of the busiest rank; `loads` is draws x ranks x experts of a rank."""
    busiest = loads.sum(axis=2).argmax(axis=1)
    mine = loads[np.arange(len(loads)), busiest]
    padded = [(np.ceil(mine / rows) * rows).sum(axis=1).mean() for rows in TILE_ROWS]
    return np.maximum([(mine > 0).sum(axis=1).mean(), mine.sum(axis=1).mean(), *padded], 1e-3)


def _balanced(tokens: int, experts: int, picks: int) -> Array:
    """Picks of each expert when tokens walk over the experts in strides."""
    stride = -(-experts // picks)
    if tokens > 8 * experts:
        return np.full(experts, tokens * picks / experts)
    token = np.arange(tokens)[:, None] * (1.0 if tokens >= stride else stride / tokens)
    chosen = (token + np.arange(picks)[None, :] * stride) % experts
    return np.bincount(chosen.astype(np.int64).ravel(), minlength=experts).astype(float)


def _power_law(tokens: int, picks: int, exponent: float, uniform: Array, ranks: int) -> Array:
    """Picks of each expert, draws x experts; `uniform` are the draws."""
    draws, experts = uniform.shape
    low, high = (1.0, 0.8 * tokens) if tokens * picks > experts else (0.01, 2.0)
    power = 1.0 - exponent if abs(1.0 - exponent) > 1e-6 else 1e-6
    drawn: Array = ((high**power - low**power) * uniform + low**power) ** (1 / power)
    wanted = tokens * picks
    loads = np.minimum(np.round(drawn / drawn.sum(axis=1, keepdims=True) * wanted), tokens)
    loads = np.sort(loads.reshape(draws, ranks, experts // ranks), axis=2)
    place, rank = np.arange(experts // ranks), np.arange(ranks)
    while (delta := wanted - loads.sum(axis=(1, 2))).any():
        # Picks that rounding and the cap left over go to each rank's idlest experts, superfluous ones leave
        # its busiest; one an expert at a time, more only while there are more left over than experts.
        many = np.abs(delta)[:, None]
        step = np.maximum(many // experts, 1.0)
        share = np.minimum(many // ranks + (rank[None, :] < many % ranks), len(place))[:, :, None]
        idlest, busiest = place < share, place >= len(place) - share
        room = np.where(delta[:, None, None] > 0, (tokens - loads) * idlest, -loads * busiest)
        move = np.clip(room, -step[:, :, None], step[:, :, None])
        if not move.any():
            break
        loads = np.sort(loads + move, axis=2)
    return loads
