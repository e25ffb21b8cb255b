"""Every router's distance from the hindsight optimum on a whole trace, from below and from above.

Routers with the same admission steps share a *problem*: one bound, one search. What is computed is cut into pure tasks
(a run, a search, a bound) that are kept by the digest of all that decides them, so that a killed bracket goes on where
it was, on one machine or many (``docs/brackets.md``, ``docs/scale.md``).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._validate import Int64Array, integer, real
from ..certificates import Bound, write_certificate
from ..errors import CertificateError, InputError
from ..evaluation.ratios import above_makespan, makespan, percent
from ..files import write_instance, write_schedule
from ..instance import Cluster, Instance, require_fit
from ..oracles.anytime import search_placement
from ..oracles.bounds import placement_bound
from ..oracles.forced import forced_starts
from ..oracles.makespan import makespan_bound
from ..schedule import Schedule, check, decode_time, peak_sum
from ..simulator import simulate
from . import windowed
from .comparison import check_bounds
from .engine import complete, require_jobs
from .specs import resolve, router_from
from .store import RowStore, packed, unpacked
from .windowed import OWN, Windowed, keeps, limits_of, require_proof, schedule_of
from .workload import describe, plain

__all__ = ["Bracket", "Problem", "bracket"]

_COMPILE_SECONDS = 1.0  # of a search, so that a short budget still searches


@dataclass(frozen=True, eq=False)
class Problem:
    """Given admission steps, on the step clock, with the best that is known of both hindsight problems.

    Attributes
    ----------
    name : str
        ``problem-1``, ...: of its files.
    instance : Instance
    start : ndarray of int64, shape (n,)
    routers : tuple of str
        Whose runs have these starts.
    best : Schedule
        The best placement known (P1).
    best_peak_sum : int
        Its cost, token-steps.
    found_by : str
        A router, or ``search``.
    bound : int
        Certified lower bound on ``peak_sum``.
    bound_method : str
    certificate : dict
    quickest : Schedule
        The best schedule known without a later start (P2, ``latest`` = `start`).
    best_decode_time : float
        Its decode time, seconds.
    time_bound : float or None
        Certified lower bound on it, seconds.
    time_bound_method : str or None
        ``forced`` where full slots leave no other starts (then P2 is P1), else ``lagrangian``.
    time_certificate : dict or None
    trajectory : tuple of (seconds, objective)
        Of the search that found the best placement.
    """

    name: str
    instance: Instance
    start: Int64Array
    routers: tuple[str, ...]
    best: Schedule
    best_peak_sum: int
    found_by: str
    bound: int
    bound_method: str
    certificate: dict[str, Any]
    quickest: Schedule
    best_decode_time: float
    time_bound: float | None
    time_bound_method: str | None
    time_certificate: dict[str, Any] | None
    trajectory: tuple[tuple[float, int], ...]

    @property
    def gap(self) -> float:
        """Best placement known over the bound, minus 1."""
        return self.best_peak_sum / self.bound - 1


@dataclass(frozen=True, eq=False, repr=False)
class Bracket:
    """Routers between the best known and the certified bound; made by :func:`bracket`.

    Attributes
    ----------
    rows : list of dict
        One per run, best first by ``peak_sum`` over its bound: ``router``, ``problem``, ``peak_sum``, ``above_best``
        and ``above_bound`` (shares, P1), ``decode_time``, ``time_above_best``, ``time_above_bound`` (P2),
        ``makespan`` (seconds from the first arrival) and ``makespan_above_bound`` (wall clock).
    problems : list of Problem
    skipped : dict of str to str
        Routers that cannot run here, and why.
    workload, cluster : dict
    makespan_bound : Bound or None
        Common to all routers, certified; on the wall clock.
    schedules : dict of str to Schedule
        Of every run.
    instance : Instance
        What was simulated.
    windowed : Windowed or None
        The schedule problem that all routers share; None where each has its own.
    """

    rows: list[dict[str, Any]]
    problems: list[Problem]
    skipped: dict[str, str]
    workload: dict[str, Any]
    cluster: dict[str, Any]
    makespan_bound: Bound | None
    schedules: dict[str, Schedule]
    instance: Instance
    windowed: Windowed | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``."""
        return plain(
            {
                "schema": "balanceroute/bracket",
                "version": 1,
                "workload": self.workload,
                "cluster": self.cluster,
                "makespan_bound": None if self.makespan_bound is None else self.makespan_bound.value,
                "rows": self.rows,
                "problems": [
                    {
                        "name": p.name,
                        "routers": list(p.routers),
                        "best_peak_sum": p.best_peak_sum,
                        "found_by": p.found_by,
                        "bound": p.bound,
                        "bound_method": p.bound_method,
                        "gap": p.gap,
                        "best_decode_time": p.best_decode_time,
                        "time_bound": p.time_bound,
                        "time_bound_method": p.time_bound_method,
                        "trajectory": [list(point) for point in p.trajectory],
                    }
                    for p in self.problems
                ],
                "windowed": None if self.windowed is None else self.windowed.to_json(),
                "skipped": self.skipped,
                "conclusions": self.sentences(),
            }
        )

    def sentences(self) -> list[str]:
        """What to conclude, in plain sentences."""
        first = self.rows[0]
        lines = [
            f"{first['router']} is at least {percent(first['above_best'], up=False)} and at most "
            f"{percent(first['above_bound'], up=True)} above the best placement of its own admissions."
        ]
        widest = max(self.problems, key=lambda p: p.gap)
        lines.append(
            f"The optimum lies between the bound and the best known: they are {percent(widest.gap, up=True)} apart"
            f"{'' if len(self.problems) == 1 else ' at most'}."
        )
        return lines

    def text(self, width: int = 100) -> str:
        """Table and conclusions as text."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        timed = self.windowed is not None or any(p.time_bound is not None for p in self.problems)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("router")
        table.add_column("peak_sum\ntoken-steps", justify="right")
        table.add_column("above the best placement\nat least .. at most", justify="right")
        if timed:
            table.add_column("decode\ntime, s", justify="right")
            table.add_column("above the best schedule\nat least .. at most", justify="right")
        if self.makespan_bound is not None:
            table.add_column("makespan\nover bound", justify="right")
        for row in self.rows:
            cells = [row["router"], f"{row['peak_sum']:,}", _span(row["above_best"], row["above_bound"])]
            if timed:
                cells.append(f"{row['decode_time']:,.2f}")
                cells.append(_span(row["time_above_best"], row["time_above_bound"]) if row["in_windows"] else "outside")
            if self.makespan_bound is not None:
                cells.append(percent(row["makespan_above_bound"], up=True))
            table.add_row(*cells)
        out = io.StringIO()
        console = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
        w, c = self.workload, self.cluster
        console.print(
            f"{w['name']}: {w['requests']:,} requests, {w['clock']} clock; {c['workers']} x {c['slots']} slots"
        )
        console.print(table)
        for p in self.problems:
            who = ", ".join(p.routers)
            console.print(
                f"{p.name} ({who}): best placement {p.best_peak_sum:,} by {p.found_by}, bound {p.bound_method} "
                f"{p.bound:,} (certified): {percent(p.gap, up=True)} apart. {_schedule_words(p)}"
            )
        console.print("At least: over the best known. At most: over the certified bound.")
        if self.windowed is not None:
            console.print(self.windowed.sentence())
            if len(self.windowed.inside) < len(self.rows):
                console.print("Outside: the run breaks these windows, and may be better than every schedule inside.")
        elif timed:
            console.print("Schedules: no later start than in the run.")
        for line in self.sentences():
            console.print(line)
        for name, reason in self.skipped.items():
            console.print(f"Left out: {name} ({reason}).")
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"

    def save(self, folder: str | os.PathLike[str], force: bool = False) -> None:
        """Write every problem, schedule and certificate into a folder; ``balanceroute check`` verifies it again.

        Raises
        ------
        InputError
            If a file exists and `force` is false, or the folder cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(exist_ok=True)
        except OSError as exc:
            raise InputError(f"{folder}: {exc.strerror or exc}") from None
        cluster = Cluster.from_dict(self.cluster)
        if self.makespan_bound is not None and self.makespan_bound.certificate is not None:
            write_instance(self.instance, folder / "makespan.instance.json.gz", force, cluster)
            write_certificate(self.makespan_bound.certificate, folder / "makespan.certificate.json.gz", force)
        for p in self.problems:
            stem = folder / p.name
            write_instance(p.instance, f"{stem}.instance.json.gz", force, cluster, p.start)
            write_schedule(p.best, f"{stem}.best.schedule.json.gz", p.instance, force)
            if p.quickest is not p.best:
                write_schedule(p.quickest, f"{stem}.quickest.schedule.json.gz", p.instance, force)
            for router in p.routers:
                write_schedule(
                    self.schedules[router], f"{stem}.{_file_name(router)}.schedule.json.gz", p.instance, force
                )
            write_certificate(p.certificate, f"{stem}.placement.certificate.json.gz", force)
            if p.time_certificate is not None:
                write_certificate(p.time_certificate, f"{stem}.schedule.certificate.json.gz", force)
        if self.windowed is not None:
            stem, w = folder / "windows", self.windowed
            write_instance(w.instance, f"{stem}.instance.json.gz", force, cluster)
            write_schedule(w.best, f"{stem}.best.schedule.json.gz", w.instance, force)
            write_certificate(w.certificate, f"{stem}.schedule.certificate.json.gz", force)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"Bracket({self.workload['name']}, {len(self.rows)} runs, {len(self.problems)} problems)"


