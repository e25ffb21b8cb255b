"""Predictors from the output lengths of an earlier part of a trace: survival, exact match, predicted length."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Float64Array, Int64Array, integer, integers
from ..errors import InputError
from ..instance import MAX_TOKENS, Instance
from .base import CutoffTables, asked, require_table, rounded_cutoffs

__all__ = ["ExactMatch", "PredictedLength", "Survival"]

# Positions of values within one group's stretch of codes; more than any age, length or difference of two lengths.
_SPAN, _ZERO = 2**34, 2**33


class _Samples:
    """Integer samples in groups 0 .. K-1, to be conditioned on being larger than something.

    One sorted array of ``group * 2**34 + 2**33 + value`` and the prefix sums of the values: a question is two binary
    searches, and memory is that of the samples, whatever their size.
    """

    def __init__(self, values: Int64Array, group: Int64Array, groups: int) -> None:
        order = np.lexsort((values, group))
        ordered = values[order]
        self._code = group[order] * _SPAN + _ZERO + ordered
        self._sum = np.concatenate(([0], np.cumsum(ordered)))
        self.count = np.bincount(group, minlength=groups)
        self._end = np.cumsum(self.count)
        self.largest = ordered[self._end - 1]

    def larger(self, group: Any, than: ArrayLike) -> Int64Array:
        """Number of samples of a group that are larger."""
        return self._end[group] - self._position(group, than)

    def ask(self, group: Any, than: Int64Array, horizon: int) -> tuple[Float64Array, Float64Array]:
        """``P(x <= than + horizon | x > than)`` and ``E[x - than | than < x <= than + horizon]``; 0 and 1 for none."""
        i, j = self._position(group, than), self._position(group, than + horizon)
        ending = j - i
        p = ending / np.maximum(self._end[group] - i, 1)
        # The quotient is rounded to the nearest float, so that it stays within [than + 1, than + horizon].
        mean = (self._sum[j] - self._sum[i]) / np.maximum(ending, 1)
        return p, np.where(ending > 0, mean - than, 1.0)

    def _position(self, group: ArrayLike, value: ArrayLike) -> Int64Array:
        inside = np.clip(value, -_ZERO, _ZERO - 1)
        return np.searchsorted(self._code, np.asarray(group) * _SPAN + _ZERO + inside, side="right")


def _lengths(output: ArrayLike) -> Int64Array:
    checked = integers(output, "output", 1, MAX_TOKENS)
    if not len(checked):
        raise InputError("the training part is empty: there are no outputs to learn from")
    return checked


def _lengths_told(key: ArrayLike) -> Int64Array:
    return integers(key, "predicted length", -1, MAX_TOKENS)


class Survival:
    """Empirical output lengths of a training part, conditioned on age [published idea].

    With N(a) the number of training outputs longer than a,

        ``p = (N(age) - N(age + H)) / N(age)``

    and ``mu`` the mean of ``o - age`` over the training outputs o with ``age < o <= age + H``.

    Where no training output is longer than the age, nothing is known: ``p = 0``, no end in sight [ours].

    Parameters
    ----------
    output : array_like of int
        Output lengths of the training part, tokens; see :meth:`fit`.

    Raises
    ------
    InputError
        If there are none, or one is not an integer >= 1.
    """

    name = "survival"

    def __init__(self, output: ArrayLike) -> None:
        lengths = _lengths(output)
        self._samples = _Samples(lengths, np.zeros(len(lengths), np.int64), 1)
        self._table: tuple[int, Int64Array] = (-1, np.empty(0, np.int64))
        self.trained_on = ""

    @classmethod
    def fit(cls, training: Instance) -> Survival:
        """From the output lengths of `training`."""
        fitted = cls(training.output)
        fitted.trained_on = training.digest()
        return fitted

    def predict(
        self, age: ArrayLike, prompt: ArrayLike, key: ArrayLike, horizon: int
    ) -> tuple[Float64Array, Float64Array]:
        """See :class:`Predictor`; `prompt` and `key` are not used."""
        ages, horizon = asked(age, horizon)
        return self._samples.ask(0, ages, horizon)

    def survival(self, age: int, h: int) -> float:
        """``P(R > h | age)``; 1 where nothing is known."""
        alive = int(self._samples.larger(0, age))
        return int(self._samples.larger(0, age + h)) / alive if alive else 1.0

    def shared_table(self, horizon: int) -> Int64Array:
        """Cut-offs of ages 0, 1, ...; the last entry serves all higher ages. Kept for the next call."""
        if self._table[0] != horizon:
            longest = int(self._samples.largest[0])
            require_table(longest + 1)
            table = rounded_cutoffs(*self._samples.ask(0, np.arange(longest + 1), horizon), horizon)
            self._table = (horizon, table)
        return self._table[1]

    def cutoffs(self, age: Int64Array, horizon: int) -> Int64Array:
        """Cut-offs of requests of these ages: what a live router looks up in every step."""
        table = self.shared_table(horizon)
        return table[np.minimum(age, len(table) - 1)]

    def tables(self, key: Int64Array, horizon: int) -> CutoffTables:
        """Cut-offs by age for requests with these keys."""
        none = np.zeros(len(key), np.int64)
        return CutoffTables(self.shared_table(horizon), np.empty(0, np.int64), none, none)

    def __repr__(self) -> str:
        return f"Survival({int(self._samples.count[0])} outputs)"


class ExactMatch:
    """Survival per key (a prompt hash, a session), falling back to that of all requests [published idea].

    A key counts if at least `least` training requests have it; an age that none of them reached falls back too.

    Parameters
    ----------
    output, key : array_like of int, shape (n,)
        Output lengths and keys of the training part; -1 is no key.
    least : int
        >= 1.

    Raises
    ------
    InputError
        If there is no training request, or none has a key.
    """

    name = "exact-match"

    def __init__(self, output: ArrayLike, key: ArrayLike, least: int = 1) -> None:
        self.fallback = Survival(output)
        self.trained_on = ""
        lengths, keys = _lengths(output), integers(key, "key", -1, 2**63 - 1)
        if len(keys) != len(lengths):
            raise InputError(f"key has {len(keys)} entries, output has {len(lengths)}")
        known = keys >= 0
        if not known.any():
            raise InputError("the training part has no keys to match")
        every, inverse, counts = np.unique(keys[known], return_inverse=True, return_counts=True)
        enough = counts >= integer(least, "least", 1)
        self._keys = every[enough]
        kept = enough[inverse]
        group = (np.cumsum(enough) - 1)[inverse[kept]]
        self._samples = _Samples(lengths[known][kept], group, len(self._keys)) if kept.any() else None

    @classmethod
    def fit(cls, training: Instance, least: int = 1) -> ExactMatch:
        """From the output lengths and keys of `training`."""
        if training.key is None:
            raise InputError("the training part has no keys to match; instance.replace(key=...) gives it some")
        fitted = cls(training.output, training.key, least)
        fitted.trained_on = training.digest()
        return fitted

    def predict(
        self, age: ArrayLike, prompt: ArrayLike, key: ArrayLike, horizon: int
    ) -> tuple[Float64Array, Float64Array]:
        """See :class:`Predictor`; `prompt` is not used."""
        ages, horizon = asked(age, horizon)
        p, mu = self.fallback.predict(ages, prompt, key, horizon)
        group = self._group(np.asarray(key, np.int64))
        own = np.flatnonzero(group >= 0)
        if self._samples is not None and len(own):
            own = own[ages[own] < self._samples.largest[group[own]]]
            p[own], mu[own] = self._samples.ask(group[own], ages[own], horizon)
        return p, mu

    def survival(self, age: int, h: int, key: int = -1) -> float:
        """``P(R > h | age, key)``."""
        group = int(self._group(np.array([key], np.int64))[0])
        if self._samples is None or group < 0 or age >= self._samples.largest[group]:
            return self.fallback.survival(age, h)
        return int(self._samples.larger(group, age + h)) / int(self._samples.larger(group, age))

    def tables(self, key: Int64Array, horizon: int) -> CutoffTables:
        """Cut-offs by age for requests with these keys."""
        shared, samples = self.fallback.shared_table(horizon), self._samples
        if samples is None:
            return self.fallback.tables(key, horizon)
        return CutoffTables.of_groups(
            shared,
            self._group(key),
            lambda group: samples.largest[group],
            lambda group, age: rounded_cutoffs(*samples.ask(group, age, horizon), horizon),
        )

    def _group(self, key: Int64Array) -> Int64Array:
        """Numbers of the keys, -1 for those that are not known."""
        if not len(self._keys):
            return np.full(len(key), -1, np.int64)
        at = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return np.where(self._keys[at] == key, at, -1)

    def __repr__(self) -> str:
        return f"ExactMatch({len(self._keys)} keys)"


class PredictedLength:
    """A predicted output length per request, as somebody's model gave it, with its errors of a training part [ours].

    The key of a request is its predicted length v (-1: none). With the errors ``e = o - v`` of the training requests
    in the same bucket of v (quantiles),

        ``p = P(e <= age - v + H | e > age - v)``,   ``mu = E[v + e - age | age < v + e <= age + H]``.

    Without a predicted length, or at an age that no error reaches, it falls back to :class:`Survival`.

    Parameters
    ----------
    output, predicted : array_like of int, shape (n,)
        True and predicted output lengths of the training part, tokens.
    buckets : int
        Most buckets, >= 1.

    Raises
    ------
    InputError
        If there is no training request, or none has a predicted length, or one exceeds 2**31 - 1 tokens, as keys
        that are hashes do.
    """

    name = "predicted-length"

    def __init__(self, output: ArrayLike, predicted: ArrayLike, buckets: int = 16) -> None:
        self.fallback = Survival(output)
        self.trained_on = ""
        lengths, told = _lengths(output), _lengths_told(predicted)
        if len(told) != len(lengths):
            raise InputError(f"predicted has {len(told)} entries, output has {len(lengths)}")
        known = told >= 0
        if not known.any():
            raise InputError("the training part has no predicted lengths")
        value, error = told[known], (lengths - told)[known]
        number = min(integer(buckets, "buckets", 1), len(value))
        self._edges = np.unique(np.sort(value)[np.arange(1, number) * len(value) // number])
        bucket = np.searchsorted(self._edges, value, side="right")
        if not (bucket == 0).any():  # the least value is an edge
            self._edges, bucket = self._edges[1:], bucket - 1
        self._samples = _Samples(error, bucket, len(self._edges) + 1)

    @classmethod
    def fit(cls, training: Instance, buckets: int = 16) -> PredictedLength:
        """From the output lengths of `training` and its keys, which must be predicted lengths."""
        if training.key is None:
            raise InputError("the training part has no predicted lengths; instance.replace(key=...) gives it some")
        fitted = cls(training.output, training.key, buckets)
        fitted.trained_on = training.digest()
        return fitted

    def predict(
        self, age: ArrayLike, prompt: ArrayLike, key: ArrayLike, horizon: int
    ) -> tuple[Float64Array, Float64Array]:
        """See :class:`Predictor`; `key` is the predicted length, `prompt` is not used."""
        ages, horizon = asked(age, horizon)
        p, mu = self.fallback.predict(ages, prompt, key, horizon)
        told = _lengths_told(key)
        own = np.flatnonzero((told >= 0) & (ages < self._reach(told)))
        p[own], mu[own] = self._samples.ask(self._bucket(told[own]), ages[own] - told[own], horizon)
        return p, mu

    def survival(self, age: int, h: int, key: int = -1) -> float:
        """``P(R > h | age, predicted length)``."""
        told = _lengths_told([key])
        if key < 0 or age >= int(self._reach(told)[0]):
            return self.fallback.survival(age, h)
        bucket = self._bucket(told)[0]
        return int(self._samples.larger(bucket, age + h - key)) / int(self._samples.larger(bucket, age - key))

    def tables(self, key: Int64Array, horizon: int) -> CutoffTables:
        """Cut-offs by age for requests with these predicted lengths."""
        return CutoffTables.of_groups(
            self.fallback.shared_table(horizon),
            _lengths_told(key),
            lambda told: np.maximum(self._reach(told), 0),
            lambda told, age: rounded_cutoffs(*self._samples.ask(self._bucket(told), age - told, horizon), horizon),
        )

    def _bucket(self, told: Int64Array) -> Int64Array:
        return np.searchsorted(self._edges, told, side="right")

    def _reach(self, told: Int64Array) -> Int64Array:
        """Longest output that is thought possible."""
        return told + self._samples.largest[self._bucket(told)]

    def __repr__(self) -> str:
        return f"PredictedLength({int(self._samples.count.sum())} outputs, {len(self._samples.count)} buckets)"
