"""Window bounds in one and in two processes, in one run, pair by pair.

    python benchmarks/windows.py [--pairs 3] [--nodes 20000] [--jobs 2] [--json]

Every pair is the same bound, with a limit of nodes and none of time, in one process and in several; the results must
be equal. Processes are started and kernels compiled before the first measurement. *Wall* is the ratio of wall times,
which says little where others use the machine. *Processor* is the ratio of processor seconds: those of one process over
those of the parent and the busiest of several, or the mean of them. The former is too low where others slow down one of
the processes, since the other then takes over its windows; the latter assumes that they end at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib

import balanceroute_opt as bro

TRACES = Path(os.environ.get("BALANCEROUTE_TRACES", Path(__file__).resolve().parents[2] / "shared" / "traces"))


def generated(n: int) -> tuple[bro.Instance, bro.Cluster]:
    """Short requests on four workers of eight slots, as in ``benchmarks/oracles.py``."""
    lengths = {"prompt_mu": 6.5, "prompt_sigma": 0.9, "output_mu": 2.8, "output_sigma": 0.7}
    inst = bro.generate("poisson-lognormal", n=n, seed=0, rate=0.001, clock="step", **lengths)
    return inst, bro.Cluster(4, 8)


def traced(n: int) -> tuple[bro.Instance, bro.Cluster]:
    """The first requests of azure code on three workers of six slots."""
    inst = bro.read_trace(TRACES / "azure_2023_code.csv.gz").head(n)
    return inst.to_step_clock(0.03), bro.Cluster(3, 6)


CASES: dict[str, tuple[Callable[[int], tuple[bro.Instance, bro.Cluster]], int, int]] = {
    "poisson-lognormal, 4 x 8, T = 10": (generated, 400, 10),
    "poisson-lognormal, 4 x 8, T = 30": (generated, 400, 30),
    "azure code, 3 x 6, T = 20": (traced, 400, 20),
}


def processor_seconds(jobs: int) -> dict[int, float]:
    """Of every process of the pool so far, by its number."""

    def look(pause: float) -> tuple[int, float]:
        time.sleep(pause)  # long enough that no process takes two
        return os.getpid(), time.process_time()

    found: dict[int, float] = {}
    while len(found) < jobs:
        found |= dict(joblib.Parallel(n_jobs=jobs, batch_size=1)(joblib.delayed(look)(0.2) for _ in range(jobs)))
    return found


def measure(inst: bro.Instance, cluster: bro.Cluster, window: int, nodes: int, jobs: int) -> dict[str, Any]:
    start = bro.simulate(inst, cluster, "least-kv").schedule.start
    before = processor_seconds(jobs) if jobs > 1 else {}
    began, own = time.perf_counter(), time.process_time()
    bound = bro.placement_bound(inst, cluster, start, "window", nodes, window=window, time_limit=1e9, jobs=jobs)
    wall, parent = time.perf_counter() - began, time.process_time() - own
    after = processor_seconds(jobs) if jobs > 1 else {}
    used = [after[pid] - before.get(pid, 0.0) for pid in after]
    return {"value": bound.value, "wall": wall, "parent": parent, "processes": used}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=20_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for name, (make, n, window) in CASES.items():
        inst, cluster = make(n)
        inst = inst.scaled_to(cluster, utilization=0.9)
        few = inst.head(40)
        for jobs in (1, args.jobs):
            measure(few, cluster, 4, 500, jobs)
        pairs = [
            [measure(inst, cluster, window, args.nodes, jobs) for jobs in (1, args.jobs)] for _ in range(args.pairs)
        ]
        if len({half["value"] for pair in pairs for half in pair}) > 1:
            raise SystemExit(f"{name}: the bound depends on the number of processes")
        row = {
            "case": name,
            "nodes": args.nodes,
            "jobs": args.jobs,
            "value": pairs[0][0]["value"],
            "seconds": statistics.median(one["wall"] for one, _ in pairs),
            "processor_seconds": statistics.median(one["parent"] for one, _ in pairs),
            "wall": statistics.median(one["wall"] / many["wall"] for one, many in pairs),
            "busiest": statistics.median(
                one["parent"] / (many["parent"] + max(many["processes"])) for one, many in pairs
            ),
            "mean": statistics.median(
                one["parent"] / (many["parent"] + statistics.mean(many["processes"])) for one, many in pairs
            ),
            "pairs": pairs,
        }
        rows.append(row)
        if not args.json:
            print(
                f"{name:34} {row['processor_seconds']:7.1f} CPU s in one process; in {args.jobs}: "
                f"wall {row['wall']:.2f}x, processor {row['busiest']:.2f}x (busiest) to {row['mean']:.2f}x (mean)",
                flush=True,
            )
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
