"""Metrics of a run, by the names of ``docs/model.md``, section 4."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._validate import Float64Array, Int64Array
from .errors import InputError
from .instance import Cluster

__all__ = ["METRICS", "StepSeries", "percentile", "run_metrics", "step_metrics", "window_bounds"]

Window = str | tuple[float, float]

METRICS: dict[str, tuple[str, str]] = {
    "imbalance_sum": ("tokens", "G*max - sum of loads, mean over steps"),
    "imbalance_range": ("tokens", "max - min of loads, mean over steps"),
    "imbalance_gap": ("tokens", "max - mean of loads, mean over steps"),
    "excess": ("ratio", "sum of maxima over sum of means, minus 1"),
    "idle": ("ratio", "1 - mean/max of loads, mean over steps"),
    "max_over_min_load_p50": ("ratio", "max/min of loads, median over steps"),
    "max_over_min_load_p90": ("ratio", "max/min of loads, 90th percentile over steps"),
    "max_over_min_load_p95": ("ratio", "max/min of loads, 95th percentile over steps"),
    "max_over_min_requests_p50": ("ratio", "max/min of active requests, median over steps"),
    "max_over_min_requests_p90": ("ratio", "max/min of active requests, 90th percentile over steps"),
    "max_over_min_requests_p95": ("ratio", "max/min of active requests, 95th percentile over steps"),
    "throughput": ("tokens/s", "generated tokens over decode time (wall clock: over elapsed time)"),
    "decode_time": ("s", "sum of step times"),
    "steps": ("steps", "active steps"),
    "peak_sum": ("token-steps", "sum of the largest loads"),
    "tpot_p50": ("s/token", "time from admission to end over tokens, median over requests"),
    "tpot_p95": ("s/token", "the same, 95th percentile"),
    "tpot_p99": ("s/token", "the same, 99th percentile"),
    "wait_p50": ("wait_unit", "release to admission, median over requests"),
    "wait_p99": ("wait_unit", "the same, 99th percentile"),
    "wait_max": ("wait_unit", "the same, maximum"),
    "ttft_p50": ("s", "wait and first step, median over requests (step clock: seconds of decode time)"),
    "ttft_p99": ("s", "the same, 99th percentile"),
    "energy": ("J", "sum over steps and workers of power times step time"),
    "preemptions": ("requests", "requests put back because a worker outgrew its KV capacity"),
    "dispatch_p50": ("s", "router time per call, median (nan unless measured)"),
    "dispatch_p99": ("s", "the same, 99th percentile"),
}
"""Every numeric metric: name -> (unit, meaning)."""


@dataclass(frozen=True, eq=False)
class StepSeries:
    """One entry per active step, in order.

    Attributes
    ----------
    step : ndarray of int64, shape (K,)
        Step number (step clock), or 0 .. K-1 (wall clock).
    time : ndarray of float64, shape (K,)
        Start of the step in seconds (wall clock; 0 in the step clock).
    peak, total, least : ndarray of int64, shape (K,), tokens
        Largest, summed and smallest load of the workers.
    active, most_active, least_active : ndarray of int64, shape (K,)
        Active requests in all, on the worker with most and on the worker with fewest.
    energy : ndarray of float64, shape (K,), joules
    """

    step: Int64Array
    time: Float64Array
    peak: Int64Array
    total: Int64Array
    least: Int64Array
    active: Int64Array
    most_active: Int64Array
    least_active: Int64Array
    energy: Float64Array

    def __len__(self) -> int:
        return len(self.step)


def window_bounds(window: Window, steps: int, last_admission: int) -> tuple[int, int]:
    """Positions ``lo, hi`` (half open) of a window on the axis of `steps` active steps.

    Parameters
    ----------
    window : "all", "loaded" or (float, float)
        Every active step; up to and including the last admission's step; or a fraction range.
    steps : int
    last_admission : int
        Position of the step of the last admission.

    Raises
    ------
    InputError
        If the window is neither of these, or its fractions are not ``0 <= lo < hi <= 1``.
    """
    if window == "all":
        return 0, steps
    if window == "loaded":
        return 0, min(last_admission + 1, steps)
    if not isinstance(window, str):
        try:
            lo, hi = (float(x) for x in window)
        except (TypeError, ValueError):
            pass
        else:
            if 0 <= lo < hi <= 1:
                return math.floor(lo * steps), math.ceil(hi * steps)
    raise InputError(f'window must be "all", "loaded" or fractions (lo, hi) with 0 <= lo < hi <= 1, got {window!r}')


def percentile(values: NDArray[Any], q: float) -> float:
    """Linear interpolation between order statistics; infinite if it touches an infinite one, nan if empty."""
    if not len(values):
        return math.nan
    position = (len(values) - 1) * q / 100
    low = math.floor(position)
    part = np.partition(np.asarray(values, np.float64), (low, min(low + 1, len(values) - 1)))
    below, weight = float(part[low]), position - low
    if weight == 0:
        return below
    above = float(part[low + 1])
    return math.inf if math.isinf(above) else below + weight * (above - below)


def step_metrics(steps: StepSeries, cluster: Cluster, elapsed: float | None = None) -> dict[str, float]:
    """The metrics that come from steps alone; `elapsed` (seconds) replaces decode time in the throughput."""
    workers, count = cluster.workers, len(steps)
    peak, total = steps.peak, steps.total
    peak_sum, work = int(peak.sum()), int(total.sum())
    decode_time = cluster.step_time.seconds_of(count, peak_sum, work, workers)
    tokens = int(steps.active.sum())
    spent = decode_time if elapsed is None else elapsed
    result: dict[str, float] = {
        "imbalance_sum": (workers * peak_sum - work) / count if count else math.nan,
        "imbalance_range": (peak_sum - int(steps.least.sum())) / count if count else math.nan,
        "imbalance_gap": (peak_sum - work / workers) / count if count else math.nan,
        "excess": workers * peak_sum / work - 1 if count else math.nan,
        "idle": float(1 - (total / (workers * peak)).mean()) if count else math.nan,
    }
    for name, most, least in (
        ("load", peak, steps.least),
        ("requests", steps.most_active, steps.least_active),
    ):
        with np.errstate(divide="ignore"):
            ratio = most / least
        for q in (50, 90, 95):
            result[f"max_over_min_{name}_p{q}"] = percentile(ratio, q)
    result |= {
        "throughput": tokens / spent if spent > 0 else math.nan,
        "decode_time": decode_time,
        "steps": count,
        "peak_sum": peak_sum,
        "energy": float(steps.energy.sum()),
    }
    return result


def run_metrics(run: Any, window: Window = "all") -> Mapping[str, Any]:
    """All metrics of a run over a window of its steps.

    Parameters
    ----------
    run : Run
    window : "all", "loaded" or (float, float)
        Step metrics are over these steps, request metrics over the requests first admitted in them.

    Returns
    -------
    dict
        The names of :data:`METRICS`, and ``wait_unit`` ("steps" or "s") and ``window``.
    """
    steps: StepSeries = run.steps
    first = np.searchsorted(steps.step, run.first_start)
    last_admission = int(np.searchsorted(steps.step, run.schedule.start.max())) if len(first) else -1
    lo, hi = window_bounds(window, len(steps), last_admission)
    chosen = StepSeries(*(getattr(steps, name)[lo:hi] for name in StepSeries.__dataclass_fields__))
    tau = run.cluster.step_time.seconds(steps.peak, steps.total, run.cluster.workers)
    wall = run.arrival is not None
    begin = steps.time if wall else np.concatenate(([0.0], np.cumsum(tau)))[:-1]
    elapsed = float(begin[hi - 1] + tau[hi - 1] - begin[lo]) if wall and hi > lo else None
    result: dict[str, Any] = step_metrics(chosen, run.cluster, elapsed)

    inside = (first >= lo) & (first < hi)
    first = first[inside]
    output = run.instance.output[inside]
    last = np.searchsorted(steps.step, run.finish[inside])
    tpot = (begin[last] + tau[last] - begin[first]) / output
    if wall:
        wait = begin[first] - run.arrival[inside]
        ttft = wait + tau[first]
    else:
        wait = run.first_start[inside] - run.instance.release[inside]
        # Waiting steps cost what the active ones among them cost.
        ttft = begin[first] + tau[first] - begin[np.searchsorted(steps.step, run.instance.release[inside])]
    for q in (50, 95, 99):
        result[f"tpot_p{q}"] = percentile(tpot, q)
    for q in (50, 99):
        result[f"wait_p{q}"] = percentile(wait, q)
        result[f"ttft_p{q}"] = percentile(ttft, q)
        result[f"dispatch_p{q}"] = math.nan if run.dispatch is None else percentile(run.dispatch, q)
    result["wait_max"] = float(wait.max()) if len(wait) else math.nan
    result["preemptions"] = run.preemptions
    ordered = {name: result[name] for name in METRICS}
    return ordered | {"wait_unit": "s" if wall else "steps", "window": window}
