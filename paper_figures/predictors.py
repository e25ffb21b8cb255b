"""How good must a prediction be? BR-H against BR-0 at stated error rates, and with predictors that can be had."""

from __future__ import annotations

from typing import Any

from . import style
from .common import Size, cluster, workload

NAMES, UTILIZATION = ("azure-2023-conv", "azure-2024-long", "bfio"), 1.1
RATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
KINDS = {"both": "missed and false ends", "fnr": "missed ends only", "fpr": "false ends only"}
REAL = {"survival": "survival", "fitted": "fitted classifier"}


def generate(size: Size) -> Any:
    """A study: a noisy oracle per kind and rate of error, real predictors fitted on the first fifth, BR-0."""
    import polars as pl

    rates = size.of(RATES, RATES[::3])
    specs: dict[str, list[tuple[str, float]]] = {}
    for kind in KINDS:
        for rate in rates:
            fnr, fpr = (rate if kind in ("both", name) else 0.0 for name in ("fnr", "fpr"))
            specs.setdefault(f"br-h:predictor=noisy-oracle:fpr={fpr}:fnr={fnr}", []).append((kind, rate))
    real = size.of(tuple(REAL), ("survival",))
    table = size.study(
        workloads=[workload(name, size.smoke) for name in NAMES],
        clusters=[cluster(size.smoke)],
        routers=[*specs, *(f"br-h:predictor={name}" for name in real), "br-0"],
        utilizations=(UTILIZATION,),
        seeds=size.of(10, 1),
        training=0.2,
        window=(0.1, 0.9),
    )
    told = pl.DataFrame(
        [(spec, *what) for spec, whats in specs.items() for what in whats],
        schema={"router": pl.String, "error": pl.String, "rate": pl.Float64},
        orient="row",
    )
    return table.join(told, on="router", how="left", maintain_order="left").select(
        "workload", "requests", "workers", "slots", "offered", "window", "router", "error", "rate", "seed",
        "excess", "above_item", "bound_item_status", "version",
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
    levels = {
        "br-h:predictor=survival": (style.PINK, (0, (1, 1.2)), "survival (from the first fifth)"),
        "br-h:predictor=fitted": (style.BLACK, (0, (3, 1, 1, 1)), "classifier (from the first fifth)"),
    }
    rows = table.select("workload", "seed", "excess", "router").rows()
    plain = {(name, seed): value for name, seed, value, router in rows if router == "br-0"}
    # On a trace, br-0 draws nothing and has one run, which stands for every seed.
    change = [100 * (value / plain.get((name, seed), plain[name, 0]) - 1) for name, seed, value, _ in rows]
    table = table.with_columns(pl.Series("change", change))
    names = table["workload"].unique(maintain_order=True).to_list()
    figure, panels = plt.subplots(1, len(names), figsize=(style.COLUMN, 2.9), sharey=True, layout="constrained")
    for axes, name in zip(panels, names, strict=True):
        part = table.filter(pl.col("workload") == name)
        for kind, text in KINDS.items():
            own = style.means(part.filter(pl.col("error") == kind), ["rate"], "change").sort("rate")
            colour, marker, dashes = looks[kind]
            look = {"color": colour, "marker": marker, "linestyle": dashes, "label": f"true lengths with {text}"}
            # Bands for one kind only: the others' are as wide, and three hide each other.
            style.curve(axes, own["rate"], own["change"], (1.0 if kind == "both" else 0.0) * own["half"], look)
        for router, (colour, dashes, text) in levels.items():
            mean = part.filter(pl.col("router") == router)["change"].mean()
            if mean is not None:
                axes.axhline(mean, color=colour, linestyle=dashes, label=text)
        axes.axhline(0, color="0.5", linewidth=0.6)
        axes.set(xlabel="error rate", xticks=[0, 0.25, 0.5])
        axes.set_title(name.replace("-", "-\n", 1) if len(names) > 1 else name)
    panels[0].set_ylabel("excess of br-h against\nbr-0 (%, same sample)")
    style.head(figure, f"load {table['offered'][0]:g}; {table['seed'].n_unique()} seeds; band: 95 %, first line")
    style.below(figure, panels[0], 1)
    return figure
