"""Hand-computed cases for the step semantics, every metric and every router rule (docs/model.md, 2, 4, 5).

Each runs on the plain reference, on the compiled kernel and through the live path, and all must give
what the arithmetic in the comments says. "r3 -> w0" reads: request 3 goes to worker 0.
"""

from __future__ import annotations

import math
from typing import Any

import engines
import numpy as np
import pytest
import reference as ref
from engines import Script, Stuck, run

import balanceroute_opt as bro

LONG = 9  # an output that outlives the case


@pytest.fixture(params=engines.ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


def cluster(workers: int, slots: int, kv_capacity: int | None = None, c: float = 1.0, a: float = 0.5, b: float = 0.0):
    return bro.Cluster(workers, slots, kv_capacity, bro.StepTime(fixed=c, per_token=a, per_mean_token=b))


def requests(*rows: tuple[float, int, int], clock: Any = "step") -> bro.Instance:
    """An instance from (release, prompt, output) per request."""
    return bro.Instance(*zip(*rows, strict=True), clock=clock)


# --- section 2: the step -----------------------------------------------------------------------------------------


def test_a_request_is_active_for_output_steps_and_grows_by_a_token(engine):
    # s = 5, o = 3: loads 5, 6, 7 in steps 0, 1, 2; work 3*5 + 3*2/2 = 18 = 5 + 6 + 7.
    out = run(engine, requests((0, 5, 3)), cluster(1, 1), "least-kv")
    assert (out.start, out.steps, out.peak) == ([0], [0, 1, 2], [5, 6, 7])


def test_a_slot_is_free_in_the_step_after_the_end(engine):
    # One slot: r0 runs in steps 0 and 1 (k - 0 + 1 = 2 in step 1), so r1 starts in step 2.
    out = run(engine, requests((0, 5, 2), (0, 3, 1)), cluster(1, 1), "least-kv")
    assert (out.start, out.peak) == ([0, 2], [5, 6, 3])


def test_visible_by_release_then_index_whatever_the_order_of_the_columns(engine):
    # Releases 1, 0, 0 on one slot, outputs 1: r1 in step 0; then r2 (release 0) is older than r0 (release 1).
    out = run(engine, requests((1, 1, 1), (0, 1, 1), (0, 1, 1)), cluster(1, 1), "least-kv")
    assert out.start == [2, 0, 1]


def test_the_view_has_survivors_grown_and_the_ended_gone(engine):
    # Step 0: r0 (5) -> w0, r1 (4) -> w1. Step 1: r0 (o = 1) is gone, r1 has 4 + 1. Step 2: r2 has 2 + 1, r1 6.
    script = Script({0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (2, 0)})
    out = run(engine, requests((0, 5, 1), (0, 4, 3), (1, 2, 2), (2, 1, 1)), cluster(2, 2), script)
    assert script.calls == [
        (0, [0, 0], [2, 2], [0, 1]),
        (1, [0, 5], [2, 1], [2]),
        (2, [3, 6], [1, 1], [3]),
    ]
    # Loads of the steps: (5, 4), (2, 5), (3 + 1, 6).
    assert (out.peak, out.total, out.least) == ([5, 5, 6], [9, 7, 10], [4, 2, 4])
    assert (out.most_active, out.least_active) == ([1, 1, 2], [1, 1, 1])


def test_steps_without_anything_active_are_skipped(engine):
    # r0 runs in 3 and 4; nothing until 100.
    out = run(engine, requests((3, 1, 2), (100, 7, 1)), cluster(1, 1), "least-kv")
    assert (out.start, out.steps, out.peak) == ([3, 100], [3, 4, 100], [1, 2, 7])


def test_deferral_with_nothing_active_jumps_to_the_next_arrival(engine):
    # r0 waits for step 4 by the router's will. Step 0 is not executed; the next call is at the next arrival, 6.
    script = Script({0: (4, 0), 1: (6, 0)})
    out = run(engine, requests((0, 1, 1), (6, 1, 1)), cluster(1, 2), script)
    assert [call[0] for call in script.calls] == [0, 6]
    assert (out.start, out.steps, out.peak) == ([6, 6], [6], [2])


def test_deferral_while_something_is_active_is_asked_again_in_every_step(engine):
    # r1 waits for step 2 while r0 runs in steps 0..3; in step 3 the pool is empty and the router is asked as well.
    script = Script({0: (0, 0), 1: (2, 0)})
    out = run(engine, requests((0, 1, 4), (0, 5, 1)), cluster(1, 2), script)
    assert script.calls == [(0, [0], [2], [0, 1]), (1, [2], [1], [1]), (2, [3], [1], [1]), (3, [4], [1], [])]
    assert (out.start, out.peak) == ([0, 2], [1, 2, 3 + 5, 4])


def test_deferral_without_an_arrival_left_cannot_go_on(engine):
    with pytest.raises(Stuck):
        run(engine, requests((0, 1, 1)), cluster(1, 1), Script({0: (5, 0)}))


def test_an_immediate_router_binds_at_once_and_the_binding_is_sticky(engine):
    # One slot each. Step 0: r0 -> w0, r1 -> w1 (0 < 1), r2 -> w0 (1, 1; loads 0, 0; index). r0 lasts 5 steps, r1
    # one: w1 is free from step 1 on, but r2 stays in w0's queue until step 5.
    out = run(engine, requests((0, 1, 5), (0, 1, 1), (0, 9, 1)), cluster(2, 1), "jsq")
    assert (out.start, out.worker) == ([0, 0, 5], [0, 1, 0])


def test_without_requests_there_are_no_steps(engine):
    out = run(engine, bro.Instance([], [], []), cluster(2, 1), "least-kv")
    assert (out.start, out.peak) == ([], [])


# --- section 2: the wall clock -----------------------------------------------------------------------------------


def wall_case(engine: str):
    # One worker, two slots, tau = 1 + load/2.
    # Step 0 at 0.5: r0, load 2, tau 2, until 2.5.
    # Step 1 at 2.5 sees r1 (2.0) and r2 (2.5, not after its start): r0 3 + r1 1 = 4, tau 3, until 5.5; r2 waits.
    # Step 2 at 5.5: r0 and r1 have ended: r2, load 4, tau 3, until 8.5.
    # Step 3 at 20 (idle until then; no step number is spent on it): r3, load 2, tau 2.
    inst = requests((0.5, 2, 2), (2.0, 1, 1), (2.5, 4, 1), (20.0, 2, 1), clock="wall")
    return run(engine, inst, cluster(1, 2), "least-kv")


def test_wall_clock(engine):
    out = wall_case(engine)
    assert (out.steps, out.time, out.peak) == ([0, 1, 2, 3], [0.5, 2.5, 5.5, 20.0], [2, 4, 4, 2])
    assert (out.start, out.release) == ([0, 1, 2, 3], [0, 1, 1, 3])


def test_wall_clock_metrics(engine):
    # wait: 0, 0.5, 3, 0. ttft: 0+2, 0.5+3, 3+3, 0+2. tpot: (5.5-0.5)/2, 3, 3, 2. 5 tokens in 22 - 0.5 seconds.
    m = wall_case(engine).metrics("all")
    assert m["wait_unit"] == "s"
    # p50 of (0, 0, 0.5, 3): 0.25; p99: position 2.97: 0.5 + 0.97*2.5.
    assert (m["wait_p50"], m["wait_p99"], m["wait_max"]) == (0.25, pytest.approx(2.925), 3.0)
    # (2, 2, 3.5, 6): 2.75; 3.5 + 0.97*2.5 = 5.925.
    assert (m["ttft_p50"], m["ttft_p99"]) == (2.75, pytest.approx(5.925))
    # (2, 2.5, 3, 3): 2.75; positions 2.85 and 2.97 lie between 3 and 3.
    assert (m["tpot_p50"], m["tpot_p95"], m["tpot_p99"]) == (2.75, pytest.approx(3.0), pytest.approx(3.0))
    assert m["decode_time"] == 10.0
    assert m["throughput"] == pytest.approx(5 / 21.5)
    # Steps 0 .. 1 alone: 3 tokens in 5.5 - 0.5 seconds; r0 and r1 are first admitted there.
    m = wall_case(engine).metrics((0.0, 0.5))
    assert (m["steps"], m["decode_time"], m["wait_max"]) == (2, 5.0, 0.5)
    assert m["throughput"] == pytest.approx(3 / 5)


def test_wall_clock_deferral_spends_no_step_number(engine):
    # r0 (arrival 1) is kept waiting until r1 (arrival 4) is there: asked at 1, then at 4, which is step 0.
    class Both:
        mode = "pooled"

        def route(self, view: ref.View) -> list[tuple[ref.Request, int]]:
            return [(r, 0) for r in view.pool] if len(view.pool) == 2 else []

    inst = requests((1.0, 2, 1), (4.0, 4, 1), clock="wall")
    out = run(engine, inst, cluster(1, 2), Both())
    assert (out.steps, out.time, out.start, out.release) == ([0], [4.0], [0, 0], [0, 0])
    assert out.metrics("all")["wait_max"] == 3.0
    with pytest.raises(Stuck):
        run(engine, inst.head(1), cluster(1, 2), Both())


# --- section 2: KV capacity --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["least-kv", "jsq"])
def test_preemption_recomputes_the_youngest(engine, name):
    # C = 10. Step 0: 4 + 4. Step 1: 5 + 5 = 10 is allowed. Step 2: 12 > 10: both started in 0, so the larger index,
    # r1, goes, with prompt 4 + 2 and 2 left; 6 + 6 does not fit again until r0 ends with step 3.
    # Loads 8, 10, 6, 7, 6, 7: their sum 44 is the work 2*(16 + 6).
    out = run(engine, requests((0, 4, 4), (0, 4, 4)), cluster(1, 2, 10), name)
    assert (out.first_start, out.start, out.preemptions) == ([0, 0], [0, 4], 1)
    assert out.peak == [8, 10, 6, 7, 6, 7]
    # tau = 1 + load/2: 5, 6, 4, 4.5, 4, 4.5. r1: from the first admission to its end, 28 s over o = 4 tokens;
    # r0: 5 + 6 + 4 + 4.5 = 19.5 over 4.
    m = out.metrics("all")
    assert m["preemptions"] == 1
    assert m["tpot_p50"] == pytest.approx((28 / 4 + 19.5 / 4) / 2)
    assert m["wait_max"] == 0
    # Throughput: 2 + 2 + 1 + 1 + 1 + 1 = 8 tokens in 28 s.
    assert m["throughput"] == pytest.approx(8 / 28)


def test_the_loaded_window_ends_with_the_last_admission_a_second_one_included(engine):
    # The case above: r1 comes back in step 4.
    out = run(engine, requests((0, 4, 4), (0, 4, 4)), cluster(1, 2, 10), "least-kv")
    assert out.metrics("loaded")["steps"] == 5


@pytest.mark.parametrize("name", ["least-kv", "jsq"])
def test_of_several_preempted_the_last_is_first(engine, name):
    # C = 10. Step 0: 3 + 3 + 2 + 2 = 10. Step 1: 4 + 4 + 3 + 3 = 14: r3 goes (11), then r2 (8): waiting r2, r3.
    # Room 2 fits neither (3 each). r0 (o = 2) ends. Step 2: r1 5 + r2 3 = 8; r3 does not fit. Step 3: 6 + 4 = 10.
    # r2 (2 were left) ends. Step 4: r1 7 + r3 3 = 10. r1 (o = 5) ends. Steps 5, 6: r3 4, 5.
    out = run(engine, requests((0, 3, 2), (0, 3, 5), (0, 2, 3), (0, 2, 4)), cluster(1, 4, 10), name)
    assert (out.start, out.preemptions) == ([0, 0, 2, 4], 2)
    assert out.peak == [10, 8, 8, 10, 10, 4, 5]


def test_the_preempted_of_the_last_worker_are_first_in_the_pool(engine):
    # C = 8, w0: r0 (o = 2), r2; w1: r1 (o = 3), r3, all s = 4. Step 1: 10 > 8 on both: r2 leaves w0, then r3 leaves
    # w1 and comes before it. r0 ends with step 1. Step 2: r3 (5) -> w0; r2 (5) fits neither 8 - 5 nor 8 - 6.
    # r1 ends with step 2. Step 3: r2 -> w1.
    out = run(engine, requests((0, 4, 2), (0, 4, 3), (0, 4, 4), (0, 4, 4)), cluster(2, 2, 8), "least-kv")
    assert (out.start, out.worker) == ([0, 0, 3, 2], [0, 1, 1, 0])


def test_the_youngest_started_last_whatever_its_index(engine):
    # C = 12. r0 is released in step 1, so it is younger than r1. Step 0: r1 4. Step 1: r1 5 + r0 4 = 9; step 2: 11;
    # step 3: 13: r0 goes, with 4 + 2 as its prompt; 7 + 6 = 13 does not fit. r1 (o = 5) ends with step 4 (load 8).
    out = run(engine, requests((1, 4, 5), (0, 4, 5)), cluster(1, 2, 12), "least-kv")
    assert (out.start, out.first_start) == ([5, 0], [1, 0])
    assert out.peak == [4, 9, 11, 7, 8, 6, 7, 8]


def test_a_pooled_rule_passes_over_what_does_not_fit_and_a_queue_waits_for_its_head(engine):
    # C = 10. Step 0: r0 (6); r1 (5) does not fit, r2 (2) does: 8. A queue waits with r1 at its head until r0 is gone.
    inst = requests((0, 6, 3), (0, 5, 1), (0, 2, 1))
    assert run(engine, inst, cluster(1, 3, 10), "least-kv").start == [0, 3, 0]
    assert run(engine, inst, cluster(1, 3, 10), "jsq").start == [0, 3, 3]


def test_a_preempted_request_may_come_back_in_the_same_step_elsewhere(engine):
    # C = 8. r0 and r1 (4 each) are put on w0 by the script; step 1: 10 > 8, r1 goes and, as 5, is put on w1 at once.
    class Move:
        mode = "pooled"

        def route(self, view: ref.View) -> list[tuple[ref.Request, int]]:
            return [(r, 0 if view.step == 0 else 1) for r in view.pool]

    out = run(engine, requests((0, 4, 2), (0, 4, 2)), cluster(2, 2, 8), Move())
    assert (out.start, out.worker, out.preemptions) == ([0, 1], [0, 1], 1)
    assert (out.peak, out.total) == ([8, 5], [8, 10])


# --- section 2: staleness ----------------------------------------------------------------------------------------

DRIP = requests((0, 4, LONG), (1, 4, LONG), (2, 4, LONG), (3, 4, LONG))


@pytest.mark.parametrize(
    ("how", "workers"),
    [
        # Truth: [0,0] w0; [5,0] w1; [6,5] w1; r0 7, r1 6 + r2 5: w0.
        ({}, [0, 1, 1, 0]),
        # Snapshots in steps 0 and 2: [0,0] twice: w0, w0; [6 + 5, 0] twice: w1, w1.
        ({"staleness": 2}, [0, 0, 1, 1]),
        # With increments: [0,0] w0; [4,0] w1; fresh [6,5] w1; [6, 5 + 4] w0.
        ({"staleness": 2, "optimistic": True}, [0, 1, 1, 0]),
        # One snapshot for all: herding; with increments of 4 each: [0,0], [4,0], [4,4], [8,4].
        ({"staleness": 100}, [0, 0, 0, 0]),
        ({"staleness": 100, "optimistic": True}, [0, 1, 0, 1]),
    ],
)
def test_staleness_of_a_pooled_rule(engine, how, workers):
    assert run(engine, DRIP, cluster(2, 8), "least-kv", **how).worker == workers


def test_a_pooled_rule_counts_its_own_admissions_of_the_step_whatever_the_staleness(engine):
    # All four in step 0, never a new snapshot: [0,0], [4,0], [4,4], [8,4].
    inst = DRIP.replace(release=[0, 0, 0, 0])
    assert run(engine, inst, cluster(2, 8), "least-kv", staleness=100).worker == [0, 1, 0, 1]


@pytest.mark.parametrize(("how", "workers"), [({}, [0, 1, 0]), ({"staleness": 2}, [0, 0, 0])])
def test_staleness_of_an_immediate_rule(engine, how, workers):
    # Three binds in step 0: with a snapshot none sees the others; with increments it is the truth.
    inst = requests((0, 1, LONG), (0, 1, LONG), (0, 1, LONG))
    assert run(engine, inst, cluster(2, 8), "jsq", **how).worker == workers
    assert run(engine, inst, cluster(2, 8), "jsq", **how, optimistic=True).worker == [0, 1, 0]


def test_a_skipped_step_takes_no_snapshot(engine):
    # d = 5. r0 runs in 0..4; step 5 is skipped; r1 -> w0 in step 7, with a snapshot [0, 0]; in step 10 it is 3 old
    # and stands: r2 -> w0. (A snapshot in step 5 would have made one due in step 10: [7, 0], w1.)
    out = run(engine, requests((0, 3, 5), (7, 4, LONG), (10, 1, 1)), cluster(2, 8), "least-kv", staleness=5)
    assert out.worker == [0, 0, 0]
    # In step 12 it is due: w0 has 4 + 5.
    out = run(engine, requests((0, 3, 5), (7, 4, LONG), (12, 1, 1)), cluster(2, 8), "least-kv", staleness=5)
    assert out.worker == [0, 0, 1]


def test_staleness_counts_seconds_on_the_wall_clock(engine):
    # tau = 1 + load/2, d = 4 s. Step 0 at 0: snapshot [0, 0], r0 (2) -> w0, tau 2. Step 1 at 2: [0, 0] is 2 s old:
    # r1 (1) -> w0, load 3 + 1, tau 3. Step 2 at 5: 5 s old, fresh: [4 + 2, 0]: r2 -> w1.
    inst = requests((0.0, 2, LONG), (1.0, 1, LONG), (4.0, 1, LONG), clock="wall")
    assert run(engine, inst, cluster(2, 8), "least-kv", staleness=4.0).worker == [0, 0, 1]
    # d = 5: exactly 5 s old is due as well; d = 5.5 is not.
    assert run(engine, inst, cluster(2, 8), "least-kv", staleness=5.0).worker == [0, 0, 1]
    assert run(engine, inst, cluster(2, 8), "least-kv", staleness=5.5).worker == [0, 0, 0]


def test_free_slots_are_never_stale(engine):
    # One slot each, one snapshot: r0 -> w0 in step 0; in step 1 the snapshot says [0, 0], but w0 is full: w1.
    inst = requests((0, 4, LONG), (1, 4, LONG))
    assert run(engine, inst, cluster(2, 1), "least-kv", staleness=100).worker == [0, 1]


# --- section 4: metrics ------------------------------------------------------------------------------------------


def metrics_case(engine: str, window: Any) -> dict[str, Any]:
    # tau = 1 + peak/2 + mean/4; round-robin: r0 (4, o = 2) -> w0, r1 (2, o = 5) -> w1, r2 (3, o = 1) in step 2 -> w0.
    # step     0        1        2        3        4
    # loads    4 2      5 3      3 4      0 5      0 6
    # counts   1 1      1 1      1 1      0 1      0 1
    # tau      1+2+.75  1+2.5+1  1+2+.875 1+2.5+.625 1+3+.75
    #          3.75     4.5      3.875    4.125    4.75      sum 21
    inst = requests((0, 4, 2), (0, 2, 5), (2, 3, 1))
    return run(engine, inst, cluster(2, 2, b=0.25), "round-robin").metrics(window)


def joules(*steps: tuple[float, float]) -> float:
    """Energy of steps (tau, load of the lighter over load of the heavier worker); the heavier draws 400 W."""
    return sum(tau * (400 + 100 + 300 * u**0.7) for tau, u in steps)


HEAD = [(3.75, 2 / 4), (4.5, 3 / 5), (3.875, 3 / 4)]
TAIL = [(4.125, 0.0), (4.75, 0.0)]


def test_metrics_of_all_steps(engine):
    m = metrics_case(engine, "all")
    assert m["window"] == "all"
    assert (m["steps"], m["peak_sum"], m["decode_time"]) == (5, 4 + 5 + 4 + 5 + 6, 21.0)
    # 2*peak - total: 2, 2, 1, 5, 6; max - min: 2, 2, 1, 5, 6; max - mean: half of the first.
    assert m["imbalance_sum"] == pytest.approx(16 / 5)
    assert m["imbalance_range"] == pytest.approx(16 / 5)
    assert m["imbalance_gap"] == pytest.approx(8 / 5)
    # Peaks 24; means 3 + 4 + 3.5 + 2.5 + 3 = 16.
    assert m["excess"] == pytest.approx(0.5)
    # 1 - mean/peak: .25, .2, .125, .5, .5.
    assert m["idle"] == pytest.approx(1.575 / 5)
    # Ratios of loads 2, 5/3, 4/3, inf, inf: the middle one is 2; of requests 1, 1, 1, inf, inf.
    assert (m["max_over_min_load_p50"], m["max_over_min_load_p90"], m["max_over_min_load_p95"]) == (
        2,
        math.inf,
        math.inf,
    )
    assert (m["max_over_min_requests_p50"], m["max_over_min_requests_p90"]) == (1, math.inf)
    # 2 + 2 + 2 + 1 + 1 tokens.
    assert m["throughput"] == pytest.approx(8 / 21)
    # r0 (3.75 + 4.5)/2 = 4.125, r1 21/5 = 4.2, r2 3.875: positions 1, 1.9, 1.98 of the sorted three.
    assert m["tpot_p50"] == pytest.approx(4.125)
    assert m["tpot_p95"] == pytest.approx(4.125 + 0.9 * 0.075)
    assert m["tpot_p99"] == pytest.approx(4.125 + 0.98 * 0.075)
    assert (m["wait_p50"], m["wait_p99"], m["wait_max"], m["wait_unit"]) == (0, 0, 0, "steps")
    # First steps: 3.75, 3.75, 3.875.
    assert m["ttft_p50"] == pytest.approx(3.75)
    assert m["ttft_p99"] == pytest.approx(3.75 + 0.98 * 0.125)
    assert m["energy"] == pytest.approx(joules(*HEAD, *TAIL))
    assert m["preemptions"] == 0


def test_metrics_of_the_loaded_window(engine):
    # Steps 0, 1, 2: the last admission is r2's.
    m = metrics_case(engine, "loaded")
    assert m["window"] == "loaded"
    assert (m["steps"], m["peak_sum"], m["decode_time"]) == (3, 13, 12.125)
    assert m["imbalance_sum"] == pytest.approx(5 / 3)
    assert m["imbalance_range"] == pytest.approx(5 / 3)
    assert m["imbalance_gap"] == pytest.approx(5 / 6)
    assert m["excess"] == pytest.approx(13 / 10.5 - 1)
    assert m["idle"] == pytest.approx(0.575 / 3)
    # Sorted 4/3, 5/3, 2: positions 1, 1.8, 1.9.
    assert m["max_over_min_load_p50"] == pytest.approx(5 / 3)
    assert m["max_over_min_load_p90"] == pytest.approx(5 / 3 + 0.8 / 3)
    assert m["max_over_min_load_p95"] == pytest.approx(5 / 3 + 0.9 / 3)
    assert m["max_over_min_requests_p95"] == 1
    assert m["throughput"] == pytest.approx(6 / 12.125)
    assert m["tpot_p50"] == pytest.approx(4.125)  # r1's end lies outside, and its whole time counts
    assert m["energy"] == pytest.approx(joules(*HEAD))


def test_metrics_of_a_fraction_of_the_steps(engine):
    # K = 5: floor(0.2*5) = 1 .. ceil(0.6*5) - 1 = 2: steps 1 and 2; only r2 is first admitted there.
    m = metrics_case(engine, (0.2, 0.6))
    assert (m["steps"], m["peak_sum"], m["decode_time"]) == (2, 9, 8.375)
    assert m["throughput"] == pytest.approx(4 / 8.375)
    assert m["tpot_p50"] == m["tpot_p99"] == pytest.approx(3.875)
    assert m["energy"] == pytest.approx(joules(*HEAD[1:]))
    # floor(0.5*5) = 2 .. ceil(0.7*5) - 1 = 3.
    assert metrics_case(engine, (0.5, 0.7))["peak_sum"] == 4 + 5


def test_waiting_and_first_token_on_the_step_clock(engine):
    # One slot, tau = 1 + load/2: r0 (5, o = 3) in steps 0..2, tau 3.5, 4, 4.5; r1 (2, o = 1), released in step 1,
    # in step 3, tau 2: it waits 2 steps, and its first token is there after 4 + 4.5 + 2 s; r0's after 3.5 s.
    m = run(engine, requests((0, 5, 3), (1, 2, 1)), cluster(1, 1), "least-kv").metrics("all")
    assert (m["wait_p50"], m["wait_max"], m["wait_unit"]) == (1, 2, "steps")
    assert m["ttft_p50"] == pytest.approx((10.5 + 3.5) / 2)
    assert m["ttft_p99"] == pytest.approx(3.5 + 0.99 * 7)


# --- section 5.5: immediate rules --------------------------------------------------------------------------------


def workers_of(engine: str, name: str, rows: list[tuple[int, int, int]], where: bro.Cluster, options: Any = None):
    return run(engine, requests(*rows), where, name, options).worker


def test_random_draws_once_per_request(engine):
    # default_rng(0): .637, .270, .041, .017, .813, .913; times 4: 2, 1, 0, 0, 3, 3.
    assert [int(u * 4) for u in np.random.default_rng(0).random(6)] == [2, 1, 0, 0, 3, 3]
    assert workers_of(engine, "random", [(i, 1, 1) for i in range(6)], cluster(4, 1)) == [2, 1, 0, 0, 3, 3]


def test_round_robin_counts_requests_not_indices(engine):
    # Order of visibility: r2, r0, r1, r3 -> workers 0, 1, 2, 0.
    rows = [(1, 1, 1), (1, 1, 1), (0, 1, 1), (50, 1, 1)]
    assert workers_of(engine, "round-robin", rows, cluster(3, 4)) == [1, 2, 0, 0]


@pytest.mark.parametrize(("by", "workers"), [("requests", [0, 1, 2, 1]), ("tokens", [0, 1, 2, 2])])
def test_po2(engine, by, workers):
    # Draws .637 .270 | .041 .017 | .813 .913 | .607 .729 with G = 3: a = int(3u), b = int(2u) + (b >= a):
    # (1, 0), (0, 1), (2, 1), (1, 2).
    # r0: 0 and 0 requests, no tokens: index, w0. r1: w1 (w0 has 1 waiting). r2: w2. r3: w1 and w2 have one each and
    # load 0: index, w1; by tokens w1 has 7 waiting and w2 3: w2.
    rows = [(0, 5, 1), (0, 7, 1), (0, 3, 1), (0, 1, 1)]
    assert workers_of(engine, "po2", rows, cluster(3, 4), {"by": by}) == workers


def test_po2_with_one_worker_draws_nothing(engine):
    assert workers_of(engine, "po2", [(0, 1, 1), (0, 1, 1)], cluster(1, 1)) == [0, 0]


def test_jsq_ties_by_load(engine):
    # Step 0: r0 (5) -> w0, r1 (2) -> w1. Step 1: one request each, loads 6 and 3: w1.
    assert workers_of(engine, "jsq", [(0, 5, LONG), (0, 2, LONG), (1, 9, 1)], cluster(2, 4)) == [0, 1, 1]


def test_vllm_weighs_a_waiting_request_four_times(engine):
    # Step 0: r0 -> w0 (4), r1 -> w1 (4), r2 -> w0 (tie). Step 1: 2 and 1 active: r3 -> w1 (5); r4 -> w0 (6); r5 -> w1.
    # (jsq would see 2 and 2 at r4, loads 4 and 2, and take w1.)
    rows = [(0, 1, LONG), (0, 1, LONG), (0, 1, LONG), (1, 1, 1), (1, 1, 1), (1, 1, 1)]
    assert workers_of(engine, "vllm", rows, cluster(2, 3)) == [0, 1, 0, 1, 0, 1]


def test_vllm_kv(engine):
    # C = 20, B = 4. Step 0, load 0: score = own: r0 (15) -> w0, r1 (1) -> w1, r2 (1) -> w0.
    # Step 1: w0: 2 active, 16 + 2 = 18 tokens (kv_use .9); w1: 1 active, 2 tokens (.1).
    # r3: 2 / 1 -> w1 (2). r4: 2 / 2, loads 18 / 2 -> w1 (3). r5: 2 / 3 -> w0, now 3 + 1*6*.4 = 5.4.
    # r6, r7, r8: w1 has 3, 4, 5 < 5.4 -> w1 (6). r9: 5.4 / 6 -> w0.
    rows = [(0, 15, 4), (0, 1, 4), (0, 1, 3)] + [(1, 1, 1)] * 7
    assert workers_of(engine, "vllm-kv", rows, cluster(2, 4, 20)) == [0, 1, 0, 1, 1, 0, 1, 1, 1, 0]


def test_vllm_kv_knows_what_it_has_sent_whatever_the_staleness(engine):
    # No capacity, one snapshot [0, 0]: own = 0 / 0 -> w0, 1 / 0 -> w1, 1 / 1 -> w0 (load 0, 0; index).
    out = run(engine, requests((0, 1, LONG), (1, 1, LONG), (2, 1, LONG)), cluster(2, 4), "vllm-kv", staleness=100)
    assert out.worker == [0, 1, 0]


def test_vllm_kv_knows_what_it_has_sent_in_the_same_step(engine):
    # As above, with all three in step 0.
    out = run(engine, requests((0, 1, 1), (0, 1, 1), (0, 1, 1)), cluster(2, 1), "vllm-kv", staleness=100)
    assert out.worker == [0, 1, 0]


@pytest.mark.parametrize("name", ["sglang-tokens", "tpu-minmax"])
def test_least_tokens_then_fewest_requests(engine, name):
    # Waiting prompts: r0 5 / 0; r1 0 -> w1 2; r2 -> w1 4; r3 -> w1 5; r4: 5 / 5 tokens, 1 / 3 requests -> w0.
    # (The own prompt of tpu-minmax adds the same to both.)
    rows = [(0, 5, 1), (0, 2, 1), (0, 2, 1), (0, 1, 1), (0, 1, 1)]
    assert workers_of(engine, name, rows, cluster(2, 4)) == [0, 1, 1, 1, 0]


def test_dynamo_counts_blocks_and_draws_only_for_ties(engine):
    # Draws .637, .270, .041. r0 (16, 1 block): tie, int(2*.637) = 1 -> w1. r1 (17, 2 blocks): 0 / 1 -> w0, no draw.
    # r2 (1): 2 / 1 -> w1. r3 (3): 2 / 2: int(2*.270) = 0 -> w0: 3.
    # Step 1: w0: 18 -> 2 blocks, 4 -> 1; w1: 17 -> 2, 2 -> 1: tie: int(2*.041) = 0 -> w0.
    # (Without growth w1 would have 1 + 1.)
    rows = [(0, 16, LONG), (0, 17, LONG), (0, 1, LONG), (0, 3, LONG), (1, 1, 1)]
    assert workers_of(engine, "dynamo", rows, cluster(2, 8)) == [1, 0, 1, 0, 0]


def test_llumnix(engine):
    # C = 160: 10 blocks each; value = (free - waiting blocks)/max(1, running + waiting), the largest wins.
    # r0 (16): 10 / 10, tie -> w0: (10-1)/1 = 9. r1 (33, 3 blocks) -> w1: 7. r2 (16): 9 / 7 -> w0: (10-2)/2 = 4.
    # r3 (1): 4 / 7 -> w1: (10-4)/2 = 3. r4 (1): 4 / 3 -> w0.
    # Step 1: w0 17, 17, 2 tokens: 2 + 2 + 1 blocks, 5/3; w1 34, 2: 3 + 1, 6/2 -> r5 -> w1.
    rows = [(0, 16, LONG), (0, 33, LONG), (0, 16, LONG), (0, 1, LONG), (0, 1, LONG), (1, 1, 1)]
    assert workers_of(engine, "llumnix", rows, cluster(2, 8, 160)) == [0, 1, 0, 1, 0, 1]


# --- section 5.5: pooled rules -----------------------------------------------------------------------------------


def test_least_kv_takes_the_oldest_first(engine):
    # 3 -> w0, 5 -> w1, 4 -> w0 (3 < 5; 7), 1 -> w1 (5 < 7).
    rows = [(0, 3, 1), (0, 5, 1), (0, 4, 1), (0, 1, 1)]
    assert workers_of(engine, "least-kv", rows, cluster(2, 2)) == [0, 1, 0, 1]


def test_lpt_takes_the_longest_first_and_the_older_of_equals(engine):
    # 5 (r1) -> w0, 4 (r2) -> w1, 4 (r4) -> w1 (4 < 5; 8, full), 3 (r0) -> w0, and r3 (1) waits for step 1.
    out = run(engine, requests((0, 3, 1), (0, 5, 1), (0, 4, 1), (0, 1, 1), (0, 4, 1)), cluster(2, 2), "lpt")
    assert (out.worker, out.start) == ([0, 0, 1, 0, 1], [0, 0, 0, 1, 0])


def test_trtllm_adp_caps_the_number_of_requests(engine):
    # 4 new, none active: cap 2. 9 -> w0, 1 -> w1, 1 -> w1 (2 < 9), and w1 is at the cap: the last -> w0.
    rows = [(0, 9, 1), (0, 1, 1), (0, 1, 1), (0, 1, 1)]
    assert workers_of(engine, "trtllm-adp", rows, cluster(2, 4)) == [0, 1, 1, 0]
    # Two free slots: the two oldest, longest first: 2 -> w0, 1 -> w1; 9 waits.
    out = run(engine, requests((0, 1, 1), (0, 2, 1), (0, 9, 1)), cluster(2, 1), "trtllm-adp")
    assert (out.start, out.worker) == ([0, 0, 1], [1, 0, 0])


# --- section 5.1: BR-0 -------------------------------------------------------------------------------------------

FOUR = [(0, 10, 1), (0, 3, 1), (0, 4, 1), (0, 8, 1)]


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        # G = B = 2, F = S - 2*max(S - m, 0). 4 free slots > 2, stage 1: w0, m = 0, F = -S: 3. w1 (2 free), m = 3:
        # 10 - 14, 4 - 2 = 2, 8 - 10: 4. Loads 3, 4; 2 slots left, stage 2: w0 (3 < 4), m = 1: 10 - 18, 8 - 14: not
        # positive, the better single, 8, is forced. w1: m = 11 - 4 = 7: 10 - 6 = 4.
        ({}, [1, 0, 1, 0]),
        # Window 1: 10 -> w0; w1, m = 10: 3. Stage 2: w1 (3 < 10), m = 7: 4 -> 4, 8 -> 8 - 2 = 6: 8. w0 (10, w1 has
        # 11), m = 1: 4 - 6, forced.
        ({"pool_window": 1}, [0, 1, 0, 1]),
        # Pool 10, 8, 4, 3, window 1: 10 -> w0; 8 -> w1 (F = 8). Stage 2: w1, m = 2: 4 - 4 = 0, 3 - 2 = 1: 3. w0, m =
        # 1: 4, forced.
        ({"pool_window": 1, "pool_order": "longest"}, [0, 1, 0, 1]),
        # No stage 2 (greedy_slots 0): w0 3, w1 4, then w0, m = 1: 8 (-6 > -8), w1 gets 10: as with stage 2 here.
        ({"greedy_slots": 0}, [1, 0, 1, 0]),
        # Stage 2 with one candidate, from the start: w0 10; w1, m = 10: 3; w1 (free 1, as w0; 3 < 10): 4 (m = 7);
        # w0: 8.
        ({"greedy_slots": 4, "subset_window": 1}, [0, 1, 1, 0]),
    ],
)
def test_br0_two_stages(engine, options, workers):
    assert workers_of(engine, "br-0", FOUR, cluster(2, 2), options) == workers


