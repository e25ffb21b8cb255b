"""Exact schedules beside the plain time-indexed program of HiGHS, one thread each, in one run.

    python benchmarks/schedule_oracle.py [--forms latest max_wait none] [--sizes 10 12 16] [--seeds 10]
                                         [--time-limit 60] [--no-plain] [--busy] [--json]

Prompts lognormal(6.5, 0.9), outputs lognormal(2.8, 0.7), Poisson releases on the step clock, G = 2, B = 3, c = the mean
load of a step of br-0. *latest*: nobody starts later than under br-0 at utilization 1.2, whose run is given as a first
schedule. *max_wait*: at most 8 steps of waiting, at utilization 0.9. *none*: no limit. *plain*: a binary per request,
start and worker, a peak and an activity per step, nothing else. Kernels are compiled before the first measurement.
``--busy`` counts processor time, not wall time, limits included, for a machine that others use too. Gaps are
(objective - bound) / objective, in the costs of steps and peaks.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from exact import count_processor_time, mean, options, report, seeds

import balanceroute_opt as bro
from balanceroute_opt.oracles.schedule import window_case
from balanceroute_opt.oracles.schedule_solvers import schedule_highs

FORMS = ("latest", "max_wait", "none")


def problem(n: int, seed: int, form: str) -> tuple[bro.Instance, bro.Cluster, dict[str, Any]]:
    """Instance, cluster and the windows of the form."""
    rng = np.random.default_rng(seed)
    prompt = np.maximum(1, np.rint(rng.lognormal(6.5, 0.9, n))).astype(int)
    output = np.maximum(1, np.rint(rng.lognormal(2.8, 0.7, n))).astype(int)
    rate = (1.2 if form == "latest" else 0.9) * 6 / output.mean()
    release = np.floor(np.cumsum(rng.exponential(1 / rate, n))).astype(int)
    inst = bro.Instance(release - release.min(), prompt, output)
    cluster = bro.Cluster(workers=2, slots=3, step_time=bro.StepTime(0.0, 1e-6))
    run = bro.simulate(inst, cluster, "br-0")
    mean = round(inst.total_work / 2 / len(run.peak_loads))
    cluster = cluster.replace(step_time=bro.StepTime(mean * 1e-6, 1e-6))
    windows: dict[str, dict[str, Any]] = {
        "latest": {"latest": run.schedule.start, "warm": run.schedule},
        "max_wait": {"max_wait": 8},
        "none": {},
    }
    return inst, cluster, windows[form]


def measure(n: int, seed: int, form: str, limit: float, plain: bool) -> dict[str, Any]:
    inst, cluster, windows = problem(n, seed, form)
    ours = bro.solve_schedule(inst, cluster, limit, **windows)
    row = {
        "form": form,
        "n": n,
        "seed": seed,
        "status": ours.status,
        "objective": ours.objective,
        "bound": ours.lower_bound,
        "gap": ours.gap,
        "seconds": ours.seconds,
        "nodes": ours.nodes,
    }
    if plain:
        last = windows.get("latest", inst.release + 8) if form != "none" else None
        case = window_case(inst, cluster, last)
        began = time.perf_counter()
        answer = schedule_highs(case, limit, strengthen=False)
        row["plain_seconds"], row["plain_status"] = time.perf_counter() - began, answer.status
        row["plain_gap"] = math.inf
        if answer.start is not None:
            sched = case.schedule(answer.start, answer.worker)
            cost = bro.decode_time(case.inst, cluster, sched)
            row["plain_gap"] = max(0.0, 1 - answer.lower_bound / cost)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| windows | n | seeds | proved | seconds, geometric mean (most) | gap left %, mean (most) | plain: proved "
        "| seconds | gap left %, mean (most) | plain / ours, both proved |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for form, n in sorted({(row["form"], row["n"]) for row in rows}, key=lambda x: (FORMS.index(x[0]), x[1])):
        own = [row for row in rows if (row["form"], row["n"]) == (form, n)]
        proved = [row for row in own if row["status"] in ("optimal", "infeasible")]
        times, gaps = [row["seconds"] for row in own], [100 * row["gap"] for row in own if math.isfinite(row["gap"])]
        cells = [form, f"{n}", f"{len(own)}", f"{len(proved)}", f"{mean(times):.2f} ({max(times):.1f})"]
        cells.append(f"{sum(gaps) / len(gaps):.2f} ({max(gaps):.2f})" if gaps else "–")
        plain = [row for row in own if "plain_seconds" in row]
        if plain:
            done = [row for row in plain if row["plain_status"] in ("optimal", "infeasible")]
            times, gaps = [row["plain_seconds"] for row in plain], [100 * row["plain_gap"] for row in plain]
            gaps = [gap for gap in gaps if math.isfinite(gap)]
            both = [row["plain_seconds"] / row["seconds"] for row in done if row in proved]
            cells += [f"{len(done)} of {len(plain)}", f"{mean(times):.1f} ({max(times):.1f})"]
            cells.append(f"{sum(gaps) / len(gaps):.2f} ({max(gaps):.2f})" if gaps else "–")
            cells.append(f"{mean(both):.0f}x ({len(both)})" if both else "–")
        else:
            cells += ["–"] * 4
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = options(__doc__, [10, 12, 16])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    args = parser.parse_args()
    if args.busy:
        count_processor_time()
    inst, cluster, windows = problem(5, 1, "max_wait")
    bro.solve_schedule(inst, cluster, **windows)
    rows = (
        measure(n, seed, form, args.time_limit, not args.no_plain)
        for form in args.forms
        for n in args.sizes
        for seed in seeds(args)
    )
    report(rows, table, args.json)


if __name__ == "__main__":
    main()
