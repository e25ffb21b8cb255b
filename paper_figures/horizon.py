"""How BR-H depends on its horizon, discount and overflow weight, with true and with predicted lengths."""

from __future__ import annotations

from typing import Any

from . import style
from .common import Size, cluster, workload

CELLS = (("azure-2023-conv", 0.8), ("azure-2023-conv", 1.1), ("bfio", 1.1))
"""Workloads and offered loads."""
HORIZONS = (0, 1, 2, 5, 10, 20, 40, 80, 160)
GAMMAS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
BETAS = (1, 2, 4, 8, 16, 43, 100)
PREDICTORS = ("oracle", "survival")
DEFAULTS = {"H": 80, "gamma": 0.9, "beta": 8}


def options() -> dict[str, list[tuple[float, str]]]:
    """Parameter -> its values and the routers' options; the others are at :data:`DEFAULTS` (beta = G)."""
    return {
        "H": [(h, f"H={h}") for h in HORIZONS],
        "gamma": [(g, f"gamma={g}") for g in GAMMAS],
        "beta": [(b, f"beta={b}") for b in BETAS],
    }


def generate(size: Size) -> Any:
    """A study per workload and load with one router per setting; bfio with five samples."""
    import polars as pl

    chosen = {name: values[:: size.of(1, 3)] for name, values in options().items()}
    specs = {
        f"br-h:predictor={p}:{text}": (p, name, value)
        for name, values in chosen.items()
        for value, text in values
        for p in PREDICTORS
    }
    parts = [
        size.study(
            workloads=[workload(name, size.smoke, 6000)],
            clusters=[cluster(size.smoke)],
            routers=[*specs, "br-0"],
            utilizations=(load,),
            seeds=size.of(5, 1),
            training=0.2,
            window=(0.1, 0.9),
        )
        for name, load in size.of(CELLS, CELLS[1:])
    ]
    told = pl.DataFrame(
        [(spec, *what) for spec, what in specs.items()],
        schema={"router": pl.String, "predictor": pl.String, "parameter": pl.String, "value": pl.Float64},
        orient="row",
    )
    return pl.concat(parts).join(told, on="router", how="left", maintain_order="left").select(
        "workload", "requests", "workers", "slots", "offered", "window", "router", "predictor", "parameter", "value",
        "seed", "excess", "above_item", "bound_item_status", "version",
    )  # fmt: skip


def plot(table: Any) -> Any:
    """One panel per parameter and cell."""
    import matplotlib.pyplot as plt
    import polars as pl

    table = table.with_columns(excess=100 * pl.col("excess"))
    cells = table.select("workload", "offered").unique(maintain_order=True).rows()
    figure, panels = plt.subplots(len(cells), 3, figsize=(style.COLUMN, 0.9 + 1.3 * len(cells)), sharey="row",
                                  sharex="col", squeeze=False, layout="constrained")  # fmt: skip
    titles = {"H": "horizon H\n(steps)", "gamma": "discount γ\nper step", "beta": "overflow\nweight β"}
    looks = {"oracle": ("br-h", "true lengths"), "survival": ("br-h:predictor=survival", "survival")}
    for row, (workload_name, load) in enumerate(cells):
        part = table.filter((pl.col("workload") == workload_name) & (pl.col("offered") == load))
        base = part.filter(pl.col("router") == "br-0")["excess"].mean()
        for axes, name in zip(panels[row], titles, strict=True):
            axes.axhline(base, color=style.BLUE, linewidth=0.9, linestyle=(0, (4, 2)), label="br-0")
            axes.axvline(DEFAULTS[name], color="0.85", linewidth=2.5, zorder=0)
            for predictor, (router, text) in looks.items():
                own = part.filter((pl.col("parameter") == name) & (pl.col("predictor") == predictor))
                own = style.means(own, ["value"], "excess").sort("value")
                look = style.line(router) | {"label": text, "clip_on": True}
                style.curve(axes, own["value"], own["excess"], own["half"], look)
            if name == "H":
                axes.set_xscale("symlog", base=2, linthresh=1)
                axes.set_xticks([0, 1, 5, 20, 80], ["0", "1", "5", "20", "80"])
            elif name == "gamma":
                axes.set_xticks([0.3, 0.6, 0.9], ["0.3", "0.6", "0.9"])
            else:
                axes.set_xscale("log")
                axes.set_xticks([1, 8, 43], ["1", "8", "43"])
            axes.minorticks_off()
            axes.set_xlabel(titles[name] if row == len(cells) - 1 else "")
        shown = part.filter((pl.col("parameter") != "beta") | (pl.col("value") > 1))["excess"].max()
        panels[row, 0].set(
            ylabel=f"{workload_name},\nload {load:g}:\nexcess (%)", ylim=(0, 1.15 * shown)
        )  # beta = 1 goes out of sight
    style.head(figure, "azure: one replay; bfio: 5 samples, 95 % bands; grey: default")
    style.below(figure, panels[0, 0], 3)
    return figure
