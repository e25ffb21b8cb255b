"""``balanceroute predictors``: fit on the first part of a trace, judge on the rest."""

from __future__ import annotations

import argparse
import math
from typing import Any

from .common import (
    Help,
    add_cluster,
    add_json,
    add_workload,
    console,
    names,
    natural,
    print_json,
    require_outputs,
    workload_from,
)

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "predictors",
        usage="balanceroute predictors [TRACE] [options]",
        help="fit predictors on the first part of a trace and judge them on the rest",
        description="Fit predictors of the end of a request on the first part of a trace; on the rest print AUC and "
        "mean absolute error over pairs (request, age), calibration, and the excess of br-h with each, beside br-0, "
        "br-h with true lengths and the published pairs.",
        formatter_class=Help,
    )
    add_workload(parser)
    add_cluster(parser)
    group = parser.add_argument_group("predictors")
    group.add_argument("--train", type=float, default=0.5, metavar="F", help="share trained on (default 0.5)")
    group.add_argument("--horizon", type=natural, default=80, metavar="H", help="steps (default 80)")
    group.add_argument(
        "--predictors",
        type=names,
        default=["survival", "exact-match"],
        metavar="LIST",
        help="survival, exact-match, fitted (gradient-boosted trees, slow), noisy-oracle, predicted-length",
    )
    group.add_argument("--plot", metavar="OUT", help="calibration as a picture (.png or .pdf)")
    group.add_argument("--force", action="store_true", help="replace a picture that exists")
    add_json(parser)
    parser.set_defaults(run=_predictors)


def _predictors(args: argparse.Namespace) -> int:
    from ..experiments.prediction import PUBLISHED, judge_predictors, plot_calibration
    from ..files import atomic_write

    require_outputs([args.plot], args.force)
    inst, cluster = workload_from(args)
    judged = judge_predictors(inst, cluster, args.train, args.horizon, args.predictors)
    if args.plot is not None:
        with atomic_write(args.plot, args.force) as temporary:
            plot_calibration(judged, temporary)
    if args.json:
        rows = [row | {"score": row["score"] and row["score"].as_dict()} for row in judged["rows"]]
        print_json(judged | {"trace": inst.name, "rows": rows, "published": PUBLISHED})
        return 0
    from rich import box
    from rich.table import Table

    out = console()
    out.print(
        f"{inst.name or 'instance'}: trained on the first {judged['trained']:,} requests, judged on the other "
        f"{judged['evaluated']:,}; horizon {judged['horizon']} steps; exact match by {judged['matched']}"
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("router")
    for header in ("excess %", "AUC", "MAE, steps", "Brier", "ends within H"):
        table.add_column(header, justify="right")
    table.add_column("published AUC / MAE")
    for row in judged["rows"]:
        found = row["score"]
        cells = [f"{100 * row['excess']:.2f}"]
        cells += ["", "", "", ""] if found is None else [
            _number(found.auc, ".3f"), _number(found.mae, ".1f"), f"{found.brier:.3f}", f"{found.ending:.1%}"
        ]  # fmt: skip
        paper = "; ".join(f"{trace} {auc:.3f} / {mae:.1f}" for trace, auc, mae in PUBLISHED.get(row["predictor"], ()))
        table.add_row(row["router"], *cells, paper)
    out.print(table)
    for row in judged["rows"]:
        if row["score"] is not None:
            bins = ", ".join(f"{b.predicted:.2f} -> {b.observed:.2f}" for b in row["score"].calibration if b.pairs)
            out.print(f"{row['predictor']}, calibration (predicted -> observed): {bins}")
    return 0


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"
