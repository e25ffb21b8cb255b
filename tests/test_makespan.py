"""The makespan bound: certified, the largest over all arrivals, and below every run of every router."""

from __future__ import annotations

import copy
import json
from fractions import Fraction

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt import CertificateError, Cluster, InputError, Instance, StepTime
from balanceroute_opt.certificates import new_certificate
from balanceroute_opt.cli import main
from balanceroute_opt.evaluation.ratios import above_makespan, makespan
from balanceroute_opt.oracles.makespan import makespan_bound

TIME = StepTime(fixed=0.3, per_token=0.01, per_mean_token=0.002)


def random_case(rng: np.random.Generator, n: int, span: float = 9.0) -> tuple[Instance, Cluster]:
    release = rng.random(n) * span
    if rng.random() < 0.3:  # several at once
        release = np.floor(release)
    inst = Instance(release, rng.integers(1, 90, n), rng.integers(1, 20, n), clock="wall")
    time = StepTime(*(rng.random(3) * [0.5, 0.02, 0.01] * (rng.random(3) < 0.8)))
    return inst, Cluster(int(rng.integers(1, 5)), int(rng.integers(1, 5)), step_time=time)


def brute_force(inst: Instance, cluster: Cluster) -> Fraction:
    """From the definition, arrival by arrival and request by request."""
    time, first = cluster.step_time, min(map(Fraction, inst.release.tolist()), default=Fraction(0))
    best = Fraction(0)
    for u in inst.release.tolist():
        later = [
            (s, o)
            for r, s, o in zip(inst.release.tolist(), inst.prompt.tolist(), inst.output.tolist(), strict=True)
            if r >= u
        ]
        work = [sum(s + j for j in range(o)) for s, o in later]
        steps = 0
        while steps * cluster.workers * cluster.slots < sum(o for _, o in later) or steps < max(o for _, o in later):
            steps += 1
        mean = Fraction(sum(work), cluster.workers)
        value = Fraction(time.fixed) * steps + Fraction(time.per_token) * max(mean, *work)
        best = max(best, Fraction(u) - first + value + Fraction(time.per_mean_token) * mean)
    return best


