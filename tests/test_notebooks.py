"""Notebooks: kept without outputs, run from a clean kernel, end with something to try.

python tests/test_notebooks.py     strips all of them, after editing

"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def stripped(text: str) -> str:
    """The notebook without outputs, counts and what editors add."""
    notebook = json.loads(text)
    for number, cell in enumerate(notebook["cells"]):
        cell |= {"id": f"cell-{number:02}", "metadata": {}}
        if cell["cell_type"] == "code":
            cell |= {"execution_count": None, "outputs": []}
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def test_all_are_there_and_listed():
    assert [path.name[:2] for path in PATHS] == ["01", "02", "03", "04", "05", "06", "07"]
    listed = (ROOT / "notebooks" / "README.md").read_text()
    assert [path.name for path in PATHS if path.name not in listed] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_kept_without_outputs(path):
    text = path.read_text(encoding="utf-8")
    assert text == stripped(text), "strip it: python tests/test_notebooks.py"
    assert "".join(json.loads(text)["cells"][-1]["source"]).startswith("## Try this")


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_runs_from_a_clean_kernel(path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures go into the notebook
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = {kind for output in outputs for kind in output.get("data", {})}
    assert "text/html" in shown, "nothing is shown as a table"
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert [file for file in tmp_path.iterdir() if not file.name.startswith(".")] == [], "leaves files behind"


if __name__ == "__main__":
    for notebook_path in PATHS:
        notebook_path.write_text(stripped(notebook_path.read_text(encoding="utf-8")), encoding="utf-8")
