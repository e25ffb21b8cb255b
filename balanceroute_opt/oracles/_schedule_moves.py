"""Simulated annealing on starts and workers together, evaluated step by step in vector instructions (compiled) [ours].

A move changes the places (start and worker) of one request or of two, on two workers at most. What it adds to them is
linear in k between a few cuts, so that its price needs, as in ``annealing.py``, the loads of the two workers and the
three largest of all in every step between the cuts, and the number of active requests where that changes. Memory is
linear in requests plus steps times workers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._jit import compiled, inner
from .._validate import Float64Array, Int64Array
from ..instance import Cluster
from .annealing import _draw, _three, temperature_for

__all__ = ["ScheduleAnnealing", "longest_first"]

_BLOCK = 64  # steps priced between two looks whether a move is worth more
_NEAR = 40  # steps, or ranks by output, within which a partner is looked for
_SAMPLES = 20_000
_REFUSED = 1e300


class ScheduleAnnealing:
    """A schedule on an axis of steps that can be improved for as long as one likes.

    Parameters
    ----------
    earliest, latest : ndarray of int64, shape (n,)
        Start windows, positions on the axis.
    prompt, output : ndarray of int64, shape (n,)
    steps : int
        Length of the axis; ``latest + output`` does not pass it.
    cluster : Cluster
    start, worker : ndarray of int64, shape (n,)
        The first schedule; it keeps windows, slots and capacity.
    seed : int
    soft : bool
        Whether slots may be overfull on the way, at a price. Small problems need that: two requests that can only
        change workers together never do otherwise.

    Attributes
    ----------
    peak, active, over : int
        Sum of peaks, number of active steps, and requests without a slot, summed over steps, of the present schedule.
    """

    def __init__(
        self,
        earliest: Int64Array,
        latest: Int64Array,
        prompt: Int64Array,
        output: Int64Array,
        steps: int,
        cluster: Cluster,
        start: Int64Array,
        worker: Int64Array,
        seed: int = 0,
        soft: bool = False,
    ) -> None:
        n, time = len(start), cluster.step_time
        self._earliest, self._latest, self._prompt, self._output = earliest, latest, prompt, output
        self._a, self._c = time.per_token, time.fixed
        rows = max(2, cluster.workers)  # a single worker gets an empty one beside it
        self._workers = cluster.workers
        most = n if soft else min(n, cluster.slots)
        largest = int(np.sort(prompt + output)[n - most :].sum())
        self._capacity = largest if cluster.kv_capacity is None else min(largest, cluster.kv_capacity)
        self._bits = (rows - 1).bit_length()
        # A load and its worker in one number, as in the annealing of placements.
        kind = np.int32 if (largest + 1) << self._bits < 2**31 else np.int64
        self._slots = min(cluster.slots, n)
        self._load = np.empty((rows, steps), kind)
        self._count = np.empty((rows, steps), np.int16 if most < 2**15 - 2 else np.int32)
        self._top = np.empty((3, steps), kind)
        self._total = np.empty(steps, np.int32)
        self._first, self._links = np.empty(steps, np.int64), np.empty((2, n), np.int64)
        self._by_output = np.lexsort((prompt, output))
        self._rank = np.empty(n, np.int64)
        self._rank[self._by_output] = np.arange(n)
        self._random = np.maximum(np.random.SeedSequence(seed).generate_state(1, np.uint64), 1)
        self._slack = 4 * self._a * float((prompt + output).mean()) if n else 0.0
        self._over_price = self._slack / 4 + self._c / 8 if soft else 0.0
        self._start, self._worker = np.empty(n, np.int64), np.empty(n, np.int64)
        self.place(start, worker)

    @property
    def start(self) -> Int64Array:
        """The present starts (a copy)."""
        return self._start.copy()

    @property
    def worker(self) -> Int64Array:
        """The present workers (a copy)."""
        return self._worker.copy()

    @property
    def price(self) -> float:
        """Seconds, without the part that no schedule changes."""
        return self._c * self.active + self._a * self.peak

    def place(self, start: Int64Array, worker: Int64Array) -> None:
        """Go on from another schedule."""
        self._start[:], self._worker[:] = start, worker
        _fill(
            self._start, self._worker, self._prompt, self._output, self._load, self._count, self._total, self._top,
            self._first, self._links, self._bits,
        )  # fmt: skip
        self.peak = int((self._top[0] >> self._bits).astype(np.int64).sum())
        self.active = int(np.count_nonzero(self._total))
        self.over = 0

    def temperatures(self, shares: tuple[float, ...]) -> list[float]:
        """Temperatures, in seconds, at which these shares of the feasible moves from here would be accepted rises."""
        rises = np.empty(_SAMPLES)
        found = int(self._run(_SAMPLES, 0.0, 0.0, rises)[2])
        return [temperature_for(share, rises[:found], 1e-15, 1e15, 80) for share in shares]

    def run(self, moves: int, temperature: float, soft: float = 0.0) -> None:
        """Try `moves` moves at this temperature (0: descent).

        With `soft` > 0 slots may be overfull, at a price that grows with it (see the parameter of the class); without,
        no move makes them so.
        """
        if len(self._start):
            done = self._run(moves, temperature, soft * self._over_price, _NOTHING)
            self.peak += int(done[0])
            self.active += int(done[1])
            self.over += int(done[3])

    def _run(self, moves: int, temperature: float, soft: float, rises: Float64Array) -> Int64Array:
        result = np.zeros(4, np.int64)
        _anneal(
            self._earliest, self._latest, self._prompt, self._output, self._start, self._worker, self._by_output,
            self._rank, self._load, self._count, self._total, self._top, self._first, self._links, self._bits,
            self._workers, self._slots, self._capacity, self._a, self._c, soft, moves, temperature,
            self._slack, self._random, rises, result,
        )  # fmt: skip
        return result


_NOTHING = np.empty(0)


@compiled
def _fill(
    start: Int64Array,
    worker: Int64Array,
    prompt: Int64Array,
    output: Int64Array,
    load: Any,
    count: Any,
    total: Any,
    top: Any,
    first: Int64Array,
    links: Int64Array,
    bits: int,
) -> None:
    load[:] = 0
    count[:] = 0
    total[:] = 0
    first[:] = -1
    for i in range(len(start)):
        t, g = start[i], worker[i]
        for k in range(t, t + output[i]):
            load[g, k] += (prompt[i] + k - t) << bits
            count[g, k] += 1
            total[k] += 1
        _enter(first, links, i, t)
    for g in range(load.shape[0]):
        for k in range(load.shape[1]):
            load[g, k] += g
    _three(load, top, 0, load.shape[1])


@inner
def _enter(first: Int64Array, links: Int64Array, i: int, k: int) -> None:
    """Put request i into the list of those that start in step k."""
    j = first[k]
    links[0, i], links[1, i] = -1, j
    if j >= 0:
        links[0, j] = i
    first[k] = i


@inner
def _leave(first: Int64Array, links: Int64Array, i: int, k: int) -> None:
    before, after = links[0, i], links[1, i]
    if before >= 0:
        links[1, before] = after
    else:
        first[k] = after
    if after >= 0:
        links[0, after] = before


@inner
def _piece(piece: Int64Array, at: int, row: int, sign: int, start: int, prompt: int, output: int) -> None:
    """Piece `at` of a move: on its worker number `row`, `sign` times the load ``prompt - start + k``."""
    piece[at, 0], piece[at, 1] = start, start + output
    piece[at, 2], piece[at, 3], piece[at, 4] = row, sign, prompt - start


@inner
def _segments(piece: Int64Array, pieces: int, segment: Int64Array) -> int:
    """Cut a move into segments ``a, z, p, n, q, m``: in steps a .. z - 1 its first worker gets p + n*k tokens and n
    requests, its second q + m*k and m. Segments without a change are left out."""
    cuts = 0
    for s in range(2 * pieces):
        x, at = piece[s // 2, s % 2], cuts
        while at > 0 and segment[at - 1, 6] > x:
            segment[at, 6] = segment[at - 1, 6]
            at -= 1
        segment[at, 6] = x
        cuts += 1
    found = 0
    for s in range(cuts - 1):
        a, z = segment[s, 6], segment[s + 1, 6]
        if a == z:
            continue
        p, n, q, m = 0, 0, 0, 0
        for r in range(pieces):
            if piece[r, 0] <= a and z <= piece[r, 1]:
                if piece[r, 2] == 0:
                    p, n = p + piece[r, 3] * piece[r, 4], n + piece[r, 3]
                else:
                    q, m = q + piece[r, 3] * piece[r, 4], m + piece[r, 3]
        if p != 0 or n != 0 or q != 0 or m != 0:
            segment[found, 0], segment[found, 1], segment[found, 2] = a, z, p
            segment[found, 3], segment[found, 4], segment[found, 5] = n, q, m
            found += 1
    return found


@inner
def _hope(segment: Int64Array, x: int) -> int:
    """The sum of peaks falls by no more than this in a segment."""
    first, last = segment[x, 0], segment[x, 1] - 1
    p, n, q, m = segment[x, 2], segment[x, 3], segment[x, 4], segment[x, 5]
    return (last + 1 - first) * -min(0, p + n * first, p + n * last, q + m * first, q + m * last)


@inner
def _room(count: Any, g: int, a: int, z: int, more: int, slots: int) -> bool:
    """Whether worker g has `more` free slots in all of the steps."""
    if more <= 0:
        return True
    row, most = np.uint64(g), count.dtype.type(slots - more)
    if count[g, a] > most or count[g, z - 1] > most:
        return False
    highest = count[g, a]
    for k in range(np.uint64(a), np.uint64(z)):
        highest = max(highest, count[row, k])
    return highest <= most


@inner
def _excess(count: Any, g: int, a: int, z: int, change: int, slots: int) -> int:
    """Change of the requests of worker g without a slot, summed over the steps, if `change` come."""
    found = 0
    if change != 0:
        for k in range(np.uint64(a), np.uint64(z)):
            now = count[np.uint64(g), k] - slots
            found += max(now + change, 0) - max(now, 0)
    return found


@inner
def _awake(total: Any, a: int, z: int, change: int) -> int:
    """Change of the number of active steps if `change` requests come to these steps."""
    found = 0
    for k in range(np.uint64(a), np.uint64(z)):
        found += (total[k] + change > 0) - (total[k] > 0)
    return found


@inner
def _rise(
    load: Any, top: Any, g: int, h: int, a: int, z: int, p: int, n: int, q: int, m: int, bits: int, cap: int, over: Any
) -> int:
    """Change of the sum of peaks in the steps a .. z - 1; ``over[0]`` becomes 1 where a load passes the capacity."""
    number = load.dtype.type
    own, other = np.uint64(g), np.uint64(h)
    here, grow = number((p + n * a) << bits), number(n << bits)
    there, swell = number((q + m * a) << bits), number(m << bits)
    total, highest = 0, number(0)
    for k in range(np.uint64(a), np.uint64(z)):
        x, y = load[own, k], load[other, k]
        one, two, three = top[np.uint64(0), k], top[np.uint64(1), k], top[np.uint64(2), k]
        rest = three if ((two == x) | (two == y)) else two
        rest = rest if ((one == x) | (one == y)) else one
        both = max(number(x + here), number(y + there))
        highest = max(highest, both)
        total += number(number(max(rest, both) >> bits) - number(one >> bits))
        here, there = number(here + grow), number(there + swell)
    if (highest >> bits) > cap:
        over[0] = 1
    return total


@inner
def _apply(
    load: Any, count: Any, total: Any, g: int, h: int, a: int, z: int, p: int, n: int, q: int, m: int, bits: int
) -> None:
    number, small, unit = load.dtype.type, count.dtype.type, total.dtype.type
    own, other = np.uint64(g), np.uint64(h)
    here, grow = number((p + n * a) << bits), number(n << bits)
    there, swell = number((q + m * a) << bits), number(m << bits)
    for k in range(np.uint64(a), np.uint64(z)):
        load[own, k] += here
        load[other, k] += there
        here, there = number(here + grow), number(there + swell)
    if n != 0 or m != 0:
        for k in range(np.uint64(a), np.uint64(z)):
            count[own, k] += small(n)
            count[other, k] += small(m)
            total[k] += unit(n + m)


@compiled(nogil=True)
def _anneal(
    earliest: Int64Array,
    latest: Int64Array,
    prompt: Int64Array,
    output: Int64Array,
    start: Int64Array,
    worker: Int64Array,
    by_output: Int64Array,
    rank: Int64Array,
    load: Any,
    count: Any,
    total: Any,
    top: Any,
    first: Int64Array,
    links: Int64Array,
    bits: int,
    workers: int,
    slots: int,
    cap: int,
    a: float,
    c: float,
    soft: float,
    moves: int,
    temperature: float,
    slack: float,
    state: NDArray[np.uint64],
    rises: Float64Array,
    result: Int64Array,
) -> None:
    """Anneal. With room in `rises` nothing is moved, and the changes of price of feasible moves are written there.

    `soft` is the price of a request without a slot in a step; 0: there must not be any. `result`: change of the sum of
    peaks, of the number of active steps, number of moves taken (or rises written), change of requests without a slot.
    """
    n, sampling = len(start), len(rises) > 0
    last = load.shape[1] - 1
    piece, segment, over = np.zeros((4, 5), np.int64), np.zeros((8, 7), np.int64), np.zeros(1, np.int64)
    for _ in range(moves):
        i = int(_draw(state) * n)
        g, t = worker[i], start[i]
        most = _REFUSED if sampling else -temperature * np.log(1.0 - _draw(state))
        kind = _draw(state)
        j, h, s, u = -1, g, t, 0
        if kind < 0.45:
            # Another place: another worker, another start in the window, or both.
            wide = latest[i] > earliest[i]
            if workers > 1 and (not wide or _draw(state) < 0.6):
                h = int(_draw(state) * (workers - 1))
                h += h >= g
            if wide and (h == g or _draw(state) < 0.5):
                if _draw(state) < 0.5:
                    s = earliest[i] + int(_draw(state) * (latest[i] - earliest[i] + 1))
                else:
                    s = min(latest[i], max(earliest[i], t + int(_draw(state) * 17.0) - 8))
            if h == g and s == t:
                continue
        elif kind < 0.85:
            # Exchange of workers or of places, with one that starts soon or one about as long.
            if kind < 0.65:
                k = min(last, t + int(_draw(state) * _NEAR))
                j = first[k]
                hops = int(_draw(state) * 4.0)
                while hops > 0 and j >= 0 and links[1, j] >= 0:
                    j, hops = links[1, j], hops - 1
            else:
                step = int(_draw(state) * (2 * _NEAR + 1)) - _NEAR
                at = rank[i] + (step * abs(step)) // _NEAR
                if 0 <= at < n:
                    j = by_output[at]
            if j < 0 or j == i:
                continue
            h, s, u = worker[j], start[j], t
            if h != g and kind < 0.65 and _draw(state) < 0.6:
                s, u = t, start[j]
            elif s == t and (h == g):
                continue
        else:
            # The next one on the worker goes first.
            k = t + output[i]
            if k > last:
                continue
            j = first[k]
            while j >= 0 and worker[j] != g:
                j = links[1, j]
            if j < 0:
                continue
            s, u = start[j] + output[j] - output[i], t
        if s < earliest[i] or s > latest[i] or (j >= 0 and (u < earliest[j] or u > latest[j])):
            continue
        # Worker number 0 is g, number 1 is h. In an exchange i goes to h and j to g, also where they are the same.
        second = 0 if h == g else 1
        other = h if h != g else (g + 1) % load.shape[0]
        _piece(piece, 0, 0, -1, t, prompt[i], output[i])
        _piece(piece, 1, second, 1, s, prompt[i], output[i])
        pieces = 2
        if j >= 0:
            _piece(piece, 2, second, -1, start[j], prompt[j], output[j])
            _piece(piece, 3, 0, 1, u, prompt[j], output[j])
            pieces = 4
        found = _segments(piece, pieces, segment)
        fits, awake, excess = True, 0, 0
        for x in range(found):
            more, plus = segment[x, 3], segment[x, 5]
            if soft > 0.0:
                excess += _excess(count, g, segment[x, 0], segment[x, 1], more, slots)
                excess += _excess(count, other, segment[x, 0], segment[x, 1], plus, slots)
            elif not (
                _room(count, g, segment[x, 0], segment[x, 1], more, slots)
                and _room(count, other, segment[x, 0], segment[x, 1], plus, slots)
            ):
                fits = False
                break
            if more + plus != 0:
                awake += _awake(total, segment[x, 0], segment[x, 1], more + plus)
        if not fits:
            continue
        # What later segments may give back is allowed for; inside one, `slack` is.
        hope = 0
        for x in range(found):
            hope += _hope(segment, x)
        rise, fixed = 0, c * awake + soft * excess
        price = fixed
        over[0] = 0
        for x in range(found):
            lo, hi = segment[x, 0], segment[x, 1]
            hope -= _hope(segment, x)
            enough = most + slack + a * hope
            while lo < hi and price <= enough:
                end = min(hi, lo + _BLOCK)
                rise += _rise(
                    load, top, g, other, lo, end, segment[x, 2], segment[x, 3], segment[x, 4], segment[x, 5], bits,
                    cap, over,
                )  # fmt: skip
                price = fixed + a * rise
                lo = end
            if price > enough or over[0] > 0:
                break
        if price > most or over[0] > 0:
            continue
        if sampling:
            rises[result[2]] = price
            result[2] += 1
            continue
        for x in range(found):
            _apply(
                load, count, total, g, other, segment[x, 0], segment[x, 1], segment[x, 2], segment[x, 3],
                segment[x, 4], segment[x, 5], bits,
            )  # fmt: skip
            _three(load, top, segment[x, 0], segment[x, 1])
        _leave(first, links, i, t)
        _enter(first, links, i, s)
        start[i], worker[i] = s, h
        if j >= 0:
            _leave(first, links, j, start[j])
            _enter(first, links, j, u)
            start[j], worker[j] = u, g
        result[0] += rise
        result[1] += awake
        result[2] += 1
        result[3] += excess


@compiled
def longest_first(
    prompt: Int64Array,
    output: Int64Array,
    order: Int64Array,
    workers: int,
    slots: int,
    window: int,
    start: Int64Array,
    worker: Int64Array,
) -> None:
    """Without releases: fill the slots in `order` (longest output first), as soon as one is free.

    The least loaded worker with a free slot takes, of the next `window` requests, the one that brings its load
    closest to that of the most loaded worker.
    """
    n = len(order)
    longest = 0
    for i in range(n):
        longest = max(longest, output[i])
    ends = np.zeros((longest + 1, workers, 2), np.int64)
    load, count = np.zeros(workers, np.int64), np.zeros(workers, np.int64)
    window = min(window, n)
    ahead = order[:window].copy()
    taken, held, k = window, window, 0
    while held > 0:
        now = ends[k % (longest + 1)]
        for g in range(workers):
            # Survivors have grown by a token; the ended ones are gone.
            load[g] += count[g] - now[g, 1]
            count[g] -= now[g, 0]
            now[g, 0], now[g, 1] = 0, 0
        while held > 0:
            g = -1
            for w in range(workers):
                if count[w] < slots and (g < 0 or load[w] < load[g]):
                    g = w
            if g < 0:
                break
            most = load.max()
            best, distance = 0, -1
            for x in range(held):
                d = abs(load[g] + prompt[ahead[x]] - most)
                if distance < 0 or d < distance:
                    best, distance = x, d
            i = ahead[best]
            for x in range(best, held - 1):
                ahead[x] = ahead[x + 1]
            if taken < n:
                ahead[held - 1] = order[taken]
                taken += 1
            else:
                held -= 1
            start[i], worker[i] = k, g
            load[g] += prompt[i]
            count[g] += 1
            then = ends[(k + output[i]) % (longest + 1)]
            then[g, 0] += 1
            then[g, 1] += prompt[i] + output[i]
        k += 1
