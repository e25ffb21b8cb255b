"""Exact placement beside the plain mixed-integer program of HiGHS, one thread each, in one run.

    python benchmarks/oracles.py [--sizes 30 40 60 100] [--seeds 10] [--time-limit 60] [--no-plain] [--busy] [--json]

Prompts lognormal(6.5, 0.9), outputs lognormal(2.8, 0.7), Poisson releases at utilization 0.9 on the step clock,
G = 4 (3 for n = 30), B = 8, starts from a run of least-kv. *plain*: one binary per request and worker, one peak per
step, nothing else. Compilation is done before the first measurement. ``--busy`` counts processor time, not wall time,
limits included, for a machine that others use too. Gaps are (objective - bound) / bound, the bound
of each solver its own.
"""

from __future__ import annotations

import math
import time
from typing import Any

from exact import count_processor_time, mean, options, report, seeds

import balanceroute_opt as bro
from balanceroute_opt.oracles.highs import solve_highs
from balanceroute_opt.oracles.model import placement_case, placement_model


def problem(n: int, seed: int) -> tuple[bro.Instance, bro.Cluster, bro.Run]:
    cluster = bro.Cluster(workers=3 if n == 30 else 4, slots=8)
    lengths = {"prompt_mu": 6.5, "prompt_sigma": 0.9, "output_mu": 2.8, "output_sigma": 0.7}
    inst = bro.generate("poisson-lognormal", n=n, seed=seed, rate=0.001, clock="step", **lengths)
    inst = inst.scaled_to(cluster, utilization=0.9)
    return inst, cluster, bro.simulate(inst, cluster, "least-kv")


def measure(n: int, seed: int, limit: float, plain: bool) -> dict[str, Any]:
    inst, cluster, run = problem(n, seed)
    start = run.schedule.start
    ours = bro.solve_placement(inst, cluster, start, time_limit=limit, certificate=False)
    row = {
        "n": n,
        "seed": seed,
        "least_kv": run.peak_sum,
        "migration": int(bro.placement_bound(inst, cluster, start, "migration").value),
        "objective": ours.objective,
        "bound": ours.lower_bound,
        "seconds": ours.seconds,
        "nodes": ours.nodes,
        "proved": ours.status == "optimal",
        "solver": ours.solver,
    }
    if plain:
        case = placement_case(inst, cluster, start)
        model = placement_model(case, strengthen=False)
        began = time.perf_counter()
        answer = solve_highs(model, limit)
        row["plain_seconds"] = time.perf_counter() - began
        bound = math.ceil(answer.lower_bound - 1e-6 - 1e-9 * abs(answer.lower_bound))
        row["plain_bound"], row["plain_proved"] = bound, answer.status == "optimal"
        row["plain_objective"] = None
        if answer.worker is not None:
            row["plain_objective"] = bro.peak_sum(inst, cluster, bro.Schedule(start, answer.worker))
    return row


def table(rows: list[dict[str, Any]]) -> str:
    gap = lambda row, p="": 100 * (row[p + "objective"] / row[p + "bound"] - 1)  # noqa: E731
    lines = [
        "| n | seeds | proved | seconds, geometric mean (most) | gap %, mean (most) | over migration % "
        "| under least-kv % | plain: proved | seconds | gap %, mean (most) | plain / ours, both proved |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for n in sorted({row["n"] for row in rows}):
        own = [row for row in rows if row["n"] == n]
        times, gaps = [row["seconds"] for row in own], [gap(row) for row in own]
        above = [100 * (row["objective"] / row["migration"] - 1) for row in own]
        below = [100 * (1 - row["objective"] / row["least_kv"]) for row in own]
        cells = [
            f"{n}",
            f"{len(own)}",
            f"{sum(row['proved'] for row in own)}",
            f"{mean(times):.2f} ({max(times):.1f})",
            f"{sum(gaps) / len(own):.2f} ({max(gaps):.2f})",
            f"{sum(above) / len(own):.1f}",
            f"{sum(below) / len(own):.1f}",
        ]
        with_plain = [row for row in own if "plain_seconds" in row]
        if with_plain:
            found = [gap(row, "plain_") for row in with_plain if row["plain_objective"]]
            both = [
                row["plain_seconds"] / row["seconds"] for row in with_plain if row["plain_proved"] and row["proved"]
            ]
            times = [row["plain_seconds"] for row in with_plain]
            cells += [
                f"{sum(row['plain_proved'] for row in with_plain)} of {len(with_plain)}",
                f"{mean(times):.1f} ({max(times):.1f})",
                f"{sum(found) / len(found):.2f} ({max(found):.2f})" if found else "–",
                f"{mean(both):.0f}x ({len(both)})" if both else "–",
            ]
        else:
            cells += ["–"] * 4
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    args = options(__doc__, [30, 40, 60, 100]).parse_args()
    if args.busy:
        count_processor_time()
    for n, seconds in ((12, 60.0), (60, 2.0)):
        inst, cluster, run = problem(n, 1)
        bro.solve_placement(inst, cluster, run.schedule.start, time_limit=seconds)
    rows = (measure(n, seed, args.time_limit, not args.no_plain) for n in args.sizes for seed in seeds(args))
    report(rows, table, args.json)


if __name__ == "__main__":
    main()