def test_br0_subset(engine):
    # Stage 2 only. Step 0: r0 (10) -> w0, forced. Step 1: loads 11, 0, free 3, 4: w1, m = 11: of the subsets of 7, 4,
    # 5, 6 the sums 7 + 4 and 5 + 6 reach 11; the lower bit mask is {7, 4}. Loads 11, 11, free 3, 2: w0, m = 0: 5
    # forced (-5 > -6): 16. Free 2, 2, w1 (11 < 16), m = 5: 6 - 2 = 4 > 0.
    rows = [(0, 10, LONG), (1, 7, 1), (1, 4, 1), (1, 5, 1), (1, 6, 1)]
    assert workers_of(engine, "br-0", rows, cluster(2, 4), {"greedy_slots": 100}) == [0, 1, 1, 0, 1]


def test_br0_subset_is_no_larger_than_the_free_slots(engine):
    # B = 1: step 1: w1 (m = 11) has one slot: of 2, 3, 6 the single 6 is best, though 2 + 3 + 6 = 11 would fill it.
    out = run(engine, requests((0, 10, LONG), (1, 2, 1), (1, 3, 1), (1, 6, 1)), cluster(2, 1), "br-0")
    assert (out.worker, out.start) == ([0, 1, 1, 1], [0, 3, 2, 1])


