"""Herding: loads that are some time old, with and without the router's own decisions added."""

from __future__ import annotations

from typing import Any

from . import style
from .common import Size, cluster, workload

NAME, UTILIZATION = "azure-2023-conv", 0.9
ROUTERS = ("jsq", "po2", "random", "least-kv", "br-0", "br-0-least-load")
INTERVALS = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def generate(size: Size) -> Any:
    """A study on the wall clock."""
    from balanceroute_opt.experiments.summaries import summary

    table = size.study(
        workloads=[workload(NAME, size.smoke)],
        clusters=[cluster(size.smoke)],
        routers=ROUTERS,
        utilizations=(UTILIZATION,),
        staleness=size.of(INTERVALS, (0.0, 0.1, 1.0)),
        optimistic=(False, True),
        seeds=size.of(5, 1),
        window=(0.1, 0.9),
    )
    means = summary(table, ["excess", "tpot_p95", "throughput", "above_item"])
    return means.select(
        "workload", "workers", "slots", "offered", "window", "staleness", "optimistic", "router", "runs",
        "excess", "excess_half_width", "tpot_p95", "throughput", "above_item",
    )  # fmt: skip


def plot(table: Any) -> Any:
    """Left without, right with increments; the first point is a fresh view."""
    import matplotlib.pyplot as plt
    import polars as pl

    figure, panels = plt.subplots(1, 2, figsize=(style.COLUMN, 2.5), sharey=True, layout="constrained")
    for axes, optimistic in zip(panels, (False, True), strict=True):
        part = table.filter((pl.col("optimistic") == optimistic) | (pl.col("staleness") == 0))
        for router in part["router"].unique(maintain_order=True):
            own = part.filter(pl.col("router") == router).sort("staleness")
            half = 100 * own["excess_half_width"].fill_null(0)
            style.curve(axes, 1e3 * own["staleness"], 100 * own["excess"], half, style.line(router))
        axes.set_xscale("symlog", linthresh=5, linscale=0.5)
        axes.set_xticks([0, 20, 200, 2000], ["0", "20", "200", "2000"])
        axes.minorticks_off()
        axes.set_xlabel("view renewed every (ms)")
        axes.set_title("own decisions added" if optimistic else "snapshot only")
    panels[0].set_ylabel("excess over equal loads (%)")
    panels[0].set_ylim(bottom=0)
    style.head(figure, f"{table['workload'][0]}, load {table['offered'][0]:g}, one trace; po2, random: 5 seeds")
    style.below(figure, panels[0], 3)
    return figure
