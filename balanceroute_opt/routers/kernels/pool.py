"""The pool of waiting requests as compiled arrays (internal).

In arrival order the pool is one contiguous stretch ``head .. tail`` of its arrays: taking out position j
moves the j entries before it, so that a decision that looks at a window costs at most that window.
Longest first keeps only the front (the best `window` requests) sorted, and the rest in a heap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..._jit import inner
from ..._validate import Int64Array

HEAD, TAIL, HEAP, FIRST, LAST = range(5)


class Pool(NamedTuple):
    """Waiting requests; `request` is the caller's handle, `rank` orders by age (lower is older)."""

    longest: bool
    window: int
    request: Int64Array
    prompt: Int64Array
    rank: Int64Array
    heap_index: Int64Array
    heap_prompt: Int64Array
    heap_rank: Int64Array
    counts: Int64Array


def make_pool(capacity: int, longest: bool, window: int) -> Pool:
    """An empty pool for at most `capacity` requests; `window` is the sorted front of longest-first order."""
    front = min(window, capacity) + 1 if longest else capacity
    heap = capacity if longest else 0

    def column(size: int) -> Int64Array:
        return np.empty(size, np.int64)

    return Pool(
        longest,
        min(window, capacity),
        column(front),
        column(front),
        column(front if longest else 0),
        column(heap),
        column(heap),
        column(heap),
        np.zeros(5, np.int64),
    )


@inner
def pool_size(pool):
    """Requests in the pool."""
    return pool.counts[TAIL] - pool.counts[HEAD] + pool.counts[HEAP]


@inner
def pool_push(pool, index, prompt, front):
    """Add a request: behind all others, or (preempted) in front of them."""
    count = pool.counts
    if not pool.longest:
        if front:
            count[HEAD] -= 1
            at = count[HEAD]
        else:
            at = count[TAIL]
            count[TAIL] += 1
        pool.request[at] = index
        pool.prompt[at] = prompt
        return
    if front:
        count[FIRST] -= 1
        rank = count[FIRST]
    else:
        rank = count[LAST]
        count[LAST] += 1
    size = count[TAIL]
    if size == pool.window and not _before(prompt, rank, pool.prompt[size - 1], pool.rank[size - 1]):
        _heap_push(pool, index, prompt, rank)
        return
    at = size
    while at > 0 and _before(prompt, rank, pool.prompt[at - 1], pool.rank[at - 1]):
        pool.request[at] = pool.request[at - 1]
        pool.prompt[at] = pool.prompt[at - 1]
        pool.rank[at] = pool.rank[at - 1]
        at -= 1
    pool.request[at] = index
    pool.prompt[at] = prompt
    pool.rank[at] = rank
    if size == pool.window:
        _heap_push(pool, pool.request[size], pool.prompt[size], pool.rank[size])
    else:
        count[TAIL] = size + 1


@inner
def pool_take(pool, position):
    """Remove the request at `position` (0 is the first of the pool's order)."""
    count = pool.counts
    if not pool.longest:
        head = count[HEAD]
        for at in range(head + position, head, -1):
            pool.request[at] = pool.request[at - 1]
            pool.prompt[at] = pool.prompt[at - 1]
        count[HEAD] = head + 1
        return
    last = count[TAIL] - 1
    for at in range(position, last):
        pool.request[at] = pool.request[at + 1]
        pool.prompt[at] = pool.prompt[at + 1]
        pool.rank[at] = pool.rank[at + 1]
    count[TAIL] = last
    if count[HEAP]:
        pool.request[last] = pool.heap_index[0]
        pool.prompt[last] = pool.heap_prompt[0]
        pool.rank[last] = pool.heap_rank[0]
        count[TAIL] = last + 1
        _heap_pop(pool)


@inner
def pool_drop(pool, taken):
    """Remove the requests that are marked among the first ones (pools in order of arrival)."""
    head = pool.counts[HEAD]
    keep = head + len(taken)
    # From the back, so that what stays keeps its order.
    for position in range(len(taken) - 1, -1, -1):
        if not taken[position]:
            keep -= 1
            pool.request[keep] = pool.request[head + position]
            pool.prompt[keep] = pool.prompt[head + position]
    pool.counts[HEAD] = keep


@inner
def _before(prompt, rank, other_prompt, other_rank):
    return prompt > other_prompt or (prompt == other_prompt and rank < other_rank)


@inner
def _heap_push(pool, index, prompt, rank):
    at = pool.counts[HEAP]
    pool.counts[HEAP] = at + 1
    while at > 0:
        up = (at - 1) >> 1
        if not _before(prompt, rank, pool.heap_prompt[up], pool.heap_rank[up]):
            break
        _heap_set(pool, at, pool.heap_index[up], pool.heap_prompt[up], pool.heap_rank[up])
        at = up
    _heap_set(pool, at, index, prompt, rank)


@inner
def _heap_pop(pool):
    size = pool.counts[HEAP] - 1
    pool.counts[HEAP] = size
    if size == 0:
        return
    index, prompt, rank = pool.heap_index[size], pool.heap_prompt[size], pool.heap_rank[size]
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        right = down + 1
        if right < size and _before(
            pool.heap_prompt[right], pool.heap_rank[right], pool.heap_prompt[down], pool.heap_rank[down]
        ):
            down = right
        if not _before(pool.heap_prompt[down], pool.heap_rank[down], prompt, rank):
            break
        _heap_set(pool, at, pool.heap_index[down], pool.heap_prompt[down], pool.heap_rank[down])
        at = down
    _heap_set(pool, at, index, prompt, rank)


@inner
def _heap_set(pool, at, index, prompt, rank):
    pool.heap_index[at] = index
    pool.heap_prompt[at] = prompt
    pool.heap_rank[at] = rank