def bracket(
    inst: Instance,
    cluster: Cluster,
    routers: Any = "all",
    *,
    minutes: float = 2.0,
    moves: int | None = None,
    bounds: Sequence[str] = ("pigeonhole",),
    schedule: bool = True,
    windows: str = OWN,
    iterations: int = 60,
    restarts: int = 1,
    seed: int = 0,
    jobs: int = 1,
    backend: str | None = None,
    scheduler: str | None = None,
    store: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Bracket:
    """Bracket every router's hindsight ratio on a workload of any size.

    Parameters
    ----------
    inst : Instance
        On either clock; a wall-clock run is judged on its own step-clock instance.
    cluster : Cluster
        Without KV capacity: the hindsight problems do not model preemption.
    routers : "all", str or list of str
        As in :func:`~balanceroute_opt.compare`; one run each, with `seed`.
    minutes : float
        Wall time for the searches, shared by the problems. With fewer searches than `jobs`, each has several threads.
    moves : int, optional
        Moves of each search in place of a time: the result is then the same on every machine.
    bounds : sequence of str
        Methods of :func:`~balanceroute_opt.placement_bound`; the best one counts.
    schedule : bool
        Also bound the best schedule in start windows (P2).
    windows : str
        ``own``: for each run, no later start than its own. Or one problem for all, on the step clock: ``max_wait=D``,
        ``latest=ROUTER`` (the starts of that router's run), ``none``.
    iterations : int
        Of its Lagrangian bound.
    restarts : int
        Searches per problem, with seeds ``seed``, ``seed + 1``, ...
    seed : int
    jobs : int
        Processes; -1 is one per core.
    backend, scheduler : str, optional
        As in :func:`~balanceroute_opt.run_study`.
    store : path-like, optional
        Folder for finished tasks: a bracket that was killed goes on where it was.
    progress : callable, optional
        Called with (stage, finished tasks, all tasks).

    Returns
    -------
    Bracket
        Schedules are checked, bounds verified from their certificates.

    Raises
    ------
    InputError
        If an option is out of range, the instance is empty, or the cluster has a KV capacity.
    RouterError
        If a router gives an answer that the model does not allow.
    CertificateError
        If a bound is not reproduced.
    """
    if not len(inst):
        raise InputError("the workload has no requests")
    if cluster.kv_capacity is not None:
        raise InputError("brackets are for clusters without a KV capacity: preemption is not modelled in hindsight")
    require_fit(inst, cluster)
    require_jobs(jobs)
    real(minutes, "minutes", positive=True)
    restarts, seed = integer(restarts, "restarts", 1, 10**4), integer(seed, "seed", 0, 2**62)
    iterations = integer(iterations, "iterations", 1, 10**6)
    if moves is not None:
        moves = integer(moves, "moves", 1)
    check_bounds(bounds)
    if windows != OWN and (not schedule or inst.clock != "step"):
        raise InputError(
            "common windows are for schedules on the step clock: releases differ from run to run otherwise"
        )
    specs = resolve(routers)
    if not all(isinstance(spec, str) for spec in specs):
        raise InputError("brackets take routers by text (a name, or FILE.py:CLASS): tasks are kept by what they say")
    if windows != OWN:
        limits_of(windows, dict.fromkeys(specs, np.empty(0, np.int64)))  # refuses what it does not know before any run
    kept = None if store is None else RowStore(store)
    shared = {"format": 4, "version": __version__, "instance": inst.digest(), "cluster": cluster.digest()}

    def run_all(stage: str, tasks: dict[str, tuple[dict[str, Any], tuple[Any, ...]]]) -> dict[str, dict[str, Any]]:
        """Results by name, from the store or computed; a task is (what decides it, arguments of its function)."""
        keys = {
            name: hashlib.sha256(json.dumps([shared, what], sort_keys=True).encode()).hexdigest()[:32]
            for name, (what, _) in tasks.items()
        }
        work = {keys[name]: arguments for name, (_, arguments) in tasks.items()}
        shown = None if progress is None else lambda done, total: progress(stage, done, total)
        results = complete(_task, work, kept, jobs, backend, scheduler, shown)
        return {name: results[key] for name, key in keys.items()}

    with nullcontext() if kept is None else kept.lock():
        runs = run_all(
            "runs", {s: ({"run": s, "file": _code(s), "seed": seed}, ("run", inst, cluster, s, seed)) for s in specs}
        )
        skipped = {s: runs[s]["skipped"] for s in specs if "skipped" in runs[s]}
        if routers != "all" and skipped:
            name, reason = next(iter(skipped.items()))
            raise InputError(f"{name}: {reason}")
        groups: dict[str, list[str]] = {}
        for s in specs:
            if s not in skipped:
                groups.setdefault(runs[s]["problem"], []).append(s)
        if not groups:
            raise InputError(f"no router can run here: {'; '.join(f'{k}: {v}' for k, v in skipped.items())}")
        tasks: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {}
        # Where full slots force the starts, a search for schedules would be the one for placements again.
        own = schedule and windows == OWN
        moving = {digest for digest, members in groups.items() if own and not runs[members[0]]["forced"]}
        count = (len(groups) + len(moving) + (schedule and not own)) * restarts
        processes = jobs if jobs > 0 else os.cpu_count() or 1
        seconds = max(_COMPILE_SECONDS, 60 * minutes * min(processes, count) / count)
        # A search that counts moves must not depend on `jobs`, nor one on an engine on the cores of this machine.
        threads = 1 if moves is not None or backend in ("dask", "ray") else max(1, processes // count)
        spent = None if moves is not None else seconds
        effort = [
            ({"seed": k, "moves": moves, "seconds": spent, "threads": threads}, (k, seconds, moves, threads))
            for k in range(seed, seed + restarts)
        ]
        bounding: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {}
        for digest, members in groups.items():
            stepped, start = _stepped(inst, runs[members[0]])
            first = min(members, key=lambda s: (runs[s]["peak_sum"], members.index(s)))
            worker = unpacked(runs[first]["worker"])
            for k, (how, options) in enumerate(effort):
                what = {"search": digest, "from": runs[first]["placement"]} | how
                tasks[f"search {digest} {k}"] = what, ("search", stepped, cluster, start, worker, *options)
                if digest in moving:
                    limits = {"latest": start}
                    arguments = ("starts", stepped, cluster, limits, start, worker, *options)
                    tasks[f"starts {digest} {k}"] = what | {"starts": OWN}, arguments
            for method in bounds:
                bounding[f"bound {digest} {method}"] = (
                    {"bound": digest, "method": method},
                    ("bound", stepped, cluster, start, method),
                )
            if own:
                bounding[f"time {digest}"] = (
                    {"time": digest, "iterations": iterations},
                    ("time", stepped, cluster, {"latest": start}, iterations),
                )
        done = {s: Schedule(unpacked(runs[s]["start"]), unpacked(runs[s]["worker"])) for s in specs if s not in skipped}
        limits, inside = {}, []  # of common windows
        if schedule and not own:
            limits = limits_of(windows, {s: sched.start for s, sched in done.items()})
            inside = [s for s in done if keeps(inst, cluster, limits, done[s].start)]
            if not inside:
                raise InputError(f"{windows}: no run keeps these windows, so that no search can begin")
            first = min(inside, key=lambda s: runs[s]["decode_time"])
            what = {"windows": windows if "latest" not in limits else runs[windows.partition("=")[2]]["problem"]}
            bounding["time"] = what | {"iterations": iterations}, ("time", inst, cluster, limits, iterations)
            what |= {"from": [runs[first][name] for name in ("problem", "placement")]}
            begin = done[first]
            for k, (how, options) in enumerate(effort):
                arguments = ("starts", inst, cluster, limits, begin.start, begin.worker, *options)
                tasks[f"starts {k}"] = what | how, arguments
        results = run_all("bounds and searches", tasks | bounding)  # the long ones first
    problems = [
        _problem(f"problem-{number}", inst, cluster, digest, members, runs, results, restarts, bounds, own)
        for number, (digest, members) in enumerate(groups.items(), 1)
    ]
    common = None
    if inside:
        found = [(s, done[s]) for s in inside]
        found += [("search", schedule_of(results[f"starts {k}"])) for k in range(restarts)]
        found += [("search", p.best) for p in problems if set(p.routers) <= set(inside)]
        common = windowed.windowed(inst, cluster, windows, limits, found, inside, results["time"])
    return _bracket(inst, cluster, runs, problems, skipped, common)


# Tasks: pure functions of their arguments; results are plain data


def _task(kind: str, *arguments: Any) -> dict[str, Any]:
    return _TASKS[kind](*arguments)


def _run(inst: Instance, cluster: Cluster, spec: str, seed: int) -> dict[str, Any]:
    try:
        run = simulate(inst, cluster, router_from(spec)[1], seed)
    except InputError as exc:
        return {"skipped": str(exc)}
    if run.preemptions:
        return {"skipped": f"{run.preemptions} preemptions, which the hindsight problems do not model"}
    check(run.instance, cluster, run.schedule)
    start, worker = run.schedule.start, run.schedule.worker
    problem = hashlib.sha256(run.instance.digest().encode() + start.tobytes()).hexdigest()[:32]
    metrics = run.metrics()
    return {
        "problem": problem,
        "forced": forced_starts(run.instance, cluster, latest=start) is not None,
        "placement": hashlib.sha256(worker.tobytes()).hexdigest()[:32],
        "release": packed(run.instance.release.astype(np.int64)) if inst.clock == "wall" else None,
        "start": packed(start),
        "worker": packed(worker),
        "peak_sum": run.peak_sum,
        "decode_time": run.decode_time,
        "excess": metrics["excess"],
        "makespan": makespan(run) if inst.clock == "wall" else None,
    }


def _search(
    inst: Instance,
    cluster: Cluster,
    start: Int64Array,
    worker: Int64Array,
    seed: int,
    seconds: float,
    moves: int | None,
    threads: int,
) -> dict[str, Any]:
    limit = 1e9 if moves is not None else seconds
    found = search_placement(
        inst, cluster, Schedule(start, worker), time_limit=limit, moves=moves, seed=seed, threads=threads
    )
    points = [[round(t, 3), int(value)] for t, _, value in found.trajectory]
    return {
        "worker": packed(found.schedule.worker),
        "peak_sum": int(found.objective),
        # Times of a search that counts moves are no part of its result.
        "trajectory": points if moves is None else [[0.0, value] for _, value in points],
    }


def _bound(inst: Instance, cluster: Cluster, start: Int64Array, method: str) -> dict[str, Any]:
    bound = placement_bound(inst, cluster, start, method)  # type: ignore[arg-type]
    return {"value": int(bound.value), "method": bound.method, "certificate": bound.certificate}


_TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "run": _run,
    "search": _search,
    "bound": _bound,
    "starts": windowed.search,
    "time": windowed.bound,
}


# From results to brackets


def _stepped(inst: Instance, run: dict[str, Any]) -> tuple[Instance, Int64Array]:
    """The step-clock instance of a run, and its starts."""
    start = unpacked(run["start"])
    if run["release"] is None:
        return inst, start
    return inst.replace(release=unpacked(run["release"]), clock="step"), start


def _problem(
    name: str,
    inst: Instance,
    cluster: Cluster,
    digest: str,
    members: list[str],
    runs: dict[str, dict[str, Any]],
    results: dict[str, dict[str, Any]],
    restarts: int,
    bounds: Sequence[str],
    schedule: bool,
) -> Problem:
    stepped, start = _stepped(inst, runs[members[0]])
    candidates = [(runs[s]["peak_sum"], s, runs[s]["worker"]) for s in members]
    searches = [results[f"search {digest} {k}"] for k in range(restarts)]
    best_search = min(searches, key=lambda row: row["peak_sum"])
    candidates.append((best_search["peak_sum"], "search", best_search["worker"]))
    cost, found_by, packed = min(candidates, key=lambda c: c[0])
    best = Schedule(start, unpacked(packed))
    check(stepped, cluster, best)
    if peak_sum(stepped, cluster, best) != cost:
        raise CertificateError(f"{name}: the best placement costs {peak_sum(stepped, cluster, best)}, not {cost}")
    bound = max((results[f"bound {digest} {method}"] for method in bounds), key=lambda row: row["value"])
    require_proof(name, stepped, cluster, bound)
    timed = results[f"time {digest}"] if schedule else {"value": None, "method": None, "certificate": None}
    quickest = best
    for k in range(restarts):
        row = results.get(f"starts {digest} {k}")
        if row is None:  # of forced starts
            continue
        other = schedule_of(row)
        check(stepped, cluster, other)
        if (other.start > start).any():
            raise CertificateError(f"{name}: a schedule of the search starts later than the runs")
        quickest = min(quickest, other, key=lambda sched: decode_time(stepped, cluster, sched))
    if timed["certificate"] is not None:
        require_proof(name, stepped, cluster, timed)
    return Problem(
        name,
        stepped,
        start,
        tuple(members),
        best,
        cost,
        found_by,
        bound["value"],
        bound["method"],
        bound["certificate"],
        quickest,
        decode_time(stepped, cluster, quickest),
        timed["value"],
        timed["method"],
        timed["certificate"],
        tuple((t, v) for t, v in best_search["trajectory"]),
    )


def _bracket(
    inst: Instance,
    cluster: Cluster,
    runs: dict[str, dict[str, Any]],
    problems: list[Problem],
    skipped: dict[str, str],
    common: Windowed | None,
) -> Bracket:
    makespans = makespan_bound(inst, cluster) if inst.clock == "wall" else None
    if makespans is not None:
        makespans.reproduced(inst, cluster)
    rows, schedules = [], {}
    for p in problems:
        quickest, time_bound = p.best_decode_time, p.time_bound
        if common is not None:
            quickest, time_bound = common.best_decode_time, common.bound
        for s in p.routers:
            run = runs[s]
            schedules[s] = Schedule(p.start, unpacked(run["worker"]))
            row = {
                "router": s,
                "problem": p.name,
                "excess": run["excess"],
                "peak_sum": run["peak_sum"],
                "above_best": run["peak_sum"] / p.best_peak_sum - 1,
                "above_bound": run["peak_sum"] / p.bound - 1,
                "decode_time": run["decode_time"],
                "time_above_best": run["decode_time"] / quickest - 1,
                "time_above_bound": None if time_bound is None else run["decode_time"] / time_bound - 1,
                "in_windows": common is None or s in common.inside,
            }
            if makespans is not None:
                row |= {"makespan": run["makespan"], "makespan_above_bound": above_makespan(run["makespan"], makespans)}
            rows.append(row)
    rows.sort(key=lambda row: (row["above_bound"], row["router"]))
    about = describe(inst, cluster), cluster.as_dict()
    return Bracket(rows, problems, skipped, *about, makespans, schedules, inst, common)


def _schedule_words(p: Problem) -> str:
    if p.time_bound is None:
        return ""
    if p.time_bound_method == "forced":
        return "Full slots force the starts: the schedule problem is the placement problem."
    return f"Best schedule {p.best_decode_time:,.2f} s, bound {p.time_bound_method} {p.time_bound:,.2f} s (certified)."


def _code(spec: str) -> str | None:
    """Digest of a router's own file."""
    head = spec.split(":")[0]
    return hashlib.sha256(Path(head).read_bytes()).hexdigest() if head.endswith(".py") else None


def _file_name(router: str) -> str:
    return "".join(c if c.isalnum() or c in "-_=" else "_" for c in router)


def _span(low: float, high: float | None) -> str:
    return f"{percent(low, up=False)} .. {'-' if high is None else percent(high, up=True)}"
