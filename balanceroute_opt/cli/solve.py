"""``balanceroute solve``: the best placement or schedule that can be found, and what is proved about it."""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import BalanceRouteError, CertificateError, InputError
from .common import Help, add_cluster, add_json, add_workload, print_json, require_outputs, terminal_width
from .problem import Problem, add_problem, problem_from, search

if TYPE_CHECKING:
    from ..oracles.solution import Solution
    from ..schedule import Schedule

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute solve placement problem.json --time-limit 60
  balanceroute solve placement problem.json --schedule s.json --certificate c.json
  balanceroute check problem.json --schedule s.json --certificate c.json
  balanceroute solve placement trace.csv.gz --head 200 --clock step --starts-from br-0 --save-instance p.json
  balanceroute solve schedule problem.json --max-wait 8
  balanceroute solve schedule problem.json --latest-from br-0 --solver highs
  balanceroute solve placement problem.json --export model.mps --no-solve     then, after another solver:
  balanceroute solve placement problem.json --solution model.sol --schedule s.json
"""
_ONLY_PLACEMENT = ("gap", "threads")
_LABEL = 16  # columns


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "solve",
        usage="balanceroute solve placement|schedule [TRACE | INSTANCE | RUN] [options]",
        help="best placement or schedule in hindsight, with a proof",
        description="Find the best placement (admission steps given) or the best schedule (start windows given) that "
        "full knowledge of the future allows, and say what is proved: every schedule is checked and priced again, "
        "every certificate verified, and a solver's own bound is called claimed.",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    parser.add_argument("problem", metavar="placement|schedule", help="which problem")
    add_workload(parser, "of the solver and of a generator")
    add_cluster(parser)
    group = parser.add_argument_group("problem")
    add_problem(group)
    group = parser.add_argument_group("search")
    group.add_argument("--time-limit", type=float, default=60.0, metavar="S", help="seconds (default 60)")
    group.add_argument(
        "--solver", default="auto", metavar="NAME", help="auto, bnb, highs, cpsat, mathopt, search, enumeration"
    )
    group.add_argument(
        "--node-limit", type=int, metavar="N", help="search nodes (conflicts, moves): the same result on every machine"
    )
    group.add_argument("--gap", type=float, metavar="F", help="placement: stop at this relative gap (default 0)")
    group.add_argument("--threads", type=int, metavar="N", help="placement: of highs and cpsat (default 1)")
    group.add_argument("--warm", metavar="SCHEDULE", help="schedule to begin with (default: that of the run, if any)")
    group.add_argument(
        "--solution",
        metavar="SOL",
        help="do not search: take the solution file that another solver wrote for the exported model",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--schedule", metavar="OUT", help="write the best schedule (.json or .json.gz)")
    output.add_argument("--certificate", metavar="OUT", help="write the certificate (.json or .json.gz)")
    output.add_argument("--save-instance", metavar="OUT", help="write the problem (.json or .json.gz), for check")
    output.add_argument("--export", metavar="OUT", help="write the model (.mps, .lp, with or without .gz)")
    output.add_argument("--no-solve", action="store_true", help="with --export or --save-instance: only write")
    output.add_argument("--force", action="store_true", help="replace files that exist")
    add_json(output)
    parser.set_defaults(run=_solve)


@dataclass
class _Result:
    """What was found, and the best bound that the verifier has reproduced."""

    schedule: Schedule | None
    objective: float
    lower_bound: float
    status: str
    solver: str
    seconds: float
    nodes: int
    message: str
    trajectory: tuple[tuple[float, float, float], ...]
    certificate: dict[str, Any] | None = None  # of `certified`
    certified: float = -math.inf
    interrupted: bool = False

    @property
    def gap(self) -> float:
        from ..oracles.solution import relative_gap

        return relative_gap(self.objective, self.lower_bound)

    @property
    def proved(self) -> bool:
        """Whether what is certified is all that is said of the bound."""
        return self.certificate is not None and self.certified >= self.lower_bound * (1 - 1e-9)


def _solve(args: argparse.Namespace) -> int:
    _check_arguments(args)
    problem = problem_from(args, args.problem)
    written: dict[str, str] = {}
    if args.save_instance is not None:
        from ..files import write_instance

        write_instance(problem.inst, args.save_instance, args.force, problem.cluster, problem.start)
        written["instance"] = args.save_instance
    model = _export(args, problem, written)
    if args.no_solve:
        if args.json:
            print_json({"problem": problem.kind, "model": model, "written": written})
        else:
            _print_written(written)
        return 0
    if args.solution is not None:
        result = _answer_of_file(args.solution, problem)
    else:
        solution, interrupted = search(problem, lambda course: _search(args, problem, course))
        result = _certify(problem, solution)
        result.interrupted = interrupted
    missing = _write(args, result, written)
    if args.json:
        print_json(_data(problem, result) | {"model": model, "written": written})
    else:
        _print(args, problem, result, written)
    for line in missing:
        print(f"balanceroute: {line}", file=sys.stderr)
    return 1 if missing else 0


def _check_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot be meant, before long work."""
    if args.problem not in ("placement", "schedule"):
        from ..experiments.specs import nearest

        close = nearest(args.problem, ("placement", "schedule"))
        tried = f", got {args.problem!r}{close}" if close else f": balanceroute solve placement {args.problem}"
        raise InputError(f"the first argument must be placement or schedule{tried}")
    from ..oracles.placement import SOLVERS

    known: tuple[str, ...] = SOLVERS
    if args.problem == "schedule":
        from ..oracles.schedule import SCHEDULE_SOLVERS

        known = SCHEDULE_SOLVERS
    if args.solver not in known:
        from ..experiments.specs import nearest

        also = " (for placement only)" if args.solver in SOLVERS else nearest(args.solver, known)
        raise InputError(f"unknown solver {args.solver!r}{also}; solvers of {args.problem}: {', '.join(known)}")
    for name in _ONLY_PLACEMENT:
        if args.problem == "schedule" and getattr(args, name) is not None:
            raise InputError(f"--{name} is for solve placement")
    if args.no_solve and args.export is None and args.save_instance is None:
        raise InputError("--no-solve writes files only: give --export or --save-instance")
    if args.no_solve and (args.schedule or args.certificate or args.solution):
        raise InputError("--no-solve finds no schedule and no certificate")
    if args.solution is not None and args.warm is not None:
        raise InputError("--warm begins a search, and --solution makes none")
    require_outputs([args.schedule, args.certificate, args.save_instance, args.export], args.force)


