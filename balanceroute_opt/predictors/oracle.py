"""Predictors that are told the truth, all of it or with stated errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._validate import Float64Array, Int64Array, integer, real
from ..errors import InputError
from ..instance import Instance
from .base import answer, asked, rounded_cutoffs
from .empirical import Survival

__all__ = ["NoisyOracle", "Oracle", "cutoffs"]


class Oracle:
    """The truth: what clairvoyant variants are given.

    Before use, :meth:`attach` binds it to the instance whose requests it will be asked about; :func:`simulate` does so.
    Ages, prompts and keys do not tell which request is meant, so that it also needs their `index`.
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

        Raises
        ------
        InputError
            If a request is unknown, or older than it becomes.
        """
        known = len(self._output)
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < known:
            wrong = int(index.min()) if int(index.min()) < 0 else int(index.max())
            raise InputError(f"the oracle knows {known} requests and is asked about request {wrong}")
        left = self._output[index] - (prompt - self._prompt[index]) - age
        if len(left) and int(left.min()) < 1:
            i = int(np.argmin(left))
            raise InputError(
                f"the oracle is asked about request {index[i]} at age {age[i]}, prompt {prompt[i]}; it has prompt "
                f"{self._prompt[index[i]]} and ends after {self._output[index[i]]} tokens"
            )
        return left

    def true_cutoffs(self, index: Int64Array, age: Int64Array, prompt: Int64Array, horizon: int) -> Int64Array:
        """``R`` where it is at most the horizon, ``horizon + 1`` elsewhere."""
        return np.minimum(self.remaining(index, age, prompt), horizon + 1)

    def predict(
        self, age: Int64Array, prompt: Int64Array, key: Int64Array, horizon: int, index: Int64Array | None = None
    ) -> tuple[Float64Array, Float64Array]:
        """See :class:`Predictor`; p is 0 or 1. `index` names the requests and cannot be left out.

        Raises
        ------
        InputError
            Without `index`; as :meth:`remaining`.
        """
        if index is None:
            raise InputError(f"the {self.name} needs the index of each request; age, prompt and key do not name it")
        age, horizon = asked(age, horizon)
        cutoff = self.true_cutoffs(np.asarray(index, np.int64), age, np.asarray(prompt, np.int64), horizon)
        ends = (cutoff <= horizon) & (horizon > 0)
        return ends.astype(np.float64), np.where(ends, cutoff, 1).astype(np.float64)

    def survival(self, age: int, h: int) -> float:
        """Share of the attached requests longer than `age` that are longer than ``age + h``; 1 if there are none."""
        alive = int((self._output > age).sum())
        return int((self._output > age + h).sum()) / alive if alive else 1.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class NoisyOracle(Oracle):
    """The truth with stated error rates [ours].

    At every prediction a request that ends within the horizon is missed with probability `fnr`, and one that does not
    is taken to end in the middle of the horizon, step ``max(1, floor((H + 1)/2))``, with probability `fpr`,
    independently from request to request and from age to age.

    Parameters
    ----------
    fpr, fnr : float
        False-positive and false-negative rate, in [0, 1].
    seed : int
        The errors depend on (seed, request, age) alone.

    Raises
    ------
    InputError
        If a rate is outside [0, 1] or the seed is negative.
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
    if isinstance(predictor, Survival):
        return predictor.cutoffs(age, horizon)
    return rounded_cutoffs(*answer(predictor, age, prompt, key, horizon), horizon)
