"""Beam search for placements of whole traces: requests by start, partial placements side by side (compiled) [ours].

Local search freezes where every slot is taken, because hardly a request can move by itself. A beam builds such
stretches up instead. A partial placement is judged by its exact cost up to now and, in later steps, by the loads that
its workers can expect: the softened excess of the largest over the bound ``item``, and the squares of all deviations,
which count less the more requests are still to come.

A worker expects the loads of its requests, and behind each of them what its slot will hold. All starts and ends are
known, so that this is known too but for a choice: a slot that is free in step e goes to one of the requests that start
in e, and where as many slots are free as requests start, to one of them for certain. With S starts and F free slots

    likely_e(k) = S/F * (mean over the starts of their load at k, or of likely_end(k) once they have ended)
                  + (1 - S/F) * likely_{e+1}(k),

where S/F counts as 0 unless there are fewer free slots than workers: otherwise where requests go is free choice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._jit import compiled, inner
from .._validate import Float64Array, Int64Array
from .annealing import profile

__all__ = ["SQUARES", "Beam"]

_SOFT = 0.3  # half width of the softening, in mean loads times the root of the requests to come per worker
SQUARES = 2.0  # weight of squared deviations, over mean load times (1 + requests to come per worker)
_BEHIND = 2.0  # mean durations behind the end of a request for which its slot is foreseen
_BYTES = 2**28  # for back pointers, and for what slots are likely to hold
_STATE_BYTES = 2**29


class Beam:
    """A beam over the requests of a placement problem, which runs in pieces.

    Parameters
    ----------
    begin, end, base : ndarray of int64, shape (n,)
        As for :class:`~balanceroute_opt.oracles.annealing.Annealing`.
    steps : int
        Length of the axis of active steps.
    workers, slots : int
    width : int
        Most partial placements at a time; less where they would need more than 512 MiB, or the back pointers 256 MiB.
    squares : float
        Weight of squared deviations.

    Attributes
    ----------
    done : int
        Requests placed.
    """

    def __init__(
        self,
        begin: Int64Array,
        end: Int64Array,
        base: Int64Array,
        steps: int,
        workers: int,
        slots: int,
        width: int,
        squares: float = SQUARES,
    ) -> None:
        n = len(begin)
        work = (end - begin) * (base + begin)
        self._order = np.lexsort((-work, begin))
        self._begin, self._end, self._base = (np.ascontiguousarray(x[self._order]) for x in (begin, end, base))
        self._workers, self._slots, self._squares, self.done = workers, slots, squares, 0
        active, total = profile(begin, end, base, steps)
        longest, mean = int((end - begin).max(initial=1)), total // np.maximum(active, 1)
        behind = min(int(_BEHIND * (end - begin).sum() / max(n, 1)), _BYTES // (4 * (steps + 1)))
        length = longest + longest // 2 + behind + 64  # of the part of the axis that the partial placements hold
        self.width = width = max(1, min(width, _BYTES // (6 * max(n, 1)), _STATE_BYTES // (6 * workers * length)))
        # Further ahead a slot holds an average request, if as many as that must be on every worker.
        common = mean * np.maximum(active - (workers - 1) * slots, 0) // slots
        self._axis = (-(total // -workers), active, mean, common, active.copy())
        # Twice the largest total leaves room for slots that count as average requests.
        kind = np.int32 if 2 * int(total.max(initial=0)) < 2**31 else np.int64
        self._likely = np.zeros((steps + 1, max(1, behind)), kind)
        _expect(self._begin, self._end, self._base, active, workers, slots, self._likely)
        self._load = np.zeros((width, workers, length), kind)
        self._count = np.zeros((width, workers, length), np.int16 if active.max(initial=0) < 2**15 else np.int32)
        self._top = np.zeros((width, 2, length), kind)
        self._ahead = np.zeros((3, length), kind)  # bound, load of a worker without requests, mean load
        self._weight = np.zeros((3, length), np.float32)
        self._cost = np.zeros((2, width))
        self._parent = np.empty((n, width), np.int32)
        self._choice = np.empty((n, width), np.int16)
        self._state = np.array([-1, 0, 0, 1], np.int64)  # first position held, now, last end, partial placements

    def run(self, requests: int, width: int | None = None) -> None:
        """Place so many more requests; with a smaller `width` from here on if one is given."""
        last = min(len(self._begin), self.done + requests)
        if last > self.done:
            _beam(
                self._begin, self._end, self._base, *self._axis, self._likely, self._workers, self._slots,
                self._squares, self.done, last, max(1, min(width or self.width, self.width)), self._load, self._count,
                self._top, self._ahead, self._weight, self._cost, self._parent, self._choice, self._state,
            )  # fmt: skip
        self.done = last

    def placement(self) -> Int64Array:
        """The best placement, once all requests are placed; shape (n,)."""
        first, now, last, alive = self._state
        rest = self._top[:alive, 0, now - first : last - first].sum(axis=1) if len(self._begin) else np.zeros(1)
        at = int(np.argmin(self._cost[0, :alive] + rest))
        placement = np.empty(len(self._begin), np.int64)
        for i in range(len(self._begin) - 1, -1, -1):
            placement[self._order[i]] = self._choice[i, at]
            at = int(self._parent[i, at])
        return placement


@inner
def _mixed(x: int) -> np.uint64:
    z = np.uint64(x) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inner
def _signature(now: int, later: int) -> np.uint64:
    """Of a worker by its load now and later on; placements with the same sum of these are taken to be the same."""
    return _mixed(now * 2097143 + later)


# Sums of float32 in any order: the estimate need not be exact, and vector instructions need the freedom.
@compiled(fastmath=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _estimate(load: Any, top: Any, j: int, a: int, z: int, ahead: Any, weight: Any, squares: bool) -> np.float32:
    """Estimated cost of placement j in the positions ``a .. z - 1``, without squares on request."""
    number = load.dtype.type
    one, half, none, two = np.float32(1), np.float32(0.25), np.float32(0), np.float32(2)
    total = none
    for k in range(np.uint64(a), np.uint64(z)):
        y = np.float32(number(top[np.uint64(j), np.uint64(0), k] - ahead[np.uint64(0), k]))
        s = weight[np.uint64(0), k]
        t = min(max(y * weight[np.uint64(1), k] + one, none), two)
        total += half * s * t * t + max(none, y - s)
    if squares:
        for g in range(np.uint64(load.shape[1])):
            for k in range(np.uint64(a), np.uint64(z)):
                y = np.float32(number(load[np.uint64(j), g, k] - ahead[np.uint64(0), k]))
                total += weight[np.uint64(2), k] * y * y
    return total


@compiled(fastmath=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _child(load: Any, top: Any, j: int, g: int, a: int, z: int, more: Any, ahead: Any, weight: Any) -> np.float32:
    """As :func:`_estimate` with the loads `more` on worker g; of the squares the change."""
    number = load.dtype.type
    one, half, none, two = np.float32(1), np.float32(0.25), np.float32(0), np.float32(2)
    total = none
    for k in range(np.uint64(a), np.uint64(z)):
        x = load[np.uint64(j), np.uint64(g), k]
        first, second = top[np.uint64(j), np.uint64(0), k], top[np.uint64(j), np.uint64(1), k]
        change = more[k - np.uint64(a)]
        bound = ahead[np.uint64(0), k]
        y = np.float32(number(max(second if x == first else first, number(x + change)) - bound))
        s = weight[np.uint64(0), k]
        t = min(max(y * weight[np.uint64(1), k] + one, none), two)
        d = np.float32(change)
        total += (
            half * s * t * t
            + max(none, y - s)
            + weight[np.uint64(2), k] * d * (two * np.float32(number(x - bound)) + d)
        )
    return total


@inner
def _place(load: Any, count: Any, top: Any, j: int, g: int, a: int, e: int, z: int, more: Any) -> None:
    """Place a request that ends at e, with the loads `more` up to z, on worker g."""
    row, own, step = np.uint64(j), np.uint64(g), count.dtype.type(1)
    for k in range(np.uint64(a), np.uint64(z)):
        load[row, own, k] += more[k - np.uint64(a)]
    for k in range(np.uint64(a), np.uint64(e)):
        count[row, own, k] += step
    _two(load, top, j, a, z)


@inner
def _two(load: Any, top: Any, j: int, a: int, z: int) -> None:
    """The two largest loads of placement j in the positions ``a .. z - 1``."""
    row, first, second = np.uint64(j), np.uint64(0), np.uint64(1)
    for k in range(np.uint64(a), np.uint64(z)):
        top[row, first, k] = load[row, first, k]
        top[row, second, k] = -1
    for h in range(np.uint64(1), np.uint64(load.shape[1])):
        for k in range(np.uint64(a), np.uint64(z)):
            x, one = load[row, h, k], top[row, first, k]
            top[row, first, k] = max(one, x)
            top[row, second, k] = max(top[row, second, k], min(one, x))


@inner
def _copy(load: Any, count: Any, top: Any, source: int, target: int, a: int, z: int) -> None:
    s, t = np.uint64(source), np.uint64(target)
    for g in range(np.uint64(load.shape[1])):
        for k in range(np.uint64(a), np.uint64(z)):
            load[t, g, k] = load[s, g, k]
            count[t, g, k] = count[s, g, k]
    for q in range(np.uint64(2)):
        for k in range(np.uint64(a), np.uint64(z)):
            top[t, q, k] = top[s, q, k]


@inner
def _blank(load: Any, count: Any, top: Any, j: int, a: int, z: int, ahead: Any) -> None:
    """Nobody placed yet in the positions ``a .. z - 1``."""
    for k in range(a, z):
        for g in range(load.shape[1]):
            load[j, g, k] = ahead[1, k]
            count[j, g, k] = 0
        top[j, 0, k] = ahead[1, k]
        top[j, 1, k] = ahead[1, k]


@compiled
def _expect(
    begin: Int64Array, end: Int64Array, base: Int64Array, active: Int64Array, workers: int, slots: int, likely: Any
) -> None:
    """``likely[e, k]``: load in position e + k of a slot that is free in position e before requests start there."""
    steps, behind = len(likely) - 1, likely.shape[1]
    total = np.zeros(behind)
    i = len(begin) - 1
    for e in range(steps - 1, -1, -1):
        total[:] = 0.0
        starts, far = 0, min(behind, steps - e)
        while i >= 0 and begin[i] == e:
            for k in range(far):
                total[k] += base[i] + e + k if e + k < end[i] else likely[end[i], e + k - end[i]]
            starts += 1
            i -= 1
        chosen = 1.0
        if starts > 0 and active[e] > (workers - 1) * slots:
            chosen -= starts / (workers * slots - active[e] + starts)
        for k in range(far):
            then = likely[e + 1, k - 1] if k > 0 else 0
            likely[e, k] = round(chosen * then + (1.0 - chosen) * total[k] / max(1, starts))


@compiled(nogil=True)
def _beam(
    begin: Int64Array,
    end: Int64Array,
    base: Int64Array,
    bound: Int64Array,
    active: Int64Array,
    mean: Int64Array,
    common: Int64Array,
    unplaced: Int64Array,
    likely: Any,
    workers: int,
    slots: int,
    squares: float,
    start: int,
    stop: int,
    width: int,
    load: Any,
    count: Any,
    top: Any,
    ahead: Any,
    weight: NDArray[np.float32],
    cost: Float64Array,
    parent: NDArray[np.int32],
    choice: NDArray[np.int16],
    state: Int64Array,
) -> None:
    """Place the requests ``start .. stop - 1`` on the best partial placements, `width` of them.

    ``cost[0]``: sum of peaks before the present step, ``cost[1]``: estimate of the whole.
    """
    steps, length, room, behind = len(bound), ahead.shape[1], load.shape[0], likely.shape[1]
    more = np.zeros(length, load.dtype)
    first, now, last, alive = state
    children = room * workers
    value, father, where = np.empty(children), np.empty(children, np.int32), np.empty(children, np.int16)
    key = np.empty(children, np.uint64)
    kept, heir, before = np.empty(children, np.bool_), np.empty(room, np.int64), np.empty(room)
    size = 1
    while size < 4 * children:
        size *= 2
    table, low = np.full(size, -1, np.int64), np.uint64(size - 1)
    for i in range(start, stop):
        b = begin[i]
        if i == 0 or begin[i - 1] != b:  # a new step: add up those that have passed, look ahead from here
            for j in range(alive):
                for k in range(now - first, min(b - first, length)):
                    cost[0, j] += top[j, 0, k]
            now = b
            i_last = i
            while i_last < len(begin) and begin[i_last] == b:
                last = max(last, min(steps, end[i_last] + behind))
                i_last += 1
            if first < 0 or last > first + length:
                by = b - first if first >= 0 else length
                keep = max(0, length - by)
                for j in range(alive):
                    for k in range(keep):
                        for g in range(workers):
                            load[j, g, k], count[j, g, k] = load[j, g, k + by], count[j, g, k + by]
                        top[j, 0, k], top[j, 1, k] = top[j, 0, k + by], top[j, 1, k + by]
                first = b
                for k in range(length):
                    inside = first + k < steps
                    ahead[0, k] = bound[first + k] if inside else 0
                    ahead[1, k] = slots * common[first + k] if inside else 0
                    ahead[2, k] = mean[first + k] if inside else 0
                for j in range(alive):
                    _blank(load, count, top, j, keep, length, ahead)
            for k in range(b - first, last - first):
                left = unplaced[first + k] / workers
                weight[0, k] = _SOFT * ahead[2, k] * np.sqrt(left) + 1.0
                weight[1, k] = 1.0 / weight[0, k]
                weight[2, k] = squares / (ahead[2, k] * (1.0 + left)) if left > 0 else 0.0
            for j in range(alive):
                cost[1, j] = cost[0, j] + _estimate(load, top, j, b - first, last - first, ahead, weight, True)
        a, z = b - first, min(steps, end[i] + behind) - first
        for k in range(z - a):  # what the request and its slot put in place of what the slot was likely to hold
            held = np.int64(likely[b, k]) if k < behind else common[b + k]
            more[k] = (base[i] + b + k if b + k < end[i] else np.int64(likely[end[i], b + k - end[i]])) - held
        near = min(a + 17, length - 1)
        found = 0
        for j in range(alive):
            without = cost[1, j] - _estimate(load, top, j, a, z, ahead, weight, False)
            whole = np.uint64(0)
            for g in range(workers):
                whole += _signature(load[j, g, a], load[j, g, near])
            empty = False
            for g in range(workers):
                if count[j, g, a] >= slots or (count[j, g, a] == 0 and empty):
                    continue  # one empty worker is as good as another
                empty = empty or count[j, g, a] == 0
                v = without + _child(load, top, j, g, a, z, more, ahead, weight)
                here = load[j, g, a] + more[0]
                there = load[j, g, near] + (more[near - a] if near < z else 0)
                mark = whole - _signature(load[j, g, a], load[j, g, near]) + _signature(here, there)
                h = mark & low
                while table[h] >= 0 and key[table[h]] != mark:
                    h = (h + np.uint64(1)) & low
                q = table[h]
                if q < 0:
                    q = found
                    table[h], key[q] = q, mark
                    found += 1
                elif value[q] <= v:
                    continue
                value[q], father[q], where[q] = v, j, g
        for q in range(found):  # empty the table: all entries of a run go together
            h = key[q] & low
            while table[h] >= 0:
                table[h] = -1
                h = (h + np.uint64(1)) & low
        limit = np.partition(value[:found], width - 1)[width - 1] if found > width else np.inf
        heir[:] = -1
        chosen = 0
        for q in range(found):
            kept[q] = value[q] <= limit and chosen < width
            if kept[q]:
                chosen += 1
                if heir[father[q]] < 0:
                    heir[father[q]] = q
        # The first child of a placement takes its place, the others go where none survives.
        before[:] = cost[0]
        free = 0
        for q in range(found):
            if not kept[q] or heir[father[q]] == q:
                continue
            while heir[free] >= 0:
                free += 1
            _copy(load, count, top, father[q], free, a, last - first)
            if free >= alive:
                _blank(load, count, top, free, last - first, length, ahead)
            heir[free] = q
        beyond = 0
        for j in range(room):
            q = heir[j]
            if q < 0:
                continue
            beyond = j + 1
            cost[0, j], cost[1, j] = before[father[q]], value[q]
            _place(load, count, top, j, where[q], a, end[i] - first, z, more)
            parent[i, j], choice[i, j] = father[q], where[q]
        j = 0
        while j < chosen:  # no gaps
            if heir[j] < 0:
                while heir[beyond - 1] < 0:
                    beyond -= 1
                beyond -= 1
                _copy(load, count, top, beyond, j, a, length)
                cost[0, j], cost[1, j] = cost[0, beyond], cost[1, beyond]
                parent[i, j], choice[i, j] = parent[i, beyond], choice[i, beyond]
                heir[j], heir[beyond] = heir[beyond], -1
            j += 1
        alive = chosen
        for k in range(b, end[i]):
            unplaced[k] -= 1
        spare = workers * slots - active[b]
        if 0 < spare < slots and (i + 1 == len(begin) or begin[i + 1] != b):  # slots that stay free
            z = min(steps - b, behind)
            for k in range(z):
                more[k] = (np.int64(likely[b + 1, k - 1]) if k > 0 else 0) - np.int64(likely[b, k])
            for j in range(alive):
                for g in range(workers):
                    free = slots - count[j, g, a]
                    if free > 0:
                        for k in range(z):
                            load[j, g, a + k] += free * more[k]
                _two(load, top, j, a, a + z)
    state[0], state[1], state[2], state[3] = first, now, last, alive
