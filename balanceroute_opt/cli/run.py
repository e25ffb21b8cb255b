"""``balanceroute run``: a study from a file to a table."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from .common import Help, add_json, console, print_json, progress

if TYPE_CHECKING:
    import polars as pl

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute run study.toml -o results.parquet --jobs 2
  balanceroute run study.toml -o results.csv            goes on where a killed run was

A study, with all that is needed (docs/studies.md):

  routers = ["jsq", "br-0"]
  seeds = 5
  utilizations = [0.8, 1.1]

  [[workloads]]
  generate = "bfio"
  n = 2000

  [[clusters]]
  workers = 8
  slots = 72
"""
_SHOWN = 40


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        usage="balanceroute run STUDY.toml -o TABLE [options]",
        help="run a study: a grid of workloads, clusters, loads, routers and seeds",
        description="Run a study and write one row per run: metrics, bounds, digests, versions. Finished rows are kept "
        "in TABLE.rows, so that a run which was killed, or a study that grew, computes only what is missing.",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    parser.add_argument("study", metavar="STUDY.toml", help="the study")
    parser.add_argument("-o", "--output", required=True, metavar="TABLE", help="table to write, .parquet or .csv")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; -1: one per core (default 1)")
    parser.add_argument("--backend", metavar="NAME", help="of joblib: loky, threading, dask or ray (default loky)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask scheduler or Ray head, for these backends")
    parser.add_argument(
        "--force", action="store_true", help="compute all rows again, and replace a table that no study wrote"
    )
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..experiments.study import read_study, require_table_name, run_study, write_table

    study = read_study(args.study)
    store = f"{args.output}.rows"
    # A table beside its rows was written from them, and loses nothing when it is written again.
    require_table_name(args.output, force=args.force or os.path.isdir(store))
    with progress("runs") as show:
        table = run_study(
            study,
            store,
            jobs=args.jobs,
            backend=args.backend,
            scheduler=args.scheduler,
            force=args.force,
            progress=show,
        )
    write_table(table, args.output, force=True)
    if args.json:
        from ..experiments.summaries import paired, summary

        means = summary(table, ["excess", "throughput", *_above(table)])
        print_json(
            {
                "schema": "balanceroute/study-result",
                "version": 1,
                "study": study.name,
                "table": args.output,
                "rows": len(table),
                "means": means.to_dicts(),
                "differences": paired(table).to_dicts(),
            }
        )
    else:
        _show(table, args.output)
    return 0


def _above(table: pl.DataFrame) -> list[str]:
    return [name for name in table.columns if name.startswith("above_")]


def _show(table: pl.DataFrame, output: str) -> None:
    """Means per cell and router, the paired difference to the first router, and how many runs stand behind them."""
    from rich import box
    from rich.table import Table

    from ..experiments.summaries import CELL, paired, summary

    bounds = _above(table)
    means = summary(table, ["throughput", "excess", *bounds])
    differences = {
        tuple(row[name] for name in (*CELL, "router")): row for row in paired(table, "excess").iter_rows(named=True)
    }
    first = table["router"][0]
    varying = [name for name in CELL if name != "workload" and means[name].n_unique() > 1]
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("workload", *varying, "router"):
        shown.add_column(header.replace("_", " "), overflow="fold")
    for header in ("runs", "throughput\ntok/s", "excess\n%", f"excess minus {first}\npoints"):
        shown.add_column(header, justify="right")
    for name in bounds:
        shown.add_column(f"at most above\n{name.removeprefix('above_')} bound, %", justify="right")
    for row in means.head(_SHOWN).iter_rows(named=True):
        pair = differences.get(tuple(row[name] for name in (*CELL, "router")))
        shown.add_row(
            row["workload"],
            *("-" if row[name] is None else str(row[name]) for name in varying),
            row["router"],
            str(row["runs"]),
            _with_half(row["throughput"], row["throughput_half_width"], 1, ",.0f"),
            _with_half(row["excess"], row["excess_half_width"], 100, ".2f"),
            "" if pair is None else _with_half(pair["difference"], pair["half_width"], 100, "+.2f"),
            *(_with_half(row[name], row[f"{name}_half_width"], 100, ".2f") for name in bounds),
        )
    out = console()
    out.print(shown)
    if len(means) > _SHOWN:
        out.print(f"... and {len(means) - _SHOWN} more rows: balanceroute_opt.experiments.summaries.summary(table)")
    out.print(f"{len(table):,} runs in {output}; metrics over the window {table['window'][0]}")
    several = int(means["runs"].max() or 0) > 1  # type: ignore[arg-type]
    if several:
        out.print("± is half of a 95 % t-interval over seeds; differences are between runs of the same seed")
    if int(means["runs"].min() or 0) == 1:  # type: ignore[arg-type]
        out.print("rows with 1 run are a single replay: nothing is known about their spread")


def _with_half(mean: float | None, half: float | None, factor: float, form: str) -> str:
    if mean is None:
        return "-"
    text = format(mean * factor, form)
    return text if half is None else f"{text} ± {format(half * factor, form.replace('+', ''))}"
