"""Files of runs: the same run comes back, and what is no run is refused in one line."""

from __future__ import annotations

import contextlib
import gzip
import json
from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest

import balanceroute_opt as bro
from balanceroute_opt.metrics import StepSeries

INST = bro.Instance(release=[0, 0, 1, 9], prompt=[5, 2, 4, 7], output=[3, 2, 1, 2], key=[1, -1, 2, 3], name="four")
CLUSTER = bro.Cluster(workers=2, slots=2, step_time=bro.StepTime(0.01, 1e-6))
WALL = bro.generate("bfio", n=60, seed=3)


class Python:
    """A user's router: its calls are timed."""

    mode = "immediate"

    def bind(self, view, request):
        return int(view.load.argmin())


def runs():
    tight = CLUSTER.replace(slots=8, kv_capacity=60)
    crowd = bro.Instance(release=[0] * 8, prompt=[10] * 8, output=[40] * 8)
    yield "step", bro.simulate(INST, CLUSTER, "jsq")
    yield "wall", bro.simulate(WALL, bro.Cluster(4, 8), "br-0", seed=5, staleness=0.1, optimistic=True)
    yield "preempted", bro.simulate(crowd, tight, "jsq")
    yield "python", bro.simulate(INST, CLUSTER, Python(), seed=None)


RUNS = dict(runs())


def same(a, b):
    assert a.instance == b.instance
    assert a.schedule == b.schedule
    assert (a.cluster, a.router, a.preemptions, a.seed) == (b.cluster, b.router, b.preemptions, b.seed)
    assert (a.staleness, a.optimistic, a.source) == (b.staleness, b.optimistic, b.source)
    assert a.instance.name == b.instance.name
    for name in ("first_start", "remaining", "arrival", "dispatch"):
        mine, other = getattr(a, name), getattr(b, name)
        assert (mine is None) == (other is None), name
        assert mine is None or np.array_equal(mine, other), name
    for field in fields(StepSeries):
        assert np.array_equal(getattr(a.steps, field.name), getattr(b.steps, field.name)), field.name
    np.testing.assert_equal(a.metrics(), b.metrics())


@pytest.mark.parametrize("ending", [".json", ".json.gz", ".parquet"])
@pytest.mark.parametrize("kind", RUNS)
def test_round_trip(tmp_path, kind, ending):
    run = RUNS[kind]
    assert (run.preemptions > 0) == (kind == "preempted")
    path = tmp_path / f"run{ending}"
    bro.write_run(run, path)
    same(bro.read_run(path), run)


def test_parquet_has_a_row_per_request(tmp_path):
    bro.write_run(RUNS["step"], tmp_path / "run.parquet")
    frame = pl.read_parquet(tmp_path / "run.parquet")
    assert frame["prompt"].to_list() == [5, 2, 4, 7]
    assert frame["run"].null_count() == 3
    assert json.loads(frame["run"][0])["router"] == "jsq"


def test_empty_run_is_json_only(tmp_path):
    run = bro.simulate(bro.Instance([], [], []), CLUSTER, "jsq")
    bro.write_run(run, tmp_path / "run.json")
    assert len(bro.read_run(tmp_path / "run.json").instance) == 0
    with pytest.raises(bro.InputError, match=r"has no rows; write it as \.json"):
        bro.write_run(run, tmp_path / "run.parquet")
    assert not (tmp_path / "run.parquet").exists()


def test_existing_file_needs_force(tmp_path):
    path = tmp_path / "run.json"
    bro.write_run(RUNS["step"], path)
    with pytest.raises(bro.InputError, match="exists already"):
        bro.write_run(RUNS["wall"], path)
    bro.write_run(RUNS["wall"], path, force=True)
    same(bro.read_run(path), RUNS["wall"])


def test_ending_decides_the_format(tmp_path):
    with pytest.raises(bro.InputError, match=r"must end in \.json, \.json\.gz, \.parquet"):
        bro.write_run(RUNS["step"], tmp_path / "run.csv")


