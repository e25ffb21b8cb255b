"""Search for P2 at trace scale: starts and workers together inside start windows, for as long as one likes [ours]."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Int64Array, integer, real
from ..errors import InvalidSchedule
from ..instance import Cluster, Instance
from ..schedule import Schedule, active_steps, check, decode_time, peak_loads
from ._schedule_moves import ScheduleAnnealing, longest_first
from .anytime import search_placement
from .budget import Budget
from .forced import forced_windows
from .given import start_windows

__all__ = ["FoundSchedule", "search_schedule"]

Progress = Callable[[float, int, float], None]

_PLACING = 0.4  # share of the budget for workers alone, before starts move too
_SMALL = 1000  # requests, up to which annealing starts hot, over again, and may overfill slots on the way
_SHARES = (0.02, 0.001)
_SHARES_SMALL = (0.4, 0.003)
_ROUND = 5_000  # moves per request of a round; more in large problems
_ROUND_SMALL = 1_000
_HARDER = 9.0  # growth of the price of overfull slots in a round in which they are allowed (every other one)
_LAST = 0.97  # share of a round, from which only what is better is accepted
_AHEAD = (1, 16, 64, 256)  # requests among which the first schedules without a limit choose
_SPARE = 100  # one step more than the best first schedule has for so many, to move in


@dataclass(frozen=True)
class FoundSchedule:
    """What a search has found.

    Attributes
    ----------
    schedule : Schedule
        Inside the windows, never worse than the one it began with.
    objective : float
        Its decode time, seconds.
    seconds : float
        Compilation not counted.
    moves : int
        Moves tried.
    interrupted : bool
        It was stopped by Ctrl-C.
    trajectory : tuple of (float, int, float)
        Seconds, moves and objective: at the start, and of every better schedule.
    """

    schedule: Schedule
    objective: float
    seconds: float
    moves: int
    interrupted: bool
    trajectory: tuple[tuple[float, int, float], ...]


def search_schedule(
    inst: Instance,
    cluster: Cluster,
    sched: Schedule,
    *,
    latest: ArrayLike | None = None,
    max_wait: int | None = None,
    time_limit: float = 60.0,
    moves: int | None = None,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> FoundSchedule:
    """A schedule inside start windows with a smaller decode time than `sched` (P2), by search.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    sched : Schedule
        A feasible one inside the windows, say of a router's run, or one found earlier.
    latest : array_like of int, shape (n,), optional
        Last step in which each request may start.
    max_wait : int, optional
        Most steps from release to start. With both, the earlier limit counts; with neither, starts have no limit and
        releases do not matter: the schedule found begins in the last release.
    time_limit : float
        Seconds, > 0; compilation is not counted.
    moves : int, optional
        Most moves. If the time limit does not cut them short, the result depends on `moves`, `seed` and `threads`
        alone.
    seed : int
    threads : int
        Of the search for workers alone, as in :func:`~balanceroute_opt.oracles.anytime.search_placement`.
    progress : callable, optional
        Called with seconds, moves and objective whenever there is a better schedule.

    Returns
    -------
    FoundSchedule
        Also after Ctrl-C.

    Raises
    ------
    InputError
        If the instance is on the wall clock, the windows do not fit it, or an option is out of range.
    InvalidSchedule
        If `sched` breaks a rule or leaves the windows.

    Notes
    -----
    Starts that full slots rule out are left out first (``oracles/forced.py``). Where a single one is left for every
    request, as with `latest` = the starts of a work-conserving router, the problem is P1, and so is the search.
    Otherwise workers are searched first, then starts and workers together (``oracles/_schedule_moves.py``).

    Examples
    --------
    >>> from balanceroute_opt import StepTime
    >>> inst = Instance(release=[0, 1], prompt=[4, 4], output=[2, 2])
    >>> cluster = Cluster(workers=2, slots=1, step_time=StepTime(fixed=10.0, per_token=1.0))
    >>> found = search_schedule(inst, cluster, Schedule([0, 1], [0, 1]), max_wait=1, moves=1000)
    >>> found.schedule.start.tolist(), found.objective
    ([1, 1], 29.0)
    """
    last, _ = start_windows(inst, cluster, max_wait, latest)
    check(inst, cluster, sched)
    if last is not None and (sched.start > last).any():
        i = int(np.argmax(sched.start > last))
        raise InvalidSchedule(f"request {i} starts in step {sched.start[i]}, and may not after step {last[i]}")
    limit = real(time_limit, "time_limit", positive=True)
    most = None if moves is None else integer(moves, "moves", 1)
    integer(seed, "seed", 0)
    integer(threads, "threads", 1, 1024)
    course = _Course(inst, cluster, limit, most, progress)
    course.begin(sched)
    if not len(inst):
        return course.found()
    early = None if last is None else forced_windows(inst, cluster, max_wait, latest)[0]
    if early is not None and last is not None:
        free = bool((early < last).any())
        course.place(seed, _PLACING if free else 1.0, threads)
        if free and not course.over:
            _windows(course, early, last, seed)
    else:
        _no_limit(course, seed)
    return course.found()


class _Course(Budget):
    """The budget, and the best schedule so far."""

    def __init__(
        self, inst: Instance, cluster: Cluster, limit: float, most: int | None, progress: Progress | None
    ) -> None:
        super().__init__(limit, most, progress)
        self.inst, self.cluster = inst, cluster

    def begin(self, sched: Schedule) -> None:
        """The budget counts from here."""
        self.best = sched
        peaks = peak_loads(self.inst, self.cluster, sched)
        self.active, self.objective = len(peaks), self._seconds(len(peaks), int(peaks.sum()))
        self.began = time.perf_counter()
        self.note(self.objective)

    def offer(self, sched: Schedule) -> None:
        """A schedule that may be better, and may break a rule."""
        try:
            check(self.inst, self.cluster, sched)
        except InvalidSchedule:
            return
        peaks = peak_loads(self.inst, self.cluster, sched)
        self.take(len(peaks), int(peaks.sum()), lambda: sched)

    def take(self, active: int, peak_sum: int, sched: Callable[[], Schedule]) -> None:
        """A schedule of known price, made only if it is better."""
        objective = self._seconds(active, peak_sum)
        if objective < self.objective:
            self.best, self.active, self.objective = sched(), active, objective
            self.note(objective)

    def place(self, seed: int, share: float, threads: int) -> None:
        """Search for workers alone, with a share of the budget."""
        most = None if self.most is None else max(1, int(share * self.most))
        moves, seconds, active = self.moves, self.seconds, self.active

        def report(s: float, m: int, peak_sum: int) -> None:
            objective = self._seconds(active, peak_sum)
            if objective < self.objective:
                self.objective = objective
                self.note(objective, seconds + s, moves + m)

        found = search_placement(
            self.inst, self.cluster, self.best, time_limit=share * self.limit, moves=most, seed=seed, threads=threads,
            progress=report,
        )  # fmt: skip
        self.best, self.moves, self.interrupted = found.schedule, moves + found.moves, found.interrupted
        self.began = time.perf_counter() - seconds - found.seconds  # without compilation

    def found(self) -> FoundSchedule:
        objective = decode_time(self.inst, self.cluster, self.best)
        return FoundSchedule(self.best, objective, self.seconds, self.moves, self.interrupted, tuple(self.points))

    def _seconds(self, active: int, peak_sum: int) -> float:
        return self.cluster.step_time.seconds_of(active, peak_sum, self.inst.total_work, self.cluster.workers)


def _windows(course: _Course, early: Int64Array, last: Int64Array, seed: int) -> None:
    """Starts and workers inside windows, on the axis of all steps that these can reach."""
    output = course.inst.output
    reach, steps = active_steps(early, last - early + output)
    offset = early - reach
    _anneal(course, reach, last - offset, len(steps), seed, lambda start: start - offset, lambda at: at + offset)


def _no_limit(course: _Course, seed: int) -> None:
    """All releases 0, on an axis of active steps alone; the schedule is moved behind the last release."""
    inst, cluster = course.inst, course.cluster
    shift = int(inst.release.max())
    squeezed = lambda start: active_steps(start, inst.output)[0]  # noqa: E731
    if course.best.start.min() < shift:
        course.best = Schedule(squeezed(course.best.start) + shift, course.best.worker)
    order = np.lexsort((-inst.prompt, -inst.output))
    for window in _AHEAD:
        start, worker = np.empty((2, len(inst)), np.int64)
        longest_first(inst.prompt, inst.output, order, cluster.workers, cluster.slots, window, start, worker)
        course.offer(Schedule(start + shift, worker))
    steps = course.active + course.active // _SPARE
    first = np.zeros(len(inst), np.int64)
    _anneal(course, first, steps - inst.output, steps, seed, squeezed, lambda at: at + shift)


def _anneal(
    course: _Course,
    early: Int64Array,
    last: Int64Array,
    steps: int,
    seed: int,
    there: Callable[[Int64Array], Int64Array],
    back: Callable[[Int64Array], Int64Array],
) -> None:
    """Rounds of falling temperature, each from the best schedule so far; for large problems one alone.

    `early`, `last` are windows on an axis of `steps` positions; `there` maps starts to it, `back` from it.
    """
    inst, n = course.inst, len(course.inst)
    pause = time.perf_counter()
    annealing = ScheduleAnnealing(
        early, last, inst.prompt, inst.output, steps, course.cluster, there(course.best.start), course.best.worker,
        seed, n <= _SMALL,
    )  # fmt: skip
    annealing.temperatures((0.5,))
    course.began += time.perf_counter() - pause  # compilation is not counted
    shares = _SHARES if n > _SMALL else _SHARES_SMALL
    longest = (_ROUND if n > _SMALL else _ROUND_SMALL) * n * max(1, n // 100)
    soft = False
    try:
        while not course.over:
            annealing.place(there(course.best.start), course.best.worker)
            hot, cold = annealing.temperatures(shares)
            soft = n <= _SMALL and not soft
            for share, moves in course.round(longest):
                temperature = hot * (cold / hot) ** (share / _LAST) if share < _LAST else 0.0
                annealing.run(moves, temperature, 1.0 + _HARDER * share if soft else 0.0)
                if not annealing.over:
                    course.take(
                        annealing.active, annealing.peak, lambda: Schedule(back(annealing.start), annealing.worker)
                    )
    except KeyboardInterrupt:
        course.interrupted = True