def _export(args: argparse.Namespace, problem: Problem, written: dict[str, str]) -> dict[str, Any] | None:
    if args.export is None:
        return None
    from dataclasses import asdict

    from .. import write_model

    given = {"start": problem.start} if problem.kind == "placement" else problem.windows
    summary = write_model(problem.inst, problem.cluster, args.export, problem.kind, **given, force=args.force)
    written["model"] = str(summary)
    return asdict(summary)


def _search(args: argparse.Namespace, problem: Problem, course: Any) -> Solution:
    from .. import read_schedule, solve_placement

    options: dict[str, Any] = {
        "time_limit": args.time_limit,
        "solver": args.solver,
        "seed": args.seed,
        "node_limit": args.node_limit,
        "progress": course,
    }
    if args.warm is not None:
        options["warm"] = read_schedule(args.warm, problem.inst)
    elif problem.run is not None:
        options["warm"] = problem.run.schedule
    if problem.kind == "schedule":
        from .. import solve_schedule

        return solve_schedule(problem.inst, problem.cluster, **problem.windows, **options)
    options |= {name: getattr(args, name) for name in _ONLY_PLACEMENT if getattr(args, name) is not None}
    return solve_placement(problem.inst, problem.cluster, problem.start, **options)


def _answer_of_file(path: str, problem: Problem) -> _Result:
    """Another solver's solution, checked and priced, beside the best cheap bound."""
    from .. import read_model_solution

    given = {"start": problem.start} if problem.kind == "placement" else problem.windows
    sched = read_model_solution(problem.inst, problem.cluster, path, problem.kind, **given)
    bound = _cheap_bound(problem)
    price = problem.price(sched)
    status = "optimal" if bound.value >= price * (1 - 1e-12) else "feasible"
    result = _Result(sched, price, bound.value, status, path, 0.0, 0, "", ())
    return _verified(problem, result, bound.certificate)