@pytest.fixture
def data(tmp_path):
    bro.write_run(RUNS["step"], tmp_path / "good.json")
    return json.loads((tmp_path / "good.json").read_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2 is newer"),
        ({"schema": "balanceroute/instance"}, 'schema must be "balanceroute/run"'),
        ({"colour": 1}, 'unknown field "colour"'),
        ({"start": None}, "start must be a list"),
        ({"start": [0, 0, 1]}, "worker has 4 entries, start has 3"),
        ({"worker": [0, 1, True, 0]}, r"worker\[2\] must be an integer, got true"),
        ({"output": [3, 2, 1, 0]}, r"output\[3\] must be >= 1, got 0"),
        ({"first_start": [0, 0, 1]}, "first_start has 3 entries, release has 4"),
        ({"first_start": [0, 0, 1, 8]}, "first_start of request 3 is step 8, which is not among steps.step"),
        ({"start": [0, 0, 1, 2]}, "the last step of request 3 is step 3"),
        ({"remaining": [1, 1, 1, 1]}, "remaining belongs to runs with preemptions"),
        ({"optimistic": 1}, "optimistic must be true or false"),
        ({"seed": -1}, "seed must be >= 0"),
        ({"router": 3}, "router must be a string"),
        ({"steps": {}}, "steps must be an object with the fields step, time"),
        ({"cluster": {"workers": 2}}, "cluster lacks the field 'slots'"),
    ],
)
def test_bad_field_is_named(tmp_path, data, change, message):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data | change))
    with pytest.raises(bro.InputError, match=message) as caught:
        bro.read_run(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("step", [0, 1, 1, 9, 10], r"steps\.step\[2\] = 1 does not come after 1"),
        ("peak", [1, 2], r"steps\.peak has 2 entries, steps\.step has 5"),
        ("least", [-1, 0, 0, 0, 0], r"steps\.least\[0\] must be >= 0"),
    ],
)
def test_bad_series_is_named(tmp_path, data, name, values, message):
    data["steps"][name] = values
    (tmp_path / "bad.json").write_text(json.dumps(data))
    with pytest.raises(bro.InputError, match=message):
        bro.read_run(tmp_path / "bad.json")


def test_broken_files(tmp_path):
    bro.write_run(RUNS["wall"], tmp_path / "run.json.gz")
    bro.write_run(RUNS["wall"], tmp_path / "run.parquet")
    cut = tmp_path / "cut.json.gz"
    cut.write_bytes((tmp_path / "run.json.gz").read_bytes()[:-20])
    with pytest.raises(bro.InputError, match="not a complete gzip file"):
        bro.read_run(cut)
    whole = (tmp_path / "run.parquet").read_bytes()
    bad = tmp_path / "bad.parquet"
    for content in (b"", b"PAR1" + bytes(200), whole[:-100], gzip.compress(b"x")):
        bad.write_bytes(content)
        with pytest.raises(bro.InputError, match="not a Parquet file of a run"):
            bro.read_run(bad)
    with pytest.raises(bro.InputError, match="no such file"):
        bro.read_run(tmp_path / "none.parquet")
    with pytest.raises(bro.InputError, match="is a directory"):
        bro.read_run(tmp_path)


def test_mutated_parquet_is_a_typed_error(tmp_path):
    bro.write_run(RUNS["step"], tmp_path / "run.parquet")
    whole = bytearray((tmp_path / "run.parquet").read_bytes())
    rng = np.random.default_rng(0)
    path = tmp_path / "bad.parquet"
    for _ in range(60):
        changed = whole.copy()
        for at in rng.integers(0, len(whole), 3):
            changed[at] = int(rng.integers(256))
        path.write_bytes(changed)
        with contextlib.suppress(bro.InputError):  # a change of a value that is allowed is no error
            bro.read_run(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("run"), "no text column run"),
        (lambda f: f.drop("steps.peak"), "steps must be an object"),
        (lambda f: f.with_columns(pl.col("start").cast(pl.Float64)), "column start must have the type Int64"),
        (lambda f: f.with_columns(pl.when(pl.col("prompt") > 4).then("prompt")), "column prompt has 2 empty entries"),
        (lambda f: f.with_columns(run=pl.lit("{")), "column run, first row: not JSON"),
        (lambda f: f.with_columns(run=pl.lit("[]")), "must hold one JSON object"),
        (lambda f: f.with_columns(colour=pl.lit(1, pl.Int64)), 'unknown field "colour"'),
    ],
)
def test_changed_parquet_is_refused(tmp_path, change, message):
    path = tmp_path / "run.parquet"
    bro.write_run(RUNS["step"], path)
    change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(bro.InputError, match=message):
        bro.read_run(path)


def test_run_is_as_good_as_the_one_in_memory(tmp_path):
    run = RUNS["wall"]
    bro.write_run(replace(run, router="mine"), tmp_path / "run.parquet")
    back = bro.read_run(tmp_path / "run.parquet")
    bro.check(back.instance, back.cluster, back.schedule)
    bound = bro.placement_bound(back.instance, back.cluster, back.schedule.start)
    assert bro.hindsight_ratio(back, bound) == bro.hindsight_ratio(run, bound)
    assert back.router == "mine"
