"""The value of the online game for rules that may toss coins, as a linear program with an exact bracket."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .._validate import integer
from ..errors import InputError, SolverError
from .families import Family
from .game import Information, Request, check_information

__all__ = ["RandomizedValue", "randomized_value"]

_MOST = 2_000_000  # ratios in the matrix

_Placement = tuple[int, ...]
_Node = tuple[tuple[Request, ...], _Placement]  # what was seen by a step, where the requests seen by then are


@dataclass(frozen=True)
class RandomizedValue:
    """What a randomized online rule can guarantee in expectation; made by :func:`randomized_value`.

    Attributes
    ----------
    lower, upper : Fraction
        Exact: some distribution over the instances forces `lower` on every rule, some randomized rule guarantees
        `upper` on every instance.
    family : Family
    workers : int
    information : str
    instances, positions : int
        Rows and columns of the program.
    hardest : tuple of (Fraction, tuple of Request)
        That distribution: the probability of each instance, most likely first.
    """

    lower: Fraction
    upper: Fraction
    family: Family
    workers: int
    information: str
    instances: int
    positions: int
    hardest: tuple[tuple[Fraction, tuple[Request, ...]], ...]

    def __str__(self) -> str:
        return (
            f"{self.workers} workers, {self.information}: the best randomized rule that places at once reaches a ratio "
            f"between {float(self.lower):.6f} and {float(self.upper):.6f} in expectation on the family ({self.family}; "
            f"{self.instances:,} instances)"
        )


class _Tree:
    """Positions of the player, each with the positions that it can lead to."""

    def __init__(self, family: Family, workers: int, known: bool) -> None:
        self.workers = workers
        self.index: dict[_Node, int] = {}
        self.choices: dict[tuple[tuple[Request, ...], int], list[int]] = defaultdict(list)  # (seen, parent): children
        self.instances: list[tuple[Request, ...]] = []
        self.ratios: list[list[tuple[int, Fraction]]] = []  # per instance: leaf and ratio
        entries = 0
        for requests in _instances(family, known):
            self.instances.append(requests)
            steps = sorted({x.release for x in requests})
            seen = [_seen(requests, k, known) for k in steps]
            sizes = [len(s) for s in seen]
            row = []
            for placement in _placements(len(requests), workers):
                parent = -1
                for s, size in zip(seen, sizes, strict=True):
                    parent = self._child(s, placement[:size], parent)
                row.append((parent, _peak_sum(requests, placement, workers)))
            optimum = min(cost for _, cost in row)
            self.ratios.append([(leaf, Fraction(cost, optimum)) for leaf, cost in row])
            entries += len(row)
            if entries > _MOST:
                raise InputError(f"the family is too large for a matrix: more than {_MOST} ratios")

    def _child(self, seen: tuple[Request, ...], placement: _Placement, parent: int) -> int:
        node = (seen, placement)
        found = self.index.get(node)
        if found is None:
            found = self.index[node] = len(self.index)
            self.choices[seen, parent].append(found)
        return found

    def realized(self, x: Any) -> list[Fraction]:
        """Exact probabilities of a strategy near `x`: at each position, the normalized shares of its choices."""
        probability = [Fraction(0)] * len(self.index)
        for (_, parent), children in self.choices.items():  # parents come first
            whole = Fraction(1) if parent < 0 else probability[parent]
            shares = [Fraction(max(0.0, float(x[c]))).limit_denominator(10**9) for c in children]
            total = sum(shares)
            for c, share in zip(children, shares, strict=True):
                probability[c] = whole * share / total if total else whole / len(children)
        return probability

    def best_response(self, weights: list[Fraction]) -> Fraction:
        """The least expected ratio of any rule against a distribution over the instances."""
        cost = [Fraction(0)] * len(self.index)
        for weight, row in zip(weights, self.ratios, strict=True):
            if weight:
                for leaf, ratio in row:
                    cost[leaf] += weight * ratio
        total = Fraction(0)
        for (_, parent), children in reversed(self.choices.items()):  # children come last
            least = min(cost[c] for c in children)
            if parent < 0:
                total += least
            else:
                cost[parent] += least
        return total


def randomized_value(family: Family, workers: int, information: Information = "lengths unknown") -> RandomizedValue:
    """The least expected ratio of ``peak_sum`` that a randomized online rule can guarantee over a family [ours].

    The adversary fixes an instance without seeing the coins. The program is in sequence form: a variable per position
    of the player, which is the probability that his own choices lead there; flows conserve it; each instance is a row.
    The solver's solution and its duals are rounded to fractions, and both ends are then computed exactly from these, so
    that the bracket needs no trust in the solver.

    Parameters
    ----------
    family : Family
    workers : int
    information : {"lengths unknown", "lengths known"}

    Returns
    -------
    RandomizedValue

    Raises
    ------
    InputError
        If the family is too large for a matrix.
    SolverError
        If scipy is not installed, or finds no solution.
    """
    try:
        import scipy.sparse as sp
        from scipy.optimize import linprog
    except ImportError:
        raise SolverError('scipy is not installed; install the extra "solvers" (pip install scipy)') from None
    workers = integer(workers, "workers", 1, 64)
    tree = _Tree(family, workers, check_information(information) == "lengths known")
    count, last = len(tree.index), len(tree.index)  # the last variable is the ratio itself
    rows, columns, values = zip(
        *((i, leaf, float(ratio)) for i, row in enumerate(tree.ratios) for leaf, ratio in row), strict=True
    )
    ratios = sp.hstack(
        [sp.csr_array((values, (rows, columns)), shape=(len(tree.ratios), count)), np.full((len(tree.ratios), 1), -1.0)]
    )
    flows: list[tuple[int, int, float]] = []
    right = np.zeros(len(tree.choices))
    for j, ((_, parent), children) in enumerate(tree.choices.items()):
        flows += [(j, c, 1.0) for c in children]
        if parent < 0:
            right[j] = 1.0
        else:
            flows.append((j, parent, -1.0))
    rows, columns, values = zip(*flows, strict=True)
    flow = sp.csr_array((values, (rows, columns)), shape=(len(tree.choices), count + 1))
    cost = np.zeros(count + 1)
    cost[last] = 1.0
    result = linprog(cost, A_ub=ratios, b_ub=np.zeros(len(tree.ratios)), A_eq=flow, b_eq=right, method="highs")
    if not result.success:
        raise SolverError(f"the linear program of the game failed: {result.message}")
    probability = tree.realized(result.x)
    upper = max(sum((probability[leaf] * r for leaf, r in row), Fraction(0)) for row in tree.ratios)
    shares = [Fraction(max(0.0, float(q))).limit_denominator(10**9) for q in -result.ineqlin.marginals]
    total = sum(shares)
    weights = [share / total for share in shares]
    hardest = sorted(((q, requests) for q, requests in zip(weights, tree.instances, strict=True) if q), reverse=True)
    return RandomizedValue(
        tree.best_response(weights), upper, family, workers, information, len(tree.instances), count, tuple(hardest)
    )


def _instances(family: Family, known: bool) -> Iterator[tuple[Request, ...]]:
    """The family; of orders within a step that the player cannot tell apart only one."""
    for release, prompt, output in family.blocks():
        for r, s, o in zip(release.tolist(), prompt.tolist(), output.tolist(), strict=True):
            requests = tuple(map(Request, r, s, o))
            shown = [x if known else x._replace(output=0) for x in requests]
            if shown == sorted(shown):
                yield requests


def _seen(requests: tuple[Request, ...], k: int, known: bool) -> tuple[Request, ...]:
    """What the player knows when he places the arrivals of step k."""
    return tuple(x if known or x.release + x.output <= k else x._replace(output=0) for x in requests if x.release <= k)


def _placements(n: int, workers: int) -> Iterator[_Placement]:
    """Workers of n requests, numbered by first occurrence."""

    def extend(placement: _Placement, used: int) -> Iterator[_Placement]:
        if len(placement) == n:
            yield placement
            return
        for g in range(min(used + 1, workers)):
            yield from extend((*placement, g), max(used, g + 1))

    yield from extend((), 0)


def _peak_sum(requests: tuple[Request, ...], placement: _Placement, workers: int) -> int:
    loads: dict[int, list[int]] = defaultdict(lambda: [0] * workers)
    for (r, s, o), g in zip(requests, placement, strict=True):
        for k in range(o):
            loads[r + k][g] += s + k
    return sum(map(max, loads.values()))
