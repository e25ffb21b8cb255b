"""Step regret: how far each decision of a pooled router is from the exact optimum of its step."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._validate import Int64Array, frozen, integer
from ..errors import InputError
from ..instance import Cluster, Instance
from ..metrics import percentile
from ..routers import BFIO, make
from ..simulator import simulate

__all__ = ["StepRegret", "step_regret"]


@dataclass(frozen=True, eq=False, repr=False)
class StepRegret:
    """Per decided step, the objective of BF-IO(H) that a router gave away.

    Attributes
    ----------
    router : str
    horizon : int
    step : ndarray of int64, shape (K,)
        Steps in which the router had requests to place and slots to place them in.
    regret : ndarray of float64, shape (K,), tokens
        Objective of the router's admissions minus the best one found, over ``2**20``: for ``H = 0`` tokens of
        ``imbalance_sum``. Never negative.
    unproved : ndarray of bool, shape (K,)
        The best one was not proved; the regret can then be larger.
    """

    router: str
    horizon: int
    step: Int64Array
    regret: Any
    unproved: Any

    def summary(self) -> dict[str, float]:
        """Number of steps, shares without regret and proved, mean, percentiles and maximum (tokens)."""
        count = len(self.step)
        result: dict[str, float] = {
            "steps": count,
            "zero": float((self.regret == 0).mean()) if count else float("nan"),
            "proved": float((~self.unproved).mean()) if count else float("nan"),
            "mean": float(self.regret.mean()) if count else float("nan"),
        }
        for q in (50, 95, 99):
            result[f"p{q}"] = percentile(self.regret, q)
        return result | {"max": float(self.regret.max()) if count else float("nan")}

    def worst(self, number: int = 5) -> list[tuple[int, float]]:
        """The `number` steps with the largest regret, and that."""
        order = np.argsort(-self.regret, kind="stable")[:number]
        return [(int(self.step[i]), float(self.regret[i])) for i in order]

    def __repr__(self) -> str:
        s = self.summary()
        return (
            f"StepRegret({self.router!r} against BF-IO({self.horizon}): {s['steps']:,} steps, {s['zero']:.1%} without "
            f"regret, mean {s['mean']:,.1f}, p99 {s['p99']:,.0f}, max {s['max']:,.0f} tokens, {s['proved']:.1%} proved)"
        )

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{v:,.6g}</td></tr>" for k, v in self.summary().items())
        return f"<table><caption>{html.escape(repr(self))}</caption>{rows}</table>"


def step_regret(
    inst: Instance,
    cluster: Cluster,
    router: Any,
    H: int = 0,
    gamma: float = 0.9,
    *,
    seed: int = 0,
    pool_window: int = 64,
    node_limit: int = 20_000,
) -> StepRegret:
    """Run a pooled router, and solve in every step the problem that it faced, on the state that it saw.

    Candidates are the `pool_window` first waiting requests and those that the router admitted, projections those of
    true lengths (``H = 0`` uses none).

    Parameters
    ----------
    inst : Instance
    cluster : Cluster
        Without a KV capacity: what cannot be admitted because of it is not regret.
    router : str or router
        Pooled and work-conserving: it admits as many requests as there are slots for.
    H, gamma
        Of the step problem, as in :class:`~balanceroute_opt.routers.BFIO`.
    seed : int
        Of the router.
    pool_window, node_limit
        As in :class:`~balanceroute_opt.routers.BFIO`.

    Raises
    ------
    InputError
        If the router is an immediate one, leaves a slot free while a request waits, or the cluster has a KV capacity.

    Examples
    --------
    >>> inst = Instance(release=[0] * 4, prompt=[4, 3, 3, 2], output=[1] * 4)
    >>> step_regret(inst, Cluster(workers=2, slots=2), "br-0").summary()["zero"]
    1.0
    """
    name, rule = make(router)
    if rule.mode != "pooled":
        raise InputError(f"step regret is defined for pooled routers; {name} binds requests one by one")
    if cluster.kv_capacity is not None:
        raise InputError("step regret is defined without a KV capacity")
    watch = _Watch(name, rule, BFIO(H=H, gamma=gamma), integer(pool_window, "pool_window", 1), node_limit)
    simulate(inst, cluster, watch, seed)
    columns = (np.array(c) for c in (watch.step, watch.regret, watch.unproved))
    step, regret, unproved = columns
    return StepRegret(name, H, frozen(step.astype(np.int64)), frozen(regret / 2**20), frozen(unproved.astype(np.bool_)))


class _Watch:
    """A router that answers as another one does, and prices every answer."""

    mode = "pooled"

    def __init__(self, name: str, rule: Any, exact: BFIO, window: int, node_limit: int) -> None:
        self.name, self.rule, self.exact = name, rule, exact
        self.window, self.node_limit = window, integer(node_limit, "node_limit", 1)
        self.step: list[int] = []
        self.regret: list[int] = []
        self.unproved: list[bool] = []

    def attach(self, inst: Instance) -> None:
        self.exact.attach(inst)
        if hasattr(self.rule, "attach"):
            self.rule.attach(inst)

    def reset(self, cluster: Cluster, rng: Any) -> None:
        if hasattr(self.rule, "reset"):
            self.rule.reset(cluster, rng)

    def route(self, view: Any) -> Any:
        from ..routers.kernels.bfio import integer_weights, solve_step, step_margins, step_value

        requests, workers = self.rule.route(view)
        slots = int(view.free.sum())
        if not len(view.pool) or not slots:
            return requests, workers
        if len(requests) != min(len(view.pool), slots):
            raise InputError(
                f"step {view.step}: {self.name} admits {len(requests)} requests, and {min(len(view.pool), slots)} "
                "have a slot; step regret is defined for work-conserving routers"
            )
        self.exact.require_exact(view.workers, self.exact.tokens_in(view))
        projected = np.zeros((view.workers, self.exact.H + 1), np.int64)
        self.exact._project(view, projected)
        weight = integer_weights(self.exact.gamma, self.exact.H)
        chosen = np.isin(view.pool.index, requests)
        prompt = np.ascontiguousarray(view.pool.prompt[chosen | (np.arange(len(chosen)) < max(self.window, slots))])
        at = dict(zip(view.pool.index.tolist(), view.pool.prompt.tolist(), strict=True))
        added = np.zeros(view.workers, np.int64)
        for i, g in zip(np.asarray(requests).tolist(), np.asarray(workers).tolist(), strict=True):
            added[g] += at[i]
        value = int(step_value(step_margins(projected), weight, added))
        worker = np.empty(len(prompt), np.int64)
        best, bound, *_ = solve_step(projected, view.free, view.room, prompt, weight, self.node_limit, worker)
        # A search that ran out of nodes may know nothing better than the router's own answer.
        self.step.append(view.step)
        self.regret.append(max(0, value - int(best)))
        self.unproved.append(int(best) != int(bound) and value != int(bound))
        return requests, workers
