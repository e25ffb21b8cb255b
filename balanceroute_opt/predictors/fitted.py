"""Any fitted scikit-learn classifier and regressor as a predictor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Float64Array, Int64Array, integer
from ..errors import InputError
from ..instance import Instance
from .base import MAX_HORIZON, asked, keys_of
from .scoring import sample_pairs

__all__ = ["Features", "Fitted", "training_pairs"]

_INSTALL = "pip install 'balanceroute-opt[predictors]'"


class Features:
    """What a classifier and a regressor are shown of a request [ours].

    Columns, by :attr:`names`: the age; ``log(1 + age)``; ``log(prompt)``; ``log(1 + number of earlier requests with
    the same key)``; their mean ``log(output)``, or that of all training requests without a key or for a new one; and
    the exponential of that minus the age, a guess at R.

    ``Features()`` knows no training part: it takes every key as new and the mean log output as 0.

    Parameters
    ----------
    training : Instance, optional
    """

    names = ("age", "log_age", "log_prompt", "key_count", "key_log_output", "key_remaining")

    def __init__(self, training: Instance | None = None) -> None:
        self._keys, self._count = np.empty(0, np.int64), np.empty(0, np.int64)
        self._sum: Any = np.empty(0)
        self.mean = 0.0
        if training is None:
            return
        if not len(training):
            raise InputError("the training part is empty: there are no outputs to learn from")
        length, key = np.log(training.output), keys_of(training)
        self.mean = float(length.mean())
        known = key >= 0
        self._keys, inverse, self._count = np.unique(key[known], return_inverse=True, return_counts=True)
        self._sum = np.bincount(inverse, weights=length[known], minlength=len(self._keys))

    def __call__(self, age: ArrayLike, prompt: ArrayLike, key: ArrayLike) -> Float64Array:
        """The columns for requests, shape (n, 6)."""
        wanted = np.asarray(key, np.int64)
        if not len(self._keys):
            return self.columns(age, prompt, np.zeros(len(wanted)), np.zeros(len(wanted)))
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        found = self._keys[at] == wanted
        return self.columns(age, prompt, np.where(found, self._count[at], 0), np.where(found, self._sum[at], 0.0))

    def columns(self, age: ArrayLike, prompt: ArrayLike, count: Any, total: Any) -> Float64Array:
        """The columns from the number of earlier requests of the key and their sum of log outputs."""
        ages = np.asarray(age, np.float64)
        level = np.where(count > 0, total / np.maximum(count, 1), self.mean)
        rows = (ages, np.log1p(ages), np.log(np.asarray(prompt, np.float64)), np.log1p(count), level)
        return np.column_stack((*rows, np.exp(level) - ages))


def training_pairs(training: Instance, limit: int | None = 100_000) -> tuple[Features, Float64Array, Int64Array]:
    """What to fit on: features of sampled pairs (request, age) of a training part, and the true R.

    The key columns of a training request hold only the requests before it, as they will when the predictor is used;
    its own output is not among its features.

    Parameters
    ----------
    training : Instance
    limit : int, optional
        Most pairs, see :func:`~balanceroute_opt.predictors.sample_pairs`; None: all.

    Returns
    -------
    features : Features
        Of the whole training part, for :class:`Fitted`.
    x : ndarray of float64, shape (pairs, 6)
    left : ndarray of int64, shape (pairs,)
        R. Fit the classifier on ``(x, left <= H)`` and the regressor on the rows with ``left <= H``.

    Raises
    ------
    InputError
        If there is no training request, or none with more than one token of output.
    """
    features = Features(training)
    count, total = _earlier(training)
    index, age = sample_pairs(training.output, None if limit is None else integer(limit, "limit", 1))
    if not len(index):
        raise InputError("nothing to fit on: no training request has more than one token of output")
    x = features.columns(age, training.prompt[index], count[index], total[index])
    return features, x, training.output[index] - age


class Fitted:
    """A classifier of ``R <= H`` and a regressor of R given ``R <= H``, both fitted, as a predictor.

    ``p`` is the classifier's probability of the class True (or 1). ``mu`` is the regressor's value, limited to
    [1, H]: regressors do not know that range.

    Parameters
    ----------
    classifier : object
        Fitted; with ``predict_proba`` and ``classes_``, as scikit-learn's (a pipeline will do).
    regressor : object
        Fitted; with ``predict``.
    features : Features, optional
        What they were fitted on; by default ``Features()``, which knows no keys.
    horizon : int, optional
        H that they were fitted for; another one is refused. None: not checked.

    Raises
    ------
    InputError
        If an estimator is not fitted, lacks a method, has other classes, or was fitted on another number of columns,
        or scikit-learn is not installed.
    """

    name = "fitted"

    def __init__(
        self, classifier: Any, regressor: Any, features: Features | None = None, horizon: int | None = None
    ) -> None:
        self.features = Features() if features is None else features
        self.horizon = None if horizon is None else integer(horizon, "horizon", 0, MAX_HORIZON)
        self.classifier, self.regressor = classifier, regressor
        self.trained_on = ""
        for role, estimator, method in (
            ("classifier", classifier, "predict_proba"),
            ("regressor", regressor, "predict"),
        ):
            _require_fitted(role, estimator, method, len(self.features.names))
        classes = list(classifier.classes_)
        if not 1 <= len(classes) <= 2 or any(c not in (0, 1) for c in classes):
            raise InputError(f"the classifier must tell the classes False and True apart, it has {classes}")
        self._column = classes.index(1) if 1 in classes else None

    @classmethod
    def fit(
        cls,
        training: Instance,
        horizon: int,
        classifier: Any = None,
        regressor: Any = None,
        limit: int | None = 100_000,
    ) -> Fitted:
        """Fit copies of two estimators to a training part.

        Parameters
        ----------
        training : Instance
        horizon : int
            H >= 1, steps.
        classifier, regressor : scikit-learn estimators, optional
            By default decision trees of at most 64 leaves with at least 100 pairs each: BR-H asks in every step, and
            gradient-boosted ones, ten times slower to ask, score little better (``docs/predictors.md``).
        limit : int, optional
            Most pairs to fit on.

        Raises
        ------
        InputError
            As :func:`training_pairs`; if no pair ends within the horizon; if the estimators cannot be fitted.
        """
        horizon = integer(horizon, "horizon", 1, MAX_HORIZON)
        try:
            from sklearn.base import clone
            from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
        except ImportError:
            raise InputError(f"fitting needs scikit-learn: {_INSTALL}") from None
        features, x, left = training_pairs(training, limit)
        ends = left <= horizon
        if not ends.any():
            raise InputError(f"no sampled request of the training part ends within {horizon} steps")
        options = {"max_leaf_nodes": 64, "min_samples_leaf": 100, "random_state": 0}
        made = []
        for given, default, rows, target in (
            (classifier, DecisionTreeClassifier, np.ones(len(x), np.bool_), ends),
            (regressor, DecisionTreeRegressor, ends, left),
        ):
            estimator = default(**options) if given is None else given
            try:
                made.append(clone(estimator).fit(x[rows], target[rows]))
            except (TypeError, ValueError) as exc:
                raise InputError(f"cannot fit {type(estimator).__name__}: {' '.join(str(exc).split())}") from None
        fitted = cls(made[0], made[1], features, horizon)
        fitted.trained_on = training.digest()
        return fitted

    def predict(
        self, age: ArrayLike, prompt: ArrayLike, key: ArrayLike, horizon: int
    ) -> tuple[Float64Array, Float64Array]:
        """See :class:`Predictor`.

        Raises
        ------
        InputError
            If `horizon` is not the one that the estimators were fitted for.
        """
        ages, horizon = asked(age, horizon)
        if self.horizon is not None and horizon != self.horizon:
            raise InputError(f"the estimators were fitted for horizon {self.horizon}, asked for {horizon}")
        if not len(ages) or horizon == 0 or self._column is None:
            return np.zeros(len(ages)), np.ones(len(ages))
        x = self.features(ages, prompt, key)
        p = np.asarray(self.classifier.predict_proba(x), np.float64)[:, self._column]
        # nan stays nan, and is refused by whoever asks.
        mu = np.clip(np.asarray(self.regressor.predict(x), np.float64), 1.0, float(horizon))
        return p, np.where(p == 0, 1.0, mu)

    def survival(self, age: int, h: int, prompt: int = 1, key: int = -1) -> float:
        """``P(R > h)`` of a request of this age and `prompt`; h must be the horizon that was fitted."""
        p, _ = self.predict([age], [prompt], [key], h)
        return 1 - float(p[0])

    def __repr__(self) -> str:
        return f"Fitted({type(self.classifier).__name__}, {type(self.regressor).__name__})"


def _require_fitted(role: str, estimator: Any, method: str, columns: int) -> None:
    name = type(estimator).__name__
    if isinstance(estimator, type) or not callable(getattr(estimator, "fit", None)):
        raise InputError(f"the {role} must be a fitted scikit-learn estimator, got {estimator!r}")
    try:
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted
    except ImportError:
        raise InputError(f"fitted estimators need scikit-learn: {_INSTALL}") from None
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise InputError(f"the {role} {name} is not fitted: fit it to training_pairs(...), or use Fitted.fit") from None
    except TypeError as exc:
        raise InputError(f"the {role} {name} is no scikit-learn estimator: {exc}") from None
    if not callable(getattr(estimator, method, None)):
        raise InputError(f"the {role} {name} has no method {method}")
    if role == "classifier" and not hasattr(estimator, "classes_"):
        raise InputError(f"the {role} {name} has no classes_")
    seen = getattr(estimator, "n_features_in_", columns)
    if seen != columns:
        raise InputError(f"the {role} {name} was fitted on {seen} columns, Features has {columns}")


def _earlier(inst: Instance) -> tuple[Int64Array, Float64Array]:
    """Per request: number of requests before it with its key, and the sum of their log outputs."""
    order = np.argsort(inst.release, kind="stable")
    key, length = keys_of(inst)[order], np.log(inst.output)[order]
    by_key = np.argsort(key, kind="stable")
    grouped = key[by_key]
    starts = np.flatnonzero(np.append(True, grouped[1:] != grouped[:-1]))
    group = np.cumsum(np.append(True, grouped[1:] != grouped[:-1])) - 1
    position = np.arange(len(key)) - starts[group]
    before = np.cumsum(length[by_key]) - length[by_key]
    total = before - before[starts][group]
    count, result = np.zeros(len(key), np.int64), np.zeros(len(key))
    place = order[by_key]
    named = grouped >= 0
    count[place[named]], result[place[named]] = position[named], total[named]
    return count, result