@pytest.mark.parametrize("seed", range(60))
def test_it_is_the_largest_over_arrivals_and_certified(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inst, cluster = random_case(rng, int(rng.integers(1, 12)))
    bound = makespan_bound(inst, cluster)
    assert bound.exact == brute_force(inst, cluster)
    assert (bound.problem, bound.method, bound.status) == ("makespan", "arrival", "certified")
    assert bro.verify(inst, cluster, bound.certificate) == bound.value <= bound.exact
    assert bound.reproduced(inst, cluster) == bound.value
    for i in (None, *range(len(inst))):  # every arrival proves something, and none more
        weaker = new_certificate("makespan", "arrival", inst, cluster, Fraction(0), {"request": i})
        assert 0 <= bro.verify(inst, cluster, weaker) <= bound.value
    assert f"makespan (every run) >= {bound.value:.12g} s" in repr(bound)


def exact_makespan(run: bro.Run) -> Fraction:
    """The same steps without rounding: a step begins when the one before has ended and its requests are there."""
    time, workers = run.cluster.step_time, run.cluster.workers
    there: dict[int, float] = {}
    for k, r in zip(run.first_start.tolist(), run.arrival.tolist(), strict=True):
        there[k] = max(r, there.get(k, 0.0))
    clock = Fraction(0)
    for k, peak, total in zip(run.steps.step.tolist(), run.steps.peak.tolist(), run.steps.total.tolist(), strict=True):
        clock = max(clock, Fraction(there.get(k, 0.0)))
        clock += Fraction(time.fixed) + Fraction(time.per_token) * peak
        clock += Fraction(time.per_mean_token) * Fraction(total, workers)
    return clock - Fraction(min(run.arrival.tolist()))


@pytest.mark.parametrize("router", sorted(bro.ROUTERS))
def test_no_run_ends_earlier(router: str) -> None:
    rng = np.random.default_rng(sum(map(ord, router)))
    ran = waited = 0
    for trial in range(12):
        inst, cluster = random_case(rng, int(rng.integers(1, 25)), span=float(rng.choice([0.5, 5.0, 50.0])))
        if trial % 3 == 0 or router == "llumnix":
            cluster = cluster.replace(kv_capacity=int((inst.prompt + inst.output).max()) + 20)
        try:
            run = bro.simulate(inst, cluster, router, trial, staleness=0.5 * (trial % 2))
        except InputError:  # not on this cluster
            continue
        bound = makespan_bound(inst, cluster)
        assert exact_makespan(run) >= bound.exact
        assert makespan(run) == pytest.approx(float(exact_makespan(run)), rel=1e-12)
        assert above_makespan(makespan(run), bound) >= 0
        ran += 1
        waited += makespan(run) > bound.value * 1.01
    assert ran >= 8
    assert waited


def test_a_lone_request_and_a_stream_reach_it() -> None:
    cluster = Cluster(2, 2, step_time=TIME)
    lone = Instance([3.5], [7], [4], clock="wall")
    assert exact_makespan(bro.simulate(lone, cluster, "jsq")) == makespan_bound(lone, cluster).exact
    apart = Instance([0.0, 50.0, 100.0], [7, 9, 5], [4, 2, 6], clock="wall")
    bound = makespan_bound(apart, cluster)
    assert exact_makespan(bro.simulate(apart, cluster, "jsq")) == bound.exact
    assert bound.certificate["data"] == {"request": 2}
    # Counted from the first arrival, however late that is.
    late = apart.replace(release=apart.release + 2**40)
    assert makespan_bound(late, cluster).exact == bound.exact


@pytest.mark.parametrize(
    "release",
    [[-0.0, 0.0], [0.1, 0.3], [5e-324, 1.7e308], [1e300, 1.0], [2.0**53 + 2, 2.0**53], [1.7e308, 1.7e308]],
    ids=str,
)
@pytest.mark.parametrize("fixed", [0.0, 5e-324, 0.1, 1.7e308])
def test_extreme_times_are_exact(release: list[float], fixed: float) -> None:
    inst = Instance(release, [2**31 - 1, 1], [1000, 1], clock="wall")
    cluster = Cluster(3, 1, step_time=StepTime(fixed=fixed, per_token=1e-300, per_mean_token=0.1))
    work = [1000 * (2**31 - 1) + 999 * 500, 1]
    values = []
    for u in release:
        later = [i for i in (0, 1) if release[i] >= u]
        mean = Fraction(sum(work[i] for i in later), 3)
        value = Fraction(u) - min(map(Fraction, release)) + Fraction(fixed) * max([1000, 1][i] for i in later)
        values.append(value + Fraction(1e-300) * max(mean, *(work[i] for i in later)) + Fraction(0.1) * mean)
    bound = makespan_bound(inst, cluster)
    assert bound.exact == max(values)
    assert bro.verify(inst, cluster, bound.certificate) == bound.value <= bound.exact


def test_no_requests_take_no_time() -> None:
    none = Instance([], [], [], clock="wall")
    bound = makespan_bound(none, Cluster(1, 1))
    assert bro.verify(none, Cluster(1, 1), bound.certificate) == bound.value == 0
    assert above_makespan(0.0, bound) == 0.0


def test_many_equal_arrivals() -> None:
    """More candidates than are compared exactly: the one with all requests of its time is among them."""
    inst = Instance([2.0] * 5000, [3] * 5000, [2] * 5000, clock="wall")
    cluster = Cluster(7, 3, step_time=TIME)
    bound = makespan_bound(inst, cluster)
    mean = Fraction(5000 * 7, 7)
    steps = -(10_000 // -21)
    assert bound.exact == steps * Fraction(0.3) + (Fraction(0.01) + Fraction(0.002)) * mean


TAMPERED = {
    "claim a hair too high": lambda c: c.update(claim=hair_above(c["claim"])),
    "claim far too high": lambda c: c.update(claim="1000000/1"),
    "claim an integer": lambda c: c.update(claim=11),
    "claim a float": lambda c: c.update(claim=14.5),
    "claim infeasible": lambda c: c.update(claim="infeasible"),
    "claim negative": lambda c: c.update(claim="-1/2"),
    "an earlier arrival": lambda c: c["data"].update(request=0),
    "no arrival": lambda c: c["data"].update(request=None),
    "no such request": lambda c: c["data"].update(request=2),
    "request negative": lambda c: c["data"].update(request=-1),
    "request a bool": lambda c: c["data"].update(request=True),
    "request a float": lambda c: c["data"].update(request=1.0),
    "request a list": lambda c: c["data"].update(request=[1]),
    "request a numpy integer": lambda c: c["data"].update(request=np.int64(1)),
    "request missing": lambda c: c["data"].pop("request"),
    "an unknown field": lambda c: c["data"].update(max_wait=3),
    "data null": lambda c: c.update(data=None),
    "other instance": lambda c: c.update(instance="0" * 64),
    "other cluster": lambda c: c.update(cluster="0" * 64),
    "unknown kind": lambda c: c.update(kind="fluid"),
    "kind a list": lambda c: c.update(kind=["arrival"]),
}
SMALL = Instance([0.0, 8.0], [4, 4], [2, 2], clock="wall")
ONE = Cluster(1, 1, step_time=StepTime(fixed=1.0, per_token=0.5))


def hair_above(claim: str) -> str:
    numerator, denominator = (int(x) * 10**40 for x in claim.split("/"))
    return f"{numerator + 1}/{denominator}"


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED.keys())
def test_tampered_certificates_are_refused(change) -> None:
    certificate = copy.deepcopy(makespan_bound(SMALL, ONE).certificate)
    assert bro.verify(SMALL, ONE, certificate) == 14.5  # 8 s, two steps of 1 s, loads 4 and 5 at 0.5 s
    change(certificate)
    with pytest.raises(CertificateError) as error:
        bro.verify(SMALL, ONE, certificate)
    assert len(str(error.value)) < 400


def test_each_clock_has_its_own_certificates() -> None:
    certificate = makespan_bound(SMALL, ONE).certificate
    steps = SMALL.replace(release=[0, 8], clock="step")
    with pytest.raises(InputError, match="about the wall clock"):
        bro.verify(steps, ONE, certificate | {"instance": steps.digest()})
    with pytest.raises(InputError, match="about the step clock"):
        bro.verify(SMALL, ONE, certificate | {"problem": "schedule", "kind": "fluid"})
    with pytest.raises(InputError, match="for the wall clock"):
        makespan_bound(steps, ONE)
    with pytest.raises(InputError, match="run is on the step clock"):
        makespan(bro.simulate(steps, ONE, "jsq"))
    with pytest.raises(InputError, match="makespan bound is no bound on a hindsight problem"):
        bro.hindsight_ratio(bro.simulate(SMALL, ONE, "jsq"), makespan_bound(SMALL, ONE))


def test_random_mutations_never_prove_too_much(tmp_path) -> None:
    rng = np.random.default_rng(0)
    inst, cluster = random_case(rng, 9)
    bound = makespan_bound(inst, cluster)
    body, path = json.dumps(bound.certificate).encode(), tmp_path / "c.json"
    accepted = 0
    for _ in range(600):
        mutated = bytearray(body)
        for _ in range(rng.integers(1, 4)):
            mutated[rng.integers(len(mutated))] = rng.choice(list(b'0123456789[]{},:"-. a\xff'))
        path.write_bytes(bytes(mutated))
        try:
            value = bro.verify(inst, cluster, path)
        except (CertificateError, InputError):
            continue
        accepted += 1
        numerator, denominator = json.loads(bytes(mutated))["claim"].split("/")
        assert Fraction(int(numerator), int(denominator)) <= bound.exact
        assert value <= bound.value
    assert accepted


# Where routers are compared


def test_compare_has_one_denominator_for_all(tmp_path, capsys) -> None:
    cluster = Cluster(3, 6)
    inst = bro.generate("bfio", n=120, seed=1).scaled_to(cluster, utilization=1.1)
    bound = makespan_bound(inst, cluster)
    found = bro.compare(inst, cluster, ["jsq", "deferral", "random"], seeds=2, certificates=tmp_path / "proofs")
    for row in found.rows:
        runs = [bro.simulate(inst, cluster, row["router"], seed) for seed in row["seeds"]]
        assert row["makespan"] == [makespan(run) for run in runs]
        assert row["makespan_above_bound"] == max(row["makespan"]) / bound.value - 1 > 0
    text = found.text()
    assert f"ends before {bound.value:,.6g} s after the first arrival (certified, one bound for" in text
    assert max(map(len, text.splitlines())) <= 100
    report = found.to_json()
    assert report["makespan_bound"] == bound.value
    assert [row["makespan"] for row in report["rows"]] == [row["makespan"] for row in found.rows]
    table = found.to_polars()
    assert table["makespan_above_bound"].to_list() == [row["makespan_above_bound"] for row in found.rows]
    assert main(["check", str(tmp_path / "proofs")]) == 0
    assert "(makespan, arrival): no run of any router ends before" in capsys.readouterr().out
    steps = bro.compare(inst.to_step_clock(0.05), cluster, ["jsq"])
    assert steps.makespan_bound is None is steps.to_json()["makespan_bound"]
    assert steps.rows[0]["makespan"] == []
    assert steps.rows[0]["makespan_above_bound"] is None
    assert "No run of any router" not in steps.text()


def test_brackets_save_it(tmp_path, capsys) -> None:
    cluster = Cluster(3, 6)
    inst = bro.generate("bfio", n=60, seed=1).scaled_to(cluster, utilization=0.9)
    found = bro.bracket(inst, cluster, "jsq,deferral", moves=2000, iterations=3)
    assert found.to_json()["makespan_bound"] == found.makespan_bound.value == makespan_bound(inst, cluster).value
    found.save(tmp_path / "out")
    certificate = bro.read_certificate(tmp_path / "out" / "makespan.certificate.json.gz")
    assert bro.verify(inst, cluster, certificate) == found.makespan_bound.value
    assert main(["check", str(tmp_path / "out"), "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    (proof,) = [c for check in checks for c in check["certificates"] if c["problem"] == "makespan"]
    assert (proof["proved"], proof["infeasible"], proof["optimal"]) == (found.makespan_bound.value, False, None)
