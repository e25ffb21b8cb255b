"""What free migration would buy: bounds that let requests move between windows of T steps, up to the best placement."""

from __future__ import annotations

from typing import Any

import balanceroute_opt as bro

from . import style
from .common import Size

LOADS, SEEDS, WINDOWS = (0.5, 0.7, 0.9, 1.1), (0, 1, 2), (1, 2, 4, 8, 16, 32)
REQUESTS, WORKERS, SLOTS = 60, 3, 6
METHODS = ("fluid", "item", "pigeonhole", "migration")
EFFORT = ((3_000_000, 20_000), (20_000, 500))
"""Moves of the search for the best placement and nodes of each window, in full and in smoke size."""


def generate(size: Size) -> Any:
    """One row per load, sample and method; windows are the expensive ones."""
    import polars as pl

    cells = [(load, seed) for load in size.of(LOADS, (0.7,)) for seed in size.of(SEEDS, (0,))]
    windows = [f"{how} {T}" for T in size.of(WINDOWS[1:], (2, 4)) for how in ("window", "claimed-window")]
    kinds = [*METHODS, "best", *windows]
    moves, nodes = size.of(*EFFORT)
    effort = {"n": size.of(REQUESTS, 24), "moves": moves, "nodes": nodes}
    tasks = [{"load": load, "seed": seed, "kind": kind, **effort} for load, seed in cells for kind in kinds]
    return pl.DataFrame(size.rows(value, tasks), infer_schema_length=None)


def value(load: float, seed: int, kind: str, n: int, moves: int, nodes: int) -> dict[str, Any]:
    """A bound on, or the best known, ``peak_sum`` for the starts of least-kv."""
    where = bro.Cluster(WORKERS, SLOTS)
    options = {"prompt_mu": 6.5, "prompt_sigma": 0.9, "output_mu": 2.8, "output_sigma": 0.7}
    inst = bro.generate("poisson-lognormal", n=n, seed=seed, clock="step", rate=0.001, **options)
    inst = inst.scaled_to(where, utilization=load)
    run = bro.simulate(inst, where, "least-kv")
    start = run.schedule.start
    row = {"load": load, "seed": seed, "requests": n, "workers": WORKERS, "slots": SLOTS, "least_kv": run.peak_sum}
    if kind == "best":
        found = bro.solve_placement(inst, where, start, 600.0, "search", seed, node_limit=moves, warm=run.schedule)
        return row | {"method": "best", "window": None, "value": int(found.objective), "status": "best known"}
    method, _, width = kind.partition(" ")
    if not width:
        bound = bro.placement_bound(inst, where, start, method)
    else:
        proved = method == "window"
        bound = bro.placement_bound(inst, where, start, "window", nodes, window=int(width), certificate=proved)
    if bound.certificate is not None and bro.verify(inst, where, bound.certificate) != bound.value:
        raise bro.CertificateError(f"the bound {kind} is not what its certificate proves")
    steps = int(width) if width else 1 if method == "migration" else None
    return row | {"method": method, "window": steps, "value": bound.value, "status": bound.status}


def plot(table: Any) -> Any:
    """One panel per load: windows over T, between the item bound and the best placement."""
    import matplotlib.pyplot as plt
    import polars as pl

    fluid = table.filter(pl.col("method") == "fluid").select("load", "seed", fluid="value")
    table = table.join(fluid, on=["load", "seed"]).with_columns(above=100 * (pl.col("value") / pl.col("fluid") - 1))
    loads = table["load"].unique().sort().to_list()
    rows = -(-len(loads) // 2)
    figure, panels = plt.subplots(rows, min(2, len(loads)), figsize=(style.COLUMN, 0.9 + 1.5 * rows), sharex=True,
                                  sharey=True, squeeze=False, layout="constrained")  # fmt: skip
    flat = {
        "best": (style.BLACK, "-", "best placement known"),
        "item": (style.GREY, (0, (1, 1.2)), "bound: no request is split"),
    }
    looks = {
        "claimed-window": (style.ORANGE, "s", "white", "requests may move every T steps: claimed"),
        "window": (style.BLUE, "o", style.BLUE, "the same, certified"),
    }
    for axes, load in zip(panels.flat, loads, strict=False):
        part = table.filter(pl.col("load") == load)
        for method, (colour, dashes, text) in flat.items():
            mean = part.filter(pl.col("method") == method)["above"].mean()
            axes.axhline(mean, color=colour, linestyle=dashes, label=text)
        for method, (colour, marker, fill, text) in looks.items():
            # Windows of one step are the migration bound.
            own = part.filter(pl.col("method").is_in([method, "migration"]))
            own = style.means(own, ["window"], "above").sort("window")
            axes.plot(own["window"], own["above"], color=colour, marker=marker, markerfacecolor=fill, label=text)
        axes.set_title(f"load {load:g}")
        axes.set_xscale("log", base=2)
        ticks = table["window"].drop_nulls().unique().sort().to_list()
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
    panels[0, 0].set_ylim(bottom=0)
    for axes in panels[-1]:
        axes.set_xlabel("T (steps)")
    figure.supylabel("sum of largest loads, above fluid (%)", fontsize=7.5)
    samples = f"{table['seed'].n_unique()} samples of {table['requests'][0]} requests"
    style.head(figure, f"{WORKERS} workers, {SLOTS} slots; means of {samples}")
    style.below(figure, panels[0, 0], 1)
    return figure
