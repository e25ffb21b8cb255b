"""Certificates: the verifier reproduces every bound, and refuses whatever does not prove its claim."""

from __future__ import annotations

import ast
import base64
import copy
import gzip
import io
import itertools
import json
import math
import os
import subprocess
import sys
import tokenize
from pathlib import Path

import numpy as np
import pytest
from test_bounds import PLACEMENT, SCHEDULE, best_placement, best_schedule, random_case

import balanceroute_opt as bro
from balanceroute_opt import CertificateError, Cluster, InputError, Instance, StepTime
from balanceroute_opt.certificates import new_certificate
from balanceroute_opt.certificates import verifier as entrance
from balanceroute_opt.oracles.forced import forced_bound, placed_bound
from balanceroute_opt.oracles.makespan import makespan_bound

CERTIFICATES = Path(bro.__file__).parent / "certificates"


def windows_of(inst, start, which):
    return {"none": {}, "wait": {"max_wait": 5}, "latest": {"latest": start}, "both": {"max_wait": 2, "latest": start}}[
        which
    ]


@pytest.fixture
def case():
    inst = Instance(release=[0, 1, 3], prompt=[9, 2, 3], output=[2, 3, 1])
    cluster = Cluster(workers=2, slots=2, step_time=StepTime(1.0, 0.5, 0.25))
    return inst, cluster, [0, 1, 3]


@pytest.mark.parametrize("method", PLACEMENT)
@pytest.mark.parametrize("seed", range(40))
def test_verify_reproduces_placement_bounds(seed, method):
    rng = np.random.default_rng(seed)
    inst, cluster, start = random_case(rng, n=int(rng.integers(1, 14)) if seed % 4 else 1, tokens=40)
    bound = bro.placement_bound(inst, cluster, start, method=method)
    assert bound.status == "certified"
    value = bro.verify(inst, cluster, bound.certificate)
    assert value == bound.value
    assert type(value) is int


@pytest.mark.parametrize("method", SCHEDULE)
@pytest.mark.parametrize("which", ["none", "wait", "latest", "both"])
@pytest.mark.parametrize("seed", range(12))
def test_verify_reproduces_schedule_bounds(seed, which, method):
    inst, cluster, start = random_case(np.random.default_rng(seed), n=6)
    bound = bro.schedule_bound(inst, cluster, method=method, **windows_of(inst, start, which))
    assert bro.verify(inst, cluster, bound.certificate) == bound.value


