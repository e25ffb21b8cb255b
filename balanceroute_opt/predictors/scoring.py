"""Training part and evaluated part, and how well a predictor does on the latter."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Float64Array, Int64Array, integer, real
from ..errors import InputError
from ..instance import Instance
from .base import MAX_HORIZON, answer, keys_of
from .oracle import Oracle

__all__ = ["BINS", "Bin", "Score", "auc", "require_later", "sample_pairs", "score", "split"]

BINS = 10
"""Bins of the calibration table, equally wide in p."""


def split(inst: Instance, fraction: float) -> tuple[Instance, Instance]:
    """The first ``floor(fraction * n)`` requests to train on, and the later ones to evaluate.

    Parameters
    ----------
    inst : Instance
    fraction : float
        In (0, 1).

    Returns
    -------
    training, evaluation : Instance
        In the order of release, ties by index. Disjoint, and no training request is released later than an evaluated
        one. Releases stay as they are. Names say which requests they hold.

    Raises
    ------
    InputError
        If `fraction` is not in (0, 1), or one of the parts would be empty.
    """
    fraction = real(fraction, "fraction", 0.0)
    if fraction >= 1:
        raise InputError(f"fraction must be < 1, got {fraction:g}")
    first = math.floor(fraction * len(inst))
    for number, part in ((first, "training"), (len(inst) - first, "evaluated")):
        if not number:
            raise InputError(f"the {part} part is empty: fraction {fraction:g} of {len(inst)} requests")
    order = np.argsort(inst.release, kind="stable")
    training, evaluation = inst.take(order[:first]), inst.take(order[first:])
    if not inst.name:
        return training, evaluation
    return training.replace(name=f"{inst.name}[:{first}]"), evaluation.replace(name=f"{inst.name}[{first}:]")


def require_later(training: Instance, evaluation: Instance) -> None:
    """Raise InputError unless everything in `evaluation` is released after, or with the last of, `training`."""
    if not len(training):
        raise InputError("the training part is empty")
    if training.clock != evaluation.clock:
        raise InputError(f"the training part is on the {training.clock} clock, the evaluated on the {evaluation.clock}")
    if not len(evaluation):
        return
    last, first = training.release.max(), evaluation.release.min()
    if last > first or training == evaluation:
        unit = "step" if training.clock == "step" else "second"
        raise InputError(
            f"the training part overlaps the evaluated part: its last request is released at {unit} {last:g}, "
            f"the first evaluated one at {first:g}"
        )


def sample_pairs(output: Int64Array, limit: int | None) -> tuple[Int64Array, Int64Array]:
    """Pairs (request, age) that BR-H asks about: the ages 1 .. o - 1 of every request.

    All N pairs stand in the order of requests, then ages. If there are more than `limit`, every m-th is taken,
    ``m = ceil(N / limit)``, from number ``floor(m / 2)`` on (numbers from 0): every pair has the same weight, and no
    chance is involved.

    Returns
    -------
    index, age : ndarray of int64
    """
    end = np.cumsum(output - 1)
    total = int(end[-1]) if len(end) else 0
    every = 1 if limit is None or total <= limit else -(-total // limit)
    number = np.arange(every // 2, total, every)
    index = np.searchsorted(end, number, side="right")
    return index, number - (end[index] - (output[index] - 1)) + 1


def auc(value: ArrayLike, truth: ArrayLike) -> float:
    """Probability that a positive has a larger value than a negative, ties counted half.

    ``AUC = (sum of ranks of the positives - n1*(n1 + 1)/2) / (n1*n0)`` with mean ranks of ties (Mann-Whitney), in
    integers up to the last division.

    Parameters
    ----------
    value : array_like of float, shape (n,)
    truth : array_like of bool, shape (n,)

    Returns
    -------
    float
        nan if all are positive or all negative.

    Examples
    --------
    >>> auc([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
    0.875
    """
    positive = np.asarray(truth, np.bool_)
    _, inverse, count = np.unique(np.asarray(value, np.float64), return_inverse=True, return_counts=True)
    n1 = int(positive.sum())
    n0 = len(positive) - n1
    if not n1 or not n0:
        return math.nan
    last = np.cumsum(count)
    doubled = (2 * last - count + 1)[inverse]  # twice the mean of the ranks last - count + 1 .. last
    return (int(doubled[positive].sum()) - n1 * (n1 + 1)) / (2 * n1 * n0)


@dataclass(frozen=True)
class Bin:
    """Pairs with ``low <= p < high`` (the last bin holds p = 1): their number, mean p, and share with R <= H.

    Mean and share are nan in an empty bin.
    """

    low: float
    high: float
    pairs: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Score:
    """How well a predictor did.

    Attributes
    ----------
    horizon : int
        H, steps.
    requests, pairs, of_pairs : int
        Evaluated requests; sampled pairs (request, age), see :func:`sample_pairs`; all pairs.
    ending : float
        Share of the sampled pairs with ``R <= H``.
    auc : float
        Of p against the truth ``R <= H``; nan if all or none end.
    mae : float
        Mean ``|mu - R|`` over the sampled pairs with ``R <= H``, steps; nan if there are none.
    brier : float
        Mean ``(p - [R <= H])**2``.
    calibration : tuple of Bin
    """

    horizon: int
    requests: int
    pairs: int
    of_pairs: int
    ending: float
    auc: float
    mae: float
    brier: float
    calibration: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def score(
    predictor: Any,
    evaluation: Instance,
    horizon: int,
    *,
    training: Instance | None = None,
    limit: int | None = 200_000,
) -> Score:
    """Ask a predictor about the requests of a part that it was not trained on, at the ages at which BR-H asks.

    Parameters
    ----------
    predictor : Predictor
    evaluation : Instance
    horizon : int
        H >= 0, steps.
    training : Instance, optional
        What it was trained on, to be checked to lie before `evaluation`. Without it only training on exactly
        `evaluation` is noticed.
    limit : int, optional
        Most pairs, see :func:`sample_pairs`; None: all.

    Raises
    ------
    InputError
        If there is nothing to evaluate, the training part overlaps, the horizon is out of range, or the predictor's
        answer has the wrong length, is not a number or is out of range.
    """
    horizon = integer(horizon, "horizon", 0, MAX_HORIZON)
    limit = None if limit is None else integer(limit, "limit", 1)
    if training is not None:
        require_later(training, evaluation)
    if getattr(predictor, "trained_on", "") == evaluation.digest():
        raise InputError(f"{type(predictor).__name__} was trained on the part that it would be evaluated on")
    index, age = sample_pairs(evaluation.output, limit)
    if not len(index):
        raise InputError("nothing to evaluate: no request has more than one token of output")
    left = evaluation.output[index] - age
    if isinstance(predictor, Oracle):
        predictor.attach(evaluation)
        asked: Any = _Indexed(predictor, index)
    else:
        asked = predictor
    p, mu = answer(asked, age, evaluation.prompt[index], keys_of(evaluation)[index], horizon)
    ends = left <= horizon
    return Score(
        horizon=horizon,
        requests=len(evaluation),
        pairs=len(index),
        of_pairs=int((evaluation.output - 1).sum()),
        ending=float(ends.mean()),
        auc=auc(p, ends),
        mae=float(np.abs(mu - left)[ends].mean()) if ends.any() else math.nan,
        brier=float(((p - ends) ** 2).mean()),
        calibration=_calibration(p, ends),
    )


class _Indexed:
    """An oracle that has been told which requests it is asked about."""

    def __init__(self, oracle: Oracle, index: Int64Array) -> None:
        self.oracle, self.index = oracle, index

    def predict(self, *question: Any) -> tuple[Float64Array, Float64Array]:
        age, prompt, key, horizon = question
        return self.oracle.predict(age, prompt, key, horizon, self.index)


def _calibration(p: Float64Array, ends: Any) -> tuple[Bin, ...]:
    number = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(number, minlength=BINS)
    sums = [np.bincount(number, weights=w, minlength=BINS) for w in (p, ends.astype(np.float64))]
    return tuple(
        Bin(b / BINS, (b + 1) / BINS, int(n), *(float(s[b]) / int(n) if n else math.nan for s in sums))
        for b, n in enumerate(count)
    )
