"""Studies: the file, the grid, and that a killed run ends as an unbroken one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

import balanceroute_opt as bro
from balanceroute_opt.cli import main

STUDY = """\
routers = ["jsq", "br-0", "po2"]
seeds = 2
utilizations = [0.8, 1.1]
[[workloads]]
generate = "bfio"
n = 300
[[clusters]]
workers = 3
slots = 8
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def rows(path):
    return pl.read_csv(path).drop("seconds", "bound_seconds")


def test_grid_and_values(study, tmp_path, capsys):
    assert main(["run", str(study), "-o", str(tmp_path / "a.csv")]) == 0
    assert "12 runs" in capsys.readouterr().out
    table = rows(tmp_path / "a.csv")
    assert table.height == 12
    first = table.row(0, named=True)
    cluster = bro.Cluster(workers=3, slots=8)
    inst = bro.generate("bfio", n=300, seed=first["seed"]).scaled_to(cluster, utilization=first["offered"])
    run = bro.simulate(inst, cluster, first["router"], seed=first["seed"])
    assert first["peak_sum"] == run.peak_sum
    assert first["bound_item"] == bro.placement_bound(run.instance, cluster, run.schedule.start, method="item").value


def interrupted(study, table, kills, seed):
    """Run the study in processes that are killed at random moments, then to the end."""
    rng = random.Random(seed)
    command = [sys.executable, "-m", "balanceroute_opt", "run", str(study), "-o", str(table)]
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5 + rng.random())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_study_ends_as_an_unbroken_one(study, tmp_path, kills):
    assert main(["run", str(study), "-o", str(tmp_path / "a.csv")]) == 0
    interrupted(study, tmp_path / "b.csv", kills, seed=kills)
    assert rows(tmp_path / "a.csv").equals(rows(tmp_path / "b.csv"))


def test_a_second_start_computes_nothing_and_a_grown_study_only_what_is_new(study, tmp_path):
    table = tmp_path / "a.csv"
    assert main(["run", str(study), "-o", str(table)]) == 0
    store = tmp_path / "a.csv.rows"
    before = {p.name: p.stat().st_mtime_ns for p in store.glob("*.json")}
    study.write_text(STUDY.replace("seeds = 2", "seeds = 3"))
    assert main(["run", str(study), "-o", str(table)]) == 0
    after = {p.name: p.stat().st_mtime_ns for p in store.glob("*.json")}
    assert len(after) == 18
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds = 2", "seed = 2"), "unknown field 'seed'"),
        (('"jsq"', '"jsk"'), "unknown router 'jsk'; did you mean jsq"),
        (("seeds = 2", "seeds = 0"), "seeds must be >= 1, got 0"),
        (("0.8", "-0.8"), "utilizations"),
        (('"bfio"', '"bfoi"'), "unknown generator 'bfoi'; did you mean bfio"),
        (("workers = 3", "workers = 0"), "workers must be >= 1, got 0"),
        (("[[clusters]]", "[clusters"), "study.toml"),
    ],
)
def test_bad_studies(study, tmp_path, capsys, change, message):
    study.write_text(STUDY.replace(*change))
    assert main(["run", str(study), "-o", str(tmp_path / "a.csv")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "a.csv").exists()


def test_bad_outputs(study, tmp_path, capsys):
    assert main(["run", str(study), "-o", str(tmp_path / "a.txt")]) == 2
    assert main(["run", str(tmp_path / "none.toml"), "-o", str(tmp_path / "a.csv")]) == 2
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    assert main(["run", str(study), "-o", str(tmp_path / "mine.csv")]) == 2
    assert (tmp_path / "mine.csv").read_text() == "a,b\n1,2\n"
    assert capsys.readouterr().err.count("\n") == 3