def test_a_claim_below_what_is_proved_is_true(case):
    inst, cluster, start = case
    certificate = bro.placement_bound(inst, cluster, start, method="item").certificate
    assert bro.verify(inst, cluster, certificate | {"claim": 20}) == 26


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_round_trip_of_files(case, tmp_path, suffix):
    inst, cluster, start = case
    path = tmp_path / f"c{suffix}"
    for bound in (bro.placement_bound(inst, cluster, start), bro.schedule_bound(inst, cluster, latest=start)):
        bro.write_certificate(bound.certificate, path, force=True)
        assert bro.read_certificate(path) == bound.certificate
        assert bro.verify(inst, cluster, path) == bro.verify(inst, cluster, str(path)) == bound.value
    with pytest.raises(InputError, match="exists; use force"):
        bro.write_certificate(bound.certificate, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_write_needs_a_certificate_and_a_folder(case, tmp_path):
    inst, cluster, start = case
    with pytest.raises(CertificateError):
        bro.write_certificate({"claim": 1}, tmp_path / "c.json")
    with pytest.raises(InputError, match="cannot write"):
        bro.write_certificate(bro.placement_bound(inst, cluster, start).certificate, tmp_path / "no" / "c.json")
    broken = bro.placement_bound(inst, cluster, start).certificate | {"data": {"start": [np.int64(1)]}}
    with pytest.raises(CertificateError, match="cannot be written"):
        bro.write_certificate(broken, tmp_path / "c.json")
    assert not list(tmp_path.iterdir())


def placement(change):
    return pytest.param("placement", change)


def schedule(change):
    return pytest.param("schedule", change)


TAMPERED = {
    "claim too high": placement(lambda c: c.update(claim=c["claim"] + 1)),
    "claim far too high": placement(lambda c: c.update(claim=10**5000)),
    "claim a float": placement(lambda c: c.update(claim=float(c["claim"]))),
    "claim a bool": placement(lambda c: c.update(claim=True)),
    "claim a string": placement(lambda c: c.update(claim="26")),
    "claim negative": placement(lambda c: c.update(claim=-1)),
    "claim missing": placement(lambda c: c.pop("claim")),
    "claim null": placement(lambda c: c.update(claim=None)),
    "newer schema": placement(lambda c: c.update(version=10**6)),
    "version a bool": placement(lambda c: c.update(version=True)),
    "version a float": placement(lambda c: c.update(version=1.0)),
    "version zero": placement(lambda c: c.update(version=0)),
    "version missing": placement(lambda c: c.pop("version")),
    "other schema": placement(lambda c: c.update(schema="something")),
    "schema a list": placement(lambda c: c.update(schema=[])),
    "unknown kind": placement(lambda c: c.update(kind="magic")),
    "kind of the other problem": schedule(lambda c: c.update(kind="item")),
    "kind a list": placement(lambda c: c.update(kind=["item"])),
    "other problem": placement(lambda c: c.update(problem="schedule")),
    "other instance": placement(lambda c: c.update(instance="0" * 64)),
    "instance a number": placement(lambda c: c.update(instance=5)),
    "other cluster": placement(lambda c: c.update(cluster=c["instance"])),
    "unknown field": placement(lambda c: c.update(note="x")),
    "unknown field of data": placement(lambda c: c["data"].update(note=1)),
    "data missing": placement(lambda c: c.pop("data")),
    "data a list": placement(lambda c: c.update(data=[])),
    "start missing": placement(lambda c: c["data"].pop("start")),
    "start too short": placement(lambda c: c["data"]["start"].pop()),
    "start too long": placement(lambda c: c["data"]["start"].append(9)),
    "start a string": placement(lambda c: c["data"].update(start="012")),
    "start with a float": placement(lambda c: c["data"].update(start=[0, 1.0, 3])),
    "start with a bool": placement(lambda c: c["data"].update(start=[False, 1, 3])),
    "start with null": placement(lambda c: c["data"].update(start=[None, 1, 3])),
    "start before release": placement(lambda c: c["data"].update(start=[0, 0, 3])),
    "start negative": placement(lambda c: c["data"].update(start=[-1, 1, 3])),
    "start outside int64": placement(lambda c: c["data"].update(start=[0, 1, 2**63])),
    "start of numpy integers": placement(lambda c: c["data"].update(start=[np.int64(0), 1, 3])),
    "start moved so that less is proved": placement(lambda c: c["data"].update(start=[1, 1, 3])),
    "rational claim too high": schedule(lambda c: c.update(claim="1000000/1")),
    "rational claim a hair too high": schedule(lambda c: c.update(claim=hair_above(c["claim"]))),
    "rational claim a number": schedule(lambda c: c.update(claim=3)),
    "rational claim over zero": schedule(lambda c: c.update(claim="1/0")),
    "rational claim negative": schedule(lambda c: c.update(claim="-1/2")),
    "rational claim decimal": schedule(lambda c: c.update(claim="1.5")),
    "rational claim in other digits": schedule(lambda c: c.update(claim="١/٢")),
    "rational claim with a line end": schedule(lambda c: c.update(claim="1/2\n")),
    "rational claim very long": schedule(lambda c: c.update(claim="9" * 5000 + "/1")),
    "wait negative": schedule(lambda c: c["data"].update(max_wait=-1)),
    "wait a float": schedule(lambda c: c["data"].update(max_wait=1.0)),
    "wait a bool": schedule(lambda c: c["data"].update(max_wait=True)),
    "wait outside int64": schedule(lambda c: c["data"].update(max_wait=2**70)),
    "latest before release": schedule(lambda c: c["data"].update(latest=[0, 0, 3])),
    "latest too short": schedule(lambda c: c["data"].update(latest=[0, 1])),
    "latest with a float": schedule(lambda c: c["data"].update(latest=[0, 1, 3.0])),
    "windows wider than claimed": schedule(lambda c: c["data"].update(latest=None)),
    "window field missing": schedule(lambda c: c["data"].pop("max_wait")),
}


# One step, two workers, loads 9 5 5 5: pigeonhole 12, optimum 14 (test_bounds.py).
RAISED = {
    "value too high": [[0, 15]],
    "value far too high": [[0, 2**62]],
    "value huge": [[0, 10**5000]],
    "a step twice": [[0, 14], [0, 14]],
    "an idle step": [[0, 14], [1, 1]],
    "a negative step": [[-1, 14]],
    "a float": [[0, 14.0]],
    "a bool": [[False, 14]],
    "one number": [[0]],
    "three numbers": [[0, 14, 1]],
    "no pair": [0, 14],
    "a string": "[[0, 14]]",
    "null": None,
    "nothing raised": [],
    "raised less than claimed": [[0, 13]],
}


@pytest.mark.parametrize("raised", RAISED.values(), ids=RAISED.keys())
def test_tampered_migration_certificates_are_refused(raised):
    inst, cluster = Instance([0] * 4, [9, 5, 5, 5], [1] * 4), Cluster(2, 4)
    certificate = bro.placement_bound(inst, cluster, [0] * 4, method="migration").certificate
    assert bro.verify(inst, cluster, certificate) == 14
    certificate["data"]["raised"] = raised
    with pytest.raises(CertificateError):
        bro.verify(inst, cluster, certificate)


def first(entries, value):
    entries[0][2] = value


LAGRANGIAN = {
    "no windows": lambda d: d.update(max_wait=None),
    "wider windows": lambda d: d.update(max_wait=3),
    "bits too large": lambda d: d.update(bits=10**9),
    "bits negative": lambda d: d.update(bits=-1),
    "more bits": lambda d: d.update(bits=d["bits"] + 1),
    "fewer bits: dual constraint violated": lambda d: d.update(bits=d["bits"] - 1),
    "theta negative": lambda d: d.update(theta=-1),
    "theta a float": lambda d: d.update(theta=1.0),
    "theta a bool": lambda d: d.update(theta=True),
    "theta smaller": lambda d: d.update(theta=0),
    "mu negative": lambda d: d["mu"].__setitem__(0, -1),
    "mu a float": lambda d: d["mu"].__setitem__(0, 0.0),
    "mu too short": lambda d: d["mu"].pop(),
    "mu too long": lambda d: d["mu"].append(0),
    "mu too large: dual constraint violated": lambda d: d["mu"].__setitem__(0, 2 ** (d["bits"] + 1)),
    "mu null": lambda d: d.update(mu=None),
    "sigma negative": lambda d: d["sigma"].__setitem__(0, -1),
    "sigma too short": lambda d: d["sigma"].pop(),
    "sigma a bool": lambda d: d["sigma"].__setitem__(0, False),
    "sigma huge": lambda d: d["sigma"].__setitem__(0, 2**300),
    "sigma beyond all": lambda d: d["sigma"].__setitem__(0, 2**5000),
    "nu negative": lambda d: first(d["nu"], -1),
    "nu a float": lambda d: first(d["nu"], 1.5),
    "nu smaller": lambda d: first(d["nu"], 0),
    "nu larger: dual constraint violated": lambda d: first(d["nu"], 2 * d["nu"][0][2]),
    "nu twice": lambda d: d["nu"].append(list(d["nu"][0])),
    "nu of no request": lambda d: d["nu"].append([2, 0, 1]),
    "nu outside the window": lambda d: d["nu"].append([0, 1, 1]),
    "nu before the release": lambda d: d["nu"].append([1, 4, 1]),
    "nu of four numbers": lambda d: d["nu"].append([0, 0, 1, 1]),
    "nu no list": lambda d: d.update(nu={}),
    "nu missing": lambda d: d.pop("nu"),
    "eta negative": lambda d: d["eta"].append([0, 0, -1]),
    "eta no list": lambda d: d.update(eta=7),
    "unknown multiplier": lambda d: d.update(xi=[]),
}


@pytest.mark.parametrize("change", LAGRANGIAN.values(), ids=LAGRANGIAN.keys())
def test_tampered_lagrangian_certificates_are_refused(change):
    inst = Instance(release=[0, 5], prompt=[10, 10], output=[1, 1])
    cluster = Cluster(2, 1, step_time=StepTime(fixed=1.0, per_token=1.0))
    certificate = bro.schedule_bound(inst, cluster, method="lagrangian", max_wait=0).certificate
    assert certificate["kind"] == "lagrangian"
    bro.verify(inst, cluster, certificate)
    change(certificate["data"])
    with pytest.raises(CertificateError) as error:
        bro.verify(inst, cluster, certificate)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(theta=2 * d["theta"] + 2 ** d["bits"] * 100),
        lambda d: d["eta"].append([0, 0, 2**300]),
    ],
    ids=["theta", "eta"],
)
def test_prices_of_a_mandatory_step_are_paid_back_by_rho(change):
    """Both steps are mandatory: whatever theta or eta ask for them beyond c, rho takes away. Still a proof."""
    inst = Instance(release=[0, 5], prompt=[10, 10], output=[1, 1])
    cluster = Cluster(2, 1, step_time=StepTime(fixed=1.0, per_token=1.0))
    certificate = bro.schedule_bound(inst, cluster, method="lagrangian", max_wait=0).certificate
    change(certificate["data"])
    assert bro.verify(inst, cluster, certificate) == 22.0  # two steps of 1 s + 10 tokens at 1 s


def test_searches_of_a_certificate_are_limited(monkeypatch):
    rng = np.random.default_rng(0)
    inst, cluster = Instance([0] * 40, rng.integers(1000, 9999, 40), [1] * 40), Cluster(5, 40)
    certificate = bro.placement_bound(inst, cluster, [0] * 40, method="pigeonhole").certificate
    hopeless = certificate | {"kind": "migration", "claim": 0}
    hopeless["data"] = certificate["data"] | {"raised": [[0, certificate["claim"] + 1]]}
    monkeypatch.setattr("balanceroute_opt.certificates._placement._MAX_NODES", 1000)
    with pytest.raises(CertificateError, match=r"more than 1000 nodes|can be placed below"):
        bro.verify(inst, cluster, hopeless)
    many = Instance([0] * 300, [1] * 300, [1] * 300)
    certificate = bro.placement_bound(many, cluster.replace(slots=60), [0] * 300, method="migration").certificate
    certificate["data"]["raised"] = [[0, 61]]
    with pytest.raises(CertificateError, match="more than 256 active requests"):
        bro.verify(many, cluster.replace(slots=60), certificate)


