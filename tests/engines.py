"""Two engines behind one call: the reference of ``reference.py`` and the package's kernel.

Hand-computed cases run on both; random cases compare the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import reference as ref

import balanceroute_opt as bro

ENGINES = ("reference", "kernel", "live")

# name -> the plain rule, made of the same options as the package's router
RULES: dict[str, Callable[..., Any]] = {
    "random": ref.RandomWorker,
    "round-robin": ref.RoundRobin,
    "po2": ref.PowerOfTwo,
    "jsq": ref.Jsq,
    "vllm": ref.Vllm,
    "vllm-kv": ref.VllmKv,
    "sglang-tokens": ref.SglangTokens,
    "tpu-minmax": ref.TpuMinmax,
    "dynamo": ref.Dynamo,
    "llumnix": ref.Llumnix,
    "least-kv": ref.LeastKv,
    "lpt": ref.Lpt,
    "trtllm-adp": ref.TrtllmAdp,
    "br-0": ref.Br0,
    "deferral": ref.Deferral,
    "bf-io-heuristic": lambda H, predictor="oracle", **options: ref.BfioHeuristic(
        H, ref.true_cutoff(H) if predictor == "oracle" else ref.cutoff_of(predictor, H), **options
    ),
    "br-h": lambda H, predictor="oracle", **options: ref.Brh(
        H, ref.true_cutoff(H) if predictor == "oracle" else ref.cutoff_of(predictor, H), **options
    ),
}


class Whim:
    """A predictor that is wrong, and different for every age, prompt and key."""

    def predict(self, age: Any, prompt: Any, key: Any, horizon: int) -> tuple[Any, Any]:
        mix = np.asarray(age) * 7 + np.asarray(prompt) * 3 + np.asarray(key) * 5
        if horizon == 0:
            return np.zeros(len(mix)), np.ones(len(mix))
        return (mix % 5) / 4, 1 + (mix % (2 * horizon - 1)) / 2

    def __repr__(self) -> str:
        return "Whim()"


@dataclass
class Outcome:
    """What both engines say about a run, in plain lists."""

    start: list[int]
    first_start: list[int]
    worker: list[int]
    release: list[int]
    steps: list[int]
    peak: list[int]
    total: list[int]
    least: list[int]
    most_active: list[int]
    least_active: list[int]
    time: list[float]
    preemptions: int
    metrics: Callable[[Any], dict[str, Any]]


class Stuck(Exception):
    """The run cannot go on, in either engine."""


def run(
    engine: str,
    inst: bro.Instance,
    cluster: bro.Cluster,
    name: Any,
    options: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    staleness: float = 0,
    optimistic: bool = False,
) -> Outcome:
    """One run of the router `name`, or of a rule of the reference as a user's router, on one engine."""
    how: dict[str, Any] = {"seed": seed, "staleness": staleness, "optimistic": optimistic}
    if engine == "reference":
        rule = RULES[name](**(options or {})) if isinstance(name, str) else name
        try:
            plain = ref.simulate(inst, cluster, rule, **how)
        except ref.Stuck as exc:
            raise Stuck from exc
        return Outcome(
            plain.start,
            plain.first_start,
            plain.worker,
            plain.release,
            plain.steps,
            plain.peak,
            plain.total,
            plain.least,
            [max(c) for c in plain.counts],
            [min(c) for c in plain.counts],
            plain.time,
            plain.preemptions,
            lambda window: ref.metrics(plain, cluster, window),
        )
    router = bro.ROUTERS[name](**(options or {})) if isinstance(name, str) else AsUserRouter(name)
    try:
        fast = bro.simulate(inst, cluster, router, **how, **({"live": True} if engine == "live" else {}))
    except bro.RouterError as exc:
        raise Stuck from exc
    return Outcome(
        fast.schedule.start.tolist(),
        fast.first_start.tolist(),
        fast.schedule.worker.tolist(),
        fast.instance.release.tolist(),
        fast.steps.step.tolist(),
        fast.peak_loads.tolist(),
        fast.steps.total.tolist(),
        fast.steps.least.tolist(),
        fast.steps.most_active.tolist(),
        fast.steps.least_active.tolist(),
        fast.steps.time.tolist(),
        fast.preemptions,
        lambda window: dict(fast.metrics(window=window)),
    )


class AsUserRouter:
    """A rule of the reference as a user's Python router of the package, so that the views are compared as well."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule
        self.mode = rule.mode
        if hasattr(rule, "reset"):
            self.reset = rule.reset

    def route(self, view: Any) -> tuple[list[int], list[int]]:
        pool = [ref.Request(i, s, 0) for i, s in zip(view.pool.index.tolist(), view.pool.prompt.tolist(), strict=True)]
        chosen = self.rule.route(self._plain(view, pool))
        return [r.index for r, _ in chosen], [g for _, g in chosen]

    def bind(self, view: Any, request: Any) -> int:
        return self.rule.bind(self._plain(view, []), ref.Request(int(request.index), int(request.prompt), 0))

    @staticmethod
    def _plain(view: Any, pool: list[ref.Request]) -> ref.View:
        requests = [
            ref.Request(i, s, 0, view.step - age, g, key)
            for i, s, age, g, key in zip(
                *(getattr(view.requests, name).tolist() for name in ("index", "prompt", "age", "worker", "key")),
                strict=True,
            )
        ]
        return ref.View(
            step=view.step,
            load=view.load.tolist(),
            active=view.active.tolist(),
            queued=view.queued.tolist(),
            queued_tokens=view.queued_tokens.tolist(),
            active_blocks=view.blocks.tolist(),
            queue_blocks=view.queued_blocks.tolist(),
            fresh=True,
            free=view.free.tolist(),
            room=view.room.tolist(),
            inflight=view.own.tolist(),
            pool=pool,
            requests=requests,
        )


class Script:
    """A pooled rule that admits request i to worker g as soon as the step reaches k: ``{i: (k, g)}``.

    What it was shown in each call is kept in ``calls``: (step, loads, free slots, pool).
    """

    mode = "pooled"

    def __init__(self, plan: dict[int, tuple[int, int]]) -> None:
        self.plan = plan
        self.calls: list[tuple[int, list[int], list[int], list[int]]] = []

    def route(self, view: ref.View) -> list[tuple[ref.Request, int]]:
        self.calls.append((view.step, view.load, view.free, [r.index for r in view.pool]))
        return [(r, self.plan[r.index][1]) for r in view.pool if self.plan[r.index][0] <= view.step]
