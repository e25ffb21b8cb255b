"""P2 exactly: all methods agree, infeasible is never mixed up with unsolved, and no solver is taken at its word."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt import Cluster, InputError, Instance, Schedule, SolverError, StepTime
from balanceroute_opt.oracles import schedule as entrance
from balanceroute_opt.oracles import solution
from balanceroute_opt.oracles.given import start_windows
from balanceroute_opt.oracles.patterns import pattern_prices
from balanceroute_opt.oracles.schedule_model import merged_model, schedule_model
from balanceroute_opt.oracles.timetable import Timetable, improve, price

METHODS = ("bnb", "highs", "cpsat")
CASES = 100
NONE = {"max_wait": None, "latest": None}


def random_case(seed: int) -> tuple[Instance, Cluster, dict]:
    """A tiny instance with `max_wait`, with `latest`, or (few requests) without a limit; some are infeasible."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    inst = Instance(rng.integers(0, 6, n), rng.integers(1, 20, n), rng.integers(1, 6, n))
    time = StepTime(
        fixed=float(rng.choice([0.0, 1.0, 7.5, 20.0, 1e-3])),
        per_token=float(rng.choice([0.0, 1.0, 0.3, 1e-6])),
        per_mean_token=float(rng.choice([0.0, 0.1])),
    )
    capacity = None if rng.random() < 0.7 else int((inst.prompt + inst.output).max() + rng.integers(0, 10))
    cluster = Cluster(int(rng.integers(1, 4)), int(rng.integers(1, 3)), capacity, time)
    form = seed % 3
    if form == 0 or (form == 2 and n > 4):
        return inst, cluster, {"max_wait": int(rng.integers(0, 4))}
    if form == 1:
        return inst, cluster, {"latest": inst.release + rng.integers(0, 5, n)}
    return inst, cluster, {}


def busy(n: int, seed: int) -> tuple[Instance, Cluster, bro.Run]:
    """Two workers of three slots, with c the mean load of a step."""
    inst = bro.generate(
        "poisson-lognormal", n=n, seed=seed, clock="step", rate=0.001, prompt_mu=6.5, prompt_sigma=0.9, output_mu=2.8,
        output_sigma=0.7,
    )  # fmt: skip
    cluster = Cluster(2, 3, step_time=StepTime(0.0, 1e-6))
    inst = inst.scaled_to(cluster, utilization=1.2)
    run = bro.simulate(inst, cluster, "br-0")
    mean = round(inst.total_work / 2 / len(run.peak_loads))
    return inst, cluster.replace(step_time=StepTime(mean * 1e-6, 1e-6)), run


def close(a: float, b: float) -> bool:
    return a == b or abs(a - b) <= 1e-6 * abs(b)


def test_by_hand():
    # Loads 4, 5 each on a worker of its own. At once: 2 steps of 10 s, peaks 4 + 5. Apart: 3 steps, peaks 4 + 5 + 5.
    inst = Instance(release=[0, 1], prompt=[4, 4], output=[2, 2])
    cluster = Cluster(2, 1, step_time=StepTime(fixed=10.0, per_token=1.0))
    for solver in ("auto", "enumeration", *METHODS):
        for wait, cost in ((0, 44.0), (1, 29.0)):
            found = bro.solve_schedule(inst, cluster, solver=solver, max_wait=wait)
            assert (found.objective, found.lower_bound, found.status) == (cost, cost, "optimal")
            assert (found.gap, found.problem) == (0.0, "schedule")
            assert found.windows == f"max_wait = {wait}"
    # The constant b*W/G: W = 18.
    cluster = cluster.replace(step_time=StepTime(10.0, 1.0, 0.5))
    assert bro.solve_schedule(inst, cluster, max_wait=1).objective == 29 + 0.5 * 18 / 2


