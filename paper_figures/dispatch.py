"""Time of one decision through the live path against pool, workers and horizon."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

import balanceroute_opt as bro
from balanceroute_opt.predictors import Survival
from balanceroute_opt.routers import ActiveView

from . import style
from .common import Size

SLOTS, FREE = 72, 4
POOLS, WORKERS, HORIZONS = (10, 50, 200, 1000, 4000), (4, 8, 16, 32, 72, 144), (5, 10, 20, 40, 80, 160)
BASE = {"pool": 200, "workers": 8, "horizon": 80}
PUBLISHED_MS = (1.20, 2.77)


def generate(size: Size) -> Any:
    """Some thousand calls per point, all in one process."""
    import polars as pl

    tasks = []
    axes = {
        "pool": size.of(POOLS, POOLS[:2]),
        "workers": size.of(WORKERS, (4, 8)),
        "horizon": size.of(HORIZONS, (5, 20)),
    }
    for axis, values in axes.items():
        for value in values:
            point = BASE | {axis: value}
            for router in ("br-0", "br-h"):
                if not (axis == "horizon" and router == "br-0"):
                    tasks.append({"axis": axis, "router": router, "calls": size.of(6000, 100), **point})
    return pl.DataFrame(replace(size, jobs=1).rows(decisions, tasks))


def decisions(axis: str, router: str, calls: int, pool: int, workers: int, horizon: int) -> dict[str, Any]:
    """Milliseconds of ``route(view)``, building the view not counted.

    Processor time of the thread: on a quiet machine that is the time that passes, and elsewhere what other programs
    take is no property of the rule.
    """
    rng = np.random.default_rng(0)
    lengths = Survival(np.random.default_rng(1).geometric(1 / 200, 20_000))
    rule = bro.routers.BR0() if router == "br-0" else bro.routers.BRH(H=horizon, predictor=lengths)
    views = []
    for _ in range(20):
        active = np.full(workers, SLOTS)
        np.subtract.at(active, rng.integers(0, workers, FREE), 1)
        worker = np.repeat(np.arange(workers), active)
        prompt, age = rng.integers(1, 4000, len(worker)), rng.integers(1, 900, len(worker))
        views.append(
            bro.View(
                load=np.bincount(worker, prompt + age, workers).astype(np.int64),
                active=active,
                slots=SLOTS,
                pool=rng.integers(1, 4000, pool),
                requests=ActiveView(np.arange(len(worker)), worker, prompt, age, np.full(len(worker), -1)),
            )
        )
        rule.route(views[-1])
    times = np.empty(calls)
    for call in range(calls):
        view = views[call % len(views)]
        begin = time.thread_time()
        rule.route(view)
        times[call] = time.thread_time() - begin
    p50, p99 = 1e3 * np.percentile(times, (50, 99))
    what = {"axis": axis, "router": router, "pool": pool, "workers": workers, "horizon": horizon, "slots": SLOTS}
    return what | {"free_slots": FREE, "calls": calls, "p50_ms": p50, "p99_ms": p99, "version": bro.__version__}


def plot(table: Any) -> Any:
    """One panel per size; median, and up to p99."""
    import matplotlib.pyplot as plt
    import polars as pl

    titles = {"pool": "requests that\nwait", "workers": "workers", "horizon": "horizon H\n(steps)"}
    figure, panels = plt.subplots(1, 3, figsize=(style.COLUMN, 2.5), sharey=True, layout="constrained")
    for axes, (axis, title) in zip(panels, titles.items(), strict=True):
        part = table.filter(pl.col("axis") == axis)
        axes.axhspan(
            *PUBLISHED_MS, color="0.86", linewidth=0, label="published, p50 to p99 (8 workers, other hardware)"
        )
        for router in part["router"].unique(maintain_order=True):
            own = part.filter(pl.col("router") == router)
            look = style.line(router) | {"label": f"{router}: p50, band to p99", "clip_on": True}
            axes.plot(own[axis], own["p50_ms"], **look)
            axes.fill_between(own[axis], own["p50_ms"], own["p99_ms"], color=look["color"], alpha=0.2, linewidth=0)
        axes.set(xscale="log", yscale="log", xlabel=title)
        ticks = part[axis].unique().sort().to_list()[::2]
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.minorticks_off()
    panels[0].set_yticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
    panels[0].set(ylabel="one decision\n(ms of processor time)", ylim=(0.008, 4))
    style.below(figure, panels[0], 1)
    return figure
