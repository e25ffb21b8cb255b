"""Search for P1 at trace scale: a beam where slots are short, then annealing, for as long as one likes [ours]."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from .._validate import Int64Array, integer, real
from ..errors import InputError
from ..instance import Cluster, Instance
from ..schedule import Schedule, active_steps, check, peak_sum
from .annealing import Annealing, profile
from .beam import SQUARES, Beam
from .budget import Budget
from .given import given_starts

__all__ = ["Found", "improved", "search_placement"]

Method = Literal["auto", "beam", "annealing"]
Progress = Callable[[float, int, int], None]

METHODS = ("auto", "beam", "annealing")

# Chosen on azure code, on generated workloads, and on the first quarter of azure conv.
_CROWDED = 0.2  # share of the work in steps without a free slot per worker, from which a beam pays
_BEAM = 0.6  # its share of the budget
_WIDEST = 4096
_LEANINGS = (1.0, 4.0, 0.25)  # weights of squares of the beams of several threads, over the usual one
_CHILD = 5  # moves that the placement of a request on a worker counts as, by its time
_SMALL = 1000  # requests, up to which annealing starts hot, and over again, from the best so far
_SHARES = (0.05, 0.004)
_SHARES_SMALL = (0.3, 0.01)
_SHARES_BEAM = (0.002, 0.0002)
_ROUND = 500  # moves per request of a round in small problems; larger ones have longer rounds
_EVEN = 0.2  # weight of squared loads at first, over the mean load
_BEND = 0.7  # below 1, the temperature falls faster at first
_LAST = 0.97  # share of a round, from which only what is better is accepted


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes
    ----------
    schedule : Schedule
        Starts as given, never worse than the placement it began with.
    objective : int
        Its ``peak_sum``, token-steps.
    seconds : float
        Compilation not counted.
    moves : int
        Tried; every placement of a request that a beam looks at counts as five.
    interrupted : bool
        It was stopped by Ctrl-C.
    trajectory : tuple of (float, int, int)
        Seconds, moves and objective: at the start, and of every better placement.
    """

    schedule: Schedule
    objective: int
    seconds: float
    moves: int
    interrupted: bool
    trajectory: tuple[tuple[float, int, int], ...]


