"""Time of one decision through the live path, ``router.route(view)``: BR-0 and BR-H(80), 8 and 144 workers.

    python benchmarks/dispatch.py

72 slots per worker, 200 waiting requests, subset_window 4, 1 to 5 free slots in all; 2 000 calls each after a warm-up.
The paper reports 1.20 ms (p50) and 2.77 ms (p99) at 8 workers, on other hardware and inside a serving system.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import balanceroute_opt as bro
from balanceroute_opt.predictors import Survival
from balanceroute_opt.routers import ActiveView

SLOTS, POOL, CALLS = 72, 200, 2000
PUBLISHED = (1.20, 2.77)


def view_of(workers: int, rng: np.random.Generator) -> bro.View:
    """A nearly full cluster, as a dispatcher would build it from its engines' counters."""
    active = np.full(workers, SLOTS)
    np.subtract.at(active, rng.integers(0, workers, rng.integers(1, 6)), 1)
    active = np.maximum(active, 0)
    count = int(active.sum())
    prompt, age = rng.integers(1, 4000, count), rng.integers(1, 900, count)
    worker = np.repeat(np.arange(workers), active)
    load = np.bincount(worker, prompt + age, workers).astype(np.int64)
    requests = ActiveView(np.arange(count), worker, prompt, age, np.full(count, -1))
    return bro.View(load=load, active=active, slots=SLOTS, pool=rng.integers(1, 4000, POOL), requests=requests)


def measure(router: Any, workers: int) -> np.ndarray:
    """Milliseconds of each call."""
    rng = np.random.default_rng(0)
    views = [view_of(workers, rng) for _ in range(50)]
    for view in views:
        router.route(view)
    times = np.empty(CALLS)
    for call in range(CALLS):
        view = views[call % len(views)]
        begin = time.perf_counter()
        router.route(view)
        times[call] = time.perf_counter() - begin
    return 1e3 * times


def main() -> None:
    lengths = np.random.default_rng(1).geometric(1 / 200, 20_000)
    print(f"{'router':18} {'workers':>7} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}   published / ours, p50 and p99")
    for workers in (8, 144):
        routers = {
            "br-0": bro.routers.BR0(),
            "br-h(80)": bro.routers.BRH(H=80, predictor=Survival(lengths)),
        }
        for name, router in routers.items():
            times = measure(router, workers)
            p50, p99 = np.percentile(times, (50, 99))
            ratios = f"{PUBLISHED[0] / p50:6.0f} x  {PUBLISHED[1] / p99:6.0f} x" if workers == 8 else ""
            print(f"{name:18} {workers:7} {p50:8.4f} {p99:8.4f} {times.max():8.3f}   {ratios}")


if __name__ == "__main__":
    main()
