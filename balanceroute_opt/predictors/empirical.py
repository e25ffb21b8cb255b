"""Predictors from the output lengths of an earlier part of a trace: survival and exact match."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._validate import Float64Array, Int64Array
from ..errors import InputError
from ..instance import Instance

if TYPE_CHECKING:
    from . import CutoffTables

__all__ = ["ExactMatch", "Survival"]


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
        If there are none.
    """

    name = "survival"

    def __init__(self, output: Int64Array) -> None:
        if not len(output):
            raise InputError("the training part has no requests")
        longest = int(np.max(output))
        ends = np.bincount(output, minlength=longest + 1)
        # longer[a]: outputs > a; total[a]: their sum of lengths. One entry more serves all ages beyond.
        self._longer = len(output) - np.cumsum(ends)
        self._total = int(np.sum(output)) - np.cumsum(ends * np.arange(longest + 1))

    @classmethod
    def fit(cls, training: Instance) -> Survival:
        """From the output lengths of `training`."""
        return cls(training.output)

    def predict(
        self, age: Int64Array, prompt: Int64Array, key: Int64Array, horizon: int
    ) -> tuple[Float64Array, Float64Array]:
        """See :class:`Predictor`; `prompt` and `key` are not used."""
        last = len(self._longer) - 1
        now, later = np.minimum(age, last), np.minimum(np.asarray(age) + horizon, last)
        alive, ending = self._longer[now], self._longer[now] - self._longer[later]
        mass = self._total[now] - self._total[later]
        p = ending / np.maximum(alive, 1)
        mu = np.where(ending > 0, mass / np.maximum(ending, 1) - np.asarray(age), 1.0)
        return p, mu

    def survival(self, age: int, h: int) -> float:
        """``P(R > h | age)``; 1 where nothing is known."""
        last = len(self._longer) - 1
        alive = int(self._longer[min(age, last)])
        return int(self._longer[min(age + h, last)]) / alive if alive else 1.0

    def shared_table(self, horizon: int) -> Int64Array:
        """Cut-offs of ages 0, 1, ...; the last entry serves all higher ages."""
        from . import rounded_cutoffs

        age = np.arange(len(self._longer))
        return rounded_cutoffs(*self.predict(age, age, age, horizon), horizon)

    def tables(self, key: Int64Array, horizon: int) -> CutoffTables:
        """Cut-offs by age for requests with these keys."""
        from . import CutoffTables

        none = np.zeros(len(key), np.int64)
        return CutoffTables(self.shared_table(horizon), np.empty(0, np.int64), none, none)

    def __repr__(self) -> str:
        return f"Survival({int(self._longer[0])} outputs)"


class ExactMatch:
    """Survival per key (a prompt hash, a session), falling back to that of all requests [published idea].

    A key counts if at least `least` training requests have it; an age that none of them reached falls back too.

    Parameters
    ----------
    output, key : array_like of int, shape (n,)
    least : int

    Raises
    ------
    InputError
        If there is no training request, or none has a key.
    """

    name = "exact-match"

    def __init__(self, output: Int64Array, key: Int64Array, least: int = 1) -> None:
        self.fallback = Survival(output)
        known = key >= 0
        if not known.any():
            raise InputError("the training part has no keys to match")
        keys, inverse, counts = np.unique(key[known], return_inverse=True, return_counts=True)
        order = np.argsort(inverse, kind="stable")
        groups = np.split(output[known][order], np.cumsum(counts)[:-1])
        self._of_key = {int(k): Survival(o) for k, o in zip(keys, groups, strict=True) if len(o) >= least}

    @classmethod
    def fit(cls, training: Instance, least: int = 1) -> ExactMatch:
        """From the output lengths and keys of `training`."""
        if training.key is None:
            raise InputError("the training part has no keys to match")
        return cls(training.output, training.key, least)

    def predict(
        self, age: Int64Array, prompt: Int64Array, key: Int64Array, horizon: int
    ) -> tuple[Float64Array, Float64Array]:
        """See :class:`Predictor`; `prompt` is not used."""
        age, key = np.asarray(age), np.asarray(key)
        p, mu = (np.array(column) for column in self.fallback.predict(age, prompt, key, horizon))
        for k in np.unique(key).tolist():
            own = self._of_key.get(k)
            if own is not None:
                # An age beyond the key's longest output keeps the fallback.
                mine = np.flatnonzero((key == k) & (age < len(own._longer) - 1))
                p[mine], mu[mine] = own.predict(age[mine], age[mine], age[mine], horizon)
        return p, mu

    def survival(self, age: int, h: int, key: int = -1) -> float:
        """``P(R > h | age, key)``."""
        own = self._of_key.get(key)
        known = own is not None and age < len(own._longer) - 1
        return own.survival(age, h) if own is not None and known else self.fallback.survival(age, h)

    def tables(self, key: Int64Array, horizon: int) -> CutoffTables:
        """Cut-offs by age for requests with these keys."""
        from . import CutoffTables

        first, last = np.zeros(len(key), np.int64), np.zeros(len(key), np.int64)
        parts, at = [np.empty(0, np.int64)], 0
        keys, inverse = np.unique(key, return_inverse=True)
        for position, k in enumerate(keys.tolist()):
            own = self._of_key.get(k)
            if own is not None:
                part = own.shared_table(horizon)[:-1]
                mine = inverse == position
                first[mine], last[mine] = at, at + len(part)
                parts.append(part)
                at += len(part)
        return CutoffTables(self.fallback.shared_table(horizon), np.concatenate(parts), first, last)

    def __repr__(self) -> str:
        return f"ExactMatch({len(self._of_key)} keys)"
