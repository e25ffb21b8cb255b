"""``balanceroute simulate``: one run of one router."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from typing import Any

from .common import (
    Help,
    add_cluster,
    add_json,
    add_view,
    add_workload,
    console,
    natural,
    print_json,
    progress,
    require_outputs,
    window,
    workload_from,
)

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute simulate --router br-0
  balanceroute simulate trace.csv.gz --router jsq --utilization 0.9 --save run.parquet
  balanceroute check run.parquet
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "simulate",
        usage="balanceroute simulate [TRACE] [options]",
        help="run one router and print its metrics",
        description="Run one router on a workload, print every metric, and save the run if asked.",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    add_workload(parser)
    add_cluster(parser)
    add_view(parser)
    group = parser.add_argument_group("run")
    group.add_argument(
        "--router", default="br-0", metavar="R", help="NAME, NAME:OPTION=VALUE or FILE.py:CLASS (default br-0)"
    )
    group.add_argument("--router-seed", type=natural, default=0, metavar="S", help="of a random router (default 0)")
    group.add_argument("--live", action="store_true", help="ask the router call by call and measure the time it takes")
    group.add_argument("--window", type=window, default="all", metavar="W", help="all, loaded or 0.1-0.9 (default all)")
    output = parser.add_argument_group("output")
    output.add_argument("--save", metavar="RUN", help="write the run: .json, .json.gz or .parquet")
    output.add_argument("--force", action="store_true", help="replace RUN if it exists")
    add_json(output)
    parser.set_defaults(run=_simulate)


def _simulate(args: argparse.Namespace) -> int:
    from ..experiments.specs import router_from
    from ..experiments.workload import describe
    from ..metrics import METRICS
    from ..simulator import simulate
    from ..simulator.files import require_run_name, write_run

    label, router = router_from(args.router)
    if args.save is not None:
        require_run_name(args.save)
        require_outputs([args.save], args.force)
    inst, cluster = workload_from(args)
    with progress("requests") as show:
        run = simulate(
            inst,
            cluster,
            router,
            args.router_seed,
            staleness=args.staleness,
            optimistic=args.optimistic,
            live=args.live,
            progress=show,
        )
    run = replace(run, router=label)
    metrics = run.metrics(args.window)
    if args.save is not None:
        write_run(run, args.save, args.force)
    workload = describe(inst, cluster)
    if args.json:
        print_json(
            {"router": label, "seed": args.router_seed, "workload": workload, "cluster": cluster.as_dict()}
            | {"metrics": metrics, "saved": args.save}
        )
        return 0
    from rich import box
    from rich.table import Table

    out = console()
    load = "all at once" if workload["utilization"] is None else f"utilization {workload['utilization']:.3g}"
    out.print(f"{label} on {workload['name']}: {len(inst):,} requests, {inst.clock} clock, {load}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("meaning", overflow="fold")
    for name, (unit, meaning) in METRICS.items():
        value = metrics[name]
        if not (isinstance(value, float) and math.isnan(value)):
            table.add_row(
                name, f"{value:,}" if isinstance(value, int) else f"{value:,.6g}", _unit(unit, metrics), meaning
            )
    out.print(table)
    kept = args.window if isinstance(args.window, str) else "{:g}-{:g}".format(*args.window)
    out.print(f"over {kept} active steps; a single replay")
    if args.save is not None:
        out.print(f"saved: {args.save} (balanceroute check verifies it)", soft_wrap=True)
    return 0


def _unit(unit: str, metrics: dict[str, Any]) -> str:
    return str(metrics["wait_unit"]) if unit == "wait_unit" else unit