def test_br0_score_of_zero_is_not_positive(engine):
    # B = 1, step 1: w1, m = 4 + 1 = 5, G = 2: 10 -> 10 - 10 = 0, 11 -> 11 - 12 = -1: nothing positive; the best single
    # is 10. Step 2 (w0 6): 11 is alone, and forced.
    out = run(engine, requests((0, 4, LONG), (1, 11, 1), (1, 10, 1)), cluster(2, 1), "br-0")
    assert out.start == [0, 2, 1]


def test_br0_greedy_worker(engine):
    # G = 2, B = 3. Step 0: r0 (9) -> w0. Step 1: loads 10, 0, free 2, 3: r1 -> w1; free 2, 2: r2 -> w1 (1 < 10).
    # 3 free > 2, stage 1: "free-slots" takes w0 (2 free), "least-load" w1 (2 < 10).
    rows = [(0, 9, LONG), (1, 1, 1), (1, 1, 1), (1, 1, 1)]
    assert workers_of(engine, "br-0", rows, cluster(2, 3)) == [0, 1, 1, 0]
    assert workers_of(engine, "br-0", rows, cluster(2, 3), {"greedy_worker": "least-load"}) == [0, 1, 1, 1]
    # It is about stage 1 only: the same choices in stage 2 (candidates one by one) go by free slots.
    options = {"greedy_worker": "least-load", "greedy_slots": 100, "subset_window": 1}
    assert workers_of(engine, "br-0", rows, cluster(2, 3), options) == [0, 1, 1, 0]


