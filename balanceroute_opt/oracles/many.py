"""The exact optimum of each of many tiny placement problems, in one compiled loop.

For worst cases over whole families (``balanceroute_opt/worstcase``): a million problems of six requests take seconds.
"""

from __future__ import annotations

import numpy as np

from .._jit import compiled
from .._validate import Int64Array
from ..errors import InputError
from ..instance import Cluster, Instance

__all__ = ["prices_and_optima"]

_MOST = 16  # requests of one problem


def prices_and_optima(
    inst: Instance, cluster: Cluster, start: Int64Array, worker: Int64Array, first: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """``peak_sum`` of a placement, and the least possible one for its starts, of every problem [ours].

    The problems stand one after the other in `inst` and share no step. Each optimum is found by trying all partitions
    of its requests in order of start, workers numbered by first occurrence, and leaving those that already cost no less
    than the best. The KV capacity is not used.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    start, worker : ndarray of int64, shape (n,)
    first : ndarray of int64, shape (m + 1,)
        Problem j has the requests ``first[j] .. first[j + 1] - 1``.

    Returns
    -------
    price, optimum : ndarray of int64, shape (m,), token-steps

    Raises
    ------
    InputError
        If a problem has more than 16 requests, or shares a step with another.
    """
    sizes = np.diff(first)
    if len(sizes) and sizes.max() > _MOST:
        j = int(np.argmax(sizes > _MOST))
        raise InputError(f"problem {j} has {sizes[j]} requests; at most {_MOST} can be enumerated")
    m = len(sizes)
    begin = np.full(m, np.iinfo(np.int64).max)
    end = np.zeros(m, np.int64)
    group = np.repeat(np.arange(m), sizes)
    np.minimum.at(begin, group, start)
    np.maximum.at(end, group, start + inst.output)
    late = np.flatnonzero(begin[1:] < end[:-1])
    if len(late):
        raise InputError(f"problems {late[0]} and {late[0] + 1} share step {begin[late[0] + 1]}")
    order = np.lexsort((-inst.output, start, group))
    price, optimum = np.zeros(m, np.int64), np.zeros(m, np.int64)
    _many(
        first.astype(np.int64), begin, end, start[order], inst.prompt[order], inst.output[order], worker[order],
        cluster.workers, cluster.slots, price, optimum,
    )  # fmt: skip
    return price, optimum


@compiled
def _many(
    first: Int64Array,
    begin: Int64Array,
    end: Int64Array,
    start: Int64Array,
    prompt: Int64Array,
    output: Int64Array,
    worker: Int64Array,
    workers: int,
    slots: int,
    price: Int64Array,
    optimum: Int64Array,
) -> None:
    m, steps, most = len(price), 0, 0
    for j in range(m):
        steps, most = max(steps, end[j] - begin[j]), max(most, first[j + 1] - first[j])
    load = np.zeros((steps, workers), np.int64)
    count = np.zeros((steps, workers), np.int64)
    peak = np.zeros((most + 1, steps), np.int64)  # of the first d requests
    cost = np.zeros(most + 1, np.int64)
    choice = np.full(most + 1, -1, np.int64)
    used = np.zeros(most + 1, np.int64)
    for j in range(m):
        base, n, length = first[j], first[j + 1] - first[j], end[j] - begin[j]
        load[:length] = 0
        for i in range(base, base + n):
            for k in range(start[i], start[i] + output[i]):
                load[k - begin[j], worker[i]] += prompt[i] + k - start[i]
        for k in range(length):
            price[j] += load[k].max()
        # The given placement is the first incumbent.
        best = price[j]
        load[:length], count[:length], peak[:, :length] = 0, 0, 0
        choice[:], depth = -1, 0
        while depth >= 0:
            if depth == n:
                best = min(best, cost[n])
                depth -= 1
                continue
            i = base + depth
            a = start[i] - begin[j]
            g = choice[depth]
            if g >= 0:
                for k in range(output[i]):
                    load[a + k, g] -= prompt[i] + k
                    count[a + k, g] -= 1
            g += 1
            # Requests come by start, so that a worker with a free slot at the start keeps it.
            while g < workers and g <= used[depth] and count[a, g] >= slots:
                g += 1
            if g >= workers or g > used[depth]:
                choice[depth] = -1
                depth -= 1
                continue
            choice[depth] = g
            cost[depth + 1] = cost[depth]
            peak[depth + 1, :length] = peak[depth, :length]
            for k in range(output[i]):
                load[a + k, g] += prompt[i] + k
                count[a + k, g] += 1
                if load[a + k, g] > peak[depth, a + k]:
                    peak[depth + 1, a + k] = load[a + k, g]
                    cost[depth + 1] += load[a + k, g] - peak[depth, a + k]
            if cost[depth + 1] < best:
                used[depth + 1] = max(used[depth], g + 1)
                depth += 1
        optimum[j] = best
