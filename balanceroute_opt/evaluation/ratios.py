"""The hindsight ratio of a run, as a bracket (``docs/model.md``, section 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..certificates import Bound
from ..errors import InputError
from ..instance import Cluster, Instance
from ..schedule import Schedule, check, peak_loads

__all__ = ["HindsightRatio", "above_makespan", "hindsight_ratio", "makespan", "percent"]


@dataclass(frozen=True)
class HindsightRatio:
    """``lower <= ALG / OPT <= upper``, and what each end rests on.

    Attributes
    ----------
    lower : float
        ALG over the best known solution, rounded down; 1 where that is the run itself.
    upper : float
        ALG over the lower bound, rounded up; inf if the bound is 0 and the run costs something.
    lower_rests_on, upper_rests_on : str
    certified : bool
        The bound under `upper` is certified, not only claimed.
    """

    lower: float
    upper: float
    lower_rests_on: str
    upper_rests_on: str
    certified: bool

    def __str__(self) -> str:
        return f"{self.lower:.4f} .. {self.upper:.4f} ({self.lower_rests_on}; {self.upper_rests_on})"


def hindsight_ratio(run: Any, bound: Bound, best: Any = None) -> HindsightRatio:
    """How far a run is from the hindsight optimum that `bound` bounds.

    Parameters
    ----------
    run : object
        Anything with ``instance`` (step clock), ``cluster``, ``schedule``, ``preemptions``, ``peak_sum``
        and ``decode_time``, such as the result of :func:`~balanceroute_opt.simulate`.
    bound : Bound
        Of the placement problem with the run's own starts (compares ``peak_sum``), or of the schedule
        problem of the run's instance (compares ``decode_time``).
    best : Solution or Schedule, optional
        Best known solution of the same problem; anything with a ``schedule``, or a schedule. It is
        checked and priced again. None, or a solution without a schedule: the run itself.

    Returns
    -------
    HindsightRatio
        ``[ALG / best known, ALG / lower bound]``. The bracket of 0 / 0 (no requests, or steps that cost
        nothing) is 1.

    Raises
    ------
    InputError
        If the bound is of makespans, for another instance, cluster or other starts, the run had preemptions (the
        oracles do not model them), its cost is not that of its schedule, or `best` solves another
        problem.
    InvalidSchedule
        If `best` breaks a rule of the model.

    Notes
    -----
    A run that breaks the start windows of a schedule bound is no solution of that problem. The upper
    end stays true; without a `best`, the lower end is then 0.
    """
    inst, cluster, sched = run.instance, run.cluster, run.schedule
    if run.preemptions:
        raise InputError(f"the run had {run.preemptions} preemptions, which the hindsight problems do not model")
    if bound.problem == "makespan":
        raise InputError("a makespan bound is no bound on a hindsight problem; it stands beside the run's makespan")
    if bound.instance != inst.digest():
        raise InputError("the bound is for another instance than the run's; use run.instance for both")
    if bound.cluster != cluster.digest():
        raise InputError("the bound is for another cluster than the run's")
    _same_starts(bound, sched, "the run")
    cost = _cost(inst, cluster, sched, bound.problem)
    stated = run.peak_sum if bound.problem == "placement" else run.decode_time
    if not math.isclose(stated, cost, rel_tol=1e-9) or (bound.problem == "placement" and stated != cost):
        raise InputError(f"the run states a cost of {stated}, and its schedule costs {float(cost):.12g}")

    late = _late(bound, sched)
    known, rests_on = (cost, "the run itself is the best known") if late is None else (None, late)
    best_schedule = best if isinstance(best, Schedule) else getattr(best, "schedule", None)
    if best is not None and best_schedule is not None:
        check(inst, cluster, best_schedule)
        _same_starts(bound, best_schedule, "the best solution")
        if (reason := _late(bound, best_schedule)) is not None:
            raise InputError(f"the best solution is none of the bound's problem: {reason}")
        price = _cost(inst, cluster, best_schedule, bound.problem)
        if known is None or price < known:
            known, rests_on = price, f"best known solution, {float(price):.12g}"
    elif best is not None and not hasattr(best, "schedule"):
        raise InputError(f"best must be a solution, a schedule or None, got {type(best).__name__}")
    return HindsightRatio(
        lower=0.0 if known is None else _quotient(cost, known, up=False),
        upper=_quotient(cost, Fraction(bound.exact), up=True),
        lower_rests_on=rests_on,
        upper_rests_on=f"{bound.status} {bound.problem} bound {bound.method}"
        + (f" ({bound.windows})" if bound.windows else ""),
        certified=bound.status == "certified",
    )


def makespan(run: Any) -> float:
    """Seconds from the first arrival to the end of the last step, on the run's own clock.

    Parameters
    ----------
    run : Run
        On the wall clock.

    Raises
    ------
    InputError
        If it is on the step clock.
    """
    if run.arrival is None:
        raise InputError("a makespan needs the wall clock, and the run is on the step clock")
    steps = run.steps
    if not len(steps):
        return 0.0
    last = run.cluster.step_time.seconds(int(steps.peak[-1]), int(steps.total[-1]), run.cluster.workers)
    return float(steps.time[-1] + last - run.arrival.min())


def above_makespan(seconds: float, bound: Bound) -> float:
    """The share by which a makespan is above the bound on all makespans, >= 0.

    The clock of a run adds rounded step times, and can be some last digits below what the same run takes exactly.
    """
    return max(0.0, seconds / bound.value - 1) if bound.value > 0 else 0.0


def percent(share: float, up: bool) -> str:
    """A share in per cent with two digits, rounded up or down: what is said of it at most, or at least, stays true."""
    if not math.isfinite(share):
        return "no limit"
    return f"{(math.ceil if up else math.floor)(share * 10_000) / 100:.2f} %"


def _same_starts(bound: Bound, sched: Schedule, who: str) -> None:
    if bound.problem != "placement":
        return
    start = bound.start
    if start is None or len(start) != len(sched):
        raise InputError(f"the placement bound is not for the starts of {who}")
    differs = start != sched.start
    if differs.any():
        i = int(np.argmax(differs))
        raise InputError(
            f"the placement bound is for other starts: request {i} starts in step {start[i]} there, "
            f"and in step {sched.start[i]} in {who}"
        )


def _late(bound: Bound, sched: Schedule) -> str | None:
    """Why `sched` breaks the start windows of a schedule bound; None if it does not."""
    if bound.latest is None:
        return None
    late = sched.start > bound.latest
    if not late.any():
        return None
    i = int(np.argmax(late))
    return f"no known solution: request {i} starts in step {sched.start[i]}, after its latest, {bound.latest[i]}"


def _cost(inst: Instance, cluster: Cluster, sched: Schedule, problem: str) -> Fraction:
    """The objective of `problem`, exactly."""
    peaks = peak_loads(inst, cluster, sched)
    if problem == "placement":
        return Fraction(int(peaks.sum()))
    return cluster.step_time.exact_seconds_of(len(peaks), int(peaks.sum()), inst.total_work, cluster.workers)


def _quotient(cost: Fraction, by: Fraction, up: bool) -> float:
    if by == 0:
        return 1.0 if cost == 0 else math.inf
    exact = cost / by
    nearest = float(exact)
    if up:
        return nearest if nearest >= exact else math.nextafter(nearest, math.inf)
    return nearest if nearest <= exact else math.nextafter(nearest, 0.0)
