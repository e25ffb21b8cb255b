"""Neighbourhoods solved exactly: never worse, the same on any number of processes, optimal where they hold all."""

from __future__ import annotations

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.oracles.neighbourhood import polish_placement

pytest.importorskip("ortools")


def problem(n, workers, slots, seed, utilization=0.9, capacity=None):
    cluster = bro.Cluster(workers=workers, slots=slots, kv_capacity=capacity)
    lengths = {"prompt_mu": 4.0, "prompt_sigma": 0.9, "output_mu": 2.5, "output_sigma": 0.7}
    inst = bro.generate("poisson-lognormal", n=n, seed=seed, rate=0.001, clock="step", **lengths)
    run = bro.simulate(inst.scaled_to(cluster, utilization=utilization), cluster, "least-kv")
    return run.instance, cluster, run.schedule


@pytest.mark.parametrize("solver", ["cpsat", "highs"])
@pytest.mark.parametrize("utilization", [0.7, 1.6])
def test_never_worse_and_the_same_on_two_processes(solver, utilization):
    inst, cluster, sched = problem(150, 3, 6, 2, utilization)
    options = {"rounds": 2, "neighbourhoods": 4, "requests": 6, "workers": 2, "solver": solver, "node_limit": 200}
    found = polish_placement(inst, cluster, sched, **options)
    bro.check(inst, cluster, found.schedule)
    np.testing.assert_array_equal(found.schedule.start, sched.start)
    before = bro.peak_sum(inst, cluster, sched)
    assert found.objective == bro.peak_sum(inst, cluster, found.schedule) <= before
    assert utilization > 1 or found.objective < before  # full slots leave hardly a choice
    assert found.trajectory[-1][2] == found.objective
    assert polish_placement(inst, cluster, sched, jobs=2, **options).schedule == found.schedule


@pytest.mark.parametrize("seed", range(3))
def test_a_neighbourhood_of_all_is_the_optimum(seed):
    # All requests share the first step, so that one neighbourhood holds them all.
    rng = np.random.default_rng(seed)
    inst = bro.Instance(np.zeros(7, np.int64), rng.integers(1, 30, 7), rng.integers(2, 6, 7))
    cluster = bro.Cluster(workers=2, slots=4)
    sched = bro.Schedule([0] * 7, [0, 0, 0, 0, 1, 1, 1])
    best = bro.solve_placement(inst, cluster, sched.start, solver="enumeration").objective
    for solver in ("cpsat", "highs"):
        found = polish_placement(inst, cluster, sched, rounds=3, requests=7, node_limit=100_000, solver=solver)
        assert found.objective == best


def test_the_capacity_is_kept():
    inst, cluster, sched = problem(80, 3, 6, 6, 0.8)
    tight = cluster.replace(kv_capacity=int(bro.peak_loads(inst, cluster, sched).max()))
    found = polish_placement(inst, tight, sched, rounds=2, neighbourhoods=3, requests=6)
    bro.check(inst, tight, found.schedule)
    assert found.objective <= bro.peak_sum(inst, cluster, sched)


def test_nothing_to_polish_and_bad_input():
    empty = bro.Instance([], [], [])
    assert polish_placement(empty, bro.Cluster(2, 2), bro.Schedule([], [])).objective == 0
    inst, cluster, sched = problem(5, 2, 5, 0)
    with pytest.raises(bro.InputError, match="unknown solver 'bnb'; solvers: cpsat, highs"):
        polish_placement(inst, cluster, sched, solver="bnb")
    with pytest.raises(bro.InputError, match="rounds must be >= 1"):
        polish_placement(inst, cluster, sched, rounds=0)
    with pytest.raises(bro.InvalidSchedule, match="worker 7"):
        polish_placement(inst, cluster, bro.Schedule(sched.start, [7] * 5))
