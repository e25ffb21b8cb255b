"""Speed and memory of simulations, beside a straightforward per-token simulator; one table, ratios in one run.

    python benchmarks/simulator.py [--full]

Lognormal prompts (median 665) and outputs (median 148), Poisson arrivals at utilization 1.1, 144 workers, 72 slots.
Every row is a process of its own; compilation is paid before the clock starts, and the best of three runs (ten up to
100,000 requests) counts. ``--full`` adds ten million requests. 10,000 requests do not fill 144 workers once: such a run
is mostly filling and draining, so that the time per request is shown for 8 workers as well.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

SCALE = ("br-0", "jsq", "least-kv")
TARGETS = {"br-0": 250_000, "jsq": 500_000, "least-kv": 500_000}


def workload(n: int, workers: int = 144, slots: int = 72) -> tuple[Any, Any]:
    import balanceroute_opt as bro

    rng = np.random.default_rng(0)
    prompt = np.maximum(1, rng.lognormal(6.5, 0.9, n)).astype(np.int64)
    output = np.maximum(1, rng.lognormal(5.0, 0.7, n)).astype(np.int64)
    inst = bro.Instance(np.cumsum(rng.exponential(1.0, n)), prompt, output, clock="wall")
    cluster = bro.Cluster(workers, slots)
    return inst.scaled_to(cluster, utilization=1.1), cluster


def per_token(inst: Any, cluster: Any) -> int:
    """least-kv as one would write it first: every step adds a token to every request. Returns peak_sum."""
    arrivals = sorted(zip(*(c.tolist() for c in (inst.release, inst.prompt, inst.output)), strict=True))
    time_of_step = cluster.step_time
    workers: list[list[list[int]]] = [[] for _ in range(cluster.workers)]
    pool: list[tuple[int, int]] = []
    now, following, total = 0.0, 0, 0
    while following < len(arrivals) or pool or any(workers):
        if not pool and not any(workers):
            now = max(now, arrivals[following][0])
        while following < len(arrivals) and arrivals[following][0] <= now:
            pool.append(arrivals[following][1:])
            following += 1
        loads = [sum(tokens for tokens, _ in w) for w in workers]
        while pool and any(len(w) < cluster.slots for w in workers):
            g = min((g for g, w in enumerate(workers) if len(w) < cluster.slots), key=lambda g: (loads[g], g))
            prompt, output = pool.pop(0)
            workers[g].append([prompt, output])
            loads[g] += prompt
        total += max(loads)
        now += time_of_step.fixed + time_of_step.per_token * max(loads)
        for w in workers:
            for request in w:
                request[0] += 1
                request[1] -= 1
            w[:] = [request for request in w if request[1]]
    return total


def simulate_row(router: str, n: int, workers: int) -> dict[str, Any]:
    import balanceroute_opt as bro

    inst, cluster = workload(n, workers)
    bro.simulate(inst.head(500), cluster, router)
    times = []
    for _ in range(10 if n <= 10**5 else 3):
        begin = time.perf_counter()
        run = bro.simulate(inst, cluster, router)
        times.append(time.perf_counter() - begin)
        peak_sum = run.peak_sum
        del run
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return {"seconds": min(times), "peak_sum": peak_sum, "peak_mb": peak_kb / 1e3}


def naive_row(router: str, n: int, workers: int) -> dict[str, Any]:
    ours = simulate_row(router, n, workers)
    inst, cluster = workload(n, workers)
    begin = time.perf_counter()
    total = per_token(inst, cluster)
    seconds = time.perf_counter() - begin
    if total != ours["peak_sum"]:
        raise SystemExit(f"the simulators disagree: {total} and {ours['peak_sum']}")
    return {"ours": ours["seconds"], "naive": seconds}


def first_row(router: str, n: int, workers: int) -> dict[str, Any]:
    """Import, compilation or cache, and one small simulation."""
    begin = time.perf_counter()
    import balanceroute_opt as bro

    inst = bro.Instance([0, 0, 1], [5, 2, 4], [3, 2, 1])
    bro.simulate(inst, bro.Cluster(2, 2), router)
    return {"seconds": time.perf_counter() - begin}


def child(kind: str, router: str, n: int = 0, workers: int = 144, **environment: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", kind, router, str(n), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=True)
    return json.loads(done.stdout)


def verdict(value: float, target: float, at_least: bool = True) -> str:
    return "reached" if (value >= target if at_least else value <= target) else "NOT reached"


def main() -> None:
    print(f"{'measurement':44} {'value':>16}   target")
    sizes = [10**4, 10**5, 10**6] + ([10**7] if "--full" in sys.argv else [])
    rates: dict[tuple[str, int, int], float] = {}
    for router in SCALE:
        for workers in (144, 8):
            for n in sizes:
                row = child("simulate", router, n, workers)
                rate = rates[router, workers, n] = n / row["seconds"]
                target = TARGETS.get(router) if (workers, n) == (144, 10**6) else None
                note = f">= {target:,}: {verdict(rate, target)}" if target else ""
                print(f"{f'{router}, {workers} workers, {n:,} requests':44} {rate:10,.0f} req/s   {note}", flush=True)
                if target:
                    memory = row["peak_mb"]
                    print(f"{'  peak memory':44} {memory:13,.0f} MB   <= 1,000: {verdict(memory, 1000, False)}")
            own = [rates[router, workers, n] for n in sizes]
            flat = max(own) / min(own)
            print(f"{'  largest / smallest rate':44} {flat:14.2f} x   <= 1.5: {verdict(flat, 1.5, False)}")
    for n in (10**5, 10**6):
        rate = n / child("simulate", "br-h", n)["seconds"]
        name = f"br-h (H = 80, true lengths), {n:,} requests"
        print(f"{name:44} {rate:10,.0f} req/s   >= 20,000: {verdict(rate, 20_000)}")
        ratio = rates["br-0", 144, n] / rate
        print(f"{'  cost per request over br-0':44} {ratio:14.2f} x   <= 8: {verdict(ratio, 8, False)}")
    for n in (4000, 40_000):
        row = child("naive", "least-kv", n)
        print(f"{f'per-token Python, least-kv, {n:,} requests':44} {row['naive']:14.2f} s   same peak_sum")
        print(f"{'  ratio to ours':44} {row['naive'] / row['ours']:14,.0f} x")
    for router in ("br-0", "jsq", "br-h"):
        with tempfile.TemporaryDirectory() as cache:
            for name in (f"{router}: first simulation, nothing cached", "  next process"):
                seconds = child("first", router, NUMBA_CACHE_DIR=cache)["seconds"]
                limit = 1 if name.startswith(" ") else 15
                print(f"{name:44} {seconds:14.2f} s   < {limit}: {verdict(seconds, limit, False)}", flush=True)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "balanceroute_opt", "compare", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - begin)
    shown = float(np.median(times))
    print(f"{'balanceroute compare --help':44} {shown:14.2f} s   < 0.3: {verdict(shown, 0.3, False)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        kind, router, n, workers = sys.argv[2:]
        row = {"simulate": simulate_row, "naive": naive_row, "first": first_row}[kind]
        print(json.dumps(row(router, int(n), int(workers))))
    else:
        main()
