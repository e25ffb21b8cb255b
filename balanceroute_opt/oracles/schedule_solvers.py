"""Back ends of P2: HiGHS and CP-SAT as translations of the time-indexed model, and exhaustive enumeration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .._jit import compiled
from .._validate import Int64Array
from ..errors import InputError, SolverError
from .highs import _highspy, _load
from .schedule_model import ScheduleCase, schedule_model, vector
from .solution import STATUS
from .timetable import Timetable, price

__all__ = ["enumerate_schedules", "schedule_cpsat", "schedule_highs"]

_MOST_LEAVES = 2 * 10**8
_CHUNK = 10**6
Warm = tuple[Int64Array, Int64Array] | None
Progress = Callable[[float, float, float], None] | None


def _second(case: ScheduleCase) -> float:
    """Seconds that one unit of the time-indexed model's objective stands for."""
    time_ = case.cluster.step_time
    return time_.per_token or time_.fixed or 1.0


def schedule_highs(
    case: ScheduleCase,
    time_limit: float,
    node_limit: int | None = None,
    warm: Warm = None,
    seed: int = 0,
    strengthen: bool = True,
    progress: Progress = None,
) -> Timetable:
    """Solve the time-indexed model with HiGHS, gaps 0, one thread."""
    highspy = _highspy()
    model = schedule_model(case, strengthen)
    highs = _load(model)
    options: dict[str, Any] = {
        "threads": 1,
        "time_limit": float(time_limit),
        "random_seed": seed % 2**31,
        "mip_rel_gap": 0.0,
        "mip_abs_gap": 0.0,
    }
    if node_limit is not None:
        options["mip_max_nodes"] = node_limit
    for name, value in options.items():
        if highs.setOptionValue(name, value) == highspy.HighsStatus.kError:
            raise SolverError(f"HiGHS refused the option {name} = {value!r}")
    if warm is not None:
        start = highspy.HighsSolution()
        start.col_value = vector(case, model, *warm).tolist()
        highs.setSolution(start)
    began, second = time.perf_counter(), _second(case)
    answer = Timetable("limit")

    def report(event: Any) -> None:
        data = event.data_out
        point = (time.perf_counter() - began, second * data.mip_primal_bound, second * data.mip_dual_bound)
        answer.trajectory.append(point)
        if progress is not None:
            progress(*point)

    highs.cbMipImprovingSolution.subscribe(report)
    highs.run()
    name = highs.getModelStatus().name
    if name not in STATUS["highs"]:
        raise SolverError(f"HiGHS ended with the status {name}, which is no result")
    answer.status = STATUS["highs"][name]
    info = highs.getInfo()
    answer.nodes = max(0, int(info.mip_node_count))
    if answer.status == "infeasible":
        return answer
    answer.lower_bound = second * float(info.mip_dual_bound)
    if info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible):
        answer.start, answer.worker = model.choices(highs.getSolution().col_value, len(case))
    return answer


