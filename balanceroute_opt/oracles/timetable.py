"""Own exact method for P2: best-first search over time with merged states, dominance and Lagrangian prices [ours].

A state is what matters at the start of a step: which requests wait, and start and group of those that run. Workers
are alike, so states that differ by their names are one. A state is expanded by all choices for the requests that
are visible and wait: a worker each, or to wait on (not in their last step). Its bound is what its steps cost so far,
plus the larger of

* mandatory loads: a waiting request runs in the steps ``d_i .. r_i + o_i - 1`` wherever it starts. In each step the
  best partition of what must run there onto the workers' placed loads bounds the peak. Work that is still waiting
  fills the room below these peaks, each request at most the room of one worker during one run, and raises them by
  the rest over G;
* a Lagrangian bound: prices for running in each step (``patterns.py``), that waiting requests pay over the cheapest
  of their starts, and per step the least cost beside these prices of what can join the loads that are placed. In
  steps where the mandatory loads alone cost more they take the place of prices. Where there are too many patterns
  the multipliers are those of ``docs/model.md``, section 7.

Of two states with the same step and waiting requests one is dropped if the other costs no more, after paying for
every load that is higher and could matter. The least bound on the heap bounds the optimum at any time. The same
search, layered by steps and limited to so many states of each, finds a first schedule, and annealing improves it.

Costs and prices are integers: c and a are rounded down to a common unit, and so are the prices.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._validate import Int64Array
from ..errors import InputError
from ..instance import Cluster, Instance
from ..steptime import StepTime
from .lagrangian import Windows, best_multipliers
from .patterns import pattern_prices
from .schedule_model import ScheduleCase, schedule_case
from .solution import Answer

if TYPE_CHECKING:
    from ._timetable import Case, Store

__all__ = ["Timetable", "improve", "prepare", "price", "solve_timetable"]

_MOST_TABLE = 4 * 10**6  # entries of a table over requests and steps
_WIDTHS = (50, 1000)
_MOVES, _MOST_MOVES = 100_000, 2_000_000  # of annealing, per request and in all
_HOT, _COLD = 0.02, 0.0002  # temperatures, as shares of the cost to begin with
_MOST_CHUNK, _LOOK = 20_000, 0.1  # expansions between two looks at the clock, and seconds
_FIRST_STORE = 2**14
_MOST_STORE = 2**23  # states
PLACED = 2  # codes of a request: 0 waits, 1 has ended, 2 + (t - r)*G + g runs

Int32Array = NDArray[np.int32]


@dataclass
class Timetable(Answer):
    """A back end's answer to P2: `worker` as in P1, and starts as positions on the case's axis.

    ``lower_bound`` is in seconds, without the constant ``b*W/G``.
    """

    start: Any = None
    message: str = ""


def price(case: ScheduleCase, start: Int64Array, worker: Int64Array) -> int:
    """Cost of a schedule (starts in positions) in the integer unit of :meth:`ScheduleCase.weights`."""
    fixed, unit, _ = case.weights()
    load = np.zeros((case.cluster.workers, len(case.steps)), np.int64)
    for t, g, o, s in zip(start, worker, case.inst.output, case.inst.prompt, strict=True):
        load[g, t : t + o] += s + np.arange(o)
    peak = load.max(axis=0, initial=0)
    return fixed * int((peak > 0).sum()) + unit * int(peak.sum())


def improve(
    case: ScheduleCase, start: Int64Array, worker: Int64Array, seed: int = 0, moves: int | None = None
) -> tuple[Int64Array, Int64Array]:
    """A schedule at most as dear, by annealing: requests move beside the ends of others, or change places.

    Without a limit on starts idle steps are taken out of it.
    """
    from ._anneal import anneal

    n, G, K = len(case), case.cluster.workers, len(case.steps)
    fixed, unit, _ = case.weights()
    best = price(case, start, worker)
    if not n or not best:
        return start, worker
    capacity = 2**62 if case.cluster.kv_capacity is None else case.cluster.kv_capacity
    load, count = np.zeros((G, K), np.int64), np.zeros((G, K), np.int64)
    for t, g, o, s in zip(start, worker, case.inst.output, case.inst.prompt, strict=True):
        load[g, t : t + o] += s + np.arange(o)
        count[g, t : t + o] += 1
    start, worker = start.astype(np.int64), worker.astype(np.int64)
    anneal(
        case.first, case.first + case.wait, case.inst.prompt, case.inst.output, case.cluster.slots, capacity,
        fixed, unit, load, count, start, worker, min(_MOVES * n, _MOST_MOVES) if moves is None else moves,
        _HOT * best, _COLD * best, seed,
    )  # fmt: skip
    if not case.limited:
        active = np.zeros(K + 1, np.int64)
        for t, o in zip(start, case.inst.output, strict=True):
            active[t + 1 : t + o + 1] = 1
        start = np.cumsum(active)[start]
    return start, worker


@cache
def prepare() -> None:
    """Load the kernels, or compile them, so that no time limit has to pay for it."""
    inst, cluster = Instance([0], [1], [1]), Cluster(1, 1, step_time=StepTime(1.0, 1.0))
    case = schedule_case(inst, cluster, np.ones(1, np.int64))
    solve_timetable(case, 1.0)


def solve_timetable(
    case: ScheduleCase,
    time_limit: float,
    node_limit: int | None = None,
    warm: tuple[Int64Array, Int64Array] | None = None,
    seed: int = 0,
    heuristic: bool = False,
    progress: Callable[[float, float, float], None] | None = None,
) -> Timetable:
    """Search `case`; exact unless a limit is reached.

    Parameters
    ----------
    time_limit : float
        Seconds.
    node_limit : int, optional
        Most expanded states of the exact search: a limit that is the same on every machine.
    warm : (start, worker), optional
        A schedule to begin with, starts in positions.
    seed : int
        Of the annealing that improves the first schedule.
    heuristic : bool
        No more than that.

    Raises
    ------
    InputError
        If requests times steps exceed 4 million.
    """
    from . import _timetable as compiled

    began = time.perf_counter()
    n = len(case)
    second = case.weights()[2]
    order = np.lexsort((np.arange(n), case.first))
    columns = _columns(case, order)
    state = np.array([0, 0, 2**61, 0], np.int64)
    answer = Timetable("limit")
    if warm is not None:
        answer.start, answer.worker = improve(case, *warm, seed)
        state[compiled.BEST] = price(case, answer.start, answer.worker)
    expanded = 0

    def note(bound: int | None) -> None:
        value = float(state[compiled.BEST] * second) if answer.start is not None else np.inf
        point = (time.perf_counter() - began, value, -np.inf if bound is None else float(bound * second))
        answer.trajectory.append(point)
        if progress is not None:
            progress(*point)

    for width in _WIDTHS if heuristic else (*_WIDTHS, 0):
        if width and answer.start is not None:
            continue
        store = compiled.new_store(_FIRST_STORE, n)
        incumbent = np.full(n + 1, -1, np.int64)
        compiled.root(columns, store, state)
        popped = np.zeros(columns.horizon + 1, np.int64)
        best, floor = int(state[compiled.BEST]), int(store.bound[0])
        if floor >= 2**62:
            answer.status, answer.lower_bound = "infeasible", np.inf
            return answer
        left, chunk = 2**62 if node_limit is None or width else node_limit, 16
        while True:
            before, now = int(state[compiled.EXPANDED]), time.perf_counter()
            code = compiled.search(columns, store, state, incumbent, popped, width, min(chunk, left))
            left -= int(state[compiled.EXPANDED]) - before
            chunk = min(2 * chunk, _MOST_CHUNK) if time.perf_counter() - now < _LOOK else max(1, chunk // 2)
            if code == compiled.END:
                floor = int(state[compiled.BEST])
                break
            floor = max(floor, min(int(store.key[0]), int(state[compiled.BEST])))
            late = time.perf_counter() - began > time_limit
            if left <= 0 or late or (code == compiled.GROW and len(store.step) >= _MOST_STORE):
                break
            if code == compiled.GROW:
                larger = compiled.new_store(2 * len(store.step), n)
                compiled.enlarge(store, larger, int(state[compiled.NODES]), int(state[compiled.HEAP]))
                store = larger
        expanded += int(state[compiled.EXPANDED])
        if state[compiled.BEST] < best:
            start, worker = _replay(columns, store, incumbent)
            answer.start, answer.worker = np.empty(n, np.int64), np.empty(n, np.int64)
            answer.start[order], answer.worker[order] = start, worker
            if width:
                answer.start, answer.worker = improve(case, answer.start, answer.worker, seed)
                state[compiled.BEST] = price(case, answer.start, answer.worker)
        if width == 0:
            answer.lower_bound = float(floor * second)
            if code == compiled.END:
                answer.status = "infeasible" if answer.start is None else "optimal"
        note(floor if width == 0 else None)
    answer.nodes = expanded
    return answer


def _columns(case: ScheduleCase, order: Int64Array) -> Case:
    """The compiled search's view of the case, with prices."""
    from ._timetable import Case

    n, K = len(case), len(case.steps)
    if n * K > _MOST_TABLE:
        raise InputError(f"the search is for small problems: {n} requests x {K} steps exceed {_MOST_TABLE}")
    G, GB = case.cluster.workers, case.cluster.workers * case.cluster.slots
    fixed, unit, second = case.weights()
    inst = case.inst.take(order)
    first, wait = case.first[order], case.wait[order]
    windows = Windows(case.steps, first, wait)
    found, value, _ = best_multipliers(inst, case.cluster, windows, 0, 600, 1e-4)
    nu, eta = np.zeros((n, K), np.int64), np.zeros((n, K), np.int64)
    nu[found.request, found.position] = np.floor(found.nu * unit)
    eta[found.request, found.position] = np.floor(found.eta * fixed)
    for k in np.flatnonzero(nu.sum(axis=0) > unit):  # shares may exceed 1 by a rounding
        nu[:, k] = np.floor(nu[:, k] * (unit / nu[:, k].sum()) * (1 - 1e-12))
    mu = (unit - nu.sum(axis=0)) // G
    sigma = np.maximum(np.floor(found.sigma * fixed).astype(np.int64), fixed - eta.sum(axis=0)) // GB
    sigma = np.maximum(sigma, 0)
    rho = np.maximum(sigma * GB + eta.sum(axis=0) - fixed, 0)
    token, slot, step = mu + nu, sigma + eta, -rho
    patterns = pattern_prices(case, int(1.03 * value / float(second)))
    if patterns is not None and float(patterns.value * second) < value:
        patterns = None
    if patterns is not None:
        token = np.full((n, K), patterns.share)
        slot = (patterns.price - patterns.share * (case.inst.prompt[:, None] + patterns.age))[order]
        step = patterns.pattern
    axis = np.arange(K)

    def prefix(values: Int64Array) -> Int64Array:
        return np.concatenate((np.zeros((n, 1), np.int64), np.cumsum(values, axis=1)), axis=1)

    token0, token1, slot0 = prefix(token), prefix(token * axis), prefix(slot)
    least = np.zeros((n, int(wait.max(initial=0)) + 1), np.int64)
    at = np.zeros_like(least)
    for i in range(n):
        s, o = int(inst.prompt[i]), int(inst.output[i])
        t = first[i] + np.arange(wait[i] + 1)
        costs = (
            (s - t) * (token0[i, t + o] - token0[i, t])
            + token1[i, t + o]
            - token1[i, t]
            + slot0[i, t + o]
            - slot0[i, t]
        )
        best = 2**62
        for j in range(int(wait[i]), -1, -1):
            if costs[j] < best:
                best, start = int(costs[j]), int(t[j])
            least[i, j], at[i, j] = best, start
    capacity = 2**62 if case.cluster.kv_capacity is None else case.cluster.kv_capacity
    return Case(
        first, first + wait, inst.prompt, inst.output, G, case.cluster.slots, capacity, K, fixed, unit,
        int(not case.limited), int(patterns is not None), token, slot, step,
        np.concatenate((np.cumsum(step[::-1])[::-1], [0])), least, at,
    )  # fmt: skip


