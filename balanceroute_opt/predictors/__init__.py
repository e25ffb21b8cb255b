"""Predictors of the end of a request: the termination-classifier interface (``docs/model.md``, section 5.3).

A predictor is any object with ``predict(age, prompt, key, horizon) -> (p, mu)``, vectorised over requests:
``p = P(R <= horizon)`` and ``mu = E[R | R <= horizon]``, where R counts the remaining steps with the present one.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Float64Array, Int64Array, integer, real
from ..errors import InputError
from ..instance import Instance
from .empirical import ExactMatch, Survival

__all__ = ["CutoffTables", "ExactMatch", "NoisyOracle", "Oracle", "Predictor", "Survival", "cutoffs"]


class Predictor(Protocol):
    """What BR-H asks."""

    def predict(
        self, age: Int64Array, prompt: Int64Array, key: Int64Array, horizon: int
    ) -> tuple[ArrayLike, ArrayLike]:
        """``p`` in [0, 1] and ``mu`` in [1, horizon] (1 where p = 0), one entry per request."""

    def survival(self, age: int, h: int) -> float:
        """``P(R > h)`` of a request of this age."""


class CutoffTables(NamedTuple):
    """Cut-offs by age: request i has ``table[first[i]:last[i]]``, beyond it `shared` (last entry: the rest)."""

    shared: Int64Array
    table: Int64Array
    first: Int64Array
    last: Int64Array

    @classmethod
    def empty(cls) -> CutoffTables:
        """Tables that nobody looks into."""
        return cls(*(np.empty(0, np.int64) for _ in cls._fields))


class Oracle:
    """The truth: what clairvoyant variants are given.

    Before use, :meth:`attach` binds it to the instance whose requests it will be asked about; :func:`simulate` does so.
    """

    name = "oracle"

    def __init__(self) -> None:
        self._prompt = self._output = np.empty(0, np.int64)

    def attach(self, inst: Instance) -> None:
        """Learn the true outputs of `inst`."""
        self._prompt, self._output = inst.prompt, inst.output

    def remaining(self, index: Int64Array, age: Int64Array, prompt: Int64Array) -> Int64Array:
        """True remaining steps R of requests `index`, present step included.

        A request that was preempted carries the tokens of its first part in its prompt.
        """
        if len(index) and int(index.max()) >= len(self._output):
            raise InputError(f"the oracle knows {len(self._output)} requests and is asked about request {index.max()}")
        return self._output[index] - (prompt - self._prompt[index]) - age

    def true_cutoffs(self, index: Int64Array, age: Int64Array, prompt: Int64Array, horizon: int) -> Int64Array:
        """``R`` where it is at most the horizon, ``horizon + 1`` elsewhere."""
        return np.minimum(self.remaining(index, age, prompt), horizon + 1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class NoisyOracle(Oracle):
    """The truth with stated error rates [ours].

    At every prediction a request that ends within the horizon is missed with probability `fnr`, and one that does not
    is taken to end in the middle of the horizon with probability `fpr`, independently.

    Parameters
    ----------
    fpr, fnr : float
        False-positive and false-negative rate, in [0, 1].
    seed : int
        The errors depend on (seed, request, age) alone.
    """

    name = "noisy-oracle"

    def __init__(self, fpr: float = 0.1, fnr: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        self.fpr, self.fnr = (real(v, n, 0.0) for v, n in ((fpr, "fpr"), (fnr, "fnr")))
        for name in ("fpr", "fnr"):
            if getattr(self, name) > 1:
                raise InputError(f"{name} must be <= 1, got {getattr(self, name):g}")
        self.seed = integer(seed, "seed", 0)

    def true_cutoffs(self, index: Int64Array, age: Int64Array, prompt: Int64Array, horizon: int) -> Int64Array:
        """The cut-offs with their errors."""
        from .kernels import noisy_cutoffs

        left = self.remaining(index, age, prompt)
        return noisy_cutoffs(left, index, age, horizon, self.fpr, self.fnr, self.seed)

    def __repr__(self) -> str:
        return f"NoisyOracle(fpr={self.fpr:g}, fnr={self.fnr:g}, seed={self.seed})"


def cutoffs(
    predictor: Any, index: Int64Array, age: Int64Array, prompt: Int64Array, key: Int64Array, horizon: int
) -> Int64Array:
    """Integer cut-offs ``C_i = max(1, floor(c_i + 0.5))`` with ``c_i = (1 - p_i)*(H + 1) + p_i*mu_i`` [reading].

    Raises
    ------
    InputError
        If the predictor's answer has the wrong length, is not a number, or is out of range.
    """
    if isinstance(predictor, Oracle):
        return predictor.true_cutoffs(index, age, prompt, horizon)
    p, mu = predictor.predict(age, prompt, key, horizon)
    return rounded_cutoffs(*_checked(predictor, p, mu, len(age), horizon), horizon)


def rounded_cutoffs(p: Float64Array, mu: Float64Array, horizon: int) -> Int64Array:
    """``max(1, floor((1 - p)*(H + 1) + p*mu + 0.5))``."""
    return np.maximum(1, np.floor((1 - p) * (horizon + 1) + p * mu + 0.5)).astype(np.int64)


def _checked(predictor: Any, p: Any, mu: Any, number: int, horizon: int) -> tuple[Float64Array, Float64Array]:
    name = type(predictor).__name__
    values = []
    for what, column, low, high in (("p", p, 0.0, 1.0), ("mu", mu, 1.0, max(1.0, float(horizon)))):
        array = np.asarray(column, np.float64)
        if array.shape != (number,):
            raise InputError(f"{name}.predict returned {what} of shape {array.shape} for {number} requests")
        bad = ~((array >= low) & (array <= high))
        if bad.any():
            i = int(np.argmax(bad))
            raise InputError(f"{name}.predict returned {what}[{i}] = {array[i]!r}, outside [{low:g}, {high:g}]")
        values.append(array)
    return values[0], values[1]
