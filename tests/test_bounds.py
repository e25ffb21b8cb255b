"""Lower bounds: hand-computed cases, and never above the optimum that enumeration finds."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt import Cluster, InputError, Instance, StepTime

PLACEMENT = ("fluid", "item")
SCHEDULE = ("fluid",)
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
