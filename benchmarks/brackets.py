"""How far a search comes on whole traces: least-kv, the best router and the search over the certified bound.

    python benchmarks/brackets.py [--folder TRACES] [--seconds 30 120 | --moves 200 800] [--only azure-conv@0.8 ...]

8 workers, 72 slots, the default step time, wall clock; the admission steps of least-kv. Bounds are ``pigeonhole``
(certified), in percent over it: least-kv, the best of all routers over the bound of its own steps, and the search from
least-kv's placement. With a number of moves (in millions) the result is the same on every machine; on ours a million
takes about 0.14 s of one core. CPU seconds tell a busy machine from an idle one. `synthetic@0.8` (a million requests
on 64 workers) runs only when asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import balanceroute_opt as bro
from balanceroute_opt.oracles.anytime import search_placement

CASES = (
    "azure-conv@0.6",
    "azure-conv@0.8",
    "azure-conv@1.1",
    "azure-code@0.8",
    "mooncake@0.8",
    "bfio@0.8",
    "bfio@1.1",
)
FILES = {"azure-conv": "azure_2023_conv", "azure-code": "azure_2023_code", "mooncake": "mooncake_conversation"}
Budgets = list[tuple[float, int | None]]  # seconds, moves
ROUTERS = ("least-kv", "lpt", "br-0", "br-0-least-load", "br-h", "sglang-tokens", "tpu-minmax")


def problem(case: str, folder: Path) -> tuple[bro.Instance, bro.Cluster]:
    name, _, load = case.partition("@")
    cluster = bro.Cluster(workers=64 if name == "synthetic" else 8, slots=72)
    if name == "synthetic":
        inst = bro.generate("poisson-lognormal", n=1_000_000, seed=0)
    elif name == "bfio":
        inst = bro.generate("bfio", n=8000, seed=0)
    else:
        inst = bro.read_trace(folder / f"{FILES[name]}.csv.gz")
    return inst.scaled_to(cluster, utilization=float(load)), cluster


def router(name: str) -> Any:
    return bro.routers.BR0(greedy_worker="least-load") if name == "br-0-least-load" else name


def over(price: int, bound: float) -> float:
    return 100 * (price / bound - 1)


def measure(case: str, folder: Path, budgets: Budgets, threads: int, seed: int, method: str) -> dict[str, Any]:
    inst, cluster = problem(case, folder)
    began = time.perf_counter()
    run = bro.simulate(inst, cluster, "least-kv")
    start = run.schedule.start
    simulated = time.perf_counter() - began
    began = time.perf_counter()
    item = bro.placement_bound(run.instance, cluster, start, "item").value
    bound = bro.placement_bound(run.instance, cluster, start, "pigeonhole").value
    row: dict[str, Any] = {
        "case": case,
        "requests": len(inst),
        "steps": len(run.peak_loads),
        "item": int(item),
        "bound": int(bound),
        "bound_seconds": time.perf_counter() - began,
        "simulation_seconds": simulated,
        "least_kv": over(run.peak_sum, bound),
    }
    if len(inst) < 100_000:
        distances = {}
        for name in ROUTERS:
            other = bro.simulate(inst, cluster, router(name))
            own = bro.placement_bound(other.instance, cluster, other.schedule.start, "pigeonhole").value
            distances[name] = over(other.peak_sum, own)
        row["routers"] = distances
        row["best_router"] = min(distances, key=lambda name: distances[name])
    row["searches"] = []
    for limit, moves in budgets:
        cpu = time.process_time()
        found = search_placement(
            run.instance,
            cluster,
            run.schedule,
            time_limit=limit,
            moves=moves,
            threads=threads,
            seed=seed,
            method=method,
        )
        bro.check(run.instance, cluster, found.schedule)
        row["searches"].append(
            {
                "seconds": found.seconds,
                "cpu": time.process_time() - cpu,
                "moves": found.moves,
                "over": over(found.objective, bound),
                "objective": found.objective,
            }
        )
    row["memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def table(rows: list[dict[str, Any]], budgets: Budgets) -> str:
    head = ["case", "requests", "steps", "least-kv %", "best router %"]
    for limit, moves in budgets:
        budget = f"{limit:g} s" if moves is None else f"{moves // 10**6} million moves"
        head.append(f"search, {budget}: % (CPU s, million moves)")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        best = row.get("best_router")
        cells = [row["case"], f"{row['requests']:,}", f"{row['steps']:,}", f"{row['least_kv']:.2f}"]
        cells.append(f"{row['routers'][best]:.2f} ({best})" if best else "–")
        cells += [f"{s['over']:.2f} ({s['cpu']:.0f}, {s['moves'] / 1e6:.0f})" for s in row["searches"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("BALANCEROUTE_TRACES", "../shared/traces")
    parser.add_argument("--folder", type=Path, default=Path(folder), help="of the public traces")
    parser.add_argument("--seconds", type=float, nargs="+", default=[30.0, 120.0])
    parser.add_argument("--moves", type=float, nargs="+", help="millions, instead of seconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", choices=("auto", "beam", "annealing"), default="auto")
    parser.add_argument("--only", nargs="+", default=list(CASES), help="cases: workload@utilization")
    parser.add_argument("--json", action="store_true", help="one row per case instead of the table")
    args = parser.parse_args()
    budgets: Budgets = [(seconds, None) for seconds in args.seconds]
    if args.moves:
        budgets = [(1e6, round(millions * 10**6)) for millions in args.moves]
    rows = []
    for case in args.only:
        rows.append(measure(case, args.folder, budgets, args.threads, args.seed, args.method))
        print(json.dumps(rows[-1]), file=sys.stdout if args.json else sys.stderr, flush=True)
    if not args.json:
        print(table(rows, budgets))
    return 0


if __name__ == "__main__":
    sys.exit(main())
