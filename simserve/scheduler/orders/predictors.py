"""Guesses of output lengths, with a stated error: what orders by length go by.

Every draw is keyed by (seed, request), so a request is guessed the same in every run and under every order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, ClassVar

from simserve.errors import InputError, UnknownNameError
from simserve.registry import register
from simserve.rng import keyed_uniform
from simserve.workload.request import Request

_NORMAL = NormalDist()


class Predictor:
    """Base of all predictors: subclass it and write `predict`.

    Args:
        seed: The scenario's seed.
        options: What `option_defaults` names (None: it must be given); any other is an `UnknownNameError`.

    Attributes:
        is_length: Whether a guess is a number of tokens; else only the order of guesses means something.
        options: All options, defaults filled in.

    Raises:
        InputError: If an option is missing.
    """

    is_length: ClassVar[bool] = True
    option_defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, seed: int = 0, **options: Any) -> None:
        for name in options:
            if name not in self.option_defaults:
                raise UnknownNameError(f"option of {type(self).__name__}", name, self.option_defaults)
        self.seed = seed
        self.options = {**self.option_defaults, **options}
        for name, value in self.options.items():
            if value is None:
                raise InputError(f"{type(self).__name__} needs the option {name}")

    def predict(self, request: Request) -> float:
        """Return a guess of how many tokens a request will generate."""
        raise NotImplementedError

    def _draw_normal(self, request: Request) -> float:
        """Return a standard normal draw of this request."""
        uniform = keyed_uniform(self.seed, request.id, "predicted length")
        return _NORMAL.inv_cdf(min(max(uniform, 1e-12), 1 - 1e-12))


@register("predictor", "oracle")
class OraclePredictor(Predictor):
    """The true length."""

    def predict(self, request: Request) -> float:
        """Return the true length."""
        return request.output_tokens


@register("predictor", "noisy")
class NoisyPredictor(Predictor):
    """The true length times a log-normal factor of median 1.

    Options:
        sigma: Standard deviation of the factor's logarithm.
    """

    option_defaults: ClassVar[Mapping[str, Any]] = {"sigma": None}

    def predict(self, request: Request) -> float:
        """Return the length as guessed."""
        return request.output_tokens * math.exp(self.options["sigma"] * self._draw_normal(request))


@register("predictor", "bucketed")
class BucketedPredictor(Predictor):
    """The upper end of the bucket that the length falls into, or of a neighbouring one when it errs.

    A classifier over buckets of equal width, as in Jin et al., "S3: Increasing GPU Utilization during
    Generative Inference for Higher Throughput", NeurIPS 2023.

    Options:
        bucket_tokens: Width of a bucket.
        accuracy: How often the bucket is the right one; else it is the one above or below.
    """

    option_defaults: ClassVar[Mapping[str, Any]] = {"bucket_tokens": None, "accuracy": 1.0}

    def predict(self, request: Request) -> float:
        """Return the upper end of the bucket as guessed."""
        width, accuracy = self.options["bucket_tokens"], self.options["accuracy"]
        bucket = (request.output_tokens - 1) // width
        uniform = keyed_uniform(self.seed, request.id, "predicted length")
        if uniform >= accuracy:
            is_above = uniform >= accuracy + (1 - accuracy) / 2 or not bucket
            bucket += 1 if is_above else -1
        return float((bucket + 1) * width)


@register("predictor", "ranked")
class RankedPredictor(Predictor):
    """A ranking of lengths with a given Kendall's tau, as learned-to-rank predictors give.

    Fu et al., "Efficient LLM Scheduling by Learning to Rank", NeurIPS 2024. The score is the length with
    log-normal noise. Where lengths are log-normal with `length_sigma`, score and length have a normal copula
    of correlation rho, whose tau is 2 / pi * asin(rho) (Greiner's relation; Kruskal, "Ordinal measures of
    association", 1958), and that fixes the noise. For other lengths the stated tau is an approximation.

    Options:
        kendall_tau: Agreement with the true order: 1 is perfect, near 0 is none.
        length_sigma: Standard deviation of the logarithm of the workload's output lengths. The default is the
            middle of four public traces: 0.80 (arXiv summaries), 0.85 and 0.86 (Azure 2023 code and
            conversation), 1.00 (ShareGPT).

    Raises:
        InputError: If the tau is not in (0, 1].
    """

    is_length = False
    option_defaults: ClassVar[Mapping[str, Any]] = {"kendall_tau": None, "length_sigma": 0.9}

    def __init__(self, seed: int = 0, **options: Any) -> None:
        super().__init__(seed, **options)
        tau = self.options["kendall_tau"]
        if not 0 < tau <= 1:
            raise InputError(f"kendall_tau must be above 0 and at most 1, not {tau}")
        correlation = math.sin(math.pi / 2 * tau)
        self._sigma = self.options["length_sigma"] * math.sqrt(max(0.0, 1 / correlation**2 - 1))

    def predict(self, request: Request) -> float:
        """Return the score: only its rank means something."""
        return request.output_tokens * math.exp(self._sigma * self._draw_normal(request))
