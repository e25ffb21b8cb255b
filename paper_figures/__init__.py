"""The figures: one module each, with ``generate(size)`` (slow, resumable: a table) and ``plot(table)`` (seconds).

``balanceroute figures`` calls :func:`make`. Tables of the full size lie in ``data/``, pictures in ``figures/``, both
committed; ``out/`` holds finished rows, and everything of ``--smoke``.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from balanceroute_opt import InputError
from balanceroute_opt.experiments.store import RowStore
from balanceroute_opt.files import atomic_write

from .common import Size, tidy

HERE = Path(__file__).resolve().parent
FIGURES = (
    "trajectory", "published", "scaling", "hindsight", "brackets", "stickiness", "load-sweep", "deferral",
    "information", "horizon", "predictors", "staleness", "solvers", "worst-case", "dispatch", "energy",
)  # fmt: skip
"""In the order of the README."""
MAX_TABLE = 200_000
"""Bytes of a committed table."""


def make(
    name: str,
    *,
    smoke: bool = False,
    jobs: int = 1,
    plot_only: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], float]:
    """Make one figure.

    Parameters
    ----------
    name : str
        One of :data:`FIGURES`.
    smoke : bool
        Minutes become seconds: generators in place of traces, small sizes; written to ``out/smoke``.
    jobs : int
    plot_only : bool
        Draw the table that exists.
    force : bool
        Forget finished rows.
    progress : callable, optional

    Returns
    -------
    files : list of Path
        Table, PNG, PDF, and the page that a figure may write.
    seconds : float

    Raises
    ------
    InputError
        For an unknown name, a missing trace, or `plot_only` without a table.
    """
    import matplotlib
    import polars as pl

    matplotlib.use("Agg")
    from . import style

    if name not in FIGURES:
        raise InputError(f"unknown figure {name!r}; figures: {', '.join(FIGURES)}")
    begin = time.perf_counter()
    module: Any = importlib.import_module(f".{name.replace('-', '_')}", __name__)
    out = HERE / "out"
    data, pictures = (out / "smoke", out / "smoke") if smoke else (HERE / "data", HERE / "figures")
    for folder in (data, pictures, out / "rows"):
        folder.mkdir(parents=True, exist_ok=True)
    path = data / f"{name}.csv"
    if plot_only and not path.is_file():
        raise InputError(f"{path}: no such table; make it first, without --plot")
    if not plot_only:
        store = out / "rows" / (f"smoke-{name}" if smoke else name)
        if force:
            kept = RowStore(store)
            with kept.lock():
                kept.clear()
        table = tidy(module.generate(Size(smoke, jobs, store, progress)))
        with atomic_write(path, force=True) as temporary:
            table.write_csv(temporary)
            if os.path.getsize(temporary) > MAX_TABLE:
                raise InputError(f"{path}: the table has more than {MAX_TABLE:,} bytes")
    drawn = pl.read_csv(path, infer_schema_length=None)
    empty = [column for column in drawn.columns if drawn[column].null_count() == len(drawn)]
    drawn = drawn.with_columns(pl.col(empty).cast(pl.Float64))  # a column without values reads as text
    files = [path, *(pictures / f"{name}.{kind}" for kind in ("png", "pdf"))]
    with style.applied():
        style.save(module.plot(drawn), files[1:])
    if hasattr(module, "page") and not smoke:
        files.append(module.page(drawn))
    return files, time.perf_counter() - begin
