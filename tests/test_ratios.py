"""The hindsight bracket: both ends by hand, and every mismatch refused."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

import balanceroute_opt as bro
from balanceroute_opt import Cluster, InputError, Instance, InvalidSchedule, StepTime

# One step, two workers: 4 and 4 on one worker are a peak of 8; apart, 4; the fluid bound is 8/2 = 4.
INST = Instance(release=[0, 0], prompt=[4, 4], output=[1, 1])
CLUSTER = Cluster(workers=2, slots=2, step_time=StepTime(fixed=1.0, per_token=0.5))


def run_of(start, worker, inst=INST, cluster=CLUSTER, **changes):
    sched = bro.Schedule(start, worker)
    fields = {
        "instance": inst,
        "cluster": cluster,
        "schedule": sched,
        "preemptions": 0,
        "peak_sum": bro.peak_sum(inst, cluster, sched),
        "decode_time": bro.decode_time(inst, cluster, sched),
    }
    return SimpleNamespace(**(fields | changes))


def test_placement_bracket():
    run = run_of([0, 0], [0, 0])
    bound = bro.placement_bound(INST, CLUSTER, [0, 0], method="fluid")
    ratio = bro.hindsight_ratio(run, bound)
    assert (ratio.lower, ratio.upper, ratio.certified) == (1.0, 2.0, True)
    assert ratio.lower_rests_on == "the run itself is the best known"
    assert ratio.upper_rests_on == "certified placement bound fluid"
    for best in (bro.Schedule([0, 0], [0, 1]), SimpleNamespace(schedule=bro.Schedule([0, 0], [1, 0]), objective=4)):
        ratio = bro.hindsight_ratio(run, bound, best)
        assert (ratio.lower, ratio.upper) == (2.0, 2.0)
        assert ratio.lower_rests_on == "best known solution, 4"
    # A solution that is worse than the run is not the best known one.
    good = run_of([0, 0], [0, 1])
    assert bro.hindsight_ratio(good, bound, bro.Schedule([0, 0], [0, 0])).lower == 1.0
    # A solver without a solution.
    assert bro.hindsight_ratio(good, bound, SimpleNamespace(schedule=None, objective=math.inf)).lower == 1.0


def test_schedule_bracket():
    run = run_of([0, 1], [0, 0])  # two steps with a peak of 4: 2 + 0.5*8 = 6 s
    bound = bro.schedule_bound(INST, CLUSTER)  # one step, W/G = 4: 1 + 2 = 3 s
    ratio = bro.hindsight_ratio(run, bound, bro.Schedule([0, 0], [0, 1]))
    assert (ratio.lower, ratio.upper) == (2.0, 2.0)
    assert ratio.upper_rests_on == "certified schedule bound fluid (no limit)"
    # max_wait = 0: the run is no solution of that problem.
    late = bro.hindsight_ratio(run, bro.schedule_bound(INST, CLUSTER, max_wait=0))
    assert (late.lower, late.upper) == (0.0, 2.0)
    assert "request 1 starts in step 1, after its latest, 0" in late.lower_rests_on
    with pytest.raises(InputError, match="best solution is none of the bound's problem"):
        bro.hindsight_ratio(run, bro.schedule_bound(INST, CLUSTER, max_wait=0), run.schedule)


def test_ends_are_rounded_outwards():
    inst = Instance(release=[0, 0, 0], prompt=[1, 1, 1], output=[1, 1, 1])
    cluster = Cluster(3, 3, step_time=StepTime(0.0, 0.1))
    run = run_of([0, 0, 0], [0, 0, 0], inst, cluster)
    ratio = bro.hindsight_ratio(run, bro.schedule_bound(inst, cluster), bro.Schedule([0, 0, 0], [0, 1, 2]))
    assert ratio.lower <= 3.0 <= ratio.upper
    assert ratio.upper - ratio.lower < 1e-12


def test_costless_steps():
    free = Cluster(2, 2, step_time=StepTime(0.0, 0.0))
    ratio = bro.hindsight_ratio(run_of([0, 0], [0, 0], cluster=free), bro.schedule_bound(INST, free))
    assert (ratio.lower, ratio.upper) == (1.0, 1.0)


def test_mismatches_are_refused():
    run = run_of([0, 0], [0, 1])
    bound = bro.placement_bound(INST, CLUSTER, [0, 0])
    other = INST.replace(prompt=[4, 5])
    with pytest.raises(InputError, match="another instance"):
        bro.hindsight_ratio(run, bro.placement_bound(other, CLUSTER, [0, 0]))
    with pytest.raises(InputError, match="another cluster"):
        bro.hindsight_ratio(run, bro.schedule_bound(INST, CLUSTER.replace(slots=3)))
    with pytest.raises(InputError, match="request 1 starts in step 1 there, and in step 0 in the run"):
        bro.hindsight_ratio(run, bro.placement_bound(INST, CLUSTER, [0, 1]))
    with pytest.raises(InputError, match="3 preemptions"):
        bro.hindsight_ratio(run_of([0, 0], [0, 1], preemptions=3), bound)
    with pytest.raises(InputError, match="states a cost of 3, and its schedule costs 4"):
        bro.hindsight_ratio(run_of([0, 0], [0, 1], peak_sum=3), bound)
    with pytest.raises(InputError, match="other starts"):
        bro.hindsight_ratio(run, bound, bro.Schedule([0, 1], [0, 0]))
    with pytest.raises(InputError, match="best must be a solution"):
        bro.hindsight_ratio(run, bound, 4)
    with pytest.raises(InvalidSchedule):
        bro.hindsight_ratio(run, bound, bro.Schedule([0, 0], [0, 7]))
