"""Where BR-H's lookahead helps and where it does not: excess by horizon, over all steps and over full ones.

    python benchmarks/lookahead.py [FOLDER OF TRACES]

A step is full if every slot is taken. Utilization 1.1, 8 workers, 72 slots, true lengths.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import balanceroute_opt as bro

CLUSTER = bro.Cluster(workers=8, slots=72)
TRACES = ("azure_2023_conv", "mooncake_conversation", "azure_2023_code", "burstgpt_1_first400", "burstgpt_3_first400")
HORIZONS = (1, 5, 20, 80)


def excess(run: bro.Run, full: bool) -> str:
    """Excess over all steps, or over full ones alone."""
    steps = run.steps
    chosen = steps.active == CLUSTER.workers * CLUSTER.slots if full else slice(None)
    work = int(steps.total[chosen].sum())
    return f"{CLUSTER.workers * int(steps.peak[chosen].sum()) / work - 1:.2%}" if work else "-"


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BALANCEROUTE_TRACES", "../shared/traces"))
    print(f"{'trace':22} {'mean output':>11} {'steps':>6} {'br-0':>8} " + " ".join(f"{f'H={h}':>8}" for h in HORIZONS))
    for name in TRACES:
        inst = bro.read_trace(folder / f"{name}.csv.gz").scaled_to(CLUSTER, utilization=1.1)
        routers = ["br-0", *(bro.routers.BRH(H=h) for h in HORIZONS)]
        runs = [bro.simulate(inst, CLUSTER, router) for router in routers]
        for label, full in (("all", False), ("full", True)):
            cells = " ".join(f"{excess(run, full):>8}" for run in runs)
            print(f"{name:22} {inst.output.mean():11.0f} {label:>6} {cells}", flush=True)


if __name__ == "__main__":
    main()
