"""``solve_schedule``: exact solvers of P2 under one signature, and how much waiting the slots force at least."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Int64Array, frozen, integer, real
from ..certificates import Bound, new_certificate
from ..errors import InputError, InvalidSchedule, SolverError
from ..instance import Cluster, Instance, require_fit, require_step_clock
from ..schedule import Schedule, active_steps, check, peak_loads
from .bounds import schedule_bound
from .forced import forced_starts, placed_bound
from .given import start_windows, window_data
from .placement import solve_placement
from .schedule_model import ScheduleCase, schedule_case
from .solution import Solution
from .timetable import Timetable, improve, prepare, price, solve_timetable

__all__ = ["SCHEDULE_SOLVERS", "LeastWait", "ScheduleSolution", "least_wait", "solve_schedule", "window_case"]

Solver = Literal["auto", "bnb", "highs", "cpsat", "enumeration"]
Progress = Callable[[float, float, float], None]

SCHEDULE_SOLVERS = ("auto", "bnb", "highs", "cpsat", "enumeration")

NO_LIMIT = "no limit: releases do not matter"
_MOST_LOOKS = 3 * 10**8  # at starts and steps, for the Lagrangian bound beside a solver
_TRIALS = 3  # of annealing, where starts have no limit
_MOST_EDGES = 50_000  # of a flow that looks for a proof of infeasibility
_DIGITS = Fraction(1, 10**9)  # c, a and b are floats: bounds this close to an objective are equal to it
_MIP_DIGITS = Fraction(1, 10**6)  # what the feasibility tolerances of a floating-point solver leave


@dataclass(frozen=True, eq=False, repr=False)
class ScheduleSolution(Solution):
    """A :class:`~balanceroute_opt.Solution` of P2; objective and bounds are in seconds and include ``b*W/G``.

    Attributes
    ----------
    windows : str
        The limit on starts, in words. Without one it says that releases do not matter: the schedule then is the
        best one of the same requests all released at once, begun in the last release.
    certified : Bound or None
        The best bound with a certificate; `lower_bound` can be higher, and is then claimed.
    """

    problem: Literal["placement", "schedule"] = "schedule"
    windows: str = ""
    certified: Bound | None = field(default=None)

    def _lines(self) -> list[tuple[str, str]]:
        why = [("reason", self.message)] if self.message else []
        return [*super()._lines(), ("start windows", self.windows), *why]


def solve_schedule(
    inst: Instance,
    cluster: Cluster,
    time_limit: float = 60.0,
    solver: Solver = "auto",
    max_wait: int | None = None,
    latest: ArrayLike | None = None,
    seed: int = 0,
    *,
    node_limit: int | None = None,
    warm: Schedule | None = None,
    progress: Progress | None = None,
) -> ScheduleSolution:
    """Starts and workers that minimise decode time (P2), with a bound on the optimum.

    Parameters
    ----------
    inst : Instance
        On the step clock. Preemption is not modelled; with a KV capacity every load stays below it.
    cluster : Cluster
    time_limit : float
        Seconds, > 0; kernels that are compiled at the first call come on top.
    solver : {"auto", "bnb", "highs", "cpsat", "enumeration"}
        ``bnb``: the own best-first search over time [ours] (``oracles/timetable.py``). ``highs``, ``cpsat``:
        time-indexed mixed-integer program, started from the first passes of that search. ``enumeration``: every
        schedule of a tiny instance. ``auto``: a maximum flow that may prove the windows infeasible, then, where full
        slots force every start, :func:`~balanceroute_opt.solve_placement`, else ``bnb``; where that is too large a
        first schedule beside the Lagrangian bound.
    max_wait : int, optional
        ``d_i = r_i + max_wait``, steps. Can be infeasible.
    latest : array_like of int, shape (n,), optional
        ``d_i``: last step in which each request may start. With both, the earlier one counts; with neither,
        starts have no limit, and releases do not matter: the reduced form is solved, all releases 0 and active
        steps contiguous, over a horizon that follows from a known schedule.
    seed : int
        Of the annealing that finds a first schedule, and of ``highs`` and ``cpsat``.
    node_limit : int, optional
        Search nodes (conflicts in CP-SAT): same limit, same result.
    warm : Schedule, optional
        A schedule inside the windows to begin with, that of a run for example. Without windows its order of
        starts is used.
    progress : callable, optional
        Called with (seconds, objective, lower bound) as they change.

    Returns
    -------
    ScheduleSolution
        Its schedule is checked and priced anew; ``status`` says what is proved. *infeasible*: proved that no
        schedule keeps these windows; *no_solution*: a limit came first.

    Raises
    ------
    InputError
        If the windows or `warm` do not fit the instance, the instance is on the wall clock, an option is out of
        range, the solver is unknown or not made for a problem of this size.
    SolverError
        If the solver is not installed, or its answer contradicts itself.

    Notes
    -----
    a, b and c are floats, and an objective is their exact combination, rounded. A bound within one part in 10**9 of
    the objective (10**6 for ``highs``, whose rows hold to a tolerance) is taken for equal to it.

    Examples
    --------
    >>> from balanceroute_opt import StepTime
    >>> inst = Instance(release=[0, 1], prompt=[4, 4], output=[2, 2])
    >>> cluster = Cluster(workers=2, slots=1, step_time=StepTime(fixed=10.0, per_token=1.0))
    >>> for wait in (0, 1):  # waiting for the second request saves a step
    ...     solution = solve_schedule(inst, cluster, max_wait=wait)
    ...     print(solution.schedule.start, solution.objective, solution.status)
    [0 1] 44.0 optimal
    [1 1] 29.0 optimal
    """
    if solver not in SCHEDULE_SOLVERS:
        raise InputError(f"unknown solver {solver!r}; solvers: {', '.join(SCHEDULE_SOLVERS)}")
    limit = real(time_limit, "time_limit", positive=True)
    integer(seed, "seed", 0)
    if node_limit is not None:
        node_limit = integer(node_limit, "node_limit", 1)
    prepare()
    began = time.perf_counter()
    last, words = start_windows(inst, cluster, max_wait, latest)
    if warm is not None:
        _require_warm(inst, cluster, warm, last)
    case = window_case(inst, cluster, last, warm)
    given: tuple[Int64Array, Int64Array] | None = None
    if last is None:
        words = NO_LIMIT
        listed, reduced = _list_schedule(case.inst, cluster, warm), case
        trials = [improve(reduced, *listed, seed + trial) for trial in range(_TRIALS)]
        given = min(trials, key=lambda found: price(reduced, *found))
        case = _reduced(case.inst, cluster, *given)
    elif warm is not None:
        given = case.first + (warm.start - inst.release).astype(np.int64), warm.worker
    if not len(inst):
        nothing = np.empty(0, np.int64)
        answer = Timetable("optimal", nothing, 0, start=nothing)
        known = schedule_bound(inst, cluster)
        return _conclude(inst, case, answer, known, words, time.perf_counter() - began, solver, True)
    edges = int(np.minimum(case.wait + inst.output, 2 * len(inst)).sum())
    if last is not None and solver == "auto" and edges <= _MOST_EDGES:
        answer = _ruled_out(inst, cluster, last, max_wait, latest)
        if answer.status == "infeasible":
            known = schedule_bound(inst, cluster, "fluid", max_wait, latest)
            return _conclude(inst, case, answer, known, words, time.perf_counter() - began, "flow", warm is not None)
    start = forced_starts(inst, cluster, max_wait, latest) if last is not None and solver == "auto" else None
    if start is not None:
        limits = window_data(max_wait, latest)
        answer, known, backend = _placed(case, start, limits, words, warm, seed, node_limit, began + limit, progress)
        return _conclude(inst, case, answer, known, words, time.perf_counter() - began, backend, warm is not None)
    backend = "bnb" if solver == "auto" else solver
    problem = _Problem(case, began + limit, seed, node_limit, given, progress)
    try:
        answer = _BACKENDS[backend](problem)
    except InputError:
        if solver != "auto":
            raise
        backend, answer = "list", Timetable("limit")
        if given is not None:
            answer.start, answer.worker = given
    if answer.status == "infeasible" and last is not None and edges <= _MOST_EDGES:
        answer = _ruled_out(inst, cluster, last, max_wait, latest, answer)
    iterations = min(200, _MOST_LOOKS // max(1, int(case.wait.sum()) + 50 * len(case.steps)))
    method: Literal["fluid", "lagrangian"] = "lagrangian" if iterations >= 5 else "fluid"
    known = schedule_bound(inst, cluster, method, max_wait, latest, max(1, iterations))
    return _conclude(inst, case, answer, known, words, time.perf_counter() - began, backend, given is not None)


def window_case(
    inst: Instance, cluster: Cluster, last: Int64Array | None, warm: Schedule | None = None
) -> ScheduleCase:
    """The case of these windows; without a limit (`last` is None) the reduced form, see :func:`solve_schedule`."""
    if last is not None:
        return schedule_case(inst, cluster, last)
    reduced = inst.replace(release=np.zeros(len(inst), np.int64))
    return _reduced(reduced, cluster, *_list_schedule(reduced, cluster, warm))


def _reduced(reduced: Instance, cluster: Cluster, start: Int64Array, worker: Int64Array) -> ScheduleCase:
    """The reduced form over the horizon that follows from a schedule."""
    horizon = int(reduced.output.sum())  # every step is one of some request
    c, a, _ = cluster.step_time.exact()
    if c > 0 and len(reduced):
        peaks = peak_loads(reduced, cluster, Schedule(start, worker))
        work = max(Fraction(reduced.total_work, cluster.workers), Fraction(int(reduced.work.max())))
        # Schedules that cost no more have no more active steps than this (section 7).
        horizon = min(horizon, len(peaks) + math.floor(a * (int(peaks.sum()) - work) / c))
    return schedule_case(reduced, cluster, frozen(horizon - reduced.output), limited=False)


def _ruled_out(
    inst: Instance,
    cluster: Cluster,
    last: Int64Array,
    max_wait: int | None,
    latest: ArrayLike | None,
    answer: Timetable | None = None,
) -> Timetable:
    """`answer` (or none), with infeasibility certified where a cut of the slots proves it."""
    result = Timetable("limit") if answer is None else answer
    cut = _overfull(inst, cluster, last)
    if cut is not None:
        result.status, result.message = "infeasible", str(cut)
        data = window_data(max_wait, latest) | {"requests": cut.requests.tolist(), "steps": [*map(list, cut.steps)]}
        result.certificate = new_certificate("schedule", "infeasible", inst, cluster, math.inf, data)
    return result


def _placed(
    case: ScheduleCase,
    start: Int64Array,
    limits: dict[str, Any],
    words: str,
    warm: Schedule | None,
    seed: int,
    node_limit: int | None,
    end_time: float,
    progress: Progress | None,
) -> tuple[Timetable, Bound, str]:
    """The answer where starts are forced: then P2 is P1, with its certificates and at its speed."""
    inst, cluster = case.inst, case.cluster
    c, a, _ = cluster.step_time.exact()
    fixed = c * len(active_steps(start, np.asarray(inst.output, np.int64))[1])

    def cost(peak_sum: float) -> float:
        return float(fixed + a * Fraction(peak_sum)) if math.isfinite(peak_sum) else peak_sum

    def report(seconds: float, objective: float, bound: float) -> None:
        if progress is not None:
            progress(seconds, cost(objective) + float(case.constant), cost(bound) + float(case.constant))

    found = solve_placement(
        inst, cluster, start, max(0.01, end_time - time.perf_counter()), seed=seed, node_limit=node_limit, warm=warm,
        progress=report,
    )  # fmt: skip
    answer = Timetable(
        {"optimal": "optimal", "infeasible": "infeasible"}.get(found.status, "limit"),
        nodes=found.nodes,
        trajectory=[(t, cost(x), cost(y)) for t, x, y in found.trajectory],
        message=found.message,
    )
    if found.schedule is not None:
        answer.start, answer.worker = case.first + (start - inst.release).astype(np.int64), found.schedule.worker
    if found.certificate is not None and found.status != "infeasible":
        known = placed_bound(inst, cluster, start, words, limits, found.certificate)
    else:
        known = schedule_bound(inst, cluster, "fluid", limits["max_wait"], limits["latest"])
        answer.lower_bound = cost(found.lower_bound)
    return answer, known, f"placement: {found.solver}"


class _Problem(NamedTuple):
    """What a back end is asked for."""

    case: ScheduleCase
    end_time: float
    seed: int
    node_limit: int | None
    warm: tuple[Int64Array, Int64Array] | None
    progress: Progress | None

    @property
    def left(self) -> float:
        return max(0.01, self.end_time - time.perf_counter())

    def first(self) -> tuple[Int64Array, Int64Array] | None:
        """A schedule to start a solver from."""
        try:
            found = solve_timetable(self.case, self.left / 10, warm=self.warm, seed=self.seed, heuristic=True)
        except InputError:
            return self.warm
        return self.warm if found.start is None else (found.start, found.worker)


def _bnb(problem: _Problem) -> Timetable:
    return solve_timetable(
        problem.case, problem.left, problem.node_limit, problem.warm, problem.seed, progress=_absolute(problem)
    )


def _highs(problem: _Problem) -> Timetable:
    from .schedule_solvers import schedule_highs

    warm = problem.first()
    answer = schedule_highs(
        problem.case, problem.left, problem.node_limit, warm, problem.seed, progress=_absolute(problem)
    )
    return _with(answer, warm, problem.case)


def _cpsat(problem: _Problem) -> Timetable:
    from .schedule_solvers import schedule_cpsat

    warm = problem.first()
    answer = schedule_cpsat(problem.case, problem.left, problem.node_limit, warm, problem.seed, _absolute(problem))
    return _with(answer, warm, problem.case)


def _enumeration(problem: _Problem) -> Timetable:
    from .schedule_solvers import enumerate_schedules

    return enumerate_schedules(problem.case, problem.left, problem.node_limit, problem.warm)


_BACKENDS: dict[str, Callable[[_Problem], Timetable]] = {
    "bnb": _bnb,
    "highs": _highs,
    "cpsat": _cpsat,
    "enumeration": _enumeration,
}


def _absolute(problem: _Problem) -> Progress | None:
    """The caller's callback, with the constant added to costs."""
    if problem.progress is None:
        return None
    report, constant = problem.progress, float(problem.case.constant)
    return lambda seconds, objective, bound: report(seconds, objective + constant, bound + constant)


