"""``balanceroute compare``: routers side by side, each beside a certified bound."""

from __future__ import annotations

import argparse
from typing import Any

from .common import (
    Help,
    add_cluster,
    add_json,
    add_view,
    add_workload,
    names,
    natural,
    print_json,
    progress,
    require_outputs,
    terminal_width,
    window,
    workload_from,
)

__all__ = ["add"]

_HINDSIGHT, _HINDSIGHT_REQUESTS = 400_000, 1000

_EPILOG = """\
examples:
  balanceroute compare
  balanceroute compare azure_2023_conv.csv.gz --workers 8 --slots 72 --utilization 1.1
  balanceroute compare trace.csv --routers jsq,br-0,br-0:subset_window=6,mine.py:MyRouter
  balanceroute compare trace.csv --utilization 1.1 --train 0.5
  balanceroute compare trace.csv --head 200 --clock step --bounds migration      also against hindsight optima
  balanceroute compare trace.csv --seeds 5 --jobs 2 --csv table.csv --certificates proofs
  balanceroute check proofs
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compare",
        usage="balanceroute compare [TRACE] [options]",
        help="run routers on a workload and rank them against a certified bound",
        description="Run routers on one workload and print one table, best first: what each costs, and how much above "
        "the best placement it is at most, which `balanceroute check` can verify without a solver.",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    add_workload(parser)
    add_cluster(parser)
    add_view(parser)
    group = parser.add_argument_group("comparison")
    group.add_argument(
        "--routers",
        default="all",
        metavar="LIST",
        help="all, or names (balanceroute routers) with options, NAME:OPTION=VALUE, and FILE.py:CLASS, by commas",
    )
    group.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each random router (default 1)")
    group.add_argument(
        "--router-seed", type=natural, default=0, metavar="S", help="first seed of random routers (default 0)"
    )
    group.add_argument("--window", type=window, default="all", metavar="W", help="all, loaded or 0.1-0.9 (default all)")
    group.add_argument(
        "--bounds", "--bound", type=names, default=["item"], metavar="LIST", help="fluid, item, ...; the best counts"
    )
    group.add_argument(
        "--hindsight",
        type=natural,
        metavar="N",
        help="also search N moves for better schedules of every run, and tell both ends of its ratios to the hindsight "
        f"optima of placement and schedule; 0: no (default: {_HINDSIGHT:,} up to {_HINDSIGHT_REQUESTS:,} requests on "
        "the step clock, else 0)",
    )
    group.add_argument(
        "--train",
        type=float,
        metavar="F",
        help="fit predictors on the first share F of the requests, add br-h-survival and br-h-exact-match, and "
        "compare on the rest",
    )
    group.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; -1: one per core (default 1)")
    group.add_argument(
        "--step-regret",
        type=natural,
        nargs="?",
        const=0,
        metavar="H",
        help="also price every decision of the pooled routers against the exact step problem BF-IO(H) (default H 0)",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--sort", default="excess", metavar="METRIC", help="best first by this metric (default excess)")
    output.add_argument("--metrics", type=names, default=[], metavar="LIST", help="further columns")
    output.add_argument("--csv", metavar="FILE", help="write every metric of every router as CSV")
    output.add_argument("--parquet", metavar="FILE", help="write them as Parquet")
    output.add_argument("--certificates", metavar="DIR", help="write instance, schedule and certificate of every run")
    output.add_argument("--force", action="store_true", help="replace files that exist")
    add_json(output)
    parser.set_defaults(run=_compare)


def _compare(args: argparse.Namespace) -> int:
    from ..experiments.comparison import check_bounds, check_metrics, compare
    from ..experiments.specs import resolve
    from ..files import atomic_write

    check_metrics([args.sort, *args.metrics])
    check_bounds(args.bounds)
    resolve(args.routers)
    require_outputs([args.csv, args.parquet], args.force)
    inst, cluster = workload_from(args)
    fitted: dict[str, Any] = {}
    if args.train is not None:
        from ..experiments.prediction import predicted_routers

        inst, fitted = predicted_routers(inst, args.train)
        if args.utilization is not None:  # of what is simulated
            inst = inst.scaled_to(cluster, args.utilization)
    hindsight = args.hindsight
    if hindsight is None:
        hindsight = _HINDSIGHT if inst.clock == "step" and len(inst) <= _HINDSIGHT_REQUESTS else 0
    with progress("runs") as show:
        result = compare(
            inst,
            cluster,
            args.routers,
            seeds=args.seeds,
            window=args.window,
            bound=args.bounds,
            jobs=args.jobs,
            seed=args.router_seed,
            staleness=args.staleness,
            optimistic=args.optimistic,
            certificates=args.certificates,
            force=args.force,
            progress=show,
            extra=list(fitted.values()),
            hindsight=hindsight,
        )
    if args.csv is not None:
        with atomic_write(args.csv, args.force) as temporary:
            result.to_polars().write_csv(temporary)
    if args.parquet is not None:
        with atomic_write(args.parquet, args.force) as temporary:
            result.to_polars().write_parquet(temporary)
    regrets = [] if args.step_regret is None else _regrets(args, inst, cluster)
    if args.json:
        report = result.to_json()
        if args.step_regret is not None:
            report["step_regret"] = [
                {"router": r.router, "horizon": r.horizon, **r.summary(), "worst": r.worst()} for r in regrets
            ]
        print_json(report)
    else:
        print(result.text(args.sort, args.metrics, terminal_width()), end="")
        if args.hindsight is None and inst.clock == "step" and not hindsight:
            print(f"No hindsight brackets beyond {_HINDSIGHT_REQUESTS:,} requests; --hindsight N makes them.")
        if args.step_regret is not None:
            _print_regrets(regrets, args.step_regret)
    return 0


def _regrets(args: argparse.Namespace, inst: Any, cluster: Any) -> list[Any]:
    """Step regret of the pooled routers, smallest mean first; those that hold requests back are left out."""
    from ..errors import InputError
    from ..experiments.regret import step_regret
    from ..experiments.specs import resolve, router_from

    if cluster.kv_capacity is not None:
        raise InputError("--step-regret is defined without a KV capacity")
    found = []
    for spec in resolve(args.routers):
        name, router = router_from(spec)
        if router.mode == "pooled":
            router.name = name
            try:
                found.append(step_regret(inst, cluster, router, H=args.step_regret, seed=args.router_seed))
            except InputError as exc:
                if "work-conserving" not in str(exc):
                    raise
    return sorted(found, key=lambda r: r.summary()["mean"])


def _print_regrets(regrets: list[Any], horizon: int) -> None:
    print(f"\nStep regret against BF-IO({horizon}), tokens of imbalance summed over workers, per decided step:")
    for r in regrets:
        s = r.summary()
        step, most = r.worst(1)[0] if s["steps"] else (0, 0.0)
        print(
            f"  {r.router:16} {s['zero']:6.1%} without  mean {s['mean']:9,.1f}  p99 {s['p99']:9,.0f}  "
            f"max {most:8,.0f}, step {step}, proved {s['proved']:.1%}"
        )
