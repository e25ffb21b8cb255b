"""Compiled loops of the Lagrangian bound (internal); positions and columns as in ``lagrangian.Windows``."""

from __future__ import annotations

import numpy as np

from .._jit import compiled
from .._validate import Float64Array, Int64Array


@compiled
def candidates(
    prompt: Int64Array, output: Int64Array, first: Int64Array, wait: Int64Array, count: int, most: int
) -> tuple[Int64Array, Int64Array]:
    """Pairs (request, position) worth a multiplier of their own, sorted by both.

    Per position the `most` requests that can be heaviest there, and the `most` that are active there for
    the largest share of their starts.
    """
    keys = np.full((2, count, most), -1.0)
    who = np.full((2, count, most), -1)
    for i in range(len(prompt)):
        for j in range(wait[i] + output[i]):
            k = first[i] + j
            starts = min(j, wait[i]) - max(0, j - output[i] + 1) + 1
            for form in range(2):
                key = prompt[i] + min(j, output[i] - 1) if form == 0 else starts / (wait[i] + 1)
                at = most
                while at > 0 and keys[form, k, at - 1] < key:
                    at -= 1
                if at < most:
                    for x in range(most - 1, at, -1):
                        keys[form, k, x] = keys[form, k, x - 1]
                        who[form, k, x] = who[form, k, x - 1]
                    keys[form, k, at] = key
                    who[form, k, at] = i
    pairs = np.empty(2 * count * most, np.int64)
    e = 0
    for k in range(count):
        for form in range(2):
            for x in range(most):
                i = who[form, k, x]
                if i >= 0 and (form == 0 or not np.any(who[0, k] == i)):
                    pairs[e] = i * count + k
                    e += 1
    pairs = np.sort(pairs[:e])
    return pairs // count, pairs % count


@compiled
def _prefix(values: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Prefix sums of ``values[k]`` and ``k * values[k]``."""
    zero, one = np.zeros(len(values) + 1, values.dtype), np.zeros(len(values) + 1, values.dtype)
    for k in range(len(values)):
        zero[k + 1] = zero[k] + values[k]
        one[k + 1] = one[k] + k * values[k]
    return zero, one


@compiled
def minima(
    prompt: Int64Array,
    output: Int64Array,
    first: Int64Array,
    wait: Int64Array,
    pointer: Int64Array,
    position: Int64Array,
    token: Float64Array,
    slot: Float64Array,
    own_token: Float64Array,
    own_step: Float64Array,
) -> tuple[Float64Array, Int64Array]:
    """Least cost of each request over its starts, and the last start that has it.

    A step costs ``token[k]`` per KV token and ``slot[k]``; the pair (request, position) of entry e also
    costs ``own_token[e]`` per token and ``own_step[e]``. With prefix sums a start costs O(1). In int64 the sums may
    wrap around; their differences are exact as long as every cost fits.
    """
    n = len(prompt)
    cost, start = np.zeros(n, token.dtype), np.zeros(n, np.int64)
    token0, token1 = _prefix(token)
    slot0, _ = _prefix(slot)
    for i in range(n):
        s, o, f = prompt[i], output[i], first[i]
        own = pointer[i + 1] > pointer[i]
        if own:
            extra, step = np.zeros(wait[i] + o, token.dtype), np.zeros(wait[i] + o, token.dtype)
            for e in range(pointer[i], pointer[i + 1]):
                extra[position[e] - f] = own_token[e]
                step[position[e] - f] = own_step[e]
            extra0, extra1 = _prefix(extra)
            step0, _ = _prefix(step)
        for j in range(wait[i] + 1):
            t = f + j
            now = (s - t) * (token0[t + o] - token0[t]) + token1[t + o] - token1[t] + slot0[t + o] - slot0[t]
            if own:
                now += (s - j) * (extra0[j + o] - extra0[j]) + extra1[j + o] - extra1[j] + step0[j + o] - step0[j]
            if j == 0 or now <= cost[i]:
                cost[i], start[i] = now, t
    return cost, start


@compiled
def responses(
    prompt: Int64Array,
    output: Int64Array,
    first: Int64Array,
    wait: Int64Array,
    pointer: Int64Array,
    position: Int64Array,
    start: Int64Array,
    count: int,
) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """Total load and active requests per position, and load and activity per entry, if requests start so."""
    number, offset = np.zeros(count + 1), np.zeros(count + 1)
    single, busy = np.zeros(len(position)), np.zeros(len(position))
    for i in range(len(prompt)):
        t, end = start[i], start[i] + output[i]
        number[t] += 1
        number[end] -= 1
        offset[t] += prompt[i] - t
        offset[end] -= prompt[i] - t
        for e in range(pointer[i], pointer[i + 1]):
            if t <= position[e] < end:
                single[e] = prompt[i] + position[e] - t
                busy[e] = 1
    active = np.cumsum(number)[:-1]
    return np.cumsum(offset)[:-1] + active * np.arange(count), active, single, busy


@compiled
def largest(common: Float64Array, single: Float64Array, by_step: Int64Array, step_pointer: Int64Array) -> Float64Array:
    """Per position the largest of ``common[k]`` and the entries of `single` there."""
    result = common.copy()
    for k in range(len(result)):
        for x in range(step_pointer[k], step_pointer[k + 1]):
            result[k] = max(result[k], single[by_step[x]])
    return result


@compiled
def _onto_simplex(v: Float64Array, mass: float) -> None:
    """Nearest point with entries >= 0 and sum `mass`, in place."""
    v -= v.max()  # keeps the digits of what ends above 0
    ranked = np.sort(v)[::-1]
    total, shift = 0.0, 0.0
    for j in range(len(v)):
        total += ranked[j]
        if ranked[j] - (total - mass) / (j + 1) > 0:
            shift = (total - mass) / (j + 1)
    for j in range(len(v)):
        v[j] = max(0.0, v[j] - shift)


@compiled
def _steepness(share: Float64Array, slope: Float64Array) -> float:
    """Squared length of the slopes along which shares of a fixed sum can move."""
    mass = share.sum()
    middle = (share * slope).sum() / mass if mass > 0 else slope.mean()
    total = 0.0
    for j in range(len(share)):
        if share[j] > 0 or slope[j] > middle:
            total += (slope[j] - middle) ** 2
    return total


@compiled
def moved(
    common: Float64Array,
    own: Float64Array,
    common_slope: Float64Array,
    own_slope: Float64Array,
    mass: Float64Array,
    by_step: Int64Array,
    step_pointer: Int64Array,
    length: float,
) -> tuple[Float64Array, Float64Array, float]:
    """Shares moved by `length` times their slopes, those of position k then summing to ``mass[k]``.

    Returns the new shares and, for the choice of `length`, the steepness at the old ones.
    """
    new_common, new_own, steep = common.copy(), own.copy(), 0.0
    for k in range(len(common)):
        entries = by_step[step_pointer[k] : step_pointer[k + 1]]
        share, slope = np.empty(len(entries) + 1), np.empty(len(entries) + 1)
        share[0], slope[0] = common[k], common_slope[k]
        for x in range(len(entries)):
            share[x + 1], slope[x + 1] = own[entries[x]], own_slope[entries[x]]
        steep += _steepness(share, slope)
        share += length * slope
        _onto_simplex(share, mass[k])
        new_common[k] = share[0]
        for x in range(len(entries)):
            new_own[entries[x]] = share[x + 1]
    return new_common, new_own, steep
