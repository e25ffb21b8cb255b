"""``balanceroute check``: what a saved run, a schedule or a certificate proves, without simulator and solver."""

from __future__ import annotations

import argparse
import glob
import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, InvalidSchedule
from .common import Help, add_cluster, add_json, cluster_from, print_json, read_run_or_problem

if TYPE_CHECKING:
    from ..instance import Cluster, Instance
    from ..schedule import Schedule
    from ..simulator import Run

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute check run.json
  balanceroute check problem.json --schedule s.json --certificate c.json
  balanceroute check proofs                    a folder that compare --certificates wrote
"""
_ENDING, _SCHEDULE, _CERTIFICATE = ".instance.json.gz", ".schedule.json.gz", ".certificate.json.gz"


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        usage="balanceroute check FILE [options]",
        help="check schedules and verify certificates",
        description="Check a schedule against every rule of the model, price it again, and verify certificates, "
        "in exact arithmetic and with no code of simulator or solvers. Says what is proved in a sentence each.",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    parser.add_argument(
        "file", metavar="FILE", help="saved run, instance (.json), or folder of compare --certificates or bracket"
    )
    parser.add_argument("--schedule", metavar="S", help="schedule for the instance (a run has its own)")
    parser.add_argument(
        "--certificate", action="append", default=[], nargs="+", metavar="C", help="certificates for the instance"
    )
    add_cluster(parser)
    add_json(parser)
    parser.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    certificates = [name for group in args.certificate for name in group]
    folder = Path(args.file)
    if folder.is_dir():
        files = _files_in(folder, args.schedule, certificates)
        results = [
            result for file, schedules, proofs in files for result in _check_files(args, file, schedules, proofs)
        ]
    else:
        results = _check_files(args, args.file, [args.schedule], certificates)
    if args.json:
        print_json(results[0] if not folder.is_dir() else {"folder": args.file, "valid": True, "checks": results})
        return 0
    for result in results:
        name = Path(result["schedule"] or result["file"]).name
        label = f"{name.removesuffix(_ENDING).removesuffix(_SCHEDULE)}: " if folder.is_dir() else ""
        for sentence in result["sentences"]:
            print(label + sentence)
    return 0


def _files_in(
    folder: Path, schedule: str | None, certificates: list[str]
) -> list[tuple[str, list[str | None], list[str]]]:
    """Each instance with its schedules, ``STEM.schedule`` or ``STEM.NAME.schedule``, and its certificates."""
    if schedule is not None or certificates:
        raise InputError(f"{folder}: is a folder, which has its own schedules and certificates")
    found: list[tuple[str, list[str | None], list[str]]] = []
    stems = [str(path).removesuffix(_ENDING) for path in sorted(folder.glob(f"*{_ENDING}"))]
    for stem in stems:
        name = Path(stem).name
        schedules, proofs = (
            [
                str(path)
                for path in sorted(folder.glob(f"{glob.escape(name)}.*json.gz"))
                if path.name == name + ending
                or (path.name.endswith(ending) and "." not in path.name[len(name) + 1 : -len(ending)])
            ]
            for ending in (_SCHEDULE, _CERTIFICATE)
        )
        found.append((f"{stem}{_ENDING}", [*schedules] or [None], proofs))
    if not found:
        raise InputError(f"{folder}: holds no file *{_ENDING}, as compare --certificates and bracket write them")
    return found


def _check_files(
    args: argparse.Namespace, file: str, schedules: list[str | None], certificates: list[str]
) -> list[dict[str, Any]]:
    """Check one run or instance; the plain data of the answer for each schedule."""
    from .. import read_certificate, read_schedule, verify

    run, inst, found, _ = read_run_or_problem(file)
    if run is not None and schedules != [None]:
        raise InputError(f"{file}: is a run, which has its own schedule; --schedule is for instances")
    if run is not None and any(
        getattr(args, name) is not None for name in ("workers", "slots", "kv_capacity", "step_time")
    ):
        raise InputError(f"{file}: is a run, which has its own cluster")
    if found is None and (args.workers is None or args.slots is None):
        raise InputError(f"{file}: has no cluster; give --workers and --slots")
    cluster = cluster_from(args, found)
    proofs = [
        (name, certificate := read_certificate(name), verify(inst, cluster, certificate)) for name in certificates
    ]
    results = []
    for name in schedules:
        sched = run.schedule if run is not None else None if name is None else read_schedule(name, inst)
        result: dict[str, Any] = {"file": file, "schedule": name, "valid": True, "requests": len(inst), "sentences": []}
        say = result["sentences"].append
        cost = None
        if run is not None and run.preemptions:
            say(
                f"The run had {run.preemptions:,} preemptions, which the checker does not model: its file is complete "
                "and consistent, its schedule is not checked."
            )
            sched = None
        elif sched is not None:
            cost = _check_schedule(inst, cluster, sched, run, result)
        result["certificates"] = [_proved(inst, cluster, sched, cost, *proof, say) for proof in proofs]
        if not result["sentences"]:
            say(
                f"The file is a valid instance of {len(inst):,} requests on {cluster.workers} workers; with --schedule "
                "or --certificate more is checked."
            )
        results.append(result)
    return results


def _check_schedule(inst: Instance, cluster: Cluster, sched: Schedule, run: Run | None, result: dict[str, Any]) -> int:
    from ..schedule import check, decode_time, peak_loads

    check(inst, cluster, sched)
    peaks = peak_loads(inst, cluster, sched)
    cost, seconds = int(peaks.sum()), decode_time(inst, cluster, sched)
    capacity = "" if cluster.kv_capacity is None else f" and {cluster.kv_capacity:,} KV tokens"
    result["sentences"].append(
        f"The schedule obeys every rule: {len(inst):,} requests on {cluster.workers} workers, none before its release, "
        f"never more than {cluster.slots} at once{capacity} on one."
    )
    stated = ""
    if run is not None:
        if len(peaks) != len(run.steps):
            raise InvalidSchedule(f"the run states {len(run.steps)} active steps, and its schedule has {len(peaks)}")
        differs = peaks != run.steps.peak
        if differs.any():
            k = int(differs.argmax())
            raise InvalidSchedule(
                f"the run states a largest load of {run.steps.peak[k]} in its active step {k}, "
                f"and its schedule has {peaks[k]}"
            )
        if int(run.steps.total.sum()) != inst.total_work:
            raise InvalidSchedule(
                f"the run states {int(run.steps.total.sum())} token-steps of work, its requests are {inst.total_work}"
            )
        stated = ", as the run states"
    result |= {"peak_sum": cost, "decode_time": seconds}
    result["sentences"].append(
        f"Computed again, its peak_sum is {cost:,} token-steps and its decode time {seconds:,.6g} s{stated}."
    )
    return cost


def _proved(
    inst: Instance,
    cluster: Cluster,
    sched: Schedule | None,
    cost: int | None,
    name: str,
    certificate: dict[str, Any],
    proved: int | float,
    say: Any,
) -> dict[str, Any]:
    """Say what a certificate proves."""
    from ..evaluation.ratios import percent

    problem, kind = certificate["problem"], certificate["kind"]
    infeasible = proved == math.inf
    answer: dict[str, Any] = {"file": name, "problem": problem, "kind": kind, "proved": proved}
    answer |= {"infeasible": infeasible, "above": None, "optimal": None}
    label = f"Certificate {Path(name).name} ({problem}, {kind})"
    mine: int | Fraction | None
    if problem == "placement":
        what = f"no placement of the requests at its admission steps has a peak_sum below {proved:,}"
        impossible = "No placement of the requests exists at its admission steps"
        mine, certified = cost, Fraction(0 if infeasible else proved)
        if sched is not None and certificate["data"]["start"] != sched.start.tolist():
            mine, what = None, what + "; these are other admission steps than the schedule's"
    elif problem == "makespan":
        what = f"no run of any router ends before {proved:,.6g} s after the first arrival"
        mine, impossible, certified = None, "", Fraction(0)
    else:
        what = f"no schedule in its start windows has a decode time below {proved:,.6g} s"
        impossible = "No schedule keeps these start windows"
        # Proved exactly; `proved` is rounded down.
        mine, certified = None, Fraction(0 if infeasible else certificate["claim"])
        if sched is not None:
            latest = _latest(inst, certificate["data"])
            if latest is None or (sched.start <= latest).all():
                mine = _exact_time(inst, cluster, sched)
            else:
                what += "; the schedule breaks these windows"
    if infeasible:
        say(f"{label}: {impossible} (certified).")
        return answer
    if mine is not None and proved > 0:
        answer["optimal"] = optimal = mine <= certified
        answer["above"] = above = 0.0 if optimal else float(mine / Fraction(proved) - 1)
        how = "optimal" if optimal else f"at most {percent(above, up=True)} above the optimum"
        what += f", so that the schedule is {how}"
    say(f"{label}: {what} (certified).")
    return answer


def _exact_time(inst: Instance, cluster: Cluster, sched: Schedule) -> Fraction:
    """The decode time in exact arithmetic: seconds."""
    from .. import peak_loads

    peaks = peak_loads(inst, cluster, sched)
    return cluster.step_time.exact_seconds_of(len(peaks), int(peaks.sum()), inst.total_work, cluster.workers)


def _latest(inst: Instance, data: dict[str, Any]) -> Any:
    import numpy as np

    limits = []
    if data["max_wait"] is not None:
        limits.append(inst.release + data["max_wait"])
    if data["latest"] is not None:
        limits.append(np.array(data["latest"], np.int64))
    return None if not limits else np.minimum.reduce(limits)
