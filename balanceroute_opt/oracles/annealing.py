"""Simulated annealing on placements of whole traces, evaluated step by step in vector instructions (compiled) [ours].

The price of a placement is ``peak_sum``, and 1000 more for every token above the KV capacity. A move takes a request to
another worker, or exchanges two requests whose starts are close; both change two workers over a few hundred steps, and
their price needs, in each of them, the loads of these two and the three largest of all. Memory is linear in requests
plus steps times workers.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._jit import compiled, inner
from .._validate import Float64Array, Int64Array

__all__ = ["Annealing", "profile", "temperature_for"]

_OVER = 1000  # price of a token above the KV capacity, in tokens of peak
_BLOCK = 64  # steps priced between two looks whether a move is worth more
_SLACK = 4.0  # mean loads that a move may cost more than allowed before it is given up
_MANY = 16  # workers, from which on requests of full workers and workers with little load are looked for
_NEAR = 40  # requests, by start, among which a partner for an exchange is drawn
_MOVES = 0.65  # share of moves, the others are exchanges
_SAMPLES = 20_000
_SWEPT = 2000  # requests of a block


class Annealing:
    """A placement that can be improved for as long as one likes.

    Parameters
    ----------
    begin, end, base : ndarray of int64, shape (n,)
        Request i is active at positions ``begin[i] .. end[i] - 1`` of the axis of active steps, with load
        ``base[i] + k`` at position k.
    steps : int
        Length of the axis.
    workers, slots : int
    capacity : int or None
        Most tokens on a worker.
    worker : ndarray of int64, shape (n,)
        The first placement; it keeps the slots.
    seed : int
    threads : int
        Each has a stretch of the axis of its own during a call of :meth:`run`.

    Attributes
    ----------
    price : int
        Of the present placement.
    size : float
        Mean load of an active request, tokens.
    over : int
        Its tokens above the KV capacity, summed over the steps.
    """

    def __init__(
        self,
        begin: Int64Array,
        end: Int64Array,
        base: Int64Array,
        steps: int,
        workers: int,
        slots: int,
        capacity: int | None,
        worker: Int64Array,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        self._order = np.argsort(begin, kind="stable")
        self._begin, self._end, self._base = (np.ascontiguousarray(x[self._order]) for x in (begin, end, base))
        n, self._calls = len(begin), 0
        active, total = profile(begin, end, base, steps)
        largest, most = int(total.max(initial=0)), int(active.max(initial=0))
        # A load and its worker in one number, so that the three largest need no second array.
        self._bits = max(1, (workers - 1).bit_length())
        kind = np.int32 if largest << self._bits < 2**31 else np.int64
        self._load = np.empty((workers, steps), kind)
        self._count = np.empty((workers, steps), np.int16 if most < 2**15 else np.int32)
        self._top = np.empty((3, steps), kind)
        self._slots = min(slots, most)
        self._capacity = min(largest, capacity) if capacity is not None else largest
        self._worker = np.ascontiguousarray(worker[self._order], np.int64)
        self._threads = max(1, min(threads, n // 64))
        self._aim = (2 * workers, 4) if workers >= _MANY else (0, 0)
        streams = np.random.SeedSequence(seed).generate_state(self._threads, np.uint64)
        self._random = np.maximum(streams, 1).reshape(-1, 1)
        duration = self._end - self._begin
        work = duration * (self._base + self._begin) + duration * (duration - 1) // 2
        self.size = float(work.sum() / max(1, duration.sum()))
        self.place(worker)

    @property
    def worker(self) -> Int64Array:
        """The present placement, in the order of the requests (a copy)."""
        placement = np.empty_like(self._worker)
        placement[self._order] = self._worker
        return placement

    def place(self, worker: Int64Array) -> None:
        """Go on from another placement."""
        self._worker[:] = worker[self._order]
        _fill(self._begin, self._end, self._base, self._worker, self._load, self._count, self._bits)
        _rank(self._load, self._top)
        peak = (self._top[0] >> self._bits).astype(np.int64)
        self.over = int(np.maximum(peak - self._capacity, 0).sum())
        self.price = int(peak.sum()) + _OVER * self.over

    def temperatures(self, shares: tuple[float, ...]) -> list[float]:
        """Temperatures at which about these shares of all feasible moves from here would be worse and accepted."""
        rises = np.empty(_SAMPLES)
        found = int(self._run(0, len(self._begin), self._load.shape[1], _SAMPLES, 0.0, 0.0, 0, rises)[2])
        return [temperature_for(share, rises[:found], 1e-3, 1e12, 60) for share in shares]

    def run(self, moves: int, temperature: float, even: float = 0.0) -> None:
        """Try `moves` moves at this temperature (0: descent).

        Loads that are far from each other cost `even` times half the sum of their squares on top of the price: a
        placement whose other workers are even is easier to improve.
        """
        n, steps = len(self._begin), self._load.shape[1]
        if n < 2 or len(self._load) < 2:
            return
        # The cuts between the stretches of the threads move from call to call; what crosses one rests.
        self._calls += 1
        shift = 0.8 * ((0.0, 0.5, 0.25, 0.75)[self._calls % 4] - 0.5)
        cut = [round(n * (t + shift) / self._threads) for t in range(1, self._threads)]
        parts = []
        for t, (lo, hi) in enumerate(zip([0, *cut], [*cut, n], strict=True)):
            last = int(self._begin[hi]) if hi < n else steps
            parts.append((lo, hi, last, moves * (hi - lo) // n, temperature, even, t))
        if len(parts) == 1:
            done = [self._sweep(*parts[0])]
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                done = list(pool.map(lambda part: self._sweep(*part), parts))
        self.price += sum(int(d[0]) for d in done)
        self.over += sum(int(d[1]) for d in done)

    def _sweep(
        self, lo: int, hi: int, last: int, moves: int, temperature: float, even: float, stream: int
    ) -> Int64Array:
        """A stretch block by block: the loads that a block of requests touches stay in the caches."""
        blocks = max(1, round((hi - lo) / _SWEPT))
        total, done = np.zeros(3, np.int64), 0
        for k in range(1, blocks + 1):
            a, b = lo + (k - 1) * (hi - lo) // blocks, lo + k * (hi - lo) // blocks
            due = moves * (b - lo) // max(1, hi - lo)
            total += self._run(a, b, last, due - done, temperature, even, stream, _NOTHING)
            done = due
        return total

    def _run(
        self, lo: int, hi: int, last: int, moves: int, temperature: float, even: float, stream: int, rises: Float64Array
    ) -> Int64Array:
        state, result = self._random[stream], np.zeros(3, np.int64)
        _anneal(
            self._begin, self._end, self._base, self._worker, self._load, self._count, self._top, self._bits,
            self._slots, self._capacity, lo, hi, last, moves, temperature, even, _SLACK * self.size,
            *self._aim, state, rises, result,
        )  # fmt: skip
        return result


_NOTHING = np.empty(0)


def temperature_for(share: float, rises: Float64Array, low: float, high: float, halvings: int) -> float:
    """The temperature between `low` and `high` at which this share of the moves would be worse and accepted.

    `rises` are the changes of price of a sample of moves; 1 if none of them is worse.
    """
    worse = rises[rises > 0]
    if not len(worse):
        return 1.0
    for _ in range(halvings):
        middle = math.sqrt(low * high)
        if np.exp(-worse / middle).sum() >= share * len(rises):
            high = middle
        else:
            low = middle
    return high


def profile(begin: Int64Array, end: Int64Array, base: Int64Array, steps: int) -> tuple[Int64Array, Int64Array]:
    """Number and total load of the active requests of every position."""
    number, offset = np.zeros(steps + 1, np.int64), np.zeros(steps + 1, np.int64)
    for at, sign in ((begin, 1), (end, -1)):
        np.add.at(number, at, sign)
        np.add.at(offset, at, sign * base)
    active = np.cumsum(number[:-1])
    return active, np.cumsum(offset[:-1]) + active * np.arange(steps)


@compiled
def _fill(
    begin: Int64Array, end: Int64Array, base: Int64Array, worker: Int64Array, load: Any, count: Any, bits: int
) -> None:
    load[:] = 0
    count[:] = 0
    for i in range(len(begin)):
        for k in range(begin[i], end[i]):
            load[worker[i], k] += (base[i] + k) << bits
            count[worker[i], k] += 1
    for g in range(load.shape[0]):
        for k in range(load.shape[1]):
            load[g, k] += g


@compiled
def _rank(load: Any, top: Any) -> None:
    _three(load, top, 0, load.shape[1])


# Unsigned indices spare the compiler the question whether they count from the end, and let it use vector instructions.
@inner
def _three(load: Any, top: Any, a: int, z: int) -> None:
    """The three largest loads of the steps ``a .. z - 1``, in descending order."""
    lo, hi = np.uint64(a), np.uint64(z)
    first, second, third = np.uint64(0), np.uint64(1), np.uint64(2)
    for k in range(lo, hi):
        top[first, k] = load[first, k]
        top[second, k] = -1
        top[third, k] = -1
    for g in range(np.uint64(1), np.uint64(load.shape[0])):
        for k in range(lo, hi):
            x, one, two = load[g, k], top[first, k], top[second, k]
            rest = min(one, x)
            top[first, k] = max(one, x)
            top[second, k] = max(two, rest)
            top[third, k] = max(top[third, k], min(two, rest))


# The squares need not be exact, and vector instructions need the freedom to sum floats in any order.
@compiled(fastmath=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _rise(
    load: Any, top: Any, g: int, h: int, a: int, z: int, base: int, slope: int, bits: int, cap: int, even: float,
    change: Any,
) -> float:  # fmt: skip
    """What it costs that ``base + slope * k`` tokens go from g to h in the steps k = ``a .. z - 1``.

    The change of the price, and `even` times the change of half the sum of squared loads. The change of the sum of
    peaks is added to ``change[0]``, that of the tokens above the capacity to ``change[1]``.
    """
    number = load.dtype.type
    own, other = np.uint64(g), np.uint64(h)
    shift, grow, most = number(base + slope * a), number(slope), number(cap)
    total, above, squares = 0, 0, np.float32(0)
    for k in range(np.uint64(a), np.uint64(z)):
        x, y = load[own, k], load[other, k]
        one, two, three = top[np.uint64(0), k], top[np.uint64(1), k], top[np.uint64(2), k]
        rest = three if ((two == x) | (two == y)) else two
        rest = rest if ((one == x) | (one == y)) else one
        packed = number(shift << bits)
        after = number(max(rest, max(number(x - packed), number(y + packed))) >> bits)
        before = number(one >> bits)
        total += number(after - before)
        above += number(max(number(after - most), number(0)) - max(number(before - most), number(0)))
        squares += np.float32(shift) * np.float32(number(number(number(y - x) >> bits) + shift))
        shift = number(shift + grow)
    change[0] += total
    change[1] += above
    cost: Any = total + _OVER * above + even * squares
    return cost


@inner
def _full(count: Any, g: int, a: int, z: int, slots: int) -> bool:
    """Whether worker g has no free slot in one of the steps."""
    most = count[g, a] if z > a else 0
    for k in range(np.uint64(a), np.uint64(z)):
        most = max(most, count[np.uint64(g), k])
    return most >= slots


@inner
def _transfer(load: Any, count: Any, g: int, h: int, a: int, z: int, base: int, bits: int) -> None:
    number, one = load.dtype.type, count.dtype.type(1)
    own, other = np.uint64(g), np.uint64(h)
    shift, grow = number((base + a) << bits), number(1 << bits)
    for k in range(np.uint64(a), np.uint64(z)):
        load[own, k] -= shift
        load[other, k] += shift
        shift = number(shift + grow)
    for k in range(np.uint64(a), np.uint64(z)):
        count[own, k] -= one
        count[other, k] += one


@inner
def _bits53(state: Any) -> Any:
    """The next 53 bits of a xorshift64 sequence."""
    x = state[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    state[0] = x
    return x >> np.uint64(11)


@inner
def _draw(state: Any) -> float:
    """A number in [0, 1)."""
    return _bits53(state) * (1.0 / 9007199254740992.0)


@inner
def _stretch(
    load: Any, top: Any, g: int, h: int, a: int, z: int, base: int, slope: int, bits: int, cap: int, even: float,
    change: Any, cost: float, most: float,
) -> float:  # fmt: skip
    """`cost` and that of the steps ``a .. z - 1``, given up as soon as it is above `most`."""
    while a < z and cost <= most:
        b = min(z, a + _BLOCK)
        cost += _rise(load, top, g, h, a, b, base, slope, bits, cap, even, change)
        a = b
    return cost


@compiled(nogil=True)
def _anneal(
    begin: Int64Array,
    end: Int64Array,
    base: Int64Array,
    worker: Int64Array,
    load: Any,
    count: Any,
    top: Any,
    bits: int,
    slots: int,
    cap: int,
    lo: int,
    hi: int,
    last: int,
    moves: int,
    temperature: float,
    even: float,
    slack: float,
    tries: int,
    picks: int,
    state: NDArray[np.uint64],
    rises: Float64Array,
    result: Int64Array,
) -> None:
    """Anneal the requests ``lo .. hi - 1`` (by start) that end by position `last`.

    With `tries` a request is drawn up to so often, until it is on the fullest worker of a random step of its own; with
    `picks` the target of a move is the lightest of so many more workers.

    With room in `rises` nothing is moved, and the changes of price of feasible moves are written there. `result`:
    change of price, change of tokens above the capacity, number of rises written (or of moves taken).
    """
    workers, sampling = load.shape[0], len(rises) > 0
    mask = (1 << bits) - 1
    change = np.zeros(2, np.int64)
    for _ in range(moves):
        i = lo + int(_draw(state) * (hi - lo))
        for _ in range(tries):  # one that is on the fullest worker in some step
            k = begin[i] + int(_draw(state) * (end[i] - begin[i]))
            if end[i] <= last and top[0, k] & mask == worker[i]:
                break
            i = lo + int(_draw(state) * (hi - lo))
        if end[i] > last:
            continue
        g = worker[i]
        # A move is accepted if it costs no more than this: Metropolis' rule, drawn before the price is known.
        most = 1e300 if sampling else -temperature * np.log(1.0 - _draw(state))
        enough = most + slack
        change[:] = 0
        if _draw(state) < _MOVES:
            h = int(_draw(state) * (workers - 1))
            h += h >= g
            a, z = begin[i], end[i]
            k = (a + z) >> 1
            for _ in range(picks):
                other = int(_draw(state) * (workers - 1))
                other += other >= g
                if load[other, k] < load[h, k]:
                    h = other
            cost = _stretch(load, top, g, h, a, z, base[i], 1, bits, cap, even, change, 0.0, enough)
            if cost > most or _full(count, h, a, z, slots):
                continue
            if sampling:
                rises[result[2]] = cost
                result[2] += 1
                continue
            _transfer(load, count, g, h, a, z, base[i], bits)
            _three(load, top, a, z)
            worker[i] = h
        else:
            j = i + 1 + int(_draw(state) * _NEAR)
            if j >= hi or end[j] > last or begin[j] >= end[i] or worker[j] == g:
                continue
            h = worker[j]
            b, both, z = begin[j], min(end[i], end[j]), max(end[i], end[j])
            cost = _stretch(load, top, g, h, begin[i], b, base[i], 1, bits, cap, even, change, 0.0, enough)
            cost = _stretch(load, top, g, h, b, both, base[i] - base[j], 0, bits, cap, even, change, cost, enough)
            if end[i] > end[j]:
                cost = _stretch(load, top, g, h, both, z, base[i], 1, bits, cap, even, change, cost, enough)
            else:
                cost = _stretch(load, top, h, g, both, z, base[j], 1, bits, cap, even, change, cost, enough)
            longer = h if end[i] > end[j] else g
            if cost > most or _full(count, h, begin[i], b, slots) or _full(count, longer, both, z, slots):
                continue
            if sampling:
                rises[result[2]] = cost
                result[2] += 1
                continue
            _transfer(load, count, g, h, begin[i], end[i], base[i], bits)
            _transfer(load, count, h, g, begin[j], end[j], base[j], bits)
            _three(load, top, begin[i], z)
            worker[i], worker[j] = h, g
        result[0] += change[0] + _OVER * change[1]
        result[1] += change[1]
        result[2] += 1