def test_br0_closes_a_worker_on_which_nothing_fits(engine):
    # C = 10. Step 1: w0 has 9 tokens, room 1. r1, r2 (2 each) -> w1. Free 2, 1: w0's turn, but 2 > 1: closed; w1.
    rows = [(0, 8, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2)]
    out = run(engine, requests(*rows), cluster(2, 3, 10), "br-0")
    assert (out.worker, out.start) == ([0, 1, 1, 1], [0, 1, 1, 1])


def test_br0_counts_the_slots_of_closed_workers(engine):
    # C = 20. Step 1: w0 has 19 tokens, room 1. w1, m = 19: r1 (5), the largest; m = 14: r2 (4). Free 2, 1: w0 is
    # closed, but its 2 slots count: 3 > 2, still stage 1: w1 gets r4 (3), the best of all, not r3 (2), the only
    # candidate of a stage 2 with subset_window = 1. Step 2: r0 has ended: r3 -> w0.
    rows = [(0, 18, 2), (1, 5, 2), (1, 4, 2), (1, 2, 2), (1, 3, 2)]
    out = run(engine, requests(*rows), cluster(2, 3, 20), "br-0", {"subset_window": 1})
    assert (out.worker, out.start) == ([0, 1, 1, 0, 1], [0, 1, 1, 2, 1])


