"""Compiled loops of the pattern relaxation (internal); see ``patterns.py`` for the idea and the units."""

from __future__ import annotations

import numpy as np

from .._jit import compiled
from .._validate import Float64Array, Int64Array

INF = 2**62


@compiled
def pattern_costs(
    load: Int64Array,
    spread: Int64Array,
    must: Int64Array,
    workers: int,
    slots: int,
    fixed: int,
    unit: int,
    share: int,
    most: int,
) -> Int64Array:
    """Least cost of every subset of m requests in one step, ``INF`` if it cannot run.

    An empty array if there are more than `most` choices to look at. Request j has at least ``load[j]`` tokens there,
    and at most ``spread[j]`` more, of which each pays `share` besides. All placements onto the workers, named by
    first occurrence, are looked at.
    """
    m = len(load)
    cost = np.full(1 << m, INF)
    choice = np.full(m + 1, -1)
    base, extra, count = np.zeros(workers, np.int64), np.zeros(workers, np.int64), np.zeros(workers, np.int64)
    j, looks, subset, used = 0, 0, 0, np.zeros(m + 1, np.int64)
    while j >= 0:
        looks += 1
        if looks > most:
            return np.empty(0, np.int64)
        if j == m:
            if subset == 0:
                cost[0] = 0
            else:
                top = base.max()
                value = fixed + unit * top
                for g in range(workers):
                    value -= share * min(extra[g], top - base[g])
                cost[subset] = min(cost[subset], value)
            j -= 1
            continue
        g = choice[j]
        if 0 <= g < workers:
            base[g] -= load[j]
            extra[g] -= spread[j]
            count[g] -= 1
            subset ^= 1 << j
        g += 1
        while g < workers and (g > used[j] or count[g] == slots):
            g = g + 1 if g <= used[j] else workers
        if g > workers or (g == workers and must[j]):
            choice[j] = -1
            j -= 1
            continue
        choice[j] = g
        used[j + 1] = used[j]
        if g < workers:
            base[g] += load[j]
            extra[g] += spread[j]
            count[g] += 1
            subset |= 1 << j
            used[j + 1] = max(used[j], g + 1)
        j += 1
        choice[j] = -1
    return cost


@compiled
def best_pattern(cost: Int64Array, first: int, m: int, price: Float64Array, total: Float64Array) -> tuple[float, int]:
    """Least ``cost - sum of prices`` over the subsets of m requests, and the subset; `total` is work space."""
    best, subset = float(cost[first]), 0
    total[0] = 0.0
    for j in range(m):
        low = 1 << j
        for s in range(low):
            t = total[s] + price[j]
            total[low + s] = t
            value = cost[first + low + s] - t
            if value < best:
                best, subset = value, low + s
    return best, subset


@compiled
def ascend(
    first: Int64Array,
    wait: Int64Array,
    output: Int64Array,
    members: Int64Array,
    pointer: Int64Array,
    offset: Int64Array,
    cost: Int64Array,
    share: float,
    times: int,
    price: Float64Array,
    iterations: int,
    target: float,
) -> float:
    """Improve `price`, in place, by the volume algorithm; returns the best value.

    ``members[pointer[x] : pointer[x + 1]]`` may run in position x, where their subsets have the costs from
    ``cost[offset[x]]`` on. With `times` > 0 there is one position that stands for so many, and every request runs
    in as many of them as its output, whatever its start.
    """
    n, K = len(first), len(pointer) - 1
    now, kept = price.copy(), price.copy()
    average, step = np.zeros_like(price), np.zeros_like(price)
    widest = 0
    for x in range(K):
        widest = max(widest, pointer[x + 1] - pointer[x])
    total, local = np.empty(1 << widest), np.empty(widest)
    prefix = np.zeros(K + 1)
    best, pace, failures = -np.inf, 1.0, 0
    for iteration in range(iterations):
        value = 0.0
        step[:] = 0.0
        for x in range(K):
            m = pointer[x + 1] - pointer[x]
            for j in range(m):
                local[j] = now[members[pointer[x] + j], x]
            least, subset = best_pattern(cost, offset[x], m, local, total)
            value += least * max(times, 1)
            for j in range(m):
                if (subset >> j) & 1:
                    step[members[pointer[x] + j], x] -= max(times, 1)
        for i in range(n):
            o, f, w = output[i], first[i], wait[i]
            if times > 0:
                value += o * now[i, 0] + share * (o * (o - 1) // 2)
                step[i, 0] += o
                continue
            prefix[f] = 0.0
            for x in range(f, f + w + o):
                prefix[x + 1] = prefix[x] + now[i, x]
            least, at = np.inf, f
            for t in range(f, f + w + 1):
                # tokens above the least load in x: min(x, last start) - t
                until = min(t + o - 1, f + w) - t
                grown = until * (until + 1) // 2 + (o - 1 - until) * until
                v = prefix[t + o] - prefix[t] + share * grown
                if v <= least:
                    least, at = v, t
            value += least
            for x in range(at, at + o):
                step[i, x] += 1.0
        if value > best:
            best, failures, pace = value, 0, min(2.0, 1.1 * pace)
            kept[:] = now
        else:
            failures += 1
            if failures % 10 == 0:
                pace *= 0.7
                now[:] = kept
        if iteration == 0:
            average[:] = step
        else:
            average *= 0.75
            average += 0.25 * step
        if pace < 1e-4 or not np.any(step):  # no violation: these prices are the best ones
            break
        length = max((average * average).sum(), 0.01 * (step * step).sum())
        target = max(target, 1.002 * best)
        now += pace * (target - best) / length * average
    price[:] = kept
    return best
