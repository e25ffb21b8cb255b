"""P2 described once: the data of a case, its time-indexed program and its relaxation as plain arrays with names.

Rows are named after ``docs/model.md``, sections 6 and 7; solver libraries get translations of the arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor, log2

import numpy as np

from .._validate import Float64Array, Int64Array, frozen
from ..errors import InputError
from ..instance import Cluster, Instance
from ..schedule import Schedule
from .given import least_steps
from .lagrangian import Windows
from .model import LinearModel

__all__ = ["ScheduleCase", "ScheduleModel", "merged_model", "schedule_case", "schedule_model"]

_MOST_ENTRIES = 2 * 10**7


@dataclass(frozen=True, eq=False)
class ScheduleCase:
    """One schedule problem on the axis of the steps that its windows reach.

    Attributes
    ----------
    inst, cluster
    last : ndarray of int64, shape (n,)
        Last step in which each request may start.
    steps : ndarray of int64, shape (K,)
        The axis.
    first, wait : ndarray of int64, shape (n,)
        Position of the release on the axis, and the width of the window.
    least : int
        ``K_min``: active steps that no schedule goes below.
    limited : bool
        False: the reduced form of a problem without limit. All releases are 0, active steps are contiguous
        from step 0, and the horizon comes from a known schedule.
    """

    inst: Instance
    cluster: Cluster
    last: Int64Array
    steps: Int64Array
    first: Int64Array
    wait: Int64Array
    least: int
    limited: bool

    def __len__(self) -> int:
        return len(self.inst)

    @property
    def constant(self) -> Fraction:
        """``b*W/G``, seconds."""
        return self.cluster.step_time.exact()[2] * self.inst.total_work / self.cluster.workers

    @property
    def ratio(self) -> float:
        """``c/a``: tokens of peak that a step costs beside its own peak; 1 if a = 0."""
        time = self.cluster.step_time
        return time.fixed / time.per_token if time.per_token > 0 else 1.0

    def weights(self) -> tuple[int, int, Fraction]:
        """Integers ``(fixed, unit)`` for c and a, both rounded down, and the seconds that one unit of them stands for.

        As large as sums of them stay far inside int64, and exact for a wherever c/a is not huge.
        """
        c, a, _ = self.cluster.step_time.exact()
        largest = c * len(self.steps) + a * self.inst.total_work
        if not largest:
            return 0, 0, Fraction(1)
        base = a or c
        bits = floor(log2(2**58 * base / largest))
        second = base / 2**bits if bits > 0 else largest / 2**58
        return floor(c / second), floor(a / second), second

    def schedule(self, start: Int64Array, worker: Int64Array) -> Schedule:
        """The schedule in steps, of starts in positions."""
        return Schedule(self.inst.release + (start - self.first), worker)


def schedule_case(inst: Instance, cluster: Cluster, last: Int64Array, limited: bool = True) -> ScheduleCase:
    """The case of validated windows (:func:`~balanceroute_opt.oracles.given.start_windows`)."""
    windows = Windows.of(inst, last)
    least = least_steps(inst, cluster, last)
    return ScheduleCase(inst, cluster, last, windows.step, frozen(windows.first), frozen(windows.wait), least, limited)


@dataclass(frozen=True, eq=False)
class ScheduleModel(LinearModel):
    """A time-indexed model; its first variables are x, one per choice.

    Attributes
    ----------
    request, start, worker : ndarray of int64, shape (choices,)
        What each x chooses: request, position of its start, worker (0 in the merged model).
    """

    request: Int64Array
    start: Int64Array
    worker: Int64Array

    def choices(self, values: Sequence[float] | Float64Array, n: int) -> tuple[Int64Array, Int64Array]:
        """Start (position) and worker of each request in a solution vector: the largest of its x."""
        x = np.asarray(values[: len(self.request)])
        order = np.lexsort((x, self.request))
        chosen = order[np.searchsorted(self.request[order], np.arange(n), side="right") - 1]
        return self.start[chosen], self.worker[chosen]


class _Rows:
    """Rows as they are collected."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.bounds: list[tuple[float, float]] = []
        self.columns: list[Int64Array] = []
        self.values: list[Float64Array] = []

    def add(self, name: str, low: float, high: float, *parts: tuple[Int64Array | int, Float64Array | float]) -> None:
        columns = [np.atleast_1d(np.asarray(column, np.int64)) for column, _ in parts]
        values = [np.broadcast_to(np.asarray(v, float), c.shape) for (_, v), c in zip(parts, columns, strict=True)]
        self.names.append(name)
        self.bounds.append((low, high))
        self.columns.append(np.concatenate(columns))
        self.values.append(np.concatenate(values))