def search_placement(
    inst: Instance,
    cluster: Cluster,
    sched: Schedule,
    *,
    time_limit: float = 60.0,
    moves: int | None = None,
    seed: int = 0,
    method: Method = "auto",
    target: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> Found:
    """A placement with the starts of `sched` and a smaller ``peak_sum`` (P1), by search.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    sched : Schedule
        A feasible one, say of a router's run, or one found earlier, from which the search goes on.
    time_limit : float
        Seconds, > 0; compilation is not counted.
    moves : int, optional
        Most moves. If the time limit does not cut them short, the result depends on `moves`, `seed` and `threads`
        alone.
    seed : int
    method : {"auto", "beam", "annealing"}
        ``annealing``: moves and exchanges at falling temperature (``oracles/annealing.py``). ``beam``: a beam
        (``oracles/beam.py``), then annealing at low temperature. ``auto``: with a beam where every slot is taken
        much of the time, so that moves alone lead nowhere; the beam does not know KV capacities, and is left out there.
    target : int
        An objective that cannot be beaten: stop there.
    threads : int
        Stretches of the trace that are annealed at the same time, and beams (up to three, of which the best counts).
    progress : callable, optional
        Called with seconds, moves and objective whenever there is a better placement.

    Returns
    -------
    Found
        Also after Ctrl-C.

    Raises
    ------
    InputError
        If the instance is on the wall clock, the starts are none of it, or an option is out of range.
    InvalidSchedule
        If `sched` breaks a rule.

    Examples
    --------
    >>> inst = Instance(release=[0, 0, 0, 0], prompt=[5, 4, 4, 3], output=[2, 2, 2, 2])
    >>> cluster = Cluster(workers=2, slots=2)
    >>> found = search_placement(inst, cluster, Schedule([0] * 4, [0, 0, 1, 1]), moves=1000)
    >>> found.objective
    18
    """
    start = given_starts(inst, cluster, sched.start)
    check(inst, cluster, sched)
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; methods: {', '.join(METHODS)}")
    limit = real(time_limit, "time_limit", positive=True)
    most = None if moves is None else integer(moves, "moves", 1)
    integer(seed, "seed", 0)
    integer(threads, "threads", 1, 1024)
    begin, steps = active_steps(start, inst.output)
    axis = _Axis(begin, begin + inst.output, inst.prompt - begin, len(steps), cluster)
    course = _Course(limit, most, target, progress)
    worker = _search(axis, sched.worker, seed, method, threads, course)
    found = Schedule(sched.start, worker)
    return Found(
        found, peak_sum(inst, cluster, found), course.seconds, course.moves, course.interrupted, tuple(course.points)
    )


def improved(
    begin: Int64Array,
    end: Int64Array,
    base: Int64Array,
    steps: int,
    cluster: Cluster,
    worker: Int64Array,
    seed: int = 0,
    moves: int | None = None,
    time_limit: float = 1.0,
    target: int = 0,
    progress: Callable[[int], None] | None = None,
    cooling: int | None = None,
    beam: bool = False,
) -> tuple[Int64Array, int]:
    """As :func:`search_placement`, on the axis of active steps and without checks, for the exact solvers.

    `worker` keeps the slots, but may be above the KV capacity: the price returned is ``peak_sum`` plus 1000 per
    token above it. `cooling` is the number of moves per request of a round. Small problems get no beam unless `beam`
    is set: it takes some seconds to compile.
    """
    axis = _Axis(begin, end, base, steps, cluster)
    report = None if progress is None else lambda _, __, price: progress(price)
    course = _Course(time_limit, moves, target, report)
    method: Method = "auto" if beam or len(begin) > _SMALL else "annealing"
    return _search(axis, worker, seed, method, 1, course, cooling), course.price


@dataclass(frozen=True)
class _Axis:
    begin: Int64Array
    end: Int64Array
    base: Int64Array
    steps: int
    cluster: Cluster

    def beam(self, width: int, leaning: float = 1.0) -> Beam:
        workers, slots = self.cluster.workers, self.cluster.slots
        return Beam(self.begin, self.end, self.base, self.steps, workers, slots, width, leaning * SQUARES)

    def crowded(self) -> float:
        """Share of the requests' steps in which there are fewer free slots than workers."""
        active, _ = profile(self.begin, self.end, self.base, self.steps)
        crowded = active > self.cluster.workers * (self.cluster.slots - 1)
        return float(active[crowded].sum() / max(1, active.sum()))


class _Course(Budget):
    """The budget, the price of the best placement so far, and one at which to stop."""

    def __init__(self, limit: float, most: int | None, target: int, progress: Progress | None) -> None:
        super().__init__(limit, most, progress)
        self.target, self.price = target, 0

    def begin(self, price: int) -> None:
        """The budget counts from here."""
        self.began = time.perf_counter()
        self.better(price)

    @property
    def over(self) -> bool:
        return super().over or self.price <= self.target

    def better(self, price: int) -> None:
        self.price = price
        self.note(price)


def _search(
    axis: _Axis,
    worker: Int64Array,
    seed: int,
    method: Method,
    threads: int,
    course: _Course,
    cooling: int | None = None,
) -> Int64Array:
    n, cluster = len(worker), axis.cluster
    annealing = Annealing(
        axis.begin, axis.end, axis.base, axis.steps, cluster.workers, cluster.slots, cluster.kv_capacity, worker,
        seed, threads,
    )  # fmt: skip
    annealing.temperatures((0.5,))  # compiles
    with_beam = method == "beam" or (method == "auto" and cluster.kv_capacity is None and axis.crowded() > _CROWDED)
    if with_beam:
        axis.beam(1).run(1)
    best = _Best(annealing, course)
    if n < 2 or cluster.workers < 2:
        return best.worker
    try:
        if with_beam:
            for placement in _beams(axis, course, threads):
                annealing.place(placement)
                best.keep()
        _anneal(
            annealing, best, _SHARES_SMALL if n <= _SMALL else _SHARES_BEAM if with_beam else _SHARES, course, cooling
        )
    except KeyboardInterrupt:
        course.interrupted = True
    return best.worker


class _Best:
    """The best placement that an annealing has come to."""

    def __init__(self, annealing: Annealing, course: _Course) -> None:
        self.annealing, self.course, self.worker = annealing, course, annealing.worker
        course.begin(annealing.price)

    def keep(self) -> None:
        if self.annealing.price < self.course.price:
            self.worker = self.annealing.worker
            self.course.better(self.annealing.price)

    def back(self) -> None:
        if self.annealing.price > self.course.price:
            self.annealing.place(self.worker)


def _beams(axis: _Axis, course: _Course, threads: int) -> list[Int64Array]:
    """Placements of beams as wide as their share of the budget allows; none if there is no time for any."""
    n, leanings = len(axis.begin), _LEANINGS[:threads]
    children = n * axis.cluster.workers * len(leanings)  # at width 1
    if course.most is not None:
        width = min(_WIDEST, int(_BEAM * course.most) // (_CHILD * children))
    else:
        # Placements that do not fit the caches cost more, so the width is reduced whenever time gets short.
        trial, sample = axis.beam(16), max(64, n // 50)
        began = time.perf_counter()
        trial.run(sample)
        each = (time.perf_counter() - began) / min(n, sample)
        width = int(min(_WIDEST, trial.width * _BEAM * course.limit / (each * n)))
    if width < 1:
        return []
    beams = [axis.beam(width, leaning) for leaning in leanings]
    width, piece = beams[0].width, max(16, n // 400)
    with ThreadPoolExecutor(len(beams)) as pool:
        while beams[0].done < n:
            if course.seconds >= course.limit:
                return []
            began = time.perf_counter()
            list(pool.map(lambda beam, width=width: beam.run(piece, width), beams))
            each = (time.perf_counter() - began) / piece
            if course.most is None and course.seconds + each * (n - beams[0].done) > _BEAM * course.limit * 1.05:
                width = max(1, width * 3 // 4)
    course.moves += _CHILD * children * width
    return [beam.placement() for beam in beams]


def _anneal(
    annealing: Annealing, best: _Best, shares: tuple[float, float], course: _Course, cooling: int | None
) -> None:
    """Rounds of falling temperature, each from the best placement so far; for large problems one alone."""
    n = len(best.worker)
    longest = n * (cooling or _ROUND * max(1, n // 24))
    while not course.over:
        best.back()
        hot, cold = annealing.temperatures(shares)
        even = _EVEN / annealing.size if n > _SMALL else 0.0
        for share, moves in course.round(longest):
            temperature = hot * (cold / hot) ** (share / _LAST) ** _BEND if share < _LAST else 0.0
            annealing.run(moves, temperature, even * temperature / hot)
            best.keep()