def _cheap_bound(problem: Problem, known: Any = None) -> Any:
    """The best certified bound that takes no search; `known` is one that the solver had."""
    from .. import placement_bound, schedule_bound

    if problem.kind == "placement":
        return placement_bound(problem.inst, problem.cluster, problem.start, "migration")
    bound = known or schedule_bound(problem.inst, problem.cluster, "lagrangian", **problem.windows)
    forced = problem.forced()
    return bound if forced is None or forced.exact < bound.exact else forced


def _certify(problem: Problem, solution: Solution) -> _Result:
    """The result, with its certificate verified; where there is none, with the best one that can be had."""
    result = _Result(
        solution.schedule, solution.objective, solution.lower_bound, solution.status, solution.solver,
        solution.seconds, solution.nodes, solution.message, solution.trajectory,
    )  # fmt: skip
    if solution.certificate is not None:
        return _verified(problem, result, solution.certificate)
    if solution.status != "infeasible":
        known = _cheap_bound(problem, getattr(solution, "certified", None))
        return _verified(problem, result, known.certificate)
    return result


def _verified(problem: Problem, result: _Result, certificate: dict[str, Any]) -> _Result:
    from .. import verify

    result.certified = verify(problem.inst, problem.cluster, certificate)
    result.certificate = certificate
    if result.certified > result.objective * (1 + 1e-12):
        raise CertificateError(
            f"a certificate proves {result.certified}, above a schedule of {result.objective}: this is a bug"
        )
    return result


def _write(args: argparse.Namespace, result: _Result, written: dict[str, str]) -> list[str]:
    """Write what there is; one line for each file that was asked for and cannot be."""
    from .. import write_certificate, write_schedule

    missing = []
    if args.schedule is not None:
        if result.schedule is None:
            missing.append(f"{args.schedule}: not written, there is no schedule")
        else:
            write_schedule(result.schedule, args.schedule, force=args.force)
            written["schedule"] = args.schedule
    if args.certificate is not None:
        if result.certificate is None:
            missing.append(f"{args.certificate}: not written, there is no certificate of this result")
        else:
            write_certificate(result.certificate, args.certificate, args.force)
            written["certificate"] = args.certificate
    return missing


def _least_wait(problem: Problem) -> str:
    """Why a limit on waiting cannot be kept, where slots alone forbid it; else empty."""
    from .. import least_wait

    if problem.kind == "placement" or problem.max_wait is None or problem.latest is not None:
        return ""
    try:
        least = least_wait(problem.inst, problem.cluster)
    except BalanceRouteError:
        return ""
    return str(least) if least.value > problem.max_wait else ""


def _data(problem: Problem, result: _Result) -> dict[str, Any]:
    certificate = result.certificate
    router = None if problem.run is None else problem.run.router
    return {
        "problem": problem.kind,
        "given": problem.words(),
        "status": result.status,
        "objective": result.objective,
        "lower_bound": result.lower_bound,
        "bound_status": "certified" if result.proved else "claimed",
        "gap": result.gap,
        "unit": problem.unit,
        "certified": None
        if certificate is None
        else {"value": result.certified, "kind": certificate["kind"], "verified": True},
        "solver": result.solver,
        "nodes": result.nodes,
        "interrupted": result.interrupted,
        "seconds": result.seconds,
        "message": result.message or (_least_wait(problem) if result.status == "infeasible" else ""),
        "instance": problem.inst.digest(),
        "cluster": problem.cluster.digest(),
        "router": router,
        "router_objective": None if problem.run is None else problem.price(problem.run.schedule),
        "trajectory": [list(point) for point in result.trajectory],
    }