# --- section 5.2: BR-H -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"pool_window": 1}, {"greedy_slots": 4, "subset_window": 1}])
def test_brh_without_a_horizon_is_br0(engine, options):
    expected = engines.run("reference", requests(*FOUR), cluster(2, 2), "br-0", options).worker
    assert workers_of(engine, "br-h", FOUR, cluster(2, 2), {"H": 0, **options}) == expected


def test_brh_sees_an_end_coming(engine):
    # H = 2, gamma = 1. Step 0: 8 -> w0, 10 -> w1. Step 1: r0 has one step left (C = 1), r1 more than 2 (C = 3):
    # P_0 = 9 0 0, P_1 = 11 12 13. w0 (9 < 11): margins 2, 12, 13: r2 (2): 2 + 2 + 2 = 6; r3 (6): (6 - 8) + 6 + 6 = 10.
    # BR-0 sees 2 against 6 - 8 = -2.
    rows = [(0, 8, 2), (0, 10, LONG), (1, 2, 1), (1, 6, 1)]
    options = {"H": 2, "gamma": 1.0}
    assert workers_of(engine, "br-h", rows, cluster(2, 3), options) == [0, 1, 1, 0]
    assert workers_of(engine, "br-0", rows, cluster(2, 3)) == [0, 1, 0, 1]


