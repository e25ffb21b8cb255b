"""Decisions of the simple pooled rules, compiled (``docs/model.md``, section 5.5; internal)."""

from __future__ import annotations

import numpy as np

from ..._jit import compiled, inner
from .pool import HEAD, TAIL, pool_drop, pool_take


@inner
def least_loaded(load, free, room, prompt):
    """Worker with least load among those with a free slot and room, lower index first; -1 if there is none."""
    best = -1
    for g in range(len(load)):
        if free[g] > 0 and prompt <= room[g] and (best < 0 or load[g] < load[best]):
            best = g
    return best


@inner
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


@compiled
def trtllm_decide(load, active, free, room, pool, out_request, out_worker):
    """TensorRT-LLM's attention-DP balance: the oldest that fit the slots, longest first, below a common cap."""
    workers = len(load)
    slots = busiest = requests = 0
    for g in range(workers):
        slots += free[g]
        requests += active[g]
        busiest = max(busiest, active[g])
    head = pool.counts[HEAD]
    new = min(slots, pool.counts[TAIL] - head)
    cap = max(-(-(requests + new) // workers), busiest)
    # Stable on the negated prompts: longest first, ties older.
    order = np.argsort(-pool.prompt[head : head + new], kind="mergesort")
    taken = np.zeros(new, np.bool_)
    number = 0
    for position in order:
        s = pool.prompt[head + position]
        best = -1
        for g in range(workers):
            if active[g] >= cap or free[g] == 0 or s > room[g]:
                continue
            if best < 0 or load[g] < load[best] or (load[g] == load[best] and active[g] < active[best]):
                best = g
        if best < 0:
            continue
        out_request[number] = pool.request[head + position]
        out_worker[number] = best
        number += 1
        taken[position] = True
        load[best] += s
        active[best] += 1
        free[best] -= 1
        room[best] -= s
    pool_drop(pool, taken)
    return number
