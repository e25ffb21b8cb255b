"""Search for placements: beam, annealing, and both within a budget (docs/model.md, section 6, P1)."""

from __future__ import annotations

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.oracles.annealing import Annealing
from balanceroute_opt.oracles.anytime import search_placement
from balanceroute_opt.oracles.beam import Beam
from balanceroute_opt.schedule import active_steps


def problem(n, workers, slots, seed, utilization=0.9, router="least-kv", capacity=None, **lengths):
    cluster = bro.Cluster(workers=workers, slots=slots, kv_capacity=capacity)
    lengths = {"prompt_mu": 4.0, "prompt_sigma": 0.9, "output_mu": 2.5, "output_sigma": 0.7} | lengths
    inst = bro.generate("poisson-lognormal", n=n, seed=seed, rate=0.001, clock="step", **lengths)
    run = bro.simulate(inst.scaled_to(cluster, utilization=utilization), cluster, router)
    return run.instance, cluster, run.schedule


def columns(inst, sched):
    begin, steps = active_steps(sched.start, inst.output)
    return begin, begin + inst.output, inst.prompt - begin, len(steps)


def price(inst, cluster, start, worker):
    """Plainly: peaks of all steps, and 1000 for every token above the capacity."""
    load = {}
    for s, o, t, g in zip(inst.prompt.tolist(), inst.output.tolist(), start.tolist(), worker.tolist(), strict=True):
        for k in range(t, t + o):
            row = load.setdefault(k, [0] * cluster.workers)
            row[g] += s + k - t
    total = 0
    for row in load.values():
        peak = max(row)
        total += peak
        if cluster.kv_capacity is not None:
            total += 1000 * max(0, peak - cluster.kv_capacity)
    return total


@pytest.mark.parametrize(
    ("workers", "slots", "utilization", "capacity"),
    [(2, 3, 0.9, None), (3, 4, 2.0, None), (5, 4, 0.8, 700), (9, 2, 1.2, None), (4, 40, 0.5, None)],
)
def test_price_follows_every_move(workers, slots, utilization, capacity):
    inst, cluster, sched = problem(60, workers, slots, 3, utilization)
    cluster = cluster.replace(kv_capacity=capacity)
    annealing = Annealing(*columns(inst, sched), workers, slots, capacity, sched.worker, seed=1)
    assert annealing.price == price(inst, cluster, sched.start, sched.worker)
    roomy = cluster.replace(kv_capacity=None)
    for temperature in (1e6, 1000.0, 1000.0, 30.0, 30.0, 0.0):
        annealing.run(300, temperature)
        assert annealing.price == price(inst, cluster, sched.start, annealing.worker)
        bro.check(inst, roomy, bro.Schedule(sched.start, annealing.worker))
    assert (annealing.worker != sched.worker).any()


def test_loads_beyond_32_bits_are_exact():
    inst, cluster, sched = problem(40, 3, 4, 0)
    large = inst.replace(prompt=inst.prompt * 10**6)
    annealing = Annealing(*columns(large, sched), 3, 4, None, sched.worker)
    annealing.run(2000, 1e8)
    assert annealing.price == bro.peak_sum(large, cluster, bro.Schedule(sched.start, annealing.worker))


def test_threads_keep_the_price_and_the_slots():
    inst, cluster, sched = problem(400, 3, 4, 5, 1.0)
    found = []
    for _ in range(2):
        annealing = Annealing(*columns(inst, sched), 3, 4, None, sched.worker, seed=2, threads=2)
        for _ in range(5):
            annealing.run(2000, 300.0)
            better = bro.Schedule(sched.start, annealing.worker)
            bro.check(inst, cluster, better)
            assert annealing.price == bro.peak_sum(inst, cluster, better)
        found.append(better)
    assert found[0] == found[1]


