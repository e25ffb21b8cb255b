"""Compiled loops of the bounds (internal). Positions are those of the axis of active steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import compiled
from .._validate import Int64Array
from ._partition import least_maximum, spread


@compiled
def largest_offset(order: Int64Array, begin: Int64Array, end: Int64Array, offset: Int64Array, count: int) -> Int64Array:
    """Largest `offset` among the requests active at each position.

    Requests are painted in `order` (descending offset) over their positions ``begin .. end - 1``; a
    union-find over painted positions visits each once.
    """
    painted = np.empty(count, np.int64)
    following = np.arange(count + 1)  # from a painted position towards the next unpainted one
    for i in order:
        p = begin[i]
        while True:
            root = p
            while following[root] != root:
                root = following[root]
            while following[p] != root:
                following[p], p = root, following[p]
            p = root
            if p >= end[i]:
                break
            painted[p] = offset[i]
            following[p] = p + 1
            p += 1
    return painted


@compiled
def _insert(values: Int64Array, n: int, value: int) -> None:
    """Insert `value` into the ascending ``values[:n]``."""
    at = np.searchsorted(values[:n], value)
    for j in range(n, at, -1):
        values[j] = values[j - 1]
    values[at] = value


@compiled
def _remove(values: Int64Array, n: int, value: int) -> None:
    """Remove `value` from the ascending ``values[:n]``."""
    for j in range(np.searchsorted(values[:n], value), n - 1):
        values[j] = values[j + 1]


@compiled
def _next_stretch(
    state: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    begin: Int64Array,
    end: Int64Array,
    offset: Int64Array,
    values: Int64Array,
) -> tuple[int, int, int]:
    """``(first, until, n)`` of the next stretch of positions with the same n active requests; n = 0: none is left.

    `state`: three zeros before the first. `starts`, `ends`: requests in order of `begin`, `end`. ``values[:n]`` are
    the offsets of the active ones, ascending: they keep this order, since all loads grow alike. (No generator: numba
    cannot call one that it finds in its cache.)
    """
    n, s, e = state
    while e < len(ends):
        p = end[ends[e]] if s == len(starts) else min(end[ends[e]], begin[starts[s]])
        while e < len(ends) and end[ends[e]] == p:
            _remove(values, n, offset[ends[e]])
            n -= 1
            e += 1
        while s < len(starts) and begin[starts[s]] == p:
            _insert(values, n, offset[starts[s]])
            n += 1
            s += 1
        if n > 0:
            until = min(end[ends[e]], begin[starts[s]] if s < len(starts) else end[ends[e]])
            state[0], state[1], state[2] = n, s, e
            return p, until, n
    return 0, 0, 0


@compiled
def pigeonhole(
    starts: Int64Array,
    ends: Int64Array,
    begin: Int64Array,
    end: Int64Array,
    offset: Int64Array,
    workers: int,
    slots: int,
    peak: Int64Array,
) -> None:
    """Raise `peak` at every position to the pigeonhole bound.

    Within a stretch each form of the bound is a line in the position: a sum of q + 1 offsets, plus
    q + 1 per position.
    """
    values = np.empty(len(begin), np.int64)
    sums = np.zeros(len(begin) + 1, np.int64)
    state = np.zeros(3, np.int64)
    while True:
        first, until, n = _next_stretch(state, starts, ends, begin, end, offset, values)
        if n == 0:
            break
        for j in range(n):
            sums[j + 1] = sums[j] + values[j]
        # Slots: the worker of the largest request holds at least `others` more.
        others = max(0, n - (workers - 1) * slots - 1)
        constant = values[n - 1] + sums[others]
        for k in range(first, until):
            peak[k] = max(peak[k], constant + (others + 1) * k)
        # Of the q*G + 1 largest requests, q + 1 share a worker.
        for q in range(1, (n - 1) // workers + 1):
            low = n - q * workers - 1
            constant = sums[low + q + 1] - sums[low]
            for k in range(first, until):
                peak[k] = max(peak[k], constant + (q + 1) * k)


@compiled
def migration(
    starts: Int64Array,
    ends: Int64Array,
    begin: Int64Array,
    end: Int64Array,
    offset: Int64Array,
    workers: int,
    slots: int,
    peak: Int64Array,
    nodes: int,
) -> tuple[Int64Array, NDArray[np.bool_]]:
    """Raise `peak` at every position from the pigeonhole bound towards the optimum of the step alone.

    Returns
    -------
    proof : ndarray of int64, shape (K,)
        Nodes of the exhausted search that proves the raised bound; 0 where it was not raised.
    closed : ndarray of bool, shape (K,)
        The bound is the optimum of the step; elsewhere the search ended at its limit of `nodes`.
    """
    proof, closed = np.zeros(len(peak), np.int64), np.ones(len(peak), np.bool_)
    values = np.empty(len(begin), np.int64)
    state = np.zeros(3, np.int64)
    while True:
        first, until, n = _next_stretch(state, starts, ends, begin, end, offset, values)
        if n == 0:
            break
        if n <= workers:  # one request each: the largest is the optimum
            continue
        for k in range(first, until):
            items = values[:n][::-1] + k
            high = spread(items, workers, slots, peak[k])
            if high > peak[k]:
                peak[k], proof[k], closed[k] = least_maximum(items, workers, slots, peak[k], high, nodes)
    return proof, closed
