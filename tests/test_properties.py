"""What holds for every router on every instance: the future stays hidden, work is conserved, bounds lie below."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.predictors import Oracle

CLUSTERS = (
    bro.Cluster(workers=3, slots=3),
    bro.Cluster(workers=3, slots=4, kv_capacity=90),
)


def random_instance(seed: int, n: int = 60, clock: str = "step") -> bro.Instance:
    rng = np.random.default_rng(seed)
    release: Any = np.sort(rng.integers(0, 60, n)) if clock == "step" else np.sort(rng.uniform(0, 0.5, n))
    return bro.Instance(release, rng.integers(1, 40, n), rng.integers(1, 20, n), key=rng.integers(0, 5, n), clock=clock)


def routers(cluster: bro.Cluster) -> list[str]:
    return [name for name in bro.ROUTERS if cluster.kv_capacity is not None or name != "llumnix"]


def cases() -> list[Any]:
    return [pytest.param(c, r, id=f"{r}-C{c.kv_capacity}") for c in CLUSTERS for r in routers(c)]


@pytest.mark.parametrize(("cluster", "router"), cases())
def test_poisoned_future_changes_no_earlier_decision(cluster: bro.Cluster, router: str) -> None:
    """Permute and stretch all requests that arrive after step 30: what is admitted before then stays as it was."""
    inst = random_instance(7)
    cut = int(np.searchsorted(inst.release, 31))
    rng = np.random.default_rng(1)
    later = rng.permutation(np.arange(cut, len(inst)))
    index = np.concatenate((np.arange(cut), later))
    prompt, output = inst.prompt[index].copy(), inst.output[index].copy()
    prompt[cut:] = np.minimum(prompt[cut:] * 2, 60)
    poisoned = inst.replace(
        prompt=prompt, output=output, release=np.concatenate((inst.release[:cut], inst.release[cut:] + 5))
    )
    before, after = (bro.simulate(i, cluster, router, seed=3) for i in (inst, poisoned))
    early = (before.first_start <= 30) & (before.schedule.start == before.first_start)
    assert early.sum() > 10
    assert np.array_equal(before.first_start[early], after.first_start[early])
    same_run = early & (after.schedule.start == after.first_start)
    assert np.array_equal(before.schedule.worker[same_run], after.schedule.worker[same_run])


@pytest.mark.parametrize(
    "router", [r for r in routers(CLUSTERS[0]) if not isinstance(getattr(bro.ROUTERS[r](), "predictor", None), Oracle)]
)
def test_unknown_lengths_do_not_steer(router: str) -> None:
    """Lengthen every request that is still running at step 12: decisions up to then stay as they were."""
    inst = random_instance(11)
    run = bro.simulate(inst, CLUSTERS[0], router, seed=5)
    running = run.schedule.start + inst.output > 12
    longer = inst.replace(output=inst.output + 7 * running)
    other = bro.simulate(longer, CLUSTERS[0], router, seed=5)
    early = run.schedule.start <= 12
    assert early.sum() > 10
    assert np.array_equal(run.schedule.start[early], other.schedule.start[early])
    assert np.array_equal(run.schedule.worker[early], other.schedule.worker[early])


@pytest.mark.parametrize("clock", ["step", "wall"])
@pytest.mark.parametrize(("cluster", "router"), cases())
def test_sandwich_and_conservation(cluster: bro.Cluster, router: str, clock: str) -> None:
    """Certified bound <= peak_sum; loads sum to the work of the requests; schedule and run agree."""
    inst = random_instance(3, clock=clock)
    run = bro.simulate(inst, cluster, router, seed=2)
    assert int(run.steps.active.sum()) == int(inst.output.sum())
    if run.preemptions:
        assert int(run.steps.total.sum()) >= inst.total_work  # a recomputed prompt is longer than the one before
        return
    assert int(run.steps.total.sum()) == inst.total_work
    bro.check(run.instance, cluster, run.schedule)
    assert bro.peak_sum(run.instance, cluster, run.schedule) == run.peak_sum
    assert bro.decode_time(run.instance, cluster, run.schedule) == run.decode_time
    for method in ("fluid", "item"):
        bound = bro.placement_bound(run.instance, cluster, run.schedule.start, method=method)
        assert bro.verify(run.instance, cluster, bound.certificate) == bound.value <= run.peak_sum
    bound = bro.schedule_bound(run.instance, cluster, latest=run.schedule.start)
    assert bro.verify(run.instance, cluster, bound.certificate) <= run.decode_time


@pytest.mark.parametrize(("cluster", "router"), cases())
def test_same_seed_same_trajectory_live_or_compiled(cluster: bro.Cluster, router: str) -> None:
    """A second run, the same object used twice, and the live path give the same schedule and the same steps."""
    inst = random_instance(5)
    rule = bro.ROUTERS[router]()
    runs = [
        bro.simulate(inst, cluster, r, seed=4, live=live)
        for r, live in ((router, False), (rule, False), (rule, True), (rule, True))
    ]
    for other in runs[1:]:
        assert runs[0].schedule == other.schedule
        assert np.array_equal(runs[0].peak_loads, other.peak_loads)
        assert np.array_equal(runs[0].steps.time, other.steps.time)


def test_work_conserving_rules_leave_no_slot_free_while_a_request_waits() -> None:
    inst = random_instance(9, n=200)
    for router in ("br-0", "br-0-least-load", "br-h", "least-kv", "lpt"):
        run = bro.simulate(inst, CLUSTERS[0], router)
        waiting_at = [int(((inst.release <= k) & (run.schedule.start > k)).sum()) for k in run.steps.step]
        full = run.steps.active == CLUSTERS[0].workers * CLUSTERS[0].slots
        assert all(w == 0 or f for w, f in zip(waiting_at, full, strict=True)), router


class _Answer:
    """A pooled router that gives one fixed answer."""

    mode = "pooled"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def route(self, view: Any) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([0, 1], "step 0: _Answer.route returned|must be a flat integer array"),
        (None, r"step 0: _Answer.route must return \(requests, workers\), got None"),
        (([0, 1], [0]), "step 0: _Answer.route returned 2 requests and 1 workers"),
        (([7], [0]), "step 0: _Answer.route admits request 7, which is not in the pool"),
        (([0, 0], [0, 1]), "step 0: _Answer.route admits request 0 twice"),
        (([0], [3]), r"step 0: _Answer.route puts request 0 on worker 3; workers are 0 .. 1"),
        (([0], [-1]), r"step 0: _Answer.route puts request 0 on worker -1; workers are 0 .. 1"),
        (([0, 1], [0, 0]), "step 0: _Answer.route puts request 1 on worker 0, which has no free slot"),
        (([0.5], [0]), r"requests of _Answer.route must be integers, got 0.5 \(float64\)"),
        (([0], [float("nan")]), r"workers of _Answer.route must be integers, got nan \(float64\)"),
        (([[0]], [[0]]), r"requests of _Answer.route must be a flat integer array, got shape \(1, 1\)"),
        (([], []), "left 2 requests waiting in step 0 while nothing was active and no arrival was left"),
    ],
)
def test_bad_pooled_answers(answer: Any, message: str) -> None:
    inst = bro.Instance(release=[0, 0], prompt=[3, 4], output=[2, 2])
    with pytest.raises(bro.RouterError, match=message):
        bro.simulate(inst, bro.Cluster(workers=2, slots=1), _Answer(answer))


def test_pooled_answer_beyond_the_room() -> None:
    inst = bro.Instance(release=[0, 0], prompt=[3, 4], output=[2, 2])
    with pytest.raises(bro.RouterError, match=r"puts request 1 \(4 tokens\) on worker 0, which has room for 3"):
        bro.simulate(inst, bro.Cluster(workers=2, slots=2, kv_capacity=6), _Answer(([0, 1], [0, 0])))


@pytest.mark.parametrize("answer", [2, -1, 0.0, float("nan"), None, "0", True])
def test_bad_immediate_answers(answer: Any) -> None:
    class Rule:
        mode = "immediate"

        def bind(self, view: Any, request: Any) -> Any:
            return answer

    inst = bro.Instance(release=[4], prompt=[3], output=[2])
    with pytest.raises(bro.RouterError, match=r"step 4: Rule\.bind .*request 0"):
        bro.simulate(inst, bro.Cluster(workers=2, slots=1), Rule())


def test_views_cannot_be_written_to() -> None:
    class Rule:
        mode = "pooled"

        def route(self, view: Any) -> Any:
            arrays = [getattr(view, n) for n in ("load", "free", "active", "room", "queued", "queued_tokens")]
            arrays += [getattr(view.pool, n) for n in ("index", "prompt", "wait", "key")]
            for array in arrays:
                assert not array.flags.writeable
                with pytest.raises(ValueError, match="read-only"):
                    array += 1
            return view.pool.index[:1], [0] * len(view.pool.index[:1])

    run = bro.simulate(bro.Instance([0, 0], [3, 4], [2, 2]), bro.Cluster(workers=1, slots=2), Rule())
    assert run.schedule.start.tolist() == [0, 1]
    assert run.dispatch is not None
    assert len(run.dispatch) >= 2


@pytest.mark.parametrize("router", ["jsq", "vllm", "least-kv"])
def test_stale_views_herd_and_increments_recover(router: str) -> None:
    """With counters 0.5 s old every request of half a second goes to the same worker; counting one's own mends most."""
    cluster = bro.Cluster(workers=8, slots=16)
    inst = bro.generate("poisson-lognormal", n=3000, seed=1).scaled_to(cluster, utilization=0.8)

    def excess(**view: Any) -> float:
        return float(bro.simulate(inst, cluster, router, **view).metrics()["excess"])

    fresh, stale, counted = excess(), excess(staleness=0.5), excess(staleness=0.5, optimistic=True)
    assert stale > 1.5 * fresh
    assert counted < fresh + 0.6 * (stale - fresh)


@pytest.mark.parametrize("case", range(12))
def test_br_h_without_a_horizon_is_br_0(case: int) -> None:
    """``H = 0, alpha = 1, beta = G``: the same decisions, whatever the options, the clock and the capacity."""
    rng = np.random.default_rng(case)
    inst = random_instance(case, n=150, clock="wall" if case % 2 else "step")
    cluster = bro.Cluster(int(rng.integers(1, 6)), int(rng.integers(1, 6)), kv_capacity=90 if case % 3 == 0 else None)
    options: dict[str, Any] = {
        "greedy_slots": [None, 0, 3][case % 3],
        "subset_window": int(rng.integers(1, 6)),
        "pool_window": int(rng.integers(1, 40)),
        "pool_order": ["arrival", "longest"][case // 6],
        "greedy_worker": ["free-slots", "least-load"][case // 3 % 2],
    }
    plain = bro.simulate(inst, cluster, bro.routers.BR0(**options))
    ahead = bro.simulate(inst, cluster, bro.routers.BRH(H=0, alpha=1, beta=cluster.workers, **options))
    assert plain.schedule == ahead.schedule
    assert np.array_equal(plain.peak_loads, ahead.peak_loads)
