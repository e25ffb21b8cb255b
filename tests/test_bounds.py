"""Lower bounds: hand-computed cases, and never above the optimum that enumeration finds."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt import Cluster, InputError, Instance, StepTime
from balanceroute_opt.certificates import new_certificate
from balanceroute_opt.oracles import floors, given, lagrangian, windows

PLACEMENT = ("fluid", "item", "pigeonhole", "migration")
SCHEDULE = ("fluid", "lagrangian")
WINDOWS = ({}, {"max_wait": 2}, {"latest": True})


def random_case(rng: np.random.Generator, n: int, tokens: int = 12) -> tuple[Instance, Cluster, np.ndarray]:
    """A tiny instance with starts that some placement admits."""
    while True:
        inst = Instance(release=rng.integers(0, 6, n), prompt=rng.integers(1, tokens, n), output=rng.integers(1, 5, n))
        cluster = Cluster(
            workers=int(rng.integers(1, 4)),
            slots=int(rng.integers(1, 4)),
            step_time=StepTime(fixed=float(rng.choice([0.0, 0.3, 7.1])), per_token=0.1, per_mean_token=0.07),
        )
        start = inst.release + rng.integers(0, 4, n)
        if most_active(inst, start) <= cluster.workers * cluster.slots:
            return inst, cluster, start


def most_active(inst: Instance, start: np.ndarray) -> int:
    return max(((start <= k) & (k < start + inst.output)).sum() for k in range(int((start + inst.output).max())))


def feasible(inst: Instance, cluster: Cluster, sched: bro.Schedule) -> bool:
    try:
        bro.check(inst, cluster, sched)
    except bro.InvalidSchedule:
        return False
    return True


def best_placement(inst: Instance, cluster: Cluster, start: np.ndarray) -> int | None:
    """Optimum of P1 by enumeration, None if no placement exists."""
    costs = [
        bro.peak_sum(inst, cluster, sched)
        for worker in itertools.product(range(cluster.workers), repeat=len(inst))
        if feasible(inst, cluster, sched := bro.Schedule(start, worker))
    ]
    return min(costs, default=None)


def best_schedule(inst: Instance, cluster: Cluster, last: np.ndarray) -> float | None:
    """Optimum of P2 by enumeration of all starts up to `last` and all workers."""
    best = None
    windows = [range(int(r), int(d) + 1) for r, d in zip(inst.release, last, strict=True)]
    for start in itertools.product(*windows):
        if most_active(inst, np.array(start)) > cluster.workers * cluster.slots:
            continue
        for worker in itertools.product(range(cluster.workers), repeat=len(inst)):
            sched = bro.Schedule(start, worker)
            if worker[0] == 0 and feasible(inst, cluster, sched):
                cost = bro.decode_time(inst, cluster, sched)
                best = cost if best is None else min(best, cost)
    return best


def test_placement_by_hand():
    # G = 2. Request 0: loads 9, 10 in steps 0, 1. Request 1: loads 2, 3, 4 in steps 1, 2, 3. Request 2: 3 in step 3.
    inst = Instance(release=[0, 1, 3], prompt=[9, 2, 3], output=[2, 3, 1])
    cluster = Cluster(workers=2, slots=2)
    start = [0, 1, 3]
    # W = 9, 12, 3, 7; halves rounded up 5 + 6 + 2 + 4 = 17
    assert bro.placement_bound(inst, cluster, start, method="fluid").value == 17
    # largest 9, 10, 3, 4: max with the halves 9 + 10 + 3 + 4 = 26
    assert bro.placement_bound(inst, cluster, start, method="item").value == 26


def test_idle_steps_cost_nothing():
    # A request at step 0 and one at step 2**40: loads 4, then 6, 7.
    inst = Instance(release=[2**40, 0], prompt=[6, 4], output=[2, 1])
    bound = bro.placement_bound(inst, Cluster(workers=3, slots=1), inst.release, method="fluid")
    assert bound.value == 2 + 2 + 3  # ceil(4/3) + ceil(6/3) + ceil(7/3)
    assert bro.placement_bound(inst, Cluster(workers=3, slots=1), inst.release, method="item").value == 17


def test_pigeonhole_by_hand():
    # One step, G = 2, loads 9 8 7 2 1; W/G = 13.5. Two of 9 8 7 share a worker: 15. Three of all five: 1 + 2 + 7 = 10.
    inst = Instance(release=[0] * 5, prompt=[9, 8, 7, 2, 1], output=[1] * 5)
    assert bro.placement_bound(inst, Cluster(2, 5), [0] * 5, method="item").value == 14
    assert bro.placement_bound(inst, Cluster(2, 5), [0] * 5, method="pigeonhole").value == 15
    # Slots, B = 3: beside 30 sit at least 5 - 3 - 1 = 1 of the others: 30 + 1.
    inst = inst.replace(prompt=[30, 8, 7, 2, 1])
    assert bro.placement_bound(inst, Cluster(2, 5), [0] * 5, method="pigeonhole").value == 30
    assert bro.placement_bound(inst, Cluster(2, 3), [0] * 5, method="pigeonhole").value == 31


def test_migration_by_hand():
    # One step, G = 2, loads 5 5 4 4 4: W/G = 11, two of 5 5 4 share a worker (9), three of all (12): 12 it is.
    inst = Instance(release=[0] * 5, prompt=[5, 5, 4, 4, 4], output=[1] * 5)
    assert bro.placement_bound(inst, Cluster(2, 5), [0] * 5, method="pigeonhole").value == 12
    # Loads 7 7 6 6: W/G = 13 = 7 + 6; loads 9 5 5 5: W/G = 12, pairs 10, and best is 9 + 5 = 14 or 5 + 5 + 5 = 15.
    inst = Instance(release=[0] * 4, prompt=[9, 5, 5, 5], output=[1] * 4)
    bound = bro.placement_bound(inst, Cluster(2, 4), [0] * 4, method="migration")
    assert bound.value == 14
    assert bound.certificate["data"]["raised"] == [[0, 14]]
    assert bro.placement_bound(inst, Cluster(2, 4), [0] * 4, method="pigeonhole").value == 12


@pytest.mark.parametrize("seed", range(30))
def test_migration_equals_enumeration_step_by_step(seed):
    rng = np.random.default_rng(seed)
    n, workers = int(rng.integers(1, 8)), int(rng.integers(1, 4))
    slots = int(rng.integers(-(-n // workers), n + 1))
    inst = Instance(rng.integers(0, 3, n), rng.integers(1, 30, n), rng.integers(1, 5, n))
    expected = 0
    for k in range(int((inst.release + inst.output).max())):
        loads = [
            int(s + k - t) for s, t, o in zip(inst.prompt, inst.release, inst.output, strict=True) if t <= k < t + o
        ]
        maxima = []
        for worker in itertools.product(range(workers), repeat=len(loads)):
            per = [[w for w, g in zip(loads, worker, strict=True) if g == h] for h in range(workers)]
            if max(len(p) for p in per) <= slots:
                maxima.append(max(sum(p) for p in per))
        expected += min(maxima)
    cluster = Cluster(workers, slots)
    bound = bro.placement_bound(inst, cluster, inst.release, method="migration")
    assert bound.value == expected
    assert bro.verify(inst, cluster, bound.certificate) == expected
    # A search that is cut off proves less, never more.
    short = bro.placement_bound(inst, cluster, inst.release, method="migration", node_limit=2)
    assert bro.verify(inst, cluster, short.certificate) == short.value <= expected


@pytest.mark.parametrize("seed", range(20))
def test_search_agrees_with_enumeration_of_subsets(seed):
    from balanceroute_opt.oracles import _partition

    rng = np.random.default_rng(seed)
    n, workers = int(rng.integers(4, 12)), int(rng.integers(2, 5))
    slots = int(rng.integers(-(-n // workers), n + 1))
    items = np.sort(rng.integers(1, 40, n))[::-1].copy()
    states = {tuple([(0, 0)] * workers)}  # (load, count) of each worker, sorted: all placements
    for w in items.tolist():
        states = {
            tuple(sorted((*s[:g], (s[g][0] + w, s[g][1] + 1), *s[g + 1 :])))
            for s in states
            for g in range(workers)
            if s[g][1] < slots
        }
    best = min(max(load for load, _ in s) for s in states)
    assert _partition.packs(items, workers, slots, best, 10**6)[0] == _partition.FEASIBLE
    assert _partition.packs(items, workers, slots, best - 1, 10**6)[0] == _partition.INFEASIBLE
    low = max(-(-int(items.sum()) // workers), int(items[0]))
    assert best <= _partition.spread(items, workers, slots, low)
    assert _partition.least_maximum(items, workers, slots, low, int(items.sum()), 10**6)[0] == best


def test_dear_proofs_are_dropped(monkeypatch):
    rng = np.random.default_rng(5)
    n = 60
    inst = Instance(rng.integers(0, 40, n), rng.lognormal(6, 1, n).astype(int) + 1, rng.integers(5, 20, n))
    cluster = Cluster(8, n)
    values = [bro.placement_bound(inst, cluster, inst.release, method=m).value for m in PLACEMENT]
    assert values == sorted(values)
    assert values[-1] > values[-2]
    monkeypatch.setattr("balanceroute_opt.oracles.floors._VERIFIED_NODES", 20)
    less = bro.placement_bound(inst, cluster, inst.release, method="migration")
    assert values[-2] <= less.value < values[-1]
    assert bro.verify(inst, cluster, less.certificate) == less.value


def test_bounds_of_a_trace(traces):
    inst = bro.read_trace(traces / "azure_2023_conv.csv.gz").head(1500).to_step_clock(0.05)
    cluster = Cluster(8, 200)
    values = []
    for method in PLACEMENT:
        bound = bro.placement_bound(inst, cluster, inst.release, method=method)
        assert bro.verify(inst, cluster, bound.certificate) == bound.value
        values.append(bound.value)
    assert values == sorted(values)


def test_schedule_by_hand():
    # works: 2*5 + 1 = 11, 1*2 = 2, 3*1 + 3 = 6; W = 19; sum of outputs 6
    inst = Instance(release=[0, 0, 4], prompt=[5, 2, 1], output=[2, 1, 3])
    time = StepTime(fixed=1.0, per_token=0.5, per_mean_token=0.25)
    cluster = Cluster(workers=2, slots=1, step_time=time)
    # No limit: K_min = max(3, ceil(6/2)) = 3; max(19/2, 11) = 11; 3 + 5.5 + 0.25 * 9.5 = 10.875
    bound = bro.schedule_bound(inst, cluster)
    assert bound.value == 10.875
    assert bound.exact == Fraction(87, 8)
    # max_wait = 1: request 0 must run in [1, 2), request 2 in [5, 7): 3 steps, no more than before.
    assert bro.schedule_bound(inst, cluster, max_wait=1).value == 10.875
    # No waiting: [0, 2), [0, 1), [4, 7) are 5 steps: 2 seconds more.
    assert bro.schedule_bound(inst, cluster, max_wait=0).value == 12.875
    assert bro.schedule_bound(inst, cluster, latest=inst.release).value == 12.875
    # Both: the earlier limit counts. latest = 0, 9, 9 and max_wait = 3: [0, 2), none, none.
    assert bro.schedule_bound(inst, cluster, max_wait=3, latest=[0, 9, 9]).value == 10.875


def test_schedule_value_is_rounded_down():
    inst = Instance(release=[0, 0, 0], prompt=[1, 1, 1], output=[1, 1, 1])
    for workers in range(1, 30):
        cluster = Cluster(workers, 3, step_time=StepTime(fixed=0.1, per_token=0.3, per_mean_token=0.7))
        bound = bro.schedule_bound(inst, cluster)
        assert Fraction(bound.value) <= bound.exact < Fraction(np.nextafter(bound.value, np.inf))


@pytest.mark.parametrize("seed", range(60))
def test_placement_bounds_stay_below_the_optimum(seed):
    inst, cluster, start = random_case(np.random.default_rng(seed), n=5)
    best = best_placement(inst, cluster, start)
    values = [bro.placement_bound(inst, cluster, start, method=m).value for m in PLACEMENT]
    assert values == sorted(values)
    if best is not None:  # an interval graph with G*B colours always has one, so this is never skipped
        assert values[-1] <= best


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("windows", WINDOWS, ids=["no limit", "max_wait", "latest"])
def test_schedule_bounds_stay_below_the_optimum(seed, windows):
    inst, cluster, start = random_case(np.random.default_rng(seed), n=3)
    if "latest" in windows:
        windows = {"latest": start}
        last = start
    elif "max_wait" in windows:
        last = inst.release + 2
    else:
        inst = inst.replace(release=[0, 0, 0])  # the optimum does not depend on releases
        last = np.full(3, int(inst.output.sum()) - 1)
    best = best_schedule(inst, cluster, last)
    values = [bro.schedule_bound(inst, cluster, method=m, **windows).exact for m in SCHEDULE]
    assert values == sorted(values)
    if best is not None:
        assert float(values[-1]) <= best * (1 + 1e-12)


def test_lagrangian_by_hand():
    # Two requests of 10 tokens and one step each, which must run in steps 0 and 5; G = 2, c = a = 1.
    inst = Instance(release=[0, 5], prompt=[10, 10], output=[1, 1])
    cluster = Cluster(2, 1, step_time=StepTime(fixed=1.0, per_token=1.0))
    # fluid: 2 steps, and max(20/2, 10) = 10 tokens. With nu = a for both requests: 2 + 10 + 10, the optimum.
    assert bro.schedule_bound(inst, cluster, max_wait=0).value == 12
    bound = bro.schedule_bound(inst, cluster, method="lagrangian", max_wait=0)
    assert 22 - 1e-6 < bound.value <= 22
    assert bound.certificate["kind"] == bound.method == "lagrangian"
    # Without a limit, and where nothing better is found, it is the fluid bound with its certificate.
    free = bro.schedule_bound(inst, cluster, method="lagrangian")
    assert free.exact == bro.schedule_bound(inst, cluster).exact
    assert (free.method, free.certificate["kind"]) == ("lagrangian", "fluid")


def random_multipliers(rng, windows, inst, scale):
    """Any shares at all, also ones that exceed the prices."""
    pairs = [
        (i, int(windows.first[i]) + j)
        for i in range(len(inst))
        for j in range(int(windows.wait[i] + inst.output[i]))
        if rng.random() < 0.5
    ]
    request, position = np.array(pairs, np.int64).reshape(-1, 2).T.copy()
    return lagrangian.Multipliers(
        theta=float(rng.random()),
        sigma=scale * rng.random(len(windows.step)) * (rng.random(len(windows.step)) < 0.5),
        request=request,
        position=position,
        nu=scale * rng.random(len(pairs)),
        eta=scale * rng.random(len(pairs)),
    )


@pytest.mark.parametrize("seed", range(30))
def test_any_multipliers_give_a_bound(seed):
    rng = np.random.default_rng(seed)
    inst, cluster, start = random_case(rng, n=3)
    last = start if seed % 2 else inst.release + 2
    best = best_schedule(inst, cluster, last)
    windows = lagrangian.Windows.of(inst, last)
    b = Fraction(cluster.step_time.per_mean_token) * Fraction(inst.total_work, cluster.workers)
    for scale in (0.1, 0.5, 2.0):
        multipliers = random_multipliers(rng, windows, inst, scale)
        value, data = lagrangian.certified(inst, cluster, windows, given.least_steps(inst, cluster, last), multipliers)
        if best is not None:
            assert float(value + b) <= best * (1 + 1e-12)
        data = {"max_wait": None, "latest": last.tolist(), **data}
        if value + b >= 0:
            certificate = new_certificate("schedule", "lagrangian", inst, cluster, value + b, data)
            assert bro.verify(inst, cluster, certificate) == pytest.approx(float(value + b), rel=1e-15)


@pytest.mark.parametrize("seed", range(6))
def test_multipliers_come_close_to_the_best(seed):
    rng = np.random.default_rng(seed)
    n = 12
    inst = Instance(
        rng.integers(0, 40, n), rng.lognormal(6.5, 0.9, n).astype(int) + 1, rng.lognormal(2.8, 0.7, n).astype(int) + 1
    )
    cluster = Cluster(2, 6, step_time=StepTime(fixed=1500.0, per_token=1.0))
    last = inst.release + 8
    windows = lagrangian.Windows.of(inst, last)
    steps = given.least_steps(inst, cluster, last)
    multipliers, value, limit = lagrangian.best_multipliers(inst, cluster, windows, steps, 300)
    assert value <= limit * (1 + 1e-12)
    assert limit <= value * 1.005
    exact, _ = lagrangian.certified(inst, cluster, windows, steps, multipliers)
    assert value * (1 - 1e-6) <= float(exact) <= value * (1 + 1e-9)  # rounded down


def test_windows_too_long_for_multipliers():
    inst = Instance([0], [1], [1])
    with pytest.raises(InputError, match="more than 20000000; use the fluid bound"):
        bro.schedule_bound(inst, Cluster(1, 1), method="lagrangian", max_wait=10**9)


def test_item_bound_equals_its_definition():
    rng = np.random.default_rng(3)
    for _ in range(20):
        n = 40
        inst = Instance(rng.integers(0, 60, n), rng.integers(1, 1000, n), rng.integers(1, 25, n))
        start = inst.release + rng.integers(0, 5, n)
        cluster = Cluster(workers=3, slots=n)
        expected = 0
        for k in range(int((start + inst.output).max())):
            loads = [int(s + k - t) for s, t, o in zip(inst.prompt, start, inst.output, strict=True) if t <= k < t + o]
            expected += max(-(-sum(loads) // 3), *loads, 0) if loads else 0
        assert bro.placement_bound(inst, cluster, start, method="item").value == expected


def test_no_requests():
    inst, cluster = Instance([], [], []), Cluster(2, 2)
    for method in PLACEMENT:
        assert bro.placement_bound(inst, cluster, [], method=method).value == 0
    for method in SCHEDULE:
        assert bro.schedule_bound(inst, cluster, method=method, max_wait=3).value == 0


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ([0, 1], "start has 2 entries, the instance 3 requests"),
        ([0, 1, 1], "request 2 starts in step 1, before its release 2"),
        ([0, 1, 2**63], "start[2] must be <= "),
        ([0, 1, 2.5], "start[2] must be an integer"),
        ([0, 1, -1], "start[2] must be >= 0, got -1"),
    ],
)
def test_bad_starts(start, message):
    inst = Instance(release=[0, 0, 2], prompt=[1, 1, 1], output=[1, 1, 1])
    with pytest.raises(InputError) as error:
        bro.placement_bound(inst, Cluster(2, 2), start)
    assert message in str(error.value)


def test_overfull_step_is_named():
    inst = Instance(release=[7, 7, 7, 0], prompt=[1, 1, 1, 1], output=[2, 2, 1, 1])
    for method in PLACEMENT:
        with pytest.raises(InputError, match=r"step 7 has 3 active requests, more than workers \* slots = 2"):
            bro.placement_bound(inst, Cluster(2, 1), inst.release, method=method)


def test_bad_windows():
    inst, cluster = Instance(release=[3, 4], prompt=[1, 1], output=[1, 1]), Cluster(2, 2)
    with pytest.raises(InputError, match="max_wait must be >= 0"):
        bro.schedule_bound(inst, cluster, max_wait=-1)
    with pytest.raises(InputError, match="latest has 1 entries"):
        bro.schedule_bound(inst, cluster, latest=[3])
    with pytest.raises(InputError, match=r"latest\[1\] = 3 lies before the release 4"):
        bro.schedule_bound(inst, cluster, latest=[3, 3])


def test_wall_clock_and_unknown_methods_are_refused():
    wall, cluster = Instance([0.0], [1], [1], clock="wall"), Cluster(1, 1)
    step = Instance([0], [1], [1])
    for call in (lambda: bro.placement_bound(wall, cluster, [0]), lambda: bro.schedule_bound(wall, cluster)):
        with pytest.raises(InputError, match="step clock"):
            call()
    with pytest.raises(InputError, match="unknown method 'magic'; methods: fluid"):
        bro.placement_bound(step, cluster, [0], method="magic")
    with pytest.raises(InputError, match="unknown method 'item'; methods: fluid"):
        bro.schedule_bound(step, cluster, method="item")


def test_bound_shows_what_it_is():
    inst, cluster = Instance([0, 0], [2000, 1], [1, 1], name="x"), Cluster(1, 2)
    bound = bro.placement_bound(inst, cluster, [0, 0], method="fluid")
    assert repr(bound) == "Bound(placement (given starts) >= 2,001 token-steps, fluid, certified)"
    assert "2,001 token-steps" in bound._repr_html_()
    windowed = bro.schedule_bound(inst, cluster, max_wait=3)
    assert "start windows: max_wait = 3" in repr(windowed)
    with pytest.raises(AttributeError):
        bound.value = 1
    assert not bound.start.flags.writeable


def window_case(n: int = 60, seed: int = 3) -> tuple[Instance, Cluster, np.ndarray]:
    rng = np.random.default_rng(seed)
    inst = Instance(np.sort(rng.integers(0, 40, n)), rng.integers(1, 900, n), rng.integers(1, 25, n))
    cluster = Cluster(workers=4, slots=20)
    return inst, cluster, inst.release


def test_windows_by_hand():
    # G = 2. Step 0 has loads 4 3 3, best 3 + 3 = 6. Step 1 has 4 4 1 1: the 3s have grown, the 4 has ended.
    inst = Instance([0, 0, 0, 1, 1], [4, 3, 3, 1, 1], [1, 2, 2, 1, 1])
    alone = bro.placement_bound(inst, Cluster(2, 5), inst.release, "window", window=1)
    both = bro.placement_bound(inst, Cluster(2, 5), inst.release, "window", window=2)
    assert alone.value == 6 + 5  # 4 + 1 | 4 + 1
    assert both.value == min(6 + 8, 7 + 5)  # 3 + 3 stay together as 4 + 4, or 4 + 3 | 3 costs a token
    assert bro.verify(inst, Cluster(2, 5), both.certificate) == 12


def test_windows_do_not_fall_as_they_grow():
    inst, cluster, start = window_case()
    below = bro.placement_bound(inst, cluster, start, "migration").value
    for claimed in (False, True):
        values = [
            bro.placement_bound(
                inst, cluster, start, "window", 50 * T, window=T, time_limit=600, certificate=not claimed
            )
            for T in (2, 4, 8, 16)
        ]
        assert [bound.status for bound in values] == ["claimed" if claimed else "certified"] * 4
        assert below <= values[0].value
        numbers = [bound.value for bound in values]
        assert numbers == sorted(numbers)
        if not claimed:
            assert all(bro.verify(inst, cluster, bound.certificate) == bound.value for bound in values)


def test_windows_are_the_same_with_processes():
    inst, cluster, start = window_case(30)
    one, two = (
        bro.placement_bound(inst, cluster, start, "window", 300, window=7, time_limit=600, jobs=jobs) for jobs in (1, 2)
    )
    assert one.certificate == two.certificate


def test_windows_of_a_chosen_length(monkeypatch):
    inst, cluster, start = window_case()
    tried = []
    gained = windows._gained
    monkeypatch.setattr(windows, "_gained", lambda case, T, *rest: tried.append(T) or gained(case, T, *rest))
    options = {"node_limit": 100, "time_limit": 600}
    auto = bro.placement_bound(inst, cluster, start, "window", window="auto", **options)
    assert len(tried) >= 2
    steps = len(floors.step_bounds(inst, cluster, start, "fluid").step)
    assert sorted(tried) == [T for T in windows._LENGTHS if steps >= 4 * T]
    every = [bro.placement_bound(inst, cluster, start, "window", window=T, **options).value for T in tuple(tried)]
    assert auto.value == max(every) == bro.verify(inst, cluster, auto.certificate)
    # Little time: one length, and the limit holds for the choice and the bound together.
    del tried[:]
    quick = bro.placement_bound(inst, cluster, start, "window", window="auto", node_limit=10**6, time_limit=0.3)
    assert len(tried) == 1
    assert bro.placement_bound(inst, cluster, start, "migration").value <= quick.value
    assert bro.verify(inst, cluster, quick.certificate) == quick.value
    # In two processes, claimed, and too short for a choice.
    both = bro.placement_bound(inst, cluster, start, "window", window="auto", jobs=2, certificate=False, **options)
    assert both.value >= auto.value
    for n in (0, 1, 3):
        few, first = inst.take(np.argsort(start)[:n]), np.sort(start)[:n]
        bound = bro.placement_bound(few, cluster, first, "window", window="auto", **options)
        assert bro.verify(few, cluster, bound.certificate) == bound.value
    with pytest.raises(InputError, match="window must be an integer"):
        bro.placement_bound(inst, cluster, start, "window", window="best")


def test_windows_keep_what_one_certificate_may_hold(monkeypatch):
    inst, cluster, start = window_case()
    options = {"node_limit": 400, "window": 8, "time_limit": 600}
    full = bro.placement_bound(inst, cluster, start, "window", **options)
    monkeypatch.setattr(windows, "_LEAVES", 200)
    small = bro.placement_bound(inst, cluster, start, "window", **options)
    claimed = bro.placement_bound(inst, cluster, start, "window", certificate=False, **options)
    migration = bro.placement_bound(inst, cluster, start, "migration")
    assert migration.value < small.value < full.value <= claimed.value
    assert sum(len(part["leaves"]) for part in small.certificate["data"]["parts"]) <= 200
    assert bro.verify(inst, cluster, small.certificate) == small.value


def test_windows_without_time_keep_migration():
    inst, cluster, start = window_case()
    bound = bro.placement_bound(inst, cluster, start, "window", time_limit=1e-9)
    assert bound.value == bro.placement_bound(inst, cluster, start, "migration").value


def test_windows_of_the_largest_requests_keep_migration():
    inst = Instance([0, 0, 1], [2**31 - 1] * 3, [4, 4, 4])
    bound = bro.placement_bound(inst, Cluster(2, 2), inst.release, "window")
    assert bound.value == bro.placement_bound(inst, Cluster(2, 2), inst.release, "migration").value
    with pytest.raises(InputError, match="bnb needs at most 255 workers, loads up to"):
        bro.solve_placement(inst, Cluster(2, 2), inst.release, solver="bnb")
    assert bro.solve_placement(inst, Cluster(2, 2), inst.release, time_limit=1).status in ("feasible", "optimal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be >= 1"),
        ({"window": 1.5}, "window"),
        ({"time_limit": 0}, "time_limit must be > 0"),
        ({"jobs": 0}, "jobs must be >= 1"),
        ({"node_limit": 0}, "node_limit must be >= 1"),
    ],
)
def test_bad_window_options(options, message):
    inst, cluster, start = window_case(5)
    with pytest.raises(InputError, match=message):
        bro.placement_bound(inst, cluster, start, "window", **options)
