"""Prices for P2 from patterns: sets of requests that run together in a step [ours].

The relaxation with workers merged (``docs/model.md``, section 7) lets loads of a step be spread evenly. In a schedule a
set S of requests runs in the step, and its peak is at least that of the best partition of S onto the workers, B on each
at most. With free multipliers ``p_ik``, the price that request i pays for running in step k,

    sum_k min_S (c + a*peak_k(S) - sum_{i in S} p_ik)  +  sum_i min_t sum_{k=t}^{t+o_i-1} p_ik

is a lower bound on the cost; S runs over the sets that may run in step k (among them the empty one, which costs
nothing, unless some request must run). Loads depend on starts: ``peak_k`` takes the least that each request can have
there, and every token above it is paid for at the price ``a/G``, as far as the pattern leaves room below its peak.
The bound is that of a linear program over patterns, as in cutting stock; the multipliers come from the volume
algorithm [Barahona and Anbil 2000].

Without a limit on starts all steps are alike and a request pays the same price in each: patterns must cost no less
than the prices of their requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._validate import Int64Array
from .schedule_model import ScheduleCase

__all__ = ["PatternPrices", "pattern_prices"]

_MOST_MEMBERS = 16
_MOST_LOOKS = 3 * 10**7  # at placements of patterns
_MOST_ENTRIES = 5 * 10**6  # of tables of patterns
_ITERATIONS, _MOST_VISITS = 600, 5 * 10**8


@dataclass(frozen=True)
class PatternPrices:
    """Prices in the integer unit of :meth:`ScheduleCase.weights`.

    Attributes
    ----------
    share : int
        Price of a token above the least load that a request has in a step: ``unit // G``.
    price : ndarray of int64, shape (n, K)
        Of running in a position with the least load.
    age : ndarray of int64, shape (n, K)
        Least age of a request in a position.
    pattern : ndarray of int64, shape (K,)
        Least cost of a pattern minus its prices; exact.
    value : int
        The bound.
    """

    share: int
    price: Int64Array
    age: Int64Array
    pattern: Int64Array
    value: int


def pattern_prices(case: ScheduleCase, target: int) -> PatternPrices | None:
    """Good prices; None if there are too many patterns. `target`: the cost of a known schedule, or a guess."""
    from . import _patterns

    n, K, G = len(case), len(case.steps), case.cluster.workers
    fixed, unit, _ = case.weights()
    share = unit // G
    first, last, output, prompt = case.first, case.first + case.wait, case.inst.output, case.inst.prompt
    count = K if case.limited else 1
    members, pointer, offset, costs, looks = [], [0], [], [], _MOST_LOOKS
    size = 0
    for x in range(count):
        if case.limited:
            here = np.flatnonzero((first <= x) & (x < last + output))
            low = np.maximum(x - last[here], 0)
            high = np.minimum(x - first[here], output[here] - 1)
            must = (last[here] <= x) & (x < first[here] + output[here])
        else:
            here = np.arange(n)
            low, high, must = np.zeros(n, np.int64), output - 1, np.zeros(n, bool)
        if len(here) > _MOST_MEMBERS:
            return None
        cost = _patterns.pattern_costs(
            prompt[here] + low, high - low, must.astype(np.int64), G, case.cluster.slots, fixed, unit, share, looks
        )
        if not len(cost):
            return None
        if must.any():
            cost[0] = _patterns.INF
        if (cost == _patterns.INF).all():
            return None
        members.append(here)
        pointer.append(pointer[-1] + len(here))
        offset.append(size)
        costs.append(cost)
        size += len(cost)
        if size > _MOST_ENTRIES:
            return None
    columns = (np.concatenate(members), np.array(pointer), np.array(offset), np.concatenate(costs))
    price = np.zeros((n, count))
    for x in range(count):  # to begin with a share of the pattern in which all run
        here = members[x]
        load = prompt[here] + (np.maximum(x - last[here], 0) if case.limited else 0)
        price[here, x] = share * load + fixed / (G * case.cluster.slots)
    iterations = min(_ITERATIONS, max(50, _MOST_VISITS // size))
    _patterns.ascend(
        first, case.wait, output, *columns, float(share), 0 if case.limited else K, price, iterations, float(target)
    )
    paid = np.abs(price).sum() if case.limited else float(np.abs(price[:, 0]) @ output)
    if not paid < 2.0**61:
        return None  # nan, or too large for sums of integers
    whole = np.floor(price).astype(np.int64)
    return _exact(case, whole, columns, share)


def _exact(case: ScheduleCase, price: Int64Array, columns: tuple[Int64Array, ...], share: int) -> PatternPrices:
    """The prices with the exact costs of their best patterns; without a limit scaled until no pattern is below 0."""
    members, pointer, offset, cost = columns
    K, first, last, output = len(case.steps), case.first, case.first + case.wait, case.inst.output
    if not case.limited:
        totals = _subset_sums(price[:, 0])
        able = cost < 2**62
        over = totals > cost
        over &= able
        if over.any():
            ratio = float((cost[over] / totals[over]).min())
            price = np.floor(price * (ratio * (1 - 1e-12))).astype(np.int64)
            if (_subset_sums(price[:, 0])[able] > cost[able]).any():
                price = price - 1 - (abs(price) >> 40)
        price = np.repeat(price, K, axis=1)
        pattern, age = np.zeros(K, np.int64), np.zeros((len(case), K), np.int64)
    else:
        pattern = np.zeros(K, np.int64)
        for x in range(K):
            here = members[pointer[x] : pointer[x + 1]]
            own = cost[offset[x] : offset[x] + (1 << len(here))]
            able = own < 2**62
            pattern[x] = (own[able] - _subset_sums(price[here, x])[able]).min()
        age = np.maximum(np.arange(K) - last[:, None], 0)
    value = int(pattern.sum())
    for i in range(len(case)):
        t = first[i] + np.arange(case.wait[i] + 1)
        total = np.concatenate(([0], np.cumsum(price[i])))
        o = int(output[i])
        until = np.minimum(o - 1, last[i] - t) if case.limited else np.full(len(t), o - 1)
        value += int((total[t + o] - total[t] + share * (until * (until + 1) // 2 + (o - 1 - until) * until)).min())
    return PatternPrices(share, price, age, pattern, value)


def _subset_sums(values: Int64Array) -> Int64Array:
    sums = np.zeros(1, np.int64)
    for value in values:
        sums = np.concatenate((sums, sums + value))
    return sums
