"""Decisions of the simple pooled rules, compiled (``docs/model.md``, section 5.5; internal)."""

from __future__ import annotations

from numba import njit

from .pool import HEAD, TAIL, pool_take


@njit(cache=True)
def least_loaded(load, free, room, prompt):
    """Worker with least load among those with a free slot and room, lower index first; -1 if there is none."""
    best = -1
    for g in range(len(load)):
        if free[g] > 0 and prompt <= room[g] and (best < 0 or load[g] < load[best]):
            best = g
    return best


@njit(cache=True)
def least_kv_decide(load, free, room, pool, limited, out_request, out_worker):
    """In pool order, each request to the least loaded worker that can take it; returns the number of admissions."""
    slots = 0
    widest = 0
    for g in range(len(load)):
        slots += free[g]
        widest = max(widest, room[g])
    number = position = 0
    while slots > 0 and position < pool.counts[TAIL] - pool.counts[HEAD]:
        at = pool.counts[HEAD] + position
        s = pool.prompt[at]
        g = least_loaded(load, free, room, s) if not limited or s <= widest else -1
        if g < 0:
            position += 1
            continue
        out_request[number] = pool.request[at]
        out_worker[number] = g
        number += 1
        pool_take(pool, position)
        load[g] += s
        free[g] -= 1
        room[g] -= s
        slots -= 1
    return number
