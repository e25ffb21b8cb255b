"""The figures' command, in smoke size: every figure, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import balanceroute_opt as bro
from balanceroute_opt.cli import main
from balanceroute_opt.cli.figures import _package
from balanceroute_opt.experiments import engine
from balanceroute_opt.experiments.prediction import with_keys
from balanceroute_opt.predictors import PREDICTORS, split
from balanceroute_opt.routers import BRH

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("matplotlib")


def test_smoke_makes_every_table_and_picture(capsys):
    pytest.importorskip("ortools")
    assert main(["figures", "--all", "--smoke", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["made"]
    assert main(["figures"]) == 0
    assert [entry["figure"] for entry in made] == capsys.readouterr().out.split()
    for entry in made:
        table, png, pdf = map(Path, entry["files"])
        assert table.parent == ROOT / "paper_figures" / "out" / "smoke"
        assert 0 < table.stat().st_size < 200_000
        assert png.read_bytes().startswith(b"\x89PNG")
        assert pdf.read_bytes().startswith(b"%PDF")
    assert main(["figures", "trajectory", "--smoke", "--plot"]) == 0


def test_rows_that_are_finished_are_not_computed_again(monkeypatch):
    assert main(["figures", "scaling", "--smoke"]) == 0
    asked = []
    computed = engine._computed
    monkeypatch.setattr(
        engine, "_computed", lambda function, tasks, *rest: asked.append(len(tasks)) or computed(function, tasks, *rest)
    )
    assert main(["figures", "scaling", "--smoke"]) == 0
    assert asked
    assert not any(asked)


def test_every_figure_is_in_the_readme_and_in_the_gallery_with_its_committed_files(capsys):
    assert main(["figures"]) == 0
    names = capsys.readouterr().out.split()
    folder = ROOT / "paper_figures"
    readme, gallery = (path.read_text() for path in (folder / "README.md", ROOT / "docs" / "figures.md"))
    assert re.findall(r"^\| `([\w-]+)` \|", readme, re.MULTILINE) == names
    for name in names:
        assert (folder / f"{name.replace('-', '_')}.py").is_file()
        assert f"](../paper_figures/figures/{name}.png)" in gallery
        for file, most in (("data/{}.csv", 200_000), ("figures/{}.png", 200_000), ("figures/{}.pdf", 100_000)):
            assert 0 < (folder / file.format(name)).stat().st_size < most


def test_the_ladder_asks_a_predictor_beforehand_and_gets_the_same_run():
    pytest.importorskip("sklearn")
    _package()
    from paper_figures.information import _Asked

    cluster = bro.Cluster(workers=3, slots=12)
    inst = bro.generate("poisson-lognormal", n=500, seed=2)
    known, later = split(with_keys(inst)[0], 0.5)
    later = later.scaled_to(cluster, utilization=1.0)
    asked = BRH(H=20, predictor=PREDICTORS["fitted"](known, 20))
    plain = bro.simulate(later, cluster, asked)
    asked.predictor = _Asked(asked.predictor, later, 20)
    run = bro.simulate(later.replace(key=np.arange(len(later))), cluster, asked)
    assert (run.schedule.worker == plain.schedule.worker).all()
    assert (run.schedule.start == plain.schedule.start).all()


def test_a_rung_of_the_ladder_is_never_above_the_one_before():
    _package()
    from paper_figures import information

    rows = [
        {"rule": rule, "seed": seed, "excess": value + 0.01 * seed}
        for rule, value in (
            ("round-robin", 0.2),
            ("jsq", 0.3),
            ("least-kv", 0.1),
            ("br-0", 0.15),
            ("br-h/20 true", 0.05),
            ("bf-io/20 true", 0.06),
            ("deferral", 0.04),
            ("best known, at once", 0.02),
        )
        for seed in (1, 0)
    ]
    found = information.rungs(pl.DataFrame(rows))
    assert [found[what][0] for what in ("nothing", "counts", "loads", "prompts", "survival", "true", "wait")] == [
        "round-robin", "round-robin", "least-kv", "least-kv", "least-kv", "br-h/20 true", "deferral",
    ]  # fmt: skip
    assert found["true"][1]["seed"].to_list() == [0, 1]
    assert "best known, at once" in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "unknown figure 'nothing'"),
        (["trajectory", "--all"], "not both"),
        (["trajectory", "--jobs", "0"], "--jobs must be"),
    ],
)
def test_bad_arguments(capsys, arguments, message):
    assert main(["figures", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
