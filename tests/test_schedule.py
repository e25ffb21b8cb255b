"""Schedules: objectives against a per-token brute force, and a checker that names the broken rule."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import balanceroute_opt as bro
from balanceroute_opt import Cluster, InputError, Instance, InvalidSchedule, Schedule, StepTime
from balanceroute_opt.schedule import active_steps


def brute_loads(inst, cluster, sched):
    """step -> load of each worker, token by token: section 2 read literally."""
    loads: dict[int, list[int]] = {}
    for i in range(len(inst)):
        start, worker = int(sched.start[i]), int(sched.worker[i])
        for age in range(int(inst.output[i])):
            row = loads.setdefault(start + age, [0] * cluster.workers)
            row[worker] += int(inst.prompt[i]) + age
    return dict(sorted(loads.items()))


def brute_counts(inst, cluster, sched):
    """step -> active requests of each worker."""
    counts: dict[int, list[int]] = {}
    for i in range(len(inst)):
        for age in range(int(inst.output[i])):
            counts.setdefault(int(sched.start[i]) + age, [0] * cluster.workers)[int(sched.worker[i])] += 1
    return counts


@st.composite
def cases(draw, most=9):
    """Instance, cluster, and a schedule on existing workers that may break every other rule."""
    n = draw(st.integers(0, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    inst = Instance(rng.integers(0, 12, n), rng.integers(1, 30, n), rng.integers(1, 7, n))
    cluster = Cluster(
        workers=draw(st.integers(1, 4)),
        slots=draw(st.integers(1, 3)),
        kv_capacity=draw(st.none() | st.integers(30, 80)),
        step_time=StepTime(0.5, 0.25, 0.125),
    )
    delay = rng.integers(-1 if draw(st.booleans()) else 0, 9, n)
    start = np.maximum(inst.release + delay, 0) * draw(st.sampled_from([1, 7]))
    return inst, cluster, Schedule(start, rng.integers(0, cluster.workers, n))


def greedy(inst, cluster):
    """A schedule that keeps every rule: each request at the first step and worker where it fits."""
    start, worker = [], []
    loads: dict[tuple[int, int], list[int]] = {}
    for s, o, r in zip(inst.prompt.tolist(), inst.output.tolist(), inst.release.tolist(), strict=True):
        capacity = float("inf") if cluster.kv_capacity is None else cluster.kv_capacity
        step, g = next(
            (k, g)
            for k in range(r, 10**4)
            for g in range(cluster.workers)
            if all(
                len(now := loads.get((g, k + age), [])) < cluster.slots and sum(now) + s + age <= capacity
                for age in range(o)
            )
        )
        for age in range(o):
            loads.setdefault((g, step + age), []).append(s + age)
        start.append(step)
        worker.append(g)
    return Schedule(start, worker)


# --- objectives ----------------------------------------------------------------------------------


def test_objectives_by_hand():
    inst = Instance(release=[0, 0, 3], prompt=[5, 2, 4], output=[3, 2, 1])
    cluster = Cluster(2, 2, step_time=StepTime(fixed=0.5, per_token=0.25, per_mean_token=0.125))
    apart = Schedule(start=[0, 0, 3], worker=[0, 1, 1])
    # step        0     1     2     3
    # worker 0    5     6     7     -
    # worker 1    2     3     -     4
    assert bro.peak_loads(inst, cluster, apart).tolist() == [5, 6, 7, 4]
    assert bro.peak_sum(inst, cluster, apart) == 22
    # 4 steps: 4*0.5 + 0.25*22 + 0.125*27/2 = 2 + 5.5 + 1.6875.
    assert bro.decode_time(inst, cluster, apart) == 9.1875
    together = Schedule(start=[0, 0, 3], worker=[0, 0, 0])
    # worker 0    5+2   6+3   7     4
    assert bro.peak_loads(inst, cluster, together).tolist() == [7, 9, 7, 4]


def test_idle_steps_cost_nothing():
    inst = Instance(release=[0, 0], prompt=[5, 2], output=[2, 1])
    cluster = Cluster(2, 2, step_time=StepTime(0.5, 0.25))
    # Active in steps 0, 1 and 2**52: three steps with peaks 5, 6, 2.
    sched = Schedule(start=[0, 2**52], worker=[0, 1])
    assert bro.peak_loads(inst, cluster, sched).tolist() == [5, 6, 2]
    assert bro.decode_time(inst, cluster, sched) == 3 * 0.5 + 0.25 * 13


@given(cases())
@settings(max_examples=150, deadline=None)
def test_objectives_equal_the_brute_force(case):
    inst, cluster, sched = case
    loads = brute_loads(inst, cluster, sched)
    peaks = [max(row) for row in loads.values()]
    assert bro.peak_loads(inst, cluster, sched).tolist() == peaks
    assert bro.peak_sum(inst, cluster, sched) == sum(peaks)
    time = cluster.step_time
    seconds = sum(time.seconds(max(row), sum(row), cluster.workers) for row in loads.values())
    assert bro.decode_time(inst, cluster, sched) == pytest.approx(seconds, rel=1e-12)
    # Work is conserved, whatever the schedule (section 2).
    assert sum(map(sum, loads.values())) == inst.total_work


@given(cases())
@settings(max_examples=80, deadline=None)
def test_active_steps_leave_idle_ones_out(case):
    inst, cluster, sched = case
    position, steps = active_steps(sched.start, inst.output)
    assert steps.tolist() == list(brute_loads(inst, cluster, sched))
    assert steps[position].tolist() == sched.start.tolist()


def test_objectives_of_no_requests():
    nothing, cluster = Instance([], [], []), Cluster(2, 2)
    sched = Schedule([], [])
    assert bro.peak_loads(nothing, cluster, sched).tolist() == []
    assert bro.peak_sum(nothing, cluster, sched) == 0
    assert bro.decode_time(nothing, cluster, sched) == 0.0
    bro.check(nothing, cluster, sched)


def test_sums_stay_exact_beyond_doubles():
    s, o = 2**31 - 1, 2**22 + 1
    # o*s is odd and o*(o-1)/2 = (2**22 + 1) * 2**21 even, so the sum is an odd number above 2**53.
    total = o * s + o * (o - 1) // 2
    assert total > 2**53
    assert int(float(total)) != total
    assert bro.peak_sum(Instance([0], [s], [o]), Cluster(1, 1), Schedule([0], [0])) == total


def test_peaks_are_read_only():
    peaks = bro.peak_loads(Instance([0], [1], [1]), Cluster(1, 1), Schedule([0], [0]))
    with pytest.raises(ValueError, match="read-only"):
        peaks[0] = 5


def test_objectives_refuse_what_they_do_not_define():
    inst, cluster = Instance([0, 0], [1, 1], [1, 1]), Cluster(2, 2)
    for function in (bro.peak_loads, bro.peak_sum, bro.decode_time, bro.check):
        with pytest.raises(InvalidSchedule, match=r"^the schedule has 1 entries, the instance 2 requests$"):
            function(inst, cluster, Schedule([0], [0]))
        with pytest.raises(
            InputError, match=r"^(peak_loads|check) works on the step clock, and the instance is on the"
        ):
            function(inst.replace(clock="wall"), cluster, Schedule([0, 0], [0, 0]))
    for function in (bro.peak_loads, bro.peak_sum, bro.decode_time):
        with pytest.raises(InvalidSchedule, match=r"^request 1 is on worker 2, and there are 2 workers$"):
            function(inst, cluster, Schedule([0, 0], [0, 2]))
    with pytest.raises(InputError, match=r"^the schedule has 2000000000 active steps, more than 1000000000$"):
        bro.peak_loads(Instance([0], [1], [2 * 10**9]), cluster, Schedule([0], [0]))


# --- the class -----------------------------------------------------------------------------------


def test_schedule_is_frozen_and_compared_by_value():
    start = np.array([0, 1])
    sched = Schedule(start, [1, 0])
    start[0] = 9
    assert sched.start.tolist() == [0, 1]
    assert sched.start.dtype == sched.worker.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        sched.worker[0] = 0
    assert sched == Schedule([0, 1], [1, 0])
    assert hash(sched) == hash(Schedule([0, 1], [1, 0]))
    assert sched != Schedule([0, 1], [0, 1])
    assert sched != "schedule"
    assert len(sched) == 2
    assert repr(sched) == "Schedule(2 requests on 2 workers)"


@pytest.mark.parametrize(
    ("start", "worker", "message"),
    [
        ([0, -1], [0, 0], "start[1] must be >= 0, got -1"),
        ([0, 2**62 + 1], [0, 0], f"start[1] must be <= {2**62}, got {2**62 + 1}"),
        ([0, 2**64], [0, 0], f"start[1] must be <= {2**62}, got {2**64}"),
        ([0, 0.5], [0, 0], "start[1] must be an integer, got 0.5"),
        ([[0, 0]], [0, 0], "start must have one dimension, got shape (1, 2)"),
        ([0, 0], [0, -1], "worker[1] must be >= 0, got -1"),
        ([0, 0], [0, 2**31], f"worker[1] must be <= {2**31 - 1}, got {2**31}"),
        ([0, 0], [0], "worker has 1 entries, start has 2"),
    ],
    ids=str,
)
def test_refuses_bad_columns(start, worker, message):
    with pytest.raises(InputError) as caught:
        Schedule(start, worker)
    assert str(caught.value) == message


# --- the checker ---------------------------------------------------------------------------------


def complaint(inst, cluster, sched):
    with pytest.raises(InvalidSchedule) as caught:
        bro.check(inst, cluster, sched)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_check_names_each_rule_with_its_numbers():
    inst = Instance(release=[0, 2, 2], prompt=[5, 2, 4], output=[3, 2, 1])
    cluster = Cluster(2, 2, kv_capacity=9)
    # step        0     1     2     3
    # worker 0    5     6     7     -
    # worker 1    -     -     2+4   3
    bro.check(inst, cluster, Schedule([0, 2, 2], [0, 1, 1]))
    assert (
        complaint(inst, cluster, Schedule([0, 1, 2], [0, 1, 1])) == "request 1 starts in step 1, before its release 2"
    )
    assert complaint(inst, cluster, Schedule([0, 2, 2], [0, 1, 2])) == (
        "request 2 is on worker 2, and there are 2 workers (0 .. 1)"
    )
    # Step 2: requests 0, 1 and 2 on worker 0, and two slots.
    assert complaint(inst, cluster.replace(kv_capacity=None), Schedule([0, 2, 2], [0, 0, 0])) == (
        "worker 0 has 3 requests in step 2 (request 2 is one too many), and 2 slots"
    )
    # Step 2: 7 + 4 = 11 tokens on worker 0.
    assert complaint(inst, cluster, Schedule([0, 2, 2], [0, 1, 0])) == (
        "worker 0 holds 11 KV tokens in step 2, more than kv_capacity = 9"
    )
    # 7 + 2 = 9 tokens still fit.
    bro.check(inst, cluster, Schedule([0, 2, 2], [0, 0, 1]))


def test_check_finds_the_first_step_over_capacity_between_events():
    # Two requests of 10 and 20 tokens grow by 2 tokens a step from 30: 30, 32, 34, 36, ...
    inst = Instance([0, 0], [10, 20], [8, 8])
    both = Schedule([0, 0], [0, 0])
    bro.check(inst, Cluster(1, 2, 44), both)
    for capacity, step, load in ((43, 7, 44), (42, 7, 44), (33, 2, 34), (32, 2, 34), (31, 1, 32), (30, 1, 32)):
        assert complaint(inst, Cluster(1, 2, capacity), both) == (
            f"worker 0 holds {load} KV tokens in step {step}, more than kv_capacity = {capacity}"
        )


def test_a_slot_is_free_in_the_step_after_the_end():
    inst, cluster = Instance([0, 0], [1, 1], [3, 1]), Cluster(1, 1)
    bro.check(inst, cluster, Schedule([0, 3], [0, 0]))
    assert complaint(inst, cluster, Schedule([0, 2], [0, 0])) == (
        "worker 0 has 2 requests in step 2 (request 1 is one too many), and 1 slots"
    )


@given(cases())
@settings(max_examples=200, deadline=None)
def test_check_agrees_with_the_brute_force(case):
    inst, cluster, sched = case
    loads, counts = brute_loads(inst, cluster, sched), brute_counts(inst, cluster, sched)
    early = bool((sched.start < inst.release).any())
    crowded = any(max(row) > cluster.slots for row in counts.values())
    heavy = cluster.kv_capacity is not None and any(max(row) > cluster.kv_capacity for row in loads.values())
    if not (early or crowded or heavy):
        bro.check(inst, cluster, sched)
        return
    said = complaint(inst, cluster, sched)
    if early:
        i = int(re.fullmatch(r"request (\d+) starts in step \d+, before its release \d+", said).group(1))
        assert sched.start[i] < inst.release[i]
    elif found := re.fullmatch(r"worker (\d+) has (\d+) requests in step (\d+) \(request \d+ is one .*", said):
        g, count, step = map(int, found.groups())
        assert counts[step][g] >= count > cluster.slots
    else:
        g, load, step = map(int, re.fullmatch(r"worker (\d+) holds (\d+) KV tokens in step (\d+), .*", said).groups())
        assert loads[step][g] == load > cluster.kv_capacity
        assert all(row[g] <= cluster.kv_capacity for k, row in loads.items() if k < step)


@pytest.mark.parametrize("seed", range(12))
def test_mutated_schedules_are_refused_by_the_right_rule(seed):
    rng = np.random.default_rng(seed)
    n = 12
    inst = Instance(np.sort(rng.integers(1, 9, n)), rng.integers(1, 20, n), rng.integers(2, 7, n))
    cluster = Cluster(workers=3, slots=2, kv_capacity=45)
    good = greedy(inst, cluster)
    bro.check(inst, cluster, good)
    start, worker = good.start.tolist(), good.worker.tolist()
    i = int(rng.integers(n))

    def mutated(column, value, at=i):
        return [*column[:at], value, *column[at + 1 :]]

    release = int(inst.release[i])
    assert complaint(inst, cluster, Schedule(mutated(start, release - 1), worker)) == (
        f"request {i} starts in step {release - 1}, before its release {release}"
    )
    assert complaint(inst, cluster, Schedule(start, mutated(worker, 3))) == (
        f"request {i} is on worker 3, and there are 3 workers (0 .. 2)"
    )
    assert complaint(inst, cluster, Schedule(start[:-1], worker[:-1])) == (
        "the schedule has 11 entries, the instance 12 requests"
    )
    # Onto a worker that is full at that moment, in a cluster without a capacity.
    loose, counts = cluster.replace(kv_capacity=None), brute_counts(inst, cluster, good)
    full = [
        (j, g)
        for j in range(n)
        for g in range(3)
        if g != worker[j] and any(counts[start[j] + age][g] == 2 for age in range(inst.output[j]))
    ]
    assert full, "the case is too easy: no worker is ever full"
    j, g = full[int(rng.integers(len(full)))]
    moved = Schedule(start, mutated(worker, g, j))
    assert re.fullmatch(
        rf"worker {g} has 3 requests in step \d+ \(request \d+ is one too many\), and 2 slots",
        complaint(inst, loose, moved),
    )
    # One token less than the heaviest step of the schedule needs.
    loads = brute_loads(inst, cluster, good)
    heaviest = max(max(row) for row in loads.values())
    bro.check(inst, cluster.replace(kv_capacity=heaviest), good)
    assert re.fullmatch(
        rf"worker \d holds {heaviest} KV tokens in step \d+, more than kv_capacity = {heaviest - 1}",
        complaint(inst, cluster.replace(kv_capacity=heaviest - 1), good),
    )
