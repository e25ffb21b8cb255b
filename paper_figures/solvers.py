"""Exact placement against the number of requests: our branch and bound beside general solvers on the plain program."""

from __future__ import annotations

from typing import Any

import balanceroute_opt as bro

from . import style
from .common import Size

SOLVERS = {"bnb": "own branch and bound", "highs": "HiGHS", "cpsat": "CP-SAT"}
COUNTS, SEEDS, LIMIT = (8, 12, 16, 24, 32, 48, 64), (0, 1, 2), 10.0


def generate(size: Size) -> Any:
    """Ten seconds at most per instance and solver."""
    import polars as pl

    tasks = [
        {"n": n, "seed": seed, "solver": solver, "limit": size.of(LIMIT, 0.5)}
        for n in size.of(COUNTS, (6, 10))
        for seed in size.of(SEEDS, (0,))
        for solver in size.of(tuple(SOLVERS), ("bnb", "cpsat"))
    ]
    return pl.DataFrame(size.rows(solve, tasks), infer_schema_length=None)


def solve(n: int, seed: int, solver: str, limit: float) -> dict[str, Any]:
    """One small instance of short outputs, three workers, starts of JSQ."""
    where = bro.Cluster(workers=3, slots=max(4, n // 4))
    inst = bro.generate("poisson-lognormal", n=n, seed=seed, clock="step", rate=0.7, output_mu=2.3, output_sigma=0.6)
    run = bro.simulate(inst, where, "jsq")
    found = bro.solve_placement(inst, where, run.schedule.start, time_limit=limit, solver=solver, seed=seed)  # type: ignore[arg-type]
    migration = bro.placement_bound(inst, where, run.schedule.start, "migration").value
    return {
        "n": n,
        "seed": seed,
        "solver": solver,
        "limit": limit,
        "objective": float(found.objective),
        "lower_bound": float(found.lower_bound),
        "migration": migration,
        "jsq": run.peak_sum,
        "gap": float(found.objective / found.lower_bound - 1) if found.lower_bound > 0 else None,
        "status": found.status,
        "seconds": found.seconds,
        "version": bro.__version__,
    }


def plot(table: Any) -> Any:
    """Gap after the limit, and time."""
    import matplotlib.pyplot as plt
    import polars as pl

    looks = {
        "bnb": (style.RED, "P", "-"),
        "highs": (style.BLUE, "^", (0, (4, 1.5))),
        "cpsat": (style.GREEN, "s", (0, (1, 1))),
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.PAGE, 2.6), layout="constrained")
    for solver in table["solver"].unique(maintain_order=True):
        own = table.filter(pl.col("solver") == solver).group_by("n", maintain_order=True)
        own = own.agg(pl.col("gap").mean(), pl.col("seconds").median())
        colour, marker, dashes = looks[solver]
        look = {"color": colour, "marker": marker, "linestyle": dashes, "label": SOLVERS[solver], "clip_on": False}
        left.plot(own["n"], 100 * own["gap"], **look)
        right.plot(own["n"], own["seconds"], **look)
    limit = table["limit"][0]
    left.set(xlabel="requests", ylabel=f"mean gap after {limit:g} s (%)", ylim=(0, None))
    right.set(xlabel="requests", ylabel=f"median time (s), limit {limit:g} s", yscale="log")
    style.below(figure, left, 3)
    return figure
