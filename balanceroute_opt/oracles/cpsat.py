"""OR-Tools as a back end: CP-SAT and MathOpt as translations of :class:`~.model.LinearModel`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from ..errors import SolverError
from .model import LinearModel
from .solution import Answer, Outcome, answer_of, known_status

__all__ = ["run_cpsat", "solve_cpsat", "solve_mathopt"]


def _missing(solver: str) -> SolverError:
    return SolverError(f'the solver "{solver}" is not installed; install the extra "solvers" (pip install ortools)')


def run_cpsat(
    model: LinearModel,
    costs: Sequence[int],
    most: int,
    time_limit: float,
    seed: int = 0,
    node_limit: int | None = None,
    gap: float = 0.0,
    threads: int = 1,
    warm: np.ndarray | None = None,
    progress: Callable[[float, float, float], None] | None = None,
    scale: float = 1.0,
) -> Outcome:
    """Run CP-SAT on `model`, all of whose rows are integers, with these costs; `node_limit` counts conflicts.

    Parameters
    ----------
    costs : sequence of int
        In place of the model's; they are reported times `scale`.
    most : int
        Upper limit of variables without one.

    Raises
    ------
    SolverError
        If ortools is not installed, or CP-SAT ends with a status that is no result.
    """
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        raise _missing("cpsat") from None
    cp = cp_model.CpModel()
    variables = [
        cp.new_int_var(int(low), min(int(high), most) if math.isfinite(high) else most, name)
        for low, high, name in zip(model.lower, model.upper, model.variables, strict=True)
    ]
    for row in range(len(model.rows)):
        entries = slice(int(model.first[row]), int(model.first[row + 1]))
        columns = [variables[j] for j in model.column[entries].tolist()]
        low, high = float(model.row_lower[row]), float(model.row_upper[row])
        if low == high == 1.0:
            cp.add_exactly_one(columns)
            continue
        total = cp_model.LinearExpr.weighted_sum(columns, [int(v) for v in model.value[entries].tolist()])
        if math.isfinite(low):
            cp.add(total >= int(low))
        if math.isfinite(high):
            cp.add(total <= int(high))
    cp.minimize(cp_model.LinearExpr.weighted_sum(variables, costs))
    if warm is not None:
        for variable, value in zip(variables, warm.tolist(), strict=True):
            cp.add_hint(variable, int(value))
    solver = cp_model.CpSolver()
    parameters = solver.parameters
    parameters.max_time_in_seconds = float(time_limit)
    parameters.num_workers = threads
    parameters.random_seed = seed % 2**31
    parameters.relative_gap_limit = float(gap)
    parameters.absolute_gap_limit = 0.0
    if node_limit is not None:
        parameters.max_number_of_conflicts = node_limit
    began, trajectory = time.perf_counter(), []

    class Report(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            point = (time.perf_counter() - began, scale * self.objective_value, scale * self.best_objective_bound)
            trajectory.append(point)
            if progress is not None:
                progress(*point)

    name = solver.status_name(solver.solve(cp, Report()))
    status = known_status("cpsat", "CP-SAT", name)
    values = [float(solver.value(v)) for v in variables] if name in ("OPTIMAL", "FEASIBLE") else None
    bound = -math.inf if status == "infeasible" else scale * float(solver.best_objective_bound)
    return Outcome(status, bound, int(solver.num_branches), values, trajectory)


def solve_cpsat(
    model: LinearModel,
    time_limit: float,
    seed: int = 0,
    node_limit: int | None = None,
    gap: float = 0.0,
    threads: int = 1,
    warm: np.ndarray | None = None,
    progress: Callable[[float, float, float], None] | None = None,
) -> Answer:
    """Solve `model`, all of whose numbers are integers; `node_limit` counts conflicts.

    Raises
    ------
    SolverError
        If ortools is not installed, or CP-SAT ends with a status that is no result.
    """
    most = int(np.abs(model.value).sum())  # above every load
    costs = [int(c) for c in model.cost.tolist()]
    outcome = run_cpsat(model, costs, most, time_limit, seed, node_limit, gap, threads, warm, progress)
    return answer_of(model, outcome, gap)


def solve_mathopt(
    model: LinearModel, time_limit: float, seed: int = 0, node_limit: int | None = None, gap: float = 0.0
) -> Answer:
    """Solve `model` through MathOpt with its HiGHS, else SCIP: the same model by another road.

    Raises
    ------
    SolverError
        If ortools is not installed.
    """
    try:
        from ortools.math_opt.python import mathopt
    except ImportError:
        raise _missing("mathopt") from None
    m = mathopt.Model(name=model.name)
    variables = [
        m.add_variable(lb=low, ub=high, is_integer=bool(whole), name=name)
        for low, high, whole, name in zip(model.lower, model.upper, model.integer, model.variables, strict=True)
    ]
    for row, name in enumerate(model.rows):
        constraint = m.add_linear_constraint(lb=model.row_lower[row], ub=model.row_upper[row], name=name)
        for entry in range(int(model.first[row]), int(model.first[row + 1])):
            constraint.set_coefficient(variables[model.column[entry]], float(model.value[entry]))
    m.minimize(mathopt.fast_sum(c * v for v, c in zip(variables, model.cost.tolist(), strict=True) if c))
    parameters: dict[str, Any] = {
        "time_limit": timedelta(seconds=float(time_limit)),
        "random_seed": seed % 2**31,
        "relative_gap_tolerance": float(gap),
        "absolute_gap_tolerance": 0.999,
        "threads": 1,
    }
    if node_limit is not None:
        parameters["node_limit"] = node_limit
    result = mathopt.solve(m, mathopt.SolverType.GSCIP, params=mathopt.SolveParameters(**parameters))
    name = result.termination.reason.name.lower()
    status = known_status("mathopt", "MathOpt", name)
    answer = Answer(status, nodes=int(result.solve_stats.node_count))
    if status == "infeasible":
        return answer
    answer.lower_bound = float(result.termination.objective_bounds.dual_bound)
    if result.has_primal_feasible_solution():
        values = result.variable_values()
        n, workers = model.shape
        answer.worker = model.workers([values[v] for v in variables[: n * workers]])
    if status == "optimal" and gap > 0:
        answer.status = "limit"
    return answer