def test_nothing_to_schedule():
    found = bro.solve_schedule(Instance([], [], []), Cluster(2, 2), max_wait=3)
    assert (found.objective, found.status) == (0.0, "optimal")
    assert bro.solve_schedule(Instance([], [], []), Cluster(2, 2)).status == "optimal"
    assert bro.least_wait(Instance([], [], []), Cluster(2, 2)).value == 0


@pytest.mark.parametrize("seeds", [range(k, k + 10) for k in range(0, CASES, 10)], ids=lambda s: f"{s[0]}-{s[-1]}")
def test_methods_agree_on_random_instances(seeds):
    for seed in seeds:
        inst, cluster, windows = random_case(seed)
        best = bro.solve_schedule(inst, cluster, solver="enumeration", **windows)
        assert best.status in ("optimal", "infeasible")
        for method in METHODS:
            found = bro.solve_schedule(inst, cluster, solver=method, time_limit=60, **windows)
            assert found.status == best.status, (seed, method)
            assert close(found.objective, best.objective), (seed, method)
            assert close(found.lower_bound, best.lower_bound), (seed, method)
        if best.certificate is not None and best.status == "infeasible":
            assert bro.verify(inst, cluster, best.certificate) == math.inf
        bounds = [bro.schedule_bound(inst, cluster, m, **windows).exact for m in ("fluid", "lagrangian")]
        assert bounds == sorted(bounds)
        if best.schedule is not None:
            assert float(bounds[-1]) <= best.objective * (1 + 1e-12)


def test_random_instances_hold_every_kind():
    seen = set()
    for seed in range(CASES):
        inst, cluster, windows = random_case(seed)
        form = next(iter(windows), "no limit")
        seen.add((form, bro.solve_schedule(inst, cluster, **windows).status))
    assert seen == {
        ("max_wait", "optimal"),
        ("max_wait", "infeasible"),
        ("latest", "optimal"),
        ("latest", "infeasible"),
        ("no limit", "optimal"),
    }


