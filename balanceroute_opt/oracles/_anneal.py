"""Compiled annealing of schedules for P2 (internal): starts and workers within windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import compiled, inner
from .._validate import Int64Array
from .annealing import _bits53


@inner
def _random(state: NDArray[np.uint64], below: int) -> np.int64:
    """A whole number below `below`."""
    return np.int64(_bits53(state) % np.uint64(below))


@compiled
def _put(load: Int64Array, count: Int64Array, g: int, t: int, o: int, s: int, sign: int) -> None:
    for x in range(t, t + o):
        load[g, x] += sign * (s + x - t)
        count[g, x] += sign


@compiled
def _cost(load: Int64Array, fixed: int, unit: int, lo: int, hi: int) -> int:
    total = 0
    for x in range(lo, hi):
        top = 0
        for g in range(load.shape[0]):
            top = max(top, load[g, x])
        if top > 0:
            total += fixed + unit * top
    return total


@compiled
def _fits(load: Int64Array, count: Int64Array, g: int, t: int, o: int, slots: int, capacity: int) -> bool:
    most, top = 0, 0
    for x in range(t, t + o):
        most, top = max(most, count[g, x]), max(top, load[g, x])
    return most <= slots and top <= capacity


@compiled
def anneal(
    first: Int64Array,
    last: Int64Array,
    prompt: Int64Array,
    output: Int64Array,
    slots: int,
    capacity: int,
    fixed: int,
    unit: int,
    load: Int64Array,
    count: Int64Array,
    start: Int64Array,
    worker: Int64Array,
    moves: int,
    hot: float,
    cold: float,
    seed: int,
) -> int:
    """Anneal a schedule; `start` and `worker` become the best one that was met, whose cost is returned.

    `load` and `count` hold the loads and requests of the schedule that is given.
    """
    n, G, H = len(first), load.shape[0], load.shape[1]
    state = np.array([seed * 2654435761 + 88172645463325252], np.int64).view(np.uint64)
    t, g = start.copy(), worker.copy()
    cost = _cost(load, fixed, unit, 0, H)
    best = cost
    cooling = (cold / hot) ** (1.0 / max(moves, 1))
    heat = hot
    for _ in range(moves):
        heat *= cooling
        i, kind = _random(state, n), _random(state, 8)
        j = -1
        ti, gi, tj, gj = t[i], g[i], 0, 0
        if kind < 2:  # near by
            ti += _random(state, 9) - 4
        elif kind == 2:  # anywhere
            ti, gi = first[i] + _random(state, last[i] - first[i] + 1), _random(state, G)
        elif kind < 6:  # beside an end or a start of another request
            h = _random(state, n)
            at = _random(state, 4)
            ti = t[h] + (output[h] if at < 2 else 0) - (output[i] if at % 2 else 0)
            gi = _random(state, G)
        else:  # change places
            j = _random(state, n)
            tj, gj, gi = t[j], g[i], g[j]
            if kind == 6:
                ti, tj = t[j], t[i]
            elif g[i] == g[j]:
                ti, tj = t[j], t[i] + output[i] - output[j]
        if i == j or ti < first[i] or ti > last[i] or (ti == t[i] and gi == g[i]):
            continue
        if j >= 0 and (tj < first[j] or tj > last[j]):
            continue
        lo, hi = min(t[i], ti), max(t[i], ti) + output[i]
        if j >= 0:
            lo, hi = min(lo, t[j], tj), max(hi, t[j] + output[j], tj + output[j])
        before = _cost(load, fixed, unit, lo, hi)
        _put(load, count, g[i], t[i], output[i], prompt[i], -1)
        _put(load, count, gi, ti, output[i], prompt[i], 1)
        if j >= 0:
            _put(load, count, g[j], t[j], output[j], prompt[j], -1)
            _put(load, count, gj, tj, output[j], prompt[j], 1)
        accept = _fits(load, count, gi, ti, output[i], slots, capacity)
        if accept and j >= 0:
            accept = _fits(load, count, gj, tj, output[j], slots, capacity)
        if accept:
            change = _cost(load, fixed, unit, lo, hi) - before
            if change > 0:
                accept = (_random(state, 2**30) + 1) / 2.0**30 < np.exp(-change / heat)
        if accept:
            cost += change
            t[i], g[i] = ti, gi
            if j >= 0:
                t[j], g[j] = tj, gj
            if cost < best:
                best = cost
                start[:] = t
                worker[:] = g
            continue
        if j >= 0:
            _put(load, count, gj, tj, output[j], prompt[j], -1)
            _put(load, count, g[j], t[j], output[j], prompt[j], 1)
        _put(load, count, gi, ti, output[i], prompt[i], -1)
        _put(load, count, g[i], t[i], output[i], prompt[i], 1)
    return best
