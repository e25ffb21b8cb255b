"""Compiled best-first search for P2 (internal); see ``timetable.py`` for the idea and the units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._jit import compiled
from .._validate import Int64Array

Int32Array = NDArray[np.int32]

WAITING, DONE, PLACED = 0, 1, 2  # codes of a request; PLACED + (t - r)*G + g while it is active
OPEN, CLOSED = 0, 1
NODES, HEAP, BEST, EXPANDED = 0, 1, 2, 3  # entries of `state`
GROW, STOP, END = 0, 1, 2  # why a call of `search` returned

_INF = 2**62
_COMPARED = 8  # states of a group that a new one is compared with
_MASKS = 2
_LOOKS = 500  # at choices of who joins a step
_SPLITS = 1024  # assignments of mandatory loads that are tried per step


class Case(NamedTuple):
    """What is searched; requests in order of release, all numbers int64, prices and costs in one unit.

    ``token[i, x]`` prices a token of request i in step x, ``slot[i, x]`` its activity, and ``step[x]`` is what the
    step costs beside these prices, at least; ``later[x]`` is its sum from x on. ``least`` and ``at`` are the least
    cost of request i over its starts from ``r_i + j`` on, and the start that has it.
    """

    release: Int64Array
    last: Int64Array
    prompt: Int64Array
    output: Int64Array
    workers: int
    slots: int
    capacity: int
    horizon: int
    fixed: int
    unit: int
    contiguous: int
    patterned: int
    token: Int64Array
    slot: Int64Array
    step: Int64Array
    later: Int64Array
    least: Int64Array
    at: Int64Array


class Store(NamedTuple):
    """All states that were met; `twins` finds equal ones, `groups` those of the same step and waiting requests."""

    code: Int32Array
    step: Int32Array
    cost: Int64Array
    bound: Int64Array
    parent: Int32Array
    status: NDArray[np.int8]
    following: Int32Array
    twins: Int32Array
    groups: Int32Array
    key: Int64Array
    node: Int32Array


def new_store(capacity: int, n: int) -> Store:
    """An empty store for `capacity` (a power of two) states of n requests."""
    empty = np.empty
    return Store(
        empty((capacity, n), np.int32),
        empty(capacity, np.int32),
        empty(capacity, np.int64),
        empty(capacity, np.int64),
        empty(capacity, np.int32),
        np.zeros(capacity, np.int8),
        empty(capacity, np.int32),
        np.full(2 * capacity, -1, np.int32),
        np.full(2 * capacity, -1, np.int32),
        empty(2 * capacity, np.int64),
        empty(2 * capacity, np.int32),
    )


@compiled
def enlarge(old: Store, new: Store, count: int, heap: int) -> None:
    """Copy a store into a larger one."""
    new.code[:count] = old.code[:count]
    new.step[:count] = old.step[:count]
    new.cost[:count] = old.cost[:count]
    new.bound[:count] = old.bound[:count]
    new.parent[:count] = old.parent[:count]
    new.status[:count] = old.status[:count]
    new.key[:heap] = old.key[:heap]
    new.node[:heap] = old.node[:heap]
    waiting = np.empty(old.code.shape[1], np.int32)
    for v in range(count):
        new.twins[_twin(new, new.code[v], new.step[v])] = v
        for i in range(len(waiting)):
            waiting[i] = new.code[v, i] == WAITING
        at = _group(new, waiting, new.code[v], new.step[v])
        new.following[v] = new.groups[at]
        new.groups[at] = v


@compiled
def _hash(row: Int32Array, step: int) -> np.uint64:
    h = np.uint64(1469598103934665603) ^ np.uint64(step)
    for i in range(len(row)):
        h = (h ^ np.uint64(row[i])) * np.uint64(1099511628211)
        h ^= h >> np.uint64(29)
    return h


@compiled
def _twin(store: Store, code: Int32Array, step: int) -> int:
    """Where the state equal to this one is in `twins`, or would be."""
    mask = np.uint64(len(store.twins) - 1)
    at = _hash(code, step) & mask
    while store.twins[at] >= 0:
        u = store.twins[at]
        if store.step[u] == step and np.array_equal(store.code[u], code):
            break
        at = (at + np.uint64(1)) & mask
    return int(at)


@compiled
def _group(store: Store, waiting: Int32Array, code: Int32Array, step: int) -> int:
    """Where the first state of this step with these waiting requests is in `groups`, or would be."""
    mask = np.uint64(len(store.groups) - 1)
    at = _hash(waiting, step) & mask
    while store.groups[at] >= 0:
        u = store.groups[at]
        if store.step[u] == step:
            same = True
            for i in range(len(code)):
                if (store.code[u, i] == WAITING) != (code[i] == WAITING):
                    same = False
                    break
            if same:
                break
        at = (at + np.uint64(1)) & mask
    return int(at)


@compiled
def _before(store: Store, a: int, b: int, layered: bool) -> bool:
    """Whether heap entry a comes before b: by bound, later steps first; or layered, by step first."""
    x, y = store.step[store.node[a]], store.step[store.node[b]]
    if layered and x != y:
        return x < y
    if store.key[a] != store.key[b]:
        return store.key[a] < store.key[b]
    return x > y


@compiled
def _swap(store: Store, a: int, b: int) -> None:
    store.key[a], store.key[b] = store.key[b], store.key[a]
    store.node[a], store.node[b] = store.node[b], store.node[a]


@compiled
def push(store: Store, state: Int64Array, v: int, layered: bool) -> None:
    """Put node v on the heap under its present bound."""
    i = state[HEAP]
    state[HEAP] += 1
    store.key[i], store.node[i] = store.bound[v], v
    while i > 0 and _before(store, i, (i - 1) // 2, layered):
        _swap(store, i, (i - 1) // 2)
        i = (i - 1) // 2


@compiled
def _pop(store: Store, state: Int64Array, layered: bool) -> None:
    state[HEAP] -= 1
    size = state[HEAP]
    _swap(store, 0, size)
    i = 0
    while 2 * i + 1 < size:
        j = 2 * i + 1
        if j + 1 < size and _before(store, j + 1, j, layered):
            j += 1
        if not _before(store, j, i, layered):
            break
        _swap(store, i, j)
        i = j


@compiled
def _put(case: Case, load: Int64Array, count: Int64Array, i: int, t: int, g: int, k: int, sign: int) -> None:
    """Add (or take away) request i on worker g from start t, in the steps from k on."""
    for x in range(max(t, k), t + case.output[i]):
        load[g, x] += sign * (case.prompt[i] + x - t)
        count[g, x] += sign


@compiled
def _least_peak(case: Case, placed: Int64Array, items: Int64Array, m: int, low: int) -> int:
    """A lower bound, at least `low`, on the largest load when the `items` join the `placed` loads of one step."""
    G = case.workers
    total = 0
    for g in range(G):
        total += placed[g]
    for j in range(m):
        total += items[j]
    low = max(low, -(-total // G))
    if m == 0:
        return low
    best = _INF
    if G == 2 and m <= 10:
        a, b = placed[0], total - placed[0]
        best = max(a, b)
        for code in range(1, 1 << m):  # Gray code: one item changes sides
            j = 0
            while not (code >> j) & 1:
                j += 1
            gray = code ^ (code >> 1)
            w = items[j] if (gray >> j) & 1 else -items[j]
            a += w
            b -= w
            if max(a, b) < best:
                best = max(a, b)
                if best <= low:
                    return low
        return best
    while G**m > _SPLITS:  # fewer items: still a lower bound
        m -= 1
    load = placed.copy()
    choice = np.full(m + 1, -1)
    j = 0
    while j >= 0:
        if j == m:
            best = min(best, max(low, load.max()))
            if best <= low:
                return low
            j -= 1
            continue
        if choice[j] >= 0:
            load[choice[j]] -= items[j]
        choice[j] += 1
        if choice[j] == G:
            choice[j] = -1
            j -= 1
            continue
        load[choice[j]] += items[j]
        if load[choice[j]] < best:
            j += 1
            choice[j] = -1
    return best


@compiled
def _beside_prices(
    case: Case,
    k: int,
    x: int,
    code: Int32Array,
    load: Int64Array,
    count: Int64Array,
    items: Int64Array,
    base: Int64Array,
) -> int:
    """What step x costs, at least, beside the prices that waiting requests pay in it: the least over who joins.

    Which of them run, and where, is searched; beyond a number of looks the value for any state has to do.
    """
    G, m, own, changed = case.workers, 0, 0, False
    load_, spread, price, must, choice = items[0], items[1], items[2], items[3], items[4]
    rest, share = 0, case.unit // G
    for i in range(len(code)):
        if x >= case.last[i] + case.output[i] or x < case.release[i]:
            continue
        if code[i] >= PLACED:
            t = case.release[i] + (code[i] - PLACED) // G
            if x < t + case.output[i]:
                own += case.slot[i, x] + case.token[i, x] * (case.prompt[i] + x - t)
            changed = True
        elif code[i] == DONE:
            changed = True
        else:
            lo = max(case.release[i], k)
            low = max(0, x - case.last[i])
            w = case.prompt[i] + low
            v = case.slot[i, x] + case.token[i, x] * w
            need = x >= case.last[i] and x < lo + case.output[i]
            grow = min(x - lo, case.output[i] - 1) - low
            if v + share * grow <= 0 and not need:
                continue
            j = m  # dearest first, those that must run before all
            while j > 0 and (need > must[j - 1] or (need == must[j - 1] and price[j - 1] < v)):
                load_[j], spread[j], price[j], must[j] = load_[j - 1], spread[j - 1], price[j - 1], must[j - 1]
                j -= 1
            load_[j], spread[j], price[j], must[j] = w, grow, v, need
            rest += max(v + share * grow, 0)
            m += 1
    least = case.step[x] + own
    if not case.patterned or not changed:
        return least
    active, top = 0, 0
    for g in range(G):
        base[0, g], base[1, g], base[2, g] = load[g, x], 0, count[g, x]
        active += count[g, x]
        top = max(top, load[g, x])
    best = _INF
    paid, grown, j, looks = 0, 0, 0, 0
    choice[0] = -1
    while j >= 0:
        if choice[j] < 0:
            looks += 1
            if looks > _LOOKS:
                return least
            here = 0
            for g in range(G):
                here = max(here, base[0, g])
            if here == 0:
                value = 0
            else:
                value = case.fixed + case.unit * here - paid
                if j == m:
                    for g in range(G):
                        value -= share * min(base[1, g], here - base[0, g])
            if j == m:
                best = min(best, value)
                j -= 1
                continue
            if here > 0 and value - rest - share * grown >= best:
                j -= 1
                continue
            # As item j: from here on its price is decided.
            rest -= max(price[j] + share * spread[j], 0)
        else:
            g = choice[j]
            if g < G:
                base[0, g] -= load_[j]
                base[1, g] -= spread[j]
                base[2, g] -= 1
                paid -= price[j]
                grown -= spread[j]
        g = choice[j] + 1
        while g < G:
            if base[2, g] < case.slots:
                same = False
                for h in range(g):
                    if base[0, h] == base[0, g] and base[1, h] == base[1, g] and base[2, h] == base[2, g]:
                        same = True
                if not same:
                    break
            g += 1
        if g > G or (g == G and must[j]):
            rest += max(price[j] + share * spread[j], 0)
            j -= 1
            continue
        choice[j] = g
        if g < G:
            base[0, g] += load_[j]
            base[1, g] += spread[j]
            base[2, g] += 1
            paid += price[j]
            grown += spread[j]
        j += 1
        choice[j] = -1
    return max(least, best)


@compiled
def _to_go(
    case: Case, k: int, code: Int32Array, load: Int64Array, count: Int64Array, work: Int64Array, enough: int
) -> int:
    """Lower bound on the cost of the steps from k on, `enough` at most; ``_INF`` if the slots cannot suffice."""
    n, G, H = len(code), case.workers, case.horizon
    peak, value, mask, start = work[0], work[1], work[2], work[3]
    number, p0, p1, whole, beside, items = work[4], work[5], work[6], work[7], work[8], work[9:]

    # Prices as given.
    dfs = np.empty((5, n + 1), np.int64)
    base = np.empty((3, G), np.int64)
    every = 0
    for x in range(k, H):
        beside[x] = _beside_prices(case, k, x, code, load, count, dfs, base)
        every += beside[x]
        mask[x] = 1
    bound = every
    for i in range(n):
        if code[i] == WAITING:
            bound += case.least[i, max(case.release[i], k) - case.release[i]]
    if bound >= enough:
        return enough

    # Mandatory loads: a waiting request runs in the steps d_i .. max(r_i, k) + o_i - 1 in any case.
    waiting = 0
    for x in range(k, H):
        number[x] = 0
    for i in range(n):
        if code[i] == WAITING:
            s, o, d, lo = case.prompt[i], case.output[i], case.last[i], max(case.release[i], k)
            waiting += o * s + o * (o - 1) // 2
            for x in range(d, lo + o):
                m = number[x]
                w = s + x - d
                while m > 0 and items[m - 1, x] < w:  # descending
                    items[m, x] = items[m - 1, x]
                    m -= 1
                items[m, x] = w
                number[x] += 1
    total, room, peaks, steps = 0, 0, 0, 0
    for x in range(k, H):
        here, top, active = 0, 0, 0
        for g in range(G):
            here += load[g, x]
            top = max(top, load[g, x])
            active += count[g, x]
        if active + number[x] > G * case.slots:
            return _INF
        if number[x] > 0:
            top = _least_peak(case, load[:, x], items[: number[x], x].copy(), number[x], max(top, items[0, x]))
        peak[x] = top
        whole[x] = case.unit * top + (case.fixed if active + number[x] > 0 else 0)
        peaks += top
        total += here
        steps += active + number[x] > 0
    # What is waiting fills the room below these peaks, each request at best that of one worker over one run.
    room = 0
    if G * peaks - total > 0:
        for i in range(n):
            if code[i] != WAITING:
                continue
            o, s = case.output[i], case.prompt[i]
            full, best = o * s + o * (o - 1) // 2, 0
            for t in range(max(case.release[i], k), case.last[i] + 1):
                for g in range(G):
                    v = 0
                    for x in range(t, t + o):
                        v += min(s + x - t, peak[x] - load[g, x])
                    best = max(best, v)
                if best == full:
                    break
            room += best
        room = min(room, G * peaks - total)
    result = case.fixed * steps + case.unit * (peaks + (-(-(waiting - room) // G) if waiting > room else 0))

    if result >= enough:
        return enough

    # Prices of 0 in the steps in which the peak above costs more than they do.
    for trial in range(_MASKS + 1):
        bound = every
        for x in range(k, H):
            if not mask[x]:
                bound += whole[x] - beside[x]
        for i in range(n):
            if code[i] != WAITING:
                continue
            s, o = case.prompt[i], case.output[i]
            lo, hi = max(case.release[i], k), case.last[i]
            if trial == 0:
                bound += case.least[i, lo - case.release[i]]
                start[i] = case.at[i, lo - case.release[i]]
                continue
            p0[lo], p1[lo] = 0, 0
            for x in range(lo, hi + o):
                price = mask[x] * case.token[i, x]
                p0[x + 1], p1[x + 1] = p0[x] + price, p1[x] + price * x + mask[x] * case.slot[i, x]
            least = _INF
            for t in range(lo, hi + 1):
                v = (s - t) * (p0[t + o] - p0[t]) + p1[t + o] - p1[t]
                if v <= least:
                    least, start[i] = v, t
            bound += least
        result = max(result, bound)
        if trial == _MASKS:
            break
        for x in range(k, H):
            value[x] = beside[x]
        for i in range(n):
            if code[i] == WAITING:
                for x in range(start[i], start[i] + case.output[i]):
                    value[x] += case.slot[i, x] + case.token[i, x] * (case.prompt[i] + x - start[i])
        changed = False
        for x in range(k, H):
            keep = whole[x] <= value[x]
            if trial == 0:
                changed = changed or not keep
                mask[x] = keep
            elif keep and not mask[x]:
                mask[x] = 1
                changed = True
        if not changed:
            break
    return result


@compiled
def _dominated(
    case: Case,
    store: Store,
    first: int,
    k: int,
    code: Int32Array,
    cost: int,
    load: Int64Array,
    count: Int64Array,
    work: Int64Array,
    other: Int64Array,
    others: Int64Array,
) -> bool:
    """Whether some state of the group reaches, with the same later decisions, no higher cost.

    Its loads may be higher by what the difference in cost pays for; where all that can still come leaves a
    worker below the peak, higher loads do not matter. No slot may be taken that could be needed.
    """
    n, G = len(code), case.workers
    most, may, end = work[0], work[1], k
    for x in range(k, case.horizon):
        most[x], may[x] = 0, 0
    for i in range(n):
        if code[i] == WAITING:
            lo = max(case.release[i], k)
            for x in range(lo, case.last[i] + case.output[i]):
                most[x] += case.prompt[i] + min(x - lo, case.output[i] - 1)
                may[x] += 1
    u, seen = first, 0
    while u >= 0 and seen < _COMPARED:
        if store.cost[u] <= cost:
            seen += 1
            for g in range(G):
                for x in range(k, case.horizon):
                    other[g, x], others[g, x] = 0, 0
            end = k
            for i in range(n):
                c = store.code[u, i]
                if c >= PLACED:
                    t = case.release[i] + (c - PLACED) // G
                    end = max(end, t + case.output[i])
                    _put(case, other, others, i, t, (c - PLACED) % G, k, 1)
            for turned in range(2 if G == 2 else 1):
                slack = cost - store.cost[u]
                for x in range(k, end):
                    mine, its = 0, 0
                    for g in range(G):
                        mine, its = max(mine, load[g, x]), max(its, other[g, x])
                    if its == 0:
                        continue
                    worst = 0
                    for g in range(G):
                        h = 1 - g if turned else g
                        worst = max(worst, min(other[g, x] - load[h, x], other[g, x] + most[x] - mine))
                        if others[g, x] > count[h, x] and others[g, x] + may[x] > case.slots:
                            slack = -1
                        if other[g, x] > load[h, x] and other[g, x] + most[x] > case.capacity:
                            slack = -1
                    slack -= case.unit * worst + (case.fixed if mine == 0 else 0)
                    if slack < 0:
                        break
                if slack >= 0:
                    return True
        u = store.following[u]
    return False


@compiled
def search(
    case: Case, store: Store, state: Int64Array, incumbent: Int64Array, popped: Int64Array, width: int, expansions: int
) -> int:
    """Expand states, best bound first, until nothing below the incumbent is left (END), or a limit (GROW, STOP).

    With `width` > 0 layered: at most so many states of each step are expanded, which proves nothing.
    ``incumbent[:-1]`` are the codes of the best schedule's last requests, ``incumbent[-1]`` the state before them.
    """
    n, G, H = len(case.release), case.workers, case.horizon
    layered = width > 0
    load, count = np.zeros((G, H + 1), np.int64), np.zeros((G, H + 1), np.int64)
    other, others = np.zeros((G, H + 1), np.int64), np.zeros((G, H + 1), np.int64)
    work = np.zeros((9 + n, max(H + 2, n)), np.int64)
    candidates, choice = np.zeros(n, np.int64), np.full(n + 1, -1)
    code, new, waiting = np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(n, np.int32)
    label = np.zeros(G, np.int64)
    capacity = len(store.step)
    while state[HEAP] > 0:
        if expansions == 0:
            return STOP
        v, key = store.node[0], store.key[0]
        if store.status[v] != OPEN or key != store.bound[v]:  # met again under a lower bound
            _pop(store, state, layered)
            continue
        if key >= state[BEST]:
            if not layered:
                state[HEAP] = 0
                break
            _pop(store, state, layered)
            continue
        k = store.step[v]
        if layered:
            if popped[k] >= width:
                _pop(store, state, layered)
                continue
            popped[k] += 1
        expansions -= 1
        state[EXPANDED] += 1
        load[:] = 0
        count[:] = 0
        m = 0
        for i in range(n):
            code[i] = store.code[v, i]
            if code[i] >= PLACED:
                t = case.release[i] + (code[i] - PLACED) // G
                _put(case, load, count, i, t, (code[i] - PLACED) % G, k, 1)
            elif code[i] == WAITING and case.release[i] <= k:
                candidates[m] = i
                m += 1
        # All choices for the requests that can start now: a worker each, or to wait.
        j = 0
        choice[0] = -1
        while j >= 0:
            if j < m:
                i, c = candidates[j], choice[j]
                if 0 <= c < G:
                    _put(case, load, count, i, k, c, k, -1)
                    code[i] = WAITING
                c += 1
                while c < G and not _may_start(case, load, count, i, k, c):
                    c += 1
                if c > G or (c == G and case.last[i] == k):
                    j -= 1
                    continue
                choice[j] = c
                if c < G:
                    _put(case, load, count, i, k, c, k, 1)
                    code[i] = PLACED + (k - case.release[i]) * G + c
                j += 1
                choice[j] = -1
                continue
            j -= 1
            upcoming, left = H, False
            for i in range(n):
                if code[i] == WAITING:
                    left = True
                    upcoming = min(upcoming, max(case.release[i], k + 1))
            cost, idle = store.cost[v], False
            for x in range(k, upcoming):
                top = 0
                for g in range(G):
                    top = max(top, load[g, x])
                if top > 0:
                    cost += case.fixed + case.unit * top
                elif x == k and left:
                    idle = True
            if idle and case.contiguous:
                continue
            if not left:
                if cost < state[BEST]:
                    state[BEST] = cost
                    incumbent[:n] = code
                    incumbent[n] = v
                continue
            if cost >= state[BEST]:
                continue
            # Workers are numbered by their first active request: states equal up to workers' names are one.
            label[:] = -1
            used = 0
            for i in range(n):
                new[i] = code[i]
                waiting[i] = code[i] == WAITING
                if code[i] >= PLACED:
                    wait, g = (code[i] - PLACED) // G, (code[i] - PLACED) % G
                    if case.release[i] + wait + case.output[i] <= upcoming:
                        new[i] = DONE
                        continue
                    if label[g] < 0:
                        label[g] = used
                        used += 1
                    new[i] = PLACED + wait * G + label[g]
            at = _twin(store, new, upcoming)
            u = store.twins[at]
            if u >= 0:
                if cost < store.cost[u]:
                    if state[HEAP] >= 2 * capacity - 1:
                        return GROW
                    store.bound[u] = max(key, store.bound[u] - (store.cost[u] - cost))
                    store.cost[u] = cost
                    store.parent[u] = v
                    store.status[u] = OPEN
                    push(store, state, u, layered)
                continue
            group = _group(store, waiting, new, upcoming)
            first = store.groups[group]
            if first >= 0 and _dominated(case, store, first, upcoming, new, cost, load, count, work, other, others):
                continue
            bound = _to_go(case, upcoming, new, load, count, work, state[BEST] - cost)
            if bound >= _INF:
                continue
            bound = max(key, cost + bound)
            if bound >= state[BEST]:
                continue
            u = state[NODES]
            if u >= capacity or state[HEAP] >= 2 * capacity - 1:
                return GROW  # v stays open: what it has so far will be met again
            state[NODES] += 1
            store.code[u] = new
            store.step[u], store.cost[u], store.bound[u], store.parent[u] = upcoming, cost, bound, v
            store.status[u] = OPEN
            store.following[u] = first
            store.groups[group] = u
            store.twins[at] = u
            push(store, state, u, layered)
        store.status[v] = CLOSED
    return END


@compiled
def _may_start(case: Case, load: Int64Array, count: Int64Array, i: int, k: int, g: int) -> bool:
    """Whether worker g has a free slot and the tokens for request i, and no worker like it comes before."""
    if count[g, k] >= case.slots:
        return False
    if case.capacity < _INF:
        for x in range(k, k + case.output[i]):
            if load[g, x] + case.prompt[i] + x - k > case.capacity:
                return False
    for h in range(g):
        same = True
        for x in range(k, case.horizon):
            if load[h, x] != load[g, x] or count[h, x] != count[g, x]:
                same = False
                break
        if same:
            return False
    return True


@compiled
def root(case: Case, store: Store, state: Int64Array) -> None:
    """Put the state in which nothing has started on the heap; its bound is at ``store.bound[0]``."""
    n, G, H = len(case.release), case.workers, case.horizon
    work = np.zeros((9 + n, max(H + 2, n)), np.int64)
    load, count = np.zeros((G, H + 1), np.int64), np.zeros((G, H + 1), np.int64)
    store.code[0] = WAITING
    store.step[0] = case.release.min()
    store.cost[0], store.parent[0], store.status[0], store.following[0] = 0, -1, OPEN, -1
    store.bound[0] = _to_go(case, store.step[0], store.code[0], load, count, work, _INF)
    state[NODES], state[HEAP], state[EXPANDED] = 1, 0, 0
    push(store, state, 0, False)
