"""A lower bound on the makespan of every run on the wall clock (``docs/model.md``, section 7)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..certificates import Bound
from ..errors import InputError
from ..instance import Cluster, Instance, require_fit

__all__ = ["makespan_bound"]

_CANDIDATES = 1000  # arrivals whose values are compared exactly


def makespan_bound(inst: Instance, cluster: Cluster) -> Bound:
    """No run of any router ends earlier: for every arrival u, u plus the fluid bound of what arrives from u on.

    ``max_u u + c*K_min(u) + a*max(W(u)/G, max w_i) + b*W(u)/G`` over the arrival times u, where ``K_min(u)`` is the
    larger of the longest output and ``ceil(sum o_i / (G*B))`` of the requests with ``r_i >= u``, and ``W(u)`` is their
    work [ours]: none of it can be done before u, and the cheapest schedule without a limit on starts costs that much.

    Parameters
    ----------
    inst : Instance
        On the wall clock.
    cluster : Cluster

    Returns
    -------
    Bound
        Seconds from the first arrival to the end of the last step, certified; 0 without requests. It holds for all
        routers in common, those that wait and those that preempt included.

    Raises
    ------
    InputError
        If the instance is on the step clock, or does not fit the cluster.

    Examples
    --------
    >>> from balanceroute_opt import StepTime
    >>> inst = Instance(release=[0.0, 8.0], prompt=[4, 4], output=[2, 2], clock="wall")
    >>> makespan_bound(inst, Cluster(workers=1, slots=1, step_time=StepTime(fixed=1.0, per_token=0.5)))
    Bound(makespan (every run) >= 14.5 s, arrival, certified)
    """
    if inst.clock != "wall":
        raise InputError("the makespan bound is for the wall clock; on the step clock use schedule_bound")
    require_fit(inst, cluster)
    if not len(inst):
        return Bound.makespan(inst, cluster, Fraction(0), None)
    order = np.argsort(inst.release, kind="stable")[::-1]  # last arrival first
    work, output, release = inst.work[order], inst.output[order], inst.release[order]
    total, outputs = np.cumsum(work), np.cumsum(output)
    heaviest, longest = np.maximum.accumulate(work), np.maximum.accumulate(output)
    steps = np.maximum(longest, -(outputs // -(cluster.workers * cluster.slots)))
    c, a, b = cluster.step_time.exact()
    # The best candidates by floats, then exactly: a float errs by less than one part in 10**12 here.
    mean = total / cluster.workers
    with np.errstate(over="ignore"):
        value = release - release[-1] + float(c) * steps + float(a) * np.maximum(mean, heaviest) + float(b) * mean
    near = np.flatnonzero(value >= value.max() * (1 - 1e-9))
    near = near[np.argsort(-value[near], kind="stable")[:_CANDIDATES]]

    def exact(j: int) -> Fraction:
        mean = Fraction(int(total[j]), cluster.workers)
        waited = Fraction(float(release[j])) - Fraction(float(release[-1]))
        return waited + c * int(steps[j]) + a * max(mean, Fraction(int(heaviest[j]))) + b * mean

    best, j = max((exact(j), j) for j in near.tolist())
    return Bound.makespan(inst, cluster, best, int(order[j]))
