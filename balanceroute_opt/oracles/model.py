"""P1 described once: the data of a case, and its variables and rows as plain arrays with names.

Solver libraries and files get translations of :class:`LinearModel` (``highs.py``, ``cpsat.py``, ``model_files.py``);
rows are named after ``docs/model.md``, section 6. P2 is in ``schedule_model.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._validate import Float64Array, Int64Array, frozen
from ..errors import InputError
from ..instance import Cluster, Instance
from ..schedule import active_steps
from .floors import step_bounds

__all__ = ["LinearModel", "PlacementCase", "placement_case", "placement_model"]


@dataclass(frozen=True, eq=False)
class PlacementCase:
    """One placement problem on the axis of its active steps.

    Attributes
    ----------
    inst, cluster
    start : ndarray of int64, shape (n,)
    begin, end : ndarray of int64, shape (n,)
        Positions on the axis of active steps: request i is active in ``begin[i] .. end[i] - 1``.
    base : ndarray of int64, shape (n,)
        The load of request i at position k is ``base[i] + k``.
    steps : ndarray of int64, shape (K,)
        The active steps.
    floor : ndarray of int64, shape (K,)
        A lower bound on each step's peak (``migration``).
    """

    inst: Instance
    cluster: Cluster
    start: Int64Array
    begin: Int64Array
    end: Int64Array
    base: Int64Array
    steps: Int64Array
    floor: Int64Array

    def __len__(self) -> int:
        return len(self.begin)

    def order(self) -> Int64Array:
        """Requests by start, the one with the larger work first among equals."""
        return np.lexsort((-self.inst.work, self.begin))

    def components(self) -> list[Int64Array]:
        """Requests of each connected component of the graph of requests that share a step, ascending."""
        if not len(self):
            return []
        order = np.argsort(self.begin, kind="stable")
        reach = np.maximum.accumulate(self.end[order])
        parts = np.split(order, np.flatnonzero(self.begin[order][1:] >= reach[:-1]) + 1)
        return [np.sort(part) for part in parts]  # a single one is the case itself, request by request

    def loads(self, worker: Int64Array) -> Int64Array:
        """Loads of the workers under a placement, shape (G, K)."""
        load = np.zeros((self.cluster.workers, len(self.steps)), np.int64)
        for i, g in enumerate(worker):
            span = np.arange(self.begin[i], self.end[i])
            load[g, span] += self.base[i] + span
        return load

    def part(self, requests: Int64Array) -> PlacementCase:
        """The case of some requests alone."""
        return placement_case(self.inst.take(requests), self.cluster, frozen(self.start[requests]))


def placement_case(inst: Instance, cluster: Cluster, start: Int64Array) -> PlacementCase:
    """The case of validated `start` (:func:`~balanceroute_opt.oracles.given.given_starts`).

    Raises
    ------
    InputError
        If more than G*B requests are active in a step, which is named with their number.
    """
    begin, steps = active_steps(start, inst.output)
    floor = step_bounds(inst, cluster, start, "migration").peak
    return PlacementCase(
        inst, cluster, start, frozen(begin), frozen(begin + inst.output), frozen(inst.prompt - begin), steps, floor
    )


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Minimise ``cost @ x`` over ``lower <= x <= upper`` and rows ``row_lower <= A @ x <= row_upper``.

    Attributes
    ----------
    name : str
    variables : list of str
        ``x[i=12,g=3]``: request 12 is on worker 3. ``peak[k=40]``: largest load in step 40.
    cost, lower, upper : ndarray of float64, shape (variables,)
    integer : ndarray of bool, shape (variables,)
    rows : list of str
        ``sticky[i=12]``: request 12 has one worker. ``peak[k=40,g=3]``: the load of worker 3 is not above the
        peak. ``slots[k=40,g=3]``: at most B requests.
    row_lower, row_upper : ndarray of float64, shape (rows,)
    first, column, value : ndarray
        ``A`` by rows: entries ``first[r] .. first[r + 1] - 1``.
    shape : tuple of int
        ``(n, G)``: the first ``n*G`` variables are x, in this order.
    """

    name: str
    variables: Sequence[str]
    cost: Float64Array
    lower: Float64Array
    upper: Float64Array
    integer: NDArray[np.bool_]
    rows: Sequence[str]
    row_lower: Float64Array
    row_upper: Float64Array
    first: Int64Array
    column: Int64Array
    value: Float64Array
    shape: tuple[int, int]

    def workers(self, values: Sequence[float] | Float64Array) -> Int64Array:
        """Worker of each request in a solution vector: the largest of its x."""
        n, workers = self.shape
        return np.asarray(values[: n * workers]).reshape(n, workers).argmax(axis=1).astype(np.int64)

    def vector(self, case: PlacementCase, worker: Int64Array) -> Float64Array:
        """The solution vector of a placement; workers are renumbered by first occurrence if the model asks for it."""
        n, workers = self.shape
        order = case.order()
        if self.upper[: n * workers].min(initial=1.0) == 0.0:
            number: dict[int, int] = {}
            for i in order.tolist():
                number.setdefault(int(worker[i]), len(number))
            worker = np.array([number[int(g)] for g in worker], np.int64)
        x = np.zeros(len(self.variables))
        x[np.arange(n) * workers + worker] = 1.0
        x[n * workers :] = case.loads(worker).max(axis=0)
        return x


