"""The library of instances: complete, true, reproducible, and safe against wrong improvements."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import balanceroute_opt as bro
from balanceroute_opt.cli import main
from balanceroute_opt.library import COLUMNS, TraceNotFound
from balanceroute_opt.library import catalogue as catalogue_module
from balanceroute_opt.library.picture import picture

FOLDER = ROOT / "instances"
TINY = FOLDER / "tiny"
HEAVY = ("numba", "highspy", "ortools", "cvxpy", "scipy", "networkx", "balanceroute_opt.oracles")


@pytest.fixture(scope="module")
def library():
    return bro.read_library(FOLDER)


# --- the tiny set, by enumeration ----------------------------------------------------------------


def placements(inst, cluster, start):
    """peak_sum of every placement that keeps the rules."""
    for worker in itertools.product(range(cluster.workers), repeat=len(inst)):
        sched = bro.Schedule(start, worker)
        try:
            bro.check(inst, cluster, sched)
        except bro.InvalidSchedule:
            continue
        yield bro.peak_sum(inst, cluster, sched)


def schedules(inst, cluster, windows):
    """Decode time of every schedule whose starts lie in the windows (one range of steps per request)."""
    for start in itertools.product(*windows):
        for worker in itertools.product(range(cluster.workers), repeat=len(inst) - 1):
            sched = bro.Schedule(start, (0, *worker))  # workers are alike
            try:
                bro.check(inst, cluster, sched)
            except bro.InvalidSchedule:
                continue
            yield bro.decode_time(inst, cluster, sched)


def free_migration(inst, cluster, start):
    """The sum over steps of the best possible peak when requests may move between steps."""
    total = 0
    for k in range(int((start + inst.output).max())):
        active = (start <= k) & (k < start + inst.output)
        loads = (inst.prompt + k - start)[active].tolist()
        peaks = []
        for worker in itertools.product(range(cluster.workers), repeat=len(loads)):
            on = [[load for load, g in zip(loads, worker, strict=True) if g == h] for h in range(cluster.workers)]
            if max(map(len, on)) <= cluster.slots:
                peaks.append(max(map(sum, on)))
        total += min(peaks)
    return total


def tiny_table(pattern):
    return re.findall(pattern, (TINY / "README.md").read_text(), re.MULTILINE)


PLACEMENTS = tiny_table(r"^\| `([\w.-]+)\.json` \| (\d+), (\d+), (\d+) \| (\d+) \|")
SCHEDULES = tiny_table(r"^\| `([\w.-]+)\.json` \| `([\w=]+)` \| (\d+) \|")


def test_every_tiny_instance_is_in_the_tables(library):
    assert [row[0] for row in PLACEMENTS] == list(dict.fromkeys(row[0] for row in PLACEMENTS))
    assert {row[0] for row in PLACEMENTS} == {path.stem for path in TINY.glob("*.json")}
    with_windows = {row.name: row.windows for row in library.rows if row.set == "tiny" and row.windows}
    assert {f"tiny/{name}": windows for name, windows, _ in SCHEDULES} == with_windows
    assert len(PLACEMENTS) >= 10


@pytest.mark.parametrize("row", PLACEMENTS, ids=lambda row: row[0])
def test_optimum_of_a_tiny_placement(library, row):
    name, (n, workers, slots, optimum) = row[0], map(int, row[1:])
    inst, cluster, start = bro.read_problem(TINY / f"{name}.json")
    assert (len(inst), cluster.workers, cluster.slots) == (n, workers, slots)
    assert min(placements(inst, cluster, start)) == optimum
    stored = library[f"tiny/{name}"].row("placement")
    assert (stored.best, stored.bound, stored.status) == (optimum, optimum, "optimal")


@pytest.mark.parametrize("row", SCHEDULES, ids=lambda row: row[0])
def test_optimum_of_a_tiny_schedule(library, row):
    name, windows, optimum = row
    inst, cluster, start = bro.read_problem(TINY / f"{name}.json")
    if windows == "none":  # releases do not matter, and no schedule needs more steps than all outputs
        inst = inst.replace(release=np.zeros(len(inst), np.int64))
        last = int(inst.output.sum()) - inst.output
    else:
        last = start if windows == "latest=start" else inst.release + int(windows.removeprefix("max_wait="))
    ranges = [range(r, d + 1) for r, d in zip(inst.release.tolist(), last.tolist(), strict=True)]
    assert min(schedules(inst, cluster, ranges)) == int(optimum) == library[f"tiny/{name}"].row("schedule").best


def test_what_the_tiny_instances_show():
    inst, cluster, start = bro.read_problem(TINY / "sticky.json")
    assert free_migration(inst, cluster, start) == 35
    inst, cluster, start = bro.read_problem(TINY / "pigeonhole.json")
    # All placements with at most 3 requests on a worker have exactly 3 on one: 3 * 4 tokens.
    assert set(placements(inst, cluster, start)) == {12}
    inst, cluster, start = bro.read_problem(TINY / "worst-case.json")
    # Step 0: 2 requests of one token each. Steps 1..4: two of 2, 3, 4, 5 tokens on the same worker.
    assert bro.peak_sum(inst, cluster, bro.Schedule(start, [0, 0, 1, 1])) == 2 + 2 * (2 + 3 + 4 + 5) == 30
    inst, cluster, start = bro.read_problem(TINY / "worst-case-3.json")
    assert bro.peak_sum(inst, cluster, bro.Schedule(start, [0, 0, 0, 1, 1, 1, 2, 2, 2])) == 3 + 3 * 20 == 63
    inst, _, start = bro.read_problem(TINY / "three.json")
    assert np.all(start[2] >= (start + inst.output)[:2])
    inst, cluster, start = bro.read_problem(TINY / "kv.json")
    assert min(placements(inst, cluster.replace(kv_capacity=None), start)) == 47
    for name, cost in (("lpt", 7), ("last-large", 3)):
        inst, cluster, start = bro.read_problem(TINY / f"{name}.json")
        # Each load goes to the lighter worker; longest first there, in the order of the file here: 3, 3, 2, 2, 2.
        loads = [0, 0]
        for load in inst.prompt.tolist():
            loads[loads.index(min(loads))] += load
        assert max(loads) == cost
    for name, bound in (("balanced", 30), ("rounding", 6)):
        inst, cluster, start = bro.read_problem(TINY / f"{name}.json")
        work = inst.prompt.sum() if name == "rounding" else sum(4 * (4 + k) for k in range(3))
        assert -(-work // 2) == bound


# --- complete ------------------------------------------------------------------------------------


def test_the_library_is_complete(library):
    sizes = {s: [e for e in library if e.set == s] for s in library.sets}
    assert library.sets[:4] == ("tiny", "small", "medium", "trace")
    assert len(library) >= 60
    for name, least in (("tiny", 10), ("small", 30), ("medium", 10), ("trace", 10)):
        assert len(sizes[name]) >= least
    assert library.stray_files() == []
    assert {row.name for row in library.rows} == {entry.name for entry in library}
    for row in library.rows:
        assert row.best is not None, row.name
        assert row.bound is not None, row.name
        for file in (row.schedule, row.certificate):
            assert (FOLDER / file).stat().st_size <= catalogue_module.MAX_FILE
        assert row.method
        assert row.proof
    for entry in library:
        assert entry.about, entry.name
        small = (10, 100) if entry.set == "small" else (200, 2000) if entry.set == "medium" else (1, 10**6)
        assert all(small[0] <= row.n <= small[1] for row in entry.rows)
    assert all(entry.path is None and entry.recipe is not None for entry in sizes["trace"])


def test_every_set_says_where_it_comes_from(library):
    for name in library.sets:
        text = (FOLDER / name / "README.md").read_text()
        for word in ("Source", "icence", "Objective", "Rounding"):
            assert re.search(word, text, re.IGNORECASE), (name, word)
        assert f"]({name}/README.md)" in (FOLDER / "README.md").read_text()


def test_what_is_committed_stays_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 12e6


# --- true ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_rows_are_verified(library, name):
    rows = [row for row in library.rows if row.set == name]
    verdicts = list(library.verify(rows if name == "tiny" else rows[::3]))
    assert [v.words for v in verdicts if v.outcome != "verified"] == []
    assert len(verdicts) >= 20


@pytest.mark.slow
def test_all_rows_are_verified_without_a_solver(traces):
    # About a minute; `balanceroute instances verify` as users run it.
    code = (
        "import sys; from balanceroute_opt.cli import main; status = main(['instances', 'verify', '--json'])\n"
        f"assert not [m for m in {HEAVY} if m in sys.modules]; sys.exit(status)"
    )
    done = python(code, BALANCEROUTE_TRACES=str(traces), BALANCEROUTE_LIBRARY=str(FOLDER))
    answer = json.loads(done.stdout)
    assert (answer["skipped"], answer["failed"], answer["stray"]) == (0, 0, [])
    assert answer["verified"] == len(bro.read_library(FOLDER).rows)


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | environment, cwd=ROOT
    )


def test_verifying_and_making_instances_loads_no_solver_and_no_compiler():
    code = f"""
