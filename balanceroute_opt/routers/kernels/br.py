"""BR-0's decision, compiled (``docs/model.md``, section 5.1; internal)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ..._validate import Int64Array
from .pool import HEAD, TAIL, pool_size, pool_take

_WORST = -(2**63) + 1


class BR0Params(NamedTuple):
    """Options of BR-0, with scratch space."""

    greedy_slots: int
    subset_window: int
    pool_window: int
    least_load: bool
    closed: Int64Array
    subset_sum: Int64Array


@njit(cache=True)
def pick_worker(load, free, closed, least_load):
    """Open worker with most free slots (or least load), ties by load, then index; -1 if there is none."""
    best = -1
    for g in range(len(load)):
        if (
            free[g] > 0
            and not closed[g]
            and (best < 0 or (load[g] < load[best] if least_load or free[g] == free[best] else free[g] > free[best]))
        ):
            best = g
    return best


@njit(cache=True)
def best_single(prompt, head, number, margin, workers, room):
    """Position of the first of `number` requests with the largest F({i}) among those that fit; -1 if none fits."""
    best = _WORST
    for at in range(head, head + number):
        s = prompt[at]
        value = s - workers * max(s - margin, 0)
        best = max(best, value if s <= room else _WORST)
    if best == _WORST:
        return -1
    for at in range(head, head + number):
        s = prompt[at]
        if s <= room and s - workers * max(s - margin, 0) == best:
            return at - head
    return -1


@njit(cache=True)
def best_subset(prompt, head, number, margin, workers, room, free, sums):
    """Mask of the non-empty subset with the largest F, no larger than `free` and fitting; 0 if none is positive."""
    best, chosen = 0, 0
    sums[0] = 0
    for mask in range(1, 1 << number):
        rest = mask & (mask - 1)
        bit = 0
        while not (mask >> bit) & 1:
            bit += 1
        total = sums[rest] + prompt[head + bit]
        sums[mask] = total
        value = total - workers * max(total - margin, 0)
        if value > best and total <= room:
            size = 0
            left = mask
            while left:
                left &= left - 1
                size += 1
            if size <= free:
                best, chosen = value, mask
    return chosen


@njit(cache=True)
def br0_decide(load, free, room, pool, p, out_request, out_worker):
    """One step's admissions; changes load, free, room and pool; returns their number."""
    workers = len(load)
    prompt, count = pool.prompt, pool.counts
    p.closed[:] = 0
    number = 0
    slots = 0
    envelope = 0
    for g in range(workers):
        slots += free[g]
        envelope = max(envelope, load[g])
    while slots > 0 and pool_size(pool) > 0:
        greedy = slots > p.greedy_slots
        g = pick_worker(load, free, p.closed, greedy and p.least_load)
        if g < 0:
            break
        head = count[HEAD]
        size = count[TAIL] - head
        margin = envelope - load[g]
        chosen = 0
        window = min(size, p.pool_window if greedy else p.subset_window)
        if not greedy:
            chosen = best_subset(prompt, head, window, margin, workers, room[g], free[g], p.subset_sum)
        if chosen == 0:
            single = best_single(prompt, head, window, margin, workers, room[g])
            if single < 0:
                p.closed[g] = 1
                continue
            first, last = single, single
        else:
            first, last = 0, window - 1
        # From the back, so that earlier positions stay what they were; the answer lists pool order.
        taken = 0
        for at in range(last, first - 1, -1):
            if chosen == 0 or (chosen >> at) & 1:
                s = prompt[count[HEAD] + at]
                out_request[number + taken] = pool.request[count[HEAD] + at]
                out_worker[number + taken] = g
                taken += 1
                pool_take(pool, at)
                load[g] += s
                room[g] -= s
        out_request[number : number + taken] = out_request[number : number + taken][::-1].copy()
        number += taken
        free[g] -= taken
        slots -= taken
        envelope = max(envelope, load[g])
    return number


def br0_params(workers: int, options: dict[str, int | bool]) -> BR0Params:
    """Options with their scratch arrays; `options` are already resolved (no None)."""
    return BR0Params(
        greedy_slots=int(options["greedy_slots"]),
        subset_window=int(options["subset_window"]),
        pool_window=int(options["pool_window"]),
        least_load=bool(options["least_load"]),
        closed=np.zeros(workers, np.int64),
        subset_sum=np.zeros(1 << int(options["subset_window"]), np.int64),
    )
