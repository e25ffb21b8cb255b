"""Predictors of the end of a request: the termination-classifier interface (``docs/model.md``, section 5.3).

A predictor is any object with ``predict(age, prompt, key, horizon) -> (p, mu)``, vectorised over requests:
``p = P(R <= horizon)`` and ``mu = E[R | R <= horizon]``, where R counts the remaining steps with the present one.
``PREDICTORS`` names the built-in ones; :func:`split` and :func:`score` train and judge on different parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..instance import Instance
from .base import CutoffTables, Predictor, rounded_cutoffs
from .empirical import ExactMatch, PredictedLength, Survival
from .fitted import Features, Fitted, training_pairs
from .oracle import NoisyOracle, Oracle, cutoffs
from .scoring import Bin, Score, auc, require_later, sample_pairs, score, split

__all__ = [
    "PREDICTORS",
    "Bin",
    "CutoffTables",
    "ExactMatch",
    "Features",
    "Fitted",
    "NoisyOracle",
    "Oracle",
    "PredictedLength",
    "Predictor",
    "Score",
    "Survival",
    "auc",
    "cutoffs",
    "require_later",
    "rounded_cutoffs",
    "sample_pairs",
    "score",
    "split",
    "training_pairs",
]

PREDICTORS: dict[str, Callable[[Instance, int], Any]] = {
    "oracle": lambda training, horizon: Oracle(),
    "noisy-oracle": lambda training, horizon: NoisyOracle(),
    "survival": lambda training, horizon: Survival.fit(training),
    "exact-match": lambda training, horizon: ExactMatch.fit(training),
    "fitted": lambda training, horizon: Fitted.fit(training, horizon),
    "predicted-length": lambda training, horizon: PredictedLength.fit(training),
}
"""Name -> how to fit it: called with the training part and the horizon, returns the predictor."""
