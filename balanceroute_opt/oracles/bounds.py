"""Lower bounds on the two hindsight problems, each with its certificate (``docs/model.md``, section 7).

All of them hold with a KV capacity too, which only takes placements away.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._validate import Int64Array, frozen, integer, integers, real
from ..certificates import Bound
from ..errors import InputError
from ..instance import MAX_STEP, Cluster, Instance, require_fit, require_step_clock
from ..schedule import active_steps

__all__ = ["StepBounds", "given_starts", "placement_bound", "schedule_bound", "start_windows", "step_bounds"]

PlacementMethod = Literal["fluid", "item", "pigeonhole", "migration", "window"]

_PLACEMENT = ("fluid", "item", "pigeonhole", "migration", "window")
_SCHEDULE = ("fluid", "lagrangian")
_VERIFIED_NODES = 10**6  # of all searches that one certificate asks the verifier to repeat


def placement_bound(
    inst: Instance,
    cluster: Cluster,
    start: ArrayLike,
    method: PlacementMethod = "pigeonhole",
    node_limit: int = 20_000,
    *,
    window: int | Literal["auto"] = 20,
    time_limit: float = 60.0,
    jobs: int = 1,
    certificate: bool = True,
) -> Bound:
    """Lower bound on ``peak_sum`` over all placements with these starts (P1).

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    start : array_like of int, shape (n,)
        ``t_i``: step of admission of each request, >= its release.
    method : {"fluid", "item", "pigeonhole", "migration", "window"}
        Each is a sum over active steps k, with ``W_k`` the total load, ``w_i(k)`` the loads and ``n_k`` their
        number, and none is below the one before [ours]. ``fluid``: ``ceil(W_k / G)``. ``item``: at least
        the largest load. ``pigeonhole``: also, for every q with ``n_k >= q*G + 1``, the sum of the q+1 smallest among
        the ``q*G + 1`` largest loads; and the largest load plus the sum of the ``max(0, n_k - (G-1)*B - 1)`` smallest.
        ``migration``: the best maximum load of a partition of the step's loads onto G workers with at most
        B each (``P||Cmax`` with cardinality), what free migration would reach, wherever a search proves it.
        ``window``: the sum, over windows of T consecutive active steps, of the best placement of each window alone,
        as if requests could move between two windows but not inside one, wherever a search proves it.
    node_limit : int
        ``migration``: most search nodes per step. A step that is not closed by then keeps what is proved.
        ``window``: most nodes of a window. Where they do not suffice, each half gets half of them, and so on.
    window : int or "auto"
        ``window``: T, in active steps. If T divides T', the windows of T' are unions of those of T. ``"auto"``: of 5,
        10, 20, ..., 160 the one that gains most on a sample of steps, which takes up to a tenth of `time_limit`; then
        the next ones while time is left, and the best counts.
    time_limit : float
        ``window``: seconds, > 0; with a limit that is not reached the result depends on nothing but the other
        arguments. Windows that come too late keep ``migration``.
    jobs : int
        ``window``: processes.
    certificate : bool
        ``window``: False counts everything that the searches prove and leaves the bound *claimed*.

    Returns
    -------
    Bound
        With an integer value in token-steps, certified (``window`` without `certificate`: claimed).

    Raises
    ------
    InputError
        If an option is out of range, `start` has the wrong length, a start lies before its release or outside
        int64, more than ``G*B`` requests are active in a step (no placement exists), the instance is on the wall
        clock, or the method is unknown.

    Notes
    -----
    ``O(n log n + K)`` for ``fluid`` and ``item`` with K active steps, ``O((n + K) * n_k)`` for ``pigeonhole``.
    The value of ``migration`` is what the verifier reproduces: where all its searches together would take
    more than a million nodes, those that gain least per node are left out. Likewise in ``window``, beyond 60 000
    leaves of all trees together.

    Examples
    --------
    >>> inst = Instance(release=[0, 0, 0], prompt=[5, 4, 4], output=[1, 1, 1])
    >>> cluster = Cluster(workers=2, slots=2)
    >>> [placement_bound(inst, cluster, [0, 0, 0], method=m).value for m in ("fluid", "pigeonhole")]
    [7, 8]
    """
    t = given_starts(inst, cluster, start)
    if method == "window":
        from .windows import window_bound

        length = None if isinstance(window, str) and window == "auto" else integer(window, "window", 1)
        nodes = integer(node_limit, "node_limit", 1)
        seconds, processes = real(time_limit, "time_limit", positive=True), integer(jobs, "jobs", 1, 1024)
        return window_bound(inst, cluster, t, length, nodes, seconds, processes, bool(certificate))
    values = step_bounds(inst, cluster, t, method, node_limit)
    proof = {}
    if method == "migration":
        raised = np.flatnonzero(values.proof)
        proof["raised"] = [[int(k), int(v)] for k, v in zip(values.step[raised], values.peak[raised], strict=True)]
    return Bound.placement(inst, cluster, t, method, int(values.peak.sum()), proof)


@dataclass(frozen=True)
class StepBounds:
    """Lower bounds on ``max_g L_g(k)`` of every active step.

    Attributes
    ----------
    step : ndarray of int64, shape (K,)
        The active steps.
    peak : ndarray of int64, shape (K,), tokens
    proof : ndarray of int64, shape (K,)
        Nodes of the search that proves a value above ``pigeonhole``; 0 where none is needed.
    closed : ndarray of bool, shape (K,)
        The value is known to be the optimum of the step alone (``migration`` only; elsewhere False).
    """

    step: Int64Array
    peak: Int64Array
    proof: Int64Array
    closed: NDArray[np.bool_]


def step_bounds(
    inst: Instance, cluster: Cluster, start: Int64Array, method: PlacementMethod, node_limit: int = 20_000
) -> StepBounds:
    """The terms of :func:`placement_bound`, step by step; `start` is validated by :func:`given_starts`."""
    if method not in _PLACEMENT or method == "window":
        raise InputError(f"unknown method {method!r}; methods: {', '.join(_PLACEMENT)}")
    nodes = integer(node_limit, "node_limit", 1)
    steps, position, total = _axis(inst, cluster, start)
    peak = -(total // -cluster.workers)
    proof, closed = np.zeros(len(steps), np.int64), np.zeros(len(steps), np.bool_)
    if method != "fluid" and len(steps):
        from . import _kernels

        offset, end = inst.prompt - position, position + inst.output
        order = np.argsort(-offset, kind="stable")
        largest = _kernels.largest_offset(order, position, end, offset, len(steps))
        np.maximum(peak, largest + np.arange(len(steps)), out=peak)
        if method != "item":
            by_start, by_end = np.argsort(position, kind="stable"), np.argsort(end, kind="stable")
            axis = (by_start, by_end, position, end, offset, cluster.workers, cluster.slots)
            _kernels.pigeonhole(*axis, peak)
            if method == "migration":
                before = peak.copy()
                proof, closed = _kernels.migration(*axis, peak, nodes)
                _drop_dear_proofs(before, peak, proof, closed)
    return StepBounds(steps, frozen(peak), frozen(proof), frozen(closed))


def _drop_dear_proofs(before: Int64Array, peak: Int64Array, proof: Int64Array, closed: NDArray[np.bool_]) -> None:
    """Undo, in place, the proofs that gain least per node beyond the verifier's budget."""
    raised = np.flatnonzero(proof)
    order = raised[np.argsort((before[raised] - peak[raised]) / proof[raised], kind="stable")]
    dear = order[np.cumsum(proof[order]) > _VERIFIED_NODES]
    peak[dear], proof[dear], closed[dear] = before[dear], 0, False


