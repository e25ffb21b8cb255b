"""Schedules, the one definition of each objective, and the checker (``docs/model.md``, sections 2, 4, 6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ._validate import Int64Array, frozen, integers
from .errors import InputError, InvalidSchedule
from .instance import Cluster, Instance, require_step_clock

__all__ = ["Schedule", "active_steps", "check", "decode_time", "peak_loads", "peak_sum", "worker_loads"]

_MAX_ACTIVE_STEPS = 10**9


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """When and where every request decodes.

    Parameters
    ----------
    start : array_like of int, shape (n,)
        ``t_i``: step of admission, >= 0.
    worker : array_like of int, shape (n,)
        ``g_i``: worker, >= 0.

    Raises
    ------
    InputError
        If an entry is not a whole number >= 0 inside int64, or the lengths differ.

    Notes
    -----
    A schedule may break the model's rules; :func:`check` says whether it does, and which.
    """

    start: Int64Array
    worker: Int64Array

    def __init__(self, start: ArrayLike, worker: ArrayLike) -> None:
        object.__setattr__(self, "start", integers(start, "start", 0, 2**62))
        object.__setattr__(self, "worker", integers(worker, "worker", 0, 2**31 - 1))
        if len(self.start) != len(self.worker):
            raise InputError(f"worker has {len(self.worker)} entries, start has {len(self.start)}")

    def __len__(self) -> int:
        return len(self.start)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return np.array_equal(self.start, other.start) and np.array_equal(self.worker, other.worker)

    def __hash__(self) -> int:
        return hash((self.start.tobytes(), self.worker.tobytes()))

    def __repr__(self) -> str:
        return f"Schedule({len(self):,} requests on {len(np.unique(self.worker)):,} workers)"


def _same_length(inst: Instance, sched: Schedule) -> None:
    if len(sched) != len(inst):
        raise InvalidSchedule(f"the schedule has {len(sched)} entries, the instance {len(inst)} requests")


def _require_workers(cluster: Cluster, sched: Schedule) -> None:
    if len(sched) and int(sched.worker.max()) >= cluster.workers:
        i = int(np.argmax(sched.worker >= cluster.workers))
        raise InvalidSchedule(f"request {i} is on worker {sched.worker[i]}, and there are {cluster.workers} workers")


def active_steps(start: Int64Array, output: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Positions on the axis of active steps (idle steps left out).

    Parameters
    ----------
    start, output : ndarray of int64, shape (n,)

    Returns
    -------
    position : ndarray of int64, shape (n,)
        Number of active steps before step ``start[i]``.
    steps : ndarray of int64, shape (K,)
        The active steps, ascending.

    Raises
    ------
    InputError
        If there are more than 10**9 active steps.
    """
    if not len(start):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.argsort(start, kind="stable")
    first, end = start[order], np.maximum.accumulate(start[order] + output[order])
    idle_before = np.maximum(first[1:] - end[:-1], 0)
    gap = np.concatenate(([first[0]], idle_before))
    position = np.empty(len(start), np.int64)
    position[order] = first - np.cumsum(gap)
    count = int(end[-1] - gap.sum())
    if count > _MAX_ACTIVE_STEPS:
        raise InputError(f"the schedule has {count} active steps, more than {_MAX_ACTIVE_STEPS}")
    steps = np.ones(count, np.int64)
    steps[0] = first[0]
    breaks = np.flatnonzero(idle_before)
    steps[position[order][1:][breaks]] += idle_before[breaks]
    return position, np.cumsum(steps)


def _worker_loads(inst: Instance, cluster: Cluster, sched: Schedule) -> Iterator[Int64Array]:
    """Load of each worker in every active step, one worker after the other, each of shape (K,)."""
    position, steps = active_steps(sched.start, inst.output)
    count = len(steps)
    axis = np.arange(count, dtype=np.int64)
    by_worker = np.argsort(sched.worker, kind="stable")
    cut = np.searchsorted(sched.worker[by_worker], np.arange(cluster.workers + 1))
    for g in range(cluster.workers):
        mine = by_worker[cut[g] : cut[g + 1]]
        begin, end = position[mine], position[mine] + inst.output[mine]
        # A request's load at position p is (s - begin) + p: sum offsets and counts over the active ones.
        offset, number = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
        np.add.at(offset, begin, inst.prompt[mine] - begin)
        np.add.at(number, begin, 1)
        np.subtract.at(offset, end, inst.prompt[mine] - begin)
        np.subtract.at(number, end, 1)
        yield np.cumsum(offset[:-1]) + np.cumsum(number[:-1]) * axis