def _print(args: argparse.Namespace, problem: Problem, result: _Result, written: dict[str, str]) -> None:
    unit = problem.unit
    lines = [("", f"{problem.inst.name or 'instance'}: {problem.words()}")]
    if result.status == "infeasible":
        reason = result.message or _least_wait(problem)
        what = "placement at these admission steps" if problem.kind == "placement" else "schedule in these windows"
        word = "" if result.certificate is not None else f", as {result.solver} claims"
        lines.append(("infeasible", f"no {what} exists{word}{': ' + reason if reason else ''}"))
    elif result.schedule is None:
        lines += [
            ("no solution", f"no schedule found {_limit(args, result)}; whether there is one is open"),
            ("lower bound", _bound_words(problem, result)),
        ]
    else:
        lines += [
            ("incumbent", f"{problem.number(result.objective)} {unit}{_beside(problem, result)}"),
            ("lower bound", _bound_words(problem, result)),
            ("gap", _gap_words(args, result)),
        ]
    if result.certificate is not None:
        lines.append(("proof", _proof_words(problem, result)))
    lines.append(("found by", _found_by(args, result)))
    width = terminal_width()
    for label, text in lines:
        for j, line in enumerate(textwrap.wrap(text, width - _LABEL if label else width)):
            print(f"{label if j == 0 else '':{_LABEL}}{line}" if label else line)
    _print_written(written)


def _print_written(written: dict[str, str]) -> None:
    for what, where in written.items():
        print(f"{what + ' in':{_LABEL}}{where}")


def _beside(problem: Problem, result: _Result) -> str:
    """The incumbent beside the run whose starts were taken."""
    if problem.run is None:
        return ""
    cost = problem.price(problem.run.schedule)
    if cost <= result.objective or not cost:
        return f", as the run of {problem.run.router}"
    return f", {100 * (1 - result.objective / cost):.2f} % below the run of {problem.run.router}"


def _bound_words(problem: Problem, result: _Result) -> str:
    value = f"{problem.number(result.lower_bound)} {problem.unit}"
    if not math.isfinite(result.lower_bound):
        return "none"
    if result.proved:
        return f"{value} (certified)"
    words = f"{value} (claimed by {result.solver})"
    if result.certificate is not None:
        words += f"; certified: {problem.number(result.certified)}"
        if math.isfinite(result.objective) and result.objective:
            words += f", {100 * (1 - result.certified / result.objective):.2f} % below the incumbent"
    return words


def _gap_words(args: argparse.Namespace, result: _Result) -> str:
    if result.status == "optimal":
        return "0 %: optimal, proved" if result.proved else f"0 %: optimal, as {result.solver} claims"
    return f"{100 * result.gap:.3g} %: not closed {_limit(args, result)}"


def _limit(args: argparse.Namespace, result: _Result) -> str:
    """Which limit ended the search."""
    if args.solution is not None:
        return "by the bound"
    if result.interrupted:
        return f"when interrupted after {result.seconds:.3g} s"
    if args.gap and result.gap <= args.gap:
        return f"further than --gap {args.gap:g}"
    if args.node_limit is not None and result.seconds < 0.95 * args.time_limit:
        return f"within --node-limit {args.node_limit:,}"
    if args.solver == "search" or result.solver in ("search", "list"):
        return "by this search, which proves nothing itself"
    return f"within {result.seconds:.3g} s (--time-limit {args.time_limit:g})"


def _proof_words(problem: Problem, result: _Result) -> str:
    certificate = result.certificate
    assert certificate is not None
    kind, data = certificate["kind"], certificate["data"]
    how = {
        "tree": "search tree of {leaves:,} leaves",
        "window": "search trees of {parts:,} windows of steps, {leaves:,} leaves",
        "enumeration": "every placement gone through",
        "infeasible": "more work than slots",
        "forced": "full slots, which leave no other starts",
    }.get(kind, f"bound {kind}")
    parts = data.get("parts", [])
    how = how.format(leaves=sum(len(part["leaves"]) for part in parts), parts=len(parts))
    value = "" if result.proved else f" for {problem.number(result.certified)} {problem.unit}"
    return f"{how}{value}, reproduced by the verifier in exact arithmetic"


def _found_by(args: argparse.Namespace, result: _Result) -> str:
    if args.solution is not None:
        return f"{result.solver}, checked against every rule and priced again"
    nodes = f", {result.nodes:,} nodes" if result.nodes else ""
    return f"{result.solver}{nodes}, {result.seconds:.3g} s"
