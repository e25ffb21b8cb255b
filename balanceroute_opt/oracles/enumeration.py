"""Exhaustive enumeration of tiny placement problems: every partition of the requests, once (compiled)."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from .._jit import compiled
from .._validate import Int64Array
from ..errors import InputError
from .model import PlacementCase
from .solution import Answer

__all__ = ["in_chunks", "partitions", "solve_enumeration"]

_MOST = 10**9  # partitions
_CHUNK = 10**6  # nodes between two looks at the clock


def partitions(n: int, workers: int) -> int:
    """Partitions of n requests into at most `workers` groups (a sum of Stirling numbers)."""
    row = [1]
    for _ in range(n):
        row = [0, *(j * (row[j] if j < len(row) else 0) + row[j - 1] for j in range(1, min(len(row), workers) + 1))]
    return sum(row)


def in_chunks(go_on: Callable[[int], bool], time_limit: float, node_limit: int | None) -> bool:
    """Call ``go_on(nodes)`` until it says that it is done, or a limit is reached; whether it is done."""
    began, done, left = time.perf_counter(), False, 2**62 if node_limit is None else node_limit
    while not done and left > 0 and time.perf_counter() - began < time_limit:
        chunk = min(_CHUNK, left)
        done = go_on(chunk)
        left -= chunk
    return done


def solve_enumeration(case: PlacementCase, time_limit: float, node_limit: int | None = None) -> Answer:
    """The best of all placements, workers numbered by first occurrence; nothing is pruned but full workers.

    Raises
    ------
    InputError
        If there are more than 10**9 partitions.
    """
    n, workers = len(case), case.cluster.workers
    total = partitions(n, workers)
    if total > _MOST:
        raise InputError(f"enumeration is for tiny problems: {n} requests on {workers} workers have {total} partitions")
    order = case.order()
    capacity = case.cluster.kv_capacity or np.iinfo(np.int64).max
    worker, best = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    load = np.zeros((len(case.steps), workers), np.int64)
    count = np.zeros_like(load)
    state = np.array([0, np.iinfo(np.int64).max, 0], np.int64)  # depth, best price, nodes
    done = in_chunks(
        lambda nodes: _enumerate(
            case.begin[order], case.end[order], case.base[order], case.cluster.slots, capacity,
            worker, best, load, count, state, nodes,
        ),
        time_limit, node_limit,
    )  # fmt: skip
    found = n == 0 or best[0] >= 0
    answer = Answer("limit", nodes=int(state[2]))
    if found:
        answer.worker = np.empty(n, np.int64)
        answer.worker[order] = best
    if done:
        answer.status = "optimal" if found else "infeasible"
        if found:
            answer.lower_bound = int(state[1]) if n else 0
    return answer


@compiled
def _enumerate(
    begin: Int64Array,
    end: Int64Array,
    base: Int64Array,
    slots: int,
    capacity: int,
    worker: Int64Array,
    best: Int64Array,
    load: Int64Array,
    count: Int64Array,
    state: Int64Array,
    nodes: int,
) -> bool:
    """Go on for a number of nodes; True once all partitions are seen."""
    n, steps, workers = len(begin), load.shape[0], load.shape[1]
    depth = state[0]
    for _ in range(nodes):
        if depth == n:
            price, fits = 0, True
            for k in range(steps):
                peak = load[k].max()
                price += peak
                fits = fits and peak <= capacity
            if fits and price < state[1]:
                state[1] = price
                best[:] = worker
            depth -= 1
        if depth < 0:
            state[0] = depth
            return True
        state[2] += 1
        g = worker[depth]
        if g >= 0:
            for k in range(begin[depth], end[depth]):
                load[k, g] -= base[depth] + k
                count[k, g] -= 1
        used = 0
        for j in range(depth):
            used = max(used, worker[j] + 1)
        g += 1
        # Requests come by start, so that a worker with a free slot at the start keeps it.
        while g < workers and g <= used and count[begin[depth], g] >= slots:
            g += 1
        if g >= workers or g > used:
            worker[depth] = -1
            depth -= 1
            continue
        worker[depth] = g
        for k in range(begin[depth], end[depth]):
            load[k, g] += base[depth] + k
            count[k, g] += 1
        depth += 1
    state[0] = depth
    return depth < 0
