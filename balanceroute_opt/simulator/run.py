"""The result of a simulation."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .._validate import Float64Array, Int64Array
from ..instance import Cluster, Instance
from ..metrics import StepSeries, Window, run_metrics
from ..schedule import Schedule

__all__ = ["Run"]


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """What one router did on one instance.

    Attributes
    ----------
    instance : Instance
        On the step clock: the simulated one, or what a wall-clock run makes of it (``release`` = number of the
        first executed step that sees the request); the oracles work on it.
    cluster : Cluster
    router : str
        Name of the router.
    schedule : Schedule
        Start (last admission) and worker of every request, in the order of the instance.
    first_start : ndarray of int64, shape (n,)
        Step of the first admission; differs from ``schedule.start`` only for preempted requests.
    steps : StepSeries
        One entry per active step.
    preemptions : int
    remaining : ndarray of int64, shape (n,), or None
        Tokens that each request generates after its last admission; None where there were no preemptions.
    arrival : ndarray of float64, shape (n,), seconds, or None
        Arrival times of a wall-clock run.
    dispatch : ndarray of float64, seconds, or None
        Router time of every call, where it was measured (Python routers, and ``live=True``).
    seed : int or None
    staleness, optimistic
        As given to :func:`simulate`.
    source : str
        Digest of the instance that was simulated.
    unproved : int or None
        Steps whose decision was not proved optimal (``bf-io``); None for rules that claim nothing of the kind.
    """

    instance: Instance
    cluster: Cluster
    router: str
    schedule: Schedule
    first_start: Int64Array
    steps: StepSeries
    preemptions: int = 0
    remaining: Int64Array | None = None
    arrival: Float64Array | None = None
    dispatch: Float64Array | None = None
    seed: int | None = 0
    staleness: float = 0.0
    optimistic: bool = False
    source: str = ""
    unproved: int | None = None

    @property
    def peak_loads(self) -> Int64Array:
        """``max_g L_g`` of each active step, int64, tokens."""
        return self.steps.peak

    @cached_property
    def peak_sum(self) -> int:
        """``sum_k max_g L_g(k)`` token-steps: the objective of the placement problem."""
        return int(self.steps.peak.sum())

    @cached_property
    def decode_time(self) -> float:
        """Seconds of all active steps: the objective of the schedule problem."""
        work = int(self.steps.total.sum())
        return self.cluster.step_time.seconds_of(len(self.steps), self.peak_sum, work, self.cluster.workers)

    @cached_property
    def finish(self) -> Int64Array:
        """Last step of every request, shape (n,)."""
        # A preempted request has generated a part of its output before its last admission.
        left = self.instance.output if self.remaining is None else self.remaining
        return self.schedule.start + left - 1

    def metrics(self, window: Window = "all") -> dict[str, Any]:
        """Metrics by the names of ``docs/model.md``, section 4.

        Parameters
        ----------
        window : "all", "loaded" or (float, float)
            Every active step; up to and including the last admission's step; or a fraction range of the active steps.

        Raises
        ------
        InputError
            If the window is none of these.
        """
        return dict(run_metrics(self, window))

    def __repr__(self) -> str:
        excess = self.metrics()["excess"] if len(self.steps) else float("nan")
        return (
            f"Run({self.router!r} on {self.instance.name or 'instance'}: {len(self.instance):,} requests, "
            f"{len(self.steps):,} steps, peak_sum {self.peak_sum:,}, excess {excess:.2%}"
            + (f", {self.unproved:,} steps not proved)" if self.unproved else ")")
        )

    def _repr_html_(self) -> str:
        shown = {k: v for k, v in self.metrics().items() if not (isinstance(v, float) and np.isnan(v))}
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(k)}</th>"
            f"<td>{html.escape(f'{v:,.6g}' if isinstance(v, (int, float)) else str(v))}</td></tr>"
            for k, v in shown.items()
        )
        return f"<table><caption>{html.escape(repr(self))}</caption>{rows}</table>"
