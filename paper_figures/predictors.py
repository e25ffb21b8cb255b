"""How good must a prediction be? Excess of BR-H against stated error rates, and with predictors that can be had."""

from __future__ import annotations

from typing import Any

from . import style
from .common import Size, cluster, workload

NAMES, UTILIZATION = ("azure-2023-conv", "bfio"), 1.1
RATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
KINDS = {"both": "missed and false ends", "fnr": "missed ends only", "fpr": "false ends only"}
REAL = {"survival": "survival", "fitted": "fitted classifier"}


def generate(size: Size) -> Any:
    """A study: a noisy oracle per kind and rate of error, real predictors fitted on the first fifth, BR-0."""
    import polars as pl

    rates = size.of(RATES, RATES[::3])
    specs = {}
    for kind in KINDS:
        for rate in rates:
            fnr, fpr = (rate if kind in ("both", name) else 0.0 for name in ("fnr", "fpr"))
            specs.setdefault(f"br-h:predictor=noisy-oracle:fpr={fpr}:fnr={fnr}", []).append((kind, rate))
    real = size.of(tuple(REAL), ("survival",))
    routers = [*specs, *(f"br-h:predictor={name}" for name in real), "br-0"]
    table = size.study(
        workloads=[workload(name, size.smoke, 6000) for name in NAMES],
        clusters=[cluster(size.smoke)],
        routers=routers,
        utilizations=(UTILIZATION,),
        seeds=size.of(2, 1),
        training=0.2,
    )
    told = pl.DataFrame(
        [(spec, *what) for spec, whats in specs.items() for what in whats],
        schema={"router": pl.String, "error": pl.String, "rate": pl.Float64},
        orient="row",
    )
    return table.join(told, on="router", how="left").select(
        "workload", "requests", "workers", "slots", "offered", "window", "router", "error", "rate", "seed",
        "excess", "above_item", "bound_item_status", "instance", "version",
    )  # fmt: skip


def plot(table: Any) -> Any:
    """Lines for kinds of error; level lines for what can be had."""
    import matplotlib.pyplot as plt
    import polars as pl

    looks = {
        "both": (style.RED, "P", "-"),
        "fnr": (style.ORANGE, "s", (0, (4, 1.5))),
        "fpr": (style.GREEN, "v", (0, (1, 1))),
    }
    names = table["workload"].unique(maintain_order=True).to_list()
    figure, panels = plt.subplots(1, len(names), figsize=(style.PAGE, 2.8), layout="constrained")
    for axes, name in zip(panels, names, strict=True):
        part = table.filter(pl.col("workload") == name)
        for kind, text in KINDS.items():
            own = (
                part.filter(pl.col("error") == kind).group_by("rate", maintain_order=True).agg(pl.col("excess").mean())
            )
            colour, marker, dashes = looks[kind]
            axes.plot(own["rate"], 100 * own["excess"], color=colour, marker=marker, linestyle=dashes,
                      label=f"told lengths, with {text}")  # fmt: skip
        level = {"br-0": (style.BLUE, (0, (6, 2)), "br-0: no prediction")}
        level["br-h:predictor=survival"] = (style.PINK, (0, (1, 1.2)), "br-h with survival")
        level["br-h:predictor=fitted"] = (style.BLACK, (0, (3, 1, 1, 1)), "br-h with a fitted classifier")
        for router, (colour, dashes, text) in level.items():
            mean = part.filter(pl.col("router") == router)["excess"].mean()
            if mean is not None:
                axes.axhline(100 * mean, color=colour, linestyle=dashes, label=text)
        axes.set(title=f"{name}, load {part['offered'][0]:g}", xlabel="error rate of a prediction", ylim=(0, None))
    panels[0].set_ylabel("excess: time lost to\nimbalance (% of attention)")
    style.below(figure, panels[0], 2)
    return figure