@pytest.mark.parametrize(("refresh", "workers"), [(1, [0, 1, 1, 0]), (2, [0, 1, 0, 1])])
def test_brh_refresh(engine, refresh, workers):
    # H = 1, gamma = 1, beta = 1.5. r0 (8, o = 3): at age 1 two steps are left, more than H: C = 2 = H + 1. At age 2
    # one is left: predicted again, C = 1; with refresh = 2 it stays 2. Step 2: P_1 = 12 13 (r1), P_0 = 10 0 or 10 11.
    # w0: margins 2, 13: r2 (2): 2 + 2 = 4, r3 (3): (3 - 1.5) + 3 = 4.5. Margins 2, 2: 4 against 1.5 + 1.5 = 3.
    rows = [(0, 8, 3), (0, 10, LONG), (2, 2, 1), (2, 3, 1)]
    options = {"H": 1, "gamma": 1.0, "beta": 1.5, "refresh": refresh}
    assert workers_of(engine, "br-h", rows, cluster(2, 3), options) == workers


@pytest.mark.parametrize(("grow", "workers"), [(False, [0, 1, 0, 1]), (True, [0, 1, 1, 0])])
def test_brh_grow(engine, grow, workers):
    # H = 1, gamma = 1, beta = 3. Step 1: P_0 = 9 10, P_1 = 11 12: margins 2, 2 on w0. r2 (2): 2 + 2 = 4, r3 (1): 1 + 1.
    # Growing, r2 is 2, 3: 2 + (3 - 3*1) = 2; r3 is 1, 2: 3.
    rows = [(0, 8, LONG), (0, 10, LONG), (1, 2, 1), (1, 1, 1)]
    options = {"H": 1, "gamma": 1.0, "beta": 3.0, "grow": grow}
    assert workers_of(engine, "br-h", rows, cluster(2, 3), options) == workers