@pytest.mark.parametrize("seed", range(12))
def test_given_starts_are_placement(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    inst = Instance(rng.integers(0, 9, n), rng.integers(1, 13, n), rng.integers(1, 7, n))
    cluster = Cluster(int(rng.integers(1, 4)), int(rng.integers(1, 4)), step_time=StepTime(3.0, 0.5, 0.25))
    run = bro.simulate(inst, cluster, "least-kv")
    start = run.schedule.start
    order = np.argsort(start, kind="stable")
    start, inst = start[order], inst.take(order)
    fixed = inst.replace(release=start)
    placement = bro.solve_placement(fixed, cluster, start, solver="enumeration")
    steps = len(bro.peak_loads(fixed, cluster, placement.schedule))
    cost = 3.0 * steps + 0.5 * placement.objective + 0.25 * inst.total_work / cluster.workers
    for solver in METHODS:
        found = bro.solve_schedule(fixed, cluster, solver=solver, max_wait=0)
        assert (found.schedule.start == start).all()
        assert close(found.objective, cost)


@pytest.mark.parametrize("seed", range(8))
def test_without_a_limit_releases_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    inst = Instance(rng.integers(0, 30, n), rng.integers(1, 20, n), rng.integers(1, 5, n))
    cluster = Cluster(2, int(rng.integers(1, 3)), step_time=StepTime(5.0, 1.0))
    free = bro.solve_schedule(inst, cluster)
    together = bro.solve_schedule(inst.replace(release=np.zeros(n, int)), cluster, solver="enumeration")
    assert free.status == together.status == "optimal"
    assert close(free.objective, together.objective)
    assert "releases do not matter" in free.windows
    bro.check(inst, cluster, free.schedule)  # of the instance with its releases
    # Windows wide enough to wait for the last release leave nothing else to gain.
    wide = bro.solve_schedule(inst, cluster, latest=np.full(n, int(inst.release.max() + inst.output.sum())))
    assert close(wide.objective, free.objective)


def test_infeasible_and_unsolved_are_told_apart():
    # Three requests of four steps on two slots: one must wait four steps.
    inst, cluster = Instance([0, 0, 0], [1, 1, 1], [4, 4, 4]), Cluster(1, 2, step_time=StepTime(1.0, 1.0))
    for solver in ("auto", "enumeration", *METHODS):
        found = bro.solve_schedule(inst, cluster, solver=solver, max_wait=3)
        assert (found.status, found.schedule, found.objective) == ("infeasible", None, math.inf)
        # Seven steps have 14 slot-steps for 12, so that a cut proves nothing; with a wait of 1 it does.
        assert found.certificate is None
        assert "ruled out" in found.message
        assert bro.solve_schedule(inst, cluster, solver=solver, max_wait=4).status == "optimal"
        short = bro.solve_schedule(inst, cluster, solver=solver, max_wait=1)
        assert (short.status, short.bound_status) == ("infeasible", "certified")
        assert "3 requests need 12 slot-steps in steps 0..4, which have 10" in short.message
        assert bro.verify(inst, cluster, short.certificate) == math.inf
        late = bro.solve_schedule(inst, cluster, solver=solver, latest=[0, 1, 1])
        assert (late.status, bro.verify(inst, cluster, late.certificate)) == ("infeasible", math.inf)
    # A search that is cut off has proved nothing.
    inst, cluster, _ = busy(14, 1)
    for solver in METHODS:
        found = bro.solve_schedule(inst, cluster, solver=solver, max_wait=8, node_limit=1, time_limit=5)
        assert found.status in ("feasible", "no_solution")
        assert math.isfinite(found.lower_bound)


def test_node_limit_decides_alone():
    inst, cluster, run = busy(14, 2)
    results = [
        bro.solve_schedule(inst, cluster, max_wait=8, node_limit=300, time_limit=300, warm=warm)
        for warm in (None, None, run.schedule)
        if warm is None or (run.schedule.start <= inst.release + 8).all()
    ]
    assert results[0].objective == results[1].objective
    assert results[0].lower_bound == results[1].lower_bound
    assert results[0].nodes == results[1].nodes
    times = [t for t, _, _ in results[0].trajectory]
    assert times == sorted(times)


def test_warm_start_is_never_lost():
    inst, cluster, run = busy(12, 3)
    for solver in METHODS:
        found = bro.solve_schedule(
            inst, cluster, solver=solver, latest=run.schedule.start, warm=run.schedule, node_limit=1, time_limit=20
        )
        assert found.objective <= bro.decode_time(inst, cluster, run.schedule) * (1 + 1e-12)


def test_least_wait_by_hand():
    # Slots for 2; with a wait of 1 the three need 12 slot-steps in steps 0..4, which have 10.
    inst, cluster = Instance([0, 0, 0], [1, 1, 1], [4, 4, 4]), Cluster(1, 2)
    least = bro.least_wait(inst, cluster)
    assert (least.value, least.needed, least.room, least.steps) == (2, 12, 10, ((0, 5),))
    assert "at least 2 steps" in str(least)
    assert bro.least_wait(inst, Cluster(1, 3)).value == 0


@pytest.mark.parametrize("seed", range(20))
def test_least_wait_is_needed(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 6))
    inst = Instance(rng.integers(0, 4, n), rng.integers(1, 9, n), rng.integers(1, 5, n))
    cluster = Cluster(1, int(rng.integers(1, 3)), step_time=StepTime(1.0, 1.0))
    least = bro.least_wait(inst, cluster)
    assert (least.needed > least.room) == (least.value > 0)
    if least.value:
        short = bro.solve_schedule(inst, cluster, max_wait=least.value - 1, solver="enumeration")
        assert short.status == "infeasible"


