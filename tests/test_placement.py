"""Exact placement: every method agrees with enumeration, limits are told apart, and no solver is taken at its word."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.oracles import branch
from balanceroute_opt.oracles import placement as entrance
from balanceroute_opt.oracles.model import placement_case
from balanceroute_opt.oracles.solution import Answer

METHODS = ("bnb", "highs", "cpsat", "mathopt")


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
        for solver in METHODS if seed % 5 == 0 else ("bnb", "highs", "cpsat"):
            found = bro.solve_placement(inst, cluster, start, solver=solver, time_limit=20)
            assert (found.objective, found.lower_bound, found.status) == (exact.objective, exact.objective, "optimal")
        bounds = [
            bro.placement_bound(inst, cluster, start, m).value for m in ("fluid", "item", "pigeonhole", "migration")
        ]
        # Windows of 1, 2, 4, ... steps: each is a union of two of those before.
        windows = [bro.placement_bound(inst, cluster, start, "window", window=2**j) for j in range(6)]
        assert windows[0].value == bounds[-1]
        bounds += [bound.value for bound in windows]
        assert bounds == sorted(bounds)
        assert bounds[-1] == exact.objective <= run.peak_sum  # one window holds all steps
        assert bro.verify(inst, cluster, windows[1 + seed % 5].certificate) == windows[1 + seed % 5].value


def test_a_larger_instance_is_proved_and_repeats():
    inst, cluster, schedule = busy(30, seed=2)
    solutions = [
        bro.solve_placement(inst, cluster, schedule.start, time_limit=600, seed=1, node_limit=10**6) for _ in range(2)
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
    for solver in ("auto", "bnb", "search", "highs", "cpsat"):
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
        ({"warm": [0, 0, 0]}, "warm must be a Schedule, got list"),
        ({"warm": bro.Schedule([0, 0, 1], [0, 0, 2])}, "warm is no placement: request 2 is on worker 2"),
        ({"warm": bro.Schedule([0, 1, 1], [0, 0, 1])}, "warm starts request 1 in step 1, and start"),
        ({"gap": -1}, "gap must be >= 0"),
        ({"node_limit": 0}, "node_limit must be >= 1"),
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
    monkeypatch.setattr(entrance, "_incumbent", lambda *a: (None, 10**6))
    inst, cluster = bro.Instance([0, 0, 0], [5, 3, 3], [1, 1, 1]), bro.Cluster(2, 2)
    solution = bro.solve_placement(inst, cluster, [0, 0, 0], solver="highs")
    assert (solution.schedule, solution.objective, solution.status) == (None, float("inf"), "no_solution")
    assert solution.lower_bound == 6  # the migration bound does not need the solver


def test_a_limit_keeps_the_incumbent(monkeypatch):
    monkeypatch.setattr(entrance, "solve_highs", lambda *a, **k: Answer("limit", lower_bound=5.2))
    inst, cluster = bro.Instance([0, 0, 0], [5, 4, 4], [1, 1, 1]), bro.Cluster(2, 2)
    solution = bro.solve_placement(inst, cluster, [0, 0, 0], solver="highs")
    assert (solution.objective, solution.lower_bound, solution.status) == (8, 8, "optimal")


@pytest.mark.parametrize("solver", entrance.SOLVERS)
def test_overfull_steps_are_infeasible(solver):
    inst = bro.Instance([0, 0, 0, 0], [5, 3, 3, 1], [9, 2, 3, 2])
    solution = bro.solve_placement(inst, bro.Cluster(1, 2), [0, 7, 8, 8], solver=solver)
    assert (solution.status, solution.schedule, solution.objective) == ("infeasible", None, float("inf"))
    assert solution.gap == float("inf")
    assert solution.message == "step 8 has 4 active requests, more than workers * slots = 2"
    assert bro.verify(inst, bro.Cluster(1, 2), solution.certificate) == float("inf")


def test_capacity_is_kept_or_proved_too_small():
    """Every method agrees with enumeration under a KV capacity, infeasible ones among them."""
    seen = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 7))
        inst = bro.Instance(np.sort(rng.integers(0, 6, n)), rng.integers(1, 9, n), rng.integers(1, 6, n))
        most = int((inst.prompt + inst.output).max())
        cluster = bro.Cluster(2, 4, kv_capacity=most + int(rng.integers(0, 10)))
        exact = bro.solve_placement(inst, cluster, inst.release, solver="enumeration")
        seen.add(exact.status)
        for solver in METHODS:
            found = bro.solve_placement(inst, cluster, inst.release, solver=solver, time_limit=20)
            assert (found.status, found.objective) == (exact.status, exact.objective)
        found = bro.solve_placement(inst, cluster, inst.release, solver="search", node_limit=20_000)
        assert found.objective >= exact.objective
        assert found.schedule is None or exact.schedule is not None
    assert seen == {"optimal", "infeasible"}


def test_parts_that_share_no_step_are_solved_apart():
    one, cluster, schedule = busy(14, seed=5, workers=3)
    start = np.concatenate((schedule.start, schedule.start + 1000))
    inst = bro.Instance(start, np.tile(one.prompt, 2), np.tile(one.output, 2))
    alone = bro.solve_placement(one, cluster, schedule.start)
    both = bro.solve_placement(inst, cluster, start)
    assert both.status == alone.status == "optimal"
    assert both.objective == 2 * alone.objective
    assert [p["claim"] for p in both.certificate["data"]["parts"]] == [alone.objective] * 2
    assert bro.verify(inst, cluster, both.certificate) == both.objective


def test_long_outputs_and_many_workers():
    """Stretches of many steps: the bound merges them, the price does not."""
    rng = np.random.default_rng(5)
    for workers in (2, 5):
        inst = bro.Instance(np.sort(rng.integers(0, 60, 9)), rng.integers(1, 40, 9), rng.integers(1, 150, 9))
        cluster = bro.Cluster(workers, 9)
        exact = bro.solve_placement(inst, cluster, inst.release, solver="enumeration")
        found = bro.solve_placement(inst, cluster, inst.release, solver="bnb")
        assert (found.status, found.objective) == ("optimal", exact.objective)


def test_nothing_to_place():
    solution = bro.solve_placement(bro.Instance([], [], []), bro.Cluster(2, 2), [])
    assert (solution.objective, solution.lower_bound, solution.status) == (0, 0, "optimal")


def test_memory_that_is_full_changes_no_result():
    inst, cluster, schedule = busy(24, seed=4, workers=3)
    wide = bro.solve_placement(inst, cluster, schedule.start)
    narrow = branch.Search(branch.window(placement_case(inst, cluster, schedule.start)), wide.objective + 1, 2**16)
    assert len(narrow.word) < 600
    assert narrow.run(60)
    assert narrow.price == narrow.bound == wide.objective


def test_a_node_limit_stops_the_search():
    inst, cluster, schedule = busy(40, seed=3)
    limited = [bro.solve_placement(inst, cluster, schedule.start, solver="bnb", node_limit=500) for _ in range(2)]
    assert limited[0].status == "feasible"
    assert 500 <= limited[0].nodes < 600
    assert limited[0].lower_bound == limited[1].lower_bound
    assert limited[0].schedule == limited[1].schedule
    bounds = [bound for _, _, bound in limited[0].trajectory]
    assert bounds == sorted(bounds)


def test_trees_prove_the_optimum():
    kinds = []
    for seed, n, workers in ((1, 10, 2), (2, 12, 3), (3, 16, 3), (6, 14, 4)):
        inst, cluster, schedule = busy(n, seed, workers)
        for solver in ("bnb", "auto"):
            solution = bro.solve_placement(inst, cluster, schedule.start, solver=solver)
            assert (solution.status, solution.bound_status) == ("optimal", "certified")
            assert bro.verify(inst, cluster, solution.certificate) == solution.objective
            kinds.append(solution.certificate["kind"])
        plain = bro.solve_placement(inst, cluster, schedule.start, solver="bnb", certificate=False)
        assert (plain.objective, plain.certificate) == (solution.objective, None)
    assert kinds.count("tree") >= 6


def test_every_certificate_proves_the_bound_beside_it():
    kinds = set()
    for seed in range(40):
        inst, cluster, run = random_case(seed)
        for solver in ("auto", "bnb", "search", "enumeration", "highs"):
            solution = bro.solve_placement(inst, cluster, run.schedule.start, solver=solver, node_limit=5000)
            assert solution.bound_status == ("claimed" if solution.certificate is None else "certified")
            if solution.certificate is not None:
                assert bro.verify(inst, cluster, solution.certificate) == solution.lower_bound
                kinds.add(solution.certificate["kind"])
            if solution.status == "optimal" and solver in ("bnb", "enumeration"):
                assert solution.certificate is not None
    assert kinds == {"migration", "tree", "enumeration"}


def test_windows_where_the_own_search_does_not_close():
    inst, cluster, schedule = busy(60, seed=2)
    options = {"node_limit": 400, "time_limit": 600}
    alone = bro.solve_placement(inst, cluster, schedule.start, solver="bnb", **options)
    found = [bro.solve_placement(inst, cluster, schedule.start, **options) for _ in range(2)]
    assert found[0].solver == "bnb + windows"
    assert alone.lower_bound < found[0].lower_bound == found[1].lower_bound <= found[0].objective
    assert (found[0].status, found[0].bound_status) == ("feasible", "claimed")


def ruled_case():
    """One request with more tokens than all others together, and a search that never gets anywhere."""
    rng = np.random.default_rng(1)
    inst = bro.Instance(np.append(2, np.sort(rng.integers(0, 9, 12))), [400, *rng.integers(5, 40, 12)], [20, *[7] * 12])
    return inst, bro.Cluster(3, 8)


def test_highs_where_one_request_sets_the_peaks(monkeypatch):
    pytest.importorskip("highspy")
    inst, cluster = ruled_case()
    exact = bro.solve_placement(inst, cluster, inst.release, solver="bnb")
    monkeypatch.setattr(branch.Search, "run", lambda *a: False)
    monkeypatch.setattr(entrance, "_incumbent", lambda case, *a: (np.arange(13) % 3, 10**6))
    found = bro.solve_placement(inst, cluster, inst.release, time_limit=4)
    assert (found.status, found.objective, found.solver) == ("optimal", exact.objective, "bnb + highs")
    lie = Answer("optimal", np.arange(13) % 3, 10.0)
    monkeypatch.setattr(entrance, "solve_highs", lambda *a: lie)
    with pytest.raises(bro.SolverError, match="highs calls"):
        bro.solve_placement(inst, cluster, inst.release, time_limit=0.5)

    def missing(*_):
        raise bro.SolverError("not installed")

    monkeypatch.setattr(entrance, "solve_highs", missing)
    found = bro.solve_placement(inst, cluster, inst.release, time_limit=0.5)
    assert (found.status, found.solver) == ("feasible", "bnb")


@pytest.mark.parametrize(("solver", "module"), [("highs", "highspy"), ("cpsat", "ortools"), ("mathopt", "ortools")])
def test_a_solver_that_is_not_installed(monkeypatch, solver, module):
    for name in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    inst, cluster = bro.Instance([0, 0, 0], [5, 3, 3], [1, 1, 1]), bro.Cluster(2, 2)
    with pytest.raises(bro.SolverError, match=f'the solver "{solver}" is not installed'):
        bro.solve_placement(inst, cluster, [0, 0, 0], solver=solver)


def test_requests_that_do_not_start_in_order():
    # One part, whose requests start in another order than they stand in the instance.
    inst = bro.Instance(release=[0] * 5, prompt=[9, 3, 8, 2, 5], output=[4, 3, 5, 2, 6])
    cluster, start = bro.Cluster(workers=2, slots=2), [6, 4, 2, 5, 0]
    best = bro.solve_placement(inst, cluster, start, solver="enumeration").objective
    for solver in ("bnb", "search", "highs"):
        limit = {"node_limit": 20_000} if solver == "search" else {}
        assert bro.solve_placement(inst, cluster, start, solver=solver, **limit).objective == best