def placement_model(case: PlacementCase, strengthen: bool = True) -> LinearModel:
    """P1 as a mixed-integer program: a binary per request and worker, a peak per active step.

    Parameters
    ----------
    case : PlacementCase
    strengthen : bool
        Peaks are at least the migration bound of their step, and workers are numbered by first occurrence:
        the j-th request by start is on one of the workers 0 .. j. False: the plain formulation.

    Raises
    ------
    InputError
        If the model would have more than 2**31 - 1 entries.
    """
    n, workers, count = len(case), case.cluster.workers, len(case.steps)
    if int(case.inst.output.sum()) * workers * 2 > 2**31 - 1:
        raise InputError(f"a model of {n} requests, {workers} workers and {count} steps is too large for a solver")
    variables = [f"x[i={i},g={g}]" for i in range(n) for g in range(workers)]
    variables += [f"peak[k={k}]" for k in case.steps.tolist()]
    width = len(variables)
    cost, lower, upper = np.zeros(width), np.zeros(width), np.ones(width)
    cost[n * workers :] = 1.0
    upper[n * workers :] = np.inf if case.cluster.kv_capacity is None else float(case.cluster.kv_capacity)
    if strengthen:
        lower[n * workers :] = case.floor
        for j, i in enumerate(case.order().tolist()):
            upper[i * workers + j + 1 : (i + 1) * workers] = 0.0
    integer = np.arange(width) < n * workers

    rows: list[str] = []
    bounds: list[tuple[float, float]] = []
    columns: list[Int64Array] = []
    values: list[Float64Array] = []
    for i in range(n):
        rows.append(f"sticky[i={i}]")
        bounds.append((1.0, 1.0))
        columns.append(np.arange(i * workers, (i + 1) * workers))
        values.append(np.ones(workers))
    order = np.argsort(case.begin, kind="stable")
    active: list[int] = []
    entering = 0
    for position, k in enumerate(case.steps.tolist()):
        active = [i for i in active if case.end[i] > position]
        came = entering
        while entering < n and case.begin[order[entering]] <= position:
            active.append(int(order[entering]))
            entering += 1
        here = np.array(active)
        for g in range(workers):
            rows.append(f"peak[k={k},g={g}]")
            bounds.append((0.0, np.inf))
            columns.append(np.append(here * workers + g, n * workers + position))
            values.append(np.append(-(case.base[here] + position).astype(float), 1.0))
            if entering > came and len(active) > case.cluster.slots:  # counts only rise where a request starts
                rows.append(f"slots[k={k},g={g}]")
                bounds.append((0.0, float(case.cluster.slots)))
                columns.append(here * workers + g)
                values.append(np.ones(len(here)))
    low, high = np.array(bounds, float).reshape(-1, 2).T
    first = np.concatenate(([0], np.cumsum([len(c) for c in columns]))).astype(np.int64)
    empty = np.empty(0)
    return LinearModel(
        f"placement of {n} requests on {workers} workers",
        variables,
        cost,
        lower,
        upper,
        integer,
        rows,
        low,
        high,
        first,
        np.concatenate(columns).astype(np.int64) if columns else empty.astype(np.int64),
        np.concatenate(values) if values else empty,
        (n, workers),
    )