def test_lying_solvers_are_caught(monkeypatch):
    inst, cluster = Instance([0, 1], [4, 4], [2, 2]), Cluster(2, 1, step_time=StepTime(10.0, 1.0))
    right = (np.array([1, 1]), np.array([0, 1]))

    def lie(answer: Timetable, start=None, worker=None, **windows):
        answer.start, answer.worker = start, worker
        monkeypatch.setitem(entrance._BACKENDS, "bnb", lambda problem: answer)
        return bro.solve_schedule(inst, cluster, solver="bnb", **(windows or {"max_wait": 1}))

    with pytest.raises(SolverError, match=r"returned a schedule that is none: .*worker 0"):
        lie(Timetable("optimal", lower_bound=29.0), right[0], np.array([0, 0]))
    with pytest.raises(SolverError, match="request 1 starts in step 3, after the last one allowed, 2"):
        lie(Timetable("optimal", lower_bound=29.0), np.array([0, 3]), right[1])
    with pytest.raises(SolverError, match="claims that no schedule takes less than 30 s, and returned one of 29 s"):
        lie(Timetable("limit", lower_bound=30.0), *right)
    with pytest.raises(SolverError, match="calls 44 s optimal, and its bound is 29 s"):
        lie(Timetable("optimal", lower_bound=29.0), np.array([0, 1]), right[1])
    with pytest.raises(SolverError, match="no schedule keeps the windows, and there is one"):
        lie(Timetable("infeasible"), *right)
    with pytest.raises(SolverError, match="calls a schedule optimal, and returned none"):
        lie(Timetable("optimal", lower_bound=29.0))
    assert lie(Timetable("limit")).status == "no_solution"


def test_unknown_status_is_an_error(monkeypatch):
    inst, cluster = Instance([0, 1], [4, 4], [2, 2]), Cluster(2, 1, step_time=StepTime(10.0, 1.0))
    for solver, own in (("highs", "HiGHS"), ("cpsat", "CP-SAT")):
        monkeypatch.setitem(solution.STATUS, solver, {})
        with pytest.raises(SolverError, match=f"{own} ended with the status .*, which is no result"):
            bro.solve_schedule(inst, cluster, solver=solver, max_wait=1)


def test_missing_solvers_are_named(monkeypatch):
    import sys

    inst, cluster = Instance([0, 1], [4, 4], [2, 2]), Cluster(2, 1, step_time=StepTime(10.0, 1.0))
    monkeypatch.setitem(sys.modules, "highspy", None)
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    for solver in ("highs", "cpsat"):
        with pytest.raises(SolverError, match=f'the solver "{solver}" is not installed'):
            bro.solve_schedule(inst, cluster, solver=solver, max_wait=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "gurobi"}, "unknown solver 'gurobi'; solvers: auto, bnb, highs, cpsat, enumeration"),
        ({"latest": [0, 0]}, r"latest\[1\] = 0 lies before the release 1 of request 1"),
        ({"latest": [3]}, "latest has 1 entries, the instance 2 requests"),
        ({"latest": [3, 2**63]}, "latest"),
        ({"max_wait": -1}, "max_wait must be >= 0, got -1"),
        ({"max_wait": 0.5}, "max_wait"),
        ({"time_limit": 0}, "time_limit"),
        ({"seed": -1}, "seed"),
        ({"node_limit": 0}, "node_limit"),
        ({"solver": "enumeration", "max_wait": 10**6}, "enumeration is for tiny problems: 2 requests"),
        ({"solver": "bnb", "max_wait": 10**7}, "the search is for small problems: 2 requests"),
        ({"solver": "highs", "max_wait": 10**7}, "time-indexed model of 2 requests .* is too large"),
        ({"max_wait": 1, "warm": Schedule([9, 9], [0, 1])}, "warm starts request 0 in step 9, after the last one"),
        ({"max_wait": 1, "warm": Schedule([0, 0], [0, 1])}, "warm is not a schedule of this instance"),
    ],
)
def test_bad_input(options, message):
    inst, cluster = Instance([0, 1], [4, 4], [2, 2]), Cluster(2, 1, step_time=StepTime(10.0, 1.0))
    with pytest.raises(InputError, match=message) as caught:
        bro.solve_schedule(inst, cluster, **options)
    assert "\n" not in str(caught.value)


