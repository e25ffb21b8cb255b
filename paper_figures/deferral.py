"""What waiting for a margin buys: excess against mean wait, and the best placement known for the same admissions."""

from __future__ import annotations

from typing import Any

import balanceroute_opt as bro
from balanceroute_opt.experiments.specs import router_from
from balanceroute_opt.experiments.workload import prepare

from . import style
from .common import Size, cluster, instance

NAME, UTILIZATION = "azure-2023-conv", 0.8
ROUTERS = ("br-0-least-load", "least-kv", *(f"deferral:max_wait={d}" for d in (0, 1, 2, 4, 8, 12, 16, 32)))
HINDSIGHT = ("least-kv", *(f"deferral:max_wait={d}" for d in (1, 2, 4, 8, 16)))
SECONDS = 120.0


def generate(size: Size) -> Any:
    """A run per router, and for some a search from it; up to the last admission, as later nothing is decided."""
    import polars as pl

    routers = size.of(ROUTERS, ("least-kv", "deferral:max_wait=8"))
    searched = size.of(HINDSIGHT, ("least-kv",))
    seconds = size.of(SECONDS, 0.5)
    tasks = [{"router": r, "seconds": seconds if r in searched else 0.0, "smoke": size.smoke} for r in routers]
    return pl.DataFrame(size.rows(row, tasks))


def row(router: str, seconds: float, smoke: bool) -> dict[str, Any]:
    """One run, and the best placement that `seconds` of search find for its admission steps."""
    machines = cluster(smoke)
    inst = prepare(instance(NAME, smoke), machines, clock="step", utilization=UTILIZATION)
    run = bro.simulate(inst, machines, router_from(router)[1])
    loaded = run.steps.step <= run.schedule.start.max()
    work = int(run.steps.total[loaded].sum())

    def excess(peaks: Any) -> float:
        return float(machines.workers * int(peaks[loaded].sum()) / work - 1)

    hindsight = None
    if seconds:
        found = bro.search_placement(inst, machines, run.schedule, time_limit=seconds)
        hindsight = excess(bro.peak_loads(inst, machines, found.schedule))
    wait = run.first_start - inst.release
    return {
        "workload": NAME,
        "workers": machines.workers,
        "slots": machines.slots,
        "utilization": UTILIZATION,
        "router": router,
        "wait_mean": float(wait.mean()),
        "wait_max": int(wait.max()),
        "excess": excess(run.peak_loads),
        "hindsight": hindsight,
    }


def plot(table: Any) -> Any:
    """One frontier of runs, one of placements in hindsight."""
    import matplotlib.pyplot as plt
    import polars as pl

    figure, axes = plt.subplots(figsize=(style.COLUMN, 2.4), layout="constrained")
    ours = pl.col("router").str.starts_with("deferral")
    own = table.filter(ours)
    axes.plot(own["wait_mean"], 100 * own["excess"], color=style.RED, marker="o", label="deferral", clip_on=False)
    for wait, excess, router in own.select("wait_mean", "excess", "router").iter_rows():
        bound = router.rpartition("=")[2]
        if bound not in ("12", "16"):
            axes.annotate(bound, (wait, 100 * excess), (3, 3), textcoords="offset points", fontsize=6)
    known = table.filter((ours | (pl.col("router") == "least-kv")) & pl.col("hindsight").is_not_null())
    known = known.sort("wait_mean")
    axes.plot(known["wait_mean"], 100 * known["hindsight"], color=style.GREY, marker="v", linestyle=(0, (3, 1.5)),
              label="best placement known", clip_on=False)  # fmt: skip
    for router in table.filter(~ours)["router"]:
        at = table.filter(pl.col("router") == router)
        axes.plot(at["wait_mean"], 100 * at["excess"], **{**style.line(router), "linestyle": "none"})
    axes.set(xlabel="mean wait (steps)", ylabel="excess over equal loads (%)", ylim=(0, None), xlim=(0, None))
    style.head(figure, f"{table['workload'][0]}, load {table['utilization'][0]:g}, one replay; numbers: max_wait")
    style.below(figure, axes, 2)
    return figure
