"""Certificates: the verifier reproduces every bound, and refuses whatever does not prove its claim."""

from __future__ import annotations

import ast
import copy
import gzip
import io
import json
import subprocess
import sys
import tokenize
from pathlib import Path

import numpy as np
import pytest
from test_bounds import PLACEMENT, SCHEDULE, random_case

import balanceroute_opt as bro
from balanceroute_opt import CertificateError, Cluster, InputError, Instance, StepTime

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