@pytest.mark.parametrize("width", [1, 7, 64])
@pytest.mark.parametrize(("workers", "slots", "utilization"), [(3, 4, 2.0), (2, 30, 0.6), (6, 3, 1.3)])
def test_beam_places_every_request(width, workers, slots, utilization):
    inst, cluster, sched = problem(150, workers, slots, 7, utilization)
    whole = Beam(*columns(inst, sched), workers, slots, width)
    whole.run(150)
    pieces = Beam(*columns(inst, sched), workers, slots, width)
    while pieces.done < 150:
        pieces.run(11)
    worker = whole.placement()
    np.testing.assert_array_equal(worker, pieces.placement())
    bro.check(inst, cluster, bro.Schedule(sched.start, worker))


def test_beam_is_good_where_every_slot_is_taken():
    inst, cluster, sched = problem(600, 4, 8, 1, 1.5)
    beam = Beam(*columns(inst, sched), 4, 8, 32)
    beam.run(600)
    item = bro.placement_bound(inst, cluster, sched.start, "item").value
    excess = bro.peak_sum(inst, cluster, sched) - item
    assert bro.peak_sum(inst, cluster, bro.Schedule(sched.start, beam.placement())) - item < 0.75 * excess


def test_a_wide_beam_finds_the_optimum_of_a_tiny_problem():
    # With room for every partial placement nothing is lost.
    inst, cluster, sched = problem(9, 2, 5, 4, 1.0)
    beam = Beam(*columns(inst, sched), 2, 5, 2**9)
    beam.run(9)
    best = bro.solve_placement(inst, cluster, sched.start, solver="enumeration").objective
    assert bro.peak_sum(inst, cluster, bro.Schedule(sched.start, beam.placement())) == best


@pytest.mark.parametrize("method", ["auto", "annealing", "beam"])
@pytest.mark.parametrize("utilization", [0.7, 1.6])
def test_search_contract(method, utilization):
    inst, cluster, sched = problem(1200, 4, 8, 2, utilization)
    seen = []
    find = lambda **more: search_placement(  # noqa: E731
        inst, cluster, sched, time_limit=600.0, moves=60_000, seed=3, method=method, **more
    )
    found = find(progress=lambda *point: seen.append(point))
    assert found.schedule == find().schedule
    bro.check(inst, cluster, found.schedule)
    np.testing.assert_array_equal(found.schedule.start, sched.start)
    assert found.objective == bro.peak_sum(inst, cluster, found.schedule) < bro.peak_sum(inst, cluster, sched)
    assert not found.interrupted
    assert found.moves <= 60_000
    assert list(found.trajectory) == seen
    assert seen[0][2] == bro.peak_sum(inst, cluster, sched)
    prices = [price for _, _, price in seen]
    assert prices == sorted(prices, reverse=True)
    assert prices[-1] == found.objective
    again = search_placement(inst, cluster, found.schedule, time_limit=600.0, moves=60_000, seed=4, method=method)
    assert again.objective <= found.objective


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_run_beams_side_by_side(threads):
    inst, cluster, sched = problem(1200, 4, 8, 2, 1.6)
    found = [search_placement(inst, cluster, sched, time_limit=600.0, moves=400_000, threads=threads) for _ in range(2)]
    assert found[0].schedule == found[1].schedule
    bro.check(inst, cluster, found[0].schedule)
    assert found[0].moves <= 400_000
    assert found[0].objective == bro.peak_sum(inst, cluster, found[0].schedule) < bro.peak_sum(inst, cluster, sched)


def test_slots_are_expected_to_hold_what_starts_when_they_are_free():
    inst = bro.Instance(release=[0, 0, 2, 4], prompt=[10, 12, 30, 1], output=[4, 2, 4, 2])
    cluster = bro.Cluster(workers=2, slots=1)
    beam = Beam(inst.release, inst.release + inst.output, inst.prompt - inst.release, 6, 2, 1, 1)
    # A slot that is free in step 2 holds the third request, one that is free in step 4 the last.
    np.testing.assert_array_equal(beam._likely[2, :2], [30, 31])
    np.testing.assert_array_equal(beam._likely[4, :2], [1, 2])
    # In step 0 it holds one of the first two, and in step 2 the longer one still, or the third.
    np.testing.assert_array_equal(beam._likely[0, :3], [11, 12, 21])
    beam.run(4)
    bro.check(inst, cluster, bro.Schedule(inst.release, beam.placement()))


