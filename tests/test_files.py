"""JSON files: round trips, every refusal with its one line, and atomic writing (``docs/files.md``)."""

from __future__ import annotations

import gzip
import json
import os
import re

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import balanceroute_opt as bro
from balanceroute_opt import Cluster, InputError, Instance, Schedule, StepTime
from balanceroute_opt.files import MAX_JSON_BYTES, atomic_write, read_json, require_writable, write_json

GOOD = {
    "schema": "balanceroute/instance",
    "version": 1,
    "name": "three",
    "clock": "step",
    "release": [0, 0, 3],
    "prompt": [5, 2, 4],
    "output": [3, 2, 1],
    "key": [7, -1, 7],
    "cluster": {"workers": 2, "slots": 2, "kv_capacity": 9, "step_time": {"fixed": 0.5, "per_token": 0.25}},
    "start": [0, 1, 3],
}
PLAN = {"schema": "balanceroute/schedule", "version": 1, "start": [0, 0, 3], "worker": [0, 1, 1]}


def refusal(read, path, *args) -> str:
    """The message of the refusal, which is one line and begins with the file."""
    with pytest.raises(InputError) as caught:
        read(path, *args)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert len(message) < len(str(path)) + 300
    return message.removeprefix(f"{path}: ")


def altered(**changes):
    """GOOD with fields changed, or left out where the value is ``...``."""
    return json.dumps({k: v for k, v in (GOOD | changes).items() if v is not ...})


# --- round trips ---------------------------------------------------------------------------------


def test_reads_what_the_fields_say(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(GOOD))
    inst, cluster, start = bro.read_problem(path)
    assert inst == Instance([0, 0, 3], [5, 2, 4], [3, 2, 1], key=[7, -1, 7])
    assert inst.name == "three"
    assert cluster == Cluster(2, 2, 9, StepTime(0.5, 0.25, 0.0))
    assert start.tolist() == [0, 1, 3]
    assert start.dtype == np.int64
    assert not start.flags.writeable
    assert bro.read_instance(str(path)) == inst