def _with(answer: Timetable, warm: tuple[Int64Array, Int64Array] | None, case: ScheduleCase) -> Timetable:
    """The answer with the better one of its schedule and `warm`; a solver at its limit may have lost its start."""
    if warm is None or answer.status != "limit":
        return answer
    if answer.start is None or price(case, *warm) < price(case, answer.start, answer.worker):
        answer.start, answer.worker = warm
    return answer


def _conclude(
    inst: Instance,
    case: ScheduleCase,
    answer: Timetable,
    known: Bound,
    words: str,
    seconds: float,
    solver: str,
    feasible: bool,
) -> ScheduleSolution:
    """The solution that an answer amounts to, after its schedule is checked and priced again."""
    cluster, constant = case.cluster, case.constant
    schedule, objective, exact = None, math.inf, Fraction(0)
    if answer.start is not None:
        schedule = case.schedule(np.asarray(answer.start), np.asarray(answer.worker))
        if not case.limited and len(inst):
            schedule = Schedule(schedule.start + int(inst.release.max()), schedule.worker)
        try:
            check(inst, cluster, schedule)
        except InvalidSchedule as exc:
            raise SolverError(f"{solver} returned a schedule that is none: {exc}") from None
        if case.limited and (schedule.start > case.last).any():
            i = int(np.argmax(schedule.start > case.last))
            raise SolverError(
                f"{solver} returned a schedule that is none: request {i} starts in step {schedule.start[i]}, "
                f"after the last one allowed, {case.last[i]}"
            )
        peaks = peak_loads(inst, cluster, schedule)
        cost = len(peaks), int(peaks.sum()), inst.total_work, cluster.workers
        objective, exact = cluster.step_time.seconds_of(*cost), cluster.step_time.exact_seconds_of(*cost)
    trajectory = tuple((t, x + float(constant), y + float(constant)) for t, x, y in answer.trajectory)
    more: dict[str, Any] = {"nodes": answer.nodes, "trajectory": trajectory, "windows": words, "certified": known}
    if answer.status == "infeasible":
        if schedule is not None or feasible:
            raise SolverError(f"{solver} says that no schedule keeps the windows, and there is one")
        more["message"] = answer.message or f"{solver} has ruled out every schedule; nothing short certifies it"
        return ScheduleSolution(None, math.inf, math.inf, "infeasible", seconds, solver, answer.certificate, **more)
    digits = _MIP_DIGITS if solver == "highs" else _DIGITS
    claimed = Fraction(answer.lower_bound) + constant if math.isfinite(answer.lower_bound) else None
    certified = claimed is None or known.exact >= claimed * (1 - digits)
    bound = Fraction(known.exact) if claimed is None else max(claimed, Fraction(known.exact))
    lower: float = known.value if claimed is None else max(float(bound), known.value)
    status: Literal["optimal", "feasible", "no_solution"] = "no_solution"
    if schedule is not None:
        if bound > exact * (1 + digits):
            raise SolverError(
                f"{solver} claims that no schedule takes less than {float(bound):.12g} s, and returned one of "
                f"{objective:.12g} s"
            )
        met = exact - bound <= digits * exact
        if answer.status == "optimal" and not met:
            raise SolverError(f"{solver} calls {objective:.12g} s optimal, and its bound is {float(bound):.12g} s")
        status = "optimal" if met else "feasible"
        if met:
            lower = objective
    elif answer.status == "optimal":
        raise SolverError(f"{solver} calls a schedule optimal, and returned none")
    proved = lower <= known.value or (status == "optimal" and known.exact >= exact)  # floats are rounded, these are not
    certificate = known.certificate if certified and proved else None
    return ScheduleSolution(schedule, objective, lower, status, seconds, solver, certificate, **more)


