"""The figures' command, in smoke size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balanceroute_opt.cli import main

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("matplotlib")


def test_smoke_makes_table_and_pictures_and_plots_again(capsys):
    assert main(["figures", "trajectory,load-sweep", "--smoke", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["made"]
    assert [entry["figure"] for entry in made] == ["trajectory", "load-sweep"]
    for entry in made:
        table, png, pdf = map(Path, entry["files"])
        assert table.parent == ROOT / "paper_figures" / "out" / "smoke"
        assert 0 < table.stat().st_size < 200_000
        assert png.read_bytes().startswith(b"\x89PNG")
        assert pdf.read_bytes().startswith(b"%PDF")
    assert main(["figures", "trajectory", "--smoke", "--plot"]) == 0


def test_every_figure_is_there_and_in_the_readme(capsys):
    assert main(["figures"]) == 0
    names = capsys.readouterr().out.split()
    readme = (ROOT / "paper_figures" / "README.md").read_text()
    for name in names:
        assert (ROOT / "paper_figures" / f"{name.replace('-', '_')}.py").is_file()
        assert f"| `{name}` |" in readme


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
