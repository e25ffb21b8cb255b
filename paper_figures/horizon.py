"""How BR-H depends on its horizon, discount and overflow weight, with true and with predicted lengths."""

from __future__ import annotations

from typing import Any

from . import style
from .common import Size, cluster, workload

NAME, LOADS = "azure-2023-conv", (0.8, 1.1)
HORIZONS = (0, 5, 10, 20, 40, 80, 160)
GAMMAS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
BETAS = (1, 2, 4, 8, 16, 43, 100)
PREDICTORS = ("oracle", "survival")


def options() -> dict[str, list[tuple[float, str]]]:
    """Parameter -> its values and the routers' options; the others at the defaults H = 80, gamma = 0.9, beta = G."""
    return {
        "H": [(h, f"H={h}") for h in HORIZONS],
        "gamma": [(g, f"gamma={g}") for g in GAMMAS],
        "beta": [(b, f"beta={b}") for b in BETAS],
    }


def generate(size: Size) -> Any:
    """A study with one router per setting."""
    import polars as pl

    chosen = {name: values[:: size.of(1, 3)] for name, values in options().items()}
    specs = {
        f"br-h:predictor={p}:{text}": (p, name, value)
        for name, values in chosen.items()
        for value, text in values
        for p in PREDICTORS
    }
    table = size.study(
        workloads=[workload(NAME, size.smoke)],
        clusters=[cluster(size.smoke)],
        routers=[*specs, "br-0"],
        utilizations=size.of(LOADS, LOADS[1:]),
        training=0.2,
    )
    told = pl.DataFrame(
        [(spec, *what) for spec, what in specs.items()],
        schema={"router": pl.String, "predictor": pl.String, "parameter": pl.String, "value": pl.Float64},
        orient="row",
    )
    return table.join(told, on="router", how="left").select(
        "workload", "requests", "workers", "slots", "offered", "window", "router", "predictor", "parameter", "value",
        "excess", "above_item", "bound_item_status", "instance", "version",
    )  # fmt: skip


def plot(table: Any) -> Any:
    """One panel per parameter and load."""
    import matplotlib.pyplot as plt
    import polars as pl

    loads = table["offered"].unique(maintain_order=True).to_list()
    figure, panels = plt.subplots(len(loads), 3, figsize=(style.PAGE, 1.0 + 1.6 * len(loads)), sharey="row",
                                  squeeze=False, layout="constrained")  # fmt: skip
    titles = {"H": "horizon H (steps)", "gamma": "discount γ per step", "beta": "overflow weight β (G = 8 is neutral)"}
    looks = {"oracle": ("br-h", "true lengths"), "survival": ("br-h:predictor=survival", "predicted (survival)")}
    for row, load in enumerate(loads):
        part = table.filter(pl.col("offered") == load)
        base = 100 * part.filter(pl.col("router") == "br-0")["excess"][0]
        for axes, name in zip(panels[row], titles, strict=True):
            axes.axhline(base, color=style.BLUE, linewidth=0.9, linestyle=(0, (4, 2)), label="br-0: no prediction")
            for predictor, (router, text) in looks.items():
                own = part.filter((pl.col("parameter") == name) & (pl.col("predictor") == predictor))
                axes.plot(own["value"], 100 * own["excess"], **(style.line(router) | {"label": text}))
            if name == "H":
                axes.set_xscale("symlog", base=2, linthresh=5)
                axes.set_xticks([0, 5, 10, 20, 40, 80, 160], ["0", "5", "10", "20", "40", "80", "160"])
            elif name == "beta":
                axes.set_xscale("log")
                axes.set_xticks([1, 8, 43, 100], ["1", "8", "43", "100"])
            axes.minorticks_off()
            if row == len(loads) - 1:
                axes.set_xlabel(titles[name])
        panels[row, 0].set_ylabel(f"excess at load {load:g} (%)")
        panels[row, 0].set_ylim(bottom=0)
    style.below(figure, panels[0, 0], 3)
    return figure
