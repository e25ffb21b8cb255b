"""Loads over a stretch of steps under JSQ, BR-0 and BR-H, with the certified bound on each run's own placement."""

from __future__ import annotations

from typing import Any

import numpy as np

import balanceroute_opt as bro
from balanceroute_opt.oracles.floors import step_bounds

from . import style
from .common import Size, cluster, instance

ROUTERS = ("jsq", "br-0", "br-h")
NAME, UTILIZATION = "azure-2023-conv", 1.1


def generate(size: Size) -> Any:
    """One row per step and router; seconds."""
    import polars as pl

    where = cluster(size.smoke)
    inst = instance(NAME, size.smoke).scaled_to(where, UTILIZATION)
    first, count = size.of((4000, 600), (60, 120))
    parts = []
    for router in ROUTERS:
        run = bro.simulate(inst, where, router)
        bound = step_bounds(run.instance, where, run.schedule.start, "pigeonhole")
        claim = bro.placement_bound(run.instance, where, run.schedule.start, "pigeonhole")
        if bro.verify(run.instance, where, claim.certificate) != int(bound.peak.sum()):
            raise bro.CertificateError("the bound's steps do not sum to what its certificate proves")
        window = slice(first, first + count)
        steps = run.steps
        parts.append(
            pl.DataFrame(
                {
                    "workload": NAME,
                    "router": router,
                    "step": np.arange(len(steps))[window],
                    "max": steps.peak[window],
                    "mean": steps.total[window] / where.workers,
                    "min": steps.least[window],
                    "bound": bound.peak[window],
                    "above_whole_run": run.peak_sum / claim.value - 1,
                }
            )
        )
        size.progress and size.progress(len(parts), len(ROUTERS))
    return pl.concat(parts)


def plot(table: Any) -> Any:
    """Three panels with one scale."""
    import matplotlib.pyplot as plt
    import polars as pl

    figure, panels = plt.subplots(3, 1, figsize=(style.COLUMN, 4.0), sharex=True, sharey=True, layout="constrained")
    for axes, router in zip(panels, ROUTERS, strict=True):
        part = table.filter(pl.col("router") == router)
        step, scale = part["step"].to_numpy(), 1e3
        colour = style.ROUTERS[router][0]
        axes.fill_between(
            step,
            part["min"] / scale,
            part["max"] / scale,
            color="0.86",
            linewidth=0,
            label="fullest to emptiest worker",
        )
        axes.plot(step, part["max"] / scale, color=colour, linewidth=0.9)
        axes.plot(step, part["bound"] / scale, color="black", linewidth=0.9, linestyle=(0, (3, 1.2)),
                  label="certified: no placement goes below")  # fmt: skip
        lost = part["max"].sum() / part["mean"].sum() - 1
        axes.set_title(f"{style.label(router)}: {100 * lost:.1f} % over equal loads here", color=colour)
    panels[1].set_ylabel("KV tokens of a worker (thousands)")
    panels[2].set_xlabel("decode step")
    panels[0].set_ylim(bottom=0.8 * table["min"].min() / 1e3)
    panels[0].margins(x=0)
    style.head(figure, f"{NAME}, load {UTILIZATION:g}, one replay")
    style.below(figure, panels[0], 1)
    return figure
