"""The figures' command, in smoke size: every figure, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from balanceroute_opt.cli import main
from balanceroute_opt.experiments import engine

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
