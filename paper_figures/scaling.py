"""From 4 to 144 workers at the same load each: what imbalance costs, what balancing gains, what deciding takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import balanceroute_opt as bro
from balanceroute_opt.experiments.study import Workload

from . import style
from .common import Size

ROUTERS = ("jsq", "least-kv", "br-0", "br-0-least-load", "br-h")
WORKERS = (4, 8, 16, 32, 72, 144)
NAME, SHORT, UTILIZATION = "bfio", "poisson-lognormal", 1.1
"""SHORT stands in for NAME in smoke size: its outputs are six times shorter."""
PER_WORKER = (600, 24)
"""Requests per worker in full and in smoke size."""


def generate(size: Size) -> Any:
    """A study per number of workers (requests grow with them), and one live run each for the time of decisions."""
    import polars as pl

    workers, per_worker, slots = size.of(WORKERS, (2, 4)), size.of(*PER_WORKER), size.of(72, 12)
    name = size.of(NAME, SHORT)
    parts = [
        size.study(
            workloads=[Workload(generate=name, name=NAME, n=count * per_worker)],
            clusters=[bro.Cluster(count, slots)],
            routers=ROUTERS,
            utilizations=(UTILIZATION,),
            seeds=size.of(5, 1),
            window=(0.3, 0.8),
        )
        for count in workers
    ]
    tasks = [
        {"name": name, "router": router, "workers": count, "slots": slots, "n": count * per_worker}
        for count in workers
        for router in ROUTERS
    ]
    # One process, so that nothing of ours competes with what is timed.
    timed = pl.DataFrame(replace(size, jobs=1).rows(decisions, tasks))
    columns = (
        "workload", "requests", "workers", "slots", "offered", "window", "router", "seed", "excess", "throughput",
        "above_item", "bound_item_status", "tpot_p95", "instance", "version",
    )  # fmt: skip
    table = pl.concat(parts).select(columns)
    return table.join(timed, on=["router", "workers"], how="left", maintain_order="left")


def decisions(name: str, router: str, workers: int, slots: int, n: int) -> dict[str, Any]:
    """Router time of a call in a run that asks as a dispatcher would."""
    where = bro.Cluster(workers, slots)
    inst = bro.generate(name, n=n, seed=0).scaled_to(where, UTILIZATION)
    bro.simulate(inst.head(min(n, 4 * slots)), where, router, live=True)  # compiles
    timed = bro.simulate(inst, where, router, live=True).metrics()
    return {"router": router, "workers": workers} | {name: timed[name] for name in ("dispatch_p50", "dispatch_p99")}


def plot(table: Any) -> Any:
    """Excess; throughput against JSQ on the same sample; time of a decision."""
    import matplotlib.pyplot as plt
    import polars as pl

    base = table.filter(pl.col("router") == "jsq").select("workers", "seed", base="throughput")
    table = table.join(base, on=["workers", "seed"]).with_columns(
        excess=100 * pl.col("excess"),
        gain=100 * (pl.col("throughput") / pl.col("base") - 1),
        micro=1e6 * pl.col("dispatch_p50"),
    )
    figure, panels = plt.subplots(3, 1, figsize=(style.COLUMN, 4.8), sharex=True, layout="constrained")
    for axes, value in zip(panels, ("excess", "gain", "micro"), strict=True):
        means = style.means(table, ["router", "workers"], value)
        for router in means["router"].unique(maintain_order=True):
            own = means.filter(pl.col("router") == router)
            half = own["half"] if value != "micro" else 0 * own["half"]  # one live run per point
            style.curve(axes, own["workers"], own[value], half, style.line(router))
    panels[0].set(ylabel="excess over\nequal loads (%)", ylim=(0, None))
    panels[1].set_ylabel("tokens/s against jsq\n(%, same sample)")
    panels[2].set(ylabel="one decision\n(µs, median)", yscale="log", xlabel="workers")
    panels[2].set_yticks([10, 30, 100, 300], ["10", "30", "100", "300"])
    panels[2].set_xscale("log", base=2)
    ticks = table["workers"].unique().sort().to_list()
    panels[2].set_xticks(ticks, [str(tick) for tick in ticks])
    panels[2].minorticks_off()
    runs = table["seed"].n_unique()
    panels[0].set_title(f"{NAME}, load {UTILIZATION:g}: mean of {runs} samples, 95 % bands")
    style.below(figure, panels[0], 3)
    return figure
