"""An own branch and bound for P1, with a Lagrangian bound in integers (compiled) [ours].

Requests are placed in a fixed order, those with a high load for long first; workers are numbered by first
occurrence, so that a node is a word over workers. A node is bounded from below by the Lagrangian

    sum_s ( q_s*f_s + sum_g p_gs*P_g(s) ) + sum over unplaced i of min_g sum_s p_gs*w_i(s),   q_s + sum_g p_gs = D,

over D = 255, with integers p, q >= 0: s are *stretches* of steps between two starts or ends, w_i(s) the load of
request i summed over the steps of s, P_g(s) the placed load of worker g, and f_s a lower bound on the summed peaks
of s: the migration bound, the largest P_g, and the two largest unplaced requests on the least loaded workers. It is
valid for any p and q, since ``sum_k max_g L_g(k) >= max_g sum_k L_g(k)`` in a stretch. The best p and q solve the
linear relaxation of the node; they are approached by the method of multipliers, warm-started from the node's parent,
one coordinate (the share of one unplaced request on two workers) at a time.

Open nodes are explored in order of their bound, so that the least of them is a bound on the optimum whenever
the search is cut short; when memory is full, the best open node is explored depth first.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._jit import compiled
from .._validate import Float64Array, Int64Array
from ..instance import MAX_TOKENS
from .model import PlacementCase

__all__ = ["MAX_SUM", "Search", "Window", "fits", "prove", "window"]

DENOMINATOR = 255
MAX_SUM = 2**44  # of all loads: sums of integers over 255 stay exact below 2**53
_SMOOTHING = 0.5  # of the mean peak: the proximal parameter of the method of multipliers
_SWEEPS, _LEAST_SWEEPS, _STALL = 10, 3, 0.05
_PLUNGE = 100  # every so many nodes the best child is followed to a leaf, for a better placement
_FULL, _STEP, _LAGRANGIAN, _PLACED = 0, 1, 2, 3  # how a leaf is closed

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Window:
    """A placement problem on some consecutive steps, requests in branching order.

    Attributes
    ----------
    request : ndarray of int64, shape (m,)
        Requests of the case that are active in the window, in branching order.
    begin, end, base : ndarray of int64, shape (m,)
        As in the case, cut to the window.
    cut : ndarray of int64, shape (S + 1,)
        Stretch s holds the positions ``cut[s] .. cut[s + 1] - 1``.
    first, last : ndarray of int64, shape (m,)
        Request j is active in the stretches ``first[j] .. last[j] - 1``.
    load : ndarray of float64, shape (m, S)
        Its load summed over the steps of a stretch (an integer).
    floor : ndarray of float64, shape (S,)
        Migration bound of the stretch (an integer).
    workers, slots, capacity : int
    """

    request: Int64Array
    begin: Int64Array
    end: Int64Array
    base: Int64Array
    cut: Int64Array
    first: Int64Array
    last: Int64Array
    load: Float64Array
    floor: Float64Array
    workers: int
    slots: int
    capacity: int

    def price(self, worker: Int64Array) -> int:
        """Summed peaks of the window for a placement of its requests."""
        return int(
            _price(self.begin, self.end, self.base, int(self.cut[0]), int(self.cut[-1]), worker, self.workers)[0]
        )


def fits(case: PlacementCase) -> bool:
    """Whether a word holds the workers, an instance the loads, and float64 the sums of integers over 255."""
    largest = int((case.base + case.end).max(initial=0))
    return case.cluster.workers <= 255 and largest <= MAX_TOKENS and case.inst.total_work < MAX_SUM


def window(case: PlacementCase, low: int = 0, high: int | None = None) -> Window:
    """The positions ``low .. high - 1`` of the case's axis of active steps."""
    high = len(case.steps) if high is None else high
    inside = np.flatnonzero((case.begin < high) & (case.end > low))
    begin, end = np.maximum(case.begin[inside], low), np.minimum(case.end[inside], high)
    # A high load moves a peak, and a long stay moves many; but not where one request alone sets the peak.
    total = np.zeros(high - low + 1, np.int64)
    for b, e, x in zip((begin - low).tolist(), (end - low).tolist(), case.base[inside].tolist(), strict=True):
        total[b:e] += x + low + np.arange(b, e)
    tight = (total[:-1] / (case.cluster.workers * np.maximum(case.floor[low:high], 1))) ** 4
    tight = np.concatenate(([0.0], np.cumsum(tight)))
    weight = (case.base[inside] + end) * np.sqrt(tight[end - low] - tight[begin - low])
    order = np.argsort(-weight, kind="stable")
    inside, begin, end = inside[order], begin[order], end[order]
    base = case.base[inside]
    cut = _cuts(np.unique(np.concatenate(([low, high], begin, end))))
    first, last = np.searchsorted(cut, begin), np.searchsorted(cut, end)
    length, middle = np.diff(cut), cut[1:] * (cut[1:] - 1) // 2 - cut[:-1] * (cut[:-1] - 1) // 2
    load = np.zeros((len(inside), len(length)))
    for j in range(len(inside)):
        s = slice(int(first[j]), int(last[j]))
        load[j, s] = base[j] * length[s] + middle[s]
    floor = np.add.reduceat(case.floor[:high], cut[:-1]).astype(float) if len(length) else np.zeros(0)
    capacity = case.cluster.kv_capacity
    return Window(
        inside, begin, end, base, cut, first.astype(np.int64), last.astype(np.int64), load, floor,
        case.cluster.workers, case.cluster.slots, np.iinfo(np.int64).max if capacity is None else capacity,
    )  # fmt: skip