class ShortEight:
    """Expects a request with prompt 8 to end with the present step with probability p, and no other."""

    def __init__(self, p: float) -> None:
        self.p = p

    def predict(self, age: Any, prompt: Any, key: Any, horizon: int) -> tuple[Any, Any]:
        return np.where(np.asarray(prompt) == 8, self.p, 0.0), np.ones(len(prompt))


@pytest.mark.parametrize(("p", "workers"), [(0.5, [0, 1, 0, 1]), (0.75, [0, 1, 1, 0])])
def test_brh_cutoff_rounds_halves_up(engine, p, workers):
    # H = 1, gamma = 1, beta = 1.5. r0's cut-off: p = .5: 2*.5 + 1*.5 = 1.5 -> 2; p = .75: 1.25 -> 1. Step 1:
    # P_1 = 11 12, P_0 = 9 10 or 9 0. w0: margins 2, 2: r2 (2): 4, r3 (3): 1.5 + 1.5; margins 2, 12: 4 and 1.5 + 3.
    rows = [(0, 8, LONG), (0, 10, LONG), (1, 2, 1), (1, 3, 1)]
    options = {"H": 1, "gamma": 1.0, "beta": 1.5, "predictor": ShortEight(p)}
    assert workers_of(engine, "br-h", rows, cluster(2, 3), options) == workers


