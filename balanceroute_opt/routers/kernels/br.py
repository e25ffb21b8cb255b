"""The decisions of BR-0 and BR-H, compiled (``docs/model.md``, sections 5.1 and 5.2; internal)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..._jit import compiled, inner
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


@inner
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


@inner
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


@inner
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


@inner
def take(pool, mask, shift, number, g, out_request, out_worker):
    """Take the requests of ``mask << shift`` out of the pool and put them on worker g; their prompts and count."""
    head = pool.counts[HEAD]
    total = taken = 0
    bit = 0
    while mask >> bit:
        if (mask >> bit) & 1:
            out_request[number + taken] = pool.request[head + shift + bit]
            out_worker[number + taken] = g
            total += pool.prompt[head + shift + bit]
            taken += 1
        bit += 1
    # From the back, so that earlier positions stay what they were.
    for at in range(bit - 1, -1, -1):
        if (mask >> at) & 1:
            pool_take(pool, shift + at)
    return total, taken


@inner
def br0_decide(load, free, room, pool, p, out_request, out_worker):
    """One step's admissions; changes load, free, room and pool; returns their number."""
    workers = len(load)
    prompt, count = pool.prompt, pool.counts
    number = 0
    slots = 0
    envelope = 0
    for g in range(workers):
        p.closed[g] = 0
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
            total, taken = take(pool, 1, single, number, g, out_request, out_worker)
        else:
            total, taken = take(pool, chosen, 0, number, g, out_request, out_worker)
        load[g] += total
        room[g] -= total
        free[g] -= taken
        slots -= taken
        number += taken
        envelope = max(envelope, load[g])
    return number


class BRHParams(NamedTuple):
    """Options of BR-H, with scratch space; `exact`: scores are whole numbers below 2**53."""

    greedy_slots: int
    subset_window: int
    pool_window: int
    least_load: bool
    closed: Int64Array
    subset_sum: Int64Array
    horizon: int
    alpha: float
    beta: float
    grow: int
    weight: Int64Array
    weight_sum: int
    weight_growth: int
    load: Int64Array
    envelope: Int64Array
    margin: Int64Array
    projected: Any


@inner
def brh_score(p, total, number):
    """``F_g(Q) = alpha*I1 - beta*I2`` of `number` requests with prompts summing to `total`, on p.margin."""
    over = 0
    for h in range(p.horizon + 1):
        over += p.weight[h] * max(total + p.grow * number * h - p.margin[h], 0)
    return p.alpha * (total * p.weight_sum + p.grow * number * p.weight_growth) - p.beta * over


@inner
def _brh_top(p):
    """Interval of single prompts with the largest F over all integers, ``(lo, hi)``; hi < lo: F grows for ever.

    F is concave in S with breaks at the margins: its slope is ``alpha*W - beta*(weights of the breaks below S)``.
    """
    breaks = p.margin
    slope_up = p.alpha * p.weight_sum
    passed, at = 0, -(2**62)
    while True:
        following = 2**62
        for h in range(p.horizon + 1):
            value = breaks[h] - p.grow * h
            if value > at and value < following:
                following = value
        if following == 2**62:
            return 2**62, -(2**62)
        at = following
        for h in range(p.horizon + 1):
            if breaks[h] - p.grow * h == at:
                passed += p.weight[h]
        if slope_up <= p.beta * passed:
            break
    if slope_up < p.beta * passed:
        return at, at
    high = 2**62
    for h in range(p.horizon + 1):
        value = breaks[h] - p.grow * h
        if value > at and p.weight[h] > 0:
            high = min(high, value)
    return at, high


@inner
def brh_single(p, prompt, head, number, room):
    """Position of the first of `number` requests with the largest F({i}) among those that fit; -1 if none fits."""
    largest = 0
    for at in range(head, head + number):
        largest = max(largest, prompt[at])
    scale = max(p.alpha, p.beta) * p.weight_sum * (largest + p.horizon)
    if not (p.alpha == np.floor(p.alpha) and p.beta == np.floor(p.beta) and scale < 2.0**53):
        # Rounded scores: only the score itself says what the largest is.
        found, best = -1, 0.0
        for at in range(head, head + number):
            if prompt[at] <= room:
                value = brh_score(p, prompt[at], 1)
                if found < 0 or value > best:
                    found, best = at - head, value
        return found
    low, high = _brh_top(p)
    below, above = -1, 2**62
    inside = False
    for at in range(head, head + number):
        s = prompt[at]
        fits = s <= room
        inside |= fits and s >= low and s <= high
        below = max(below, s if fits and s < low else -1)
        above = min(above, s if fits and s > high else 2**62)
    if inside:
        for at in range(head, head + number):
            if prompt[at] <= room and low <= prompt[at] <= high:
                return at - head
    if below < 0 and above == 2**62:
        return -1
    if below >= 0 and above < 2**62:
        under, beyond = brh_score(p, below, 1), brh_score(p, above, 1)
        if under > beyond:
            above = below
        elif beyond > under:
            below = above
    for at in range(head, head + number):
        if prompt[at] == below or prompt[at] == above:
            return at - head
    return -1