def peak_loads(inst: Instance, cluster: Cluster, sched: Schedule) -> Int64Array:
    """``max_g L_g(k)`` of every active step k of `sched`, in order of steps.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    sched : Schedule
        Workers must exist; slots and releases are not checked here (see :func:`check`).

    Returns
    -------
    ndarray of int64, shape (K,), tokens

    Raises
    ------
    InvalidSchedule
        If lengths differ or a worker does not exist.
    InputError
        If the instance is on the wall clock.
    """
    require_step_clock(inst, "peak_loads")
    _same_length(inst, sched)
    _require_workers(cluster, sched)
    loads = _worker_loads(inst, cluster, sched)
    peak = next(loads)
    for load in loads:
        np.maximum(peak, load, out=peak)
    return frozen(peak)


def worker_loads(inst: Instance, cluster: Cluster, sched: Schedule) -> Int64Array:
    """``L_g(k)`` of every worker g in every active step k, shape (G, K), tokens; errors as :func:`peak_loads`."""
    require_step_clock(inst, "worker_loads")
    _same_length(inst, sched)
    _require_workers(cluster, sched)
    return frozen(np.stack(list(_worker_loads(inst, cluster, sched))))


def peak_sum(inst: Instance, cluster: Cluster, sched: Schedule) -> int:
    """Objective of the placement problem: ``sum_k max_g L_g(k)`` token-steps (section 6, P1)."""
    return int(peak_loads(inst, cluster, sched).sum())


def decode_time(inst: Instance, cluster: Cluster, sched: Schedule) -> float:
    """Objective of the schedule problem: seconds of all active steps (section 6, P2).

    ``c*K + a*sum_k max_g L_g(k) + b*W/G`` with K active steps and W the total work.
    """
    peaks = peak_loads(inst, cluster, sched)
    return cluster.step_time.seconds_of(len(peaks), int(peaks.sum()), inst.total_work, cluster.workers)


def check(inst: Instance, cluster: Cluster, sched: Schedule) -> None:
    """Raise unless `sched` obeys every rule of the model; shares no code with simulator or oracles.

    Rules, in the order in which they are checked: one entry per request; no start before the
    release; workers exist; at most B requests per worker and step; at most C tokens per worker
    and step.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    sched : Schedule

    Raises
    ------
    InvalidSchedule
        Naming the first broken rule with its numbers.
    InputError
        If the instance is on the wall clock.
    """
    require_step_clock(inst, "check")
    _same_length(inst, sched)
    on_worker: dict[int, list[tuple[int, int, int, int]]] = {}
    columns = (sched.start, sched.worker, inst.release, inst.prompt, inst.output)
    for i, (t, g, r, s, o) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        if t < r:
            raise InvalidSchedule(f"request {i} starts in step {t}, before its release {r}")
        if g >= cluster.workers:
            raise InvalidSchedule(
                f"request {i} is on worker {g}, and there are {cluster.workers} workers (0 .. {cluster.workers - 1})"
            )
        events = on_worker.setdefault(g, [])
        events.append((t, 1, s - t, i))
        events.append((t + o, -1, t - s, i))
    for g in sorted(on_worker):
        _check_worker(g, sorted(on_worker[g]), cluster)


def _check_worker(g: int, events: list[tuple[int, int, int, int]], cluster: Cluster) -> None:
    """Sweep one worker's starts and ends (ends of a step come first: their slot is free in it)."""
    number = offset = 0
    for position, (step, change, shift, i) in enumerate(events):
        number += change
        offset += shift
        if number > cluster.slots:
            raise InvalidSchedule(
                f"worker {g} has {number} requests in step {step} (request {i} is one too many), "
                f"and {cluster.slots} slots"
            )
        if cluster.kv_capacity is None or position + 1 == len(events):
            continue
        last = events[position + 1][0] - 1  # loads grow until the next event
        if last >= step and offset + number * last > cluster.kv_capacity:
            over = step if number == 0 else max(step, (cluster.kv_capacity - offset) // number + 1)
            raise InvalidSchedule(
                f"worker {g} holds {offset + number * over} KV tokens in step {over}, "
                f"more than kv_capacity = {cluster.kv_capacity}"
            )
