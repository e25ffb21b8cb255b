"""From idle to overloaded: where balancing tokens helps, and where it gains nothing."""

from __future__ import annotations

from typing import Any

from . import style
from .common import Size, cluster, workload

ROUTERS = ("jsq", "least-kv", "br-0", "br-0-least-load", "br-h")
NAMES = ("azure-2023-conv", "bfio")
LOADS = tuple(round(0.3 + 0.1 * k, 1) for k in range(11))
WAITING = 0.1
"""Seconds at p99 from which requests count as waiting."""


def generate(size: Size) -> Any:
    """A study; bfio with five samples, the trace once."""
    from balanceroute_opt.experiments.summaries import summary

    table = size.study(
        workloads=[workload(name, size.smoke, 6000) for name in NAMES],
        clusters=[cluster(size.smoke)],
        routers=ROUTERS,
        utilizations=size.of(LOADS, (0.5, 1.1)),
        seeds=size.of(5, 2),
        window=(0.1, 0.9),
    )
    means = summary(table, ["excess", "above_item", "tpot_p95", "wait_p99", "throughput"])
    return means.select(
        "workload", "workers", "slots", "window", "offered", "router", "runs", "excess", "excess_half_width",
        "above_item", "tpot_p95", "tpot_p95_half_width", "wait_p99", "throughput",
    )  # fmt: skip


def plot(table: Any) -> Any:
    """Excess over load for both workloads; below, TPOT against JSQ's."""
    import matplotlib.pyplot as plt
    import polars as pl

    figure, panels = plt.subplots(2, 2, figsize=(style.COLUMN, 3.6), sharex=True, sharey="row", layout="constrained")
    for column, name in enumerate(table["workload"].unique(maintain_order=True)):
        part = table.filter(pl.col("workload") == name)
        base = part.filter(pl.col("router") == "jsq")["tpot_p95"].to_numpy()
        for router in part["router"].unique(maintain_order=True):
            own = part.filter(pl.col("router") == router)
            x, half = own["offered"], 100 * own["excess_half_width"].fill_null(0)
            style.curve(panels[0, column], x, 100 * own["excess"], half, style.line(router))
            panels[1, column].plot(x, 100 * (own["tpot_p95"].to_numpy() / base - 1), **style.line(router))
        runs = part["runs"].max()
        panels[0, column].set_title(f"{name}\n({'one replay' if runs == 1 else f'{runs} samples, 95 % bands'})")
        panels[1, column].set_xlabel("offered load")
        waits = part.filter((pl.col("router") == "br-0") & (pl.col("wait_p99") > WAITING))["offered"]
        for axes in panels[:, column]:
            axes.axvspan(waits.min() - 0.05, waits.max() + 0.05, color="0.93", linewidth=0, zorder=0)
        panels[0, column].text(waits.max() + 0.04, 0.97, "requests\nwait", ha="right", va="top", color="0.35",
                               fontsize=6.5, transform=panels[0, column].get_xaxis_transform())  # fmt: skip
    panels[0, 0].set_ylabel("excess over\nequal loads (%)")
    panels[1, 0].set_ylabel("time per token, p95,\nagainst jsq (%)")
    panels[0, 0].set(ylim=(0, None), xlim=(table["offered"].min() - 0.05, table["offered"].max() + 0.05))
    style.below(figure, panels[0, 0], 3)
    return figure
