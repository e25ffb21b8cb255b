"""Imports inside the package point down, and only where this map lets them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import balanceroute_opt

# From the bottom up. A module (or package) may import those of lower rows, at most. One that is not
# here fails the test: place it on purpose. Rows may name modules that are not written yet.
LAYERS = (
    ("errors",),
    ("_validate", "_jit"),
    ("steptime",),
    ("instance",),
    ("schedule",),
    ("files",),
    ("traces", "predictors", "certificates", "metrics", "_servegen"),
    ("generators", "routers", "logs"),
    ("simulator", "oracles"),
    ("evaluation",),
    ("experiments", "plotting"),
    ("worstcase",),
    ("report", "library"),
    ("cli",),
    ("__main__",),
)
_VALUES = {"errors", "_validate", "_jit", "steptime", "instance"}
# Stricter than their row: routers get no way to the future, certificates can be checked by reading
# little, metrics and evaluation work on anybody's results. Simulator and oracles share a row, so
# neither imports the other: their agreement is evidence.
ONLY = {
    "predictors": _VALUES,
    "routers": _VALUES | {"predictors"},
    "metrics": _VALUES | {"schedule"},
    "certificates": _VALUES | {"schedule", "files"},
    "simulator": _VALUES | {"schedule", "files", "predictors", "metrics", "routers"},
    "oracles": _VALUES | {"schedule", "files", "certificates"},
    "evaluation": _VALUES | {"schedule", "files", "metrics", "certificates"},
    # Rows are verified without a solver; the simulator makes a recipe's starts again.
    "library": _VALUES | {"schedule", "files", "certificates", "traces", "generators", "simulator", "experiments"},
}
# Modules that may go through the public API, `import balanceroute_opt`, as a user would.
PUBLIC_API = {"experiments", "plotting", "worstcase", "report", "cli", "__main__"}
# What certificates and the checker may take from outside the standard library.
PLAIN = {"schedule": {"numpy"}, "certificates": {"numpy"}, "files": {"numpy"}, "instance": {"numpy"}}

PACKAGE = Path(balanceroute_opt.__file__).parent
ROW = {name: row for row, names in enumerate(LAYERS) for name in names}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name != "__init__.py")


def component(path: Path) -> str:
    """First part of a module's name below the package: ``routers`` for ``routers/kernels/br.py``."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """All statements, also those inside functions, but not those for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield other
                yield from statements(other)
            continue
        if isinstance(node, ast.stmt):
            yield node
        yield from statements(node)


def imports(path: Path, source: str) -> Iterator[tuple[str, str]]:
    """(absolute module, imported name or "") of every import statement; relative ones resolved."""
    package = ("balanceroute_opt", *path.relative_to(PACKAGE).parent.parts)
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            yield from ((module, alias.name) for alias in node.names)


def problems(path: Path, source: str) -> list[str]:
    mine = component(path)
    if mine not in ROW:
        return [f"{mine} is not in LAYERS: place it"]
    found = []
    for module, name in imports(path, source):
        parts = module.split(".")
        if parts[0] != "balanceroute_opt":
            plain = PLAIN.get(mine)
            if plain is not None and parts[0] not in plain and parts[0] not in sys.stdlib_module_names:
                found.append(f"{mine} imports {module}")
            continue
        if len(parts) == 1 and name not in ROW:
            if name != "__version__" and mine not in PUBLIC_API:
                found.append(f"{mine} imports the public API ({name or module})")
            continue
        other = parts[1] if len(parts) > 1 else name
        if other == mine:
            continue
        if other not in ROW:
            found.append(f"{mine} imports {other}, which is not in LAYERS")
        elif ROW[other] >= ROW[mine]:
            found.append(f"{mine} imports {other}, which is not below it")
        elif mine in ONLY and other not in ONLY[mine]:
            found.append(f"{mine} imports {other}; it may import {', '.join(sorted(ONLY[mine]))}")
        elif mine == "cli" and name.startswith("_") and name != "__version__":
            found.append(f"cli imports the private name {module}.{name}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    assert problems(path, path.read_text()) == []


@pytest.mark.parametrize(
    ("where", "source", "complaint"),
    [
        ("schedule.py", "from .simulator import simulate", "schedule imports simulator, which is not below it"),
        ("schedule.py", "import numba", "schedule imports numba"),
        ("schedule.py", "def f():\n    from . import oracles", "schedule imports oracles, which is not below it"),
        ("oracles/x.py", "from ..simulator.run import Run", "oracles imports simulator, which is not below it"),
        ("simulator/x.py", "import balanceroute_opt.oracles.bounds", "simulator imports oracles, which"),
        ("routers/x.py", "from ..schedule import Schedule", "routers imports schedule; it may import"),
        ("routers/kernels/x.py", "from ...traces import y", "routers imports traces; it may import"),
        (
            "certificates/x.py",
            "try:\n    import highspy\nexcept ImportError:\n    pass",
            "certificates imports highspy",
        ),
        ("evaluation/x.py", "from ..simulator import Run", "evaluation imports simulator; it may import"),
        ("traces/x.py", "import balanceroute_opt as bro", "traces imports the public API"),
        ("cli/x.py", "from ..files import _named", "cli imports the private name"),
        ("surprise.py", "", "surprise is not in LAYERS: place it"),
        ("cli/x.py", "from ..surprise import y", "cli imports surprise, which is not in LAYERS"),
    ],
)
def test_the_test_sees_a_wrong_arrow(where, source, complaint):
    found = problems(PACKAGE / where, source)
    assert len(found) == 1
    assert found[0].startswith(complaint)


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("oracles/x.py", "from __future__ import annotations\nimport highspy\nfrom ..certificates import Bound"),
        ("routers/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..simulator import Run"),
        ("certificates/x.py", "from .. import __version__\nimport json"),
        ("routers/x.py", "from .kernels import pool\nfrom . import br"),
        ("cli/x.py", "import balanceroute_opt as bro\nfrom .. import simulate\nfrom ..oracles import bounds"),
    ],
)
def test_the_test_lets_right_arrows_pass(where, source):
    assert problems(PACKAGE / where, source) == []


def test_map_is_consistent():
    assert sum(map(len, LAYERS)) == len(ROW), "a module stands in two rows"
    for name, others in ONLY.items():
        assert all(ROW[other] < ROW[name] for other in others), name
