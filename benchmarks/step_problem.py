"""The exact step problem of BF-IO(H): share of steps proved and time per step, beside HiGHS on the same steps.

    python benchmarks/step_problem.py [FOLDER OF TRACES] [H]

azure conv, 8 workers, 72 slots, utilization 1.1; HiGHS (one thread, at most 20 s a step) on every 100th step.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import balanceroute_opt as bro
from balanceroute_opt.oracles.step import solve_step_highs
from balanceroute_opt.routers.kernels.bfio import integer_weights, solve_step

CLUSTER = bro.Cluster(workers=8, slots=72)


class Recorder(bro.routers.BFIO):
    """BF-IO that keeps the problems it solves."""

    def __init__(self, H: int) -> None:
        super().__init__(H=H)
        self.problems: list[Any] = []

    def route(self, view: Any) -> Any:
        slots = int(view.free.sum())
        if len(view.pool) and slots:
            projected = np.zeros((view.workers, self.H + 1), np.int64)
            self._project(view, projected)
            prompt = view.pool.prompt[: max(self.pool_window, slots)].copy()
            self.problems.append((projected, view.free.copy(), view.room.copy(), prompt))
        return super().route(view)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BALANCEROUTE_TRACES", "../shared/traces"))
    horizon = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    inst = bro.read_trace(folder / "azure_2023_conv.csv.gz").scaled_to(CLUSTER, utilization=1.1)
    router = Recorder(horizon)
    bro.simulate(inst, CLUSTER, router, live=True)
    weight = integer_weights(router.gamma, horizon)
    limit = router.node_limit
    seconds, proved, values = [], [], []
    for projected, free, room, prompt in router.problems:
        worker = np.empty(len(prompt), np.int64)
        begin = time.perf_counter()
        value, bound, *_ = solve_step(projected, free, room, prompt, weight, limit, worker)
        seconds.append(time.perf_counter() - begin)
        proved.append(value == bound)
        values.append(value)
    ours, count = 1e3 * np.array(seconds), len(seconds)
    print(f"BF-IO({horizon}), {count:,} steps with requests to place; node limit {limit:,}")
    print(f"proved            {np.mean(proved):8.2%}   ({count - sum(proved)} steps not)")
    p50, p99 = np.percentile(ours, (50, 99))
    print(f"ms per step       mean {ours.mean():.3f}  p50 {p50:.3f}  p99 {p99:.2f}  max {ours.max():.1f}")
    sample = range(50, count, 100)
    theirs, agree, better, own = [], 0, 0, []
    for i in sample:
        projected, free, _, prompt = router.problems[i]
        begin = time.perf_counter()
        value, bound = solve_step_highs(projected, free, prompt, weight, time_limit=20.0)
        theirs.append(time.perf_counter() - begin)
        own.append(seconds[i])
        agree += value == values[i]
        better += values[i] < value
    high, low = 1e3 * np.mean(theirs), 1e3 * np.mean(own)
    print(
        f"HiGHS, {len(theirs)} steps  mean {high:.1f} ms; ours on the same steps {low:.3f} ms; ratio {high / low:,.0f}"
    )
    worse = len(theirs) - agree - better
    print(f"same objective on {agree} of them; ours lower on {better}, HiGHS lower on {worse}")
    for name in ("br-0", "br-h", "least-kv"):
        print(bro.step_regret(inst, CLUSTER, name, H=horizon))


if __name__ == "__main__":
    main()