def schedule_bound(
    inst: Instance,
    cluster: Cluster,
    method: Literal["fluid", "lagrangian"] = "fluid",
    max_wait: int | None = None,
    latest: ArrayLike | None = None,
    iterations: int = 200,
) -> Bound:
    """Lower bound on the decode time over all schedules with these start windows (P2).

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    method : {"fluid", "lagrangian"}
        ``fluid``: ``c*K_min + a*max(W/G, max w_i) + b*W/G``, with ``w_i`` the work of a request, W their
        sum and ``K_min`` the largest of: the longest output, ``ceil(sum o_i / (G*B))``, and the number
        of steps ``d_i .. r_i + o_i - 1`` in which some request must be active [ours].
        ``lagrangian``: the dual of the relaxation with workers merged, with multipliers per step and, for the
        requests that can be heaviest in a step, per request and step [ours]; never below ``fluid``, and equal to it
        without a limit on starts.
    max_wait : int, optional
        ``d_i = r_i + max_wait``, steps.
    latest : array_like of int, shape (n,), optional
        ``d_i``: last step in which each request may start. With both, the earlier one counts; with
        neither, starts have no limit, and releases do not matter.
    iterations : int
        ``lagrangian``: most evaluations of all start windows in the search for multipliers; each
        takes time proportional to the sum of the windows.

    Returns
    -------
    Bound
        In seconds, certified: the exact rational is ``exact`` (a, b and c are the exact rationals of
        their floats), ``value`` the largest float that is not above it.

    Raises
    ------
    InputError
        If `max_wait` is not a whole number >= 0, `latest` has the wrong length or an entry before the
        release, the instance is on the wall clock, or the method is unknown.

    Notes
    -----
    The constant ``b*W/G`` is included, as in :func:`~balanceroute_opt.decode_time`, so that the two
    compare.
    """
    if method not in _SCHEDULE:
        raise InputError(f"unknown method {method!r}; methods: {', '.join(_SCHEDULE)}")
    last, words = start_windows(inst, cluster, max_wait, latest)
    c, a, b = cluster.step_time.exact()
    work = inst.work
    mean = Fraction(int(work.sum()), cluster.workers)
    heaviest = int(work.max(initial=0))
    steps = least_steps(inst, cluster, last)
    value = c * steps + a * max(mean, Fraction(heaviest)) + b * mean
    kind, data = "fluid", _window_data(max_wait, latest)
    if method == "lagrangian" and last is not None and len(inst):
        from .lagrangian import Windows, best_multipliers, certified

        windows = Windows.of(inst, last)
        multipliers, _, _ = best_multipliers(inst, cluster, windows, steps, integer(iterations, "iterations", 1))
        better = certified(inst, cluster, windows, steps, multipliers)
        if better is not None and better[0] + b * mean > value:
            kind, value, data = "lagrangian", better[0] + b * mean, data | better[1]
    return Bound.schedule(inst, cluster, last, words, method, value, data, kind)


