"""Worst cases: the ratio that two constructions force, against the number of workers, and whole families."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import balanceroute_opt as bro
from balanceroute_opt.worstcase.constructions import big_request, survivors

from . import style
from .common import Size

ROUTERS = ("jsq", "least-kv", "br-0", "br-h")
LENGTH, PROMPT = 16, 1000
FAMILY = {"requests": 5, "prompts": (1, 3), "outputs": (1, 4), "releases": 2}
SMALL = {"requests": 3, "prompts": (1,), "outputs": (1, 3), "releases": 0}


def construction(name: str, router: str, workers: int) -> dict[str, Any]:
    """A router on a construction, over the placement that its proof names."""
    cluster = bro.Cluster(workers, 2 * workers)
    inst = survivors(router, cluster, LENGTH) if name == "survivors" else big_request(cluster, PROMPT, LENGTH)
    run = bro.simulate(inst, cluster, router)
    if name == "survivors":  # the long ones apart, the others beside them
        worker = [0] * len(inst)
        for long in (True, False):
            for j, i in enumerate(k for k in range(len(inst)) if (inst.output[k] > 1) == long):
                worker[i] = j % workers
    else:  # the equal ones on all workers but one
        worker = [i // workers for i in range(len(inst) - 1)] + [workers - 1]
    better = bro.Schedule(run.schedule.start, worker)
    bro.check(inst, cluster, better)
    ratio = Fraction(run.peak_sum, bro.peak_sum(inst, cluster, better))
    return {"what": name, "name": router, "workers": workers, "ratio": float(ratio), "exact": str(ratio)}


def family(name: str, smoke: bool) -> dict[str, Any]:
    """The exact worst ratio of a router over the family, or the value of the game on it."""
    where = bro.Family(**(SMALL if smoke else FAMILY))
    if name in ROUTERS:
        ratio = bro.worst_case(name, where, bro.Cluster(2, where.requests)).ratio
    else:
        kind, _, information = name.partition(", ")
        information = f"lengths {information}"
        ratio = (
            bro.game_value(where, 2, information).value
            if kind == "any rule"
            else bro.randomized_value(where, 2, information).upper
        )
    return {"what": "family", "name": name, "workers": 2, "ratio": float(ratio), "exact": str(ratio)}


def generate(size: Size) -> Any:
    """Both constructions for G = 2 .. 16, and one family examined completely."""
    import polars as pl

    tasks = [
        {"name": name, "router": router, "workers": G}
        for name in ("survivors", "big request")
        for router in ROUTERS
        for G in size.of((2, 3, 4, 6, 8, 12, 16), (2, 3))
    ]
    rows = size.rows(construction, tasks)
    games = [f"{kind}, {known}" for kind in ("any rule", "with coins") for known in ("unknown", "known")]
    rows += size.rows(family, [{"name": name, "smoke": size.smoke} for name in (*ROUTERS, *games)])
    return pl.DataFrame(rows)


def plot(table: Any) -> Any:
    """Left: ratio against workers. Right: the family, routers above what any rule could guarantee."""
    import matplotlib.pyplot as plt
    import polars as pl

    figure, (left, right) = plt.subplots(1, 2, figsize=(style.COLUMN, 2.5), layout="constrained")
    for name, text in (("survivors", "lengths\nunknown"), ("big request", "lengths known")):
        part = table.filter(pl.col("what") == name)
        for router in ROUTERS:
            own = part.filter(pl.col("name") == router)
            left.plot(own["workers"], own["ratio"], **style.line(router))
        j = own["workers"].len() // 2
        left.annotate(text, (own["workers"][j], own["ratio"][j]), xytext=(7, -9 if name == "survivors" else 6),
                      textcoords="offset points", fontsize=6.5)  # fmt: skip
    left.set_xlabel("workers")
    left.set_ylabel("hindsight ratio at least")
    left.set_ylim(bottom=1)
    left.set_title("constructions")
    part = table.filter(pl.col("what") == "family").sort("ratio", descending=True)
    names = part["name"].to_list()
    for y, (name, ratio) in enumerate(zip(names, part["ratio"], strict=True)):
        colour = style.ROUTERS[name][0] if name in style.ROUTERS else style.GREY
        right.plot([1, ratio], [y, y], color=colour, linewidth=2.2 if name in style.ROUTERS else 1.2)
        right.annotate(f"{ratio:.2f}", (ratio, y), xytext=(2, -2), textcoords="offset points", fontsize=6)
    right.set_yticks(range(len(names)), [style.label(name) for name in names])
    right.tick_params(axis="y", length=0)
    right.invert_yaxis()
    right.set_xlim(1, 2.3)
    right.set_xlabel("worst ratio")
    right.set_title("a whole family")
    handles, labels = left.get_legend_handles_labels()
    seen = dict(zip(labels, handles, strict=True))
    figure.legend(seen.values(), seen, loc="outside lower center", ncols=2)
    return figure
