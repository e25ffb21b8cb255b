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
        seeds=size.of(5, 1),
        window="all",
    )
    return table.select(
        "workload", "requests", "workers", "slots", "offered", "window", "router", "clairvoyant", "seed", "excess",
        "energy", "decode_time", "throughput", "version",
    )  # fmt: skip


def plot(table: Any) -> Any:
    """Energy and decode time of the same work relative to JSQ on the same sample."""
    import matplotlib.pyplot as plt
    import polars as pl

    names = table["workload"].unique(maintain_order=True).to_list()
    looks = {"decode_time": ("time", "D", style.ORANGE, "white"), "energy": ("energy", "o", style.BLUE, style.BLUE)}
    rows = table.select("workload", "seed", "router", *looks).rows(named=True)
    jsq = {(row["workload"], row["seed"]): row for row in rows if row["router"] == "jsq"}
    for value in looks:
        # On a trace, jsq draws nothing and has one run, which stands for every seed.
        base = [jsq.get((row["workload"], row["seed"]), jsq[row["workload"], 0])[value] for row in rows]
        table = table.with_columns((100 * (pl.col(value) / pl.Series(base) - 1)).alias(value))
    order = table.group_by("router").agg(pl.col("energy").mean()).sort("energy", descending=True)["router"].to_list()
    figure, panels = plt.subplots(
        1, len(names), figsize=(style.COLUMN, 3.1), sharex=True, sharey=True, layout="constrained"
    )
    for axes, name in zip(panels, names, strict=True):
        part = table.filter(pl.col("workload") == name)
        for value, (text, marker, colour, fill) in looks.items():
            for row in style.means(part, ["router"], value).iter_rows(named=True):
                axes.errorbar([row[value]], [order.index(row["router"])], xerr=[row["half"]], color=colour,
                              marker=marker, markerfacecolor=fill, elinewidth=0.8, capsize=1.2, label=text)  # fmt: skip
        axes.axvline(0, color="0.5", linewidth=0.6)
        axes.grid(axis="y", color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        seeds = part.filter(pl.col("router") == "jsq")["seed"].n_unique()
        axes.set_title(f"{name}\n({'one replay' if seeds == 1 else f'{seeds} samples, 95 %'})")
    panels[0].set_yticks(range(len(order)), order)
    panels[0].tick_params(axis="y", length=0)
    figure.supxlabel("same tokens: change against jsq (%)", fontsize=7.5)
    handles, labels = panels[0].get_legend_handles_labels()
    seen = dict(zip(labels, handles, strict=True))
    figure.legend(seen.values(), seen, loc="outside upper right", ncols=2)
    return figure
