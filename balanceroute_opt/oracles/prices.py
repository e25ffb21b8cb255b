"""Duals of the relaxations as prices: what a token on a step, a slot and a request cost in hindsight.

The linear program of P2 with workers merged (``docs/model.md``, section 7) is solved by HiGHS, with rows added as they
are needed. Its duals, rounded, are a certificate: wrong prices would prove less than the optimum of the program.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Float64Array, Int64Array, frozen, real
from ..certificates import Bound
from ..errors import InputError, SolverError
from ..instance import Cluster, Instance
from .bounds import placement_bound, schedule_bound
from .given import active_axis, given_starts, least_steps, start_windows, window_data
from .highs import _highspy, _load
from .lagrangian import Multipliers, Windows, certified
from .price_tables import Columns, Prices
from .schedule_model import ScheduleCase, ScheduleModel, merged_model, schedule_case

__all__ = ["prices"]

_VIOLATED = 1e-7  # relative to the largest coefficient of a row, as HiGHS takes it for its own
_NOTHING = 1e-9  # duals below, relative to the cost of a peak or a step, are rounding
_PAIR = re.compile(r"(item|active)\[i=(\d+),k=(\d+)\]")


def prices(
    inst: Instance,
    cluster: Cluster,
    start: ArrayLike | None = None,
    max_wait: int | None = None,
    latest: ArrayLike | None = None,
    time_limit: float = 60.0,
) -> Prices:
    """Prices of tokens, slots and requests in hindsight: duals of the relaxation, and what they prove.

    Placement (`start` given) has uniform prices by symmetry: a token costs ``1/G`` on every worker and step, a slot
    nothing. So has a schedule without windows: a token costs ``a/G``, or all of ``a`` for the heaviest request where
    its work exceeds the mean. With windows prices say where work crowds [ours].

    Parameters
    ----------
    inst : Instance
        On the step clock. A KV capacity is not priced; it only takes schedules away, so that the value stays a bound.
    cluster : Cluster
    start : array_like of int, shape (n,), optional
        The given admission steps of a placement.
    max_wait, latest : optional
        The start windows of a schedule, as in :func:`~balanceroute_opt.solve_schedule`; a run's own starts are a
        good `latest`.
    time_limit : float
        Seconds for HiGHS, > 0. Prices found by then are valid.

    Returns
    -------
    Prices

    Raises
    ------
    InputError
        If `start` comes with windows or does not fit the instance, the windows leave no schedule, or the program would
        be too large.
    SolverError
        If HiGHS is not installed, or has no prices after `time_limit`.

    Notes
    -----
    Duals need not be unique: where several prices are best, those of one vertex are reported. A price is a rate, exact
    for small changes only; ``earlier`` and ``later`` are limits, by weak duality.

    Examples
    --------
    >>> from balanceroute_opt import StepTime
    >>> inst = Instance(release=[0, 0, 0], prompt=[9, 4, 4], output=[2, 2, 2])
    >>> cluster = Cluster(workers=2, slots=1, step_time=StepTime(fixed=10.0, per_token=1.0))
    >>> found = prices(inst, cluster, max_wait=2)
    >>> round(found.value, 6), found.bound.status  # 3 steps, and the heaviest request's 19 token-steps
    (49.0, 'certified')
    """
    limit = real(time_limit, "time_limit", positive=True)
    if start is not None:
        if max_wait is not None or latest is not None:
            raise InputError("start (a placement) and max_wait or latest (a schedule) exclude each other")
        return _placement(inst, cluster, given_starts(inst, cluster, start))
    last, words = start_windows(inst, cluster, max_wait, latest)
    if last is None or not len(inst):
        return _unlimited(inst, cluster, words)
    case = schedule_case(inst, replace(cluster, kv_capacity=None), last)
    dual = _solve(case, limit)
    multipliers = dual.shares(cluster.step_time.fixed, cluster.step_time.per_token)
    proved = certified(inst, cluster, Windows.of(inst, last), case.least, multipliers)
    bound = schedule_bound(inst, cluster, "fluid", max_wait, latest)
    if proved is not None and proved[0] + case.constant > bound.exact:
        given = window_data(max_wait, latest)
        bound = Bound.schedule(inst, cluster, last, words, "lagrangian", proved[0] + case.constant, given | proved[1])
    return _schedule(case, dual, words, bound)


@dataclass(frozen=True)
class _Dual:
    """Duals of the merged relaxation in seconds, on the positions of the axis, and its solution.

    ``mu`` is what ``nu`` leaves of a; ``rho`` is what the others exceed c by. Pairs (request, position) are sorted.
    """

    theta: float
    mu: Float64Array
    sigma: Float64Array
    rho: Float64Array
    request: Int64Array
    position: Int64Array
    nu: Float64Array
    eta: Float64Array
    peak: Float64Array
    active: Float64Array
    optimal: bool

    def shares(self, c: float, a: float) -> Multipliers:
        """As shares of c and a."""
        c, a = c or math.inf, a or math.inf
        return Multipliers(self.theta / c, self.sigma / c, self.request, self.position, self.nu / a, self.eta / c)


def _solve(case: ScheduleCase, time_limit: float) -> _Dual:
    """Best prices by HiGHS.

    Rows of single requests are many and mostly slack: they are added where a solution violates them. With zeros for
    the others, the duals before the last of them are valid too.
    """
    highspy = _highspy()
    model = merged_model(case)
    pairs = [_PAIR.fullmatch(name) for name in model.rows]
    rows = np.flatnonzero([pair is None for pair in pairs])
    size = np.maximum.reduceat(np.abs(model.value), model.first[:-1])
    highs = _load(_part(model, rows))
    highs.setOptionValue("threads", 1)
    highs.setOptionValue("time_limit", time_limit)  # of all runs together
    began, solved, missing = time.perf_counter(), None, rows
    while len(missing) and time.perf_counter() - began < time_limit:
        highs.run()
        status = highs.getModelStatus()
        if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
            raise InputError("no schedule keeps these windows: the slots do not suffice even for the relaxation")
        if status == highspy.HighsModelStatus.kTimeLimit:
            break
        if status != highspy.HighsModelStatus.kOptimal:
            raise SolverError(f"HiGHS ended with the status {status.name}, which is no result")
        answer = highs.getSolution()
        x = np.array(answer.col_value)
        solved = rows, np.array(answer.row_dual), x
        short = model.row_lower - np.add.reduceat(model.value * x[model.column], model.first[:-1])
        short[rows] = 0.0
        missing = np.flatnonzero(short > _VIOLATED * np.maximum(1.0, size))
        if len(missing):
            rows, part = np.concatenate((rows, missing)), _part(model, missing)
            highs.addRows(
                len(missing), part.row_lower, part.row_upper, len(part.column), part.first[:-1].astype(np.int32),
                part.column.astype(np.int32), part.value,
            )  # fmt: skip
    if solved is None:
        raise SolverError(f"HiGHS found no prices in {time_limit:g} s; allow more, or narrow the windows")
    rows, row_dual, x = solved
    dual = np.zeros(len(model.rows))
    dual[rows] = np.maximum(row_dual, 0.0)
    return _named(case, model, pairs, dual, x, not len(missing))


def _named(
    case: ScheduleCase,
    model: ScheduleModel,
    pairs: list[re.Match[str] | None],
    dual: Float64Array,
    x: Float64Array,
    optimal: bool,
) -> _Dual:
    """What each dual is the price of, by the name of its row."""
    c, a, K = case.cluster.step_time.fixed, case.cluster.step_time.per_token, len(case.steps)
    token = [name.startswith(("mean[", "item[")) for name in model.rows]
    dual = dual * (a or c)
    dual[dual <= _NOTHING * np.where(token, a, c)] = 0.0
    theta, sigma = 0.0, np.zeros(K)
    own: dict[tuple[int, int], list[float]] = {}
    for name, pair, price in zip(model.rows, pairs, dual.tolist(), strict=True):
        if price <= 0.0:
            continue
        if pair is not None:
            kind, i, k = pair.groups()
            own.setdefault((int(i), int(np.searchsorted(case.steps, int(k)))), [0.0, 0.0])[kind == "active"] = price
        elif name == "steps":
            theta = price
        elif name.startswith("slots["):
            sigma[np.searchsorted(case.steps, int(name[8:-1]))] = price
    keys = sorted(own)
    request, position = np.array(keys, np.int64).reshape(-1, 2).T
    nu, eta = np.array([own[key] for key in keys]).reshape(-1, 2).T
    mu = a - np.bincount(position, nu, K).astype(np.float64)
    rho = theta + sigma + np.bincount(position, eta, K) - c
    mu[mu <= _NOTHING * a], rho[rho <= _NOTHING * c] = 0.0, 0.0
    peak, active = x[len(model.request) :].reshape(2, K)
    return _Dual(theta, mu, sigma, rho, request, position, nu, eta, peak, active, optimal)


def _part(model: ScheduleModel, rows: Int64Array) -> ScheduleModel:
    """The model with some of its rows."""
    length = np.diff(model.first)[rows]
    entries = np.concatenate([np.arange(model.first[r], model.first[r + 1]) for r in rows.tolist()])
    return replace(
        model,
        rows=[model.rows[r] for r in rows.tolist()],
        row_lower=model.row_lower[rows],
        row_upper=model.row_upper[rows],
        first=np.concatenate(([0], np.cumsum(length))),
        column=model.column[entries],
        value=model.value[entries],
    )


def _schedule(case: ScheduleCase, dual: _Dual, words: str, bound: Bound) -> Prices:
    inst, K = case.inst, len(case.steps)
    c, a = case.cluster.step_time.fixed, case.cluster.step_time.per_token
    G, GB = case.cluster.workers, case.cluster.workers * case.cluster.slots
    token, slot = dual.mu / G, dual.sigma / GB
    tokens, slots, earlier, later = (np.zeros(len(inst)) for _ in range(4))
    start = np.zeros(len(inst), np.int64)
    pointer = np.searchsorted(dual.request, np.arange(len(inst) + 1))
    for i in range(len(inst)):
        s, o, first, wait = int(inst.prompt[i]), int(inst.output[i]), int(case.first[i]), int(case.wait[i])
        end = first + wait + o
        # One step more on either side; one that is not on the axis would be opened for this request alone.
        around = np.full((2, wait + o + 2), [[a], [max(c - dual.theta, 0.0)]])
        low = first > 0 and case.steps[first - 1] == case.steps[first] - 1
        high = end < K and case.steps[end] == case.steps[end - 1] + 1
        reach, here = slice(first - low, end + high), slice(1 - low, wait + o + 1 + high)
        around[:, here] = token[reach], slot[reach]
        mine = slice(int(pointer[i]), int(pointer[i + 1]))
        around[:, dual.position[mine] - first + 1] += dual.nu[mine], dual.eta[mine]
        of_tokens = np.correlate(around[0], s + np.arange(o, dtype=float))  # by start, from one step too early on
        of_slots = np.correlate(around[1], np.ones(o))
        cost = of_tokens + of_slots
        least = float(cost[1:-1].min())
        j = int(np.argmax(cost[1:-1] <= least * (1 + 1e-9)))
        start[i], tokens[i], slots[i] = inst.release[i] + j, of_tokens[j + 1], of_slots[j + 1]
        earlier[i] = max(0.0, least - cost[0]) if inst.release[i] > 0 else math.nan
        later[i] = max(0.0, least - cost[-1])
    requests = _request_columns(inst, case.last, tokens, slots, start, earlier, later)
    steps = {
        "step": case.steps,
        "token": token,
        "single": np.bincount(dual.position, dual.nu, K),
        "slot": slot,
        "own": np.bincount(dual.position, dual.eta, K),
        "crowding": dual.rho,
        "peak": dual.peak,
        "active": dual.active,
        "cost": a * dual.peak + c * dual.active,
        "paid": a * dual.peak + (c + dual.rho) * dual.active,
    }
    bill = {
        "requests": float(requests["cost"].sum()),
        "steps": dual.theta * case.least,
        "crowding": 0.0 - float(dual.rho.sum()),
        "constant": float(case.constant),
    }
    return Prices("schedule", words, "s", sum(bill.values()), bill, dual.optimal, bound, requests, _frozen(steps))


def _placement(inst: Instance, cluster: Cluster, start: Int64Array) -> Prices:
    """Uniform prices: the average of optimal duals over all permutations of workers."""
    steps, _, total = active_axis(inst, cluster, start)
    G = cluster.workers
    requests = _request_columns(inst, start, inst.work / G, np.zeros(len(inst)), start)
    columns = _uniform(steps, 1 / G, 0.0, total / G, total / G)
    bill = {"requests": inst.total_work / G, "steps": 0.0, "crowding": 0.0, "constant": 0.0}
    bound = placement_bound(inst, cluster, start, "fluid")
    return Prices("placement", "given starts", "token-steps", bill["requests"], bill, True, bound, requests, columns)


def _unlimited(inst: Instance, cluster: Cluster, words: str) -> Prices:
    """Prices of the closed form, in which all releases are 0: the same in the ``K_min`` steps, which are listed."""
    c, a, G, n = cluster.step_time.fixed, cluster.step_time.per_token, cluster.workers, len(inst)
    least, work = least_steps(inst, cluster, None), inst.work
    heaviest = int(work.max(initial=0))
    alone = heaviest * G > inst.total_work
    tokens = a * (np.where(np.arange(n) == np.argmax(work), work, 0) if alone else work / G)
    requests = _request_columns(inst, np.full(n, -1), tokens, np.zeros(n), np.zeros(n, np.int64))
    peak = np.full(least, max(float(heaviest), inst.total_work / G) / max(least, 1))
    columns = _uniform(np.arange(least), 0.0 if alone else a / G, a if alone else 0.0, peak, c + a * peak)
    constant = float(cluster.step_time.exact()[2] * inst.total_work / G)
    bill = {"requests": float(tokens.sum()), "steps": c * least, "crowding": 0.0, "constant": constant}
    bound = schedule_bound(inst, cluster, "fluid")
    return Prices("schedule", words, "s", sum(bill.values()), bill, True, bound, requests, columns)


def _request_columns(
    inst: Instance,
    last: Int64Array,
    tokens: Float64Array,
    slots: Float64Array,
    start: Int64Array,
    earlier: Float64Array | float = 0.0,
    later: Float64Array | float = 0.0,
) -> Columns:
    cost = tokens + slots
    n = len(inst)
    return _frozen(
        {
            "request": np.arange(n),
            "release": inst.release,
            "last": last,
            "prompt": inst.prompt,
            "output": inst.output,
            "cost": cost,
            "tokens": tokens,
            "slots": slots,
            "share": cost / max(float(cost.sum()), 1e-300),
            "start": start,
            "earlier": np.zeros(n) + earlier,
            "later": np.zeros(n) + later,
        }
    )


def _uniform(step: Int64Array, token: float, single: float, peak: Float64Array, cost: Float64Array) -> Columns:
    """Columns of steps in which a slot costs nothing."""
    none = np.zeros(len(step))
    return _frozen(
        {
            "step": step,
            "token": none + token,
            "single": none + single,
            "slot": none,
            "own": none,
            "crowding": none,
            "peak": peak,
            "active": none + 1.0,
            "cost": cost,
            "paid": cost,
        }
    )


def _frozen(columns: Columns) -> Columns:
    return {name: frozen(np.array(values)) for name, values in columns.items()}
