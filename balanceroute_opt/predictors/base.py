"""What a predictor is asked, what it may answer, and how an answer becomes a cut-off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Float64Array, Int64Array, integer
from ..errors import InputError
from ..instance import Instance

__all__ = ["MAX_HORIZON", "CutoffTables", "Predictor", "answer", "keys_of", "rounded_cutoffs"]

MAX_HORIZON = 2**16
_MAX_ENTRIES = 2**27


class Predictor(Protocol):
    """What BR-H asks; R is the number of remaining steps, the present one included."""

    def predict(
        self, age: Int64Array, prompt: Int64Array, key: Int64Array, horizon: int
    ) -> tuple[ArrayLike, ArrayLike]:
        """``p = P(R <= horizon)`` in [0, 1] and ``mu = E[R | R <= horizon]`` in [1, horizon] (1 where p = 0).

        Parameters
        ----------
        age : ndarray of int64, shape (n,)
            Tokens generated so far.
        prompt, key : ndarray of int64, shape (n,)
            Prompt tokens; key, -1 for none.
        horizon : int
            H >= 0, steps.
        """

    def survival(self, age: int, h: int) -> float:
        """``P(R > h)`` of a request of this age."""


class CutoffTables(NamedTuple):
    """Cut-offs by age: request i has ``table[first[i]:last[i]]``, beyond it `shared` (last entry: the rest).

    A predictor with the method ``tables(key, horizon) -> CutoffTables`` is looked up by the compiled step loop;
    any other is asked by ``predict`` once a step.
    """

    shared: Int64Array
    table: Int64Array
    first: Int64Array
    last: Int64Array

    @classmethod
    def empty(cls) -> CutoffTables:
        """Tables that nobody looks into."""
        return cls(*(np.empty(0, np.int64) for _ in cls._fields))

    @classmethod
    def of_groups(
        cls,
        shared: Int64Array,
        group: Int64Array,
        length: Callable[[Int64Array], Int64Array],
        cutoffs: Callable[[Int64Array, Int64Array], Int64Array],
    ) -> CutoffTables:
        """Tables of requests that share one by `group` (-1: none of their own).

        ``length(groups)`` is how many ages a group's table has, ``cutoffs(groups, ages)`` what stands there.
        """
        used, inverse = np.unique(group, return_inverse=True)
        size = np.zeros(len(used), np.int64)
        size[used >= 0] = length(used[used >= 0])
        end = np.cumsum(size)
        total = int(end[-1]) if len(end) else 0
        require_table(total)
        age = np.arange(total) - np.repeat(end - size, size)
        table = cutoffs(np.repeat(used, size), age) if total else np.empty(0, np.int64)
        return cls(shared, table, (end - size)[inverse], end[inverse])


def require_table(entries: int) -> None:
    """Raise InputError if a table of cut-offs by age would not fit into memory."""
    if entries > _MAX_ENTRIES:
        raise InputError(f"tables by age would have {entries:,} entries, more than {_MAX_ENTRIES:,}: outputs too long")


def rounded_cutoffs(p: Float64Array, mu: Float64Array, horizon: int) -> Int64Array:
    """``C = max(1, floor(c + 0.5))`` with ``c = (1 - p)*(H + 1) + p*mu`` [reading]."""
    return np.maximum(1, np.floor((1 - p) * (horizon + 1) + p * mu + 0.5)).astype(np.int64)


def answer(
    predictor: Any, age: Int64Array, prompt: Int64Array, key: Int64Array, horizon: int
) -> tuple[Float64Array, Float64Array]:
    """What `predictor` answers, checked.

    Raises
    ------
    InputError
        If p or mu has the wrong length, is not a number, or is out of range.
    """
    reply = predictor.predict(age, prompt, key, horizon)
    name = type(predictor).__name__
    try:
        p, mu = reply
    except (TypeError, ValueError):
        raise InputError(f"{name}.predict must return the pair (p, mu), got {type(reply).__name__}") from None
    values = []
    for what, column, low, high in (("p", p, 0.0, 1.0), ("mu", mu, 1.0, max(1.0, float(horizon)))):
        try:
            array = np.asarray(column, np.float64)
        except (TypeError, ValueError) as exc:
            raise InputError(f"{name}.predict returned {what} that is no array of numbers: {exc}") from None
        if array.shape != (len(age),):
            raise InputError(f"{name}.predict returned {what} of shape {array.shape} for {len(age)} requests")
        bad = ~((array >= low) & (array <= high))
        if bad.any():
            i = int(np.argmax(bad))
            raise InputError(f"{name}.predict returned {what}[{i}] = {float(array[i])!r}, outside [{low:g}, {high:g}]")
        values.append(array)
    return values[0], values[1]


def asked(age: ArrayLike, horizon: int) -> tuple[Int64Array, int]:
    """Ages as an array and the horizon, both checked."""
    ages = np.asarray(age, np.int64)
    if ages.size and int(ages.min()) < 0:
        raise InputError(f"age must be >= 0, got {int(ages.min())}")
    return ages, integer(horizon, "horizon", 0)


def keys_of(inst: Instance) -> Int64Array:
    """Keys of an instance, -1 for each request if it has none."""
    return np.full(len(inst), -1, np.int64) if inst.key is None else inst.key
