"""BF-IO's step problem: own method, HiGHS and brute force agree; as a router and as a yardstick."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.routers.kernels.bfio import integer_weights, solve_step, step_margins, step_value


def brute_force(projected, free, room, prompt, weight):
    """Best value among the placements of as many requests as possible, and how many that are."""
    margin = step_margins(projected)
    best: dict[int, int] = {}
    for choice in itertools.product(range(-1, len(free)), repeat=len(prompt)):
        added, used = np.zeros(len(free), np.int64), np.zeros(len(free), np.int64)
        for i, g in enumerate(choice):
            if g >= 0:
                added[g] += prompt[i]
                used[g] += 1
        if (used <= free).all() and (added <= room).all():
            count = int(used.sum())
            best[count] = min(best.get(count, 2**62), int(step_value(margin, weight, added)))
    return max(best), best[max(best)]


def random_step(rng):
    workers, horizon = int(rng.integers(1, 4)), int(rng.choice([0, 0, 1, 3]))
    longest = int(rng.choice([3, 10, 100]))
    projected = rng.integers(0, 2 * longest, size=(workers, horizon + 1))
    if rng.random() < 0.2:
        projected[:] = projected[0]
    number = int(rng.integers(1, 7 if workers < 3 else 6))
    return projected, rng.integers(0, 4, size=workers), rng.integers(1, longest + 1, size=number), longest, horizon


def test_objective_by_hand():
    """Loads 5 and 2, one request of 4 to worker 1: the envelope rises from 5 to 6, so 2*(6-5) - 4 = -2, times D_0."""
    margin = step_margins(np.array([[5], [2]]))
    assert margin.tolist() == [[0], [3]]
    assert step_value(margin, integer_weights(0.9, 0), np.array([0, 4])) == -2 * 2**20
    # It is the exact negative of BR-0's F: S - G*max(S - m, 0) = 4 - 2*1 = 2.


@pytest.mark.parametrize("seed", range(4))
def test_own_method_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    for _ in range(75):
        projected, free, prompt, longest, horizon = random_step(rng)
        room = np.full(len(free), 2**62) if rng.random() < 0.6 else rng.integers(1, 2 * longest, size=len(free))
        weight, worker = integer_weights(0.9, horizon), np.empty(len(prompt), np.int64)
        value, bound, admitted, most, _ = solve_step(projected, free, room, prompt, weight, 10**6, worker)
        count, best = brute_force(projected, free, room, prompt, weight)
        assert admitted == most == count == (worker >= 0).sum()
        if count:
            assert value == bound == best
            added = np.bincount(worker[worker >= 0], prompt[worker >= 0], len(free)).astype(np.int64)
            assert (added <= room).all()
            assert step_value(step_margins(projected), weight, added) == value


def test_a_case_in_which_not_all_slots_can_be_filled():
    """Room 3 and 1, prompts 3, 3, 1, 1, 1: three slots and one slot, but at most 3 + 1 tokens fit; found by fuzzing."""
    projected, prompt = np.array([[0], [5]]), np.array([3, 3, 1, 1, 1])
    worker = np.empty(5, np.int64)
    arguments = (projected, np.array([3, 1]), np.array([3, 1]), prompt, integer_weights(0.9, 0))
    value, bound, admitted, most, _ = solve_step(*arguments, 10**6, worker)
    assert (admitted, value) == brute_force(*arguments)
    assert (value, admitted) == (bound, most)


def test_highs_agrees():
    pytest.importorskip("highspy", reason="HiGHS is not installed")
    from balanceroute_opt.oracles.step import solve_step_highs

    rng = np.random.default_rng(0)
    for _ in range(25):
        projected, free, prompt, _, horizon = random_step(rng)
        if not free.any():
            continue
        weight, worker = integer_weights(0.9, horizon), np.empty(len(prompt), np.int64)
        room = np.full(len(free), 2**62)
        value, bound, *_ = solve_step(projected, free, room, prompt, weight, 10**6, worker)
        assert value == bound == solve_step_highs(projected, free, prompt, weight)[0]


def test_a_node_limit_gives_an_incumbent_and_a_bound():
    rng = np.random.default_rng(3)
    projected, free = rng.integers(0, 5000, (8, 1)), np.full(8, 2)
    prompt, worker = rng.integers(1, 4000, 64), np.empty(64, np.int64)
    weight = integer_weights(0.9, 0)
    values = []
    for limit in (20, 2000):
        value, bound, admitted, most, nodes = solve_step(
            projected, free, np.full(8, 2**62), prompt, weight, limit, worker
        )
        assert bound <= value
        assert admitted == most == 16
        assert nodes <= limit
        values.append((value, bound))
    assert values[1][0] <= values[0][0]
    assert values[1][1] >= values[0][1]


def saturated(n=300, seed=0):
    rng = np.random.default_rng(seed)
    return bro.Instance(np.sort(rng.integers(0, 60, n)), rng.integers(1, 400, n), rng.integers(1, 30, n))


@pytest.mark.parametrize("horizon", [0, 5])
def test_router_and_live_path_agree_and_unproved_steps_are_counted(horizon):
    inst, cluster = saturated(), bro.Cluster(workers=3, slots=4)
    run = bro.simulate(inst, cluster, bro.routers.BFIO(H=horizon))
    live = bro.simulate(inst, cluster, bro.routers.BFIO(H=horizon), live=True)
    assert run.schedule == live.schedule
    assert run.unproved == live.unproved == 0
    starved = bro.routers.BFIO(H=horizon, node_limit=1)
    assert bro.simulate(inst, cluster, starved).unproved == starved.unproved > 0
    assert bro.simulate(inst, cluster, "br-0").unproved is None


def test_objectives_that_do_not_fit_64_bits_are_refused():
    """8 workers, D = 2**20 and 2**37 tokens make 2**60."""
    full = bro.View(load=[2**37] + [0] * 7, active=[1] + [0] * 7, slots=2, pool=[1])
    with pytest.raises(bro.InputError, match="with H = 0, 8 workers and 137,438,953,473 tokens does not fit"):
        bro.routers.BFIO().route(full)
    full = bro.View(load=[2**36] + [0] * 7, active=[1] + [0] * 7, slots=2, pool=[1])
    assert [column.tolist() for column in bro.routers.BFIO().route(full)] == [[0], [1]]
    inst = bro.Instance([0] * 64, [2**30] * 64, [1] * 64)
    with pytest.raises(bro.InputError, match="lower H or gamma"):
        bro.simulate(inst, bro.Cluster(8, 8), bro.routers.BFIO(H=15, gamma=1.0))


def test_the_heuristic_by_hand():
    """Loads 10 and 4 (margins 0 and 6), mix 1: worker 1, two slots, of 5, 4, 1, 2: sums 6 are 5 + 1 and 4 + 2.

    The younger pair is taken. Then worker 0, one slot, margin 0: the shortest sum beyond it is 1, its F = 1 - 43 is not
    positive, so the single one with the largest F is taken, again the 1.
    """
    view = bro.View(load=[10, 4], active=[2, 1], slots=3, pool=[5, 4, 1, 2])
    requests, workers = bro.routers.BFIOHeuristic(H=0).route(view)
    assert (requests.tolist(), workers.tolist()) == ([1, 3, 2], [1, 1, 0])
    # With more free slots than the threshold, stage 1: most free slots first, the single one with the largest F.
    requests, workers = bro.routers.BFIOHeuristic(H=0, greedy_slots=2).route(view)
    assert (requests.tolist()[0], workers.tolist()[0]) == (0, 1)


def test_heuristic_refuses_a_mix_outside_0_1():
    with pytest.raises(bro.InputError, match=r"mix must be <= 1, got 1\.5"):
        bro.routers.BFIOHeuristic(mix=1.5)


def test_step_regret():
    inst, cluster = saturated(), bro.Cluster(workers=3, slots=4)
    exact = bro.step_regret(inst, cluster, "bf-io")
    assert exact.summary()["zero"] == exact.summary()["proved"] == 1.0
    greedy, careless = (bro.step_regret(inst, cluster, r) for r in ("br-0", "least-kv"))
    assert 0 < greedy.summary()["mean"] < careless.summary()["mean"]
    assert greedy.worst(1)[0][1] == greedy.summary()["max"]
    assert (greedy.regret >= 0).all()
    ahead = bro.step_regret(inst, cluster, bro.routers.BFIO(H=4), H=4)
    assert ahead.summary()["max"] == 0


def test_step_regret_refuses():
    inst = saturated(20)
    with pytest.raises(bro.InputError, match="jsq binds requests one by one"):
        bro.step_regret(inst, bro.Cluster(2, 2), "jsq")
    with pytest.raises(bro.InputError, match="without a KV capacity"):
        bro.step_regret(inst, bro.Cluster(2, 2, kv_capacity=5000), "br-0")