def _require_warm(inst: Instance, cluster: Cluster, warm: Schedule, last: Int64Array | None) -> None:
    try:
        check(inst, cluster, warm)
    except InvalidSchedule as exc:
        raise InputError(f"warm is not a schedule of this instance: {exc}") from None
    if last is not None and (warm.start > last).any():
        i = int(np.argmax(warm.start > last))
        raise InputError(f"warm starts request {i} in step {warm.start[i]}, after the last one allowed, {last[i]}")


def _list_schedule(inst: Instance, cluster: Cluster, warm: Schedule | None) -> tuple[Int64Array, Int64Array]:
    """Everything released at once: requests in order of `warm` (else longest first) to the least-loaded free worker."""
    n, G = len(inst), cluster.workers
    order = np.argsort(-inst.output, kind="stable") if warm is None else np.argsort(warm.start, kind="stable")
    horizon = int(inst.output.sum())
    load, count = np.zeros((G, horizon + 1), np.int64), np.zeros((G, horizon + 1), np.int64)
    start, worker = np.zeros(n, np.int64), np.zeros(n, np.int64)
    capacity = cluster.kv_capacity or 2**62
    left, k = order.tolist(), 0
    while left:
        for i in list(left):
            grown = inst.prompt[i] + np.arange(inst.output[i])
            span = slice(k, k + int(inst.output[i]))
            open_ = [g for g in range(G) if count[g, k] < cluster.slots and (load[g, span] + grown).max() <= capacity]
            if not open_:
                continue
            g = min(open_, key=lambda g: (load[g, k], g))
            load[g, span] += grown
            count[g, span] += 1
            start[i], worker[i] = k, g
            left.remove(i)
        k += 1
    return start, worker


