"""Live decisions: the compiled rules with an entry for Python, on a pool that is filled from a view (internal)."""

from __future__ import annotations

import numpy as np

from ..._jit import compiled
from ..._validate import Int64Array
from . import br, immediate, pooled
from .pool import TAIL, Pool, make_pool, pool_push


@compiled
def route_br0(load, free, room, pool, p, out_request, out_worker):
    """See br.br0_decide."""
    return br.br0_decide(load, free, room, pool, p, out_request, out_worker)


@compiled
def route_brh(free, room, pool, p, out_request, out_worker):
    """See br.brh_decide."""
    return br.brh_decide(free, room, pool, p, out_request, out_worker)


@compiled
def route_least_kv(load, free, room, pool, limited, out_request, out_worker):
    """See pooled.least_kv_decide."""
    return pooled.least_kv_decide(load, free, room, pool, limited, out_request, out_worker)


@compiled
def bind_one(p, load, active, queued, queued_tokens, blocks, queued_blocks, own, capacity, bound, rng):
    """See immediate.bind_request."""
    return immediate.bind_request(
        p, load, active, queued, queued_tokens, blocks, queued_blocks, own, capacity, bound, rng
    )


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
