"""For every router and trace the bracket of its hindsight ratio: certified lower bound above, best known below."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import balanceroute_opt as bro
from balanceroute_opt.experiments.bracket import bracket
from balanceroute_opt.experiments.workload import prepare

from . import style
from .common import TRACES, Size, cluster, fill, instance

NAMES, LOADS, BOUND = (*TRACES, "bfio"), (0.8, 1.1), "pigeonhole"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "findings.md"
SHORT = {
    "azure-2023-conv": "azure conv",
    "azure-2023-code": "azure code",
    "mooncake-conversation": "Mooncake",
    "bfio": "bfio",
}
LEFT_OUT = ("llumnix", "bf-io")
"""Llumnix needs a KV capacity; BF-IO solves a program in every step."""
MOVES = (20_000_000, 50_000)
"""Of the search for the best placement of every run, in full and in smoke size."""


def generate(size: Size) -> Any:
    """A bracket per workload and load: runs, searches and bounds are kept task by task."""
    import polars as pl

    routers = [name for name in bro.ROUTERS if name not in LEFT_OUT][:: size.of(1, 5)]
    cells = [(name, load) for name in NAMES[:: size.of(1, 3)] for load in LOADS[:: size.of(1, 2)]]
    rows = []
    for name, load in cells:
        where = cluster(size.smoke)
        inst = prepare(instance(name, size.smoke), where, utilization=load)
        found = bracket(inst, where, routers, moves=size.of(*MOVES), bounds=(BOUND,), schedule=False,
                        jobs=size.jobs, store=size.store)  # fmt: skip
        problems = {problem.name: problem for problem in found.problems}
        for router in routers:
            row = next(row for row in found.rows if row["router"] == router)
            problem = problems[row["problem"]]
            rows.append(
                {
                    "workload": name,
                    "requests": len(inst),
                    "workers": where.workers,
                    "slots": where.slots,
                    "load": load,
                    "router": router,
                    "seed": 0,
                    "peak_sum": row["peak_sum"],
                    "best_known": problem.best_peak_sum,
                    "found_by": problem.found_by,
                    "bound": problem.bound,
                    "bound_method": problem.bound_method,
                    "bound_status": "certified",
                    "lower": 1 + row["above_best"],
                    "upper": 1 + row["above_bound"],
                    "instance": inst.digest(),
                    "version": bro.__version__,
                }
            )
        if size.progress is not None:
            size.progress(len(rows), len(cells) * len(routers))
    return pl.DataFrame(rows)


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
    entries = {
        f"load {load:g}": plt.Line2D([], [], color=colour, marker=marker, linewidth=1.4, markersize=3)
        for load, (colour, marker, _) in looks.items()
    }
    legend = figure.legend(entries.values(), entries, loc="outside upper left", ncols=2, alignment="left",
                           title="from |: a better placement is known, to ●: certified bound")  # fmt: skip
    legend.get_title().set_fontsize(7)
    return figure


def page(table: Any) -> Path:
    """Write the headline table of docs/findings.md: at least – at most, in per cent, best routers first."""
    import polars as pl

    cells = [(name, load) for name in table["workload"].unique(maintain_order=True) for load in LOADS]
    order = table.group_by("router").agg(pl.col("upper").mean()).sort("upper", "router")["router"].to_list()
    heads = [f"{SHORT[name]}, {load:g}" for name, load in cells]
    lines = ["", f"| router | {' | '.join(heads)} |", "|---" * (len(cells) + 1) + "|"]
    for router in order:
        ends = [
            table.filter((pl.col("router") == router) & (pl.col("workload") == name) & (pl.col("load") == load))
            for name, load in cells
        ]
        # Rounded outwards, so that what is said stays true.
        spans = [
            f"{math.floor(1000 * (end['lower'][0] - 1)) / 10:.1f} – {math.ceil(1000 * (end['upper'][0] - 1)) / 10:.1f}"
            for end in ends
        ]
        lines.append(f"| `{router}` | {' | '.join(spans)} |")
    widths = table.select(100 * (pl.col("best_known") / pl.col("bound") - 1)).to_series()
    below = f"\nBetween the best placement known and the bound lie {widths.min():.1f} to {widths.max():.1f} %."
    return fill(PAGE, "hindsight", {"headline": [*lines, below, ""]})