@dataclass(frozen=True)
class LeastWait:
    """How much waiting the slots force at least, and why.

    Attributes
    ----------
    value : int
        No schedule has all starts within fewer steps after release, even if requests could be interrupted and moved.
    requests : ndarray of int64
        Requests that prove it: with one step less they need `needed` slot-steps inside `steps`. Empty if `value` is 0.
    steps : tuple of (first, end)
        Ranges of steps, `end` excluded.
    needed, room : int
        Slot-steps; ``needed > room = G*B*len(steps)``.
    """

    value: int
    requests: Int64Array
    steps: tuple[tuple[int, int], ...]
    needed: int
    room: int

    def __str__(self) -> str:
        if not self.value:
            return "the slots force no waiting, as far as the preemptive relaxation can tell"
        cut = _Cut(self.requests, self.steps, self.needed, self.room)
        return f"some request waits at least {self.value} steps: with less, {cut}"


def least_wait(inst: Instance, cluster: Cluster) -> LeastWait:
    """Smallest feasible `max_wait` of the preemptive relaxation of P2, by maximum flows (networkx) [ours].

    In the relaxation request i takes any ``o_i`` of the steps ``r_i .. r_i + max_wait + o_i - 1``, and a step at most
    G*B requests. Steps between two ends of windows are alike and share a node of the flow. By the theorem on minimum
    cuts a smaller wait is infeasible because some requests need more slot-steps inside some steps than these have.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster

    Returns
    -------
    LeastWait

    Raises
    ------
    InputError
        If the instance is on the wall clock, or a request does not fit the cluster.

    Examples
    --------
    >>> inst = Instance(release=[0, 0, 0], prompt=[1, 1, 1], output=[4, 4, 4])
    >>> print(least_wait(inst, Cluster(workers=1, slots=2)))
    some request waits at least 2 steps: with less, 3 requests need 12 slot-steps in steps 0..4, which have 10
    """
    require_step_clock(inst, "least_wait")
    require_fit(inst, cluster)
    release, low, high = inst.release.astype(np.int64), 0, 1
    cut = _overfull(inst, cluster, release)
    if cut is None:
        return LeastWait(0, frozen(np.empty(0, np.int64)), (), 0, 0)
    while (found := _overfull(inst, cluster, release + high)) is not None:
        low, high, cut = high, 2 * high, found
    while high - low > 1:  # infeasible at low, feasible at high
        middle = (low + high) // 2
        found = _overfull(inst, cluster, release + middle)
        if found is None:
            high = middle
        else:
            low, cut = middle, found
    return LeastWait(high, frozen(cut.requests), cut.steps, cut.needed, cut.room)


