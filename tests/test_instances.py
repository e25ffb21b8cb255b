"""The instances in the repository: every claim of ``instances/README.md`` about the tiny set, recomputed."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from conftest import ROOT

import balanceroute_opt as bro

TINY = ROOT / "instances" / "tiny"


def placements(inst, cluster, start):
    """peak_sum of every placement that keeps the slots."""
    for worker in itertools.product(range(cluster.workers), repeat=len(inst)):
        sched = bro.Schedule(start, worker)
        try:
            bro.check(inst, cluster, sched)
        except bro.InvalidSchedule:
            continue
        yield bro.peak_sum(inst, cluster, sched)


def free_migration(inst, cluster, start):
    """The sum over steps of the best possible peak when requests may move between steps."""
    total = 0
    for k in range(int((start + inst.output).max())):
        active = (start <= k) & (k < start + inst.output)
        loads = (inst.prompt + k - start)[active].tolist()
        peaks = []
        for worker in itertools.product(range(cluster.workers), repeat=len(loads)):
            on = [[load for load, g in zip(loads, worker, strict=True) if g == h] for h in range(cluster.workers)]
            if max(map(len, on)) <= cluster.slots:
                peaks.append(max(map(sum, on)))
        total += min(peaks)
    return total


def table():
    text = (ROOT / "instances" / "README.md").read_text()
    return re.findall(r"^\| `([\w.-]+\.json)` \| (\d+), (\d+), (\d+) \| (\d+) \|", text, re.MULTILINE)


def test_every_tiny_file_has_a_row():
    assert {row[0] for row in table()} == {path.name for path in TINY.iterdir()}


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0])
def test_optimum_of_tiny_instance(row):
    n, workers, slots, optimum = map(int, row[1:])
    inst, cluster, start = bro.read_problem(TINY / row[0])
    assert (len(inst), cluster.workers, cluster.slots) == (n, workers, slots)
    assert min(placements(inst, cluster, start)) == optimum


def test_what_the_tiny_instances_show():
    inst, cluster, start = bro.read_problem(TINY / "sticky.json")
    assert free_migration(inst, cluster, start) == 35
    inst, cluster, start = bro.read_problem(TINY / "pigeonhole.json")
    # All placements with at most 3 requests on a worker have exactly 3 on one: 3 * 4 tokens.
    assert set(placements(inst, cluster, start)) == {12}
    inst, cluster, start = bro.read_problem(TINY / "worst-case.json")
    # Step 0: 2 requests of one token each. Steps 1..4: two of 2, 3, 4, 5 tokens on the same worker.
    assert bro.peak_sum(inst, cluster, bro.Schedule(start, [0, 0, 1, 1])) == 2 + 2 * (2 + 3 + 4 + 5) == 30
    inst, _, start = bro.read_problem(TINY / "three.json")
    assert np.all(start[2] >= (start + inst.output)[:2])
