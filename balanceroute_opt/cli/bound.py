"""``balanceroute bound``: a lower bound on what was possible, with its certificate; or all of them side by side."""

from __future__ import annotations

import argparse
import io
import math
import textwrap
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .._validate import integer, real
from ..errors import BalanceRouteError, CertificateError, InputError
from .common import (
    Help,
    add_cluster,
    add_json,
    add_workload,
    names,
    natural,
    print_json,
    require_outputs,
    terminal_width,
)
from .problem import Problem, Searching, add_problem, problem_from, search

if TYPE_CHECKING:
    from ..certificates import Bound
    from ..schedule import Schedule

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute bound problem.json --certificate c.json
  balanceroute bound problem.json --method all --time-limit 20
  balanceroute bound run.json --method fluid,item,migration,window --window 40
  balanceroute bound trace.csv.gz --utilization 0.9 --starts-from br-0 --save-instance p.json --certificate c.json
  balanceroute bound problem.json --problem schedule --max-wait 10
"""
_ORDER = {
    # From weak to strong; solvers' own bounds stand where a limit leaves them.
    "placement": ("fluid", "item", "pigeonhole", "migration", "window", "milp", "bnb"),
    "schedule": ("fluid", "lagrangian", "forced", "milp", "bnb"),
}
_SOLVERS = {"milp": "highs", "bnb": "bnb"}
_MILP_REQUESTS = 200  # `all` builds no larger model


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bound",
        usage="balanceroute bound [TRACE | INSTANCE | RUN] [options]",
        help="lower bound on a hindsight optimum, with a certificate",
        description="Lower bound on the best placement (admission steps given) or the best schedule (start windows "
        "given) that full knowledge of the future would have allowed. Several methods make a table.",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    add_workload(parser)
    add_cluster(parser)
    group = parser.add_argument_group("bound")
    group.add_argument(
        "--problem", choices=("placement", "schedule"), default="placement", help="which optimum (default placement)"
    )
    group.add_argument(
        "--method",
        type=names,
        metavar="M[,M...]",
        help="placement: fluid, item, pigeonhole, migration, window, milp, bnb; schedule: fluid, lagrangian, "
        "forced, milp, bnb; several, or all, side by side (default: the best cheap one)",
    )
    add_problem(group)
    group.add_argument("--window", metavar="T", help="window: steps of one window; auto tries several (default 20)")
    group.add_argument(
        "--time-limit", type=float, default=60.0, metavar="S", help="seconds for each of window, milp, bnb (default 60)"
    )
    group.add_argument("--jobs", type=natural, default=1, metavar="N", help="window: processes (default 1)")
    output = parser.add_argument_group("output")
    output.add_argument("--certificate", metavar="OUT", help="write the certificate (.json or .json.gz)")
    output.add_argument("--save-instance", metavar="OUT", help="write what the bound is for (.json or .json.gz)")
    output.add_argument("--force", action="store_true", help="replace files that exist")
    add_json(output)
    parser.set_defaults(run=_bound)


@dataclass
class _Row:
    """A bound, whether the verifier reproduced it, and the schedule that its search found on the way."""

    bound: Bound
    verified: bool
    seconds: float
    schedule: Schedule | None = None


def _bound(args: argparse.Namespace) -> int:
    from ..certificates import write_certificate
    from ..files import write_instance

    methods = _methods(args)
    require_outputs([args.certificate, args.save_instance], args.force)
    problem = problem_from(args, args.problem)
    rows: dict[str, _Row] = {}
    left_out: dict[str, str] = {}
    for method in methods:
        try:
            if "all" in (args.method or ()) and method == "milp" and len(problem.inst) > _MILP_REQUESTS:
                raise InputError(f"more than {_MILP_REQUESTS} requests; --method milp tries it")
            rows[method] = _computed(args, problem, method)
        except BalanceRouteError as exc:
            if isinstance(exc, CertificateError) or "all" not in (args.method or ()) or method in ("fluid", "item"):
                raise
            left_out[method] = str(exc)
    best = max(rows.values(), key=lambda row: (row.verified, row.bound.exact))
    if args.save_instance is not None:
        write_instance(problem.inst, args.save_instance, args.force, problem.cluster, problem.start)
    if args.certificate is not None:
        if best.bound.certificate is None:
            raise InputError(f"bound {best.bound.method} has no certificate: it is claimed, not certified")
        write_certificate(best.bound.certificate, args.certificate, args.force)
    if len(methods) > 1:
        _report_table(args, problem, rows, left_out, best)
    else:
        _report_one(args, problem, best)
    return 0


def _methods(args: argparse.Namespace) -> list[str]:
    """The methods of the options, from weak to strong."""
    known = _ORDER[args.problem]
    asked = args.method or [{"placement": "pigeonhole", "schedule": "fluid"}[args.problem]]
    for method in asked:
        if method not in (*known, "all"):
            from ..experiments.specs import nearest

            raise InputError(
                f"unknown method {method!r}{nearest(method, known)}; methods of {args.problem}: {', '.join(known)}, all"
            )
    integer(args.jobs, "jobs", 1, 1024)
    real(args.time_limit, "time_limit", positive=True)
    if args.window not in (None, "auto"):
        if not args.window.lstrip("-").isdecimal():
            raise InputError(f"window must be a number of steps or auto, got {args.window!r}")
        args.window = integer(int(args.window), "window", 1)
    if args.window is not None and not {"window", "all"} & set(asked):
        raise InputError("--window T is of --method window")
    return [method for method in known if method in asked or "all" in asked]


def _computed(args: argparse.Namespace, problem: Problem, method: str) -> _Row:
    """One bound, verified if it has a certificate."""
    from ..oracles.bounds import placement_bound, schedule_bound

    began, sched = time.perf_counter(), None
    options: dict[str, Any] = {}
    if method == "window":
        options = {"time_limit": args.time_limit, "jobs": args.jobs}
        options |= {} if args.window is None else {"window": args.window}
    if method in _SOLVERS:
        bound, sched = _solved(args, problem, method)
    elif problem.kind == "placement":
        bound = placement_bound(problem.inst, problem.cluster, problem.start, method, **options)  # type: ignore[arg-type]
    elif method == "forced":
        found = problem.forced()
        if found is None:
            raise InputError("the slots leave requests a choice of starts, or there is no run to start no later than")
        bound = found
    else:
        bound = schedule_bound(problem.inst, problem.cluster, method, **problem.windows)  # type: ignore[arg-type]
    seconds = time.perf_counter() - began
    verified = bound.reproduced(problem.inst, problem.cluster) is not None
    return _Row(bound, verified, seconds, sched)


def _solved(args: argparse.Namespace, problem: Problem, method: str) -> tuple[Bound, Schedule | None]:
    """A solver's own bound, and its incumbent."""
    from ..certificates import Bound
    from ..oracles.placement import solve_placement

    inst, cluster = problem.inst, problem.cluster
    options: dict[str, Any] = {"time_limit": args.time_limit, "solver": _SOLVERS[method]}
    if problem.run is not None:
        options["warm"] = problem.run.schedule

    def solve(course: Searching) -> Any:
        if problem.kind == "placement":
            return solve_placement(inst, cluster, problem.start, progress=course, **options)
        from ..oracles.schedule import solve_schedule

        return solve_schedule(inst, cluster, progress=course, **problem.windows, **options)

    found, _ = search(problem, solve)
    if found.status == "infeasible":
        raise InputError(f"there is no {problem.kind}: {found.message or 'proved by ' + found.solver}")
    if problem.kind == "placement":
        bound = Bound.placement(inst, cluster, problem.start, method, int(found.lower_bound), None)
    else:
        from ..oracles.given import start_windows

        last, words = start_windows(inst, cluster, **problem.windows)
        bound = Bound.schedule(inst, cluster, last, words, method, Fraction(found.lower_bound), None)
    if found.certificate is not None:
        bound = replace(bound, certificate=found.certificate, status="certified")
    return bound, found.schedule


