"""Lower bounds on the two hindsight problems, each with its certificate (``docs/model.md``, section 7).

All of them hold with a KV capacity too, which only takes placements away.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .._validate import integer, real
from ..certificates import Bound
from ..errors import InputError
from ..instance import Cluster, Instance
from .floors import PlacementMethod, step_bounds
from .given import given_starts, least_steps, start_windows, window_data

__all__ = ["placement_bound", "schedule_bound"]

_SCHEDULE = ("fluid", "lagrangian")


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
    kind, data = "fluid", window_data(max_wait, latest)
    if method == "lagrangian" and last is not None and len(inst):
        from .lagrangian import Windows, best_multipliers, certified

        windows = Windows.of(inst, last)
        multipliers, _, _ = best_multipliers(inst, cluster, windows, steps, integer(iterations, "iterations", 1))
        better = certified(inst, cluster, windows, steps, multipliers)
        if better is not None and better[0] + b * mean > value:
            kind, value, data = "lagrangian", better[0] + b * mean, data | better[1]
    return Bound.schedule(inst, cluster, last, words, method, value, data, kind)
