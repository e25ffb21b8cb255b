"""Search for schedules: starts and workers together inside windows (docs/model.md, section 6, P2)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.oracles._schedule_moves import ScheduleAnnealing, longest_first
from balanceroute_opt.oracles.anytime_schedule import search_schedule
from balanceroute_opt.oracles.forced import forced_bound, forced_windows
from balanceroute_opt.schedule import active_steps


def problem(n, workers, slots, seed, router="br-0", utilization=0.9, capacity=None):
    """A run, with c the mean load of a worker, so that steps and peaks both matter."""
    inst = bro.generate(
        "poisson-lognormal", n=n, seed=seed, clock="step", rate=0.001, prompt_mu=4.5, prompt_sigma=0.9, output_mu=2.5,
        output_sigma=0.7,
    )  # fmt: skip
    cluster = bro.Cluster(workers, slots, capacity, bro.StepTime(0.0, 1e-6))
    run = bro.simulate(inst.scaled_to(cluster, utilization=utilization), cluster, router)
    mean = run.instance.total_work / workers / len(run.peak_loads)
    return run.instance, cluster.replace(step_time=bro.StepTime(mean * 1e-6, 1e-6)), run.schedule


def plainly(inst, start, worker, workers):
    """(active steps, sum of peaks), from the definition."""
    load = {}
    for s, o, t, g in zip(inst.prompt.tolist(), inst.output.tolist(), start.tolist(), worker.tolist(), strict=True):
        for k in range(t, t + o):
            load.setdefault(k, [0] * workers)[g] += s + k - t
    return len(load), sum(max(row) for row in load.values())


def keep(inst, cluster, schedule, last):
    bro.check(inst, cluster, schedule)
    assert (schedule.start <= last).all()


@pytest.mark.parametrize("seed", range(12))
def test_price_follows_every_move(seed):
    rng = np.random.default_rng(seed)
    n, workers, slots = int(rng.integers(1, 50)), int(rng.integers(1, 6)), int(rng.integers(1, 6))
    scale = 10**6 if seed == 0 else 1  # loads beyond 32 bits
    inst = bro.Instance(np.sort(rng.integers(0, 40, n)), rng.integers(1, 60, n) * scale, rng.integers(1, 14, n))
    cluster = bro.Cluster(workers, slots, step_time=bro.StepTime(float(rng.choice([0.0, 50.0])), 1.0))
    sched = bro.simulate(inst, cluster, "least-kv").schedule
    if seed % 3 == 0:
        cluster = cluster.replace(kv_capacity=int(bro.peak_loads(inst, cluster, sched).max()))
    last = sched.start + rng.integers(0, 6, n)
    reach, steps = active_steps(inst.release, last - inst.release + inst.output)
    offset = inst.release - reach
    annealing = ScheduleAnnealing(
        reach, last - offset, inst.prompt, inst.output, len(steps), cluster, sched.start - offset, sched.worker, seed
    )
    for temperature in (1e9, 300.0, 300.0, 30.0, 3.0, 0.0):
        annealing.run(200, temperature)
        now = bro.Schedule(annealing.start + offset, annealing.worker)
        keep(inst, cluster, now, last)
        assert (annealing.active, annealing.peak) == plainly(inst, now.start, now.worker, workers)
    if n > 5:
        assert now != sched


@pytest.mark.parametrize("seed", range(6))
def test_requests_without_a_slot_are_counted(seed):
    inst, cluster, sched = problem(40, 3, 2, seed, utilization=1.2)
    last = sched.start + 4
    reach, steps = active_steps(inst.release, last - inst.release + inst.output)
    offset = inst.release - reach
    annealing = ScheduleAnnealing(
        reach, last - offset, inst.prompt, inst.output, len(steps), cluster, sched.start - offset, sched.worker, seed,
        True,
    )  # fmt: skip
    seen = set()
    for temperature in (1e-2, 1e-3, 1e-4, 1e-5):
        annealing.run(500, temperature, 1.0)
        count = {}
        for t, o, g in zip(annealing.start + offset, inst.output, annealing.worker, strict=True):
            for k in range(t, t + o):
                count[g, k] = count.get((g, k), 0) + 1
        assert annealing.over == sum(max(0, x - 2) for x in count.values())
        seen.add(annealing.over)
        assert (annealing.active, annealing.peak) == plainly(inst, annealing.start + offset, annealing.worker, 3)
    assert max(seen) > 0


@pytest.mark.parametrize("window", [1, 5, 100])
def test_longest_first_fills_every_slot(window):
    inst, cluster, _ = problem(80, 3, 4, 1)
    order = np.lexsort((-inst.prompt, -inst.output))
    start, worker = np.empty((2, 80), np.int64)
    longest_first(inst.prompt, inst.output, order, 3, 4, window, start, worker)
    free = inst.replace(release=np.zeros(80, np.int64))
    bro.check(free, cluster, bro.Schedule(start, worker))
    active = np.zeros(int((start + inst.output).max()), np.int64)
    for t, o in zip(start, inst.output, strict=True):
        active[t : t + o] += 1
    assert (active[: start.max()] == 12).all()
    if window == 1:
        assert (np.diff(start[order]) >= 0).all()


def plain_windows(inst, cluster, last):
    """Forced steps by their definition: starts are struck out one by one until nothing changes."""
    possible = [list(range(r, d + 1)) for r, d in zip(inst.release.tolist(), last.tolist(), strict=True)]
    output = inst.output.tolist()
    changed = True
    while changed:
        changed = False
        must = {}
        for i, starts in enumerate(possible):
            for k in range(max(starts), min(starts) + output[i]):
                must.setdefault(k, set()).add(i)
        full = {k: who for k, who in must.items() if len(who) >= cluster.workers * cluster.slots}
        for i, starts in enumerate(possible):
            good = [t for t in starts if not any(i not in full.get(k, {i}) for k in range(t, t + output[i]))]
            if len(good) < len(starts):
                possible[i], changed = good, True
    return possible


@pytest.mark.parametrize("seed", range(20))
def test_windows_lose_only_starts_that_full_slots_forbid(seed):
    rng = np.random.default_rng(seed)
    n = 14
    inst = bro.Instance(rng.integers(0, 8, n), rng.integers(1, 9, n), rng.integers(1, 6, n))
    cluster = bro.Cluster(2, 2)
    start = bro.simulate(inst, cluster, "br-0").schedule.start
    last = start + rng.integers(0, 2, n) * rng.integers(0, 3, n)
    earliest, latest = forced_windows(inst, cluster, latest=last)
    np.testing.assert_array_equal(latest, last)
    plain = plain_windows(inst, cluster, last)
    assert all(e <= min(starts) for e, starts in zip(earliest.tolist(), plain, strict=True))
    assert (earliest >= inst.release).all()
    assert (earliest <= start).all()


@pytest.mark.parametrize("router", ["br-0", "least-kv", "lpt", "trtllm-adp"])
def test_a_work_conserving_run_forces_its_own_starts(router):
    inst, cluster, sched = problem(400, 3, 5, 2, router, utilization=1.3)
    earliest, latest = forced_windows(inst, cluster, latest=sched.start)
    np.testing.assert_array_equal(earliest, sched.start)
    np.testing.assert_array_equal(latest, sched.start)


def test_the_bound_of_forced_starts_is_that_of_their_placement():
    inst, cluster, sched = problem(300, 3, 5, 2, utilization=1.3)
    cluster = cluster.replace(step_time=bro.StepTime(0.1, 0.03, 0.007))
    bound = forced_bound(inst, cluster, sched.start)
    assert (sched.start > inst.release).any()
    assert bound.status == "certified"
    assert bro.verify(inst, cluster, bound.certificate) == bound.value
    placement = bro.placement_bound(inst, cluster, sched.start, "pigeonhole").value
    steps = len(bro.peak_loads(inst, cluster, sched))
    constant = 0.007 * inst.total_work / 3
    assert bound.value == pytest.approx(0.1 * steps + 0.03 * placement + constant, rel=1e-12)
    assert bro.schedule_bound(inst, cluster, latest=sched.start).value < bound.value
    assert bound.value <= bro.decode_time(inst, cluster, sched)


def test_no_bound_without_force():
    inst, cluster, sched = problem(300, 3, 5, 2, utilization=1.3)
    later = np.where(sched.start == sched.start.max(), sched.start + 1, sched.start)
    assert forced_bound(inst, cluster, later) is None
    certificate = forced_bound(inst, cluster, sched.start).certificate
    data = certificate["data"] | {"latest": later.tolist()}
    with pytest.raises(bro.CertificateError, match=r"request \d+ may find a free slot before step \d+"):
        bro.verify(inst, cluster, certificate | {"data": data})


@pytest.mark.parametrize("seed", range(30))
def test_verifier_and_sweep_agree_on_what_is_forced(seed):
    """Wherever the verifier sees force, by its own simpler argument, the sweep does, and enumeration finds no more."""
    rng = np.random.default_rng(seed)
    n = 5
    inst = bro.Instance(rng.integers(0, 3, n), rng.integers(1, 9, n), rng.integers(1, 4, n))
    cluster = bro.Cluster(1 + seed % 2, 1, step_time=bro.StepTime(2.0, 1.0))
    sched = bro.simulate(inst, cluster, "br-0").schedule
    last = sched.start + (rng.random(n) < 0.1)
    claim = bro.schedule_bound(inst, cluster, latest=last).certificate
    try:
        proved = bro.verify(inst, cluster, claim | {"kind": "forced", "claim": "0/1"})
    except bro.CertificateError:
        return
    earliest, latest = forced_windows(inst, cluster, latest=last)
    np.testing.assert_array_equal(earliest, latest)
    best = bro.solve_schedule(inst, cluster, latest=last, solver="enumeration")
    np.testing.assert_array_equal(best.schedule.start, last)
    assert proved <= best.objective


@pytest.mark.parametrize("seed", range(12))
def test_forced_starts_are_solved_as_a_placement_with_its_certificate(seed):
    rng = np.random.default_rng(seed)
    n = 6
    inst = bro.Instance(rng.integers(0, 4, n), rng.integers(1, 9, n), rng.integers(1, 5, n))
    cluster = bro.Cluster(2, 1, step_time=bro.StepTime(2.0, 0.7, 0.3))
    latest = bro.simulate(inst, cluster, ("br-0", "lpt")[seed % 2]).schedule.start
    best = bro.solve_schedule(inst, cluster, latest=latest, solver="enumeration")
    seen = []
    found = bro.solve_schedule(inst, cluster, latest=latest, progress=lambda *point: seen.append(point))
    assert found.solver.startswith("placement")
    assert (found.objective, found.status, found.bound_status) == (best.objective, "optimal", "certified")
    assert bro.verify(inst, cluster, found.certificate) == found.certified.value
    assert found.certified.value == pytest.approx(found.objective, rel=1e-12)
    assert all(bound < found.objective + 1e-9 and cost > found.objective - 1e-9 for _, cost, bound in seen)


def test_forced_starts_are_solved_up_to_thirty_requests_and_begin_with_the_run():
    inst, cluster, sched = problem(30, 3, 4, 2, utilization=1.3)
    found = bro.solve_schedule(inst, cluster, 30, latest=sched.start, warm=sched)
    assert (found.status, found.bound_status) == ("optimal", "certified")
    np.testing.assert_array_equal(found.schedule.start, sched.start)
    assert bro.verify(inst, cluster, found.certificate) <= found.objective <= bro.decode_time(inst, cluster, sched)


def test_without_a_limit_nothing_is_forced():
    inst, cluster, _ = problem(5, 2, 2, 0)
    with pytest.raises(bro.InputError, match="give max_wait or latest"):
        forced_windows(inst, cluster)


FORMS = {
    "latest, forced": ("br-0", 1.3, lambda inst, sched: {"latest": sched.start}),
    "latest, loose": ("jsq", 1.1, lambda inst, sched: {"latest": sched.start}),
    "max_wait": ("br-0", 0.7, lambda inst, sched: {"max_wait": max(6, int((sched.start - inst.release).max()))}),
    "no limit": ("br-0", 1.1, lambda inst, sched: {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_search_contract(form):
    router, utilization, limits = FORMS[form]
    inst, cluster, sched = problem(1100, 4, 8, 3, router, utilization)
    windows = limits(inst, sched)
    seen = []
    find = lambda **more: search_schedule(  # noqa: E731
        inst, cluster, sched, time_limit=600.0, moves=40_000, seed=3, **windows, **more
    )
    found = find(progress=lambda *point: seen.append(point))
    again = find()
    assert found.schedule == again.schedule
    assert [p[1:] for p in found.trajectory] == [p[1:] for p in again.trajectory]
    last = windows.get("latest", inst.release + windows.get("max_wait", 10**6))
    keep(inst, cluster, found.schedule, last)
    before = bro.decode_time(inst, cluster, sched)
    assert found.objective == bro.decode_time(inst, cluster, found.schedule) < before
    assert not found.interrupted
    assert found.moves <= 40_000
    assert list(found.trajectory) == seen
    assert seen[0][2] == before
    times = [p[2] for p in seen]
    assert all(x > y for x, y in itertools.pairwise(times))
    assert times[-1] == pytest.approx(found.objective, rel=1e-12)
    if form == "latest, forced":
        np.testing.assert_array_equal(found.schedule.start, sched.start)
    elif form == "no limit":
        assert found.schedule.start.min() == inst.release.max()
        assert found.objective < 1.06 * bro.schedule_bound(inst, cluster).value
    else:
        assert (found.schedule.start != sched.start).any()
    further = search_schedule(inst, cluster, found.schedule, moves=5_000, time_limit=600.0, seed=4, **windows)
    assert further.objective <= found.objective


def test_search_keeps_the_capacity():
    inst, cluster, sched = problem(200, 3, 6, 5, utilization=0.7)
    tight = cluster.replace(kv_capacity=int(bro.peak_loads(inst, cluster, sched).max()))
    wait = int((sched.start - inst.release).max()) + 4
    for windows in ({"max_wait": wait}, {}):
        found = search_schedule(inst, tight, sched, moves=30_000, time_limit=600.0, **windows)
        bro.check(inst, tight, found.schedule)
        assert found.objective < bro.decode_time(inst, cluster, sched)


@pytest.mark.parametrize("form", ["latest", "max_wait", "no limit"])
def test_search_reaches_most_proved_optima(form):
    reached = proved = 0
    for seed in range(6):
        inst, cluster, sched = problem({"latest": 10, "max_wait": 8, "no limit": 6}[form], 2, 2, seed, "jsq", 1.2)
        windows = {
            "latest": {"latest": sched.start + 1},
            "max_wait": {"max_wait": int((sched.start - inst.release).max())},
            "no limit": {},
        }[form]
        exact = bro.solve_schedule(inst, cluster, time_limit=600.0, node_limit=5_000, solver="bnb", **windows)
        found = search_schedule(inst, cluster, sched, moves=200_000, time_limit=600.0, **windows)
        assert found.objective >= exact.lower_bound * (1 - 1e-9)
        if exact.status == "optimal":
            proved += 1
            reached += found.objective <= exact.objective * (1 + 1e-9)
    assert proved >= 2
    assert reached >= 0.6 * proved, f"{reached} of {proved}"


@pytest.mark.parametrize("windows", [{"max_wait": 30}, {}])
def test_interruption_returns_the_best_so_far(windows):
    inst, cluster, sched = problem(300, 4, 8, 8, utilization=0.8)

    def stop(_, moves, __):
        if moves > 5_000:
            raise KeyboardInterrupt

    found = search_schedule(inst, cluster, sched, time_limit=600.0, moves=10**6, progress=stop, **windows)
    assert found.interrupted
    assert 5_000 < found.moves < 10**6
    assert found.objective == found.trajectory[-1][2] == bro.decode_time(inst, cluster, found.schedule)


def test_time_limit_ends_it():
    inst, cluster, sched = problem(400, 4, 8, 9, utilization=0.7)
    found = search_schedule(inst, cluster, sched, max_wait=40, time_limit=0.3)
    assert found.objective <= bro.decode_time(inst, cluster, sched)


def test_idle_years_cost_nothing():
    # Two bursts, ten billion steps apart: only the steps that windows reach are kept.
    inst = bro.Instance([0, 1, 10**10, 10**10 + 1], [4] * 4, [2] * 4)
    cluster = bro.Cluster(2, 1, step_time=bro.StepTime(10.0, 1.0))
    sched = bro.Schedule(inst.release, [0, 1, 0, 1])
    found = search_schedule(inst, cluster, sched, max_wait=1, moves=2_000, time_limit=600.0)
    np.testing.assert_array_equal(found.schedule.start, [1, 1, 10**10 + 1, 10**10 + 1])


def test_nothing_to_search():
    for inst, cluster, sched in (
        (bro.Instance([], [], []), bro.Cluster(2, 2), bro.Schedule([], [])),
        (bro.Instance([0], [5], [2]), bro.Cluster(2, 2), bro.Schedule([0], [1])),
        (bro.Instance([0, 0], [5, 3], [2, 2]), bro.Cluster(1, 2), bro.Schedule([0, 0], [0, 0])),
    ):
        for windows in ({"max_wait": 0}, {"max_wait": 3}, {}):
            found = search_schedule(inst, cluster, sched, moves=100, **windows)
            assert found.objective == bro.decode_time(inst, cluster, sched)


def test_bad_input_is_refused():
    inst, cluster, sched = problem(5, 2, 5, 0)
    with pytest.raises(bro.InputError, match="time_limit"):
        search_schedule(inst, cluster, sched, time_limit=0)
    with pytest.raises(bro.InputError, match="latest has 4 entries"):
        search_schedule(inst, cluster, sched, latest=sched.start[:4])
    late = bro.Schedule(sched.start + 3, sched.worker)
    with pytest.raises(bro.InvalidSchedule, match=r"request 0 starts in step \d+, and may not after step"):
        search_schedule(inst, cluster, late, max_wait=2)
