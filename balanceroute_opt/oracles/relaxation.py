"""The linear relaxations of P1 and P2 for readers, in cvxpy (``docs/model.md``, sections 6 and 7).

Written from the definitions, not from the arrays of ``model.py`` and ``schedule_model.py``: that both have the same
optimum is a test of either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError, SolverError
from ..instance import Cluster, Instance
from ..schedule import active_steps
from .given import given_starts, start_windows
from .schedule import window_case

if TYPE_CHECKING:
    import cvxpy

__all__ = ["relaxation"]

_MOST_CELLS = 2 * 10**7


def relaxation(
    inst: Instance,
    cluster: Cluster,
    start: ArrayLike | None = None,
    max_wait: int | None = None,
    latest: ArrayLike | None = None,
) -> cvxpy.Problem:
    """A hindsight problem without integrality, as a cvxpy problem to solve, print, change and export.

    Placement (`start` given): ``x[i, g]`` is the share of request i on worker g. Schedule: ``z`` holds the share of
    each request that starts in each step of its window, and the workers are merged, so that a peak is at least the
    mean load and at least each request's load. Both are linear, hence follow the rules of disciplined convex
    programming.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    start : array_like of int, shape (n,), optional
        The given admission steps of a placement.
    max_wait, latest : optional
        The start windows of a schedule, as in :func:`~balanceroute_opt.solve_schedule`. With neither, all releases
        are 0 and the horizon is that of a known schedule, so that the value can exceed the closed form.

    Returns
    -------
    cvxpy.Problem
        Not solved yet; ``.solve()`` returns the value: token-steps (placement), or seconds with the constant
        ``b*W/G`` (schedule). Variables are named x and peak, or z, peak and active.

    Raises
    ------
    InputError
        If `start` comes with windows, does not fit the instance, or the problem is too large for dense matrices.
    SolverError
        If cvxpy is not installed.

    Examples
    --------
    >>> inst, cluster = Instance([0, 0, 0], [5, 3, 3], [1, 1, 1]), Cluster(workers=2, slots=2)
    >>> round(float(relaxation(inst, cluster, start=[0, 0, 0]).solve()), 6)  # 11 tokens on two workers
    5.5
    """
    try:
        import cvxpy as cp
    except ImportError:
        raise SolverError('cvxpy is not installed; install the extra "solvers" (pip install cvxpy)') from None
    if not len(inst):
        raise InputError("the instance has no requests, and its relaxation no variables")
    if start is None:
        return _schedule(cp, inst, cluster, max_wait, latest)
    if max_wait is not None or latest is not None:
        raise InputError("start (a placement) and max_wait or latest (a schedule) exclude each other")
    return _placement(cp, inst, cluster, start)


def _placement(cp: Any, inst: Instance, cluster: Cluster, start: ArrayLike) -> Any:
    t = given_starts(inst, cluster, start)
    begin, steps = active_steps(t, inst.output)
    _require_cells(len(inst) * len(steps))
    age = np.arange(len(steps)) - begin[:, None]  # (request, step)
    runs = (age >= 0) & (age < inst.output[:, None])
    load = np.where(runs, inst.prompt[:, None] + age, 0)
    x = cp.Variable((len(inst), cluster.workers), nonneg=True, name="x")
    peak = cp.Variable((len(steps), 1), nonneg=True, name="peak")
    rows = [
        cp.sum(x, axis=1) == 1,  # every request somewhere
        load.T @ x <= peak,  # the fullest worker sets the pace
        runs.T.astype(int) @ x <= cluster.slots,
    ]
    if cluster.kv_capacity is not None:
        rows.append(peak <= cluster.kv_capacity)
    return cp.Problem(cp.Minimize(cp.sum(peak)), rows)


def _schedule(cp: Any, inst: Instance, cluster: Cluster, max_wait: int | None, latest: ArrayLike | None) -> Any:
    case = window_case(inst, cluster, start_windows(inst, cluster, max_wait, latest)[0])
    K, ends = len(case.steps), np.cumsum(case.wait + 1)
    _require_cells(K * int(ends[-1]))
    load, runs = np.zeros((K, ends[-1])), np.zeros((K, ends[-1]))  # (step, start of a request)
    z = cp.Variable(ends[-1], nonneg=True, name="z")
    peak, active = cp.Variable(K, nonneg=True, name="peak"), cp.Variable(K, nonneg=True, name="active")
    rows = []
    for s, o, first, wait, end in zip(inst.prompt, inst.output, case.first, case.wait, ends, strict=True):
        starts, here = slice(end - wait - 1, end), slice(first, first + wait + o)
        age = np.arange(wait + o)[:, None] - np.arange(wait + 1)
        runs[here, starts] = (age >= 0) & (age < o)
        load[here, starts] = runs[here, starts] * (s + age)
        rows.append(cp.sum(z[starts]) == 1)  # every request starts once
        rows.append(load[here, starts] @ z[starts] <= peak[here])  # its load alone is a peak
        rows.append(runs[here, starts] @ z[starts] <= active[here])  # where it runs a step is active
    G, B, time = cluster.workers, cluster.slots, cluster.step_time
    rows += [
        load @ z / G <= peak,  # the mean load
        runs @ z / (G * B) <= active,  # slots
        active <= 1,
        cp.sum(active) >= case.least,  # K_min
    ]
    if cluster.kv_capacity is not None:
        rows.append(peak <= cluster.kv_capacity)
    cost = time.fixed * cp.sum(active) + time.per_token * cp.sum(peak) + float(case.constant)
    return cp.Problem(cp.Minimize(cost), rows)


def _require_cells(cells: int) -> None:
    if cells > _MOST_CELLS:
        raise InputError(
            f"the relaxation would have dense matrices of {cells:,} cells, more than {_MOST_CELLS:,}; take fewer "
            "requests or narrower windows, or use placement_bound or schedule_bound"
        )
