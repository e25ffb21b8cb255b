"""``balanceroute bracket``: every router's certified and best-known distance from optimal on a whole trace."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from ..errors import InputError
from .common import Help, add_cluster, add_json, add_workload, names, natural, print_json, terminal_width, workload_from

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute bracket azure_2023_conv.csv.gz --clock step --utilization 0.8 --minutes 10 --jobs 2
  balanceroute bracket trace.csv --clock step --windows max_wait=8
  balanceroute bracket trace.csv --routers least-kv,br-0 --moves 20000000 -o out
  balanceroute bracket trace.csv --jobs 32 --backend dask --scheduler tcp://head:8786
  balanceroute check out                       verify all of it again, without a solver
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bracket",
        usage="balanceroute bracket [TRACE] [options]",
        help="bracket the hindsight optimum of a whole trace: certified bound and best known placement",
        description="Run routers on a trace, search good hindsight placements, bound all placements from below, and "
        "print how far each router is from optimal, at least and at most. Finished tasks are kept in OUT/tasks: a "
        "bracket that was killed goes on where it was.",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    add_workload(parser)
    add_cluster(parser)
    group = parser.add_argument_group("bracket")
    group.add_argument("--routers", default="all", metavar="LIST", help="all, or names by commas (default all)")
    group.add_argument("--minutes", type=float, default=2.0, metavar="M", help="wall time of the searches (default 2)")
    group.add_argument(
        "--moves", type=int, metavar="N", help="moves of each search, in place of a time: the same result everywhere"
    )
    group.add_argument(
        "--bounds", type=names, default=["pigeonhole"], metavar="LIST", help="the best counts (default pigeonhole)"
    )
    group.add_argument("--no-schedule", action="store_true", help="placements only, without the schedule problem")
    group.add_argument(
        "--windows",
        default="own",
        metavar="W",
        help="of schedules: own (each run's starts are the last), max_wait=D, "
        "latest=ROUTER or none: one problem for all routers, on the step clock (default own)",
    )
    group.add_argument(
        "--iterations", type=int, default=60, metavar="N", help="of the Lagrangian bound on schedules (default 60)"
    )
    group.add_argument("--restarts", type=int, default=1, metavar="N", help="searches per problem (default 1)")
    group.add_argument("--search-seed", type=natural, default=0, metavar="S", help="of searches and random routers")
    group.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; -1: one per core (default 1)")
    group.add_argument("--backend", metavar="NAME", help="of joblib: loky, threading, dask or ray (default loky)")
    group.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask scheduler or Ray head")
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o", "--out", dest="folder", metavar="OUT", help="folder for schedules and certificates (default bracket-NAME)"
    )
    output.add_argument("--force", action="store_true", help="compute all tasks again, and replace files")
    add_json(output)
    parser.set_defaults(run=_bracket)


def _bracket(args: argparse.Namespace) -> int:
    from ..experiments.bracket import bracket
    from ..experiments.store import RowStore

    inst, cluster = workload_from(args)
    folder = Path(args.folder or f"bracket-{re.sub(r'[^A-Za-z0-9_.=-]+', '_', inst.name) or 'workload'}")
    tasks = folder / "tasks"
    if folder.is_dir() and any(folder.iterdir()) and not tasks.is_dir() and not args.force:
        raise InputError(f"{folder}: is not empty and not of a bracket; use --force to write into it")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as exc:
        raise InputError(f"{folder}: {exc.strerror or exc}") from None
    if args.force and tasks.is_dir():
        store = RowStore(tasks)
        with store.lock():
            store.clear()
    terminal = sys.stderr.isatty()

    def show(stage: str, done: int, total: int) -> None:
        if terminal:
            print(f"\r{stage}: {done} of {total}    ", end="\n" if done == total else "", file=sys.stderr, flush=True)

    found = bracket(
        inst,
        cluster,
        args.routers,
        minutes=args.minutes,
        moves=args.moves,
        bounds=args.bounds,
        schedule=not args.no_schedule,
        windows=args.windows,
        iterations=args.iterations,
        restarts=args.restarts,
        seed=args.search_seed,
        jobs=args.jobs,
        backend=args.backend,
        scheduler=args.scheduler,
        store=tasks,
        progress=show,
    )
    found.save(folder, force=True)
    if args.json:
        print_json(found.to_json())
        return 0
    print(found.text(terminal_width()), end="")
    print(f"Schedules and certificates are in {folder}; balanceroute check {folder} verifies them again.")
    return 0
