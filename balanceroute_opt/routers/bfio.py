"""BF-IO: the step problem solved exactly (``docs/model.md``, section 5.4; ``docs/bfio.md``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import Int64Array, integer, real
from ..errors import InputError
from ..instance import Cluster, Instance
from .br import BRH

if TYPE_CHECKING:
    from .view import View

__all__ = ["BFIO", "BFIOHeuristic"]


class BFIO(BRH):
    """BF-IO(H): every step, the admissions that minimise the projected imbalance, exactly [published model].

    Among the first `pool_window` waiting requests (all free slots' worth of them, if that is more) choose who goes
    where, so that

        ``sum_h D_h * (G*M_h - sum_g L_g(h))``,  ``M_h = max_g L_g(h)``,

    is least, with as many admissions as fit: a request adds its prompt at every h, weights and projected loads are
    those of :class:`BRH`. Branch and bound, slot by slot; a step that needs more than `node_limit` nodes takes the best
    admissions found, and :attr:`unproved` counts it. BR-0 and BR-H approximate this problem.

    Parameters
    ----------
    H : int
        Horizon in steps, >= 0; 0 uses no predictions.
    gamma : float
        Discount in (0, 1].
    predictor, refresh
        As in :class:`BRH`.
    pool_window : int
        Waiting requests that are considered, >= 1 [ours: 64; more changes excess little and costs time].
    node_limit : int
        Nodes of the search per step, >= 1.

    Raises
    ------
    InputError
        If an option is out of range, `predictor` cannot predict, or objectives would not fit 64-bit integers.

    References
    ----------
    Chen et al., arXiv:2601.17855.
    """

    loop = "bf-io"

    def __init__(
        self,
        H: int = 0,
        gamma: float = 0.9,
        predictor: Any = "oracle",
        refresh: int = 1,
        pool_window: int = 64,
        node_limit: int = 20_000,
    ) -> None:
        super().__init__(H=H, gamma=gamma, predictor=predictor, refresh=refresh, pool_window=pool_window)
        self.node_limit = integer(node_limit, "node_limit", 1)
        self._counts: Any = None
        self._tokens = np.empty(0, np.int64)
        self._weights = 0

    def attach(self, inst: Instance) -> None:
        """As :meth:`BRH.attach`."""
        super().attach(inst)
        self._tokens = inst.prompt + inst.output

    def pool(self, cluster: Cluster) -> tuple[bool, int]:
        """Order of the pool, and how much of its front the rule looks at."""
        most = min(cluster.workers * cluster.slots, len(self._tokens))
        self.require_exact(cluster.workers, int(np.partition(self._tokens, -most)[-most:].sum()) if most else 0)
        return False, self.pool_window

    def require_exact(self, workers: int, tokens: int) -> None:
        """Raise InputError unless objectives with so many tokens on all workers are exact in 64 bits."""
        if not self._weights:
            from .kernels.bfio import integer_weights

            self._weights = int(integer_weights(self.gamma, self.H).sum())
        if workers * self._weights * tokens >= 2**60:
            raise InputError(
                f"BF-IO's objective with H = {self.H}, {workers} workers and {tokens:,} tokens does not fit 64-bit "
                "integers; lower H or gamma"
            )

    def reset(self, cluster: Cluster | None = None, rng: Any = None) -> None:
        """Start counting steps anew."""
        self._live = (0, None)

    def params(self, workers: int, limited: bool) -> Any:
        """Options and scratch space of the compiled rule."""
        from .kernels.bfio import bfio_params

        params = bfio_params(workers, self.H, self.gamma, self.pool_window, self.node_limit)
        self._counts = params.counts
        return params

    @property
    def steps(self) -> int:
        """Steps decided since the last run began."""
        return 0 if self._counts is None else int(self._counts[0])

    @property
    def unproved(self) -> int:
        """Steps among them whose admissions were not proved optimal."""
        return 0 if self._counts is None else int(self._counts[0] - self._counts[1])

    def route(self, view: View) -> tuple[Int64Array, Int64Array]:
        """Decide on a view by the same compiled rule as a simulation; see :meth:`BRH.route`."""
        from .kernels.bfio import bfio_decide

        self.require_exact(view.workers, self.tokens_in(view))
        params = self._scratch(view)
        self._project(view, params.projected)
        free, room = view.free.copy(), view.room.copy()
        return self._admissions(view, lambda pool, i, g: bfio_decide(free, room, pool, params, i, g))

    def tokens_in(self, view: View) -> int:
        """Tokens that the workers may hold within the horizon, all waiting requests included."""
        return int(view.load.sum()) + self.H * int(view.active.sum()) + int(view.pool.prompt.sum())


class BFIOHeuristic(BRH):
    """The two-phase heuristic of BF-IO's released code [reading of ``strategy_balance_future.py``].

    Margins, weights and the score F are those of :class:`BRH` with ``alpha = 1, beta = 43``. *Stage 1*, while more than
    `greedy_slots` slots are free: the worker with most free slots (ties: load, index) takes the single request with the
    largest F. *Stage 2*: the worker with the least ``(1 - mix)*P_g(0) + mix*P_g(H)`` and a free slot, ties by index,
    takes a subset. For k from its free slots down to 1 the k requests are those whose sum is the largest one that is at
    most ``m = min_h margin_{g,h}``, or, if none is, the smallest one; the k with the largest F wins, and a sum within m
    ends the loop. If no F is positive, the single request with the largest F is taken. All sums of the `pool_window`
    first requests are tried, by sets of reachable sums; of subsets with one sum the one with younger requests is taken.

    Departures [ours]: projected loads grow by a token a step, as in :class:`BRH` (the released code holds them
    constant); `mix` is fixed (there ``t / (t + 72 * seconds per token + 1e-6)`` at time t, above 0.99 from the second
    step on); with a KV capacity only what fits is considered.

    Parameters
    ----------
    H, gamma, beta
        As in :class:`BRH`.
    predictor, refresh
        As in :class:`BRH`.
    greedy_slots : int
        Free slots in all up to which stage 2 decides.
    pool_window : int
        Waiting requests that either stage looks at, >= 1.
    mix : float
        Weight of the last projected load in the order of stage 2, in [0, 1].

    Raises
    ------
    InputError
        If an option is out of range or `predictor` cannot predict.

    References
    ----------
    Chen et al., arXiv:2601.17855; github.com/Echoscd/Load-Balancing-Release, commit 54539d6.
    """

    loop = "bf-io-heuristic"

    def __init__(
        self,
        H: int = 72,
        gamma: float = 0.86,
        beta: float | None = 43.0,
        predictor: Any = "oracle",
        refresh: int = 1,
        greedy_slots: int = 7,
        pool_window: int = 1024,
        mix: float = 1.0,
    ) -> None:
        super().__init__(
            H=H,
            gamma=gamma,
            beta=beta,
            predictor=predictor,
            refresh=refresh,
            greedy_slots=greedy_slots,
            pool_window=pool_window,
        )
        self.mix = real(mix, "mix", 0.0)
        if self.mix > 1:
            raise InputError(f"mix must be <= 1, got {self.mix:g}")

    def pool(self, cluster: Cluster) -> tuple[bool, int]:
        """Order of the pool, and how much of its front the rule looks at."""
        return False, self.pool_window

    def params(self, workers: int, limited: bool) -> Any:
        """Options and scratch space of the compiled rule."""
        from .kernels.bfio_heuristic import HeuristicParams

        rule = super().params(workers, limited)
        return HeuristicParams(rule, self.mix, self.H, rule.projected)

    def route(self, view: View) -> tuple[Int64Array, Int64Array]:
        """Decide on a view by the same compiled rule as a simulation; see :meth:`BRH.route`."""
        from .kernels.bfio_heuristic import heuristic_decide

        params = self._scratch(view)
        self._project(view, params.projected)
        free, room = view.free.copy(), view.room.copy()
        return self._admissions(view, lambda pool, i, g: heuristic_decide(free, room, pool, params, i, g))
