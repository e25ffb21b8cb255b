"""Live decisions: the compiled rule on arrays that are filled from a view (internal)."""

from __future__ import annotations

import numpy as np

from ..._jit import compiled
from ..._validate import Int64Array
from .pool import TAIL, Pool, make_pool, pool_push


@compiled
def _fill(pool, prompts):
    for i in range(len(prompts)):
        pool_push(pool, i, prompts[i], False)


def filled_pool(prompts: Int64Array, longest: bool, window: int) -> Pool:
    """A pool that holds positions 0 .. n-1 of the view's pool."""
    pool = make_pool(len(prompts), longest, window)
    if longest:
        _fill(pool, prompts)
    else:
        pool.request[:] = np.arange(len(prompts))
        pool.prompt[:] = prompts
        pool.counts[TAIL] = len(prompts)
    return pool
