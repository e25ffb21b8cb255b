"""A router that lets a request wait for a margin, for a few steps at most (``docs/deferral.md``) [ours]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._validate import Int64Array, integer, real
from ..instance import Cluster, Instance

if TYPE_CHECKING:
    from .view import View

__all__ = ["Deferral"]


class Deferral:
    """Longest first under a common level; a request that would rise above it waits a few steps, its place kept [ours].

    The level is ``T = max(max_g L_g, ceil((sum_g L_g + prompts of the min(pool, free slots) oldest) / G))``: what is
    there already, or what is unavoidable. While there is a slot for every waiting request, they are planned longest
    prompt first (ties older), each onto the worker with least load, planned ones included. One with prompt s on
    worker g that has waited w steps is admitted if

        ``L_g + s - T <= price * (w / max_wait) * (sum_g L_g / active requests)``

    or w >= `max_wait` or nothing is active, and then T rises to ``L_g + s`` if that is more. Otherwise it goes on
    waiting, and its place stays taken for the rest of the plan, so that smaller requests do not fill its margin.

    While more requests wait than slots are free none is left free: the least loaded worker with a free slot takes,
    of the `window` oldest, the one with the largest ``s - G*max(s - (T - L_g), 0)`` (the score of :class:`BR0`), or
    the oldest if it has waited longer than twice the last of the window, plus `max_wait`.

    So a request waits longer than `max_wait` steps only while every slot is in use, or none has room for it.
    It needs no prediction. Waits are counted in steps, on the wall clock too: in calls of :meth:`route`.

    Parameters
    ----------
    max_wait : int
        Steps, >= 0; 0 never lets a request wait for a margin.
    price : float
        Overshoot, in loads of a mean active request, at which a request stops waiting just before `max_wait`; >= 0.
    window : int
        Requests among which a full cluster chooses, >= 1; 1 is in order of arrival.

    Raises
    ------
    InputError
        If an option is out of range.
    """

    mode: Literal["pooled"] = "pooled"
    loop = "deferral"

    def __init__(self, max_wait: int = 8, price: float = 0.4, window: int = 8) -> None:
        self.max_wait = integer(max_wait, "max_wait", 0)
        self.price = real(price, "price", 0.0)
        self.window = integer(window, "window", 1)
        self._forget(0)

    def _forget(self, requests: int) -> None:
        self._requests = requests
        self._calls = 0
        self._since: dict[int, int] = {}

    def attach(self, inst: Instance) -> None:
        """Forget the waits of earlier requests, and learn how many there will be."""
        self._forget(len(inst))

    def pool(self, cluster: Cluster) -> tuple[bool, int]:
        """Order of the pool, and how much of its front the rule looks at."""
        return False, 1

    def params(self, workers: int, limited: bool) -> Any:
        """Options, memory and scratch space of the compiled rule."""
        from .kernels.deferral import deferral_params

        return deferral_params(workers, self._requests, self.max_wait, self.price, self.window)

    def route(self, view: View) -> tuple[Int64Array, Int64Array]:
        """Decide on a view by the same compiled rule as a simulation; see :meth:`BR0.route`.

        The router remembers from call to call, by index, since when a request has been waiting.
        """
        from .kernels.deferral import deferral_decide, deferral_params
        from .kernels.live import filled_pool

        index = view.pool.index.tolist()
        self._since = {i: self._since.get(i, self._calls) for i in index}
        load, free, room = view.load.copy(), view.free.copy(), view.room.copy()
        most = min(len(index), int(free.sum()))
        requests, workers = np.empty(most, np.int64), np.empty(most, np.int64)
        number = 0
        if most:
            params = deferral_params(view.workers, len(index), self.max_wait, self.price, self.window)
            params.since[:] = list(self._since.values())
            pool = filled_pool(view.pool.prompt, False, 1)
            number = deferral_decide(load, free, room, view.slots, pool, params, self._calls, requests, workers)
        self._calls += 1
        for i in requests[:number].tolist():
            del self._since[index[i]]
        return view.pool.index[requests[:number]], workers[:number]

    def __repr__(self) -> str:
        return f"Deferral(max_wait={self.max_wait}, price={self.price:g}, window={self.window})"
