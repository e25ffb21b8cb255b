"""``balanceroute predictors``: fit on the first part of a trace, judge on the rest."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .common import (
    Help,
    add_cluster,
    add_json,
    add_workload,
    console,
    is_json_file,
    names,
    natural,
    print_json,
    progress,
    workload_from,
)
from .trace import reader_options

if TYPE_CHECKING:
    from .._validate import Int64Array
    from ..instance import Cluster, Instance

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute predictors azure_2023_conv.csv.gz --train 0.5 --utilization 1.1
  balanceroute predictors trace.csv --predictors survival,fitted --plot calibration.png
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "predictors",
        usage="balanceroute predictors [TRACE] [options]",
        help="fit predictors on the first part of a trace and judge them on the rest",
        description="Fit predictors of the end of a request on the first part of a trace; on the rest print AUC and "
        "mean absolute error over pairs (request, age), calibration, and the excess of br-h with each, beside br-0, "
        "br-h with true lengths and the published pairs. --utilization is that of the rest.",
        epilog=_EPILOG,
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
        metavar="LIST",
        help="survival, exact-match, fitted (decision trees), predicted-length, noisy-oracle (default: the first two, "
        "fitted if scikit-learn is installed, and predicted-length if the trace has predicted lengths)",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--plot", metavar="OUT", help="calibration as a picture (.png, .pdf or .svg)")
    output.add_argument("--force", action="store_true", help="replace a picture that exists")
    add_json(output)
    parser.set_defaults(run=_predictors)


def _predictors(args: argparse.Namespace) -> int:
    from ..experiments.prediction import PUBLISHED, judge_predictors, plot_calibration
    from ..traces.describe import check_plot

    if args.plot is not None:
        check_plot(args.plot, args.force)
    if args.utilization is not None and not args.utilization > 0:
        raise InputError(f"--utilization must be > 0, got {args.utilization:g}")
    # Only the later part is simulated, and scaled.
    utilization, args.utilization = args.utilization, None
    inst, cluster = workload_from(args)
    predicted = _predicted(args, inst, cluster)
    chosen = _usual(predicted is not None) if args.predictors is None else args.predictors
    with progress("routers") as show:
        judged = judge_predictors(
            inst,
            cluster,
            args.train,
            args.horizon,
            chosen,
            utilization=utilization,
            predicted=predicted,
            progress=show,
        )
    if args.plot is not None:
        plot_calibration(judged, args.plot, args.force)
    if args.json:
        rows = [row | {"score": row["score"] and row["score"].as_dict()} for row in judged["rows"]]
        print_json(judged | {"trace": inst.name, "rows": rows, "published": PUBLISHED})
        return 0
    _print(judged, inst.name or "instance", PUBLISHED)
    return 0


def _usual(predicted: bool) -> list[str]:
    """The predictors that can be fitted here."""
    import importlib.util

    fitted = ["fitted"] if importlib.util.find_spec("sklearn") is not None else []
    return ["survival", "exact-match", *fitted, *(["predicted-length"] if predicted else [])]


def _predicted(args: argparse.Namespace, inst: Instance, cluster: Cluster) -> Int64Array | None:
    """Predicted output lengths, if the trace has a column of them."""
    if args.trace is None or (is_json_file(args.trace) and args.format is None):
        return None
    from .. import read_trace
    from ..experiments.workload import prepare
    from ..traces.reader import predicted_column

    options = reader_options(args)
    column = predicted_column(args.trace, **options)
    if column is None:
        return None
    if options.get("key") == column:
        return inst.key
    return prepare(read_trace(args.trace, **(options | {"key": column})), cluster, head=args.head).key


def _print(judged: dict[str, Any], name: str, published: Any) -> None:
    from rich import box
    from rich.table import Table

    out = console()
    scored = [row for row in judged["rows"] if row["score"] is not None]
    load = "all at once" if judged["utilization"] is None else f"utilization {judged['utilization']:.3g}"
    out.print(
        f"{name}: trained on the first {judged['trained']:,} requests, judged on the other {judged['evaluated']:,} "
        f"({load}{', evenly spaced: the file has no arrival times' if judged['spaced'] else ''}); "
        f"horizon H = {judged['horizon']} steps; exact match by {judged['matched']}."
    )
    if scored:
        first = scored[0]["score"]
        out.print(
            f"AUC of p against R <= H, and MAE of mu where R <= H, over {first.pairs:,} of {first.of_pairs:,} pairs "
            f"(request, age 1 .. o - 1), evenly taken; {first.ending:.1%} have R <= H."
        )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("router")
    for header in ("excess %", "AUC", "MAE, steps", "Brier"):
        table.add_column(header, justify="right")
    traces = list(dict.fromkeys(trace for pairs in published.values() for trace, _, _ in pairs))
    for trace in traces:
        table.add_column(f"{trace},\npublished", justify="right")
    for row in judged["rows"]:
        found = row["score"]
        cells = [f"{100 * row['excess']:.2f}"]
        cells += (
            [""] * 3 if found is None else [_number(found.auc, ".3f"), _number(found.mae, ".1f"), f"{found.brier:.3f}"]
        )
        paper = {trace: f"{auc:.3f} / {mae:.1f}" for trace, auc, mae in published.get(row["predictor"], ())}
        table.add_row(row["router"], *cells, *(paper.get(trace, "") for trace in traces))
    out.print(table)
    if not scored:
        return
    out.print("Calibration: mean p -> share with R <= H, and share of the pairs, by p")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("p")
    for row in scored:
        table.add_column(row["predictor"], justify="right")
    for position, edge in enumerate(scored[0]["score"].calibration):
        cells = []
        for row in scored:
            b = row["score"].calibration[position]
            share = b.pairs / row["score"].pairs
            cells.append(f"{b.predicted:.2f} -> {b.observed:.2f} {share:4.0%}" if b.pairs else "-")
        table.add_row(f"{edge.low:.1f} - {edge.high:.1f}", *cells)
    out.print(table)


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"