def test_optional_fields_may_be_missing(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(altered(name=..., key=..., cluster=..., start=...))
    inst, cluster, start = bro.read_problem(path)
    assert (inst.name, inst.key, cluster, start) == ("", None, None, None)


def test_string_keys_are_those_of_the_instance(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(altered(key=["a", "é", "a"]))
    assert bro.read_instance(path) == Instance([0, 0, 3], [5, 2, 4], [3, 2, 1], key=["a", "é", "a"])


def columns(low, high, n):
    return st.lists(st.integers(low, high), min_size=n, max_size=n)


@st.composite
def problems(draw):
    n = draw(st.integers(0, 8))
    clock = draw(st.sampled_from(["step", "wall"]))
    seconds = st.lists(st.floats(0, 1e300), min_size=n, max_size=n)
    inst = Instance(
        release=draw(columns(0, 2**53, n) if clock == "step" else seconds),
        prompt=draw(columns(1, 2**31 - 1, n)),
        output=draw(columns(1, 2**20, n)),
        key=draw(st.none() | columns(-1, 2**63 - 1, n)),
        name=draw(st.text(max_size=8)),
        clock=clock,
    )
    amount = st.floats(0, 1e6)
    cluster = Cluster(
        workers=draw(st.integers(1, 99)),
        slots=draw(st.integers(1, 99)),
        kv_capacity=draw(st.none() | st.integers(1, 2**53)),
        step_time=StepTime(draw(amount), draw(amount), draw(amount)),
    )
    start = draw(columns(0, 2**62, n)) if clock == "step" and draw(st.booleans()) else None
    return inst, draw(st.none() | st.just(cluster)), start


@given(problems(), st.sampled_from(["x.json", "x.json.gz"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_problem_round_trip(tmp_path, problem, name):
    inst, cluster, start = problem
    bro.write_instance(inst, tmp_path / name, force=True, cluster=cluster, start=start)
    again, same_cluster, same_start = bro.read_problem(tmp_path / name)
    assert again.digest() == inst.digest()
    assert again.name == inst.name
    assert same_cluster == cluster
    assert (None if same_start is None else same_start.tolist()) == start


@given(st.integers(0, 8).flatmap(lambda n: st.tuples(columns(0, 2**62, n), columns(0, 2**31 - 1, n))))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_schedule_round_trip(tmp_path, entries):
    sched = Schedule(*entries)
    bro.write_schedule(sched, tmp_path / "s.json", force=True)
    assert bro.read_schedule(tmp_path / "s.json") == sched


def test_equal_data_makes_equal_bytes(tmp_path):
    inst = Instance([0, 0, 3], [5, 2, 4], [3, 2, 1])
    for name in ("a.json", "b.json", "a.json.gz", "b.json.gz"):
        bro.write_instance(inst, tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == (tmp_path / "a.json").read_bytes()


def test_gzip_is_told_by_content(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    assert len(bro.read_instance(path)) == 3


def test_the_documented_examples_are_valid(tmp_path):
    text = (ROOT / "docs" / "files.md").read_text()
    problem, plan = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (tmp_path / "problem.json").write_text(problem)
    inst, cluster, start = bro.read_problem(tmp_path / "problem.json")
    assert re.search('"instance": "(.*)"', plan).group(1) == inst.digest()
    (tmp_path / "plan.json").write_text(plan)
    sched = bro.read_schedule(tmp_path / "plan.json", inst)
    bro.check(inst, cluster, sched)
    assert sched.start.tolist() == start.tolist()


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"[1]", "must hold one JSON object, got a list of 1"),
        (b"3", "must hold one JSON object, got 3"),
        (b"release,prompt\n1,2\n", "not JSON: Expecting value at line 1, column 1"),
        (b'{"a": 1', "not JSON: Expecting ',' delimiter at line 1, column 8"),
        (b'{"a": 1} {}', "not JSON: Extra data at line 1, column 10"),
        (b"\xff\xfe\x00", "not JSON: byte 0 (0xff) is not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON: Unexpected UTF-8 BOM (decode using utf-8-sig) at line 1, column 1"),
        (b'{"a": NaN}', "not JSON: the number NaN is not allowed"),
        (b'{"a": -Infinity}', "not JSON: the number -Infinity is not allowed"),
        (b'{"a": 1, "b": 2, "a": 1}', 'field "a" is given twice'),
        (b'{"a": {"b": 1, "b": 1}}', 'field "b" is given twice'),
        (b"[" * 100_000, "holds 100000 lists, objects and fields, more than 1000"),
        (b'{"a":' * 501, "holds 1002 lists, objects and fields, more than 1000"),
        (b"[" + b"[]," * 1000 + b"1]", "holds 1001 lists, objects and fields, more than 1000"),
        (b"\x1f\x8b\x08\x00", "not a complete gzip file: Compressed file ended before the end-of-stream marker"),
        (
            gzip.compress(b'{"a": "' + b"x" * 999, mtime=0)[:-9],
            "not a complete gzip file: Compressed file ended before",
        ),
        (gzip.compress(b"{}", mtime=0)[:-8] + b"\0" * 8, "not a complete gzip file: CRC check failed"),
        (b"\x1f\x8b\x09" + b"\0" * 20, "not a complete gzip file: Unknown compression method"),
        (gzip.compress(b" " * (MAX_JSON_BYTES + 1), mtime=0), f"more than {MAX_JSON_BYTES} bytes of JSON text"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_refuses_what_is_not_json(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    assert refusal(bro.read_instance, path).startswith(message)
    assert refusal(bro.read_schedule, path).startswith(message)


def test_deep_nesting_is_refused_even_where_many_parts_are_allowed(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
    assert refusal(read_json, path, 10**6) == "lists and objects are nested too deep"


def test_brackets_inside_strings_do_not_count(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(altered(name='[{:\\"' * 1000))
    assert bro.read_instance(path).name == '[{:\\"' * 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (altered(schema=...), 'lacks the field "schema"; a file of this kind has "schema": "balanceroute/instance"'),
        (altered(version=...), 'lacks the field "version"'),
        (altered(schema="balanceroute/schedule"), 'schema must be "balanceroute/instance", got "balanceroute/sch'),
        (altered(schema=5), 'schema must be "balanceroute/instance", got 5'),
        (altered(version=2, extra=1), "version 2 is newer than this release reads (1)"),
        (altered(version=0), "version must be an integer >= 1, got 0"),
        (altered(version=1.0), "version must be an integer >= 1, got 1.0"),
        (altered(version=True), "version must be an integer >= 1, got true"),
        (altered(version="1"), 'version must be an integer >= 1, got "1"'),
        (altered(extra=1), 'unknown field "extra"; fields: schema, version, clock, release, prompt, output, name, key'),
        (altered(clock=...), 'lacks the field "clock"'),
        (altered(prompt=...), 'lacks the field "prompt"'),
        (altered(clock="sundial"), 'clock must be "step" or "wall", got "sundial"'),
        (altered(clock=["step"]), 'clock must be "step" or "wall", got a list of 1'),
        (altered(name=5), "name must be a string, got 5"),
        (altered(name={"a": 1}), "name must be a string, got an object of 1"),
        (altered(release=3), "release must be a list with an integer per request, got 3"),
        (altered(release={}), "release must be a list with an integer per request, got an object of 0"),
        (altered(release=[0, 0.0, 3]), "release[1] must be an integer, got 0.0"),
        (altered(clock="wall", release=["0"]), 'release[0] must be a number, got "0"'),
        (altered(clock="wall", release=[0, 0.5, True]), "release[2] must be a number, got true"),
        (altered(release=[0, -1, 3]), "release[1] must be >= 0, got -1"),
        (altered(release=[0, 2**53 + 1, 3]), "release[1] must be <= 9007199254740992, got 9007199254740993"),
        (altered(prompt=[5, 0, 4]), "prompt[1] must be >= 1, got 0"),
        (altered(prompt=[5, 2.5, 4]), "prompt[1] must be an integer, got 2.5"),
        (altered(prompt=[5, None, 4]), "prompt[1] must be an integer, got null"),
        (altered(prompt=[5, [2], 4]), "prompt[1] must be an integer, got a list of 1"),
        (altered(prompt=[5, 2]), "prompt has 2 entries, release has 3"),
        (altered(prompt=[5, 2, 2**31]), "prompt[2] must be <= 2147483647, got 2147483648"),
        (altered(output=[3, 2, 10**30]), "output[2] does not fit 64 bits, got 1000000000000000000000000000000"),
        (altered(output=[-(10**99)]), "output[0] does not fit 64 bits, got -10000000000000000000000000000000000000"),
        (altered(output=[2**31 - 1] * 3, prompt=[2**31 - 1] * 3), "total work must be <= 4611686018427387904"),
        (altered(key=[1, 2]), "key has 2 entries, release has 3"),
        (altered(key=[1, 2, -2]), "key[2] must be >= -1, got -2"),
        (altered(key=[1, "2", 3]), 'key[1] must be an integer, got "2"'),
        (altered(key=["1", 2, 3]), "key[1] must be a string as key[0] is, got 2"),
        (altered(key=["1", "2", "\ud800"]), "key[2] holds half a surrogate pair"),
        (altered(key=[0, -1, 2**63]), "key[2] does not fit 64 bits, got 9223372036854775808"),
        (altered(cluster=[]), "cluster must be an object, got list"),
        (altered(cluster={"workers": 2}), "cluster lacks the field 'slots'"),
        (altered(cluster={"workers": 2, "slots": 1, "gpus": 3}), "cluster has an unknown field 'gpus'; fields:"),
        (altered(cluster={"workers": 0, "slots": 1}), "workers must be >= 1, got 0"),
        (altered(cluster={"workers": True, "slots": 1}), "workers must be an integer, got True"),
        (altered(cluster={"workers": 1, "slots": 1, "step_time": {"fixed": 1}}), "cluster.step_time lacks the field"),
        (altered(start=[0, 1]), "start has 2 entries, release has 3"),
        (altered(start=[0, 1, -1]), "start[2] must be >= 0, got -1"),
        (altered(start=[0, 1, 2**62 + 1]), "start[2] must be <= 4611686018427387904, got 4611686018427387905"),
        (altered(start=[0, 1, 0.5]), "start[2] must be an integer, got 0.5"),
        (altered(clock="wall"), 'start counts steps and needs clock "step", got "wall"'),
        (altered(prompt=["x" * 500] * 3), 'prompt[0] must be an integer, got "xxxxxxxxxx'),
    ],
    ids=lambda value: None if value.startswith("{") else value[:40],
)
def test_refuses_a_bad_instance(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    assert refusal(bro.read_instance, path).startswith(message)


@pytest.mark.parametrize("release", ["1e400", "1" + "0" * 400, "1" * 5000])
def test_refuses_numbers_that_no_float_holds(tmp_path, release):
    path = tmp_path / "x.json"
    path.write_text(altered(clock="wall", start=..., release=[0.5, 0, 3]).replace("0.5", release))
    assert re.match(
        r"release\[0\] (must be finite and >= 0|does not fit 64 bits)|not readable: Exceeds the limit",
        refusal(bro.read_instance, path),
    )


def test_refuses_a_bad_schedule(tmp_path):
    path = tmp_path / "s.json"
    inst = Instance([0, 0, 3], [5, 2, 4], [3, 2, 1])

    def said(*args, **changes):
        path.write_text(json.dumps({k: v for k, v in (PLAN | changes).items() if v is not ...}))
        return refusal(bro.read_schedule, path, *args)

    assert said(worker=...) == 'lacks the field "worker"'
    assert said(workers=1) == 'unknown field "workers"; fields: schema, version, start, worker, instance'
    assert said(schema="balanceroute/instance").startswith('schema must be "balanceroute/schedule", got')
    assert said(start=[0, 0]) == "worker has 3 entries, start has 2"
    assert said(worker=[0, 1, 1.5]) == "worker[2] must be an integer, got 1.5"
    assert said(worker=[0, 1, -1]) == "worker[2] must be >= 0, got -1"
    assert said(instance="12") == 'instance must be a digest of 64 hexadecimal digits, got "12"'
    assert said(instance=[1]) == "instance must be a digest of 64 hexadecimal digits, got a list of 1"
    other = inst.replace(output=[3, 2, 2])
    assert said(other, instance=inst.digest()) == (
        f"instance is {inst.digest()[:12]}..., and the instance at hand is {other.digest()[:12]}..."
    )
    assert said(inst.head(2)) == "start has 3 entries, the instance 2 requests"


def test_schedule_names_its_instance(tmp_path):
    inst = Instance([0, 0, 3], [5, 2, 4], [3, 2, 1])
    sched = Schedule([0, 0, 3], [0, 1, 1])
    bro.write_schedule(sched, tmp_path / "s.json", inst)
    assert json.loads((tmp_path / "s.json").read_text())["instance"] == inst.digest()
    assert bro.read_schedule(tmp_path / "s.json", inst) == sched


def test_refuses_paths_that_hold_no_file(tmp_path):
    assert refusal(bro.read_instance, tmp_path / "none.json") == "no such file"
    assert refusal(bro.read_instance, tmp_path) == "is a directory, not a file"
    (tmp_path / "file").write_text("")
    assert refusal(bro.read_instance, tmp_path / "file" / "x") == "Not a directory"
    with pytest.raises(InputError, match=r"^a path must be a string or path-like, got 5$"):
        bro.read_instance(5)
    with pytest.raises(InputError, match=r"^'a\\x00b': embedded null byte$"):
        bro.read_instance("a\0b")


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_mutated_files_are_read_or_refused(tmp_path, data):
    raw = bytearray(json.dumps(GOOD).encode())
    if data.draw(st.booleans()):
        raw = bytearray(gzip.compress(bytes(raw), mtime=0))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(raw) - 1))
        raw[position : position + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"[", b"{", b'"', b"1e9", b"-", b"null", b"\\u"])
        )
        raw = raw or bytearray(b"{")
    path = tmp_path / "x.json"
    path.write_bytes(bytes(raw))
    try:
        inst, _, start = bro.read_problem(path)
    except InputError as error:
        complaint = str(error)
    else:
        assert start is None or len(start) == len(inst)
        return
    assert complaint.startswith(f"{path}: ")
    assert "\n" not in complaint


@given(st.binary(max_size=300))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_random_bytes_are_refused(tmp_path, raw):
    path = tmp_path / "x.json"
    path.write_bytes(raw)
    refusal(bro.read_instance, path)


# --- writing -------------------------------------------------------------------------------------


def test_writer_refuses_starts_that_do_not_fit(tmp_path):
    inst = Instance([0, 0], [5, 2], [3, 2])
    with pytest.raises(InputError, match=r"^start has 1 entries, release has 2$"):
        bro.write_instance(inst, tmp_path / "x.json", start=[0])
    with pytest.raises(InputError, match=r'^start counts steps and needs clock "step"'):
        bro.write_instance(inst.replace(clock="wall"), tmp_path / "x.json", start=[0, 0])
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_kept_unless_forced(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("precious")
    inst = Instance([0], [1], [1])
    message = "exists already; use force=True (--force) to replace it"
    assert refusal(lambda p: bro.write_instance(inst, p), path) == message
    assert refusal(lambda p: bro.write_schedule(Schedule([0], [0]), p), path) == message
    assert refusal(require_writable, path) == message
    assert path.read_text() == "precious"
    bro.write_instance(inst, path, force=True)
    assert bro.read_instance(path) == inst
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_places_that_cannot_be_written(tmp_path):
    assert refusal(require_writable, tmp_path, True) == "is a directory, not a file to write"
    nowhere = tmp_path / "no" / "x.json"
    assert refusal(require_writable, nowhere) == f"cannot be written: {nowhere.parent} is not a folder"
    (tmp_path / "file").write_text("")
    assert refusal(require_writable, tmp_path / "file" / "x").startswith("cannot be written: ")
    os.mkfifo(tmp_path / "pipe")
    assert refusal(require_writable, tmp_path / "pipe", True) == "is not a regular file"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_appears_whole_or_not_at_all(tmp_path, interruption, before):
    path = tmp_path / "x.csv.gz"
    if before is not None:
        path.write_text(before)
    with pytest.raises(interruption), atomic_write(path, force=True) as temporary:  # noqa: PT012
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".csv.gz")
        temporary.write_text("half")
        assert (path.read_text() if path.exists() else None) == before
        raise interruption
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["x.csv.gz"])
    assert before is None or path.read_text() == before


def test_atomic_write_notices_a_file_that_appears_meanwhile(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(InputError, match="exists already"), atomic_write(path) as temporary:  # noqa: PT012
        temporary.write_text("mine")
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_atomic_write_names_the_file_when_the_disk_is_full(tmp_path):
    path = tmp_path / "x"
    with (
        pytest.raises(InputError, match=f"^{re.escape(str(path))}: cannot be written: No space left"),
        atomic_write(path),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError), atomic_write(path):
        (tmp_path / "other").read_text()
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_follows_links_and_keeps_the_umask(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    mask = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "link", force=True) as temporary:
            temporary.write_text("new")
    finally:
        os.umask(mask)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


def test_long_names_can_be_written(tmp_path):
    path = tmp_path / ("n" * 250 + ".json")
    write_json({"a": 1}, path)
    assert read_json(path) == {"a": 1}


def test_texts_that_no_reader_takes_are_not_written(tmp_path):
    path = tmp_path / "x.json"
    message = refusal(lambda p: write_json({"a": "x" * 90}, p, max_bytes=50), path)
    assert message == "102 bytes of JSON, more than 50"
    assert list(tmp_path.iterdir()) == []
