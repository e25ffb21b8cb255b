"""What a study's table says: means over seeds with intervals, and paired differences between routers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..evaluation.intervals import mean_and_half_width
from .specs import nearest

if TYPE_CHECKING:
    import polars as pl

__all__ = ["CELL", "paired", "summary"]

CELL = (
    "workload", "clock", "training", "workers", "slots", "kv_capacity", "step_fixed", "step_per_token",
    "step_per_mean_token", "offered", "staleness", "optimistic", "window",
)  # fmt: skip
"""Columns that say what a run was, apart from router and seed: runs that agree in them are compared."""


def summary(table: pl.DataFrame, metrics: Sequence[str] = ("excess",), level: float = 0.95) -> pl.DataFrame:
    """Means over the seeds of every cell and router, in the order of the table.

    Parameters
    ----------
    table : polars.DataFrame
        Of :func:`~balanceroute_opt.experiments.study.run_study`.
    metrics : sequence of str
        Numeric columns.
    level : float
        Of the intervals.

    Returns
    -------
    polars.DataFrame
        The cell's columns, ``router``, ``runs``, and per metric its mean and ``<metric>_half_width``, half of Student's
        t-interval; null for a single run, which says nothing about its spread.

    Raises
    ------
    InputError
        If a column is missing.
    """
    import polars as pl

    _require(table, [*CELL, "router", *metrics])
    rows = []
    for part in table.partition_by([*CELL, "router"], maintain_order=True):
        row = {name: part[name][0] for name in (*CELL, "router")} | {"runs": len(part)}
        for metric in metrics:
            row[metric], row[f"{metric}_half_width"] = _interval(part[metric].to_list(), level)
        rows.append(row)
    floats = {name: pl.Float64 for metric in metrics for name in (metric, f"{metric}_half_width")}
    types = {name: table.schema[name] for name in (*CELL, "router")}
    return pl.DataFrame(rows, schema={**types, "runs": pl.Int64, **floats}, orient="row")


def paired(
    table: pl.DataFrame, metric: str = "excess", baseline: str | None = None, level: float = 0.95
) -> pl.DataFrame:
    """Differences to a router on the same seeds: what remains when the luck of the draw is taken out.

    Parameters
    ----------
    table : polars.DataFrame
    metric : str
    baseline : str, optional
        Router; by default the first one of the table.
    level : float

    Returns
    -------
    polars.DataFrame
        The cell's columns, ``router``, ``baseline``, ``pairs``, ``difference`` (mean of router minus baseline) and
        ``half_width`` (null for one pair). A router that draws nothing on a fixed trace has one run, which stands for
        every seed; two such routers make one pair.

    Raises
    ------
    InputError
        If a column or the baseline is missing.
    """
    import polars as pl

    _require(table, [*CELL, "router", "seed", "repeated", metric])
    known = table["router"].unique(maintain_order=True).to_list()
    if baseline is None:
        baseline = known[0]
    if baseline not in known:
        raise InputError(f"no router {baseline!r}{nearest(baseline, known)}; routers: {', '.join(known)}")
    rows = []
    for cell in table.partition_by(list(CELL), maintain_order=True):
        runs = {
            part["router"][0]: (dict(zip(part["seed"], part[metric], strict=True)), bool(part["repeated"][0]))
            for part in cell.partition_by("router", maintain_order=True)
        }
        if baseline not in runs:
            continue
        for router, own in runs.items():
            if router == baseline:
                continue
            differences = [a - b for a, b in _pairs(own, runs[baseline])]
            mean, half = _interval(differences, level)
            row = {name: cell[name][0] for name in CELL}
            rows.append(
                row
                | {"router": router, "baseline": baseline, "pairs": len(differences)}
                | {"difference": mean, "half_width": half}
            )
    types = {name: table.schema[name] for name in CELL}
    types |= {"router": pl.String(), "baseline": pl.String(), "pairs": pl.Int64()}
    return pl.DataFrame(rows, schema={**types, "difference": pl.Float64, "half_width": pl.Float64}, orient="row")


def _pairs(a: tuple[dict[int, Any], bool], b: tuple[dict[int, Any], bool]) -> Iterator[tuple[float, float]]:
    (own, own_repeated), (base, base_repeated) = a, b
    seeds = [s for s in own if s in base] if own_repeated == base_repeated else list(own if own_repeated else base)
    for seed in seeds:
        x = own[seed] if own_repeated or not base_repeated else next(iter(own.values()))
        y = base[seed] if base_repeated or not own_repeated else next(iter(base.values()))
        if x is not None and y is not None:
            yield x, y


def _interval(values: Sequence[Any], level: float) -> tuple[float | None, float | None]:
    """Mean and half width; None where there is none."""
    known = [float(value) for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None, None
    mean, half = mean_and_half_width(known, level)
    return mean, None if math.isnan(half) else half


def _require(table: pl.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in table.columns:
            raise InputError(f"the table has no column {name!r}{nearest(name, table.columns)}")
