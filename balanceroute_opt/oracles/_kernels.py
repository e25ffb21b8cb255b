"""Compiled loops of the bounds (internal). Positions are those of the axis of active steps."""

from __future__ import annotations

import numba as nb
import numpy as np

from .._validate import Int64Array


@nb.njit(cache=True)
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
