"""Energy per token: fuller workers set the time, and emptier ones burn idle power meanwhile."""

from __future__ import annotations

from typing import Any

import balanceroute_opt as bro

from . import style
from .common import Size, cluster, workload

NAMES, UTILIZATION = ("azure-2023-conv", "bfio"), 1.1
LEFT_OUT = ("llumnix", "bf-io", "bf-io-heuristic")


def generate(size: Size) -> Any:
    """A study of all routers over whole runs: all generate the same tokens."""
    table = size.study(
        workloads=[workload(name, size.smoke, 6000) for name in NAMES],
        clusters=[cluster(size.smoke)],
        routers=[name for name in bro.ROUTERS if name not in LEFT_OUT],
        utilizations=(UTILIZATION,),
        window="all",
    )
    return table.select(
        "workload", "requests", "workers", "slots", "offered", "window", "router", "clairvoyant", "seed", "excess",
        "energy", "decode_time", "throughput",
        "instance", "version",
    )  # fmt: skip


def plot(table: Any) -> Any:
    """Energy of the same work against excess, relative to JSQ."""
    import matplotlib.pyplot as plt
    import polars as pl

    names = table["workload"].unique(maintain_order=True).to_list()
    base = table.filter(pl.col("router") == "jsq").select("workload", base="energy")
    table = table.join(base, on="workload").with_columns(more=100 * (pl.col("energy") / pl.col("base") - 1))
    order = table.group_by("router").agg(pl.col("more").mean()).sort("more", descending=True)["router"].to_list()
    figure, panels = plt.subplots(1, len(names), figsize=(style.PAGE, 3.0), sharey=True, layout="constrained")
    for axes, name in zip(panels, names, strict=True):
        part = table.filter(pl.col("workload") == name)
        for row in part.iter_rows(named=True):
            y, value = order.index(row["router"]), row["more"]
            colour = style.ORANGE if row["clairvoyant"] else style.BLUE
            axes.plot([0, value], [y, y], color=colour, linewidth=1.2, alpha=0.5)
            axes.plot([value], [y], marker="o", color=colour)
        axes.axvline(0, color="0.5", linewidth=0.6)
        axes.set_title(f"{name}, load {part['offered'][0]:g}: jsq {part['base'][0] / 1e6:.2f} MJ")
        axes.set_xlabel("energy for the same tokens, against jsq (%)")
    panels[0].set_yticks(range(len(order)), [r + (" (told lengths)" if r == "br-h" else "") for r in order])
    return figure