def schedule_cpsat(
    case: ScheduleCase,
    time_limit: float,
    node_limit: int | None = None,
    warm: Warm = None,
    seed: int = 0,
    progress: Progress = None,
) -> Timetable:
    """Solve the time-indexed model with CP-SAT, one thread; `node_limit` counts conflicts.

    Its objective is an integer: c/a is rounded down to a multiple of a small power of two, unless it is a whole
    number but for the last digits of a float.
    """
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        raise SolverError(
            'the solver "cpsat" is not installed; install the extra "solvers" (pip install ortools)'
        ) from None
    model = schedule_model(case)
    cp = cp_model.CpModel()
    most = int((case.inst.prompt + case.inst.output).sum())  # above every load
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
    ratio = case.ratio
    largest = ratio * len(case.steps) + case.inst.total_work
    unit = 1 if abs(ratio - round(ratio)) <= 1e-12 * ratio else 2 ** max(0, math.floor(math.log2(2**50 / largest)))
    if largest * unit > 2**61:
        raise SolverError("CP-SAT computes with 64 bits, and c/a times the steps exceeds them; use another solver")
    scale = round if unit == 1 else math.floor
    costs = [scale(c * unit) for c in model.cost.tolist()]
    cp.minimize(cp_model.LinearExpr.weighted_sum(variables, costs))
    if warm is not None:
        for variable, value in zip(variables, vector(case, model, *warm).tolist(), strict=True):
            cp.add_hint(variable, int(value))
    solver = cp_model.CpSolver()
    parameters = solver.parameters
    parameters.max_time_in_seconds = float(time_limit)
    parameters.num_workers = 1
    parameters.random_seed = seed % 2**31
    parameters.relative_gap_limit = parameters.absolute_gap_limit = 0.0
    if node_limit is not None:
        parameters.max_number_of_conflicts = node_limit
    began, second = time.perf_counter(), _second(case) / unit
    answer = Timetable("limit")

    class Report(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            point = (
                time.perf_counter() - began,
                second * self.objective_value,
                second * self.best_objective_bound,
            )
            answer.trajectory.append(point)
            if progress is not None:
                progress(*point)

    name = solver.status_name(solver.solve(cp, Report()))
    if name not in STATUS["cpsat"]:
        raise SolverError(f"CP-SAT ended with the status {name}, which is no result")
    answer.status, answer.nodes = STATUS["cpsat"][name], int(solver.num_branches)
    if answer.status == "infeasible":
        return answer
    answer.lower_bound = second * float(solver.best_objective_bound)
    if name in ("OPTIMAL", "FEASIBLE"):
        values = [float(solver.value(v)) for v in variables[: len(model.request)]]
        answer.start, answer.worker = model.choices(values, len(case))
    return answer


def enumerate_schedules(
    case: ScheduleCase, time_limit: float, node_limit: int | None = None, warm: Warm = None
) -> Timetable:
    """The best of all schedules; nothing is left out but full workers and names of workers.

    Raises
    ------
    InputError
        If there could be more than 2*10**8 schedules.
    """
    n, G = len(case), case.cluster.workers
    total = math.prod((int(w) + 1) * min(G, j + 1) for j, w in enumerate(case.wait.tolist()))
    if total > _MOST_LEAVES:
        raise InputError(f"enumeration is for tiny problems: {n} requests with these windows have {total} schedules")
    fixed, unit, second = case.weights()
    capacity = case.cluster.kv_capacity or 2**62
    choice, best = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    load = np.zeros((G, len(case.steps)), np.int64)
    count = np.zeros_like(load)
    state = np.array([0, 2**62, 0], np.int64)  # depth, best cost, nodes
    began, done, left = time.perf_counter(), False, 2**62 if node_limit is None else node_limit
    while not done and left > 0 and time.perf_counter() - began < time_limit:
        chunk = min(_CHUNK, left)
        done = _enumerate(
            case.first, case.wait, case.inst.prompt, case.inst.output, case.cluster.slots, capacity, fixed, unit,
            choice, best, load, count, state, chunk,
        )  # fmt: skip
        left -= chunk
    answer = Timetable("limit", nodes=int(state[2]))
    if n == 0 or best[0] >= 0:
        answer.start, answer.worker = case.first + best // G, best % G
    elif warm is not None and not done:
        answer.start, answer.worker = warm
    if done:
        answer.status = "infeasible" if answer.start is None else "optimal"
        if answer.start is not None:
            answer.lower_bound = float(price(case, answer.start, answer.worker) * second)
    return answer


@compiled
def _enumerate(
    first: Int64Array,
    wait: Int64Array,
    prompt: Int64Array,
    output: Int64Array,
    slots: int,
    capacity: int,
    fixed: int,
    unit: int,
    choice: Int64Array,
    best: Int64Array,
    load: Int64Array,
    count: Int64Array,
    state: Int64Array,
    nodes: int,
) -> bool:
    """Go on for a number of nodes; True once all schedules are seen. A choice is ``wait*G + worker``."""
    n, G, K = len(first), load.shape[0], load.shape[1]
    depth = state[0]
    for _ in range(nodes):
        if depth == n:
            cost, fits = 0, True
            for k in range(K):
                peak = load[:, k].max()
                if peak > 0:
                    cost += fixed + unit * peak
                fits = fits and peak <= capacity and count[:, k].max() <= slots
            if fits and cost < state[1]:
                state[1] = cost
                best[:] = choice
            depth -= 1
        if depth < 0:
            state[0] = depth
            return True
        state[2] += 1
        c = choice[depth]
        if c >= 0:
            t, g = first[depth] + c // G, c % G
            for k in range(t, t + output[depth]):
                load[g, k] -= prompt[depth] + k - t
                count[g, k] -= 1
        used = 0
        for j in range(depth):
            used = max(used, choice[j] % G + 1)
        c += 1
        if c % G > used:  # workers are named in the order of requests
            c += G - c % G
        if c >= (wait[depth] + 1) * G:
            choice[depth] = -1
            depth -= 1
            continue
        choice[depth] = c
        t, g = first[depth] + c // G, c % G
        for k in range(t, t + output[depth]):
            load[g, k] += prompt[depth] + k - t
            count[g, k] += 1
        depth += 1
    state[0] = depth
    return depth < 0