def test_small_problems_get_a_beam_where_slots_are_short():
    """Annealing alone is stuck there: a request can move only if another one with the same steps comes back."""
    found = {"annealing": 0, "auto": 0, "solve_placement": 0}
    for seed in range(6):
        inst, cluster, sched = problem(16, 2, 2, seed, 1.3)
        best = bro.solve_placement(inst, cluster, sched.start, solver="bnb").objective
        for method in ("annealing", "auto"):
            found[method] += search_placement(inst, cluster, sched, moves=50_000, method=method).objective == best
        searched = bro.solve_placement(inst, cluster, sched.start, solver="search", node_limit=50_000)
        found["solve_placement"] += searched.objective == best
    assert found["annealing"] <= 3
    assert min(found["auto"], found["solve_placement"]) >= 5


def test_search_keeps_the_capacity():
    inst, cluster, sched = problem(300, 4, 8, 6, 0.8, prompt_mu=5.0)
    peak = int(bro.peak_loads(inst, cluster, sched).max())
    tight = cluster.replace(kv_capacity=peak)
    found = search_placement(inst, tight, sched, time_limit=600.0, moves=50_000)
    bro.check(inst, tight, found.schedule)
    assert found.objective < bro.peak_sum(inst, cluster, sched)


@pytest.mark.parametrize("seed", range(4))
def test_search_reaches_proved_optima(seed):
    inst, cluster, sched = problem(24, 3, 6, seed)
    proved = bro.solve_placement(inst, cluster, sched.start, solver="bnb", time_limit=60.0)
    assert proved.status == "optimal"
    found = search_placement(inst, cluster, sched, time_limit=600.0, moves=500_000, target=proved.objective)
    assert found.objective == proved.objective


def test_interruption_returns_the_best_so_far():
    inst, cluster, sched = problem(300, 4, 8, 8)

    def stop(_, moves, __):
        if moves > 5_000:
            raise KeyboardInterrupt

    found = search_placement(inst, cluster, sched, time_limit=600.0, moves=10**6, progress=stop)
    assert found.interrupted
    assert 5_000 < found.moves < 10**6
    assert found.objective == found.trajectory[-1][2] == bro.peak_sum(inst, cluster, found.schedule)


def test_time_limit_ends_it():
    inst, cluster, sched = problem(1200, 4, 8, 9, 1.5)
    found = search_placement(inst, cluster, sched, time_limit=0.3)
    assert found.objective <= bro.peak_sum(inst, cluster, sched)


def test_nothing_to_search():
    for inst, cluster, sched in (
        (bro.Instance([], [], []), bro.Cluster(2, 2), bro.Schedule([], [])),
        (bro.Instance([0], [5], [2]), bro.Cluster(2, 2), bro.Schedule([0], [1])),
        (bro.Instance([0, 0], [5, 3], [2, 2]), bro.Cluster(1, 2), bro.Schedule([0, 0], [0, 0])),
    ):
        found = search_placement(inst, cluster, sched, moves=100)
        assert found.schedule == sched
        assert found.objective == bro.peak_sum(inst, cluster, sched)


def test_bad_input_is_refused():
    inst, cluster, sched = problem(5, 2, 5, 0)
    with pytest.raises(bro.InputError, match="unknown method 'tabu'; methods: auto, beam, annealing"):
        search_placement(inst, cluster, sched, method="tabu")
    with pytest.raises(bro.InputError, match="time_limit"):
        search_placement(inst, cluster, sched, time_limit=0)
    with pytest.raises(bro.InvalidSchedule, match="worker 7"):
        search_placement(inst, cluster, bro.Schedule(sched.start, [7] * 5))