def schedule_model(case: ScheduleCase, strengthen: bool = True) -> ScheduleModel:
    """P2 as a time-indexed program: a binary per request, start and worker; a peak and an activity per step.

    Objective: ``sum_k peak_k + (c/a) * sum_k active_k`` in tokens (``sum_k active_k`` if a = 0).

    Parameters
    ----------
    case : ScheduleCase
    strengthen : bool
        Activity of steps in which some request runs in any case is fixed, the sum of activity is at least
        ``K_min``, a peak is at least the mean load, and workers are numbered by first occurrence. False: the plain
        formulation.

    Raises
    ------
    InputError
        If the model would have more than 2*10**7 entries.
    """
    return _model(case, case.cluster.workers, False, strengthen)


def merged_model(case: ScheduleCase) -> ScheduleModel:
    """The relaxation with workers merged, a linear program: its duals are the multipliers of the Lagrangian bound."""
    return _model(case, 1, True, True)


def _model(case: ScheduleCase, workers: int, merged: bool, strengthen: bool) -> ScheduleModel:
    n, K = len(case), len(case.steps)
    G, B = case.cluster.workers, case.cluster.slots
    prompt, output = case.inst.prompt, case.inst.output
    if int(((case.wait + 1) * output).sum()) * workers * 3 > _MOST_ENTRIES:
        raise InputError(
            f"a time-indexed model of {n} requests with windows of up to {int(case.wait.max()) + 1} starts is too "
            "large; narrow the windows, or use schedule_bound"
        )
    request = np.repeat(np.arange(n), (case.wait + 1) * workers)
    offset = np.concatenate([np.repeat(np.arange(w + 1), workers) for w in case.wait.tolist()] or [np.empty(0, int)])
    worker = np.tile(np.arange(workers), int((case.wait + 1).sum()))
    start = case.first[request] + offset
    x = len(request)
    step = (case.inst.release[request] + offset).tolist()
    names = [
        f"x[i={i},t={t}]" if merged else f"x[i={i},t={t},g={g}]"
        for i, t, g in zip(request.tolist(), step, worker.tolist(), strict=True)
    ]
    names += [f"peak[k={k}]" for k in case.steps.tolist()] + [f"active[k={k}]" for k in case.steps.tolist()]
    peak, active = x + np.arange(K), x + K + np.arange(K)
    width = x + 2 * K
    cost, lower, upper = np.zeros(width), np.zeros(width), np.ones(width)
    if case.cluster.step_time.per_token > 0:
        cost[peak], cost[active] = 1.0, case.ratio
    else:
        cost[active] = float(case.cluster.step_time.fixed > 0)
    upper[peak] = np.inf if case.cluster.kv_capacity is None else float(case.cluster.kv_capacity)
    if strengthen and not merged:
        for i in range(n):
            lower[active[case.first[i] + case.wait[i] : case.first[i] + output[i]]] = 1.0

    rows = _Rows()
    by_request = np.searchsorted(request, np.arange(n + 1))
    for i in range(n):
        rows.add(f"once[i={i}]", 1.0, 1.0, (np.arange(by_request[i], by_request[i + 1]), 1.0))
    for p, k in enumerate(case.steps.tolist()):
        here = _active(case, by_request, workers, p)
        if not len(here):
            continue
        load = (prompt[request[here]] + p - start[here]).astype(float)
        for g in range(workers):
            mine = worker[here] == g
            if merged:
                rows.add(f"mean[k={k}]", 0.0, np.inf, (peak[p], 1.0), (here, -load / G))
                rows.add(f"slots[k={k}]", 0.0, np.inf, (active[p], 1.0), (here, -1.0 / (G * B)))
            else:
                rows.add(f"peak[k={k},g={g}]", 0.0, np.inf, (peak[p], 1.0), (here[mine], -load[mine]))
                rows.add(f"slots[k={k},g={g}]", -np.inf, float(B), (here[mine], 1.0))
        if strengthen and not merged and G > 1:
            rows.add(f"mean[k={k}]", 0.0, np.inf, (peak[p], float(G)), (here, -load))
        for i in np.unique(request[here]).tolist():
            its = request[here] == i
            if merged:
                rows.add(f"item[i={i},k={k}]", 0.0, np.inf, (peak[p], 1.0), (here[its], -load[its]))
            if lower[active[p]] == 0.0:
                rows.add(f"active[i={i},k={k}]", 0.0, np.inf, (active[p], 1.0), (here[its], -1.0))
    if strengthen and n:
        rows.add("steps", float(case.least), np.inf, (active, 1.0))
    if not case.limited and not merged:
        for p in range(1, K):
            rows.add(f"contiguous[k={p}]", 0.0, np.inf, (active[p - 1], 1.0), (active[p], -1.0))
    low, high = np.array(rows.bounds, float).reshape(-1, 2).T
    model = ScheduleModel(
        name=f"schedule of {n} requests on {G} workers" + (" (merged)" if merged else ""),
        variables=names,
        cost=cost,
        lower=lower,
        upper=upper,
        integer=np.arange(width) < (0 if merged else x),
        rows=rows.names,
        row_lower=low,
        row_upper=high,
        first=np.concatenate(([0], np.cumsum([len(c) for c in rows.columns]))).astype(np.int64),
        column=np.concatenate(rows.columns) if rows.columns else np.empty(0, np.int64),
        value=np.concatenate(rows.values) if rows.values else np.empty(0),
        shape=(n, workers),
        request=request,
        start=start,
        worker=worker,
    )
    return _numbered(case, model) if strengthen and not merged else model


