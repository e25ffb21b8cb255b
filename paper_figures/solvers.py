"""Exact placement against the number of requests: plain formulations, strengthened ones, and our branch and bound."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import balanceroute_opt as bro

from . import style
from .common import Size

SOLVERS = {
    "highs-plain": "HiGHS, plain",
    "cpsat-plain": "CP-SAT, plain",
    "highs": "HiGHS, strengthened",
    "cpsat": "CP-SAT, strengthened",
    "auto": "ours",
}
COUNTS, SEEDS, LIMIT = (20, 40, 60, 100), (0, 1, 2), 4.0
PROVED = 0.01
"""Per cent at which a gap of 0 is drawn."""


def generate(size: Size) -> Any:
    """One thread and some seconds at most per instance and solver."""
    import polars as pl

    tasks = [
        {"n": n, "seed": seed, "solver": solver, "limit": size.of(LIMIT, 0.5)}
        for n in size.of(COUNTS, (6, 10))
        for seed in size.of(SEEDS, (0,))
        for solver in size.of(tuple(SOLVERS), ("auto", "cpsat-plain"))
    ]
    return pl.DataFrame(size.rows(solve, tasks), infer_schema_length=None)


def solve(n: int, seed: int, solver: str, limit: float) -> dict[str, Any]:
    """The starts of least-kv on four workers with eight slots, at load 0.9."""
    compiled()
    where = bro.Cluster(workers=4, slots=8)
    options = {"prompt_mu": 6.5, "prompt_sigma": 0.9, "output_mu": 2.8, "output_sigma": 0.7}
    inst = bro.generate("poisson-lognormal", n=n, seed=seed, clock="step", rate=0.001, **options)
    inst = inst.scaled_to(where, utilization=0.9)
    run = bro.simulate(inst, where, "least-kv")
    if solver.endswith("-plain"):
        found = plain(inst, where, run.schedule.start, limit, solver, seed)
    else:
        found = bro.solve_placement(inst, where, run.schedule.start, limit, solver, seed)  # type: ignore[arg-type]
    known = found.schedule is not None
    return {
        "n": n,
        "seed": seed,
        "solver": solver,
        "limit": limit,
        "least_kv": run.peak_sum,
        "migration": bro.placement_bound(inst, where, run.schedule.start, "migration").value,
        "objective": found.objective if known else None,
        "lower_bound": found.lower_bound if found.lower_bound > 0 else None,
        "gap": found.objective / found.lower_bound - 1 if known and found.lower_bound > 0 else None,
        "status": found.status,
        "seconds": found.seconds,
        "version": bro.__version__,
    }


@cache
def compiled() -> None:
    """Compile what is compiled on first use, outside of any time limit."""
    inst = bro.generate("bfio", n=12, seed=0, clock="step").replace(output=[9] * 12, release=[0] * 12)
    where = bro.Cluster(workers=3, slots=4)
    bro.solve_placement(inst, where, [0] * 12, 60.0, "auto", node_limit=1000)


def plain(inst: Any, where: Any, start: Any, limit: float, solver: str, seed: int) -> Any:
    """The program as a textbook has it: no bounds on the peaks, no symmetry broken, no placement to begin with."""
    from balanceroute_opt.oracles.cpsat import solve_cpsat
    from balanceroute_opt.oracles.highs import solve_highs
    from balanceroute_opt.oracles.model import placement_case, placement_model
    from balanceroute_opt.oracles.solution import conclude_placement

    begin = time.perf_counter()
    model = placement_model(placement_case(inst, where, start), strengthen=False)
    answer = (solve_highs if solver == "highs-plain" else solve_cpsat)(model, limit, seed)
    return conclude_placement(inst, where, start, answer, 0, time.perf_counter() - begin, solver)


def plot(table: Any) -> Any:
    """Gap after the limit for every instance and their mean; how many were proved."""
    import matplotlib.pyplot as plt
    import polars as pl

    looks = {
        "highs-plain": (style.SKY, "v", (0, (1, 1.2))),
        "cpsat-plain": (style.ORANGE, "s", (0, (1, 1.2))),
        "highs": (style.BLUE, "^", (0, (4, 1.5))),
        "cpsat": (style.GREEN, "D", (0, (4, 1.5))),
        "auto": (style.RED, "P", "-"),
    }
    solvers = table["solver"].unique(maintain_order=True).to_list()
    seeds = table["seed"].n_unique()
    figure, (above, below) = plt.subplots(2, 1, figsize=(style.COLUMN, 3.9), sharex=True, layout="constrained",
                                          height_ratios=(2, 1))  # fmt: skip
    for solver in solvers:
        own = table.filter(pl.col("solver") == solver)
        colour, marker, dashes = looks[solver]
        look = {"color": colour, "marker": marker, "linestyle": dashes, "label": SOLVERS[solver], "clip_on": False}
        gap = 100 * own["gap"].fill_null(float("nan"))
        above.plot(own["n"], gap.clip(PROVED), color=colour, marker=marker, linestyle="", alpha=0.3, markersize=2.5)
        means = own.with_columns(gap=gap).group_by("n", maintain_order=True).agg(pl.col("gap").mean())
        above.plot(means["n"], means["gap"].clip(PROVED), **look)
        proved = own.group_by("n", maintain_order=True).agg((pl.col("status") == "optimal").sum())
        below.plot(proved["n"], proved["status"], **look)
    above.set(yscale="log", ylim=(PROVED, None), ylabel=f"gap after {table['limit'][0]:g} s (%)")
    ticks = [tick for tick in (PROVED, 0.1, 1, 10, 100) if tick <= above.get_ylim()[1]]
    above.set_yticks(ticks, ["0", *(f"{tick:g}" for tick in ticks[1:])])
    above.minorticks_off()
    below.set(ylabel="proved", xlabel="requests", yticks=range(seeds + 1), xticks=table["n"].unique().sort().to_list())
    style.head(figure, f"4 workers, 8 slots, load 0.9; {seeds} instances per size (faint), mean")
    style.below(figure, above, 2)
    return figure