import sys
from balanceroute_opt.cli import main
assert main(["instances", "verify", "tiny", "small/n030-s01", "trace/adversary-g32", "trace/long-2000"]) == 0
assert main(["instances", "list"]) == 0 and main(["instances", "show", "small/n060-s01"]) == 0
import balanceroute_opt as bro
bro.read_library()["medium/n0200-s01"].recipe.instance()
print([m for m in {HEAVY} if m in sys.modules])
"""
    lines = python(code, BALANCEROUTE_LIBRARY=str(FOLDER)).stdout.splitlines()
    assert lines[-1] == "[]"
    assert "trace/long-2000 P1: verified: schedule checked, bound certified" in "\n".join(lines)


def test_rows_of_absent_traces_are_skipped_and_never_verified(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BALANCEROUTE_TRACES", "")
    monkeypatch.setenv("BALANCEROUTE_CACHE", str(tmp_path))
    library = bro.read_library(FOLDER)
    with pytest.raises(TraceNotFound, match="set BALANCEROUTE_TRACES"):
        _ = library["trace/azure-code-1000"].inst
    words = "skipped: trace azure-2023-code not found (set BALANCEROUTE_TRACES)"
    assert main(["instances", "verify", "trace/azure-code-1000", "--library", str(FOLDER)]) == 0
    out = capsys.readouterr().out
    assert out.count(words) == 2
    assert "0 verified, 2 skipped, 0 failed" in out
    assert main(["instances", "show", "trace/azure-code-1000", "--library", str(FOLDER)]) == 0
    assert "missing" in capsys.readouterr().out


def test_another_file_of_the_traces_name_is_refused(monkeypatch, tmp_path):
    (tmp_path / "azure_2023_code.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    monkeypatch.setenv("BALANCEROUTE_TRACES", str(tmp_path))
    library = bro.read_library(FOLDER)
    rows = library["trace/azure-code-1000"].rows
    assert {v.outcome for v in library.verify(rows)} == {"failed"}
    with pytest.raises(bro.InputError, match=r"has SHA-256 .* and the recipe's is 54e9a6d2a4bd"):
        _ = library["trace/azure-code-1000"].inst


def test_recipes_make_the_requests_of_the_library(library, monkeypatch):
    monkeypatch.setenv("BALANCEROUTE_TRACES", "")
    made = [entry for entry in library if entry.recipe is not None and entry.recipe.generator]
    assert len(made) >= 60
    for entry in made:
        assert {row.instance for row in entry.rows} == {entry.recipe.instance().digest()}, entry.name


def test_recipes_make_the_starts_of_the_library(tmp_path, capsys):
    names = ["small/n030-s01", "small/late-n010-s04", "medium/n0200-s03", "trace/adversary-g32"]
    assert main(["instances", "make", *names, "-o", str(tmp_path), "--library", str(FOLDER)]) == 0
    assert capsys.readouterr().out.count("as in the library") == 4
    made = bro.read_problem(tmp_path / "n030-s01.json")
    stored = bro.read_problem(FOLDER / "small" / "n030-s01.json")
    assert (made[0], made[1], made[2].tolist()) == (stored[0], stored[1], stored[2].tolist())
    assert main(["instances", "make", "tiny/sticky", "--library", str(FOLDER)]) == 2
    assert "was made by hand" in capsys.readouterr().err


def test_recipes_from_a_trace(library, traces, monkeypatch):
    monkeypatch.setenv("BALANCEROUTE_TRACES", str(traces))
    stored = library["medium/azure-conv-200"]
    assert stored.recipe.instance() == stored.inst
    assert next(iter(bro.read_library(FOLDER).verify(library["trace/azure-code-1000"].rows))).outcome == "verified"


# --- improve -------------------------------------------------------------------------------------


@pytest.fixture
def small_library(tmp_path):
    """A library of two tiny instances, with schedules and bounds that leave room."""
    root = tmp_path / "lib"
    (root / "tiny").mkdir(parents=True)
    for name in ("sticky", "together"):
        shutil.copy(TINY / f"{name}.json", root / "tiny")
    (root / "tiny" / "about.toml").write_text('[together]\nabout = "two"\nwindows = "max_wait=1"\n')
    (root / "registry.csv").write_text(",".join(COLUMNS) + "\n")
    library = bro.read_library(root)
    library.add("tiny/sticky", "placement")
    library.add("tiny/together", "schedule", "max_wait=1")
    entry = library["tiny/sticky"]
    library.improve("tiny/sticky", schedule=bro.Schedule(entry.start, [0, 0, 0, 1, 1, 1]), method="by hand")
    library.improve("tiny/sticky", certificate=bound(entry, "fluid"))
    library.improve("tiny/together", schedule=bro.Schedule([0, 1], [0, 1]), method="at once")
    return library


def bound(entry, method):
    return bro.placement_bound(entry.inst, entry.cluster, entry.start, method).certificate


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_better_ones_are_taken(small_library):
    entry = small_library["tiny/sticky"]
    before = entry.row("placement")
    best = bro.read_library(FOLDER)["tiny/sticky"].schedule()
    row = small_library.improve("tiny/sticky", schedule=best, certificate=bound(entry, "migration"), method="a  search")
    assert (row.best, row.bound, row.method, row.proof) == (41, 35, "a search", "migration")
    assert before.best > 41
    assert before.bound < 35
    assert row.status == "open"
    again = bro.read_library(small_library.path)
    assert again.rows == small_library.rows
    assert again.stray_files() == []  # the files of the old row are gone
    assert [v.outcome for v in again.verify()] == ["verified", "verified"]
    row = again.improve("tiny/together", schedule=bro.Schedule([1, 1], [0, 1]), method="wait")
    assert row.best == 29.0
    row = again.improve(
        "tiny/together",
        certificate=bro.schedule_bound(again["tiny/together"].inst, entry.cluster.replace(slots=1)).certificate,
    )
    assert row.status == "optimal"


def test_claims_are_kept_apart(small_library):
    row = small_library.improve("tiny/sticky", claimed=(40, "a solver"))
    assert (row.claimed, row.claimed_by, row.status) == (40, "a solver", "open")
    best = bro.read_library(FOLDER)["tiny/sticky"].schedule()
    small_library.improve("tiny/sticky", schedule=best)
    assert small_library.improve("tiny/sticky", claimed=(41, "a solver")).status == "claimed"
    proof = bro.read_library(FOLDER)["tiny/sticky"].certificate()
    row = small_library.improve("tiny/sticky", certificate=proof)
    assert (row.status, row.claimed, row.claimed_by) == ("optimal", None, "")


def tampered(certificate, **changes):
    return certificate | {"data": certificate["data"] | changes}


WRONG = {
    "a worse schedule": (
        lambda lib, e: {"schedule": worst(e)},
        r"the schedule costs \d+, and the best known one \d+",
    ),
    "the same schedule": (lambda lib, e: {"schedule": e.schedule()}, "and the best known one"),
    "no schedule of the model": (
        lambda lib, e: {"schedule": bro.Schedule(e.start, [0] * 6)},
        "worker 0 has 4 requests in step 1",
    ),
    "an unknown worker": (lambda lib, e: {"schedule": bro.Schedule(e.start, [2] * 6)}, "there are 2 workers"),
    "other starts": (
        lambda lib, e: {"schedule": bro.Schedule(e.start + 1, [0, 1, 0, 1, 0, 1])},
        "request 0 starts in step 1, and its given start is 0",
    ),
    "a short schedule": (lambda lib, e: {"schedule": bro.Schedule([0], [0])}, "has 1 entries, the instance 6"),
    "the same bound": (lambda lib, e: {"certificate": e.certificate()}, "and the bound is"),
    "a lower claim than proof": (
        lambda lib, e: {"certificate": bound(e, "migration") | {"claim": 10**6}},
        "the certificate claims 1000000 and proves",
    ),
    "a certificate of another instance": (
        lambda lib, e: {"certificate": bro.read_library(FOLDER)["tiny/three"].certificate("placement")},
        "the certificate is for instance",
    ),
    "a certificate of other starts": (
        lambda lib, e: {"certificate": bro.placement_bound(e.inst, e.cluster, e.start + 5, "migration").certificate},
        "for other starts than the given ones",
    ),
    "a certificate of the other problem": (
        lambda lib, e: {"certificate": bro.schedule_bound(e.inst, e.cluster).certificate, "problem": "placement"},
        "the certificate is about schedule, not placement",
    ),
    "a problem that is not there": (
        lambda lib, e: {"certificate": bro.schedule_bound(e.inst, e.cluster).certificate},
        "has no schedule problem",
    ),
    "a damaged certificate": (
        lambda lib, e: {"certificate": tampered(bound(e, "migration"), raised=[[0, 99]])},
        "can be placed below 99",
    ),
    "a good schedule with a wrong certificate": (
        lambda lib, e: {
            "schedule": bro.read_library(FOLDER)["tiny/sticky"].schedule(),
            "certificate": bound(e, "migration") | {"claim": 36},
        },
        "claims 36 and proves 35",
    ),
    "a good certificate with a worse schedule": (
        lambda lib, e: {"schedule": worst(e), "certificate": bound(e, "migration")},
        "the best known one",
    ),
    "nothing": (lambda lib, e: {}, "nothing to improve with"),
    "a missing file": (lambda lib, e: {"schedule": lib.path / "no.json"}, "no such file"),
}


def worst(entry):
    every = ((w, bro.Schedule(entry.start, w)) for w in itertools.product(range(2), repeat=6))
    valid = []
    for _, sched in every:
        try:
            bro.check(entry.inst, entry.cluster, sched)
        except bro.InvalidSchedule:
            continue
        valid.append(sched)
    return max(valid, key=lambda sched: bro.peak_sum(entry.inst, entry.cluster, sched))


@pytest.mark.parametrize("what", WRONG)
def test_wrong_ones_are_refused_and_change_nothing(small_library, what):
    make, reason = WRONG[what]
    before, rows = content(small_library.path), small_library.rows
    with pytest.raises(bro.BalanceRouteError, match=reason) as refused:
        small_library.improve("tiny/sticky", **make(small_library, small_library["tiny/sticky"]))
    assert "\n" not in str(refused.value)
    assert content(small_library.path) == before
    assert small_library.rows == rows


def test_wrong_windows_are_refused(small_library):
    before = content(small_library.path)
    entry = small_library["tiny/together"]
    with pytest.raises(bro.InvalidSchedule, match=r"request 0 starts in step 2, later than 1 \(max_wait=1\)"):
        small_library.improve("tiny/together", schedule=bro.Schedule([2, 2], [0, 1]))
    narrow = bro.schedule_bound(entry.inst, entry.cluster, max_wait=0).certificate
    with pytest.raises(bro.CertificateError, match="narrower windows than max_wait=1"):
        small_library.improve("tiny/together", certificate=narrow)
    with pytest.raises(bro.InputError, match="did you mean tiny/together"):
        small_library.improve("tiny/togther", certificate=narrow)
    assert content(small_library.path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full"), bro.InputError("no")])
@pytest.mark.parametrize("place", ["write_registry", "write_certificate"])
def test_an_error_midway_leaves_the_library_as_it_was(small_library, monkeypatch, place, error):
    def fail(*args, **kwargs):
        raise error

    before, rows = content(small_library.path), small_library.rows
    monkeypatch.setattr(catalogue_module, place, fail)
    best = bro.read_library(FOLDER)["tiny/sticky"].schedule()
    with pytest.raises((KeyboardInterrupt, OSError, bro.InputError)):
        small_library.improve(
            "tiny/sticky", schedule=best, certificate=bound(small_library["tiny/sticky"], "migration")
        )
    assert content(small_library.path) == before
    assert small_library.rows == rows


def test_files_that_are_too_large_are_refused(small_library, monkeypatch):
    before = content(small_library.path)
    monkeypatch.setattr(catalogue_module, "MAX_FILE", 50)
    with pytest.raises(bro.InputError, match="the library takes at most 50"):
        small_library.improve("tiny/sticky", certificate=bound(small_library["tiny/sticky"], "migration"))
    assert content(small_library.path) == before


def test_improvements_of_two_writers_are_both_kept(small_library):
    other = bro.read_library(small_library.path)
    other.improve("tiny/together", schedule=bro.Schedule([1, 1], [0, 1]))
    small_library.improve("tiny/sticky", certificate=bound(small_library["tiny/sticky"], "migration"))
    now = bro.read_library(small_library.path)
    assert now["tiny/together"].row().best == 29.0
    assert now["tiny/sticky"].row().bound == 35
    assert now.stray_files() == []


# --- the registry --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("status", "optimal", "status is 'optimal', and the numbers say 'open'"),
        ("best", "1e3", "best must be a number >= 0"),
        ("best", "", "best and the file schedule must both be there"),
        ("bound", "-1", "bound must be a number >= 0"),
        ("problem", "P1", "problem must be placement or schedule"),
        ("windows", "max_wait=2", "windows must have the form of an empty text"),
        ("schedule", "../x.json", "schedule must be a path inside the library"),
        ("certificate", "/etc/x", "certificate must be a path inside the library"),
        ("instance", "abc", "instance must have the form"),
        ("n", "many", "n must have the form"),
        ("name", "tiny/none", "tiny/none is neither a file nor a recipe"),
        ("set", "huge", "name must have the form"),
    ],
)
def test_a_damaged_registry_is_refused(small_library, column, value, complaint):
    path = small_library.path / "registry.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    rows[0][column] = value
    text = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(text) + "\n")
    with pytest.raises(bro.InputError, match=re.escape(complaint)):
        bro.read_library(small_library.path)


def test_rows_that_are_not_true_fail(small_library, capsys):
    path = small_library.path / "registry.csv"
    good = path.read_text()
    row = small_library["tiny/sticky"].row()
    for old, new, words in (
        (f",{row.best},{row.bound},", f",{row.best - 1},{row.bound},", f"costs {row.best}, and the registry says"),
        (f",{row.best},{row.bound},", f",{row.best},{row.bound + 1},", f"proves {row.bound} (fluid), and the registry"),
        (row.instance, "0" * 64, "instance is 000"),
        (row.given, "1" * 64, "given is 111"),
    ):
        path.write_text(good.replace(old, new, 1))
        assert main(["instances", "verify", "--library", str(small_library.path)]) == 1
        out = capsys.readouterr()
        assert "tiny/sticky P1: failed: " in out.out
        assert words in out.out
        assert "1 rows are wrong" in out.err
    path.write_text(good)
    (small_library.path / "solutions" / "tiny" / "stray.json.gz").write_bytes(gzip.compress(b"{}"))
    assert main(["instances", "verify", "--library", str(small_library.path)]) == 1
    assert "stray.json.gz: is not in the registry" in capsys.readouterr().out


def test_a_new_folder_is_a_new_set(tmp_path):
    copy = tmp_path / "instances"
    shutil.copytree(TINY, copy / "tiny")
    shutil.copy(FOLDER / "solve.py", copy)
    (copy / "registry.csv").write_text(",".join(COLUMNS) + "\n")
    (copy / "mine").mkdir()
    shutil.copy(TINY / "worst-case.json", copy / "mine" / "bad.json")
    (copy / "mine" / "about.toml").write_text('[bad]\nabout = "bad"\nwindows = "latest=start"\n')
    done = subprocess.run(
        [sys.executable, copy / "solve.py", "--set", "mine", "--bounds-only"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "mine/bad P1: best None bound 16 (migration) open" in done.stdout
    library = bro.read_library(copy)
    assert library.sets == ("tiny", "mine")
    assert [row.label for row in library["mine/bad"].rows] == ["P1", "P2 latest=start"]
    assert {v.outcome for v in library.verify()} == {"verified"}


# --- the command line and notebooks --------------------------------------------------------------


def test_list_fits_a_hundred_columns(capsys):
    assert main(["instances", "list", "--library", str(FOLDER)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in "".join(lines)
    assert len(lines) >= 60
    assert main(["instances", "list", "--library", str(FOLDER), "--set", "tiny", "--open"]) == 0
    assert all("optimal" not in line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:-2])


def test_every_action_speaks_json(small_library, tmp_path, capsys):
    lib = ["--json", "--library", str(small_library.path)]
    best = bro.read_library(FOLDER)["tiny/sticky"]
    bro.write_schedule(best.schedule(), tmp_path / "s.json", best.inst)
    bro.write_certificate(best.certificate(), tmp_path / "c.json.gz")
    for words, field in (
        (["list", "--set", "tiny"], "rows"),
        (["show", "tiny/sticky"], "pictures"),
        (["improve", "tiny/sticky", "--schedule", str(tmp_path / "s.json")], "row"),
        (["improve", "tiny/sticky", "--certificate", str(tmp_path / "c.json.gz")], "row"),
        (["verify"], "verified"),
    ):
        assert main(["instances", *words, *lib]) == 0
        out = capsys.readouterr()
        assert field in json.loads(out.out)
        assert out.err == ""
    assert main(["instances", "make", "small/n030-s01", "--json", "--library", str(FOLDER)]) == 0
    assert json.loads(capsys.readouterr().out)["made"][0]["requests"] == 30


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["show", "small/n030-s99"], "did you mean small/n030-s0"),
        (["verify", "huge"], "no instance 'huge' in the library; sets: tiny"),
        (["list", "--set", "huge"], "no set 'huge'"),
        (["improve", "tiny/sticky"], "nothing to improve with"),
        (["improve", "tiny/three", "--problem", "schedule", "--schedule", "x"], "has no schedule problem"),
        (["list", "--library", "docs"], "it has no file registry.csv"),
        (["make", "small/n030-s01", "-o", "no-folder"], "is no folder"),
    ],
)
def test_mistakes_on_the_command_line(monkeypatch, capsys, words, complaint):
    monkeypatch.chdir(ROOT)
    assert main(["instances", *words]) == 2
    out = capsys.readouterr()
    assert complaint in out.err
    assert out.err.count("\n") == 1
    assert out.out == ""


def test_where_the_library_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert bro.read_library().path == FOLDER  # this checkout's, from anywhere
    monkeypatch.setattr(catalogue_module, "__file__", str(tmp_path / "a" / "b" / "c.py"))  # as after an installation
    with pytest.raises(bro.InputError, match="with --library or BALANCEROUTE_LIBRARY"):
        bro.read_library()
    monkeypatch.setenv("BALANCEROUTE_LIBRARY", str(FOLDER))
    assert bro.read_library().path == FOLDER


def test_a_notebook_reads_the_library(library):
    entry = library["small/n030-s01"]
    assert (len(entry.inst), entry.cluster.workers, len(entry.start)) == (30, 3, 30)
    row = entry.row("placement")
    assert bro.peak_sum(entry.inst, entry.cluster, entry.schedule("placement")) == row.best
    assert bro.verify(entry.inst, entry.cluster, entry.certificate("placement")) == row.bound
    assert repr(library).startswith(f"Library({len(library)} instances")
    table = library.to_polars()
    assert table.height == len(library.rows)
    assert set(COLUMNS) | {"gap"} == set(table.columns)
    assert "<table" in library._repr_html_()


def test_pictures():
    inst = bro.Instance(release=[0, 0, 5], prompt=[3, 4, 1], output=[2, 1, 2])
    cluster = bro.Cluster(workers=2, slots=2)
    assert picture(inst, cluster, bro.Schedule([0, 0, 5], [0, 1, 0])) == [
        "worker 0       00|22",
        "worker 1       1.|..",
        "               steps 0 .. 6, | idle steps left out; one sign per request",
    ]
    many = bro.Instance(release=[0] * 50, prompt=[8] * 50, output=[10] * 50)
    lines = picture(many, bro.Cluster(workers=1, slots=50), bro.Schedule([0] * 50, [0] * 50), width=60)
    assert lines[0].endswith("▄▄▅▅▆▆▇▇██"[-10:]) or len(lines) == 4
    assert all(len(line) <= 90 for line in lines)
    assert picture(bro.Instance([], [], []), cluster, bro.Schedule([], [])) == []
