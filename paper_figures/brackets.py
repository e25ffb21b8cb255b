"""Brackets of whole traces against time: certified bounds from below, the best placement known from above."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import balanceroute_opt as bro
from balanceroute_opt.experiments.workload import prepare

from . import style
from .common import Size, cluster, instance

CASES = (
    ("azure-2023-conv", 0.6), ("azure-2023-conv", 0.8), ("azure-2023-conv", 1.1),
    ("azure-2023-code", 0.8), ("mooncake-conversation", 0.8), ("bfio", 0.8),
)  # fmt: skip
ROUTER = "least-kv"
METHODS = ("fluid", "item", "pigeonhole", "migration")
SECONDS = (60.0, 0.5)
"""Of search, in full and in smoke size."""
POINTS = 60
"""Of a curve."""
FIRST = 1e-3
"""Seconds at the left end."""


def generate(size: Size) -> Any:
    """A point per bound, and the incumbents of one search; one process each."""
    import polars as pl

    seconds = size.of(*SECONDS)
    tasks = [{"name": n, "load": u, "seconds": seconds, "smoke": size.smoke} for n, u in CASES[:: size.of(1, 4)]]
    kinds = ("kind", "seconds", "value")
    rows = [
        {k: v for k, v in row.items() if k != "points"} | dict(zip(kinds, point, strict=True))
        for row in size.rows(curve, tasks)
        for point in row["points"]
    ]
    return pl.DataFrame(rows)


def curve(name: str, load: float, seconds: float, smoke: bool) -> dict[str, Any]:
    """Bounds and incumbents for the admission steps of least-kv, with the seconds since the beginning of each."""
    where = cluster(smoke)
    inst = prepare(instance(name, smoke), where, clock="step", utilization=load)
    run = bro.simulate(inst, where, ROUTER)
    start = run.schedule.start
    small = bro.Instance([0, 0, 0], [3, 2, 2], [1, 1, 1])  # so that no time counts compilation
    points: list[tuple[str, float, int]] = []
    spent = 0.0
    for method in METHODS:
        bro.placement_bound(small, where, [0, 0, 0], method)
        began = time.perf_counter()
        bound = bro.placement_bound(inst, where, start, method)
        spent += time.perf_counter() - began
        if bro.verify(inst, where, bound.certificate) != bound.value:
            raise bro.CertificateError(f"the bound {method} is not what its certificate proves")
        points.append((method, spent, int(bound.value)))
    found = bro.search_placement(inst, where, run.schedule, time_limit=seconds)
    at = np.array([t for t, _, _ in found.trajectory])
    last = np.searchsorted(at, np.geomspace(FIRST, found.seconds, POINTS), side="right") - 1
    points += [("search", float(at[k]), int(found.trajectory[k][2])) for k in np.unique([0, *last, len(at) - 1])]
    return {
        "workload": name, "requests": len(inst), "workers": where.workers, "slots": where.slots, "load": load,
        "starts": ROUTER, "search_seconds": seconds, "points": points,
    }  # fmt: skip


def plot(table: Any) -> Any:
    """One panel per workload and load, in per cent over the best bound."""
    import matplotlib.pyplot as plt
    import polars as pl
    from matplotlib.ticker import NullFormatter

    best = pl.col("value").filter(pl.col("kind") != "search").max().over("workload", "load")
    table = table.with_columns(above=100 * (pl.col("value") / best - 1))
    cases = table.partition_by("workload", "load", maintain_order=True)
    rows = -(-len(cases) // 2)
    figure, panels = plt.subplots(rows, 2, figsize=(style.COLUMN, 1.0 + 1.35 * rows), sharex=True, squeeze=False,
                                  layout="constrained")  # fmt: skip
    for axes, part in zip(panels.flat, cases, strict=False):
        end = float(part["search_seconds"][0])
        found = part.filter(pl.col("kind") == "search")
        x = np.append(np.maximum(found["seconds"].to_numpy(), FIRST), end)
        y = np.append(found["above"].to_numpy(), found["above"][-1])
        axes.step(x, y, where="post", color=style.RED, label="best placement known")
        bounds = part.filter(pl.col("kind") != "search")
        x = np.append(np.maximum(bounds["seconds"].to_numpy(), FIRST), end)
        y = np.maximum.accumulate(np.append(bounds["above"].to_numpy(), 0.0))
        axes.step(x, y, where="post", color=style.BLUE, linestyle=(0, (4, 1.2)), label="certified bound")
        axes.annotate(f"{found['above'][-1]:.1f}", (end, found["above"][-1]), (2, 0), textcoords="offset points",
                      va="center", fontsize=6.5, color=style.RED, annotation_clip=False)  # fmt: skip
        axes.set_title(f"{part['workload'][0]}\nload {part['load'][0]:g}, n = {part['requests'][0]:,}")
        axes.set(xscale="log", xlim=(FIRST, end), ylim=(None, 1.05 * max(1.0, found["above"].max())))
        axes.xaxis.set_minor_formatter(NullFormatter())
    for axes in panels.flat[len(cases) :]:
        axes.set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("seconds of one process")
    figure.supylabel("sum of largest loads, above the best bound (%)", fontsize=7.5)
    style.head(figure, f"admission steps of {ROUTER}; step clock")
    style.below(figure, panels[0, 0], 2)
    return figure
