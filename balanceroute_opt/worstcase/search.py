"""``adversary``: an instance on which a router is bad, found by search, small enough to be read."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from .._validate import Int64Array, integer, real
from ..errors import InputError
from ..instance import Cluster, Instance
from .adaptive import adaptive
from .batch import Player, largest_ratio, prices
from .constructions import big_request, survivors
from .families import Family
from .found import BadInstance, judge

__all__ = ["adversary"]

_Columns = tuple[Int64Array, Int64Array, Int64Array]

_POPULATION = 48
_CHILDREN = 192  # of one generation
_STALE = 60  # generations without a gain, until the population is drawn anew


def adversary(
    router: Any,
    cluster: Cluster,
    seed: int = 0,
    time_limit: float = 60.0,
    *,
    requests: int = 10,
    largest_prompt: int = 8,
    longest_output: int = 8,
    last_release: int = 6,
    evaluations: int | None = None,
    progress: Callable[[float, float, int], None] | None = None,
) -> BadInstance:
    """Search for an instance with a large hindsight ratio, and shrink it to what is needed [ours].

    An evolutionary search over instances within the given bounds, from the constructions that fit into them, from an
    adversary that watches the router, and from random ones. Every instance is simulated and its optimum enumerated. The
    best one loses requests, tokens and steps as long as its ratio does not fall.

    Parameters
    ----------
    router : str or router
        As in :func:`~balanceroute_opt.compare`; deterministic.
    cluster : Cluster
        Without KV capacity.
    seed : int
        Same seed and number of `evaluations`, reached before the time limit: same instance.
    time_limit : float
        Seconds, > 0.
    requests : int
        Most requests, 2 .. 14.
    largest_prompt, longest_output, last_release : int
        Bounds on ``s_i``, ``o_i`` and ``r_i``.
    evaluations : int, optional
        Most instances to examine.
    progress : callable, optional
        Called with (seconds, ratio, instances examined) when the ratio grows.

    Returns
    -------
    BadInstance

    Raises
    ------
    InputError
        If an option is out of range, the router draws random numbers, or the cluster has a KV capacity.

    Examples
    --------
    >>> found = adversary("least-kv", Cluster(workers=2, slots=2), requests=4, evaluations=500)
    >>> found.ratio > Fraction(3, 2)
    True
    """
    player = Player(router)
    seed, limit = integer(seed, "seed", 0), real(time_limit, "time_limit", positive=True)
    requests = integer(requests, "requests", 2, 14)
    highest = tuple(
        integer(value, name, low, 10**6)
        for value, name, low in (
            (last_release, "last_release", 0),
            (largest_prompt, "largest_prompt", 1),
            (longest_output, "longest_output", 1),
        )
    )
    budget = 2**62 if evaluations is None else integer(evaluations, "evaluations", 1)
    if cluster.kv_capacity is not None:
        raise InputError("the adversary is for clusters without a KV capacity")
    search = _Search(player, cluster, requests, highest, np.random.default_rng(seed), budget, limit, progress)
    search.run()
    inst = Instance(*search.shrunk(), name=f"bad for {player.label}")
    return judge(player, inst, cluster, max(10.0, limit), "evolutionary search", search.examined)


class _Search:
    def __init__(
        self,
        player: Player,
        cluster: Cluster,
        requests: int,
        highest: tuple[int, ...],
        rng: np.random.Generator,
        budget: int,
        limit: float,
        progress: Callable[[float, float, int], None] | None,
    ) -> None:
        self.player, self.cluster, self.rng, self.progress = player, cluster, rng, progress
        self.requests, self.highest = requests, highest
        self.lowest = (0, 1, 1)
        self.budget, self.began, self.limit = budget, time.perf_counter(), limit
        self.examined = 0
        self.best: tuple[Fraction, _Columns] | None = None

    @property
    def over(self) -> bool:
        return self.examined >= self.budget or time.perf_counter() - self.began > self.limit

    def value(self, columns: list[_Columns]) -> list[Fraction]:
        """Ratios; the best one is kept."""
        price, optimum = prices(self.player, self.cluster, columns)
        self.examined += len(columns)
        j = largest_ratio(price, optimum)
        ratio = Fraction(int(price[j]), int(optimum[j]))
        if self.best is None or ratio > self.best[0]:
            self.best = ratio, columns[j]
            if self.progress is not None:
                self.progress(time.perf_counter() - self.began, float(ratio), self.examined)
        return [Fraction(int(p), int(q)) for p, q in zip(price, optimum, strict=True)]

    def run(self) -> None:
        first = True
        while not self.over:
            population = [self._random() for _ in range(_POPULATION)]
            if first:
                given = self._given()
                population[: len(given)] = given
                first = False
            values, stale = self.value(population), 0
            while not self.over and stale < _STALE:
                # The better of two random ones is a parent.
                pairs = self.rng.integers(len(population), size=(_CHILDREN, 2)).tolist()
                parents = [a if values[a] >= values[b] else b for a, b in pairs]
                children = [self._mutated(population[p]) for p in parents]
                top = max(values)
                pool, ratios = population + children, values + self.value(children)
                order = sorted(range(len(pool)), key=lambda j: (-ratios[j], len(pool[j][0]), j))
                kept: dict[bytes, int] = {}
                for j in order:
                    kept.setdefault(b"|".join(c.tobytes() for c in pool[j]), j)
                chosen = list(kept.values())[:_POPULATION]
                population, values = [pool[j] for j in chosen], [ratios[j] for j in chosen]
                stale = 0 if values[0] > top else stale + 1

    def shrunk(self) -> _Columns:
        """The best instance, made smaller one request, token or step at a time while its ratio does not fall.

        Requests stay in order of release.
        """
        assert self.best is not None
        ratio, columns = self.best
        while True:
            smaller = self._smaller(columns)
            if not smaller:
                return columns
            values = self.value(smaller)
            good = [j for j, value in enumerate(values) if value >= ratio]
            if not good:
                return columns
            ratio, columns = values[good[0]], smaller[good[0]]

    def _smaller(self, columns: _Columns) -> list[_Columns]:
        """Without a request; all prompts divided by their common divisor; one entry less by one."""
        n = len(columns[0])
        found = [tuple(np.delete(c, i) for c in columns) for i in range(n) if n > 1]
        for j in range(3):
            for i in range(n):
                if columns[j][i] > self.lowest[j] and (j or i == 0 or columns[0][i - 1] < columns[0][i]):
                    entry = columns[j].copy()
                    entry[i] -= 1
                    found.append(tuple(entry if m == j else c for m, c in enumerate(columns)))
        return found  # type: ignore[return-value]

    def _given(self) -> list[_Columns]:
        """What is known to be bad, as far as it fits."""
        release, prompt, output = self.highest
        given: list[_Columns] = []
        family = Family(min(self.requests, 12), tuple({1, prompt}), tuple({1, output}), release)
        given.append(adaptive(self.player, self.cluster, family))
        workers, slots = self.cluster.workers, self.cluster.slots
        made = []
        if workers**2 <= self.requests and slots >= workers:
            made.append(survivors(self.player, self.cluster, output))
        fits = workers * (workers - 1) < self.requests and prompt >= workers and output >= 2
        if 2 <= workers <= slots and fits:
            made.append(big_request(self.cluster, prompt // workers, output))
        return given + [(inst.release.astype(np.int64), inst.prompt.copy(), inst.output.copy()) for inst in made]

    def _random(self) -> _Columns:
        n = int(self.rng.integers(2, self.requests + 1))
        release = np.sort(self.rng.integers(0, self.highest[0] + 1, n))
        release -= release[0]
        return release, self.rng.integers(1, self.highest[1] + 1, n), self.rng.integers(1, self.highest[2] + 1, n)

    def _mutated(self, parent: _Columns) -> _Columns:
        """One to three small changes."""
        rng = self.rng
        columns = [c.copy() for c in parent]
        for _ in range(int(rng.integers(1, 4))):
            n = len(columns[0])
            move, i = int(rng.integers(6)), int(rng.integers(n))
            if move == 0 and n > 2:
                columns = [np.delete(c, i) for c in columns]
            elif move == 1 and n < self.requests:  # a copy beside the original, or a new request
                if rng.random() < 0.5:
                    new = [int(c[i]) for c in columns]
                else:
                    new = [int(rng.integers(lo, hi + 1)) for lo, hi in zip(self.lowest, self.highest, strict=True)]
                columns = [np.insert(c, i, x) for c, x in zip(columns, new, strict=True)]
            elif move == 2:
                j = int(rng.integers(n))
                for c in columns:
                    c[i], c[j] = c[j], c[i]
            else:
                j = move - 3
                if rng.random() < 0.5:
                    value = int(columns[j][i]) + int(rng.choice((-1, 1)))
                else:
                    value = int(rng.integers(self.lowest[j], self.highest[j] + 1))
                columns[j][i] = min(max(value, self.lowest[j]), self.highest[j])
        columns[0] -= columns[0].min()
        order = np.argsort(columns[0], kind="stable")
        return columns[0][order], columns[1][order], columns[2][order]
