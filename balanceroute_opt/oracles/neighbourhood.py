"""Large neighbourhoods for P1: some requests on a few workers placed anew by a solver, all else fixed [ours]."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from .._validate import Int64Array, integer, real
from ..errors import InputError
from ..instance import Cluster, Instance
from ..schedule import Schedule, check, peak_sum
from .anytime import Found
from .budget import Budget
from .cpsat import solve_cpsat
from .floors import step_bounds
from .given import given_starts
from .highs import solve_highs
from .model import PlacementCase, placement_model
from .windows import cut

__all__ = ["polish_placement"]

_FOREVER = 1e9  # seconds
_TRIES = 4  # neighbourhoods drawn for one that shares no step with the others of its round
_Task = tuple[PlacementCase, Int64Array, Int64Array, Int64Array, str, int, int]


def polish_placement(
    inst: Instance,
    cluster: Cluster,
    sched: Schedule,
    *,
    rounds: int = 10,
    time_limit: float | None = None,
    neighbourhoods: int = 16,
    requests: int = 12,
    workers: int = 3,
    node_limit: int = 1000,
    seed: int = 0,
    jobs: int = 1,
    solver: Literal["cpsat", "highs"] = "cpsat",
) -> Found:
    """A placement with the starts of `sched` and a ``peak_sum`` that is no larger, from small exact problems.

    A neighbourhood is a step, drawn by its distance from the bound, its fullest worker and others, and some of their
    requests in that step, which are placed anew on these workers over all of their steps; every other request stays.
    The neighbourhoods of a round share no step, so that they can be solved at the same time.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    sched : Schedule
        A feasible one.
    rounds : int
    time_limit : float, optional
        Seconds after which no other round begins; by default there is no limit.
    neighbourhoods : int
        Of a round, at most.
    requests, workers : int
        Of a neighbourhood.
    node_limit : int
        Conflicts of CP-SAT, or nodes of HiGHS, in each.
    seed : int
        The result depends on this, the sizes and the number of rounds alone.
    jobs : int
        Processes.
    solver : {"cpsat", "highs"}

    Returns
    -------
    Found
        ``moves`` are the neighbourhoods solved. Also after Ctrl-C.

    Raises
    ------
    InputError
        If the instance is on the wall clock, the starts are none of it, or an option is out of range.
    InvalidSchedule
        If `sched` breaks a rule.
    SolverError
        If the solver is not installed.
    """
    start = given_starts(inst, cluster, sched.start)
    check(inst, cluster, sched)
    if solver not in ("cpsat", "highs"):
        raise InputError(f"unknown solver {solver!r}; solvers: cpsat, highs")
    integer(rounds, "rounds", 1)
    limit = _FOREVER if time_limit is None else real(time_limit, "time_limit", positive=True)
    integer(neighbourhoods, "neighbourhoods", 1)
    integer(requests, "requests", 2)
    chosen = min(integer(workers, "workers", 2), cluster.workers)
    integer(node_limit, "node_limit", 1)
    integer(seed, "seed", 0)
    floor = step_bounds(inst, cluster, start, "pigeonhole")
    begin = np.searchsorted(floor.step, start)
    case = PlacementCase(inst, cluster, start, begin, begin + inst.output, inst.prompt - begin, floor.step, floor.peak)
    worker = sched.worker.astype(np.int64)
    course = Budget(limit, None, None)
    course.note(peak_sum(inst, cluster, sched))
    if len(inst) and cluster.workers > 1:
        try:
            _rounds(case, worker, course, rounds, (neighbourhoods, requests, chosen), (solver, node_limit, seed), jobs)
        except KeyboardInterrupt:
            course.interrupted = True
    found = Schedule(sched.start, worker)
    objective = peak_sum(inst, cluster, found)
    return Found(found, objective, course.seconds, course.moves, course.interrupted, tuple(course.points))


def _rounds(
    case: PlacementCase,
    worker: Int64Array,
    course: Budget,
    rounds: int,
    sizes: tuple[int, int, int],
    how: tuple[str, int, int],
    jobs: int,
) -> None:
    """Rounds of neighbourhoods; `worker` changes only to what is better."""
    import joblib

    load = case.loads(worker)
    with joblib.Parallel(n_jobs=jobs) as parallel:
        for number in range(rounds):
            if course.over:
                return
            places = _draw(case, load, worker, np.random.default_rng((how[2], number)), *sizes)
            tasks = [_task(case, load, worker, *place, how) for place in places]
            answers = parallel(joblib.delayed(_solve)(task) for task in tasks)
            course.moves += len(tasks)
            before = course.points[-1][2]
            price = before
            for (inside, group, free), answer in zip(places, answers, strict=True):
                if answer is None:
                    continue
                span = slice(int(case.begin[free].min()), int(case.end[free].max()))
                price -= int(load[:, span].max(axis=0).sum())
                for i, g in zip(free.tolist(), group[answer[np.searchsorted(inside, free)]].tolist(), strict=True):
                    _put(case, load, i, worker[i], -1)
                    _put(case, load, i, g, 1)
                    worker[i] = g
                price += int(load[:, span].max(axis=0).sum())
            if price < before:
                course.note(price)


def _put(case: PlacementCase, load: Int64Array, i: int, g: int, sign: int) -> None:
    b, e = int(case.begin[i]), int(case.end[i])
    load[g, b:e] += sign * (case.base[i] + np.arange(b, e))


def _draw(
    case: PlacementCase,
    load: Int64Array,
    worker: Int64Array,
    rng: np.random.Generator,
    neighbourhoods: int,
    requests: int,
    workers: int,
) -> list[tuple[Int64Array, Int64Array, Int64Array]]:
    """Up to so many (requests inside, workers, free requests), no two of which share a step."""
    excess = load.max(axis=0) - case.floor
    if not excess.sum():
        return []
    places: list[tuple[Int64Array, Int64Array, Int64Array]] = []
    taken = np.zeros(len(case.steps), np.bool_)
    for k in rng.choice(len(excess), _TRIES * neighbourhoods, p=excess / excess.sum()).tolist():
        fullest = int(load[:, k].argmax())
        others = rng.permutation(np.delete(np.arange(len(load)), fullest))[: workers - 1]
        group = np.sort(np.append(others, fullest))
        here = np.flatnonzero((case.begin <= k) & (case.end > k) & np.isin(worker, group))
        free = np.sort(rng.permutation(here)[:requests])
        low, high = int(case.begin[free].min()), int(case.end[free].max())
        if len(free) < 2 or taken[low:high].any():
            continue
        taken[low:high] = True
        inside = np.flatnonzero((case.begin < high) & (case.end > low) & np.isin(worker, group))
        places.append((inside, group, free))
        if len(places) == neighbourhoods:
            break
    return places


def _task(
    case: PlacementCase,
    load: Int64Array,
    worker: Int64Array,
    inside: Int64Array,
    group: Int64Array,
    free: Int64Array,
    how: tuple[str, int, int],
) -> _Task:
    low, high = int(case.begin[free].min()), int(case.end[free].max())
    piece, _ = cut(case, low, high, inside)
    rest = np.delete(load[:, low:high], group, axis=0).max(axis=0, initial=0)
    piece = replace(
        piece, cluster=case.cluster.replace(workers=len(group)), floor=np.maximum(rest, case.floor[low:high])
    )
    solver, nodes, seed = how
    return piece, np.searchsorted(group, worker[inside]), np.searchsorted(inside, free), rest, solver, nodes, seed


def _solve(task: _Task) -> Int64Array | None:
    """Workers of the piece's requests, with those not `free` where they are; None unless they are better."""
    piece, local, free, rest, solver, nodes, seed = task
    before = _price(piece, local, rest)
    if before == piece.floor.sum():
        return None
    model = placement_model(piece, strengthen=False)
    n, workers = model.shape
    warm = model.vector(piece, local)
    warm[n * workers :] = np.maximum(warm[n * workers :], piece.floor)
    model.lower[n * workers :] = piece.floor
    fixed = np.delete(np.arange(n), free)
    x = fixed * workers
    for g in range(workers):
        model.upper[x + g] = local[fixed] == g
        model.lower[x + g] = local[fixed] == g
    solve = solve_cpsat if solver == "cpsat" else solve_highs
    answer = solve(model, _FOREVER, seed, nodes, warm=warm)
    if answer.worker is None:
        return None
    found = np.asarray(answer.worker, np.int64)
    return found if _price(piece, found, rest) < before else None


def _price(piece: PlacementCase, worker: Int64Array, rest: Int64Array) -> int:
    """Summed peaks of the piece, where other workers have peaks `rest`."""
    return int(np.maximum(piece.loads(worker).max(axis=0), rest).sum())