def test_brh_a_request_that_outlives_its_cutoff_still_counts_in_the_present(engine):
    # As above with p = 1, refresh 3: r0's C is 1 at age 1, and still 1 at age 2. Step 2: P_0 = 10 0, P_1 = 12 13:
    # margins 2, 13: r2 (2): 4; r3 (20): (20 - 27) + (20 - 10.5) = 2.5. (With C = 0 margins 12, 13: r3 8 + 9.5.)
    rows = [(0, 8, LONG), (0, 10, LONG), (2, 2, 1), (2, 20, 1)]
    options = {"H": 1, "gamma": 1.0, "beta": 1.5, "predictor": ShortEight(1.0), "refresh": 3}
    assert workers_of(engine, "br-h", rows, cluster(2, 3), options) == [0, 1, 0, 1]


def test_brh_forgets_what_ended_before_an_idle_gap(engine):
    # r0 runs on w0 in steps 0 and 1; in step 6 both workers are empty, P is 0 at every h: tie, w0.
    assert workers_of(engine, "br-h", [(0, 1, 2), (6, 1, 1)], cluster(2, 1), {"H": 1}) == [0, 0]


def test_cutoffs_from_predictions():
    # c = (1 - p)*(H + 1) + p*mu with H = 9: .5*10 + .5*4 = 7; .2*10 + .8*1.5 = 3.2 -> 3; 1*.. 2.5 -> 3; p = 0: 10.
    assert [ref.predicted_cutoff(9, p, mu) for p, mu in [(0.5, 4), (0.8, 1.5), (1, 2.5), (0, 1)]] == [7, 3, 3, 10]


def test_brh_cutoff_falls_by_one_between_predictions_and_not_below_one():
    # A wrong prediction at age 1 (C = 2 of H = 3), refresh 4: 2, 1, 1, 1 at ages 1..4; at age 5 a new one.
    rule = ref.Brh(3, lambda request, age: 2, refresh=4)
    seen = []
    route = rule.route

    def spy(view: ref.View) -> list[tuple[ref.Request, int]]:
        answer = route(view)
        seen.extend(rule.C.values())
        return answer

    rule.route = spy  # type: ignore[method-assign]
    ref.simulate(requests((0, 1, 7)), cluster(1, 1), rule)
    assert seen == [2, 1, 1, 1, 2, 1]
