"""The decision of the router that lets requests wait for a margin, compiled (``docs/deferral.md``; internal)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..._jit import compiled, inner
from ..._validate import Int64Array
from .br import best_single, pick_worker
from .pool import HEAD, TAIL, pool_drop, pool_size, pool_take
from .pooled import least_loaded


class DeferralParams(NamedTuple):
    """Options, and ``since[i]``: the step in which request i was first seen waiting, -1 while it does not wait."""

    max_wait: int
    price: float
    window: int
    since: Int64Array
    closed: Int64Array


def deferral_params(workers: int, requests: int, max_wait: int, price: float, window: int) -> DeferralParams:
    """Options with the router's memory of `requests` requests and its scratch space."""
    since = np.full(requests, -1, np.int64)
    return DeferralParams(max_wait, price, window, since, np.zeros(workers, np.int64))


@compiled
def deferral_decide(load, free, room, slots, pool, p, step, out_request, out_worker):
    """One step's admissions, on workers of `slots` slots; changes load, free, room, pool and p.since."""
    workers = len(load)
    head, size = pool.counts[HEAD], pool_size(pool)
    _note_arrivals(pool, p.since, step)
    open_slots = total = level = 0
    for g in range(workers):
        open_slots += free[g]
        total += load[g]
        level = max(level, load[g])
    work = total
    for at in range(head, head + min(size, open_slots)):
        work += pool.prompt[at]
    # Placed as evenly as can be, this step's requests raise the loads to their mean at least.
    level = max(level, (work + workers - 1) // workers)
    if size > open_slots:
        number = _fill(load, free, room, open_slots, level, pool, p, step, out_request, out_worker)
    else:
        active = workers * slots - open_slots
        number = _plan(load, free, room, level, total, active, pool, p, step, out_request, out_worker)
    for j in range(number):
        p.since[out_request[j]] = -1
    return number


@inner
def _note_arrivals(pool, since, step):
    """Date the requests that joined since the last call: arrivals at the back, preempted ones in front."""
    head, at = pool.counts[HEAD], pool.counts[TAIL] - 1
    while at >= head and since[pool.request[at]] < 0:
        since[pool.request[at]] = step
        at -= 1
    while head < at and since[pool.request[head]] < 0:
        since[pool.request[head]] = step
        head += 1


@inner
def _fill(load, free, room, open_slots, level, pool, p, step, out_request, out_worker):
    """More requests than slots: no slot stays free, the window says what fits the lightest worker best."""
    workers = len(load)
    number = 0
    for g in range(workers):
        p.closed[g] = 0
    while open_slots > 0 and pool_size(pool) > 0:
        g = pick_worker(load, free, p.closed, True)
        if g < 0:
            break
        head = pool.counts[HEAD]
        window = min(pool_size(pool), p.window)
        oldest = step - p.since[pool.request[head]]
        latest = step - p.since[pool.request[head + window - 1]]
        if oldest > 2 * latest + p.max_wait and pool.prompt[head] <= room[g]:
            chosen = 0
        else:
            chosen = best_single(pool.prompt, head, window, level - load[g], workers, room[g])
        if chosen < 0:
            p.closed[g] = 1
            continue
        s = pool.prompt[head + chosen]
        out_request[number] = pool.request[head + chosen]
        out_worker[number] = g
        number += 1
        pool_take(pool, chosen)
        load[g] += s
        room[g] -= s
        free[g] -= 1
        open_slots -= 1
        level = max(level, load[g])
    return number


@compiled
def _plan(load, free, room, level, total, active, pool, p, step, out_request, out_worker):
    """A slot for every request: longest first, and what would rise above the level waits, its place kept."""
    head, size = pool.counts[HEAD], pool_size(pool)
    # Stable on the negated prompts: longest first, ties older.
    order = np.argsort(-pool.prompt[head : head + size], kind="mergesort")
    taken = np.zeros(size, np.bool_)
    number = 0
    for position in order:
        s = pool.prompt[head + position]
        g = least_loaded(load, free, room, s)
        if g < 0:
            continue
        waited = step - p.since[pool.request[head + position]]
        over = load[g] + s - level
        load[g] += s
        if over <= 0 or waited >= p.max_wait or active == 0 or over <= p.price * waited / p.max_wait * (total / active):
            out_request[number] = pool.request[head + position]
            out_worker[number] = g
            number += 1
            taken[position] = True
            room[g] -= s
            free[g] -= 1
            level = max(level, load[g])
    pool_drop(pool, taken)
    return number
