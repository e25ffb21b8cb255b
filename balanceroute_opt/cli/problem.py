"""A hindsight problem as the options of ``bound`` and ``solve`` name it, and the course of a search for it."""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError
from .common import cluster_from, is_json_file, natural, read_run_or_problem, workload_from

if TYPE_CHECKING:
    from ..certificates import Bound
    from ..instance import Cluster, Instance
    from ..simulator import Run

__all__ = ["Problem", "Searching", "add_problem", "problem_from", "search"]

_GRACE = 2.0  # seconds for a solver to return what it has


def add_problem(parser: argparse._ActionsContainer) -> None:
    """Which starts a hindsight problem takes as given or allows; :func:`problem_from` reads them."""
    parser.add_argument(
        "--starts-from",
        metavar="ROUTER",
        help="admission steps of a run of this router, or of a file (default: those in the file); for schedule they "
        "are the latest starts that are allowed",
    )
    parser.add_argument("--router-seed", type=natural, default=0, metavar="S", help="of a random router (default 0)")
    parser.add_argument("--max-wait", type=int, metavar="D", help="schedule: start at most D steps after the release")
    parser.add_argument(
        "--latest-from",
        metavar="ROUTER",
        help="schedule: no start later than in a run of this router, or than in a file; none: no such limit (default: "
        "that of a saved run; no limit for instances)",
    )


@dataclass(frozen=True)
class Problem:
    """One of the two hindsight problems, as the options of a command name it.

    Attributes
    ----------
    kind : {"placement", "schedule"}
    inst : Instance
        On the step clock.
    cluster : Cluster
    run : Run or None
        Whose starts are taken.
    start : array of int64, or None
        Placement: the admission steps.
    max_wait, latest
        Schedule: the start windows.
    origin : str
        Where the starts come from, in words.
    """

    kind: Literal["placement", "schedule"]
    inst: Instance
    cluster: Cluster
    run: Run | None
    start: Any
    max_wait: int | None
    latest: Any
    origin: str

    @property
    def windows(self) -> dict[str, Any]:
        """The start windows as keyword arguments."""
        return {"max_wait": self.max_wait, "latest": self.latest}

    @property
    def unit(self) -> str:
        """Of the objective."""
        return "token-steps" if self.kind == "placement" else "s"

    def words(self) -> str:
        """The problem in one line."""
        workers = self.cluster.workers
        size = f"{len(self.inst):,} requests on {workers} worker{'s' * (workers > 1)} x {self.cluster.slots} slots"
        if self.kind == "placement":
            return f"placement of {size}, at the admission steps {self.origin}"
        limits = [] if self.max_wait is None else [f"at most {self.max_wait} steps after the release"]
        limits += [] if self.latest is None else [f"no later than those {self.origin}"]
        return f"schedule of {size}, starts {' and '.join(limits) or 'without limit: releases do not matter'}"

    def forced(self) -> Bound | None:
        """The bound on schedules where full slots leave no other starts than the latest ones; None elsewhere."""
        from ..oracles.forced import forced_bound

        if self.latest is None or self.max_wait is not None:
            return None
        return forced_bound(self.inst, self.cluster, self.latest)

    def number(self, value: float) -> str:
        """A value of the objective as text."""
        return f"{value:,}" if isinstance(value, int) else f"{value:,.9g}"

    def price(self, sched: Any) -> float:
        """The objective of a schedule, after it is checked against every rule of the model."""
        from ..schedule import check, decode_time, peak_sum

        check(self.inst, self.cluster, sched)
        return (peak_sum if self.kind == "placement" else decode_time)(self.inst, self.cluster, sched)


def problem_from(args: argparse.Namespace, kind: str) -> Problem:
    """The problem of the options of :func:`add_workload`, :func:`add_cluster` and :func:`add_problem`."""
    for name in ("max_wait", "latest_from"):
        if getattr(args, name) is not None and kind != "schedule":
            how = "solve schedule" if args.command == "solve" else "add --problem schedule"
            raise InputError(f"--{name.replace('_', '-')} limits the starts of the schedule problem; {how}")
    if args.starts_from is not None and args.latest_from is not None:
        raise InputError("--starts-from and --latest-from are one and the same for schedule: give one of them")
    run, inst, cluster, start = _given(args)
    source = args.latest_from or args.starts_from
    origin = "of the run in the file" if run is not None else "in the file"
    if args.latest_from == "none":
        run = start = None
    elif source is not None and _is_file(source):
        other, theirs, _, start = read_run_or_problem(source)
        if theirs.digest() != inst.digest():
            raise InputError(f"{source}: is about another instance than {args.trace or 'the generated one'}")
        if start is None:
            raise InputError(f"{source}: has no admission steps")
        run, origin = (other if other is None or other.cluster.digest() == cluster.digest() else None), f"in {source}"
    elif source is not None:
        run = _simulated(args, source, inst, cluster)
        inst, start, origin = run.instance, run.schedule.start, f"of {run.router}"
    elif run is None and kind == "schedule":
        start = None  # a file's admission steps are those of a placement problem
    if run is not None and run.preemptions:
        raise InputError(f"the run had {run.preemptions} preemptions, which the hindsight problems do not model")
    if inst.clock == "wall":
        raise InputError("the hindsight problems work on steps: give --starts-from ROUTER, or --clock step")
    if kind == "placement":
        if start is None:
            changed = [name for name in ("head", "utilization", "clock") if getattr(args, name) is not None]
            why = f"; --{changed[0]} leaves none of a file" if changed and _is_file(args.trace or "") else ""
            raise InputError(
                f"the placement problem needs admission steps: give --starts-from ROUTER, or a file with start{why}"
            )
        return Problem("placement", inst, cluster, run, start, None, None, origin)
    return Problem("schedule", inst, cluster, run, None, args.max_wait, start, origin)