def _cuts(events: Int64Array) -> Int64Array:
    """Events, and more cuts where a stretch is much longer than the mean one: the bound is loose inside it."""
    span, count = int(events[-1] - events[0]), len(events) - 1
    longest = max(1, -(-2 * span // max(count, 1)))
    pieces = [np.arange(a, b, longest) for a, b in zip(events[:-1].tolist(), events[1:].tolist(), strict=True)]
    return np.concatenate([*pieces, events[-1:]]).astype(np.int64)


def prove(
    problem: Window, claim: int, most_leaves: int = 20_000, memory_limit: int = 2**29, time_limit: float = np.inf
) -> dict[str, Any] | None:
    """Evidence that no placement costs less than `claim`: every leaf of the tree with what closes it.

    None if there are more than `most_leaves` leaves, the time is over, or the claim is not true.
    """
    most_leaves = min(most_leaves, memory_limit // (len(problem.request) + problem.workers * len(problem.floor) + 16))
    state = Search(problem, claim, memory_limit, most_leaves)
    end_time = time.perf_counter() + time_limit
    while not state.explore(1000):
        if state.leaves[0] > most_leaves or time.perf_counter() > end_time:
            return None
    return state.tree()


class Search:
    """A search that can be stopped and resumed, for placements of a window below a known price.

    Parameters
    ----------
    problem : Window
    price : int
        One more than a known price finds it again.
    memory_limit : int
        Bytes for open nodes, about.
    most_leaves : int
        Closed leaves to record (for :func:`prove`).

    Attributes
    ----------
    price : int
        Of the best placement known, inside or before.
    worker : ndarray of int64, shape (m,), or None
        Worker of each request of the window, in its order; None while nothing below the first `price` is found.
    nodes : int
        Nodes bounded so far.
    done : bool
        The tree is exhausted: no placement costs less than `price`.
    """

    def __init__(self, problem: Window, price: int, memory_limit: int = 2**30, most_leaves: int = 0) -> None:
        m, stretches, workers = len(problem.request), len(problem.floor), problem.workers
        self.problem, self.price, self.nodes = problem, price, 0
        self.worker: Int64Array | None = None
        mean = float(problem.floor.sum()) / max(1, int(problem.cut[-1] - problem.cut[0]))
        self.scaled = problem.load / (_SMOOTHING * mean * np.diff(problem.cut))
        self.top = _largest_unplaced(problem.first, problem.last, problem.load)
        capacity = int(
            min(2_000_000, max(8 * m * workers, memory_limit // (m + m * workers + stretches * workers + 24)))
        )
        self.word = np.empty((capacity, m), np.uint8)
        self.share = np.empty((capacity, m, workers), np.uint8)
        self.weight = np.empty((capacity, workers, stretches), np.uint8)
        self.depth = np.zeros(capacity, np.int64)
        self.key, self.heap = np.zeros(capacity, np.int64), np.zeros(capacity, np.int64)
        self.free = np.arange(capacity - 1, -1, -1)
        self.stack = np.zeros(8 * m * workers + 8, np.int64)
        self.share[0] = DENOMINATOR // workers
        self.weight[0] = 0
        root = int(problem.floor.sum())
        self.size = np.array([1, 0, capacity - 1, 0, -1, 0], np.int64)  # heap, stack, free, nodes, plunge, expanded
        self.bounds = np.zeros(capacity, np.int64)
        self.bounds[0] = self.key[0] = root
        self.best = np.zeros(m, np.int64)
        self.done = root >= price
        self.leaves = np.zeros(1, np.int64)
        shape = most_leaves + 1 if most_leaves else 0
        self.leaf_word, self.leaf_depth = np.zeros((shape, m), np.uint8), np.zeros(shape, np.int64)
        self.leaf_kind, self.leaf_weight = np.zeros(shape, np.int64), np.zeros((shape, workers, stretches), np.uint8)
        if self.done and shape:
            self.leaves[0], self.leaf_kind[0] = 1, _STEP

    @property
    def bound(self) -> int:
        """No placement below `price` costs less than this."""
        if self.done:
            return self.price
        heap, stack = int(self.size[0]), int(self.size[1])
        least = [int(self.key[0])] if heap else []
        least += [int(self.bounds[self.stack[:stack]].min())] if stack else []
        least += [int(self.bounds[self.size[4]])] if self.size[4] >= 0 else []
        return min([self.price, *least])

    def tree(self) -> dict[str, Any] | None:
        """The exhausted tree as a part of a certificate (``docs/certificates.md``).

        None if some leaves were not recorded: too many, or closed by a price that fell in the meantime.
        """
        count = int(self.leaves[0])
        if not self.done or self.worker is not None or not 0 < count < len(self.leaf_kind):
            return None
        leaves: list[list[Any]] = []
        for word, j in sorted((self.leaf_word[j, : self.leaf_depth[j]].tolist(), j) for j in range(count)):
            kind = int(self.leaf_kind[j])
            weights = [base64.b64encode(self.leaf_weight[j].tobytes()).decode()] if kind == _LAGRANGIAN else []
            leaves.append([word, ("full", "step", "lagrangian", "placed")[kind], *weights])
        cut, order = self.problem.cut.tolist(), self.problem.request.tolist()
        return {"claim": self.price, "cut": cut, "order": order, "leaves": leaves}

    def run(
        self, time_limit: float, nodes: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> bool:
        """Go on for a time or a number of nodes; True once the tree is exhausted."""
        end_time = time.perf_counter() + time_limit
        stop = 2**62 if nodes is None else self.nodes + nodes
        chunk = 100
        while not self.done and self.nodes < stop and (began := time.perf_counter()) < end_time:
            before = self.nodes
            self.explore(min(chunk, stop - before))
            if progress is not None:
                progress(self.price, self.bound)
            rate = (self.nodes - before) / max(time.perf_counter() - began, 1e-4)
            chunk = max(100, min(10**6, int(0.2 * rate)))
        return self.done

    def explore(self, nodes: int) -> bool:
        """Bound about that many more nodes; True once the tree is exhausted."""
        if self.done:
            return True
        p = self.problem
        price = _explore(
            p.begin, p.end, p.base, p.cut, p.first, p.last, p.load, self.scaled, p.floor, self.top, p.workers, p.slots,
            p.capacity, self.price, self.best, self.word, self.share, self.weight, self.depth, self.bounds, self.key,
            self.heap, self.free, self.stack, self.size, nodes, self.leaves, self.leaf_word, self.leaf_depth,
            self.leaf_kind, self.leaf_weight,
        )  # fmt: skip
        if price < self.price:
            self.price, self.worker = int(price), self.best.copy()
        self.nodes = int(self.size[3])
        self.done = bool(self.size[0] == 0 and self.size[1] == 0 and self.size[4] < 0)
        return self.done


@compiled
def _price(
    begin: Int64Array, end: Int64Array, base: Int64Array, low: int, high: int, worker: Int64Array, workers: int
) -> tuple[int, int]:
    """Summed and largest peak of a placement over the positions ``low .. high - 1``."""
    load = np.zeros((high - low, workers), np.int64)
    for j in range(len(begin)):
        for k in range(begin[j], end[j]):
            load[k - low, worker[j]] += base[j] + k
    total, largest = 0, 0
    for k in range(high - low):
        peak = load[k].max()
        total += peak
        largest = max(largest, peak)
    return total, largest


@compiled
def _largest_unplaced(first: Int64Array, last: Int64Array, load: Float64Array) -> Float64Array:
    """The two largest loads among requests j, j + 1, ... in each stretch, shape (m + 1, 2, S)."""
    m, stretches = load.shape
    top = np.zeros((m + 1, 2, stretches))
    for j in range(m - 1, -1, -1):
        top[j] = top[j + 1]
        for s in range(first[j], last[j]):
            v = load[j, s]
            if v > top[j, 0, s]:
                top[j, 1, s] = top[j, 0, s]
                top[j, 0, s] = v
            elif v > top[j, 1, s]:
                top[j, 1, s] = v
    return top


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _project(v: Float64Array, p: Float64Array, level: Float64Array, total: Float64Array, a: int, z: int) -> None:
    """Project each column of `v` onto the unit simplex (Newton's method on its threshold from below), into `p`."""
    rows = v.shape[0]
    for s in range(a, z):
        level[s] = v[0, s]
    for g in range(1, rows):
        for s in range(a, z):
            level[s] = max(level[s], v[g, s])
    for s in range(a, z):
        level[s] -= 1.0
    count = p[0]  # overwritten below
    for _ in range(min(rows, 4)):
        for s in range(a, z):
            total[s] = -1.0
            count[s] = 0.0
        for g in range(rows):
            for s in range(a, z):
                d = v[g, s] - level[s]
                total[s] += d if d > 0.0 else 0.0
                count[s] += 1.0 if d > 0.0 else 0.0
        for s in range(a, z):
            level[s] += total[s] / count[s]
    for s in range(a, z):
        total[s] = 0.0
    for g in range(rows):
        for s in range(a, z):
            d = v[g, s] - level[s]
            d = d if d > 0.0 else 0.0
            p[g, s] = d
            total[s] += d
    for s in range(a, z):
        total[s] = 1.0 / total[s]
    for g in range(rows):
        for s in range(a, z):
            p[g, s] *= total[s]


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _sweep(
    first: Int64Array,
    last: Int64Array,
    load: Float64Array,
    scaled: Float64Array,
    j0: int,
    share: Float64Array,
    v: Float64Array,
    p: Float64Array,
    level: Float64Array,
    total: Float64Array,
    cost: Float64Array,
) -> None:
    """Shift some share of each unplaced request from its dearest worker to its cheapest, at prices p."""
    m, workers = share.shape
    for i in range(j0, m):
        a, z = first[i], last[i]
        low, high = 0, -1
        for g in range(workers):
            c = 0.0
            for s in range(a, z):
                c += p[g, s] * load[i, s]
            cost[g] = c
            if c < cost[low]:
                low = g
        for g in range(workers):
            if share[i, g] > 1e-9 and (high < 0 or cost[g] > cost[high]):
                high = g
        gain = cost[high] - cost[low]
        if gain <= 1e-9:
            continue
        curvature = 0.0
        for s in range(a, z):
            active = (1.0 if p[high, s] > 0.0 else 0.0) + (1.0 if p[low, s] > 0.0 else 0.0)
            curvature += active * load[i, s] * scaled[i, s]
        step = share[i, high]
        if step * curvature > gain:
            step = gain / curvature
        share[i, high] -= step
        share[i, low] += step
        for s in range(a, z):
            v[high, s] -= step * scaled[i, s]
        for s in range(a, z):
            v[low, s] += step * scaled[i, s]
        _project(v, p, level, total, a, z)


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _lagrangian(
    first: Int64Array,
    last: Int64Array,
    load: Float64Array,
    j0: int,
    placed: Float64Array,
    floor: Float64Array,
    p: Float64Array,
    q: Float64Array,
) -> int:
    """The bound times 255, for `p` rounded to integers over 255 in `q`; sums of integers, exact below 2**53."""
    workers, stretches = placed.shape
    for s in range(stretches):
        left, most = 255.0, 0
        for g in range(workers + 1):
            q[g, s] = np.floor(p[g, s] * 255.0)
            left -= q[g, s]
            if p[g, s] > p[most, s]:
                most = g
        q[most, s] += left
    value = 0.0
    for s in range(stretches):
        value += q[workers, s] * floor[s]
    for g in range(workers):
        for s in range(stretches):
            value += q[g, s] * placed[g, s]
    for i in range(j0, len(first)):
        least = np.inf
        for g in range(workers):
            c = 0.0
            for s in range(first[i], last[i]):
                c += q[g, s] * load[i, s]
            least = min(least, c)
        value += least
    return int(value)


@compiled
def _floors(placed: Float64Array, floor: Float64Array, top: Float64Array, out: Float64Array) -> float:
    """Lower bound on the peak of each stretch, and their sum: migration, the largest load, the two largest unplaced."""
    workers, stretches = placed.shape
    total = 0.0
    for s in range(stretches):
        bound, least, second = floor[s], np.inf, np.inf
        for g in range(workers):
            x = placed[g, s]
            bound = max(bound, x)
            if x < least:
                second = least
                least = x
            elif x < second:
                second = x
        u, t = top[0, s], top[1, s]
        bound = max(bound, least + u)
        if t > 0.0:  # together on one worker, or on two
            apart = min(max(least + u, second + t), max(least + t, second + u))
            bound = max(bound, min(least + u + t, apart))
        out[s] = bound
        total += bound
    return total


@compiled
def _push(key: Int64Array, heap: Int64Array, size: int, node: int, bound: int) -> None:
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if key[parent] <= bound:
            break
        key[i], heap[i] = key[parent], heap[parent]
        i = parent
    key[i], heap[i] = bound, node


@compiled
def _pop(key: Int64Array, heap: Int64Array, size: int) -> int:
    node = heap[0]
    last_key, last, i = key[size - 1], heap[size - 1], 0
    while True:
        child = 2 * i + 1
        if child >= size - 1:
            break
        if child + 1 < size - 1 and key[child + 1] < key[child]:
            child += 1
        if key[child] >= last_key:
            break
        key[i], heap[i] = key[child], heap[child]
        i = child
    key[i], heap[i] = last_key, last
    return node


@compiled
def _explore(
    begin: Int64Array,
    end: Int64Array,
    base: Int64Array,
    cut: Int64Array,
    first: Int64Array,
    last: Int64Array,
    load: Float64Array,
    scaled: Float64Array,
    floor: Float64Array,
    top: Float64Array,
    workers: int,
    slots: int,
    capacity: int,
    price: int,
    best: Int64Array,
    word: Bytes,
    share_of: Bytes,
    weight_of: Bytes,
    depth: Int64Array,
    bounds: Int64Array,
    key: Int64Array,
    heap: Int64Array,
    free: Int64Array,
    stack: Int64Array,
    size: Int64Array,
    nodes: int,
    leaves: Int64Array,
    leaf_word: Bytes,
    leaf_depth: Int64Array,
    leaf_kind: Int64Array,
    leaf_weight: Bytes,
) -> int:
    """Expand open nodes until about `nodes` more are bounded; returns the best price."""
    m, stretches = load.shape
    placed, count = np.zeros((workers, stretches)), np.zeros((workers, stretches), np.int64)
    share0, share = np.zeros((m, workers)), np.zeros((m, workers))
    center, old = np.zeros((workers + 1, stretches)), np.zeros((workers + 1, stretches))
    v0, v = np.zeros((workers + 1, stretches)), np.zeros((workers + 1, stretches))
    p, q = np.zeros((workers + 1, stretches)), np.zeros((workers + 1, stretches))
    floors, level, total = np.zeros(stretches), np.zeros(stretches), np.zeros(stretches)
    scale = np.zeros(stretches)  # 1 / (smoothing of the stretch)
    for i in range(m):
        for s in range(first[i], last[i]):
            scale[s] = scaled[i, s] / load[i, s]
    cost = np.zeros(workers)
    here = np.zeros(m, np.int64)
    stop = size[3] + nodes
    while size[3] < stop and (size[0] > 0 or size[1] > 0 or size[4] >= 0):
        plunge = size[4] >= 0
        if plunge:
            node = size[4]
            size[4] = -1
            if bounds[node] >= price:
                free[size[2]] = node
                size[2] += 1
                continue
        elif size[1] > 0:
            size[1] -= 1
            node = stack[size[1]]
            if bounds[node] >= price:
                free[size[2]] = node
                size[2] += 1
                continue
        else:
            if key[0] >= price:
                size[0] = 0
                break
            node = _pop(key, heap, size[0])
            size[0] -= 1
            size[5] += 1
            plunge = size[5] & (size[5] - 1) == 0 or size[5] % _PLUNGE == 1
        dive = size[1] > 0 or size[2] < 2 * m * workers  # memory is full: depth first below this node
        bound, d = bounds[node], depth[node]
        placed[:] = 0.0
        count[:] = 0
        used = 0
        for i in range(d):
            g = here[i] = word[node, i]
            used = max(used, g + 1)
            for s in range(first[i], last[i]):
                placed[g, s] += load[i, s]
                count[g, s] += 1
        for s in range(stretches):
            rest = 255.0
            for g in range(workers):
                center[g, s] = weight_of[node, g, s] / 255.0
                rest -= weight_of[node, g, s]
                v0[g, s] = center[g, s] + placed[g, s] * scale[s]
            center[workers, s] = rest / 255.0
        for i in range(d + 1, m):
            x = 0.0
            for g in range(workers):
                x += share_of[node, i, g]
            for g in range(workers):
                share0[i, g] = share_of[node, i, g] / x
                for s in range(first[i], last[i]):
                    v0[g, s] += share0[i, g] * scaled[i, s]
        free[size[2]] = node
        size[2] += 1
        for g in range(min(used + 1, workers)):
            size[3] += 1
            here[d] = g
            kind = _LAGRANGIAN
            for s in range(first[d], last[d]):
                if count[g, s] >= slots or placed[g, s] + load[d, s] > float(capacity) * (cut[s + 1] - cut[s]):
                    kind = _FULL
                    break
            value = 0
            if kind != _FULL:
                for s in range(first[d], last[d]):
                    placed[g, s] += load[d, s]
                if d + 1 == m:
                    kind = _PLACED
                    found, largest = _price(begin, end, base, cut[0], cut[-1], here, workers)
                    if largest <= capacity and found < price:
                        price = found
                        best[:] = here
                else:
                    value = int(_floors(placed, floor, top[d + 1], floors))
                    if value >= price:
                        kind = _STEP
                    else:
                        closed = False
                        lower = max(bound, value)
                        for h in range(workers):
                            for s in range(stretches):
                                v[h, s] = v0[h, s]
                        for s in range(first[d], last[d]):
                            v[g, s] += scaled[d, s]
                        for s in range(stretches):
                            v[workers, s] = center[workers, s] + floors[s] * scale[s]
                        for i in range(d + 1, m):
                            for h in range(workers):
                                share[i, h] = share0[i, h]
                        old[:] = center
                        before = 0
                        for sweep in range(_SWEEPS):
                            if sweep > 0:  # the proximal centre moves to p
                                for h in range(workers + 1):
                                    for s in range(stretches):
                                        v[h, s] += p[h, s] - old[h, s]
                                        old[h, s] = p[h, s]
                            _project(v, p, level, total, 0, stretches)
                            _sweep(first, last, load, scaled, d + 1, share, v, p, level, total, cost)
                            value = _lagrangian(first, last, load, d + 1, placed, floors, p, q)
                            lower = max(lower, -(-value // 255))
                            if value > 255 * (price - 1):
                                closed = True
                                break
                            if sweep + 1 >= _LEAST_SWEEPS and value - before < _STALL * (255 * price - value):
                                break
                            before = value
                        if not closed:
                            kind = -1
                            size[2] -= 1
                            child = free[size[2]]
                            depth[child], bounds[child] = d + 1, min(lower, price - 1)
                            for i in range(d + 1):
                                word[child, i] = here[i]
                            for i in range(d + 1, m):
                                for h in range(workers):
                                    share_of[child, i, h] = np.uint8(share[i, h] * 255.0 + 0.5)
                            for h in range(workers):
                                for s in range(stretches):
                                    weight_of[child, h, s] = np.uint8(q[h, s])
                            if plunge and (size[4] < 0 or bounds[child] < bounds[size[4]]):
                                child, size[4] = size[4], child
                            if child >= 0:
                                if dive:
                                    stack[size[1]] = child
                                    size[1] += 1
                                else:
                                    _push(key, heap, size[0], child, bounds[child])
                                    size[0] += 1
                for s in range(first[d], last[d]):
                    placed[g, s] -= load[d, s]
            if kind >= 0 and len(leaf_kind) > 0:
                at = min(leaves[0], len(leaf_kind) - 1)
                leaves[0] += 1
                leaf_depth[at], leaf_kind[at] = d + 1, kind
                for i in range(d + 1):
                    leaf_word[at, i] = here[i]
                if kind == _LAGRANGIAN:
                    for h in range(workers):
                        for s in range(stretches):
                            leaf_weight[at, h, s] = np.uint8(q[h, s])
    return price
