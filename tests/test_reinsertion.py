"""Reinsertion: never worse, always feasible, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.oracles.reinsertion import reinsertion


def test_takes_the_heavy_one_away():
    # 8 and 8 together on one worker, 1 and 1 on the other, three steps each: 16 + 18 + 20 = 54 becomes 9 + 11 + 13.
    inst = bro.Instance(release=[0] * 4, prompt=[8, 1, 8, 1], output=[3] * 4)
    cluster = bro.Cluster(workers=2, slots=3)
    better = reinsertion(inst, cluster, bro.Schedule([0] * 4, [0, 1, 0, 1]))
    assert bro.peak_sum(inst, cluster, better) == 33


@pytest.mark.parametrize("capacity", [None, 30_000])
@pytest.mark.parametrize("seed", range(4))
def test_better_feasible_and_above_the_bound(seed, capacity):
    cluster = bro.Cluster(workers=3, slots=6, kv_capacity=capacity)
    inst = bro.generate("poisson-lognormal", n=150, seed=seed).scaled_to(cluster, utilization=0.7)
    run = bro.simulate(inst, cluster, "jsq", seed=seed)
    if run.preemptions:
        pytest.skip("the oracles do not model preemptions")
    better = reinsertion(run.instance, cluster, run.schedule, seed=seed)
    bro.check(run.instance, cluster, better)
    cost = bro.peak_sum(run.instance, cluster, better)
    assert bro.placement_bound(run.instance, cluster, run.schedule.start).value <= cost <= run.peak_sum
    assert np.array_equal(better.start, run.schedule.start)
    again = reinsertion(run.instance, cluster, run.schedule, seed=seed)
    assert np.array_equal(better.worker, again.worker)