def _given(args: argparse.Namespace) -> tuple[Run | None, Instance, Cluster, Any]:
    """What the arguments name: a saved run, a problem, or a workload without starts."""
    plain = all(getattr(args, name) is None for name in ("head", "utilization", "clock", "format"))
    path = args.trace
    if path is not None and plain and (is_json_file(path) or _is_run_parquet(path)):
        run, inst, found, start = read_run_or_problem(path)
        if found is None and (args.workers is None or args.slots is None):
            raise InputError(f"{path}: has no cluster; give --workers and --slots")
        cluster = cluster_from(args, found)
        if run is not None and cluster.digest() != run.cluster.digest():
            raise InputError(f"{path}: is a run, which has its own cluster")
        return run, inst, cluster, start
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


def _is_file(text: str) -> bool:
    return is_json_file(text) or text.endswith(".parquet")


def _simulated(args: argparse.Namespace, spec: str, inst: Instance, cluster: Cluster) -> Run:
    from ..experiments.specs import router_from
    from ..simulator import simulate

    label, router = router_from(spec)
    return replace(simulate(inst, cluster, router, args.router_seed), router=label)


class Searching:
    """The course of a search: a line on stderr that is written over, if that is a terminal."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.last: tuple[float, float, float] | None = None
        self._drawn = -math.inf
        self._terminal = sys.stderr.isatty()

    def __call__(self, seconds: float, objective: float, bound: float) -> None:
        self.last = (seconds, objective, bound)
        if self._terminal and seconds - self._drawn >= 0.2:
            self._drawn = seconds
            sys.stderr.write(f"\r\x1b[K{self.text()}")
            sys.stderr.flush()

    def text(self) -> str:
        """Seconds, incumbent, bound and gap in words."""
        if self.last is None:
            return "no incumbent yet"
        seconds, objective, bound = self.last
        known, limit = math.isfinite(objective), math.isfinite(bound)
        parts = [
            f"{seconds:.1f} s",
            f"incumbent {self._whole(objective)}" if known else "no incumbent yet",
            f"bound {self._whole(bound)}" if limit else "no bound yet",
        ]
        if known and limit and objective:
            parts.append(f"gap {100 * max(0.0, objective - bound) / objective:.2f} %")
        return "  ".join(parts)

    def _whole(self, value: float) -> str:
        return f"{value:,.0f}" if self.problem.kind == "placement" else f"{value:,.6g}"

    def clear(self) -> None:
        """Take the line away."""
        if self._terminal and self._drawn > -math.inf:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def search(problem: Problem, solve: Callable[[Searching], Any]) -> tuple[Any, bool]:
    """What ``solve(progress)`` returns, with its course on stderr if that is a terminal; and whether Ctrl-C ended it.

    The solver runs in a thread of its own, because a compiled one may not hear of Ctrl-C before its time limit. It
    gets a moment to return what it has; if it does not, the process ends, with status 1 and a line that says how far
    the search was.
    """
    course = Searching(problem)
    answer: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(solve(course))
        except BaseException as exc:  # handed to the main thread
            failure.append(exc)
        finally:
            done.set()

    done = threading.Event()  # joining a thread is not safe against Ctrl-C
    thread = threading.Thread(target=run, daemon=True)
    began, interrupted = time.perf_counter(), False
    try:
        thread.start()
        try:
            while not done.wait(0.1):
                pass
        except KeyboardInterrupt:
            interrupted = True
            _interrupt(thread)
            with suppress(KeyboardInterrupt):  # pressed again: no grace
                done.wait(_GRACE)
    finally:
        course.clear()
    if answer:
        return answer[0], interrupted
    if failure and not interrupted:
        raise failure[0]
    text = f"interrupted after {time.perf_counter() - began:.1f} s, nothing written; last: {course.text()}"
    print(f"balanceroute: {text}", file=sys.stderr, flush=True)
    os._exit(1)  # nothing else stops the threads of a library


def _interrupt(thread: threading.Thread) -> None:
    """Raise KeyboardInterrupt in `thread`, as soon as it runs Python code."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