def _replay(case: Case, store: Store, incumbent: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Starts and workers (requests in the search's order) along the states that lead to the incumbent.

    States number workers by their first active request, and forget where a request that has ended was. So each
    transition is searched for a choice that leads to the next state at no more than its cost.
    """
    n, G = len(case.release), case.workers
    path = [int(incumbent[n])]
    while store.parent[path[-1]] >= 0:
        path.append(int(store.parent[path[-1]]))
    path.reverse()
    start, worker = np.empty(n, np.int64), np.empty(n, np.int64)
    name = list(range(G))  # of each worker of the present state
    for v, u in pairwise([*path, -1]):
        k = int(store.step[v])
        before, after = store.code[v], incumbent[:n].astype(np.int32) if u < 0 else store.code[u]
        started = np.flatnonzero((before == 0) & (after != 0)).tolist()
        if u < 0:
            choice = {i: int(after[i] - PLACED) % G for i in started}
        else:
            choice = _choice(case, before, after, started, k, int(store.step[u]), int(store.cost[u] - store.cost[v]))
        for i in started:
            start[i], worker[i] = k, name[choice[i]]
        if u >= 0:
            match = _match(case, before, after, choice)
            rest = [g for g in range(G) if g not in match.values()]
            name = [name[match[g]] if g in match else name[rest.pop()] for g in range(G)]
    return start, worker


def _match(case: Case, before: Int32Array, after: Int32Array, choice: dict[int, int]) -> dict[int, int]:
    """For each worker of the state `after` with an active request, the worker of `before` that it is."""
    G = case.workers
    active = np.flatnonzero(after >= PLACED).tolist()
    return {int(after[i] - PLACED) % G: choice[i] if i in choice else int(before[i] - PLACED) % G for i in active}


def _choice(
    case: Case, before: Int32Array, after: Int32Array, started: list[int], k: int, until: int, cost: int
) -> dict[int, int]:
    G, H = case.workers, case.horizon
    load, count = np.zeros((G, H), np.int64), np.zeros((G, H), np.int64)

    def put(i: int, t: int, g: int, sign: int) -> None:
        span = slice(max(t, k), t + int(case.output[i]))
        load[g, span] += sign * (case.prompt[i] - t + np.arange(span.start, span.stop))
        count[g, span] += sign

    known: dict[int, int] = {}  # worker of `after` -> worker of `before`
    for i in np.flatnonzero((before >= PLACED) & (after >= PLACED)).tolist():
        known[int(after[i] - PLACED) % G] = int(before[i] - PLACED) % G
    for i in np.flatnonzero(before >= PLACED).tolist():
        put(i, int(case.release[i] + (before[i] - PLACED) // G), int(before[i] - PLACED) % G, 1)
    choice: dict[int, int] = {}

    def complete(j: int) -> bool:
        if j == len(started):
            peak = load[:, k:until].max(axis=0)
            return case.fixed * int((peak > 0).sum()) + case.unit * int(peak.sum()) <= cost
        i = started[j]
        label = int(after[i] - PLACED) % G if after[i] >= PLACED else -1
        options = [known[label]] if label in known else [g for g in range(G) if label < 0 or g not in known.values()]
        for g in options:
            put(i, k, g, 1)
            if count[g, k] <= case.slots and load[g].max() <= case.capacity:
                new = label >= 0 and label not in known
                if new:
                    known[label] = g
                choice[i] = g
                if complete(j + 1):
                    return True
                if new:
                    del known[label]
            put(i, k, g, -1)
        return False

    complete(0)
    return choice
