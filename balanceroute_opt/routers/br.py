"""BR-0: the router of BalanceRoute without prediction (``docs/model.md``, section 5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._validate import Int64Array, integer
from ..errors import InputError
from ..instance import Cluster

if TYPE_CHECKING:
    from .view import View

__all__ = ["BR0"]


class BR0:
    """BR-0: fill the margins under the heaviest worker, no prediction [published; two stages: reading].

    Envelope ``M = max_g L_g``, safe margin ``m_g = M - L_g``; a set Q of requests with prompts summing to S scores

        ``F_g(Q) = S - G * max(S - m_g, 0)``

    the exact negative of the change of ``G*max_g L_g - sum_g L_g`` when g alone receives work in this step.

    Stage 1, while more than `greedy_slots` slots are free: the worker with most free slots takes the single request
    with the largest F among the `pool_window` first ones. Stage 2: it takes the subset of the `subset_window` first
    requests with the largest F, or, if none is positive, the single one with the largest F. Ties: lower load, lower
    worker index; older request.

    Parameters
    ----------
    greedy_slots : int, optional
        Free slots in all up to which stage 2 decides; None is G.
    subset_window : int
        ``R_max`` of the paper (published value 4), 1 .. 16.
    pool_window : int
        Requests that stage 1 looks at [published code], >= 1.
    pool_order : {"arrival", "longest"}
        Order of the pool; ``"longest"`` is another reading (longest prompt first, ties older).
    greedy_worker : {"free-slots", "least-load"}
        Worker of stage 1; ``"least-load"`` is [ours]: below saturation the published rule balances counts, not tokens.

    Raises
    ------
    InputError
        If an option is out of range.

    References
    ----------
    Bu et al., arXiv:2605.06113; Chen et al., arXiv:2601.17855 (stage 1 of their released code).
    """

    mode: Literal["pooled"] = "pooled"
    loop = "br-0"

    def __init__(
        self,
        greedy_slots: int | None = None,
        subset_window: int = 4,
        pool_window: int = 1024,
        pool_order: Literal["arrival", "longest"] = "arrival",
        greedy_worker: Literal["free-slots", "least-load"] = "free-slots",
    ) -> None:
        self.greedy_slots = None if greedy_slots is None else integer(greedy_slots, "greedy_slots", 0)
        self.subset_window = integer(subset_window, "subset_window", 1, 16)
        self.pool_window = integer(pool_window, "pool_window", 1)
        self.pool_order = choice(pool_order, "pool_order", ("arrival", "longest"))
        self.greedy_worker = choice(greedy_worker, "greedy_worker", ("free-slots", "least-load"))
        self._live: tuple[int, Any] = (0, None)

    def pool(self, cluster: Cluster) -> tuple[bool, int]:
        """Whether the pool is kept longest first, and how much of its front the rule looks at."""
        return self.pool_order == "longest", max(self.pool_window, self.subset_window)

    def params(self, workers: int, limited: bool) -> Any:
        """Options and scratch space of the compiled rule."""
        from .kernels.br import br0_params

        return br0_params(
            workers,
            {
                "greedy_slots": workers if self.greedy_slots is None else self.greedy_slots,
                "subset_window": self.subset_window,
                "pool_window": self.pool_window,
                "least_load": self.greedy_worker == "least-load",
            },
        )

    def route(self, view: View) -> tuple[Int64Array, Int64Array]:
        """Decide on a view by the same compiled rule as a simulation.

        Returns
        -------
        requests, workers : ndarray of int64
            Entries of ``view.pool.index`` and the worker of each, in order of admission.
        """
        from .kernels.br import br0_decide
        from .kernels.live import filled_pool

        if self._live[0] != view.workers:
            self._live = (view.workers, self.params(view.workers, view.kv_capacity is not None))
        longest, window = self.pool_order == "longest", max(self.pool_window, self.subset_window)
        load, free, room = view.load.copy(), view.free.copy(), view.room.copy()
        most = min(len(view.pool), int(free.sum()))
        requests, workers = np.empty(most, np.int64), np.empty(most, np.int64)
        pool = filled_pool(view.pool.prompt, longest, window)
        number = br0_decide(load, free, room, pool, self._live[1], requests, workers)
        return view.pool.index[requests[:number]], workers[:number]

    def __repr__(self) -> str:
        options = (
            f"{name}={getattr(self, name)!r}"
            for name in ("greedy_slots", "subset_window", "pool_window", "pool_order", "greedy_worker")
        )
        return f"BR0({', '.join(options)})"


def choice(value: Any, what: str, options: tuple[str, ...]) -> Any:
    """`value` if it is one of `options`; InputError otherwise."""
    if value not in options:
        raise InputError(f"{what} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value
