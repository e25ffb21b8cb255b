"""``balanceroute bound``: a lower bound on what was possible, with its certificate."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .common import (
    Help,
    add_cluster,
    add_json,
    add_workload,
    cluster_from,
    is_json_file,
    natural,
    print_json,
    read_run_or_problem,
    require_outputs,
    workload_from,
)

if TYPE_CHECKING:
    from ..certificates import Bound
    from ..instance import Cluster, Instance
    from ..simulator import Run

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute bound problem.json --certificate c.json
  balanceroute bound run.json --method fluid
  balanceroute bound trace.csv.gz --utilization 0.9 --starts-from br-0 --save-instance p.json --certificate c.json
  balanceroute bound problem.json --problem schedule --max-wait 10
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bound",
        usage="balanceroute bound [TRACE | INSTANCE | RUN] [options]",
        help="lower bound on a hindsight optimum, with a certificate",
        description="Lower bound on the best placement (admission steps given) or the best schedule (start windows "
        "given) that full knowledge of the future would have allowed.",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    add_workload(parser)
    add_cluster(parser)
    group = parser.add_argument_group("bound")
    group.add_argument(
        "--problem", choices=("placement", "schedule"), default="placement", help="which optimum (default placement)"
    )
    group.add_argument("--method", metavar="M", help="fluid, item, pigeonhole, ... (default: the best cheap one)")
    group.add_argument(
        "--starts-from",
        metavar="ROUTER",
        help="admission steps of a run of this router (default: those in the file); for schedule they are the latest "
        "starts that are allowed",
    )
    group.add_argument("--router-seed", type=natural, default=0, metavar="S", help="of a random router (default 0)")
    group.add_argument("--max-wait", type=int, metavar="D", help="schedule: start at most D steps after the release")
    output = parser.add_argument_group("output")
    output.add_argument("--certificate", metavar="OUT", help="write the certificate (.json or .json.gz)")
    output.add_argument("--save-instance", metavar="OUT", help="write what the bound is for (.json or .json.gz)")
    output.add_argument("--force", action="store_true", help="replace files that exist")
    add_json(output)
    parser.set_defaults(run=_bound)


def _bound(args: argparse.Namespace) -> int:
    from ..certificates import verify, write_certificate
    from ..files import write_instance
    from ..oracles.bounds import placement_bound, schedule_bound

    if args.max_wait is not None and args.problem != "schedule":
        raise InputError("--max-wait limits the starts of the schedule problem; add --problem schedule")
    require_outputs([args.certificate, args.save_instance], args.force)
    run, inst, cluster, start = _given(args)
    if args.starts_from is not None:
        run = _simulated(args, inst, cluster)
        inst, start = run.instance, run.schedule.start
    if run is not None and run.preemptions:
        raise InputError(f"the run had {run.preemptions} preemptions, which the hindsight problems do not model")
    if inst.clock == "wall":
        raise InputError("the bounds work on steps: give --starts-from ROUTER, or --clock step")
    method = {} if args.method is None else {"method": args.method}
    if args.problem == "placement":
        if start is None:
            raise InputError(
                "the placement problem needs admission steps: give --starts-from ROUTER, or a file with start"
            )
        bound: Bound = placement_bound(inst, cluster, start, **method)
    else:
        latest = start if run is not None else None
        bound = schedule_bound(inst, cluster, max_wait=args.max_wait, latest=latest, **method)
    verified = bound.certificate is not None and verify(inst, cluster, bound.certificate) == bound.value
    if args.save_instance is not None:
        write_instance(inst, args.save_instance, args.force, cluster, start if args.problem == "placement" else None)
    if args.certificate is not None:
        if bound.certificate is None:
            raise InputError(f"bound {bound.method} has no certificate: it is claimed, not certified")
        write_certificate(bound.certificate, args.certificate, args.force)
    data = {
        "problem": bound.problem,
        "method": bound.method,
        "value": bound.value,
        "unit": "token-steps" if bound.problem == "placement" else "s",
        "status": bound.status,
        "verified": verified,
        "windows": bound.windows or None,
        "instance": bound.instance,
        "cluster": bound.cluster,
        "certificate": args.certificate,
    }
    above = None
    if run is not None and bound.value > 0:
        above = (run.peak_sum if bound.problem == "placement" else run.decode_time) / bound.value - 1
    data |= {"router": None if run is None else run.router, "above": above}
    if args.json:
        print_json(data)
        return 0
    checked = "certified, and reproduced by the verifier" if verified else bound.status
    if bound.problem == "placement":
        print(f"No placement at these admission steps has a peak_sum below {bound.value:,} token-steps.")
    else:
        print(f"No schedule (start windows: {bound.windows}) has a decode time below {bound.value:,.9g} s.")
    print(
        f"Bound {bound.method}: {checked}; {len(inst):,} requests, {cluster.workers} workers x {cluster.slots} slots."
    )
    if run is not None and above is not None:
        print(f"The run of {run.router} is {above:.2%} above this bound.")
    return 0


def _given(args: argparse.Namespace) -> tuple[Run | None, Instance, Cluster, Any]:
    """What the arguments name: a saved run, a problem, or a workload without starts."""
    plain = all(getattr(args, name) is None for name in ("head", "utilization", "clock", "format"))
    path = args.trace
    if path is not None and plain and (is_json_file(path) or _is_run_parquet(path)):
        run, inst, found, start = read_run_or_problem(path)
        if found is None and (args.workers is None or args.slots is None):
            raise InputError(f"{path}: has no cluster; give --workers and --slots")
        return run, inst, cluster_from(args, found), start
    return (None, *workload_from(args), None)


def _is_run_parquet(path: str) -> bool:
    """Whether a Parquet file is a saved run; a trace has no column run."""
    if not path.endswith(".parquet"):
        return False
    import polars as pl

    try:
        return "run" in pl.read_parquet_schema(path)
    except (OSError, pl.exceptions.PolarsError):
        return False


def _simulated(args: argparse.Namespace, inst: Instance, cluster: Cluster) -> Run:
    from ..experiments.specs import router_from
    from ..simulator import simulate

    label, router = router_from(args.starts_from)
    return replace(simulate(inst, cluster, router, args.router_seed), router=label)
