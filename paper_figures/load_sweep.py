"""From idle to overloaded: where balancing tokens helps, and where it gains nothing."""

from __future__ import annotations

from typing import Any

from . import style
from .common import Size, cluster, workload

ROUTERS = ("jsq", "least-kv", "br-0", "br-0-least-load", "br-h")
NAMES = ("azure-2023-conv", "bfio")
LOADS = tuple(round(0.3 + 0.1 * k, 1) for k in range(11))


def generate(size: Size) -> Any:
    """A study; bfio with three samples, the trace once."""
    from balanceroute_opt.experiments.summaries import summary

    table = size.study(
        workloads=[workload(name, size.smoke, 6000) for name in NAMES],
        clusters=[cluster(size.smoke)],
        routers=ROUTERS,
        utilizations=size.of(LOADS, (0.5, 1.1)),
        seeds=size.of(3, 2),
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

    figure, panels = plt.subplots(2, 2, figsize=(style.PAGE, 4.0), sharex=True, sharey="row", layout="constrained")
    for column, name in enumerate(table["workload"].unique(maintain_order=True)):
        part = table.filter(pl.col("workload") == name)
        base = part.filter(pl.col("router") == "jsq")["tpot_p95"].to_numpy()
        for router in part["router"].unique(maintain_order=True):
            own = part.filter(pl.col("router") == router)
            x = own["offered"].to_numpy()
            half = own["excess_half_width"].fill_null(0).to_numpy()
            if half.any():
                y = own["excess"].to_numpy()
                panels[0, column].fill_between(x, 100 * (y - half), 100 * (y + half), linewidth=0, alpha=0.15,
                                               color=style.ROUTERS[router][0])  # fmt: skip
            panels[0, column].plot(x, 100 * own["excess"].to_numpy(), **style.line(router))
            panels[1, column].plot(x, 100 * (own["tpot_p95"].to_numpy() / base - 1), **style.line(router))
        runs = part["runs"].max()
        panels[0, column].set_title(f"{name} ({'one replay' if runs == 1 else f'{runs} samples, 95 % bands'})")
        panels[1, column].set_xlabel("offered load (1 = all slots busy)")
        panels[0, column].axvline(1, color="0.8", linewidth=0.6, zorder=0)
        panels[1, column].axvline(1, color="0.8", linewidth=0.6, zorder=0)
    panels[0, 0].set_ylabel("excess: time lost to\nimbalance (% of attention)")
    panels[1, 0].set_ylabel("time per token, p95,\nagainst jsq (%)")
    panels[0, 0].set_ylim(bottom=0)
    style.below(figure, panels[0, 0], 5)
    return figure
