"""Brackets: sandwiched, saved so that they can be checked again, and the same after kills and on an engine."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.cli import main
from balanceroute_opt.experiments.engine import complete

CLUSTER = bro.Cluster(workers=3, slots=6)
LENGTHS = {"prompt_mu": 6.5, "prompt_sigma": 0.9, "output_mu": 2.8, "output_sigma": 0.7}
OPTIONS = ["--routers", "least-kv,br-0,jsq", "--moves", "20000", "--iterations", "10", "--json"]


def problem(clock: str, load: float) -> bro.Instance:
    inst = bro.generate("poisson-lognormal", n=150, seed=1, rate=1.0, clock=clock, **LENGTHS)
    return inst.scaled_to(CLUSTER, load)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    bro.write_instance(problem("wall", 0.9), tmp_path / "i.json", cluster=CLUSTER)
    return ["bracket", str(tmp_path / "i.json"), *OPTIONS]


@pytest.mark.parametrize("load", [0.6, 1.2])
@pytest.mark.parametrize("clock", ["step", "wall"])
def test_bounds_best_known_and_routers_are_in_order(clock: str, load: float, tmp_path: Path, capsys) -> None:
    inst = problem(clock, load)
    found = bro.bracket(inst, CLUSTER, "least-kv,br-0,jsq,random", moves=30_000, iterations=15)
    assert {row["router"] for row in found.rows} == {"least-kv", "br-0", "jsq", "random"}
    for p in found.problems:
        costs = [row["peak_sum"] for row in found.rows if row["router"] in p.routers]
        times = [row["decode_time"] for row in found.rows if row["router"] in p.routers]
        assert p.bound <= p.best_peak_sum <= min(costs)
        assert p.time_bound <= p.best_decode_time <= min(times)
        assert bro.verify(p.instance, CLUSTER, p.certificate) == p.bound
        bro.check(p.instance, CLUSTER, p.best)
        np.testing.assert_array_equal(p.best.start, p.start)
        assert (p.quickest.start <= p.start).all()
        if set(p.routers) <= {"least-kv", "br-0"}:  # work-conserving: nobody can start earlier
            assert p.time_bound_method == "forced"
    for row in found.rows:
        assert 0 <= row["above_best"] <= row["above_bound"]
        assert 0 <= row["time_above_best"] <= row["time_above_bound"]
        if clock == "wall":
            assert row["makespan"] >= found.makespan_bound.value * (1 - 1e-12)
            assert row["makespan_above_bound"] >= 0
    assert max(map(len, str(found).splitlines())) <= 100
    found.save(tmp_path / "out")
    assert main(["check", str(tmp_path / "out"), "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    others = sum(p.quickest is not p.best for p in found.problems)
    assert len(checks) == len(found.rows) + len(found.problems) + others + (clock == "wall")
    assert all(len(c["certificates"]) == (1 if "makespan" in c["file"] else 2) for c in checks)


@pytest.mark.parametrize("windows", ["max_wait=8", "latest=deferral", "none"])
def test_common_windows_set_every_router_beside_one_optimum(windows: str, tmp_path: Path, capsys) -> None:
    inst = problem("step", 0.6)
    found = bro.bracket(inst, CLUSTER, "least-kv,br-0,deferral,jsq", moves=30_000, iterations=15, windows=windows)
    w = found.windowed
    starts = {row["router"]: found.schedules[row["router"]].start for row in found.rows}
    last = {"max_wait=8": inst.release + 8, "latest=deferral": starts["deferral"]}.get(windows)
    assert set(w.inside) == {name for name, start in starts.items() if last is None or (start <= last).all()}
    assert w.bound <= w.best_decode_time == bro.decode_time(inst, CLUSTER, w.best)
    assert bro.verify(inst, CLUSTER, w.certificate) == w.bound
    bro.check(inst, CLUSTER, w.best)
    assert last is None or (w.best.start <= last).all()
    for row in found.rows:
        assert row["in_windows"] == (row["router"] in w.inside)
        assert row["time_above_bound"] == row["decode_time"] / w.bound - 1
        if row["in_windows"]:
            assert 0 <= row["time_above_best"] <= row["time_above_bound"]
    assert all(p.time_bound is None for p in found.problems)
    text = str(found)
    assert f"Schedules, {windows}: best" in text
    assert ("outside" in text) == (len(w.inside) < len(found.rows))
    assert max(map(len, text.splitlines())) <= 100
    found.save(tmp_path / "out")
    assert main(["check", str(tmp_path / "out"), "--json"]) == 0
    assert any("windows" in c["file"] for c in json.loads(capsys.readouterr().out)["checks"])


@pytest.mark.parametrize("load", [0.6, 0.8, 1.1])
@pytest.mark.parametrize(
    "name",
    ["azure_2023_conv", "azure_2023_code", "mooncake_conversation", "burstgpt_1_first400", "burstgpt_3_first400"],
)
def test_public_traces_are_sandwiched(name: str, load: float, traces: Path) -> None:
    cluster = bro.Cluster(workers=3, slots=8)
    inst = bro.read_trace(traces / f"{name}.csv.gz").head(200).scaled_to(cluster, load)
    found = bro.bracket(inst, cluster, "least-kv,br-0,jsq,deferral", moves=20_000, iterations=5)
    assert len(found.rows) == 4
    for p in found.problems:
        assert bro.verify(p.instance, cluster, p.certificate) == p.bound <= p.best_peak_sum
        bro.check(p.instance, cluster, p.best)
        assert bro.peak_sum(p.instance, cluster, p.best) == p.best_peak_sum
        for row in (row for row in found.rows if row["router"] in p.routers):
            assert p.best_peak_sum <= row["peak_sum"]
            assert p.time_bound <= p.best_decode_time <= row["decode_time"]


def test_idle_processes_become_threads_of_timed_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(function, tasks, *engine):
        seen.extend(arguments for arguments in tasks.values() if arguments[0] == "search")
        return complete(function, tasks)

    monkeypatch.setattr("balanceroute_opt.experiments.bracket.complete", look)
    inst = problem("step", 1.2).head(40)
    for options in ({"minutes": 0.001}, {"minutes": 0.001, "restarts": 2}, {"moves": 1000}):
        bro.bracket(inst, CLUSTER, "least-kv", schedule=False, jobs=3, **options)
    assert [arguments[-1] for arguments in seen] == [3, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"minutes": 0}, "minutes"),
        ({"moves": 0}, "moves must be >= 1"),
        ({"restarts": 0}, "restarts must be >= 1"),
        ({"bounds": ["itm"]}, "unknown method 'itm'"),
        ({"jobs": 0}, "jobs must be >= 1, or -1"),
        ({"routers": "jsk"}, "unknown router 'jsk'"),
        ({"routers": [bro.routers.BR0()]}, "routers by text"),
        ({"cluster": bro.Cluster(3, 6, kv_capacity=10**6)}, "without a KV capacity"),
        ({"backend": "nowhere", "moves": 10}, "backend 'nowhere' cannot be used"),
        ({"scheduler": "tcp://x:1", "moves": 10}, "belongs to the backends dask and ray"),
        ({"windows": "max_wait=-1", "moves": 10}, "windows must be own, max_wait=STEPS"),
        ({"windows": "latest=br-0", "moves": 10}, "a router of the bracket"),
        ({"windows": "none", "schedule": False}, "common windows are for schedules"),
        ({"windows": "none", "inst": problem("wall", 0.6)}, "on the step clock"),
        ({"windows": "max_wait=0", "inst": problem("step", 1.5), "moves": 10}, "no run keeps these windows"),
    ],
)
def test_bad_brackets_are_refused(options: dict, words: str) -> None:
    arguments = {"inst": problem("step", 0.6).head(20), "cluster": CLUSTER, "routers": "jsq"} | options
    with pytest.raises(bro.InputError, match=words):
        bro.bracket(**arguments)


def test_a_second_start_computes_nothing(command: list[str], tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "out")
    assert main([*command, "-o", out]) == 0
    first = capsys.readouterr().out
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "tasks").glob("*.json")}
    assert main([*command, "-o", out]) == 0
    assert capsys.readouterr().out == first
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "tasks").glob("*.json")} == before


def test_a_folder_of_something_else_is_left_alone(command: list[str], tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main([*command, "-o", str(tmp_path)]) == 2
    assert "is not empty and not of a bracket" in capsys.readouterr().err


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_bracket_ends_as_an_unbroken_one(kills: int, command: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "balanceroute_opt", *command]
    whole = subprocess.run([*command, "-o", str(tmp_path / "a")], check=True, capture_output=True).stdout
    rng = random.Random(kills)
    for _ in range(kills):
        process = subprocess.Popen(
            [*command, "-o", str(tmp_path / "b")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(0.5 + rng.random())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    again = subprocess.run([*command, "-o", str(tmp_path / "b")], check=True, capture_output=True).stdout
    assert json.loads(again) == json.loads(whole)


def _slow_square(x: int) -> int:
    time.sleep(0.2)
    return x * x


def test_a_killed_dask_worker_loses_nothing() -> None:
    distributed = pytest.importorskip("distributed", reason="needs dask[distributed]")
    inst = problem("step", 0.9).head(60)
    options = {"routers": "least-kv,br-0,jsq", "moves": 5_000, "iterations": 5}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as engine:
        finished = [0]

        def kill() -> None:
            while finished[0] < 3:
                time.sleep(0.02)
            os.kill(next(iter(engine.workers.values())).pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        tasks = {str(i): (i,) for i in range(16)}

        def count(done: int, total: int) -> None:
            finished[0] = done

        results = complete(_slow_square, tasks, None, 2, "dask", engine.scheduler_address, count)
        killer.join()
        assert results == {str(i): i * i for i in range(16)}
        there = bro.bracket(inst, CLUSTER, jobs=2, backend="dask", scheduler=engine.scheduler_address, **options)
    assert there.to_json() == bro.bracket(inst, CLUSTER, **options).to_json()


@pytest.mark.slow
def test_ray_gives_the_same() -> None:
    pytest.importorskip("ray")
    inst = problem("step", 0.9).head(60)
    options = {"routers": "least-kv,br-0", "moves": 5_000, "iterations": 5}
    there = bro.bracket(inst, CLUSTER, jobs=2, backend="ray", **options)
    assert there.to_json() == bro.bracket(inst, CLUSTER, **options).to_json()
