"""Exact placement (P1): one entrance to every method (``docs/model.md``, section 6)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Int64Array, integer, real
from ..errors import InputError
from ..instance import Cluster, Instance
from ..schedule import Schedule, peak_sum
from .bounds import given_starts, placement_bound
from .branch import search_window, window
from .cpsat import solve_cpsat, solve_mathopt
from .enumeration import partitions, solve_enumeration
from .highs import solve_highs
from .model import PlacementCase, placement_case, placement_model
from .search import greedy, improve
from .solution import Answer, Solution, conclude_placement

__all__ = ["solve_placement"]

Solver = Literal["auto", "branch", "highs", "cpsat", "mathopt", "search", "enumeration"]
_SOLVERS = ("auto", "branch", "highs", "cpsat", "mathopt", "search", "enumeration")
_TINY = 20_000  # partitions that enumeration goes through at once

Progress = Callable[[float, float, float], None]


def solve_placement(
    inst: Instance,
    cluster: Cluster,
    start: ArrayLike,
    time_limit: float = 60.0,
    solver: Solver = "auto",
    seed: int = 0,
    *,
    node_limit: int | None = None,
    warm: Schedule | None = None,
    progress: Progress | None = None,
) -> Solution:
    """The placement with the least ``peak_sum`` for given admission steps, or the best found, and a bound.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    start : array_like of int, shape (n,)
        ``t_i``: step of admission of each request, >= its release.
    time_limit : float
        Seconds, > 0.
    solver : str
        ``branch``: the own branch and bound, on each connected component of requests that share steps, from an
        annealed placement. ``auto``: enumeration where that is small, else ``branch``. ``highs``, ``cpsat``,
        ``mathopt``: the mixed-integer model with peaks raised to the migration bound and workers numbered by first
        occurrence, one thread, gap 0. ``search``: annealing alone. ``enumeration``: every partition, tiny instances.
    seed : int
        Of annealing and solvers.
    node_limit : int, optional
        Nodes (CP-SAT: conflicts; search: moves) of the whole; with it, and time enough, runs repeat exactly.
    warm : Schedule, optional
        A placement with these starts to begin from.
    progress : callable, optional
        Called with (seconds, objective, lower bound).

    Returns
    -------
    Solution
        Its schedule is checked and priced again. `lower_bound` is certified where the certificate of the
        ``migration`` bound reaches it, and claimed otherwise: the proof of the own branch and bound is not yet
        written down for the verifier.

    Raises
    ------
    InputError
        As :func:`~balanceroute_opt.placement_bound`; an unknown solver; enumeration of too many partitions.
    SolverError
        If a solver is not installed or contradicts itself.

    Examples
    --------
    >>> inst = Instance(release=[0, 0, 0], prompt=[5, 3, 3], output=[1, 1, 1])
    >>> solve_placement(inst, Cluster(workers=2, slots=2), [0, 0, 0]).objective
    6
    """
    began = time.perf_counter()
    if solver not in _SOLVERS:
        raise InputError(f"unknown solver {solver!r}; known: {', '.join(_SOLVERS)}")
    limit = real(time_limit, "time_limit", positive=True)
    seed = integer(seed, "seed", 0)
    if node_limit is not None:
        node_limit = integer(node_limit, "node_limit", 1)
    starts = given_starts(inst, cluster, start)
    known = placement_bound(inst, cluster, starts, method="migration")
    case = placement_case(inst, cluster, starts)
    given = _warm(inst, cluster, starts, warm)
    end = began + limit
    if solver == "auto":
        solver = "enumeration" if partitions(len(case), cluster.workers) <= _TINY else "branch"
    if solver == "enumeration":
        answer = solve_enumeration(case, limit, node_limit)
    elif solver in ("branch", "search"):
        exact = solver == "branch"
        answer = _by_components(case, given, end, seed, node_limit, int(known.exact), exact, began, progress)
    else:
        model = placement_model(case)
        first = given if given is not None else _annealed(case, None, seed, min(1.0, limit / 10), 100_000)[0]
        left = max(0.01, end - time.perf_counter())
        feasible = first is not None and _priced(case, first) is not None
        start_from = model.vector(case, first) if feasible else None
        if solver == "mathopt":
            answer = solve_mathopt(model, left, seed, node_limit)
        else:
            solve = solve_highs if solver == "highs" else solve_cpsat
            answer = solve(model, left, seed, node_limit, warm=start_from, progress=progress)
    solution = conclude_placement(inst, cluster, starts, answer, int(known.exact), time.perf_counter() - began, solver)
    if known.certificate is not None and solution.certificate is None and solution.lower_bound == known.value:
        return replace(solution, certificate=known.certificate)
    return solution


def _by_components(
    case: PlacementCase,
    given: Int64Array | None,
    end: float,
    seed: int,
    node_limit: int | None,
    floor: int,
    exact: bool,
    began: float,
    progress: Progress | None,
) -> Answer:
    """Anneal, and search exhaustively, one connected component after the other, the small ones first."""
    worker = np.zeros(len(case), np.int64)
    trajectory: list[tuple[float, float, float]] = []
    parts = sorted(case.components(), key=len)
    total = bound = nodes = 0
    proved, feasible = True, True
    for position, requests in enumerate(parts):
        part = case.part(requests)
        share = max(0.02, (end - time.perf_counter()) / (len(parts) - position))
        # A quarter of a second suffices for what branch and bound can prove; search has nothing else to do.
        patience = min(0.25 + 0.005 * len(part), share / 4) if exact else share
        moves = node_limit if node_limit is not None else None if not exact else 400_000
        begin = None if given is None else given[requests]
        best, price = _annealed(part, begin, seed, patience, moves)
        lower = int(part.floor.sum())
        if price is None:
            feasible = False
        if exact and (price is None or price > lower):
            stop = max(0.01, share - patience)
            problem = window(part)
            outcome = search_window(problem, 2**62 if price is None else price, stop, node_limit)
            nodes += outcome.nodes
            if outcome.worker is not None:
                best = np.zeros(len(part), np.int64)
                best[problem.request] = outcome.worker
                price = _priced(part, best)
                feasible = price is not None
            if price is not None or not outcome.done:
                lower = max(lower, outcome.bound)
            proved &= outcome.done
        elif price != lower:
            proved = False
        worker[requests] = best
        total += price or 0
        bound += min(lower, price) if price is not None else lower
        rest = sum(int(case.part(later).floor.sum()) for later in parts[position + 1 :])
        seconds, known = time.perf_counter() - began, float(max(floor, bound + rest))
        point = (seconds, float(total) if feasible else math.inf, known)
        trajectory.append(point)
        if progress is not None:
            progress(*point)
    answer = Answer("limit", lower_bound=max(floor, bound), nodes=nodes, trajectory=trajectory)
    if feasible:
        answer.worker = worker
        if proved and answer.lower_bound == total:
            answer.status = "optimal"
    return answer


def _annealed(
    case: PlacementCase, worker: Int64Array | None, seed: int, seconds: float, moves: int | None
) -> tuple[Int64Array, int | None]:
    """The best placement that annealing finds, and its price; None if it breaks the KV capacity."""
    begin = greedy(case) if worker is None else worker
    best, _ = improve(case, begin, seed, moves=moves, time_limit=seconds, target=int(case.floor.sum()))
    return best, _priced(case, best)


def _priced(case: PlacementCase, worker: Int64Array) -> int | None:
    """``peak_sum`` of a placement; None if it breaks the KV capacity."""
    whole = window(case)
    price = whole.price(worker[whole.request])
    if case.cluster.kv_capacity is not None:
        load = np.zeros((len(case.steps), case.cluster.workers), np.int64)
        for i in range(len(case)):
            span = np.arange(case.begin[i], case.end[i])
            load[span, worker[i]] += case.base[i] + span
        if load.size and int(load.max()) > case.cluster.kv_capacity:
            return None
    return price


def _warm(inst: Instance, cluster: Cluster, start: Int64Array, warm: Schedule | None) -> Int64Array | None:
    if warm is None:
        return None
    if not np.array_equal(warm.start, start):
        raise InputError("the warm start has other starts than the problem")
    peak_sum(inst, cluster, warm)  # refuses workers that do not exist
    return warm.worker
