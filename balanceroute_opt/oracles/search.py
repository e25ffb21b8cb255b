"""Simulated annealing on placements: incumbents and warm starts for the exact solvers (compiled)."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from .._jit import compiled
from .._validate import Float64Array, Int64Array
from .model import PlacementCase

__all__ = ["greedy", "improve"]

_CHUNK = 20_000  # moves between two looks at the clock
_OVER = 1000  # price of a token above the KV capacity, in tokens of peak


def greedy(case: PlacementCase) -> Int64Array:
    """Each request, by start, to the worker with least load and a free slot; KV capacity is not looked at."""
    load = np.zeros((len(case.steps), case.cluster.workers), np.int64)
    count = np.zeros_like(load)
    worker = np.zeros(len(case), np.int64)
    for i in case.order().tolist():
        b, e = int(case.begin[i]), int(case.end[i])
        free = count[b] < case.cluster.slots
        worker[i] = g = int(np.argmin(np.where(free, load[b], np.iinfo(np.int64).max)))
        load[b:e, g] += case.base[i] + np.arange(b, e)
        count[b:e, g] += 1
    return worker


def improve(
    case: PlacementCase,
    worker: Int64Array,
    seed: int = 0,
    moves: int | None = None,
    time_limit: float = 1.0,
    target: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[Int64Array, int]:
    """The best placement that annealing finds from `worker`, and its price.

    Parameters
    ----------
    case : PlacementCase
    worker : ndarray of int64, shape (n,)
        Keeps the slots; loads above the KV capacity are priced at 1000 tokens each and worked off.
    seed : int
    moves : int, optional
        Most moves tried. With a number of moves that the time limit does not cut, the result depends on
        the seed alone. By default until the time limit.
    time_limit : float
        Seconds.
    target : int
        A price that cannot be beaten: stop there.
    progress : callable, optional
        Called with each better price.

    Returns
    -------
    worker : ndarray of int64, shape (n,)
    price : int
        ``peak_sum`` plus 1000 per token above the KV capacity.

    Notes
    -----
    A move takes a request to another worker, or exchanges two requests that share a step. Rounds of
    geometrically falling temperature, from 100 % to 0.4 % of the price per request, each from the best so far.
    """
    n, workers = len(case), case.cluster.workers
    capacity = case.cluster.kv_capacity or int(np.iinfo(np.int64).max)
    load = np.zeros((len(case.steps), workers), np.int64)
    count = np.zeros_like(load)
    now = worker.astype(np.int64)
    for i in range(n):
        span = np.arange(case.begin[i], case.end[i])
        load[span, now[i]] += case.base[i] + span
        count[span, now[i]] += 1
    peak = load.max(axis=1)
    price = int(peak.sum()) + _OVER * int(np.maximum(peak - capacity, 0).sum())
    best, best_price = now.copy(), price
    if n < 2 or workers < 2:
        return best, best_price
    rng = np.random.default_rng(seed)
    end_time = time.perf_counter() + time_limit
    round_moves, left = 20_000 * n, moves if moves is not None else 2**62
    while left > 0 and best_price > target and time.perf_counter() < end_time:
        done, hot = 0, best_price / n
        while done < round_moves and left > 0 and time.perf_counter() < end_time:
            step = min(_CHUNK, round_moves - done, left)
            temperature = hot * np.exp(-5.5 * (done + np.arange(step)) / round_moves)
            draws = rng.random((step, 3))
            before = best_price
            price, best_price = map(int, _anneal(
                case.begin, case.end, case.base, case.cluster.slots, capacity,
                now, load, count, price, best, best_price, draws, temperature,
            ))  # fmt: skip
            done += step
            left -= step
            if best_price < before and progress is not None:
                progress(best_price)
            if best_price <= target:
                break
        if price > best_price:  # the next round goes on from the best
            for i in np.flatnonzero(now != best).tolist():
                span = np.arange(case.begin[i], case.end[i])
                load[span, now[i]] -= case.base[i] + span
                count[span, now[i]] -= 1
                load[span, best[i]] += case.base[i] + span
                count[span, best[i]] += 1
            now[:], price = best, best_price
    return best, best_price


@compiled
def _priced(peak: int, capacity: int) -> int:
    return peak if peak <= capacity else peak + _OVER * (peak - capacity)


@compiled
def _anneal(
    begin: Int64Array,
    end: Int64Array,
    base: Int64Array,
    slots: int,
    capacity: int,
    now: Int64Array,
    load: Int64Array,
    count: Int64Array,
    price: int,
    best: Int64Array,
    best_price: int,
    draws: Float64Array,
    temperature: Float64Array,
) -> tuple[int, int]:
    """One move per draw; changes `now`, `load`, `count` and `best`, returns the present and the best price."""
    n, workers = len(now), load.shape[1]
    for m in range(len(draws)):
        i = int(draws[m, 0] * n)
        g = now[i]
        j, h = -1, int(draws[m, 1] * 2 * workers)
        if h >= workers:  # an exchange with another request
            j = int(draws[m, 1] * n)
            h = now[j]
            if begin[j] >= end[i] or begin[i] >= end[j]:
                continue
        if h == g:
            continue
        a, z = begin[i], end[i]
        if j >= 0:
            a, z = min(a, begin[j]), max(z, end[j])
        delta, fits = 0, True
        for k in range(a, z):
            has_i = begin[i] <= k < end[i]
            has_j = j >= 0 and begin[j] <= k < end[j]
            shift = 0
            if has_i:
                shift += base[i] + k
                if not has_j and count[k, h] >= slots:
                    fits = False
                    break
            if has_j:
                shift -= base[j] + k
                if not has_i and count[k, g] >= slots:
                    fits = False
                    break
            before, after = 0, 0
            for q in range(workers):
                v = load[k, q]
                before = max(before, v)
                if q == g:
                    v -= shift
                elif q == h:
                    v += shift
                after = max(after, v)
            delta += _priced(after, capacity) - _priced(before, capacity)
        if not fits or (delta > 0 and draws[m, 2] >= np.exp(-delta / temperature[m])):
            continue
        for k in range(begin[i], end[i]):
            load[k, g] -= base[i] + k
            load[k, h] += base[i] + k
            count[k, g] -= 1
            count[k, h] += 1
        now[i] = h
        if j >= 0:
            for k in range(begin[j], end[j]):
                load[k, h] -= base[j] + k
                load[k, g] += base[j] + k
                count[k, h] -= 1
                count[k, g] += 1
            now[j] = g
        price += delta
        if price < best_price:
            best_price = price
            best[:] = now
    return price, best_price
