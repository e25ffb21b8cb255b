"""How the parts of a bracket grow with the trace: seconds and memory, each size in its own process.

    python benchmarks/scale.py [--sizes 10000 100000 1000000] [--workers 64] [--slots 72] [--moves 20000000]

Generated requests (bfio lengths) at utilization 0.8 on the step clock; admission steps of least-kv. Compilation is done
before the first measurement. Memory is the largest of the whole process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import balanceroute_opt as bro
from balanceroute_opt.experiments.workload import prepare


def measure(n: int, workers: int, slots: int, moves: int) -> dict[str, float]:
    cluster = bro.Cluster(workers=workers, slots=slots)

    def made(count: int) -> bro.Instance:
        return prepare(bro.generate("bfio", n=count, seed=0), cluster, clock="step", utilization=0.8)

    small = made(500)
    run = bro.simulate(small, cluster, "least-kv")
    bound = bro.placement_bound(small, cluster, run.schedule.start, "item")
    bro.verify(small, cluster, bound.certificate)
    bro.search_placement(small, cluster, run.schedule, moves=1000)

    row: dict[str, float] = {"requests": n}
    clock = time.perf_counter

    def timed(name: str, began: float) -> None:
        row[name] = clock() - began

    inst = made(n)
    began = clock()
    run = bro.simulate(inst, cluster, "least-kv")
    timed("simulate", began)
    began = clock()
    bound = bro.placement_bound(inst, cluster, run.schedule.start, "item")
    timed("item", began)
    began = clock()
    pigeonhole = bro.placement_bound(inst, cluster, run.schedule.start, "pigeonhole")
    timed("pigeonhole", began)
    began = clock()
    bro.verify(inst, cluster, bound.certificate)
    timed("verify", began)
    began = clock()
    found = bro.search_placement(inst, cluster, run.schedule, moves=moves, time_limit=1e6)
    timed("search", began)
    row["steps"] = len(run.peak_loads)
    row["before"] = 100 * (run.peak_sum / pigeonhole.value - 1)
    row["after"] = 100 * (found.objective / pigeonhole.value - 1)
    row["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--slots", type=int, default=72)
    parser.add_argument("--moves", type=int, default=20_000_000)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(args.one, args.workers, args.slots, args.moves)))
        return
    print("| requests | steps | simulate s | item s | pigeonhole s | verify s | search s | over bound % | memory GB |")
    print("|---|---|---|---|---|---|---|---|---|")
    options = [f"--{name}={getattr(args, name)}" for name in ("workers", "slots", "moves")]
    for n in args.sizes:
        command = [sys.executable, __file__, f"--one={n}", *options]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        cells = [f"{row['requests']:,}", f"{row['steps']:,}"]
        cells += [f"{row[name]:.2f}" for name in ("simulate", "item", "pigeonhole", "verify", "search")]
        cells += [f"{row['before']:.2f} -> {row['after']:.2f}", f"{row['memory']:.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