# Search trees, windows and enumeration


class Writer:
    """Writes the tree of some positions in plain integers, from the description of the format alone.

    Its bound on the peak of a step is only the item bound, so that the verifier's is never below it.
    """

    def __init__(self, inst, cluster, start, low=0, high=None, seed=0):
        start = [int(t) for t in start]
        active = {k for t, o in zip(start, inst.output.tolist(), strict=True) for k in range(t, t + o)}
        steps = sorted(active)[low:high]
        self.workers, self.slots = cluster.workers, cluster.slots
        self.capacity = math.inf if cluster.kv_capacity is None else cluster.kv_capacity
        rows = {}
        for i, (t, s, o) in enumerate(zip(start, inst.prompt.tolist(), inst.output.tolist(), strict=True)):
            rows[i] = [s + k - t if t <= k < t + o else 0 for k in steps]
        self.order = sorted((i for i in rows if any(rows[i])), key=lambda i: -sum(rows[i]))
        self.rows = [rows[i] for i in self.order]
        self.floor = [max(-(-sum(column) // self.workers), *column) for column in zip(*self.rows, strict=True)]
        self.rng = np.random.default_rng(seed)
        inner = [k for k in range(1, len(steps)) if self.rng.random() < 0.5]
        self.edges = [0, *inner, len(steps)]
        self.cut = [low + k for k in self.edges]

    def merged(self, row):
        return [sum(row[a:b]) for a, b in itertools.pairwise(self.edges)]

    def placed(self, word):
        tokens = [[0] * len(self.floor) for _ in range(self.workers)]
        count = [[0] * len(self.floor) for _ in range(self.workers)]
        for row, g in zip(self.rows, word, strict=False):
            tokens[g] = [x + y for x, y in zip(tokens[g], row, strict=True)]
            count[g] = [x + (y > 0) for x, y in zip(count[g], row, strict=True)]
        full = max(map(max, count)) > self.slots or max(map(max, tokens)) > self.capacity
        return tokens, full

    def children(self, word):
        return [[*word, g] for g in range(min(max(word, default=-1) + 2, self.workers))]

    def optimum(self, word=()):
        tokens, full = self.placed(word)
        if full:
            return math.inf
        if len(word) == len(self.rows):
            return sum(map(max, zip(*tokens, strict=True)))
        return min(self.optimum(child) for child in self.children(word))

    def leaves(self, claim, word=()):
        """Leaves below a word, in depth-first order."""
        word = list(word)
        tokens, full = self.placed(word)
        if full:
            return [[word, "full"]]
        if len(word) == len(self.rows):
            assert sum(map(max, zip(*tokens, strict=True))) >= claim
            return [[word, "placed"]]
        placed = [self.merged(row) for row in tokens]
        rest = [self.merged(row) for row in self.rows[len(word) :]]
        floors = []
        for s, known in enumerate(self.merged(self.floor)):
            low = sorted(row[s] for row in placed)
            u, v, *_ = [*sorted((row[s] for row in rest), reverse=True), 0, 0]
            together, apart = low[0] + u + v, math.inf
            if self.workers > 1:
                apart = min(max(low[0] + u, low[1] + v), max(low[0] + v, low[1] + u))
            floors.append(max(known, low[-1], min(together, apart)))
        if sum(floors) >= claim:
            return [[word, "step"]]
        p = self.weights(placed, rest, floors)
        q = [255 - sum(column) for column in zip(*p, strict=True)]
        value = sum(x * f for x, f in zip(q, floors, strict=True))
        value += sum(x * y for row, load in zip(p, placed, strict=True) for x, y in zip(row, load, strict=True))
        value += sum(min(sum(x * y for x, y in zip(row, w, strict=True)) for row in p) for w in rest)
        if value > 255 * (claim - 1):
            return [[word, "lagrangian", base64.b64encode(bytes(itertools.chain(*p))).decode()]]
        return [leaf for child in self.children(word) for leaf in self.leaves(claim, child)]

    def weights(self, placed, rest, floors, rounds=40):
        """Fictitious play: requests go where they are cheapest so far, weight to the largest load that they make."""
        votes = [[1] * len(floors) for _ in range(self.workers + 1)]
        for _ in range(rounds):
            loads = [*[list(row) for row in placed], floors]
            for w in rest:
                g = min(range(self.workers), key=lambda g: sum(x * y for x, y in zip(votes[g], w, strict=True)))
                loads[g] = [x + y for x, y in zip(loads[g], w, strict=True)]
            for s, column in enumerate(zip(*loads, strict=True)):
                votes[column.index(max(column))][s] += 1
        return [[255 * x // (rounds + self.workers + 1) for x in row] for row in votes[: self.workers]]

    def part(self, claim=None):
        """A part of a certificate, and what it proves: the optimum, or a smaller claim."""
        best = self.optimum()
        claim = best if claim is None else min(claim, best)
        text = "infeasible" if claim == math.inf else claim
        return {"claim": text, "cut": self.cut, "order": self.order, "leaves": self.leaves(claim)}


def axis_length(inst, start):
    return len({k for t, o in zip(start, inst.output.tolist(), strict=True) for k in range(t, t + o)})


def tree_certificate(inst, cluster, start, kind="tree", borders=None, seed=0):
    """A tree for each pair of neighbouring borders (default: one for all steps)."""
    borders = [0, axis_length(inst, start)] if borders is None else borders
    parts = [Writer(inst, cluster, start, a, b, seed).part() for a, b in itertools.pairwise(borders)]
    infeasible = any(part["claim"] == "infeasible" for part in parts)
    claim = math.inf if infeasible else sum(part["claim"] for part in parts)
    data = {"start": [int(t) for t in start], "raised": [], "parts": parts}
    return new_certificate("placement", kind, inst, cluster, claim, data)


def test_trees_windows_and_enumeration_prove_the_optimum():
    kinds, above, below = set(), 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        inst, cluster, start = random_case(rng, n=int(rng.integers(1, 8)), tokens=40)
        best = best_placement(inst, cluster, start) if len(inst) < 7 else Writer(inst, cluster, start).optimum()
        tree = tree_certificate(inst, cluster, start, seed=seed)
        kinds |= {leaf[1] for part in tree["data"]["parts"] for leaf in part["leaves"]}
        assert bro.verify(inst, cluster, tree) == tree["claim"] == best
        assert type(bro.verify(inst, cluster, tree)) is int
        K = axis_length(inst, start)
        borders = sorted({0, K, *rng.integers(0, K, 2).tolist()})
        windows = tree_certificate(inst, cluster, start, "window", borders, seed)
        proved = bro.verify(inst, cluster, windows)
        migration = bro.placement_bound(inst, cluster, start, method="migration")
        assert migration.value <= proved == windows["claim"] <= best
        above += migration.value < proved
        below += proved < best
        # Without one of the windows, its steps count with the bound of each step.
        fewer = windows | {"claim": 0, "data": windows["data"] | {"raised": migration.certificate["data"]["raised"]}}
        del fewer["data"]["parts"][0]
        assert migration.value <= bro.verify(inst, cluster, fewer) <= proved
        everything = new_certificate("placement", "enumeration", inst, cluster, best, {"start": start.tolist()})
        assert bro.verify(inst, cluster, everything) == best
    assert kinds == {"full", "placed", "step", "lagrangian"}
    assert min(above, below) > 5


def test_capacity_is_part_of_trees_and_enumeration():
    seen = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        inst, cluster, start = random_case(rng, n=int(rng.integers(2, 6)))
        cluster = cluster.replace(kv_capacity=int((inst.prompt + inst.output).max() + rng.integers(0, 9)))
        best = best_placement(inst, cluster, start)
        for certificate in (
            tree_certificate(inst, cluster, start, seed=seed),
            new_certificate("placement", "enumeration", inst, cluster, best or math.inf, {"start": start.tolist()}),
        ):
            assert certificate["claim"] == (best or "infeasible")
            assert bro.verify(inst, cluster, certificate) == (best or math.inf)
        seen.add(best is None)
    assert seen == {True, False}


@pytest.fixture
def by_hand():
    """Part 1: steps 0 and 1. Request 0 has load 4, requests 1 and 2 have loads 2, 3. Part 2: request 3 has 5, 6.

    0 and 1 | 2 costs 6 + 3 = 9, 0 | 1 and 2 costs 4 + 6 = 10, and 0, 1, 2 together do not fit two slots. Step by
    step it would be 4 + 3. The word 0, 1 (stretches of one step): placed 4, 0 on worker 0 and 2, 3 on worker 1.
    Request 2 makes the peaks at least 4 and 3. Weight 1 on worker 0 in the first step and on worker 1 in the
    second: 4 + 3 + min(2 + 0, 0 + 3) = 9.
    """
    inst = Instance(release=[0, 0, 0, 2], prompt=[4, 2, 2, 5], output=[1, 2, 2, 2])
    weights = base64.b64encode(bytes([255, 0, 0, 255])).decode()
    leaves = [[[0, 0, 0], "full"], [[0, 0, 1], "placed"], [[0, 1], "lagrangian", weights]]
    parts = [
        {"claim": 9, "cut": [0, 1, 2], "order": [0, 1, 2], "leaves": leaves},
        {"claim": 11, "cut": [2, 4], "order": [3], "leaves": [[[], "step"]]},
    ]
    data = {"start": [0, 0, 0, 2], "raised": [], "parts": parts}
    return inst, Cluster(2, 2), data


def test_a_tree_by_hand(by_hand):
    inst, cluster, data = by_hand
    for kind in ("tree", "window"):
        assert bro.verify(inst, cluster, new_certificate("placement", kind, inst, cluster, 20, data)) == 20
    assert bro.placement_bound(inst, cluster, data["start"], method="migration").value == 4 + 3 + 5 + 6
    assert best_placement(inst, cluster, np.array(data["start"])) == 20
    later = data | {"start": [0, 0, 0, 3]}  # an idle step has no position
    assert bro.verify(inst, cluster, new_certificate("placement", "tree", inst, cluster, 20, later)) == 20
    data["parts"][0]["leaves"][:2] = [[[0, 0], "step"]]  # 0 and 1 together: 6 + 3
    assert bro.verify(inst, cluster, new_certificate("placement", "tree", inst, cluster, 20, data)) == 20
    del data["parts"][0]
    assert bro.verify(inst, cluster, new_certificate("placement", "tree", inst, cluster, 18, data)) == 18
    # A stretch need not respect starts and ends: both steps at once. 0 and 1: 4 + 5 = 9 on a worker.
    merged = {"claim": 9, "cut": [0, 2], "order": [1, 2, 0], "leaves": [[[0, 0], "step"], [[0, 1], "step"]]}
    data["parts"].insert(0, merged)
    assert bro.verify(inst, cluster, new_certificate("placement", "tree", inst, cluster, 20, data)) == 20


def leaf(index, *content):
    def change(c):
        c["data"]["parts"][0]["leaves"][index] = list(content)

    return change


def weights(*values):
    return leaf(2, [0, 1], "lagrangian", base64.b64encode(bytes(values)).decode())


def leaves(function):
    return lambda c: function(c["data"]["parts"][0]["leaves"])


def part(index=0, **values):
    return lambda c: c["data"]["parts"][index].update(values)


def data(**values):
    return lambda c: c["data"].update(values)


def more(c, index, values):
    """The claims of a part and of the whole certificate."""
    c["data"]["parts"][index].update(values)
    c["claim"] += 1


TREE = {
    "claim too high": lambda c: c.update(claim=21),
    "claim infeasible": lambda c: c.update(claim="infeasible"),
    "claim infinite": lambda c: c.update(claim=math.inf),
    "claim of another word": lambda c: c.update(claim="optimal"),
    "another kind": lambda c: c.update(kind="enumeration"),
    "kind migration": lambda c: c.update(kind="migration"),
    "another problem": lambda c: c.update(problem="schedule"),
    "another instance": lambda c: c.update(instance=c["cluster"]),
    "another cluster": lambda c: c.update(cluster=c["instance"]),
    "newer schema": lambda c: c.update(version=2),
    "part claims too much": lambda c: more(c, 0, {"claim": 10}),
    "part of one leaf claims too much": lambda c: more(c, 1, {"claim": 12}),
    "part claim a float": part(claim=9.0),
    "part claim a bool": part(claim=True),
    "part claim negative": part(claim=-1),
    "part claim infeasible": part(claim="infeasible"),
    "part claim huge": part(claim=10**5000),
    "part claim null": part(claim=None),
    "part with an unknown field": part(note=1),
    "part without leaves": lambda c: c["data"]["parts"][0].pop("leaves"),
    "part a list": data(parts=[[]]),
    "parts an object": data(parts={}),
    "parts missing": lambda c: c["data"].pop("parts"),
    "parts overlap": part(1, cut=[1, 4]),
    "parts in another order": lambda c: c["data"]["parts"].reverse(),
    "part twice": lambda c: c["data"]["parts"].append(c["data"]["parts"][1]),
    "part left out": lambda c: c["data"]["parts"].pop(0),
    "cut of one position": part(cut=[0]),
    "cut empty": part(cut=[]),
    "cut descending": part(cut=[2, 1, 0]),
    "cut with a position twice": part(cut=[0, 1, 1, 2]),
    "cut beyond the steps": part(1, cut=[2, 5]),
    "cut negative": part(cut=[-1, 1, 2]),
    "cut a float": part(cut=[0, 1.0, 2]),
    "cut a bool": part(cut=[False, 1, 2]),
    "cut too short": part(cut=[0, 1]),
    "cut inside a request": part(cut=[0, 2]),
    "order without a request": part(order=[0, 1]),
    "order with a request twice": part(order=[0, 1, 1]),
    "order with a request of another part": part(order=[0, 1, 2, 3]),
    "order with another request": part(order=[0, 1, 3]),
    "order with no request": part(order=[0, 1, 4]),
    "order another one": part(order=[2, 1, 0]),
    "order with a negative request": part(order=[0, 1, -1]),
    "order with a float": part(order=[0, 1, 2.0]),
    "order with a bool": part(order=[0, True, 2]),
    "order null": part(order=None),
    "first leaf missing": leaves(lambda x: x.pop(0)),
    "middle leaf missing": leaves(lambda x: x.pop(1)),
    "last leaf missing": leaves(lambda x: x.pop()),
    "no leaves": leaves(lambda x: x.clear()),
    "leaf twice": leaves(lambda x: x.insert(1, x[1])),
    "last leaf twice": leaves(lambda x: x.append(x[-1])),
    "leaves in another order": leaves(lambda x: x.reverse()),
    "two leaves exchanged": leaves(lambda x: x.insert(0, x.pop(1))),
    "leaf below a leaf": leaves(lambda x: x.append([[0, 1, 0], "placed"])),
    "leaf above a leaf": leaves(lambda x: x.append([[], "step"])),
    "worker without one before it": leaf(0, [1, 0, 0], "full"),
    "leaf of such a worker beside the others": leaves(lambda x: x.append([[1], "step"])),
    "worker that does not exist": leaf(2, [0, 2], "step"),
    "worker negative": leaf(2, [0, -1], "step"),
    "worker a float": leaf(2, [0, 1.0], "step"),
    "worker a bool": leaf(2, [0, True], "step"),
    "worker huge": leaf(2, [0, 10**5000], "step"),
    "word too long": leaf(0, [0, 0, 0, 0], "full"),
    "word a string": leaf(0, "000", "full"),
    "word null": leaf(0, None, "full"),
    "leaf empty": leaf(0),
    "leaf of a word alone": leaf(0, [0, 0, 0]),
    "leaf of four entries": leaf(2, [0, 1], "lagrangian", "/wAA/w==", "/wAA/w=="),
    "leaf a string": leaves(lambda x: x.__setitem__(0, "full")),
    "leaf null": leaves(lambda x: x.__setitem__(0, None)),
    "leaves a string": part(leaves="full"),
    "kind unknown": leaf(0, [0, 0, 0], "magic"),
    "kind a list": leaf(0, [0, 0, 0], ["full"]),
    "kind null": leaf(0, [0, 0, 0], None),
    "not full": leaf(1, [0, 0, 1], "full"),
    "full with weights": leaf(0, [0, 0, 0], "full", "/wAA/w=="),
    "placed a prefix": leaf(2, [0, 1], "placed"),
    "step too weak": leaf(2, [0, 1], "step"),
    "root closed by step": leaves(lambda x: x.__setitem__(slice(None), [[[], "step"]])),
    "weights missing": leaf(2, [0, 1], "lagrangian"),
    "weights null": leaf(2, [0, 1], "lagrangian", None),
    "weights a list": leaf(2, [0, 1], "lagrangian", [255, 0, 0, 255]),
    "weights no base64": leaf(2, [0, 1], "lagrangian", "/wAA*w=="),
    "weights with a space": leaf(2, [0, 1], "lagrangian", "/wAA/w== "),
    "weights without padding": leaf(2, [0, 1], "lagrangian", "/wAA/w"),
    "weights of other letters": leaf(2, [0, 1], "lagrangian", "é" * 8),
    "weights too short": weights(255, 0, 0),
    "weights too long": weights(255, 0, 0, 255, 0),
    "weights empty": weights(),
    "weights above their sum": weights(255, 0, 1, 255),
    "weights all 255": weights(255, 255, 255, 255),
    "weights exchanged": weights(0, 255, 255, 0),
    "weights zero": weights(0, 0, 0, 0),
    "weights too weak": weights(100, 0, 0, 255),
    "raised too high": data(raised=[[0, 5]]),
    "raised a step twice": data(raised=[[0, 4], [0, 4]]),
    "raised an idle step": data(raised=[[7, 1]]),
    "raised missing": lambda c: c["data"].pop("raised"),
    "raised null": data(raised=None),
    "start before release": data(start=[0, 0, 0, 1]),
    "start too short": data(start=[0, 0, 0]),
    "start on the step before": data(start=[1, 0, 0, 2]),
    "data a list": lambda c: c.update(data=[]),
}


@pytest.mark.parametrize("change", TREE.values(), ids=TREE.keys())
def test_tampered_trees_are_refused(by_hand, tmp_path, change):
    inst, cluster, content = by_hand
    certificate = new_certificate("placement", "tree", inst, cluster, 20, content)
    assert bro.verify(inst, cluster, certificate) == 20
    change(certificate)
    with pytest.raises(CertificateError) as error:
        bro.verify(inst, cluster, certificate)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def placed(inst, cluster, kind, proof, peak_sum):
    """A schedule certificate for the starts of a placement proof."""
    start = np.array(proof["start"])
    limits = {"max_wait": None, "latest": proof["start"]}
    certificate = {"kind": kind, "data": proof, "claim": peak_sum}
    return placed_bound(inst, cluster, start, "latest", limits, certificate).certificate


def test_a_placement_proof_of_forced_starts_bounds_schedules(by_hand):
    inst, cluster, content = by_hand
    cluster = cluster.replace(step_time=StepTime(fixed=10.0, per_token=1.0, per_mean_token=2.0))
    seconds = 10 * 4 + 20 + 2 * inst.total_work / 2
    certificate = placed(inst, cluster, "tree", content, 20)
    assert bro.verify(inst, cluster, certificate) == seconds
    weaker = bro.placement_bound(inst, cluster, content["start"], "migration").certificate
    assert bro.verify(inst, cluster, placed(inst, cluster, "migration", weaker["data"], 18)) == seconds - 2

    def tampered(**new):
        return certificate | {"data": certificate["data"] | new}

    for wrong, words in (
        (tampered(proof=content | {"start": [0, 0, 0, 3]}), "no placement proof of kind 'tree' for the last starts"),
        (tampered(proof=None), "no placement proof"),
        (tampered(kind="schedule"), "no placement proof of kind 'schedule'"),
        (tampered(kind=["tree"]), "no placement proof"),
        (tampered(proof=content | {"parts": []}), "claims .* and proves"),
        (tampered(latest=[1, 0, 0, 2]), "may find a free slot"),
        (tampered(max_wait=-1), "max_wait"),
        (certificate | {"claim": f"{int(seconds) + 1}/1"}, "claims .* and proves"),
    ):
        with pytest.raises(CertificateError, match=words):
            bro.verify(inst, cluster, wrong)


def test_a_proof_that_nothing_can_be_placed_is_no_bound_in_seconds(overfull):
    inst, cluster = overfull
    proof = no_placement(inst, cluster)["data"]
    with pytest.raises(CertificateError):
        bro.verify(inst, cluster, placed(inst, cluster, "infeasible", proof, 0))


def test_no_mutation_of_a_tree_proves_more_than_the_optimum():
    """Some mutations prove less, or the same in another way; none proves more than enumeration finds."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
    outcomes = {"refused": 0, "accepted": 0}

    def mutate(value, rng):
        """A copy with one entry changed, removed, doubled or exchanged with another, somewhere inside."""
        if isinstance(value, dict):
            key = rng.choice(sorted(value))
            return value | {key: mutate(value[key], rng)}
        if isinstance(value, list) and value:
            j, other = rng.integers(len(value), size=2)
            what = rng.integers(8)
            if what == 0:
                return value[:j] + value[j + 1 :]
            if what == 1:
                return [*value[:j], value[j], *value[j:]]
            if what == 2:
                swapped = list(value)
                swapped[j], swapped[other] = value[other], value[j]
                return swapped
            return [*value[:j], mutate(value[j], rng), *value[j + 1 :]]
        if isinstance(value, str):
            if value in ("full", "placed", "step", "lagrangian"):
                return str(rng.choice(["full", "placed", "step"]))
            j = rng.integers(len(value)) if value else 0
            return value[:j] + str(rng.choice(list(letters))) + value[j + 1 :]
        if isinstance(value, int):
            return value + int(rng.choice([-1, 1, 2]))
        return value

    for seed in range(12):
        rng = np.random.default_rng(seed)
        inst, cluster, start = random_case(rng, n=int(rng.integers(3, 7)), tokens=40)
        if seed % 3 == 0:
            cluster = cluster.replace(kv_capacity=int((inst.prompt + inst.output).max() + rng.integers(20)))
        best = best_placement(inst, cluster, start)
        certificate = tree_certificate(inst, cluster, start, seed=seed) | {"claim": 0}
        for _ in range(250):
            mutated = certificate
            for _ in range(rng.integers(1, 4)):
                mutated = mutated | {"data": mutate(mutated["data"], rng)}
            if mutated["data"].get("start") != certificate["data"]["start"]:
                continue  # another problem
            try:
                proved = bro.verify(inst, cluster, mutated)
            except CertificateError:
                outcomes["refused"] += 1
            else:
                outcomes["accepted"] += 1
                assert best is None or proved <= best
    assert min(outcomes.values()) > 100, outcomes


def test_a_large_tree_is_replayed_in_one_walk():
    """Two workers that are never full, and a claim that only complete placements reach: 2**11 leaves."""
    inst = Instance([0] * 12, [2**j for j in range(12)], [1] * 12)
    claim = 2**11 + 2**10  # no more than: the two largest apart, and all the others beside either
    cluster = Cluster(2, 12)
    words = [[0, *map(int, f"{k:011b}")] for k in range(2**11)]
    part = {"claim": 2**11, "cut": [0, 1], "order": list(range(12)), "leaves": [[w, "placed"] for w in words]}
    content = {"start": [0] * 12, "raised": [], "parts": [part]}
    certificate = new_certificate("placement", "tree", inst, cluster, 2**11, content)
    assert bro.verify(inst, cluster, certificate) == 2**11
    part["claim"] = claim
    with pytest.raises(CertificateError, match="placed does not close it"):
        bro.verify(inst, cluster, certificate)


def test_trees_and_enumerations_are_limited(by_hand, monkeypatch):
    inst, cluster, content = by_hand
    certificate = new_certificate("placement", "tree", inst, cluster, 20, content)
    everything = new_certificate("placement", "enumeration", inst, cluster, 20, {"start": content["start"]})
    for name, value, bad, message in (
        ("_MAX_TABLE", 9, certificate, "too much to be replayed"),
        ("_MAX_TOTAL", 20, certificate, "too much to be replayed"),
        ("_MAX_WORK", 30_000, certificate, "too large to be replayed"),
        ("_MAX_PREFIXES", 3, everything, "more than 3 prefixes"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"balanceroute_opt.certificates._tree.{name}", value)
            with pytest.raises(CertificateError, match=message):
                bro.verify(inst, cluster, bad)
    assert bro.verify(inst, cluster, everything) == 20


# Proofs that there is no solution


@pytest.fixture
def overfull():
    """Three requests of four steps on two slots, and at most one step of waiting: each runs in steps 1, 2 and 3."""
    inst = Instance(release=[0, 0, 0, 9], prompt=[1, 1, 1, 1], output=[4, 4, 4, 1])
    return inst, Cluster(1, 2)


def no_placement(inst, cluster, step=3, **values):
    content = {"start": inst.release.tolist(), "step": step} | values
    return new_certificate("placement", "infeasible", inst, cluster, math.inf, content)


def no_schedule(inst, cluster, **values):
    content = {"max_wait": 1, "latest": None, "requests": [0, 1, 2], "steps": [[1, 4]]} | values
    return new_certificate("schedule", "infeasible", inst, cluster, math.inf, content)


def test_infeasible_by_hand(overfull):
    inst, cluster = overfull
    certificate = no_placement(inst, cluster)
    assert certificate["claim"] == "infeasible"
    assert bro.verify(inst, cluster, certificate) == math.inf
    # 3 requests take all of steps 1 .. 3: 9 > 2 * 3. Of 0 .. 4 each takes 4: 12 > 2 * 5.
    for values in (
        {},
        {"steps": [[0, 5]]},
        {"requests": [0, 1, 2, 3]},
        {"steps": [[1, 2], [3, 4]]},
        {"max_wait": None, "latest": [1, 0, 1, 9]},
    ):
        assert bro.verify(inst, cluster, no_schedule(inst, cluster, **values)) == math.inf
    # Loads of 3 * (1 + k - 0) in step k, and room for 2 * 5 on two workers: too much in step 3.
    wide = Cluster(2, 2, kv_capacity=5)
    assert bro.verify(inst, wide, no_placement(inst, wide, 3)) == math.inf
    with pytest.raises(CertificateError, match="step 2 has 3 active requests on 4 slots"):
        bro.verify(inst, wide, no_placement(inst, wide, 2))
    with pytest.raises(CertificateError, match="claim must be"):
        new_certificate("placement", "fluid", inst, cluster, 1.5, {})


INFEASIBLE = {
    "step with room": lambda f: no_placement(*f, step=4),
    "step idle": lambda f: no_placement(*f, step=100),
    "step negative": lambda f: no_placement(*f, step=-1),
    "step a float": lambda f: no_placement(*f, step=3.0),
    "step a bool": lambda f: no_placement(*f, step=True),
    "step huge": lambda f: no_placement(*f, step=10**5000),
    "step missing": lambda f: no_placement(*f) | {"data": {"start": [0, 0, 0, 9]}},
    "start before release": lambda f: no_placement(*f, start=[0, 0, 0, 8]),
    "start later": lambda f: no_placement(*f, start=[0, 0, 4, 9]),
    "placement of another cluster": lambda f: no_placement(f[0], f[1].replace(slots=1)),
    "schedule as placement": lambda f: no_schedule(*f) | {"problem": "placement"},
    "placement as schedule": lambda f: no_placement(*f) | {"problem": "schedule"},
    "wait longer": lambda f: no_schedule(*f, max_wait=2),
    "no windows": lambda f: no_schedule(*f, max_wait=None),
    "wait negative": lambda f: no_schedule(*f, max_wait=-1),
    "wait a float": lambda f: no_schedule(*f, max_wait=1.0),
    "latest later": lambda f: no_schedule(*f, max_wait=None, latest=[2, 2, 2, 9]),
    "latest before release": lambda f: no_schedule(*f, latest=[0, 0, 0, 8]),
    "latest too short": lambda f: no_schedule(*f, latest=[0, 0, 0]),
    "a request less": lambda f: no_schedule(*f, requests=[0, 1]),
    "no requests": lambda f: no_schedule(*f, requests=[]),
    "a request twice": lambda f: no_schedule(*f, requests=[0, 1, 1, 1]),
    "another request": lambda f: no_schedule(*f, requests=[0, 1, 3]),
    "a request that does not exist": lambda f: no_schedule(*f, requests=[0, 1, 4]),
    "a request negative": lambda f: no_schedule(*f, requests=[0, 1, -2]),
    "a request a bool": lambda f: no_schedule(*f, requests=[0, True, 2]),
    "requests null": lambda f: no_schedule(*f, requests=None),
    "too many steps": lambda f: no_schedule(*f, steps=[[0, 6]]),
    "steps where nobody runs": lambda f: no_schedule(*f, steps=[[100, 200]]),
    "no steps": lambda f: no_schedule(*f, steps=[]),
    "steps empty": lambda f: no_schedule(*f, steps=[[2, 2]]),
    "steps backwards": lambda f: no_schedule(*f, steps=[[4, 1]]),
    "steps negative": lambda f: no_schedule(*f, steps=[[-1, 4]]),
    "steps a float": lambda f: no_schedule(*f, steps=[[1, 4.0]]),
    "steps of three numbers": lambda f: no_schedule(*f, steps=[[1, 4, 5]]),
    "steps twice": lambda f: no_schedule(*f, steps=[[1, 4], [1, 4]]),
    "steps huge": lambda f: no_schedule(*f, steps=[[0, 10**5000]]),
    "steps no ranges": lambda f: no_schedule(*f, steps=[1, 2, 3]),
    "fluid claims it": lambda f: (
        bro.schedule_bound(*f, max_wait=9, method="fluid").certificate | {"claim": "infeasible"}
    ),
    "item claims it": lambda f: (
        bro.placement_bound(f[0], f[1], [0, 0, 4, 9], "item").certificate | {"claim": "infeasible"}
    ),
    "claim infinite": lambda f: no_schedule(*f) | {"claim": math.inf},
    "claim Infinity": lambda f: no_schedule(*f) | {"claim": "Infinity"},
}


@pytest.mark.parametrize("make", INFEASIBLE.values(), ids=INFEASIBLE.keys())
def test_tampered_proofs_of_infeasibility_are_refused(overfull, make):
    with pytest.raises(CertificateError) as error:
        bro.verify(*overfull, make(overfull))
    assert len(str(error.value)) < 400


def test_whatever_is_proved_infeasible_has_no_schedule():
    proofs = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        n, wait = int(rng.integers(2, 5)), int(rng.integers(0, 3))
        inst = Instance(rng.integers(0, 3, n), [1] * n, rng.integers(1, 4, n))
        cluster = Cluster(1, int(rng.integers(1, 3)))
        border = np.sort(rng.choice(9, 4, replace=False)).tolist()
        ranges = [border[:2], border[2:]] if seed % 2 else [border[1:3]]
        try:
            bro.verify(inst, cluster, no_schedule(inst, cluster, max_wait=wait, requests=list(range(n)), steps=ranges))
        except CertificateError:
            continue
        proofs += 1
        assert best_schedule(inst, cluster, inst.release + wait) is None
        # The claim of a tighter window follows from it.
        tight = no_schedule(inst, cluster, max_wait=0, requests=list(range(n)), steps=ranges)
        assert bro.verify(inst, cluster, tight) == math.inf
    assert proofs >= 15


def test_looks_for_infeasibility_are_limited(overfull, monkeypatch):
    monkeypatch.setattr("balanceroute_opt.certificates._schedule._MAX_LOOKS", 10)
    with pytest.raises(CertificateError, match="more than 10 pairs"):
        bro.verify(*overfull, no_schedule(*overfull))


def hair_above(claim):
    numerator, denominator = (int(x) * 10**40 for x in claim.split("/"))
    return f"{numerator + 1}/{denominator}"


@pytest.mark.parametrize(("problem", "change"), TAMPERED.values(), ids=TAMPERED.keys())
def test_tampered_certificates_are_refused(case, tmp_path, problem, change):
    inst, cluster, start = case
    bound = (
        bro.placement_bound(inst, cluster, start, method="item")
        if problem == "placement"
        else bro.schedule_bound(inst, cluster, latest=start)
    )
    certificate = copy.deepcopy(bound.certificate)
    bro.verify(inst, cluster, certificate)
    change(certificate)
    with pytest.raises(CertificateError) as error:
        bro.verify(inst, cluster, certificate)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    try:
        (tmp_path / "c.json").write_text(json.dumps(certificate))
    except (TypeError, ValueError):
        return
    with pytest.raises(CertificateError):
        bro.verify(inst, cluster, tmp_path / "c.json")


def test_starts_without_a_placement_prove_nothing(case):
    inst, cluster, start = case
    narrow = cluster.replace(slots=1, workers=1)
    certificate = bro.placement_bound(inst, cluster, start).certificate | {"cluster": narrow.digest(), "claim": 0}
    with pytest.raises(CertificateError, match="step 1 has 2 active requests"):
        bro.verify(inst, narrow, certificate)


def test_certificates_of_other_instances_and_clusters(case):
    inst, cluster, start = case
    for bound in (bro.placement_bound(inst, cluster, start), bro.schedule_bound(inst, cluster)):
        with pytest.raises(CertificateError, match="is for instance"):
            bro.verify(inst.replace(prompt=[9, 2, 4]), cluster, bound.certificate)
        with pytest.raises(CertificateError, match="is for cluster"):
            bro.verify(inst, cluster.replace(slots=3), bound.certificate)
    with pytest.raises(InputError, match="step clock"):
        bro.verify(inst.replace(clock="wall"), cluster, bound.certificate)


@pytest.mark.parametrize("thing", [None, 3, [], "", (), b"{}"])
def test_things_that_are_no_certificate(case, thing):
    with pytest.raises((CertificateError, InputError)):
        bro.verify(*case[:2], thing)


def nested_python(depth):
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def test_nested_python_objects_do_not_recurse(case):
    inst, cluster, start = case
    good = bro.placement_bound(inst, cluster, start).certificate
    deep = nested_python(10**5)
    for bad in (deep, good | {"claim": deep}, good | {"data": deep}, good | {"data": {"start": [deep, 1, 3]}}):
        with pytest.raises(CertificateError):
            bro.verify(inst, cluster, bad)


BAD_FILES = {
    "empty": b"",
    "binary": bytes(range(256)),
    "not json": b"{",
    "a number": b"17",
    "a list": b"[]",
    "nested": b"[" * 10**7,
    "nested objects": b'{"a":' * 10**6,
    "nested behind a string": b'["' + b"]" * 10**6 + b'",' + b"[" * 10**6,
    "float": b'{"claim": 1.0}',
    "exponent": b'{"claim": 1e3}',
    "nan": b'{"claim": NaN}',
    "infinity": b'{"claim": -Infinity}',
    "key twice": b'{"schema": "x", "schema": "balanceroute-certificate"}',
    "integer of many digits": b'{"claim": ' + b"9" * 10**5 + b"}",
    "lone surrogate": b'{"schema": "\\ud800"}',
    "utf-16": '{"schema": 1}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", BAD_FILES.values(), ids=BAD_FILES.keys())
@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_bad_files(case, tmp_path, body, suffix):
    path = tmp_path / f"c{suffix}"
    path.write_bytes(gzip.compress(body, 1) if suffix.endswith("gz") else body)
    with pytest.raises(CertificateError) as error:
        bro.verify(*case[:2], path)
    assert len(str(error.value)) < 400


def test_bad_gzip_and_missing_files(case, tmp_path):
    inst, cluster, start = case
    body = gzip.compress(json.dumps(bro.placement_bound(inst, cluster, start).certificate).encode())
    for name, content in (("plain", b"{}"), ("truncated", body[:-20]), ("flipped", body[:40] + b"\0\0" + body[42:])):
        path = tmp_path / f"{name}.json.gz"
        path.write_bytes(content)
        with pytest.raises(CertificateError):
            bro.verify(inst, cluster, path)
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "none.json.gz"):
        with pytest.raises(InputError, match="cannot read"):
            bro.verify(inst, cluster, path)


def test_a_bomb_stops_early(case, tmp_path, monkeypatch):
    monkeypatch.setattr("balanceroute_opt.certificates.format._MAX_BYTES", 2**22)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b" " * 2**24))
    with pytest.raises(CertificateError, match="larger than"):
        bro.verify(*case[:2], path)


def test_random_mutations_never_crash(case, tmp_path):
    inst, cluster, start = case
    bound = bro.placement_bound(inst, cluster, start, method="item")
    body = json.dumps(bound.certificate).encode()
    rng = np.random.default_rng(0)
    path = tmp_path / "c.json"
    for _ in range(400):
        mutated = bytearray(body)
        for _ in range(rng.integers(1, 4)):
            mutated[rng.integers(len(mutated))] = rng.choice(list(b'0123456789[]{},:"-. a\xff'))
        path.write_bytes(bytes(mutated))
        try:
            value = bro.verify(inst, cluster, path)
        except CertificateError:
            continue
        claimed = json.loads(bytes(mutated))["claim"]
        assert claimed <= value  # it still proves what it says


def lines_of_code(path):
    """Lines that hold code: not those that are blank, or only comment or docstring."""
    source = path.read_text()
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            docstrings |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in nothing:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


def test_verifier_is_small_and_imports_no_solver():
    files = {path.name: lines_of_code(path) for path in CERTIFICATES.glob("*.py")}
    beside = {"__init__.py", "bound.py", "format.py"}  # what is read and written, not what is proved
    assert sum(lines for name, lines in files.items() if name not in beside) < 400, files
    inside = {path.stem for path in CERTIFICATES.glob("*.py")}
    allowed = inside | {"_validate", "errors", "instance", "schedule", None}
    for file in CERTIFICATES.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.module in allowed, f"{file.name} imports {node.module}"
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            for name in names:
                assert name.split(".")[0] in {*sys.stdlib_module_names, "numpy"}, f"{file.name} imports {name}"
    code = (
        "import sys, balanceroute_opt.certificates; "
        "print([m for m in ('numba', 'ortools', 'highspy', 'cvxpy', 'scipy', 'networkx', "
        "'balanceroute_opt.oracles') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_billion_brackets(case, tmp_path):
    """Read as a stream: refused at the first of a thousand members of a million brackets."""
    path = tmp_path / "c.json.gz"
    path.write_bytes(gzip.compress(b"[" * 10**6) * 1000)
    with pytest.raises(CertificateError, match="nested deeper than 32"):
        bro.verify(*case[:2], path)


BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ortools", "highspy", "cvxpy", "numba", "scipy", "networkx", "sklearn"}:
            raise ImportError(f"{name} is blocked here")
sys.meta_path.insert(0, Refuse())
"""


def test_verify_and_check_need_no_solver(by_hand, overfull, tmp_path):
    """In an environment without solvers and numba, for every kind."""
    inst, cluster, content = by_hand
    start, narrow = content["start"], overfull[1]
    proofs = {
        "tree": (inst, cluster, new_certificate("placement", "tree", inst, cluster, 20, content)),
        "window": (inst, cluster, new_certificate("placement", "window", inst, cluster, 20, content)),
        "enumeration": (
            inst,
            cluster,
            new_certificate("placement", "enumeration", inst, cluster, 20, {"start": start}),
        ),
        "no placement": (overfull[0], narrow, no_placement(*overfull)),
        "no schedule": (overfull[0], narrow, no_schedule(*overfull)),
    }
    for method in PLACEMENT:
        proofs[method] = (inst, cluster, bro.placement_bound(inst, cluster, start, method).certificate)
    for method in SCHEDULE:
        certificate = bro.schedule_bound(inst, cluster, method, latest=start).certificate
        proofs[f"schedule {method}"] = (inst, cluster, certificate)
    proofs["forced"] = (inst, cluster, forced_bound(inst, cluster, start).certificate)
    proofs["placed"] = (inst, cluster, placed(inst, cluster, "tree", content, 20))
    wall = inst.replace(release=inst.release * 0.1, clock="wall")
    proofs["no run"] = (wall, cluster, makespan_bound(wall, cluster).certificate)
    assert {(c["problem"], c["kind"]) for _, _, c in proofs.values()} == set(entrance._PROOFS)
    for name, (one, on, certificate) in proofs.items():
        bro.write_instance(one, tmp_path / f"{name}.problem.json", cluster=on)
        bro.write_certificate(certificate, tmp_path / f"{name}.json")
    # 0 and 1 | 2: 6 + 3, then 5 + 6: optimal.
    bro.write_schedule(bro.Schedule(start, [0, 0, 1, 0]), tmp_path / "s.json", inst)
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    code = """
import sys
from balanceroute_opt.cli import main
for name in sys.argv[1:]:
    schedule = [] if name.startswith("no ") else ["--schedule", "s.json"]
    if main(["check", name + ".problem.json", *schedule, "--certificate", name + ".json"]):
        sys.exit(name)
"""
    paths = [str(tmp_path), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    blocked = subprocess.run(
        [sys.executable, "-c", "import numba"], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert "is blocked here" in blocked.stderr
    done = subprocess.run(
        [sys.executable, "-c", code, *proofs], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name, sentence in (
        ("tree", "(placement, tree): no placement of the requests at its admission steps has a peak_sum below 20"),
        ("window", "(placement, window): no placement of the requests at its admission steps has a peak_sum below 20"),
        ("enumeration", "has a peak_sum below 20, so that the schedule is optimal (certified)."),
        (
            "no placement",
            "(placement, infeasible): No placement of the requests exists at its admission steps (certified).",
        ),
        ("no schedule", "(schedule, infeasible): No schedule keeps these start windows (certified)."),
        ("no run", "(makespan, arrival): no run of any router ends before"),
    ):
        assert any(f"Certificate {name}.json" in line and sentence in line for line in done.stdout.splitlines())


def test_check_tells_optimal_schedules_of_both_problems(tmp_path, capsys):
    from balanceroute_opt.cli import main

    # One request: 2 steps of 1 s, loads 3 and 4 at 0.5 s a token.
    inst, cluster = Instance([0], [3], [2]), Cluster(2, 2, step_time=StepTime(1.0, 0.5, 0.25))
    problem, schedule, proof = (str(tmp_path / name) for name in ("p.json", "s.json", "c.json"))
    bro.write_instance(inst, problem, cluster=cluster)
    bro.write_schedule(bro.Schedule([0], [1]), schedule, inst)
    for bound in (bro.schedule_bound(inst, cluster, max_wait=3), bro.placement_bound(inst, cluster, [0])):
        bro.write_certificate(bound.certificate, proof, force=True)
        assert main(["check", problem, "--schedule", schedule, "--certificate", proof]) == 0
        assert "so that the schedule is optimal (certified)." in capsys.readouterr().out
        assert main(["check", problem, "--schedule", schedule, "--certificate", proof, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["certificates"][0]
        assert (found["optimal"], found["above"], found["infeasible"]) == (True, 0.0, False)
    narrow = cluster.replace(workers=1, slots=1)
    many = Instance([0, 0], [3, 3], [2, 2])
    bro.write_instance(many, problem, cluster=narrow, force=True)
    bro.write_certificate(no_schedule(many, narrow, requests=[0, 1], steps=[[1, 2]]), proof, force=True)
    assert main(["check", problem, "--certificate", proof, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["certificates"][0]
    assert (found["optimal"], found["proved"], found["infeasible"]) == (None, None, True)