def test_other_bad_instances():
    wall = Instance([0.0, 0.5], [4, 4], [2, 2], clock="wall")
    for call in (bro.solve_schedule, bro.least_wait):
        with pytest.raises(InputError, match="wall clock"):
            call(wall, Cluster(2, 1))
        with pytest.raises(InputError, match="request 1"):
            call(Instance([0, 1], [4, 40], [2, 2]), Cluster(2, 1, kv_capacity=20))


def test_auto_falls_back_to_a_list_schedule():
    inst, cluster = Instance([0, 1], [4, 4], [2, 2]), Cluster(2, 1, step_time=StepTime(10.0, 1.0))
    found = bro.solve_schedule(inst, cluster, max_wait=3 * 10**6)
    assert (found.status, found.solver) == ("no_solution", "list")
    assert found.bound_status == "certified"
    bro.verify(inst, cluster, found.certificate)


def test_kv_capacity_is_kept():
    # Each request holds up to 6 tokens; 10 on a worker do not hold two of them in their second step.
    inst = Instance([0, 0], [4, 5], [2, 2])
    cluster = Cluster(1, 2, step_time=StepTime(1.0, 1.0))
    assert bro.solve_schedule(inst, cluster, max_wait=5).objective == 2 + 9 + 11
    tight = cluster.replace(kv_capacity=10)
    for solver in ("enumeration", *METHODS):
        found = bro.solve_schedule(inst, tight, solver=solver, max_wait=5)
        # One step apart: 4 | 5 + 5 | 6, or 5 | 6 + 4 | 5.
        assert found.objective == 3 + 4 + 10 + 6
        assert bro.peak_loads(inst, tight, found.schedule).max() <= 10


def test_bound_of_the_solution_is_certified_where_it_rests_on_it():
    inst, cluster = Instance([0, 5], [10, 10], [1, 1]), Cluster(2, 1, step_time=StepTime(1.0, 1.0))
    cut = bro.solve_schedule(*busy(12, 1)[:2], max_wait=8, node_limit=1)
    if cut.bound_status == "certified":
        assert cut.certificate == cut.certified.certificate
    found = bro.solve_schedule(inst, cluster, max_wait=0)
    assert found.certified.value <= found.lower_bound == found.objective == 22.0
    assert bro.verify(inst, cluster, found.certified.certificate) == found.certified.value
    # One unit request: fluid is the optimum, and certifies it.
    one = bro.solve_schedule(Instance([0], [3], [2]), cluster)
    assert (one.status, one.bound_status) == ("optimal", "certified")


@pytest.mark.parametrize("seed", range(6))
def test_models_are_what_their_rows_say(seed):
    """HiGHS proves the same with the strengthened and the plain model, and merged workers bound it from below."""
    highspy = pytest.importorskip("highspy")
    from balanceroute_opt.oracles.highs import _load
    from balanceroute_opt.oracles.schedule_solvers import schedule_highs

    inst, cluster, _ = random_case(seed)
    last = inst.release + 2
    case = entrance.window_case(inst, cluster, last)
    ours, plain = (schedule_highs(case, 30, strengthen=strong) for strong in (True, False))
    assert ours.status == plain.status
    if ours.status == "infeasible":
        return
    assert close(ours.lower_bound, plain.lower_bound)
    highs = _load(merged_model(case))
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    second = cluster.step_time.per_token or cluster.step_time.fixed or 1.0
    assert highs.getInfo().objective_function_value * second <= ours.lower_bound * (1 + 1e-7) + 1e-9
    model = schedule_model(case)
    assert len(set(model.variables)) == len(model.variables)
    assert len(set(model.rows)) == len(model.rows)
    assert any(name.startswith("x[i=0,t=") for name in model.variables)