@inner
def brh_subset(p, prompt, head, number, room, free):
    """Mask of the non-empty subset with the largest F, no larger than `free` and fitting; 0 if none is positive."""
    best, chosen = 0.0, 0
    sums = p.subset_sum
    sums[0] = 0
    for mask in range(1, 1 << number):
        bit = 0
        while not (mask >> bit) & 1:
            bit += 1
        total = sums[mask & (mask - 1)] + prompt[head + bit]
        sums[mask] = total
        size = 0
        left = mask
        while left:
            left &= left - 1
            size += 1
        if size <= free and total <= room:
            value = brh_score(p, total, size)
            if value > best:
                best, chosen = value, mask
    return chosen


@inner
def brh_decide(free, room, pool, p, out_request, out_worker):
    """As br0_decide, with the projected loads ``p.projected[g, h]``, which it changes."""
    workers, horizon = p.projected.shape[0], p.projected.shape[1] - 1
    prompt, counts = pool.prompt, pool.counts
    load, projected, envelope = p.load, p.projected, p.envelope
    number = 0
    slots = 0
    for h in range(horizon + 1):
        envelope[h] = 0
    for g in range(workers):
        p.closed[g] = 0
        slots += free[g]
        load[g] = projected[g, 0]
        for h in range(horizon + 1):
            envelope[h] = max(envelope[h], projected[g, h])
    while slots > 0 and pool_size(pool) > 0:
        greedy = slots > p.greedy_slots
        g = pick_worker(load, free, p.closed, greedy and p.least_load)
        if g < 0:
            break
        head = counts[HEAD]
        size = counts[TAIL] - head
        for h in range(horizon + 1):
            p.margin[h] = envelope[h] - projected[g, h]
        chosen = 0
        window = min(size, p.pool_window if greedy else p.subset_window)
        if not greedy:
            chosen = brh_subset(p, prompt, head, window, room[g], free[g])
        if chosen == 0:
            single = brh_single(p, prompt, head, window, room[g])
            if single < 0:
                p.closed[g] = 1
                continue
            total, taken = take(pool, 1, single, number, g, out_request, out_worker)
        else:
            total, taken = take(pool, chosen, 0, number, g, out_request, out_worker)
        room[g] -= total
        load[g] += total
        for h in range(horizon + 1):
            projected[g, h] += total
            envelope[h] = max(envelope[h], projected[g, h])
        number += taken
        free[g] -= taken
        slots -= taken
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


def brh_params(workers: int, options: dict[str, Any]) -> BRHParams:
    """Options of BR-H with their scratch arrays; `options` are already resolved (no None)."""
    two_stages = br0_params(workers, options)
    horizon = int(options["horizon"])
    weight = [math.floor(options["gamma"] ** h * 2**20 + 0.5) for h in range(horizon + 1)]
    grow = int(options["grow"])
    return BRHParams(
        *two_stages,
        horizon=horizon,
        alpha=float(options["alpha"]),
        beta=float(options["beta"]),
        grow=grow,
        weight=np.array(weight, np.int64),
        weight_sum=sum(weight),
        weight_growth=sum(h * d for h, d in enumerate(weight)),
        load=np.zeros(workers, np.int64),
        envelope=np.zeros(horizon + 1, np.int64),
        margin=np.zeros(horizon + 1, np.int64),
        projected=np.zeros((workers, horizon + 1), np.int64),
    )


@compiled
def project(worker, load, cutoff, projected):
    """Projected loads from scratch: request i counts ``load[i] + h`` on its worker for ``h < cutoff[i]``."""
    workers, steps = projected.shape
    count = np.zeros((workers, steps), np.int64)
    projected[:] = 0
    # Entered at its last step, and summed from there to the present: the work is requests + workers x steps.
    for i in range(len(worker)):
        last = min(cutoff[i], steps) - 1
        projected[worker[i], last] += load[i]
        count[worker[i], last] += 1
    for g in range(workers):
        tokens = number = 0
        for h in range(steps - 1, -1, -1):
            tokens += projected[g, h]
            number += count[g, h]
            projected[g, h] = tokens + number * h
