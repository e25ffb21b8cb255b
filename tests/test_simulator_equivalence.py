"""The compiled kernel, the live path and the plain reference agree, step by step, on nasty random instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import engines
import pytest
import reference as ref
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import balanceroute_opt as bro

STEP_TIMES = ((1.0, 0.5, 0.25), (0.0, 0.25, 0.0), (0.035, 1e-3, 3e-4), (2.0, 0.0, 0.0))

OPTIONS: dict[str, Any] = {
    "po2": st.fixed_dictionaries({"by": st.sampled_from(["requests", "tokens"])}),
}
TWO_STAGES = {
    "greedy_slots": st.sampled_from([None, 0, 1, 3, 7, 100]),
    "subset_window": st.integers(1, 5),
    "pool_window": st.sampled_from([1, 2, 3, 1024]),
    "pool_order": st.sampled_from(["arrival", "longest"]),
    "greedy_worker": st.sampled_from(["free-slots", "least-load"]),
}
OPTIONS["br-0"] = st.fixed_dictionaries({}, optional=TWO_STAGES)
OPTIONS["deferral"] = st.fixed_dictionaries(
    {},
    optional={
        "max_wait": st.sampled_from([0, 1, 2, 5, 20]),
        "price": st.sampled_from([0.0, 0.1, 0.7, 5.0]),
        "window": st.integers(1, 5),
    },
)
OPTIONS["br-h"] = st.fixed_dictionaries(
    {"H": st.sampled_from([0, 1, 2, 5, 20])},
    optional={
        **TWO_STAGES,
        "gamma": st.sampled_from([0.5, 0.86, 0.9, 1.0]),
        "alpha": st.sampled_from([0.5, 1.0]),
        "beta": st.sampled_from([None, 0.7, 1.5, 43.0]),
        "refresh": st.integers(1, 4),
        "grow": st.booleans(),
        "predictor": st.sampled_from(["oracle", engines.Whim()]),
    },
)
OPTIONS["bf-io-heuristic"] = st.fixed_dictionaries(
    {"H": st.sampled_from([0, 1, 2, 5, 20])},
    optional={
        "gamma": st.sampled_from([0.5, 0.86, 1.0]),
        "beta": st.sampled_from([None, 1.5, 43.0]),
        "refresh": st.integers(1, 4),
        "greedy_slots": st.sampled_from([0, 1, 3, 7, 100]),
        "pool_window": st.sampled_from([1, 2, 5, 1024]),
        "mix": st.sampled_from([0.0, 0.25, 1.0]),
        "predictor": st.sampled_from(["oracle", engines.Whim()]),
    },
)


@dataclass
class Case:
    inst: bro.Instance
    cluster: bro.Cluster
    seed: int
    staleness: float
    optimistic: bool
    window: Any


@st.composite
def cases(draw: st.DrawFn, *, capacity: bool | None = None) -> Case:
    """Ties, equal and unsorted releases, one-slot clusters, tight capacities, long idle gaps; n up to 30."""
    n = draw(st.one_of(st.integers(0, 6), st.integers(7, 30)))
    wall = draw(st.booleans())
    unit = draw(st.sampled_from([0, 1, 3]))  # 0: everything at once
    spread = st.integers(0, 4 * unit)
    if draw(st.booleans()):
        spread = st.one_of(spread, st.integers(0, 12 * unit), st.sampled_from([50 * unit, 51 * unit, 400 * unit]))
    release: list[Any] = draw(st.lists(spread, min_size=n, max_size=n))
    if wall:
        seconds = draw(st.sampled_from([0.25, 1.0, 0.3]))
        release = [r * seconds for r in release]
    # With a tight capacity prompts are short beside outputs, so that growth overflows it.
    tight = draw(st.booleans()) if capacity is None else capacity
    largest = draw(st.sampled_from([2, 5, 12, 40] if tight else [1, 3, 9, 40, 4000]))
    longest = draw(st.sampled_from([3, 8, 20] if tight else [1, 2, 4, 12]))
    prompt = draw(st.lists(st.integers(1, largest), min_size=n, max_size=n))
    output = draw(st.lists(st.integers(max(1, longest // 3), longest), min_size=n, max_size=n))
    key = draw(st.one_of(st.none(), st.lists(st.integers(-1, 4), min_size=n, max_size=n)))
    needed = max((s + o for s, o in zip(prompt, output, strict=True)), default=5)
    c, a, b = draw(st.sampled_from(STEP_TIMES))
    return Case(
        inst=bro.Instance(release, prompt, output, key, clock="wall" if wall else "step"),
        cluster=bro.Cluster(
            workers=draw(st.sampled_from([1, 2, 2, 3, 4, 5])),
            slots=draw(st.integers(2, 6) if tight else st.integers(1, 4)),
            kv_capacity=needed + draw(st.sampled_from([0, 1, 2, 5, largest, 2 * largest])) if tight else None,
            step_time=bro.StepTime(c, a, b),
        ),
        seed=draw(st.integers(0, 3)),
        staleness=draw(st.sampled_from([0, 0, 0, 1, 2, 2.5, 5, 1000])),
        optimistic=draw(st.booleans()),
        window=draw(st.sampled_from(["all", "loaded", (0.1, 0.9), (0.25, 0.5)])),
    )


def assert_same(case: Case, expected: engines.Outcome, got: engines.Outcome) -> None:
    for name in ("steps", "peak", "total", "least", "most_active", "least_active"):
        assert getattr(got, name) == getattr(expected, name), name
    for name in ("first_start", "start", "worker", "release", "preemptions"):
        assert getattr(got, name) == getattr(expected, name), name
    assert got.time == pytest.approx(expected.time, rel=1e-12, abs=1e-12)
    if not expected.steps:
        return
    fast = got.metrics(case.window)
    for name, value in expected.metrics(case.window).items():
        if isinstance(value, float):
            assert fast[name] == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), name
        else:
            assert fast[name] == value, name


def compare(case: Case, name: Any, options: Any, *others: str) -> None:
    how = {"seed": case.seed, "staleness": case.staleness, "optimistic": case.optimistic}
    try:
        expected = engines.run("reference", case.inst, case.cluster, name, options, **how)
    except engines.Stuck:
        for other in others:
            with pytest.raises(engines.Stuck):
                engines.run(other, case.inst, case.cluster, name, options, **how)
        return
    for other in others:
        assert_same(case, expected, engines.run(other, case.inst, case.cluster, name, options, **how))


FUZZ = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("name", engines.RULES)
def test_reference_equals_kernel_and_live_path(name):
    @settings(FUZZ, max_examples=200)
    @given(cases(capacity=True if name == "llumnix" else None), OPTIONS.get(name, st.just({})))
    def check(case: Case, options: dict[str, Any]) -> None:
        # Rules that predict need the true ages of their requests, so the package refuses live ones with a stale view.
        live = () if name in ("br-h", "bf-io-heuristic") and case.staleness else ("live",)
        compare(case, name, options, "kernel", *live)

    check()


class Moody(ref.LeastKv):
    """Leaves requests waiting by a whim of step and index, so that deferral, jumps and dead ends occur."""

    def order(self, pool: list[ref.Request]) -> list[ref.Request]:
        return [r for r in pool if (self.step * 5 + r.index * 3) % 7 > 2]

    def route(self, view: ref.View) -> list[tuple[ref.Request, int]]:
        self.step = view.step
        return super().route(view)


USER_RULES = {
    "moody": Moody,
    "br-0": ref.Br0,
    "deferral": ref.Deferral,
    "trtllm-adp": ref.TrtllmAdp,
    "jsq": ref.Jsq,
    "po2": ref.PowerOfTwo,
    "sglang-tokens": ref.SglangTokens,
    "dynamo": ref.Dynamo,
    "vllm-kv": ref.VllmKv,
}


@pytest.mark.parametrize("name", USER_RULES)
def test_a_rule_of_the_reference_as_a_users_router(name):
    @settings(FUZZ, max_examples=100)
    @given(cases())
    def check(case: Case) -> None:
        compare(case, USER_RULES[name](), None, "kernel")

    check()


@settings(FUZZ, max_examples=100)
@given(cases(), st.sampled_from([0, 1, 3, 8]), st.integers(1, 3))
def test_br_h_of_the_reference_as_a_users_router(case, H, refresh):
    case.staleness = 0  # a user's view has the true ages of the active requests, and no sign of a new snapshot
    rule = ref.Brh(H, ref.cutoff_of(engines.Whim(), H), refresh=refresh)
    compare(case, rule, None, "kernel")