@pytest.mark.parametrize("seed", range(1, 4))
def test_multipliers_are_close_to_those_of_the_linear_program(seed):
    pytest.importorskip("highspy")
    from balanceroute_opt.oracles.highs import _load

    inst, cluster, run = busy(10, seed)
    for windows in ({"max_wait": 8}, {"latest": run.schedule.start}):
        case = entrance.window_case(inst, cluster, start_windows(inst, cluster, **{**NONE, **windows})[0])
        highs = _load(merged_model(case))
        highs.run()
        best = highs.getInfo().objective_function_value * cluster.step_time.per_token + float(case.constant)
        ascent = bro.schedule_bound(inst, cluster, "lagrangian", **windows)
        exact = bro.prices(inst, cluster, **windows).bound  # multipliers from the duals of that program
        assert 0.99 * best <= ascent.value <= best * (1 + 1e-7)
        assert best * (1 - 1e-5) <= exact.value <= best * (1 + 1e-7)


def test_patterns_by_hand():
    # Two requests of 10 tokens and one step on two workers: together a step costs 1 + 10, apart 1 + 10 each.
    inst = Instance([0, 0], [10, 10], [1, 1])
    cluster = Cluster(2, 1, step_time=StepTime(1.0, 1.0))
    case = entrance.window_case(inst, cluster, inst.release + 1)
    found = pattern_prices(case, 0)
    assert 11 * (1 - 1e-6) <= found.value * float(case.weights()[2]) <= 11
    # On one worker of two slots peaks add up: 1 + 20 together, which is less than 11 + 11.
    cluster = cluster.replace(workers=1, slots=2)
    case = entrance.window_case(inst, cluster, inst.release + 1)
    assert 21 * (1 - 1e-6) <= pattern_prices(case, 0).value * float(case.weights()[2]) <= 21


@pytest.mark.parametrize("seed", range(40))
def test_patterns_stay_below_the_optimum(seed):
    inst, cluster, windows = random_case(seed)
    best = bro.solve_schedule(inst, cluster, solver="enumeration", **windows)
    if best.status == "infeasible":
        return
    case = entrance.window_case(inst, cluster, start_windows(inst, cluster, **{**NONE, **windows})[0])
    found = pattern_prices(case, 0)
    assert float(found.value * case.weights()[2] + case.constant) <= best.objective * (1 + 1e-12)


def test_patterns_beat_merged_workers():
    for seed in range(1, 4):
        inst, cluster, _ = busy(10, seed)
        case = entrance.window_case(inst, cluster, inst.release + 8)
        merged = bro.schedule_bound(inst, cluster, "lagrangian", max_wait=8)
        assert float(pattern_prices(case, 0).value * case.weights()[2]) > merged.value * 1.001
    # More requests in a step than there are tables for.
    inst, cluster, _ = busy(40, 1)
    assert pattern_prices(entrance.window_case(inst, cluster, inst.release + 100), 0) is None


@pytest.mark.parametrize("form", ["latest", "no limit"])
def test_annealing_keeps_the_rules(form):
    inst, cluster, _ = busy(12, 1)
    end = int(inst.release.max())
    last = np.full(12, end + int(inst.output.sum())) if form == "latest" else None
    for capacity in (None, int((inst.prompt + inst.output).max()) + 500):
        some = cluster.replace(kv_capacity=capacity)
        start, worker = entrance._list_schedule(inst, some, None)
        case = entrance.window_case(inst, some, last)
        if last is not None:  # all wait for the last release
            start = case.first.max() + start
        better = improve(case, start, worker, seed=1, moves=20_000)
        assert price(case, *better) < price(case, start, worker)
        assert (better[0] <= case.first + case.wait).all()
        bro.check(case.inst, some, case.schedule(*better))
        again = improve(case, start, worker, seed=1, moves=20_000)
        assert all((x == y).all() for x, y in zip(better, again, strict=True))


def test_exact_value_is_not_above_the_float_one():
    for seed in range(20):
        inst, cluster, windows = random_case(seed)
        bound = bro.schedule_bound(inst, cluster, "lagrangian", **windows)
        assert Fraction(bound.value) <= bound.exact
        assert bound.value == pytest.approx(float(bound.exact), rel=1e-15)