class _Cut(NamedTuple):
    """Requests that need more slot-steps inside ranges of steps (ends excluded) than these have."""

    requests: Int64Array
    steps: tuple[tuple[int, int], ...]
    needed: int
    room: int

    def __str__(self) -> str:
        ranges = ", ".join(f"{lo}..{hi - 1}" for lo, hi in self.steps)
        return f"{len(self.requests)} requests need {self.needed} slot-steps in steps {ranges}, which have {self.room}"


def _overfull(inst: Instance, cluster: Cluster, last: Int64Array) -> _Cut | None:
    """What shows the windows infeasible in the preemptive relaxation; None if they are feasible there."""
    import networkx as nx

    release, output = inst.release.astype(np.int64), inst.output
    end = last + output
    cuts = np.unique(np.concatenate((release, end)))
    slots = cluster.workers * cluster.slots
    graph: Any = nx.DiGraph()
    graph.add_nodes_from(("source", "sink"))
    for i in range(len(inst)):
        graph.add_edge("source", ("request", i), capacity=int(output[i]))
        lo, hi = np.searchsorted(cuts, (release[i], end[i]))
        for j in range(lo, hi):
            graph.add_edge(("request", i), ("steps", j), capacity=int(cuts[j + 1] - cuts[j]))
    for j in range(len(cuts) - 1):
        graph.add_edge(("steps", j), "sink", capacity=slots * int(cuts[j + 1] - cuts[j]))
    value, (side, _) = nx.minimum_cut(graph, "source", "sink")
    if value == int(output.sum()):
        return None
    requests = np.array(sorted(node[1] for node in side if node[0] == "request"), np.int64)
    ranges: list[tuple[int, int]] = []
    for j in sorted(node[1] for node in side if node[0] == "steps"):
        lo, hi = int(cuts[j]), int(cuts[j + 1])
        if ranges and ranges[-1][1] == lo:
            lo = ranges.pop()[0]
        ranges.append((lo, hi))
    # Of the steps of a request's window outside the cut it can use each once; the rest it needs inside.
    needed = 0
    for r, e, o in zip(release[requests].tolist(), end[requests].tolist(), output[requests].tolist(), strict=True):
        inside = sum(max(0, min(hi, e) - max(lo, r)) for lo, hi in ranges)
        needed += o - (e - r - inside)
    return _Cut(requests, tuple(ranges), needed, slots * sum(hi - lo for lo, hi in ranges))