def _active(case: ScheduleCase, by_request: Int64Array, workers: int, p: int) -> Int64Array:
    """The choices under which a request is active in position p, ascending."""
    low = np.maximum(p - case.inst.output + 1 - case.first, 0)
    high = np.minimum(p - case.first, case.wait)
    chosen: Iterable[Int64Array] = (
        np.arange(by_request[i] + low[i] * workers, by_request[i] + (high[i] + 1) * workers)
        for i in np.flatnonzero(low <= high).tolist()
    )
    return np.concatenate([np.empty(0, np.int64), *chosen])


def _numbered(case: ScheduleCase, model: ScheduleModel) -> ScheduleModel:
    """Workers numbered by first occurrence in order of release: the j-th request is on one of the workers 0 .. j."""
    rank = np.empty(len(case), np.int64)
    rank[np.argsort(case.first, kind="stable")] = np.arange(len(case))
    upper = model.upper.copy()
    upper[: len(model.request)][model.worker > rank[model.request]] = 0.0
    return replace(model, upper=upper)


def vector(case: ScheduleCase, model: ScheduleModel, start: Int64Array, worker: Int64Array) -> Float64Array:
    """The solution vector of a schedule (starts in positions); workers are renumbered if the model asks for it."""
    n, G, K = len(case), case.cluster.workers, len(case.steps)
    if n and model.upper[: len(model.request)].min() == 0.0:
        number: dict[int, int] = {}
        for i in np.argsort(case.first, kind="stable").tolist():
            number.setdefault(int(worker[i]), len(number))
        worker = np.array([number[int(g)] for g in worker.tolist()], np.int64)
    chosen = np.zeros(len(model.variables))
    load = np.zeros((G, K))
    for i in range(n):
        t, o = int(start[i]), int(case.inst.output[i])
        load[worker[i], t : t + o] += case.inst.prompt[i] + np.arange(o)
    x = len(model.request)
    own = (model.start == start[model.request]) & (model.worker == worker[model.request])
    chosen[:x][own] = 1.0
    chosen[x : x + K] = load.max(axis=0)
    chosen[x + K :] = load.max(axis=0) > 0
    return chosen
