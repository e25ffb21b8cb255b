"""Bounded families of instances: everything that a few requests can be, up to what no router can tell apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from .._validate import Int64Array, integer
from ..errors import InputError

__all__ = ["Family"]


@dataclass(frozen=True)
class Family:
    """All instances of at most n requests with prompts and outputs from small sets [ours].

    Requests are listed in order of visibility, the first is released in step 0, and no step before the last end is
    empty: an instance that falls apart in time is at most as bad as its worst part, since a ratio of sums lies between
    the ratios of the summands (for routers that remember nothing once they are idle).

    Parameters
    ----------
    requests : int
        Most requests of an instance, 1 .. 12.
    prompts, outputs : sequence of int
        Values that ``s_i`` and ``o_i`` may take, tokens and steps, >= 1.
    releases : int
        Last step in which a request may be released, >= 0.

    Raises
    ------
    InputError
        If a value is out of range, or a set is empty.

    Examples
    --------
    >>> Family(requests=2, prompts=(1,), outputs=(1, 2), releases=1).count()
    8
    """

    requests: int
    prompts: tuple[int, ...]
    outputs: tuple[int, ...]
    releases: int = 0

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "requests", integer(self.requests, "requests", 1, 12))
        set_(self, "releases", integer(self.releases, "releases", 0, 1000))
        for name in ("prompts", "outputs"):
            values = getattr(self, name)
            if not isinstance(values, Sequence) or isinstance(values, str) or not len(values):
                raise InputError(f"{name} must be a list of at least one integer, got {values!r}")
            set_(self, name, tuple(sorted({integer(v, f"{name}[{i}]", 1, 10**6) for i, v in enumerate(values)})))

    def __str__(self) -> str:
        words = [f"{name} in {{{', '.join(map(str, getattr(self, name)))}}}" for name in ("prompts", "outputs")]
        return f"at most {self.requests} requests, {', '.join(words)}, releases 0 .. {self.releases}"

    def count(self) -> int:
        """Number of instances."""
        return sum(len(release) for release, _, _ in self.blocks())

    def blocks(self, size: int = 50_000) -> Iterator[tuple[Int64Array, Int64Array, Int64Array]]:
        """``(release, prompt, output)`` of many instances of equal length at a time, each of shape (m, n)."""
        types = np.array([(s, o) for s in self.prompts for o in self.outputs], np.int64)
        for n in range(1, self.requests + 1):
            total = len(types) ** n
            powers = len(types) ** np.arange(n, dtype=np.int64)
            for tail in combinations_with_replacement(range(self.releases + 1), n - 1):
                release = np.array((0, *tail), np.int64)
                for begin in range(0, total, size):
                    codes = np.arange(begin, min(total, begin + size), dtype=np.int64)
                    chosen = types[(codes[:, None] // powers) % len(types)]
                    prompt, output = chosen[..., 0], chosen[..., 1]
                    # Each request but the first comes before all earlier ones have ended.
                    reach = np.maximum.accumulate(release + output, axis=1)
                    whole = (release[1:] < reach[:, :-1]).all(axis=1)
                    if whole.any():
                        yield np.broadcast_to(release, prompt.shape)[whole], prompt[whole], output[whole]

    def bound_on_count(self) -> int:
        """A quick upper bound on :meth:`count`."""
        kinds = len(self.prompts) * len(self.outputs)
        return sum(math.comb(self.releases + n - 1, n - 1) * kinds**n for n in range(1, self.requests + 1))
