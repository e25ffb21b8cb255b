"""From 4 to 144 workers at the same load per worker."""

from __future__ import annotations

from typing import Any

import balanceroute_opt as bro
from balanceroute_opt.experiments.study import Workload

from . import style
from .common import Size

ROUTERS = ("jsq", "least-kv", "br-0", "br-0-least-load", "br-h")
WORKERS = (4, 8, 16, 32, 72, 144)
PER_WORKER, UTILIZATION = 250, 1.1


def generate(size: Size) -> Any:
    """A study per number of workers: requests grow with them."""
    import polars as pl

    parts = []
    for workers in size.of(WORKERS, (2, 4)):
        table = size.study(
            workloads=[Workload(generate="bfio", n=workers * size.of(PER_WORKER, 60))],
            clusters=[bro.Cluster(workers, size.of(72, 12))],
            routers=ROUTERS,
            utilizations=(UTILIZATION,),
            seeds=size.of(2, 1),
            window=(0.2, 0.7),
        )
        parts.append(table)
    columns = (
        "workload", "requests", "workers", "slots", "offered", "window", "router", "seed", "excess",
        "throughput", "above_item", "bound_item_status", "tpot_p95", "seconds", "instance", "version",
    )  # fmt: skip
    return pl.concat(parts).select(columns)


def plot(table: Any) -> Any:
    """Excess; tokens per second and worker."""
    import matplotlib.pyplot as plt
    import polars as pl

    means = table.group_by("router", "workers", maintain_order=True).agg(pl.col("excess", "throughput").mean())
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.PAGE, 2.6), layout="constrained")
    for router in means["router"].unique(maintain_order=True):
        own = means.filter(pl.col("router") == router)
        x = own["workers"].to_numpy()
        left.plot(x, 100 * own["excess"].to_numpy(), **style.line(router))
        right.plot(x, own["throughput"].to_numpy() / x, **style.line(router))
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(means["workers"].unique().sort().to_list(), means["workers"].unique().sort().to_list())
        axes.minorticks_off()
        axes.set_xlabel("workers")
    left.set_ylabel("excess: time lost to\nimbalance (% of attention)")
    right.set_ylabel("throughput (tokens/s per worker)")
    left.set_ylim(bottom=0)
    style.below(figure, left, 5)
    return figure
