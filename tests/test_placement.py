"""Exact placement: every method agrees with enumeration, limits are told apart, and no solver is taken at its word."""

from __future__ import annotations

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.oracles import placement as entrance
from balanceroute_opt.oracles.solution import Answer

METHODS = ("branch", "highs", "cpsat", "mathopt")


def random_case(seed, most=8):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, most))
    cluster = bro.Cluster(int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    inst = bro.Instance(np.sort(rng.integers(0, 9, n)), rng.integers(1, 13, n), rng.integers(1, 7, n))
    return inst, cluster, bro.simulate(inst, cluster, "least-kv")


def busy(n=40, seed=3, workers=4):
    cluster = bro.Cluster(workers, 8)
    inst = bro.generate(
        "poisson-lognormal", n=n, seed=seed, clock="step", rate=0.001, prompt_mu=6.5, prompt_sigma=0.9, output_mu=2.8,
        output_sigma=0.7,
    ).scaled_to(cluster, utilization=0.9)  # fmt: skip
    return inst, cluster, bro.simulate(inst, cluster, "least-kv").schedule


def test_by_hand():
    """Prompts 5, 3, 3 for one step on two workers: 5 | 3 + 3 costs 6; 5 + 3 | 3 would cost 8."""
    inst, cluster = bro.Instance([0, 0, 0], [5, 3, 3], [1, 1, 1]), bro.Cluster(2, 2)
    for solver in ("auto", "enumeration", "search", *METHODS):
        solution = bro.solve_placement(inst, cluster, [0, 0, 0], solver=solver, time_limit=5)
        assert (solution.objective, solution.lower_bound, solution.status) == (6, 6, "optimal")
        assert solution.gap == 0
        # The migration bound is 6 as well, so that the optimum is certified.
        assert bro.verify(inst, cluster, solution.certificate) == 6


@pytest.mark.parametrize("seeds", [range(k, k + 25) for k in range(0, 300, 25)], ids=lambda s: f"{s[0]}-{s[-1]}")
def test_methods_agree_on_random_instances(seeds):
    for seed in seeds:
        inst, cluster, run = random_case(seed)
        start = run.schedule.start
        exact = bro.solve_placement(inst, cluster, start, solver="enumeration")
        assert exact.status == "optimal"
        for solver in METHODS:
            found = bro.solve_placement(inst, cluster, start, solver=solver, time_limit=20)
            assert (found.objective, found.lower_bound, found.status) == (exact.objective, exact.objective, "optimal")
        bounds = [
            bro.placement_bound(inst, cluster, start, m).value for m in ("fluid", "item", "pigeonhole", "migration")
        ]
        assert bounds == sorted(bounds)
        assert bounds[-1] <= exact.objective <= run.peak_sum


def test_a_larger_instance_is_proved_and_repeats():
    inst, cluster, schedule = busy(30, seed=2)
    solutions = [
        bro.solve_placement(inst, cluster, schedule.start, time_limit=60, seed=1, node_limit=10**6) for _ in range(2)
    ]
    assert solutions[0].status == "optimal"
    assert solutions[0].schedule == solutions[1].schedule
    assert solutions[0].objective == bro.peak_sum(inst, cluster, solutions[0].schedule)
    assert solutions[0].objective < bro.peak_sum(inst, cluster, schedule)
    ratio = bro.hindsight_ratio(
        bro.simulate(inst, cluster, "least-kv"),
        bro.placement_bound(inst, cluster, schedule.start, "migration"),
        solutions[0],
    )
    assert 1 < ratio.lower <= ratio.upper


def test_limits_with_an_incumbent():
    inst, cluster, schedule = busy(60, seed=2)
    seen = []
    for solver in ("branch", "search", "highs", "cpsat"):
        solution = bro.solve_placement(
            inst,
            cluster,
            schedule.start,
            solver=solver,
            time_limit=1.0,
            warm=schedule,
            progress=lambda *p: seen.append(p),
        )
        assert solution.status == "feasible"
        assert solution.lower_bound < solution.objective <= bro.peak_sum(inst, cluster, schedule)
        assert 0 < solution.gap < 0.2
    assert seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "gurobi"}, "unknown solver 'gurobi'"),
        ({"time_limit": 0}, "time_limit must be > 0"),
        ({"seed": -1}, "seed must be >= 0"),
        ({"start": [0, 0]}, "start has 2 entries, the instance 3"),
        ({"start": [0, 0, 0]}, "request 2 starts in step 0, before its release 1"),
        ({"start": [0, 0, 2**63]}, r"start\[2\] must be <="),
        ({"start": [1, 1, 1], "cluster": bro.Cluster(1, 2)}, "3"),
    ],
)
def test_bad_input(arguments, message):
    inst = bro.Instance([0, 0, 1], [5, 3, 3], [2, 2, 2])
    given = {"cluster": bro.Cluster(2, 2), "start": [0, 0, 1]} | arguments
    with pytest.raises(bro.InputError, match=message):
        bro.solve_placement(inst, given.pop("cluster"), given.pop("start"), **given)


def test_enumeration_is_for_tiny_instances():
    inst, cluster, schedule = busy(40)
    with pytest.raises(bro.InputError, match="enumeration is for tiny problems: 40 requests on 4 workers"):
        bro.solve_placement(inst, cluster, schedule.start, solver="enumeration")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer("optimal", [0, 0, 0], 6, 6), "returned a placement that is none: worker 0 has 3 requests"),
        (Answer("optimal", [0, 1, 1], 6, 5), "says that its placement costs 5, and it costs 6"),
        (Answer("optimal", [0, 1, 0], 6.5), "calls 8 optimal, and its bound is 7"),
        (Answer("limit", [0, 1, 1], 7.0), "claims that no placement costs less than 7, and returned one of 6"),
        (Answer("infeasible"), "says that there is no placement, and there is one"),
        (Answer("infeasible", [0, 1, 1]), "says that there is no placement, and returned one"),
    ],
)
def test_a_solver_that_lies_is_caught(monkeypatch, answer, message):
    monkeypatch.setattr(entrance, "solve_highs", lambda *a, **k: answer)
    inst, cluster = bro.Instance([0, 0, 0], [5, 3, 3], [1, 1, 1]), bro.Cluster(2, 2)
    with pytest.raises(bro.SolverError, match=message):
        bro.solve_placement(inst, cluster, [0, 0, 0], solver="highs")


def test_a_limit_without_an_incumbent(monkeypatch):
    monkeypatch.setattr(entrance, "solve_highs", lambda *a, **k: Answer("limit"))
    inst, cluster = bro.Instance([0, 0, 0], [5, 3, 3], [1, 1, 1]), bro.Cluster(2, 2)
    solution = bro.solve_placement(inst, cluster, [0, 0, 0], solver="highs")
    assert (solution.schedule, solution.objective, solution.status) == (None, float("inf"), "no_solution")
    assert solution.lower_bound == 6  # the migration bound does not need the solver
