"""What full slots force on start windows: which starts are possible at all (P2) [ours].

Request j, with window ``e_j .. d_j``, is active in the steps ``d_j .. e_j + o_j - 1`` whatever it does. In a step in
which such requests take all ``G*B`` slots nobody else can be active: *time-table filtering*, as for cumulative
resources in constraint programming, swept once over time. For the run of a work-conserving router and ``latest`` = its
own starts it leaves a single start per request, by induction over the steps: with all starts before step k forced, as
many slots are free in step k as in the run, and the run filled them with requests that may not start later, unless none
was left to start. Then P2 is P1.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._jit import compiled
from .._validate import Int64Array, frozen
from ..certificates import Bound
from ..errors import InputError
from ..instance import Cluster, Instance
from ..schedule import active_steps
from .bounds import placement_bound, schedule_bound
from .given import start_windows

__all__ = ["forced_bound", "forced_starts", "forced_windows", "latest_bound", "placed_bound", "windows_bound"]


def forced_windows(
    inst: Instance, cluster: Cluster, max_wait: int | None = None, latest: ArrayLike | None = None
) -> tuple[Int64Array, Int64Array]:
    """Start windows without the early starts that full slots rule out.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    max_wait, latest : optional
        As in :func:`~balanceroute_opt.solve_schedule`; one at least.

    Returns
    -------
    earliest, latest : ndarray of int64, shape (n,)
        Every schedule that keeps the windows and the slots starts request i in ``earliest[i] .. latest[i]``.
        Where both are equal everywhere, starts are forced.

    Raises
    ------
    InputError
        If there is no limit, or the windows do not fit the instance.

    Examples
    --------
    >>> inst = Instance(release=[0, 0, 0], prompt=[5, 4, 3], output=[3, 2, 2])
    >>> earliest, latest = forced_windows(inst, Cluster(workers=1, slots=2), latest=[0, 0, 2])
    >>> earliest.tolist(), latest.tolist()
    ([0, 0, 2], [0, 0, 2])
    """
    last, _ = start_windows(inst, cluster, max_wait, latest)
    if last is None:
        raise InputError("without a limit on starts nothing is forced: give max_wait or latest")
    release = np.asarray(inst.release, np.int64)
    reach, steps = active_steps(release, last - release + inst.output)
    offset = release - reach
    early = np.empty(len(inst), np.int64)
    order = np.argsort(last, kind="stable")
    _sweep(reach, last - offset, inst.output, order, cluster.workers * cluster.slots, len(steps), early)
    return frozen(early + offset), last


def forced_starts(
    inst: Instance, cluster: Cluster, max_wait: int | None = None, latest: ArrayLike | None = None
) -> Int64Array | None:
    """The only starts that full slots leave inside the windows of :func:`forced_windows`; None if there are others."""
    early, last = forced_windows(inst, cluster, max_wait, latest)
    return last if (early == last).all() else None


def forced_bound(inst: Instance, cluster: Cluster, latest: ArrayLike) -> Bound | None:
    """A bound on all schedules without a later start than `latest`, where full slots leave no other starts.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    latest : array_like of int, shape (n,)
        Say the starts of a work-conserving router's run.

    Returns
    -------
    Bound or None
        ``c*K + a*pigeonhole + b*W/G`` of these starts, certified, in seconds; None if a request could start earlier.

    Raises
    ------
    InputError
        As :func:`~balanceroute_opt.schedule_bound`, and if the starts take more slots than there are.
    """
    start = forced_starts(inst, cluster, latest=latest)
    if start is None:
        return None
    peak_sum = placement_bound(inst, cluster, start, "pigeonhole").value
    value = _decode_time(inst, cluster, start, int(peak_sum))
    data = {"max_wait": None, "latest": start.tolist()}
    return Bound.schedule(inst, cluster, start, "latest", "forced", value, data)


def placed_bound(
    inst: Instance,
    cluster: Cluster,
    start: Int64Array,
    windows: str,
    data: dict[str, Any],
    certificate: dict[str, Any],
) -> Bound:
    """A bound on all schedules whose starts are forced, from a certificate of the placement problem.

    Parameters
    ----------
    inst : Instance
    cluster : Cluster
    start : ndarray of int64, shape (n,)
        Of :func:`forced_starts`.
    windows : str
        The windows in words.
    data : dict
        ``max_wait`` and ``latest``, as in every certificate of a schedule problem.
    certificate : dict
        Of a bound on ``peak_sum`` for these starts, of any kind.

    Returns
    -------
    Bound
        ``c*K + a*P + b*W/G`` with the P that it claims, in seconds; certificate of kind ``placement``.
    """
    value = _decode_time(inst, cluster, start, int(certificate["claim"]))
    data = data | {"kind": certificate["kind"], "proof": certificate["data"]}
    return Bound.schedule(inst, cluster, start, windows, "placement", value, data)


def _decode_time(inst: Instance, cluster: Cluster, start: Int64Array, peak_sum: int) -> Fraction:
    steps = len(active_steps(start, np.asarray(inst.output, np.int64))[1])
    return cluster.step_time.exact_seconds_of(steps, peak_sum, inst.total_work, cluster.workers)


def latest_bound(inst: Instance, cluster: Cluster, latest: ArrayLike, iterations: int = 200) -> Bound:
    """The best cheap bound on all schedules without a later start than `latest`.

    ``forced`` where it holds, since the Lagrangian one merges the workers; else ``lagrangian``, or ``fluid`` where the
    windows are too long for that.

    Raises
    ------
    InputError
        As :func:`forced_bound`.
    """
    bound = forced_bound(inst, cluster, latest)
    return windows_bound(inst, cluster, latest=latest, iterations=iterations) if bound is None else bound


def windows_bound(
    inst: Instance,
    cluster: Cluster,
    max_wait: int | None = None,
    latest: ArrayLike | None = None,
    iterations: int = 200,
) -> Bound:
    """``lagrangian``, or ``fluid`` where the windows are too long for that.

    Raises
    ------
    InputError
        As :func:`~balanceroute_opt.schedule_bound`.
    """
    try:
        return schedule_bound(inst, cluster, "lagrangian", max_wait, latest, iterations)
    except InputError:
        return schedule_bound(inst, cluster, "fluid", max_wait, latest)


@compiled
def _sweep(
    release: Int64Array,
    last: Int64Array,
    output: Int64Array,
    order: Int64Array,
    slots: int,
    steps: int,
    early: Int64Array,
) -> None:
    """Earliest starts, in the order of last starts; all are positions on an axis of `steps` steps."""
    change = np.zeros(steps + 1, np.int64)
    full = np.full(steps + 1, -1, np.int64)  # the last full step up to each one
    taken, at, n = 0, 0, len(order)
    for k in range(steps):
        while at < n and last[order[at]] == k:
            i = order[at]
            at += 1
            t = release[i]
            while t < k:
                # Later steps than k - 1 are not known yet to be full.
                q = full[min(t + output[i], k) - 1]
                if q < t:
                    break
                t = q + 1
            early[i] = t
            if t + output[i] > k:
                change[k] += 1
                change[t + output[i]] -= 1
        taken += change[k]
        full[k] = k if taken >= slots else full[k - 1] if k > 0 else -1