def given_starts(inst: Instance, cluster: Cluster, start: ArrayLike) -> Int64Array:
    """Validated admission steps of P1: whole numbers, one per request, none before its release."""
    require_step_clock(inst, "a placement bound")
    require_fit(inst, cluster)
    t = integers(start, "start", 0, 2**62)
    if len(t) != len(inst):
        raise InputError(f"start has {len(t)} entries, the instance {len(inst)} requests")
    early = t < inst.release
    if early.any():
        i = int(np.argmax(early))
        raise InputError(f"request {i} starts in step {t[i]}, before its release {inst.release[i]}")
    return t


def start_windows(
    inst: Instance, cluster: Cluster, max_wait: int | None, latest: ArrayLike | None
) -> tuple[Int64Array | None, str]:
    """Last start ``d_i`` of each request of P2 (None: no limit), and the windows in words."""
    require_step_clock(inst, "a schedule bound")
    require_fit(inst, cluster)
    last: Int64Array | None = None
    words = []
    if max_wait is not None:
        wait = integer(max_wait, "max_wait", 0, MAX_STEP)
        last = frozen(inst.release + wait)
        words.append(f"max_wait = {wait}")
    if latest is not None:
        given = integers(latest, "latest", 0, 2**62)
        if len(given) != len(inst):
            raise InputError(f"latest has {len(given)} entries, the instance {len(inst)} requests")
        early = given < inst.release
        if early.any():
            i = int(np.argmax(early))
            raise InputError(f"latest[{i}] = {given[i]} lies before the release {inst.release[i]} of request {i}")
        last = given if last is None else frozen(np.minimum(last, given))
        words.append("latest")
    return last, " and ".join(words) or "no limit"


def least_steps(inst: Instance, cluster: Cluster, last: Int64Array | None) -> int:
    """``K_min``: active steps that no schedule with these windows goes below."""
    if not len(inst):
        return 0
    least = max(int(inst.output.max()), -(int(inst.output.sum()) // -(cluster.workers * cluster.slots)))
    if last is None:
        return least
    end = inst.release + inst.output
    must = np.flatnonzero(last < end)
    if not len(must):
        return least
    order = must[np.argsort(last[must], kind="stable")]
    first, reach = last[order], np.maximum.accumulate(end[order])
    before = np.concatenate((first[:1], reach[:-1]))
    return max(least, int(np.maximum(reach - np.maximum(first, before), 0).sum()))


def _window_data(max_wait: int | None, latest: ArrayLike | None) -> dict[str, Any]:
    return {
        "max_wait": None if max_wait is None else int(max_wait),
        "latest": None if latest is None else integers(latest, "latest", 0, 2**62).tolist(),
    }


def _axis(inst: Instance, cluster: Cluster, start: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """The active steps, each request's position on their axis, and the total load of each step."""
    position, steps = active_steps(start, inst.output)
    count = len(steps)
    begin, end = position, position + inst.output
    number, offset = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    np.add.at(number, begin, 1)
    np.subtract.at(number, end, 1)
    np.add.at(offset, begin, inst.prompt - begin)
    np.subtract.at(offset, end, inst.prompt - begin)
    active = np.cumsum(number[:-1])
    over = active > cluster.workers * cluster.slots
    if over.any():
        p = int(np.argmax(over))
        raise InputError(
            f"step {steps[p]} has {active[p]} active requests, more than workers * slots = "
            f"{cluster.workers * cluster.slots}: no placement exists for these starts"
        )
    return steps, position, np.cumsum(offset[:-1]) + active * np.arange(count)
