"""The step problem of BF-IO as a mixed-integer program on HiGHS: what the own method is checked against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Int64Array
from ..errors import SolverError
from .highs import _highspy, new_highs

__all__ = ["solve_step_highs"]


def solve_step_highs(
    projected: Int64Array, free: ArrayLike, prompt: ArrayLike, weight: ArrayLike, time_limit: float = 60.0
) -> tuple[int, int]:
    """Best and proved value of a step problem without a KV limit (``docs/model.md``, section 5.4).

    Binaries ``x[i, g]``, and one ``over[h]``, the rise of the envelope at h, with ``over[h] >= S_g - margin[g, h]``;
    minimise ``G * sum_h D_h*over[h] - sum_h D_h * sum_i sum_g s_i*x[i, g]`` with as many admissions as fit.

    Parameters
    ----------
    projected : ndarray of int64, shape (G, H + 1)
    free : array_like of int, shape (G,)
    prompt : array_like of int, shape (n,)
    weight : array_like of int, shape (H + 1,)
        ``D_h``.
    time_limit : float
        Seconds.

    Returns
    -------
    value, bound : int
        Without the constant ``sum_h D_h * (G*M_h - sum_g P_g(h))`` of the present loads; a claim of the solver.

    Raises
    ------
    SolverError
        If HiGHS is not installed or ends without a solution.
    """
    highspy = _highspy()
    slots, sizes, weights = (np.asarray(column, np.int64) for column in (free, prompt, weight))
    workers, steps = projected.shape
    margin = projected.max(axis=0) - projected
    # In units of the first weight the numbers stay near 1, which the solver's tolerances are made for.
    scale = float(weights[0])
    highs = new_highs()
    for name, option in (("threads", 1), ("time_limit", time_limit), ("mip_rel_gap", 0.0)):
        highs.setOptionValue(name, option)
    reward = float(weights.sum()) / scale
    x = {
        (i, g): highs.addVariable(0, 1, -reward * int(sizes[i]), highspy.HighsVarType.kInteger)
        for i in range(len(sizes))
        for g in range(workers)
        if slots[g]
    }
    over = [highs.addVariable(0, math.inf, workers * float(weights[h]) / scale) for h in range(steps)]
    for i in range(len(sizes)):
        highs.addConstr(sum(x[i, g] for g in range(workers) if slots[g]) <= 1)
    for g in np.flatnonzero(slots).tolist():
        highs.addConstr(sum(x[i, g] for i in range(len(sizes))) <= int(slots[g]))
        tokens = sum(int(sizes[i]) * x[i, g] for i in range(len(sizes)))
        for h in range(steps):
            highs.addConstr(over[h] >= tokens - int(margin[g, h]))
    highs.addConstr(sum(x.values()) == min(len(sizes), int(slots.sum())))
    highs.run()
    info: Any = highs.getInfo()
    if info.primal_solution_status != int(highspy.SolutionStatus.kSolutionStatusFeasible):
        raise SolverError(f"HiGHS ended without a solution of the step problem: {highs.getModelStatus().name}")
    values = highs.getSolution().col_value
    added = np.zeros(workers, np.int64)
    for column, (i, g) in enumerate(x):
        if values[column] > 0.5:
            added[g] += sizes[i]
    rise = np.maximum((added[:, None] - margin).max(axis=0), 0)
    value = int((weights * (workers * rise - added.sum())).sum())
    return value, min(value, math.ceil(info.mip_dual_bound * scale - 1e-6 * max(1.0, abs(value))))
