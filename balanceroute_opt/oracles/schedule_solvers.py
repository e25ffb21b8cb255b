"""Back ends of P2: HiGHS and CP-SAT as translations of the time-indexed model, and exhaustive enumeration."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .._jit import compiled
from .._validate import Int64Array
from ..errors import InputError, SolverError
from .cpsat import run_cpsat
from .enumeration import in_chunks
from .highs import run_highs
from .schedule_model import ScheduleCase, ScheduleModel, schedule_model, vector
from .solution import Outcome
from .timetable import Timetable, price

__all__ = ["enumerate_schedules", "schedule_cpsat", "schedule_highs"]

_MOST_LEAVES = 2 * 10**8
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
    model = schedule_model(case, strengthen)
    first = None if warm is None else vector(case, model, *warm)
    outcome = run_highs(model, time_limit, seed, node_limit, warm=first, progress=progress, scale=_second(case))
    return _timetable(case, model, outcome)


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
    model = schedule_model(case)
    most = int((case.inst.prompt + case.inst.output).sum())  # above every load
    ratio = case.ratio
    largest = ratio * len(case.steps) + case.inst.total_work
    unit = 1 if abs(ratio - round(ratio)) <= 1e-12 * ratio else 2 ** max(0, math.floor(math.log2(2**50 / largest)))
    if largest * unit > 2**61:
        raise SolverError("CP-SAT computes with 64 bits, and c/a times the steps exceeds them; use another solver")
    whole = round if unit == 1 else math.floor
    costs = [whole(c * unit) for c in model.cost.tolist()]
    first = None if warm is None else vector(case, model, *warm)
    outcome = run_cpsat(
        model, costs, most, time_limit, seed, node_limit, warm=first, progress=progress, scale=_second(case) / unit
    )
    return _timetable(case, model, outcome)


def _timetable(case: ScheduleCase, model: ScheduleModel, outcome: Outcome) -> Timetable:
    answer = Timetable(outcome.status, nodes=outcome.nodes, trajectory=outcome.trajectory)
    if outcome.status == "infeasible":
        return answer
    answer.lower_bound = outcome.lower_bound
    if outcome.values is not None:
        answer.start, answer.worker = model.choices(outcome.values, len(case))
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
    done = in_chunks(
        lambda nodes: _enumerate(
            case.first, case.wait, case.inst.prompt, case.inst.output, case.cluster.slots, capacity, fixed, unit,
            choice, best, load, count, state, nodes,
        ),
        time_limit, node_limit,
    )  # fmt: skip
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
