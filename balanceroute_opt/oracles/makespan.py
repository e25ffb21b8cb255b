"""A lower bound on the end of the last step of any router's run on the wall clock (``docs/model.md``, section 7)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..errors import InputError
from ..instance import Cluster, Instance

__all__ = ["makespan_bound"]


def makespan_bound(inst: Instance, cluster: Cluster) -> float:
    """No run of any router ends earlier: for every time u, ``u`` plus the fluid bound of what arrives from u on.

    ``max_u u + c*K_min(u) + a*max(W(u)/G, max w_i) + b*W(u)/G`` over the arrival times u, where ``K_min(u)`` is the
    larger of the longest output and ``ceil(sum o_i / (G*B))`` of the requests with ``r_i >= u``, and ``W(u)`` is their
    work: none of it can be done before u, and the cheapest schedule without a limit on starts costs that much.

    Parameters
    ----------
    inst : Instance
        On the wall clock.
    cluster : Cluster

    Returns
    -------
    float
        Seconds from time 0, computed in rationals and rounded down; 0 without requests. It holds for all routers in
        common, those that wait included.

    Raises
    ------
    InputError
        If the instance is on the step clock.

    Examples
    --------
    >>> from balanceroute_opt import StepTime
    >>> inst = Instance(release=[0.0, 5.0], prompt=[4, 4], output=[2, 2], clock="wall")
    >>> makespan_bound(inst, Cluster(workers=1, slots=1, step_time=StepTime(fixed=1.0, per_token=0.5)))
    11.5
    """
    if inst.clock != "wall":
        raise InputError("the makespan bound is for the wall clock; on the step clock use schedule_bound")
    if not len(inst):
        return 0.0
    order = np.argsort(inst.release, kind="stable")[::-1]  # last arrival first
    work, output = inst.work[order], inst.output[order]
    total, outputs = np.cumsum(work), np.cumsum(output)
    heaviest, longest = np.maximum.accumulate(work), np.maximum.accumulate(output)
    slots = cluster.workers * cluster.slots
    steps = np.maximum(longest, -(outputs // -slots))
    release = inst.release[order]
    c, a, b = cluster.step_time.exact()
    # The best candidates by floats, then exactly: a float errs by less than one part in 10**12 here.
    mean = total / cluster.workers
    value = release + float(c) * steps + float(a) * np.maximum(mean, heaviest) + float(b) * mean
    best = Fraction(0)
    for j in np.flatnonzero(value >= value.max() * (1 - 1e-9)).tolist()[:1000]:
        exact_mean = Fraction(int(total[j]), cluster.workers)
        exact = Fraction(float(release[j])) + c * int(steps[j]) + a * max(exact_mean, Fraction(int(heaviest[j])))
        best = max(best, exact + b * exact_mean)
    result = float(best)
    return float(np.nextafter(result, 0)) if Fraction(result) > best else result
