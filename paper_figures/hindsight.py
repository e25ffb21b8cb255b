"""For every router and trace the bracket of its hindsight ratio: certified lower bound above, best known below."""

from __future__ import annotations

from typing import Any

import balanceroute_opt as bro
from balanceroute_opt.experiments.workload import prepare
from balanceroute_opt.oracles.reinsertion import reinsertion

from . import style
from .common import TRACES, Size, cluster, instance

NAMES = (*TRACES, "bfio")
UTILIZATION, BOUND = 0.8, "pigeonhole"
LEFT_OUT = ("llumnix", "bf-io")
"""Llumnix needs a KV capacity; BF-IO solves a program in every step."""


def generate(size: Size) -> Any:
    """One row per router and workload: a few seconds each."""
    import polars as pl

    routers = [name for name in bro.ROUTERS if name not in LEFT_OUT][:: size.of(1, 5)]
    tasks = [
        {"name": name, "router": router, "smoke": size.smoke, "utilization": UTILIZATION, "passes": size.of(60, 5)}
        for name in NAMES[:: size.of(1, 3)]
        for router in routers
    ]
    return pl.DataFrame(size.rows(bracket, tasks), infer_schema_length=None)


def bracket(name: str, router: str, smoke: bool, utilization: float, passes: int) -> dict[str, Any]:
    """One run, the bound on its placement problem, and the best placement that is known for the same starts."""
    where = cluster(smoke)
    inst = prepare(instance(name, smoke), where, utilization=utilization)
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
        "utilization": utilization,
        "router": router,
        "told_lengths": router == "br-h",
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
    """One panel per workload, routers sorted by their mean upper end."""
    import matplotlib.pyplot as plt
    import polars as pl

    names = table["workload"].unique(maintain_order=True).to_list()
    order = table.group_by("router").agg(pl.col("upper").mean()).sort("upper", descending=True)["router"].to_list()
    height = 0.9 + 0.28 * len(order) * -(-len(names) // 2) / 2
    figure, panels = plt.subplots(-(-len(names) // 2), 2, figsize=(style.COLUMN, height), sharey=True, squeeze=False,
                                  layout="constrained")  # fmt: skip
    for axes, name in zip(panels.flat, names, strict=True):
        part = table.filter(pl.col("workload") == name)
        for row in part.iter_rows(named=True):
            y = order.index(row["router"])
            low, high = 100 * (row["lower"] - 1), 100 * (row["upper"] - 1)
            colour = style.RED if row["told_lengths"] else style.BLUE
            axes.plot([low, high], [y, y], color=colour, linewidth=3.2, alpha=0.35, solid_capstyle="butt")
            axes.plot([low], [y], marker="|", color=colour, markersize=6, markeredgewidth=1.2)
            axes.plot([high], [y], marker="o", color=colour)
        axes.set_title(f"{name}\n({part['requests'][0]:,} requests)")
        axes.set_xlim(left=0)
        axes.grid(axis="x", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
    panels[0, 0].set_yticks(range(len(order)), order)
    figure.supxlabel("sum of largest loads above the best placement\nwith the same admission steps (%)", fontsize=7.5)
    (dot,) = panels[0, 0].plot([], [], "o", color=style.BLUE)
    (bar,) = panels[0, 0].plot([], [], "|", color=style.BLUE, markersize=6, markeredgewidth=1.2)
    figure.legend([bar, dot], ["at least (a better placement is known)", "at most (certified bound)"],
                  loc="outside upper left", ncols=1)  # fmt: skip
    return figure
