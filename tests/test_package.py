"""The package as a whole: cheap to import, versioned once, every public name documented, examples that run."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import itertools
import json
import re
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

import balanceroute_opt as bro

HEAVY = {
    "numba",
    "polars",
    "pyarrow",
    "pandas",
    "matplotlib",
    "ortools",
    "highspy",
    "cvxpy",
    "scipy",
    "sklearn",
    "networkx",
    "joblib",
    "rich",
    "zstandard",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after `code`."""
    report = "; import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_is_cheap():
    loaded = loaded_after("import balanceroute_opt")
    # Not even numpy: names are resolved on first use.
    assert not loaded & (HEAVY | {"numpy"})


@pytest.mark.parametrize(
    "code",
    [
        "import balanceroute_opt as bro; bro.Instance([0], [1], [1]); bro.Cluster(1, 1); bro.check",
        "import balanceroute_opt as bro; bro.read_instance; bro.Schedule",
        "import balanceroute_opt as bro; bro.verify, bro.Bound",
        "import balanceroute_opt as bro; bro.ROUTERS",
        "import balanceroute_opt.cli",
    ],
)
def test_light_parts_stay_light(code):
    package = ROOT / "balanceroute_opt"
    if code.endswith(".cli") and not ((package / "cli.py").exists() or (package / "cli" / "__init__.py").exists()):
        pytest.skip("balanceroute_opt.cli is not there")
    assert not loaded_after(code) & (HEAVY - {"rich"})


def test_version_is_the_changelogs():
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == bro.__version__
    assert len(set(versions)) == len(versions)
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert cited.group(1) == bro.__version__
    assert importlib.metadata.version("balanceroute-opt") == bro.__version__


@pytest.mark.parametrize("name", [n for n in bro.__all__ if n != "__version__"])
def test_public_name_resolves_and_is_documented(name):
    value = getattr(bro, name)
    if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
        assert inspect.getdoc(value), f"{name} has no docstring"
        assert len(inspect.getdoc(value).splitlines()[0]) > 15
    else:
        # A table or constant: the docstring follows it in its module.
        source = inspect.getsource(importlib.import_module(f"balanceroute_opt.{bro._PUBLIC[name]}"))
        assert re.search(rf'^{name}\b.*?^"""', source, re.MULTILINE | re.DOTALL), f"{name} has no docstring"
    assert name in dir(bro)


def test_public_classes_document_their_methods():
    silent = [
        f"{name}.{method}"
        for name in bro._PUBLIC
        if inspect.isclass(cls := getattr(bro, name)) and cls.__module__.startswith("balanceroute_opt")
        for method, value in vars(cls).items()
        if not method.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
        if not inspect.getdoc(getattr(cls, method))
    ]
    assert silent == []


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        bro.nonsense  # noqa: B018


def test_types_are_shipped():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert (ROOT / "balanceroute_opt" / "py.typed").is_file()
    assert "py.typed" in tool["package-data"]["balanceroute_opt"]


def test_dependencies_have_lower_bounds():
    needed = [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]
    others = [item for item in needed if not item.startswith("balanceroute-opt[")]
    assert [item for item in others if not re.fullmatch(r"[\w.-]+(\[\w+\])?>=\d[\w.]*", item)] == []


def test_licence_is_apache():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def links():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                yield pytest.param(page, target, id=f"{page.relative_to(ROOT)}->{target}")


@pytest.mark.parametrize(("page", "target"), list(links()))
def test_links_between_pages_lead_somewhere(page, target):
    assert (page.parent / target).exists()


def blocks():
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [pytest.param(found, id=f"{len(found)}-blocks")] if found else []


@pytest.mark.parametrize("found", blocks())
def test_python_examples_of_the_readme_run(found, tmp_path, monkeypatch):
    # In one namespace and in order, as a reader would type them; files that they name are in the repository.
    monkeypatch.chdir(tmp_path)
    for folder in ("instances", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    namespace = {"__name__": "readme"}
    for number, block in enumerate(found, 1):
        exec(compile(block, f"README.md, python block {number}", "exec"), namespace)
