"""For every router and trace the bracket of its hindsight ratio: certified lower bound above, best known below."""

from __future__ import annotations

from typing import Any

import balanceroute_opt as bro
from balanceroute_opt.experiments.workload import prepare
from balanceroute_opt.oracles.reinsertion import reinsertion

from . import style
from .common import TRACES, Size, cluster, instance

NAMES, LOADS, BOUND = (*TRACES, "bfio"), (0.8, 1.1), "pigeonhole"
LEFT_OUT = ("llumnix", "bf-io")
"""Llumnix needs a KV capacity; BF-IO solves a program in every step."""


def generate(size: Size) -> Any:
    """One row per workload, load and router: a few seconds each."""
    import polars as pl

    routers = [name for name in bro.ROUTERS if name not in LEFT_OUT][:: size.of(1, 5)]
    tasks = [
        {"name": name, "router": router, "smoke": size.smoke, "load": load, "passes": size.of(60, 5)}
        for name in NAMES[:: size.of(1, 3)]
        for load in LOADS[:: size.of(1, 2)]
        for router in routers
    ]
    return pl.DataFrame(size.rows(bracket, tasks), infer_schema_length=None)


def bracket(name: str, router: str, smoke: bool, load: float, passes: int) -> dict[str, Any]:
    """One run, the bound on its placement problem, and the best placement that is known for the same starts."""
    where = cluster(smoke)
    inst = prepare(instance(name, smoke), where, utilization=load)
    run = bro.simulate(inst, where, router, seed=0)
    bound = bro.placement_bound(run.instance, where, run.schedule.start, BOUND)
    if bro.verify(run.instance, where, bound.certificate) != bound.value:
        raise bro.CertificateError(f"the bound on {router} on {name} is not what its certificate proves")
    found = [reinsertion(run.instance, where, run.schedule, passes, seed) for seed in range(2)]
    best = min([run.schedule, *found], key=lambda s: bro.peak_sum(run.instance, where, s))
    ratio = bro.hindsight_ratio(run, bound, best)
    return {
        "workload": name,
        "requests": len(inst),
        "workers": where.workers,
        "slots": where.slots,
        "load": load,
        "router": router,
        "seed": 0,
        "peak_sum": run.peak_sum,
        "bound": bound.value,
        "bound_method": BOUND,
        "bound_status": bound.status,
        "best_known": bro.peak_sum(run.instance, where, best),
        "lower": ratio.lower,
        "upper": ratio.upper,
        "instance": inst.digest(),
        "version": bro.__version__,
    }


def plot(table: Any) -> Any:
    """One panel per workload, routers sorted by their mean upper end, a bracket per load."""
    import matplotlib.pyplot as plt
    import polars as pl

    looks = dict(zip(LOADS, ((style.BLUE, "o", 0.2), (style.RED, "D", -0.2)), strict=True))
    names = table["workload"].unique(maintain_order=True).to_list()
    order = table.group_by("router").agg(pl.col("upper").mean()).sort("upper", descending=True)["router"].to_list()
    height = 1.1 + 0.32 * len(order) * -(-len(names) // 2) / 2
    figure, panels = plt.subplots(-(-len(names) // 2), 2, figsize=(style.COLUMN, height), sharey=True, squeeze=False,
                                  layout="constrained")  # fmt: skip
    for axes, name in zip(panels.flat, names, strict=True):
        part = table.filter(pl.col("workload") == name)
        for row in part.iter_rows(named=True):
            colour, marker, shift = looks[row["load"]]
            y = order.index(row["router"]) + shift
            low, high = 100 * (row["lower"] - 1), 100 * (row["upper"] - 1)
            axes.plot([low, high], [y, y], color=colour, linewidth=1.4, alpha=0.6, solid_capstyle="butt")
            axes.plot([low], [y], marker="|", color=colour, markersize=4, markeredgewidth=1)
            axes.plot([high], [y], marker=marker, color=colour, markersize=2.2)
        axes.set_title(f"{name}\n({part['requests'][0]:,} requests)")
        axes.set_xlim(left=0)
        axes.set_yticks(range(len(order)), order)
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
    figure.supxlabel("sum of largest loads above the best placement\nwith the same admission steps (%)", fontsize=7.5)
    entries = {}
    for load, (colour, marker, _) in looks.items():
        entries[f"load {load:g}, at least"] = plt.Line2D([], [], color=colour, marker="|", markersize=4)
        entries[f"load {load:g}, at most (certified)"] = plt.Line2D([], [], color=colour, marker=marker, markersize=2.2)
    figure.legend(entries.values(), entries, loc="outside upper left", ncols=2)
    return figure