def _report_one(args: argparse.Namespace, problem: Problem, row: _Row) -> None:
    bound, run, cluster = row.bound, problem.run, problem.cluster
    data = {
        "problem": bound.problem,
        "method": bound.method,
        "value": bound.value,
        "unit": problem.unit,
        "status": bound.status,
        "verified": row.verified,
        "windows": bound.windows or None,
        "instance": bound.instance,
        "cluster": bound.cluster,
        "certificate": args.certificate,
    }
    above = None
    if run is not None and bound.value > 0:
        above = problem.price(run.schedule) / bound.value - 1
    data |= {"router": None if run is None else run.router, "above": above}
    if args.json:
        print_json(data)
        return
    checked = "certified, and reproduced by the verifier" if row.verified else bound.status
    if bound.problem == "placement":
        print(f"No placement at these admission steps has a peak_sum below {bound.value:,} token-steps.")
    else:
        print(f"No schedule (start windows: {bound.windows}) has a decode time below {bound.value:,.9g} s.")
    size = f"{len(problem.inst):,} requests, {cluster.workers} workers x {cluster.slots} slots"
    print(f"Bound {bound.method}: {checked}; {size}.")
    if run is not None and above is not None:
        print(f"The run of {run.router} is {above:.2%} above this bound.")


def _report_table(
    args: argparse.Namespace, problem: Problem, rows: dict[str, _Row], left_out: dict[str, str], best: _Row
) -> None:
    known = _best_known(args, problem, rows)
    run = problem.run
    cost = None if run is None else problem.price(run.schedule)
    closing = [row for row in rows.values() if known is not None and row.bound.value >= known[0] * (1 - 1e-9)]
    proved = "certified" if any(row.verified for row in closing) else "claimed" if closing else None
    if args.json:
        print_json(
            {
                "problem": problem.kind,
                "given": problem.words(),
                "unit": problem.unit,
                "bounds": [
                    {
                        "method": method,
                        "value": row.bound.value,
                        "status": row.bound.status,
                        "verified": row.verified,
                        "seconds": row.seconds,
                    }
                    for method, row in rows.items()
                ],
                "left_out": left_out,
                "best_known": None if known is None else {"value": known[0], "by": known[1], "optimal": proved},
                "router": None if run is None else {"name": run.router, "value": cost},
                "instance": problem.inst.digest(),
                "cluster": problem.cluster.digest(),
                "certificate": args.certificate,
                "certificate_method": None if args.certificate is None else best.bound.method,
            }
        )
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    name, reference = "best known", math.inf if known is None else known[0]
    if cost is not None and run is not None:
        name, reference = run.router, cost
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for header in ("bound", problem.unit, "over the one\nbefore", f"below\n{name}", "seconds", "status"):
        table.add_column(header, justify="left" if header in ("bound", "status") else "right")
    before: float | None = None

    def add(label: str, value: float, seconds: str, status: str) -> None:
        nonlocal before
        more = "" if not before else f"{100 * (value / before - 1):+.3f} %"
        below = f"{100 * (1 - value / reference):.2f} %" if 0 < reference < math.inf else ""
        table.add_row(label, problem.number(value), more, below, seconds, status)
        before = value

    for method, row in rows.items():
        label = f"{method} ({_SOLVERS[method]})" if method == "milp" else method
        status = "certified" if row.verified else f"claimed by {_SOLVERS.get(method, method)}"
        add(label, row.bound.value, f"{row.seconds:.2f}", status)
    table.add_section()
    if known is not None:
        label = {None: "best known", "certified": "optimum", "claimed": "optimum, as claimed"}[proved]
        add(label, known[0], "", f"schedule of {known[1]}, checked")
    if cost is not None and run is not None:
        add(f"run of {run.router}", cost, "", "checked")
    what = "peak_sum" if problem.kind == "placement" else "decode time"
    print(textwrap.fill(f"Lower bounds on the {what} of a {problem.words()}", terminal_width()))
    out = io.StringIO()
    Console(file=out, width=max(terminal_width(), Console(width=10_000).measure(table).maximum)).print(table)
    print("\n".join(line.rstrip() for line in out.getvalue().splitlines()))
    print("certified: the verifier reproduced it just now. claimed: a solver says so. checked: priced anew.")
    for method, reason in left_out.items():
        print(f"Left out: {method} ({reason}).")
    if args.certificate is not None:
        print(f"{args.certificate}: the certificate of {best.bound.method}")


def _best_known(args: argparse.Namespace, problem: Problem, rows: dict[str, _Row]) -> tuple[float, str] | None:
    """Cost of the best schedule that the solvers (without any: a search) found, and whose it is."""
    found = [(problem.price(row.schedule), method) for method, row in rows.items() if row.schedule is not None]
    if not found and "all" in args.method and problem.kind == "placement":
        from ..oracles.placement import solve_placement

        warm = None if problem.run is None else problem.run.schedule
        solution, _ = search(
            problem,
            lambda course: solve_placement(
                problem.inst, problem.cluster, problem.start, args.time_limit, "search", warm=warm, progress=course
            ),
        )
        if solution.schedule is not None:
            found.append((solution.objective, "search"))
    return min(found, default=None)
