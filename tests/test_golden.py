"""Golden integers of every router on the first 2 000 requests of one public trace.

A change here is a change of results: say why in the commit, and print the new table with
``python tests/test_golden.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import balanceroute_opt as bro

CLUSTER = bro.Cluster(workers=4, slots=16, kv_capacity=60_000, step_time=bro.StepTime(fixed=0.02, per_token=1e-7))

# router: active steps, peak_sum, sum of workers * index modulo 2**31, sum of starts, preemptions
GOLDEN: dict[str, tuple[int, int, int, int, int]] = {
    "br-0": (9187, 172558810, 2968083, 8916891, 0),
    "br-0-least-load": (9191, 171637128, 2981939, 8920752, 0),
    "br-h": (9190, 170774548, 2977101, 8916325, 0),
    "bf-io": (9763, 170009449, 2918200, 9079854, 0),
    "bf-io-heuristic": (9157, 171284870, 2976848, 9110133, 0),
    "least-kv": (9204, 182086448, 3025583, 8912506, 0),
    "lpt": (9579, 179196615, 3021096, 9928822, 0),
    "deferral": (9205, 171248329, 3000438, 8935107, 0),
    "jsq": (9203, 183338044, 3000762, 8908805, 0),
    "po2": (9286, 184497925, 3026429, 8909655, 0),
    "round-robin": (9354, 185508150, 3004000, 8910745, 0),
    "random": (9298, 186518454, 2997079, 8945828, 0),
    "vllm": (9350, 182902540, 3022633, 8910341, 0),
    "vllm-kv": (9203, 183338044, 3000762, 8908805, 0),
    "sglang-tokens": (9329, 183289456, 3006064, 8915338, 0),
    "dynamo": (9612, 188843031, 3009750, 8919715, 0),
    "llumnix": (9370, 182192568, 3077602, 8914799, 0),
    "trtllm-adp": (9202, 182083612, 3000392, 8908375, 0),
    "tpu-minmax": (9329, 183289456, 3006064, 8915338, 0),
}


def workload(folder: Path) -> bro.Instance:
    return bro.read_trace(folder / "azure_2023_conv.csv.gz").head(2000).scaled_to(CLUSTER, utilization=1.1)


def fingerprint(inst: bro.Instance, router: Any) -> tuple[int, int, int, int, int]:
    run = bro.simulate(inst, CLUSTER, router, seed=1)
    place = int((run.schedule.worker * np.arange(1, len(inst) + 1)).sum()) % 2**31
    return len(run.steps), run.peak_sum, place, int(run.schedule.start.sum()), run.preemptions


def test_every_router_is_in_the_table() -> None:
    assert set(GOLDEN) == set(bro.ROUTERS)


@pytest.mark.parametrize("router", sorted(GOLDEN))
def test_golden(traces: Path, router: str) -> None:
    assert fingerprint(workload(traces), router) == GOLDEN[router]


if __name__ == "__main__":
    inst = workload(Path(sys.argv[1]))
    for name in bro.ROUTERS:
        print(f'    "{name}": {fingerprint(inst, name)},')
