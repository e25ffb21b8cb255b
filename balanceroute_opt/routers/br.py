"""BR-0 and BR-H, the routers of BalanceRoute (``docs/model.md``, sections 5.1 and 5.2)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._validate import Int64Array, integer, real
from ..errors import InputError
from ..instance import Cluster, Instance
from ..predictors import Oracle, cutoffs

if TYPE_CHECKING:
    from .view import View

__all__ = ["BR0", "BRH"]


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

        return br0_params(workers, self._options(workers))

    def _options(self, workers: int) -> dict[str, Any]:
        """Options with the defaults that depend on the cluster filled in."""
        return {
            "greedy_slots": workers if self.greedy_slots is None else self.greedy_slots,
            "subset_window": self.subset_window,
            "pool_window": self.pool_window,
            "least_load": self.greedy_worker == "least-load",
        }

    def route(self, view: View) -> tuple[Int64Array, Int64Array]:
        """Decide on a view by the same compiled rule as a simulation.

        Returns
        -------
        requests, workers : ndarray of int64
            Entries of ``view.pool.index`` and the worker of each, in order of admission.
        """
        from .kernels.live import route_br0

        load, free, room = view.load.copy(), view.free.copy(), view.room.copy()
        params = self._scratch(view)
        return self._admissions(view, lambda pool, i, g: route_br0(load, free, room, pool, params, i, g))

    def _scratch(self, view: View) -> Any:
        """Parameters of the compiled rule, made once for a number of workers."""
        if self._live[0] != view.workers:
            self._live = (view.workers, self.params(view.workers, view.kv_capacity is not None))
        return self._live[1]

    def _admissions(self, view: View, decide: Callable[..., int]) -> tuple[Int64Array, Int64Array]:
        """What `decide` answers on a pool filled from the view, as requests and workers."""
        from .kernels.live import filled_pool

        pool = filled_pool(view.pool.prompt, self.pool_order == "longest", max(self.pool_window, self.subset_window))
        most = min(len(view.pool), int(view.free.sum()))
        requests, workers = np.empty(most, np.int64), np.empty(most, np.int64)
        number = decide(pool, requests, workers)
        return view.pool.index[requests[:number]], workers[:number]

    def __repr__(self) -> str:
        shown = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


class BRH(BR0):
    """BR-H: BR-0 on loads projected over a short horizon [published; cut-off: reading].

    A predictor gives each active request a cut-off ``C_i`` in 1 .. H + 1, the steps that it is expected to stay.
    Projected load ``P_g(h) = sum over active i on g with h < C_i of (s_i + age_i + h)``, envelope
    ``M_h = max_g P_g(h)``, margin ``m_{g,h} = M_h - P_g(h)``, weights ``D_h = floor(gamma**h * 2**20 + 0.5)``, and
    for a set Q with prompts summing to S

        ``F_g(Q) = alpha * S * sum_h D_h  -  beta * sum_h D_h * max(S - m_{g,h}, 0)``

    with exact integer sums. The stages, options and ties are those of :class:`BR0`; ``H=0, alpha=1, beta=G`` is BR-0.

    Parameters
    ----------
    H : int
        Horizon in steps, >= 0 (published: 80).
    gamma : float
        Discount in (0, 1].
    alpha, beta : float
        Weights of filling and of overflow, > 0; ``beta=None`` is G.
    predictor : "oracle" or predictor
        ``"oracle"`` gives true lengths; otherwise an object of :mod:`balanceroute_opt.predictors` or of the same shape.
    refresh : int
        q >= 1: a request is predicted at ages 1, 1 + q, 1 + 2q, ...; in between its cut-off falls by one a step.
    greedy_slots, subset_window, pool_window, pool_order, greedy_worker
        As in :class:`BR0`.
    grow : bool
        Score a set as growing with the horizon, ``S + h*|Q|`` in place of S at h [ours].

    Raises
    ------
    InputError
        If an option is out of range or `predictor` cannot predict.
    """

    loop = "br-h"

    def __init__(
        self,
        H: int = 80,
        gamma: float = 0.9,
        alpha: float = 1.0,
        beta: float | None = None,
        predictor: Any = "oracle",
        refresh: int = 1,
        greedy_slots: int | None = None,
        subset_window: int = 4,
        pool_window: int = 1024,
        pool_order: Literal["arrival", "longest"] = "arrival",
        greedy_worker: Literal["free-slots", "least-load"] = "free-slots",
        grow: bool = False,
    ) -> None:
        super().__init__(greedy_slots, subset_window, pool_window, pool_order, greedy_worker)
        self.H = integer(H, "H", 0, 2**16)
        self.gamma = real(gamma, "gamma", positive=True)
        if self.gamma > 1:
            raise InputError(f"gamma must be <= 1, got {self.gamma:g}")
        self.alpha = real(alpha, "alpha", positive=True)
        self.beta = None if beta is None else real(beta, "beta", positive=True)
        if isinstance(predictor, str):
            if predictor != "oracle":
                raise InputError(
                    f'predictor must be "oracle" or a predictor object, got {predictor!r}; '
                    "fit the others, e.g. predictors.Survival.fit(training_part)"
                )
            predictor = Oracle()
        elif not isinstance(predictor, Oracle) and not callable(getattr(predictor, "predict", None)):
            raise InputError(f"a predictor needs the method predict, {type(predictor).__name__} has none")
        self.predictor = predictor
        self.refresh = integer(refresh, "refresh", 1)
        self.grow = bool(grow)
        self._last: tuple[Int64Array, Int64Array] = (np.empty(0, np.int64), np.empty(0, np.int64))

    @property
    def clairvoyant(self) -> bool:
        """Whether decisions rest on true output lengths."""
        return self.H > 0 and isinstance(self.predictor, Oracle)

    def attach(self, inst: Instance) -> None:
        """Let a clairvoyant predictor learn the instance that will be simulated, and forget earlier predictions."""
        self._last = (np.empty(0, np.int64), np.empty(0, np.int64))
        if isinstance(self.predictor, Oracle):
            self.predictor.attach(inst)

    def params(self, workers: int, limited: bool) -> Any:
        """Options and scratch space of the compiled rule."""
        from .kernels.br import brh_params

        return brh_params(
            workers,
            self._options(workers)
            | {
                "horizon": self.H,
                "gamma": self.gamma,
                "alpha": self.alpha,
                "beta": float(workers) if self.beta is None else self.beta,
                "grow": self.grow,
            },
        )

    def cutoffs(self, index: Int64Array, age: Int64Array, prompt: Int64Array, key: Int64Array) -> Int64Array:
        """Integer cut-offs of requests by the predictor; see :func:`balanceroute_opt.predictors.cutoffs`."""
        return cutoffs(self.predictor, index, age, prompt, key, self.H)

    def route(self, view: View) -> tuple[Int64Array, Int64Array]:
        """Decide on a view by the same compiled rule as a simulation; see :meth:`BR0.route`.

        The view needs its active `requests`. With ``refresh > 1`` the router remembers its predictions from call to
        call, by request index.
        """
        from .kernels.live import route_brh

        params = self._scratch(view)
        self._project(view, params.projected)
        free, room = view.free.copy(), view.room.copy()
        return self._admissions(view, lambda pool, i, g: route_brh(free, room, pool, params, i, g))

    def _project(self, view: View, projected: Any) -> None:
        """Projected loads of the view's active requests, into `projected`."""
        from .kernels.br import project

        if self.H == 0:
            projected[:, 0] = view.load
            return
        active = view.requests
        if len(active) != int(view.active.sum()):
            raise InputError(
                f"{type(self).__name__} needs the active requests: the view counts {int(view.active.sum())} "
                f"and names {len(active)}"
            )
        project(active.worker, active.prompt + active.age, self._view_cutoffs(view), projected)

    def _view_cutoffs(self, view: View) -> Int64Array:
        active = view.requests
        if self.refresh == 1:
            return self.cutoffs(active.index, active.age, active.prompt, active.key)
        due = (active.age - 1) % self.refresh == 0
        result = np.empty(len(active), np.int64)
        if not due.all():
            known, end = self._last
            at = np.minimum(np.searchsorted(known, active.index), max(len(known) - 1, 0))
            found = known[at] == active.index if len(known) else np.zeros(len(active), np.bool_)
            due |= ~found
            kept = np.flatnonzero(~due)
            result[kept] = np.clip(end[at[kept]] - view.step, 1, self.H + 1)
        asked = np.flatnonzero(due)
        if len(asked):
            columns = (active.index, active.age, active.prompt, active.key)
            result[asked] = self.cutoffs(*(column[asked] for column in columns))
        # A cut-off of H + 1, no end in sight, stays what it is until the next prediction.
        end = np.where(result > self.H, 2**62, view.step + result)
        order = np.argsort(active.index)
        self._last = (active.index[order], end[order])
        return result


def choice(value: Any, what: str, options: tuple[str, ...]) -> Any:
    """`value` if it is one of `options`; InputError otherwise."""
    if value not in options:
        raise InputError(f"{what} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value
