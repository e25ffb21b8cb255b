"""The router that waits for a margin: cases by hand, and what it promises about waits (``docs/deferral.md``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.routers import Deferral

CLUSTER = bro.Cluster(workers=4, slots=6)


def decide(router: Deferral, load: list[int], pool: list[int], free: int = 3, active: int = 1) -> dict[int, int]:
    """Prompt -> worker of what is admitted."""
    view = bro.View(load=load, active=[active] * len(load), slots=free + active, pool=pool)
    requests, workers = router.route(view)
    return {pool[i]: g for i, g in zip(requests.tolist(), workers.tolist(), strict=True)}


def test_what_would_rise_above_the_level_waits_and_keeps_its_place():
    # Level max(100, ceil((270 + 80) / 3)) = 117. 60 would lift worker 2 to 140; 15 goes to 1 and 5 to 0, not to 2.
    assert decide(Deferral(), [100, 90, 80], [60, 15, 5]) == {15: 1, 5: 0}


def test_the_level_is_what_cannot_be_avoided():
    # ceil((180 + 40) / 2) = 110 > 100: 80 + 30 and 100 + 10 both reach it.
    assert decide(Deferral(), [100, 80], [10, 30]) == {30: 1, 10: 0}


def test_overshoot_is_allowed_as_the_wait_grows():
    # Alone: level 100, overshoot 80 + 29 - 100 = 9, allowed 0.4 * w/8 * 90 = 4.5, 9.0 after 1, 2 steps.
    router = Deferral()
    assert [decide(router, [100, 90, 80], [29]) for _ in range(3)] == [{}, {}, {29: 2}]


def test_a_request_is_admitted_after_max_wait_steps_at_the_latest():
    router = Deferral(max_wait=3)
    answers = [decide(router, [100, 90, 80], [5000]) for _ in range(4)]
    assert answers == [{}, {}, {}, {5000: 2}]
    assert decide(Deferral(max_wait=0), [100, 90, 80], [60, 15, 5]) == {60: 2, 15: 1, 5: 0}


def test_an_idle_cluster_admits_at_once():
    assert decide(Deferral(), [0, 0], [9, 70, 8], active=0) == {70: 0, 9: 1, 8: 1}


def test_a_full_cluster_fills_every_slot_with_what_fits_best():
    # Two slots, level max(100, ceil((160 + 20 + 30) / 2)) = 105: worker 1 takes 41 of its margin of 45, and what is
    # left overshoots worker 0, 20 the least.
    assert decide(Deferral(), [100, 60], [20, 30, 39, 41], free=1) == {41: 1, 20: 0}
    assert decide(Deferral(window=1), [100, 60], [20, 30, 39, 41], free=1) == {20: 1, 30: 0}


def test_a_full_cluster_does_not_pass_one_over_for_ever():
    router = Deferral(max_wait=4)
    for step in range(30):
        index = [0, 3 * step + 1, 3 * step + 2, 3 * step + 3]
        wait, key = np.array([step, 0, 0, 0]), np.full(4, -1)
        pool = bro.routers.PoolView(np.array(index), np.array([5000, 10, 10, 10]), wait, key)
        requests, _ = router.route(bro.View(load=[1000, 950, 900], active=[3, 3, 3], slots=4, pool=pool))
        assert len(requests) == 3
        if 0 in requests:
            assert step == 5  # the first for which step > 2 * 0 + 4
            return
    pytest.fail("the oldest request starved")


class Watched(Deferral):
    """Looks whether every request that waits longer than `max_wait` has a reason to."""

    loop = ""  # through Python

    def attach(self, inst: bro.Instance) -> None:
        super().attach(inst)
        self.longest = 0

    def route(self, view: bro.View) -> Any:
        requests, workers = super().route(view)
        left = ~np.isin(view.pool.index, requests)
        if len(requests) < view.free.sum() and left.any():
            self.longest = max(self.longest, int(view.pool.wait[left].max()))
            assert view.active.sum() > 0
        else:
            assert len(requests) == min(len(view.pool), view.free.sum())
        assert len(self._since) == left.sum()  # nothing else is remembered
        return requests, workers


@pytest.mark.parametrize("max_wait", [0, 1, 5])
@pytest.mark.parametrize("utilization", [0.5, 0.9, 1.3])
def test_while_a_slot_is_free_nobody_waits_longer(max_wait, utilization):
    inst = bro.generate("poisson-lognormal", 300, 3, clock="step").scaled_to(CLUSTER, utilization)
    router = Watched(max_wait=max_wait)
    slow = bro.simulate(inst, CLUSTER, router)
    assert router.longest < max(max_wait, 1)
    fast = bro.simulate(inst, CLUSTER, Deferral(max_wait=max_wait))
    assert fast.schedule.start.tolist() == slow.schedule.start.tolist()
    assert fast.schedule.worker.tolist() == slow.schedule.worker.tolist()


def test_a_router_can_be_used_again():
    inst = bro.generate("poisson-lognormal", 200, 1, clock="step").scaled_to(CLUSTER, 0.9)
    router = Deferral()
    runs = [bro.simulate(inst, CLUSTER, router, live=live) for live in (True, False, True)]
    assert len({run.peak_sum for run in runs}) == 1


def test_it_beats_least_kv_where_slots_are_free(traces):
    cluster = bro.Cluster(workers=8, slots=72)
    inst = bro.read_trace(traces / "azure_2023_conv.csv.gz").head(4000).scaled_to(cluster, 0.8)
    price = {name: bro.simulate(inst, cluster, name).metrics("loaded") for name in ("least-kv", "br-0", "deferral")}
    assert price["deferral"]["excess"] < 0.7 * min(price["least-kv"]["excess"], price["br-0"]["excess"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_wait": -1}, "max_wait must be >= 0"),
        ({"max_wait": 1.5}, "max_wait"),
        ({"price": -0.1}, "price must be >= 0"),
        ({"window": 0}, "window must be >= 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(bro.InputError, match=message):
        Deferral(**options)
