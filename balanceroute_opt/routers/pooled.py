"""Pooled baselines: least-kv and longest prompt first (``docs/model.md``, section 5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from .._validate import Int64Array
from ..instance import Cluster

if TYPE_CHECKING:
    from .view import View

__all__ = ["LPT", "TRTLLM", "LeastKV"]


class LeastKV:
    """Oldest request to the worker with least KV load and a free slot ("JSQ" in the BF-IO code) [published code].

    Work-conserving: with a KV capacity, a request that fits on no worker with a free slot is passed over and waits.
    Ties: lower worker index.

    References
    ----------
    Chen et al., arXiv:2601.17855, released simulator.
    """

    mode: Literal["pooled"] = "pooled"
    loop = "least-kv"
    longest = False

    def pool(self, cluster: Cluster) -> tuple[bool, int]:
        """Order of the pool, and how much of its front the rule looks at."""
        return self.longest, 1 if cluster.kv_capacity is None else 2**62

    def params(self, workers: int, limited: bool) -> None:
        """The compiled rule has no options."""

    def route(self, view: View) -> tuple[Int64Array, Int64Array]:
        """Decide on a view by the same compiled rule as a simulation; see :meth:`BR0.route`."""
        from .kernels.live import filled_pool, route_least_kv

        limited = view.kv_capacity is not None
        load, free, room = view.load.copy(), view.free.copy(), view.room.copy()
        most = min(len(view.pool), int(free.sum()))
        requests, workers = np.empty(most, np.int64), np.empty(most, np.int64)
        pool = filled_pool(view.pool.prompt, self.longest, 2**62 if limited else 1)
        number = route_least_kv(load, free, room, pool, limited, requests, workers)
        return view.pool.index[requests[:number]], workers[:number]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class LPT(LeastKV):
    """Longest prompt first (ties older), each to the least loaded worker with a free slot [ours].

    Graham's longest-processing-time rule on the present loads. References: Graham, SIAM J. Appl. Math. 17 (1969).
    """

    longest = True


class TRTLLM:
    """TensorRT-LLM's attention-DP balance.

    The ``min(pool, free slots)`` oldest requests are placed below a common cap ``E = max(ceil((active + new)/G), max_g
    active)``: longest prompt first (ties older) onto the worker with fewest (tokens, requests, index) that is below the
    cap and has a free slot. Work-conserving up to the cap. Source: TensorRT-LLM, attention DP request balancing.
    """

    mode: Literal["pooled"] = "pooled"
    loop = "trtllm-adp"

    def pool(self, cluster: Cluster) -> tuple[bool, int]:
        """Order of the pool, and how much of its front the rule looks at."""
        return False, 1

    def params(self, workers: int, limited: bool) -> None:
        """The compiled rule has no options."""

    def route(self, view: View) -> tuple[Int64Array, Int64Array]:
        """Decide on a view by the same compiled rule as a simulation; see :meth:`BR0.route`."""
        from .kernels.live import filled_pool
        from .kernels.pooled import trtllm_decide

        load, active, free, room = (c.copy() for c in (view.load, view.active, view.free, view.room))
        most = min(len(view.pool), int(free.sum()))
        requests, workers = np.empty(most, np.int64), np.empty(most, np.int64)
        pool = filled_pool(view.pool.prompt, False, 1)
        number = trtllm_decide(load, active, free, room, pool, requests, workers)
        return view.pool.index[requests[:number]], workers[:number]

    def __repr__(self) -> str:
        return "TRTLLM()"
