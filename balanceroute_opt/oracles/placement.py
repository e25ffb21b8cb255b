"""``solve_placement``: exact and heuristic solvers of P1 under one signature (``docs/model.md``, section 6)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Int64Array, integer, real
from ..certificates import new_certificate
from ..errors import InputError, InvalidSchedule, SolverError
from ..instance import MAX_TOKENS, Cluster, Instance
from ..schedule import Schedule, active_steps, check
from . import branch, windows
from .bounds import placement_bound
from .cpsat import solve_cpsat, solve_mathopt
from .enumeration import partitions, solve_enumeration
from .given import given_starts
from .highs import solve_highs
from .model import PlacementCase, placement_case, placement_model
from .search import greedy, improve
from .solution import Answer, Solution, conclude_placement

__all__ = ["SOLVERS", "solve_placement"]

Solver = Literal["auto", "bnb", "highs", "cpsat", "mathopt", "search", "enumeration"]
Progress = Callable[[float, float, float], None]

SOLVERS = ("auto", "bnb", "highs", "cpsat", "mathopt", "search", "enumeration")

_MAX_BRANCH = 1_000  # requests of one part, for the branch and bound
_MAX_LEAVES = 60_000  # of one certificate
_MAX_PARTITIONS = 20_000  # that the verifier tries again
_MAX_MODEL = 200  # requests, for HiGHS in the portfolio
_WIDE = 0.01  # gap at which windows may do better than the whole
_REPLAYED = 10**6  # entries of the table of loads behind an enumeration that the verifier repeats


@dataclass
class _Job:
    """What a back end is asked for, for one part of the problem."""

    solver: str
    end_time: float
    seed: int
    node_limit: int | None
    memory_limit: int
    gap: float
    threads: int
    warm: Int64Array | None
    certify: bool
    report: Callable[[float, float], None]

    @property
    def left(self) -> float:
        return max(0.0, self.end_time - time.perf_counter())


def solve_placement(
    inst: Instance,
    cluster: Cluster,
    start: ArrayLike,
    time_limit: float = 60.0,
    solver: Solver = "auto",
    seed: int = 0,
    *,
    node_limit: int | None = None,
    memory_limit: int = 2**30,
    gap: float = 0.0,
    threads: int = 1,
    warm: Schedule | None = None,
    certificate: bool = True,
    progress: Progress | None = None,
) -> Solution:
    """Workers for given admission steps that minimise ``peak_sum`` (P1), with a bound on the optimum.

    Parameters
    ----------
    inst : Instance
        On the step clock. Preemption is not modelled; with a KV capacity every load stays below it.
    cluster : Cluster
    start : array_like of int, shape (n,)
        ``t_i``: step of admission of each request, >= its release.
    time_limit : float
        Seconds, > 0. Compilation, once per installation, is not counted.
    solver : {"auto", "bnb", "highs", "cpsat", "mathopt", "search", "enumeration"}
        ``bnb``: the own branch and bound [ours] (``oracles/branch.py``), after an annealed incumbent. ``highs``,
        ``cpsat``: mixed-integer program with symmetry broken, peaks bounded by ``migration`` and that incumbent.
        ``mathopt``: the same program through OR-Tools' MathOpt (SCIP). ``search``: annealing only, bound ``migration``.
        ``enumeration``: every partition of a tiny instance. ``auto``: ``bnb`` for a quarter or half of the time; then
        HiGHS (if one request alone sets most peaks), the sum of the bounds of windows (if the gap is above 1 %) or
        ``bnb`` again; ``search`` where more than 1000 requests hang together.
    seed : int
        Same seed and a `node_limit` that is reached before the time limit: same result.
    node_limit : int, optional
        Search nodes of each part, and of each window (conflicts in CP-SAT, moves in ``search``).
    memory_limit : int
        Bytes for the open nodes of ``bnb``; when they are full it goes on depth first.
    gap : float
        Relative gap at which to stop; 0 asks for a proof.
    threads : int
        Of ``highs`` and ``cpsat``; more than one can make their result depend on timing.
    warm : Schedule, optional
        A placement with these starts to begin with.
    certificate : bool
        Attach a certificate where ``migration`` reaches the bound, or the search trees have at most 60 000 leaves.
    progress : callable, optional
        Called with (seconds, objective, lower bound) as they change.

    Returns
    -------
    Solution
        Its schedule is checked and priced anew; ``status`` says what is proved. More than ``G*B`` active
        requests in a step are *infeasible*, and ``message`` names the step.

    Raises
    ------
    InputError
        If `start` does not fit the instance, the instance is on the wall clock, an option is out of range, the
        solver is unknown or not made for a problem of this size, or `warm` is no placement with these starts.
    SolverError
        If the solver is not installed, or its answer contradicts itself.

    Notes
    -----
    Requests fall into parts that share no step with each other (connected components of the interval
    graph); each is solved by itself.

    Examples
    --------
    >>> inst = Instance(release=[0, 0, 0], prompt=[5, 4, 4], output=[1, 1, 1])
    >>> solution = solve_placement(inst, Cluster(workers=2, slots=2), [0, 0, 0], solver="enumeration")
    >>> solution.objective, solution.status
    (8, 'optimal')
    """
    if solver not in SOLVERS:
        raise InputError(f"unknown solver {solver!r}; solvers: {', '.join(SOLVERS)}")
    limit = real(time_limit, "time_limit", positive=True)
    real(gap, "gap", 0.0)
    integer(seed, "seed", 0)
    integer(memory_limit, "memory_limit", 2**20)
    integer(threads, "threads", 1, 1024)
    if node_limit is not None:
        integer(node_limit, "node_limit", 1)
    _prepare(solver if solver in ("search", "enumeration") else "bnb")
    began = time.perf_counter()
    t = given_starts(inst, cluster, start)
    overfull = _overfull(inst, cluster, t)
    if overfull is not None:
        step, message = overfull
        data = {"start": t.tolist(), "step": step}
        evidence = new_certificate("placement", "infeasible", inst, cluster, math.inf, data) if certificate else None
        seconds = time.perf_counter() - began
        return Solution(None, math.inf, math.inf, "infeasible", seconds, solver, evidence, message=message)
    given = None if warm is None else _warm(inst, cluster, t, warm)
    case = placement_case(inst, cluster, t)
    if cluster.kv_capacity is not None and case.floor.max(initial=0) > cluster.kv_capacity:
        k = int(np.argmax(case.floor > cluster.kv_capacity))
        words = f"step {case.steps[k]} puts at least {case.floor[k]} tokens on a worker, and kv_capacity is "
        message = f"{words}{cluster.kv_capacity}"
        return Solution(None, math.inf, math.inf, "infeasible", time.perf_counter() - began, solver, message=message)
    parts = case.components()
    if solver == "bnb" and not branch.fits(case):
        raise InputError(
            f"bnb needs at most 255 workers, loads up to {MAX_TOKENS} and a total work below {branch.MAX_SUM}"
        )

    course = _Course(began, progress, int(case.floor.sum()), len(inst))
    worker: Int64Array | None = np.zeros(len(inst), np.int64)
    total = Answer("optimal", worker, 0, trajectory=course.points)
    trees: list[tuple[int, int, dict[str, Any]]] = []
    used: dict[str, None] = {}  # solvers, in the order in which parts needed them
    for part in parts:
        floor = int(case.floor[_span(case, part)].sum())
        now = time.perf_counter()
        share = max(0.0, began + limit - now) * len(part) / course.enter(len(part), floor)
        piece = case if len(part) == len(case) else case.part(part)
        job = _Job(
            solver, now + share, seed, node_limit, memory_limit, gap, threads,
            None if given is None else given[part], certificate, course.report,
        )  # fmt: skip
        answer = _BACK_ENDS[solver](piece, job)
        total.nodes += answer.nodes
        used |= {answer.solver or solver: None}
        if answer.status == "infeasible":
            total = Answer("infeasible", nodes=total.nodes, trajectory=course.points)
            break
        if answer.status == "limit":
            total.status = "limit"
        bound = max(answer.lower_bound, floor)
        total.lower_bound += bound
        if answer.tree is not None:
            tree = windows.shifted(answer.tree, part, int(case.begin[part].min()))
            trees.append((int(bound) - floor, windows.work(case, tree), tree))
        if answer.worker is None:
            worker = total.worker = None
        elif worker is not None:
            worker[part] = answer.worker
        course.leave(math.inf if answer.worker is None else _price(piece, answer.worker), bound)
    if certificate and total.status != "infeasible":
        migration = placement_bound(inst, cluster, t, "migration")
        if migration.value >= total.lower_bound:
            total.certificate = migration.certificate
        elif (
            solver == "enumeration"
            and (len(inst) + cluster.workers) * len(case.steps) <= _REPLAYED
            and sum(partitions(len(p), cluster.workers) for p in parts) <= _MAX_PARTITIONS
        ):
            data = {"start": t.tolist()}
            total.certificate = new_certificate("placement", "enumeration", inst, cluster, int(total.lower_bound), data)
        elif (
            migration.certificate is not None
            and migration.value + sum(gain for gain, _, _ in trees) == total.lower_bound
            and windows.replayable(trees)
        ):
            data = {"start": t.tolist(), "raised": migration.certificate["data"]["raised"]}
            data["parts"] = [tree for _, _, tree in sorted(trees, key=lambda entry: entry[2]["cut"][0])]
            total.certificate = new_certificate("placement", "tree", inst, cluster, int(total.lower_bound), data)
    label = ", ".join(used) or solver
    return conclude_placement(inst, cluster, t, total, int(case.floor.sum()), time.perf_counter() - began, label)


@cache
def _prepare(solver: str) -> None:
    """Load the kernels, or compile them, so that no time limit has to pay for it."""
    inst = Instance([0, 0, 0, 1, 1], [9, 7, 6, 5, 4], [4, 3, 3, 2, 2])
    case = placement_case(inst, Cluster(2, 3), inst.release.astype(np.int64))
    job = _Job(solver, time.perf_counter() + 3600, 0, 10_000, 2**20, 0.0, 1, None, True, lambda price, bound: None)
    _BACK_ENDS[solver](case, job)


class _Course:
    """Objective and bound of the whole problem while its parts are solved one after the other."""

    def __init__(self, began: float, progress: Progress | None, floor: int, requests: int) -> None:
        self.began, self.progress = began, progress
        self.floor, self.requests = floor, requests  # of the parts to come
        self.price, self.bound = 0.0, 0.0  # of the parts that are done
        self.points: list[tuple[float, float, float]] = []

    def enter(self, requests: int, floor: int) -> int:
        """Begin a part; returns the requests of all parts that are not done."""
        left = self.requests
        self.floor -= floor
        self.requests -= requests
        return left

    def report(self, price: float, bound: float) -> None:
        above = math.inf if self.requests else 0.0
        point = (time.perf_counter() - self.began, self.price + price + above, self.bound + bound + self.floor)
        if self.points and self.points[-1][1:] == point[1:]:
            return
        self.points.append(point)
        if self.progress is not None:
            self.progress(*point)

    def leave(self, price: float, bound: float) -> None:
        self.report(price, bound)
        self.price += price
        self.bound += bound


def _overfull(inst: Instance, cluster: Cluster, start: Int64Array) -> tuple[int, str] | None:
    """The first step with more than G*B active requests, and that in words; None if there is none."""
    begin, steps = active_steps(start, inst.output)
    change = np.zeros(len(steps) + 1, np.int64)
    np.add.at(change, begin, 1)
    np.subtract.at(change, begin + inst.output, 1)
    active = np.cumsum(change[:-1])
    most = cluster.workers * cluster.slots
    if not (active > most).any():
        return None
    k = int(np.argmax(active > most))
    words = f"step {steps[k]} has {active[k]} active requests, more than workers * slots = {most}"
    return int(steps[k]), words


def _warm(inst: Instance, cluster: Cluster, start: Int64Array, schedule: Schedule) -> Int64Array:
    if not isinstance(schedule, Schedule):
        raise InputError(f"warm must be a Schedule, got {type(schedule).__name__}")
    try:
        check(inst, cluster, schedule)
    except InvalidSchedule as exc:
        raise InputError(f"warm is no placement: {exc}") from None
    moved = np.flatnonzero(schedule.start != start)
    if len(moved):
        i = int(moved[0])
        raise InputError(f"warm starts request {i} in step {schedule.start[i]}, and start[{i}] = {start[i]}")
    return schedule.worker


def _span(case: PlacementCase, part: Int64Array) -> slice:
    return slice(int(case.begin[part].min()), int(case.end[part].max()))


def _price(case: PlacementCase, worker: Int64Array) -> int:
    return int(case.loads(worker).max(axis=0, initial=0).sum())


def _incumbent(
    case: PlacementCase, job: _Job, moves: int, time_limit: float, beam: bool = False
) -> tuple[Int64Array | None, int]:
    """An annealed placement and its price; None if it is above the KV capacity."""
    floor = int(case.floor.sum())
    first = greedy(case) if job.warm is None else job.warm
    worker, price = improve(
        case, first, job.seed, moves, time_limit, floor, lambda value: job.report(float(value), float(floor)), beam=beam
    )
    # A price above that of the placement holds the penalty for loads above the capacity.
    if case.cluster.kv_capacity is not None and price != _price(case, worker):
        return (job.warm, _price(case, job.warm)) if job.warm is not None else (None, case.inst.total_work + 1)
    return worker, price


def _search(case: PlacementCase, job: _Job) -> Answer:
    moves = 2**62 if job.node_limit is None else job.node_limit
    worker, price = _incumbent(case, job, moves, job.left, beam=True)
    bound = int(case.floor.sum())
    return Answer("optimal" if worker is not None and price == bound else "limit", worker, bound)


def _enumeration(case: PlacementCase, job: _Job) -> Answer:
    return solve_enumeration(case, job.left, job.node_limit)


def _library(case: PlacementCase, job: _Job) -> Answer:
    model = placement_model(case)
    worker, price = _incumbent(case, job, 20_000 * len(case), 0.1 * job.left)
    vector = None if worker is None else model.vector(case, worker)
    job.report(price if worker is not None else math.inf, float(case.floor.sum()))
    if job.solver == "mathopt":
        answer = solve_mathopt(model, job.left, job.seed, job.node_limit, job.gap)
    else:
        solve = solve_highs if job.solver == "highs" else solve_cpsat
        answer = solve(
            model, job.left, job.seed, job.node_limit, job.gap, job.threads, vector,
            lambda _, price, bound: job.report(price, bound),
        )  # fmt: skip
    # A lie must not hide behind the incumbent.
    conclude_placement(case.inst, case.cluster, case.start, answer, int(case.floor.sum()), 0.0, job.solver)
    better = answer.worker is None or _price(case, answer.worker) > price
    if worker is not None and better and answer.status != "infeasible":
        answer.worker = worker
    return answer


def _bnb(case: PlacementCase, job: _Job) -> Answer:
    tree = _Tree(case, job)
    tree.run(job.end_time)
    return tree.answer()


def _auto(case: PlacementCase, job: _Job) -> Answer:
    """The own search; then what the case calls for: HiGHS, or the sum of two windows' bounds, or more of the same."""
    if len(case) > _MAX_BRANCH or not branch.fits(case):
        return replace(_search(case, job), solver="search")
    tree = _Tree(case, job)
    largest = np.zeros(len(case.steps), np.int64)
    for b, e, base in zip(case.begin.tolist(), case.end.tolist(), case.base.tolist(), strict=True):
        largest[b:e] = np.maximum(largest[b:e], base + np.arange(b, e))
    # Where one request alone sets most peaks, few decisions matter, and a MIP solver finds out which.
    ruled = 3 * int(case.floor[case.floor == largest].sum()) > 2 * int(case.floor.sum())
    now = time.perf_counter()
    tree.run(now + (0.25 if ruled else 0.5) * (job.end_time - now))
    if tree.closed:
        return tree.answer()
    extra, label = Answer("limit"), ""
    if ruled and len(case) <= _MAX_MODEL and job.node_limit is None:
        extra, label = _highs_after(case, job, tree)
    elif tree.gap > _WIDE:
        nodes = 2**62 if job.node_limit is None else job.node_limit
        halves = windows.by_halves(case, nodes, 0.9 * job.left, job.memory_limit // 4)
        extra, label = Answer("limit", None, halves.bound, nodes=halves.nodes), "windows"
    if extra.status == "limit":
        tree.run(job.end_time)
    answer = tree.answer()
    answer.nodes += extra.nodes
    if answer.status == "limit" and label:
        if extra.worker is not None and answer.worker is not None:
            answer.worker = min(extra.worker, answer.worker, key=lambda worker: _price(case, worker))
        if extra.status == "optimal" or extra.lower_bound > answer.lower_bound:
            answer.status, answer.lower_bound, answer.solver = extra.status, extra.lower_bound, f"bnb + {label}"
    return answer


def _highs_after(case: PlacementCase, job: _Job, tree: _Tree) -> tuple[Answer, str]:
    """HiGHS from the incumbent of the tree, if it is installed; its answer is checked before it is believed."""
    model = placement_model(case)
    found = tree.answer().worker
    vector = None if found is None else model.vector(case, found)
    try:
        answer = solve_highs(model, 0.9 * job.left, job.seed, None, job.gap, job.threads, vector, None)
    except SolverError:
        return Answer("limit"), ""
    if answer.status == "infeasible":
        return Answer("limit"), ""
    checked = conclude_placement(case.inst, case.cluster, case.start, answer, int(case.floor.sum()), 0.0, "highs")
    answer.lower_bound = checked.lower_bound
    return answer, "highs"


class _Tree:
    """The own branch and bound on one part, from an annealed incumbent."""

    def __init__(self, case: PlacementCase, job: _Job) -> None:
        if len(case) > _MAX_BRANCH:
            raise InputError(
                f"bnb is for at most {_MAX_BRANCH} requests that hang together, got {len(case)}; use search"
            )
        self.case, self.job = case, job
        self.worker, price = _incumbent(case, job, 20_000 * len(case), 0.1 * job.left)
        self.problem = branch.window(case)
        self.search = branch.Search(self.problem, price, job.memory_limit)
        self.left = 2**62 if job.node_limit is None else job.node_limit
        self.annealed = False

    @property
    def gap(self) -> float:
        """Relative gap between the best known price and the bound."""
        return (self.search.price - self.search.bound) / max(1, self.search.price)

    @property
    def closed(self) -> bool:
        """Nothing is left to search for."""
        return self.search.done or self.gap <= self.job.gap

    @property
    def over(self) -> bool:
        """Nothing is left to search for, or allowed to be searched."""
        return self.closed or self.search.nodes >= self.left

    def run(self, end_time: float) -> None:
        """Go on until then."""
        job, search = self.job, self.search
        report = lambda value, bound: job.report(float(value), float(bound))  # noqa: E731
        # Most small problems end within the first nodes; the others get a better incumbent, then the rest of the time.
        if not self.annealed:
            search.run(end_time - time.perf_counter(), min(self.left, 50_000), report)
            if not self.over:
                self.annealed = True
                job.warm = self.placement()
                better, value = _incumbent(self.case, job, 100_000 * len(self.case), 0.1 * job.left)
                if better is not None and value < search.price:
                    self.worker, search.worker, search.price = better, None, value
        while not self.over and (left := end_time - time.perf_counter()) > 0:
            search.run(min(left, 1.0), self.left - search.nodes, report)

    def placement(self) -> Int64Array | None:
        """The best placement known, in the case's order."""
        if self.search.worker is None:
            return self.worker
        placement = np.empty(len(self.case), np.int64)
        placement[self.problem.request] = self.search.worker
        return placement

    def answer(self) -> Answer:
        """What is known by now; with the tree as evidence if it is exhausted and small."""
        search, found = self.search, self.placement()
        answer = Answer("limit", found, max(search.bound, int(self.case.floor.sum())), nodes=search.nodes, solver="bnb")
        if search.done:
            answer.status = "optimal" if found is not None else "infeasible"
        if self.job.certify and search.done and found is not None:
            most, seconds = self.job.memory_limit // 2, max(self.job.left, 1.0)
            answer.tree = branch.prove(self.problem, search.price, _MAX_LEAVES, most, seconds)
        return answer


_BACK_ENDS: dict[str, Callable[[PlacementCase, _Job], Answer]] = {
    "auto": _auto,
    "bnb": _bnb,
    "highs": _library,
    "cpsat": _library,
    "mathopt": _library,
    "search": _search,
    "enumeration": _enumeration,
}
