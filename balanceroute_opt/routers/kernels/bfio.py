"""The step problem of BF-IO(H), solved exactly by branch and bound (internal).

``docs/bfio.md`` says why each bound holds. Notation: ``margin[g, h] = max P(h) - P_g(h)``, ``over[h]`` how far the
envelope at h is raised, and the objective without its constant, ``value = G*sum D_h*over[h] - sum D_h * admitted``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..._jit import compiled
from ..._validate import Int64Array
from .pool import HEAD, TAIL, pool_take

STEPS, PROVED, NODES = range(3)
_INFINITE = 2**62


class BFIOParams(NamedTuple):
    """Options of BF-IO, with scratch space; `counts`: steps decided, steps proved, nodes."""

    horizon: int
    weight: Int64Array
    pool_window: int
    node_limit: int
    projected: Any
    counts: Int64Array


def integer_weights(gamma: float, horizon: int) -> Int64Array:
    """``D_h = floor(gamma**h * 2**20 + 0.5)``."""
    return np.array([math.floor(gamma**h * 2**20 + 0.5) for h in range(horizon + 1)], np.int64)


def bfio_params(workers: int, horizon: int, gamma: float, pool_window: int, node_limit: int) -> BFIOParams:
    """Options of BF-IO with their scratch arrays."""
    return BFIOParams(
        horizon=horizon,
        weight=integer_weights(gamma, horizon),
        pool_window=pool_window,
        node_limit=node_limit,
        projected=np.zeros((workers, horizon + 1), np.int64),
        counts=np.zeros(3, np.int64),
    )


@compiled
def step_value(margin, weight, added):
    """Objective of tokens `added` per worker, without its constant."""
    workers = len(added)
    total = 0
    for g in range(workers):
        total += added[g]
    value = 0
    for h in range(len(weight)):
        over = 0
        for g in range(workers):
            over = max(over, added[g] - margin[g, h])
        value += weight[h] * (workers * over - total)
    return value


@compiled
def step_margins(projected):
    """``max P(h) - P_g(h)`` of every worker and horizon step."""
    margin = np.empty_like(projected)
    for h in range(projected.shape[1]):
        peak = projected[0, h]
        for g in range(1, projected.shape[0]):
            peak = max(peak, projected[g, h])
        for g in range(projected.shape[0]):
            margin[g, h] = peak - projected[g, h]
    return margin


@compiled
def _share(margin, over, weight, gain, loss, tokens):
    """``loss * sum D_h*(tokens beyond the margin) - gain * tokens``: a worker's own part of a bound, convex."""
    beyond = 0
    for h in range(len(weight)):
        excess = tokens - margin[h] - over[h]
        if excess > 0:
            beyond += weight[h] * excess
    return loss * beyond - gain * tokens


@compiled
def _turn(margin, over, weight, gain, loss, low, high):
    """Least number of tokens in ``low .. high`` at which _share stops falling; `high` if it never does."""
    if len(weight) == 1:
        return max(low, min(high, margin[0] + over[0]))
    while low < high:
        middle = (low + high) >> 1
        slope = 0
        for h in range(len(weight)):
            if margin[h] + over[h] <= middle:
                slope += weight[h]
        if loss * slope >= gain:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def _first_below(prompt, tokens):
    """Position of the first of the prompts, sorted down, that is at most `tokens`."""
    low, high = 0, len(prompt)
    while low < high:
        middle = (low + high) >> 1
        if prompt[middle] <= tokens:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def _same_rows(margin, free, room, g, other):
    """Whether two workers cannot be told apart."""
    if free[g] != free[other] or room[g] != room[other]:
        return False
    return np.array_equal(margin[g], margin[other])


@compiled
def _ceil_div(number, by):
    return -(-number // by)


@compiled
def _raise_over(margin, over, weight, tokens, result):
    """Envelope after a worker has `tokens` more, into `result`; the weighted rise."""
    rise = 0
    for h in range(len(weight)):
        new = max(over[h], tokens - margin[h])
        rise += weight[h] * (new - over[h])
        result[h] = new
    return rise


class Search(NamedTuple):
    """A search over slots, one level per slot: the problem, the path so far, and what is left to try per level.

    `up` and `down` are the next candidates of a level, towards shorter and longer prompts; the keys bound all that
    is left in that direction, `skip_key` what comes of leaving the rest of the worker's slots free.
    """

    margin: Int64Array
    room: Int64Array
    prompt: Int64Array
    weight: Int64Array
    weight_sum: int
    order: Int64Array
    free: Int64Array
    twin: Int64Array
    first_slot: Int64Array
    of_slot: Int64Array
    over: Int64Array
    rise: Int64Array
    done: Int64Array
    part: Int64Array
    spare: Int64Array
    base: Int64Array
    others: Int64Array
    turn: Int64Array
    least: Int64Array
    up: Int64Array
    down: Int64Array
    up_key: Int64Array
    down_key: Int64Array
    skip_key: Int64Array
    pick: Int64Array
    reached: Int64Array
    taken: Any
    top: Int64Array
    low: Int64Array
    limits: Int64Array


@compiled
def _make_search(margin, free, room, prompt, weight, spare):
    workers, steps = margin.shape
    order = np.empty(workers, np.int64)
    count = 0
    for g in range(workers):
        if free[g] == 0:
            continue
        # Workers with several slots first, then those with the least margin: what is left then is easy to bound.
        at = count
        while at > 0 and (
            free[order[at - 1]] < free[g]
            or (free[order[at - 1]] == free[g] and margin[order[at - 1], 0] > margin[g, 0])
        ):
            order[at] = order[at - 1]
            at -= 1
        order[at] = g
        count += 1
    twin = np.full(count, -1, np.int64)
    first_slot = np.zeros(count + 1, np.int64)
    for w in range(count):
        first_slot[w + 1] = first_slot[w] + free[order[w]]
        if w > 0 and _same_rows(margin, free, room, order[w], order[w - 1]):
            twin[w] = w - 1
    slots = first_slot[count]
    of_slot = np.empty(slots, np.int64)
    for w in range(count):
        of_slot[first_slot[w] : first_slot[w + 1]] = w
    levels = np.zeros((17, slots + 1), np.int64)
    levels[4, 0] = spare
    return Search(
        margin,
        room,
        prompt,
        weight,
        weight.sum(),
        order[:count],
        free,
        twin,
        first_slot,
        of_slot,
        np.zeros((slots + 1, steps), np.int64),
        levels[0],
        levels[1],
        levels[3],
        levels[4],
        levels[5],
        levels[6],
        levels[7],
        levels[8],
        levels[9],
        levels[10],
        levels[11],
        levels[12],
        levels[13],
        np.full(slots, -1, np.int64),
        np.full(count, -1, np.int64),
        np.zeros(len(prompt), np.bool_),
        levels[14],
        levels[15],
        levels[16],
    )


@compiled
def _sum_left(s):
    """Sums of the k largest and of the k smallest requests that are left, for every k that a bound can ask for."""
    need = len(s.of_slot)
    count, at = 0, 0
    while count < need and at < len(s.prompt):
        if not s.taken[at]:
            s.top[count + 1] = s.top[count] + s.prompt[at]
            count += 1
        at += 1
    count, at = 0, len(s.prompt) - 1
    while count < need and at >= 0:
        if not s.taken[at]:
            s.low[count + 1] = s.low[count] + s.prompt[at]
            count += 1
        at -= 1


@compiled
def _single_share(s, row, over, gain, have, room, point):
    """Least share of a worker that takes exactly one more request; _INFINITE if none fits."""
    workers = s.margin.shape[0]
    at = _first_below(s.prompt, point - have)
    below, above = at, at - 1
    while below < len(s.prompt) and s.taken[below]:
        below += 1
    while above >= 0 and s.taken[above]:
        above -= 1
    value = _INFINITE
    if below < len(s.prompt):
        value = _share(row, over, s.weight, gain, workers, have + s.prompt[below])
    if above >= 0 and have + s.prompt[above] <= room:
        value = min(value, _share(row, over, s.weight, gain, workers, have + s.prompt[above]))
    return value


@compiled
def _most_tokens(s, depth, level):
    """Upper bound on the tokens still to come if no worker raises the envelope by more than `level`; -1: impossible.

    A slot takes what leaves its worker below its limit; of distinct requests for slots with such nested limits the
    longest first is best. A worker with several slots counts by its limit where that is less than its share.
    """
    workers = s.margin.shape[0]
    w = s.of_slot[depth]
    tight = s.spare[depth] == 0
    over = s.over[depth]
    whole = slots = 0
    for v in range(w, len(s.order)):
        g = s.order[v]
        have, need = (s.part[depth], s.first_slot[v + 1] - depth) if v == w else (0, s.free[g])
        limit = _limit(s.margin[g], over, s.weight, workers, level, s.room[g], have, have + s.top[need])
        if tight and limit < have + s.low[need]:
            return -1
        if need > 1 and limit < have + s.top[need]:
            whole += limit - have
            continue
        limit -= have + (s.low[need - 1] if tight else 0)
        for _ in range(need):
            at = slots
            while at > 0 and s.limits[at - 1] < limit:
                s.limits[at] = s.limits[at - 1]
                at -= 1
            s.limits[at] = limit
            slots += 1
    total = count = open_slots = at = 0
    while count < slots and at < len(s.prompt):
        if not s.taken[at]:
            while open_slots < slots and s.limits[open_slots] >= s.prompt[at]:
                open_slots += 1
            if count < open_slots:
                total += s.prompt[at]
                count += 1
        at += 1
    if tight and count < slots:
        return -1
    return whole + total


@compiled
def _limit(margin, over, weight, workers, level, room, low, high):
    """Most tokens in ``low .. min(high, room)`` with which a worker raises the envelope by at most `level`."""
    high = min(high, room)
    if len(weight) == 1:
        return min(high, margin[0] + over[0] + level // (workers * weight[0]))
    if _share(margin, over, weight, 0, workers, high) <= level:
        return high
    low -= 1
    while high - low > 1:
        middle = (low + high) >> 1
        if _share(margin, over, weight, 0, workers, middle) <= level:
            low = middle
        else:
            high = middle
    return low


@compiled
def _any_level(s, depth, base, best):
    """Whether some final height of the envelope may give less than `best`; heights are tried in doubling intervals."""
    unit = s.margin.shape[0] * s.weight_sum
    base -= s.weight_sum * s.part[depth]
    floor = base - s.weight_sum * s.top[len(s.of_slot) - depth]
    low = high = 0
    # No envelope rises by 2**60; without the limit the doubling would overflow where nothing fits at all.
    while floor + low < best and low < 2**60:
        tokens = _most_tokens(s, depth, high)
        if tokens >= 0 and base + low - s.weight_sum * tokens < best:
            return True
        low = high + 1
        high = max(unit, 2 * high)
    return False


@compiled
def _enter(s, depth, best):
    """Bound the node at this level and line up its candidates; whether it can hold anything better than `best`."""
    workers = s.margin.shape[0]
    w = s.of_slot[depth]
    rest = s.first_slot[w + 1] - depth
    tight = s.spare[depth] == 0
    over = s.over[depth]
    share = len(s.order) - w
    gain = share * s.weight_sum
    base = workers * s.rise[depth] - s.weight_sum * s.done[depth]
    _sum_left(s)
    others = mine = 0
    for v in range(w, len(s.order)):
        g = s.order[v]
        row, room = s.margin[g], s.room[g]
        have = s.part[depth] if v == w else 0
        need = rest if v == w else s.free[g]
        high = have + s.top[need]
        low = have + (s.low[need] if tight else 0)
        if low > room:
            return False
        point = _turn(row, over, s.weight, gain, workers, low, min(high, room))
        if need == 1 and tight:
            value = _single_share(s, row, over, gain, have, room, point)
            if value == _INFINITE:
                return False
        else:
            value = _share(row, over, s.weight, gain, workers, point)
        if v == w:
            mine = value
            s.turn[depth] = point
        else:
            others += value
    bound = base + _ceil_div(others + mine, share)
    if bound >= best or not _any_level(s, depth, base, best):
        return False
    s.base[depth], s.others[depth] = base, others
    if depth > s.first_slot[w]:
        s.least[depth] = s.pick[depth - 1] + 1
    else:
        s.least[depth] = s.reached[s.twin[w]] + 1 if s.twin[w] >= 0 else 0
    at = _first_within(s, depth, rest - 1)
    s.up[depth], s.down[depth] = at, at - 1
    s.skip_key[depth] = _INFINITE
    if s.spare[depth] >= rest:
        own = _share(s.margin[s.order[w]], over, s.weight, gain, workers, s.part[depth])
        s.skip_key[depth] = base + _ceil_div(others + own, share)
    _seek(s, depth, 1)
    _seek(s, depth, -1)
    return True


@compiled
def _longest(s, start, number):
    """Sum of the `number` longest prompts left from position `start` on, and how many there are."""
    total, count, at = 0, 0, start
    while count < number and at < len(s.prompt):
        if not s.taken[at]:
            total += s.prompt[at]
            count += 1
        at += 1
    return total, count


@compiled
def _first_within(s, depth, more):
    """First position from which even the longest completion does not pass the worker's turning point.

    From there on keys rise towards shorter prompts, before it towards longer ones.
    """
    low, high = s.least[depth], max(s.least[depth], len(s.prompt))
    while low < high:
        middle = (low + high) >> 1
        if s.part[depth] + _longest(s, middle, more + 1)[0] <= s.turn[depth]:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def _seek(s, depth, by):
    """Move a level's `up` (by = 1) or `down` (by = -1) to the next request that may be tried, and set its key."""
    workers = s.margin.shape[0]
    w = s.of_slot[depth]
    g = s.order[w]
    more = s.first_slot[w + 1] - depth - 1
    tight = s.spare[depth] == 0
    have, room, first = s.part[depth], s.room[g], s.least[depth]
    number = len(s.prompt)
    i = s.up[depth] if by > 0 else s.down[depth]
    key = _INFINITE
    while first <= i < number:
        tokens = have + s.prompt[i]
        # Of equal prompts only the oldest that is left is tried.
        same = i > first and s.prompt[i - 1] == s.prompt[i] and not s.taken[i - 1]
        if not s.taken[i] and not same and tokens <= room:
            low = high = tokens
            if more > 0:
                longest, count = _longest(s, i + 1, more)
                high += longest
                if tight:
                    if count < more:
                        i += by
                        continue
                    count, at = 0, number - 1
                    while count < more:
                        if not s.taken[at]:
                            low += s.prompt[at]
                            count += 1
                        at -= 1
            if low <= room:
                share = len(s.order) - w
                point = max(low, min(high, s.turn[depth]))
                own = _share(s.margin[g], s.over[depth], s.weight, share * s.weight_sum, workers, point)
                key = s.base[depth] + _ceil_div(s.others[depth] + own, share)
                break
        i += by
    if by > 0:
        s.up[depth], s.up_key[depth] = i, key
    else:
        s.down[depth], s.down_key[depth] = i, key


@compiled
def _fill_slots(margin, free, room, prompt, weight, spare, node_limit, chosen):
    """Choose a request for every free slot but `spare` ones; prompts are sorted down, at least one per slot used.

    Slot by slot, worker by worker; the worker of each position, or -1, is written to `chosen`.
    Returns value (_INFINITE: none found), bound (the value: proved) and nodes.
    """
    workers = margin.shape[0]
    s = _make_search(margin, free, room, prompt, weight, spare)
    slots = len(s.of_slot)
    best, nodes = _INFINITE, 0
    depth, enter = 0, True
    while depth >= 0:
        if enter:
            enter = False
            nodes += 1
            if not _enter(s, depth, best):
                depth = _back(s, depth)
                continue
        if nodes >= node_limit:
            break
        w = s.of_slot[depth]
        g = s.order[w]
        following = depth + 1
        tokens, spare_after = s.part[depth], s.spare[depth]
        if min(s.up_key[depth], s.down_key[depth]) < best:
            by = 1 if s.up_key[depth] <= s.down_key[depth] else -1
            i = s.up[depth] if by > 0 else s.down[depth]
            if by > 0:
                s.up[depth] = i + 1
            else:
                s.down[depth] = i - 1
            _seek(s, depth, by)
            s.pick[depth] = i
            tokens += s.prompt[i]
        elif s.skip_key[depth] < best:
            s.skip_key[depth] = _INFINITE
            i = len(prompt)
            following = s.first_slot[w + 1]
            s.pick[depth:following] = -1
            spare_after -= following - depth
            # Levels that are jumped over have nothing to try when the search comes back.
            for level in range(depth + 1, following):
                s.up_key[level] = s.down_key[level] = s.skip_key[level] = _INFINITE
        else:
            depth = _back(s, depth)
            continue
        if depth == s.first_slot[w]:
            s.reached[w] = i
        complete = following == s.first_slot[w + 1]
        rise = s.rise[depth] + _raise_over(margin[g], s.over[depth], weight, tokens, s.over[following])
        done = s.done[depth] + (tokens if complete else 0)
        if following == slots:
            value = workers * rise - s.weight_sum * done
            if value < best and spare_after == 0:
                best = value
                chosen[:] = -1
                for level in range(slots):
                    if s.pick[level] >= 0:
                        chosen[s.pick[level]] = s.order[s.of_slot[level]]
            continue
        if s.pick[depth] >= 0:
            s.taken[s.pick[depth]] = True
        s.rise[following], s.done[following] = rise, done
        s.part[following] = 0 if complete else tokens
        s.spare[following] = spare_after
        depth, enter = following, True
    bound = best
    for level in range(depth + 1):
        bound = min(bound, s.up_key[level], s.down_key[level], s.skip_key[level])
    return best, bound, nodes


@compiled
def _back(s, depth):
    """The level before, with its request given back."""
    if depth > 0 and s.pick[depth - 1] >= 0:
        s.taken[s.pick[depth - 1]] = False
    return depth - 1


@compiled
def _place_all(margin, free, room, prompt, weight, spare, node_limit, chosen):
    """Put all requests but `spare` ones on workers with free slots; prompts are sorted down.

    Request by request, longest first; as :func:`_fill_slots` otherwise.
    """
    workers, steps = margin.shape
    number = len(prompt)
    weight_sum = weight.sum()
    free, added = free.copy(), np.zeros(workers, np.int64)
    twin = np.full(workers, -1, np.int64)
    for g in range(workers):
        for other in range(g - 1, -1, -1):
            if _same_rows(margin, free, room, g, other):
                twin[g] = other
                break
    after = np.zeros(number + 1, np.int64)
    for i in range(number - 1, -1, -1):
        after[i] = after[i + 1] + prompt[i]
    over = np.zeros((number + 1, steps), np.int64)
    rise = np.zeros(number + 1, np.int64)
    done = np.zeros(number + 1, np.int64)
    left = np.zeros(number + 1, np.int64)
    key = np.full((number + 1, workers + 1), _INFINITE, np.int64)
    pick = np.full(number + 1, -1, np.int64)
    left[0] = spare
    best, nodes = _INFINITE, 0
    depth, enter = 0, True
    while depth >= 0:
        if enter:
            enter = False
            nodes += 1
            size = prompt[depth]
            # An equal prompt goes to the same or a later worker than the one before.
            least = pick[depth - 1] if depth > 0 and prompt[depth - 1] == size else 0
            for g in range(workers):
                key[depth, g] = _INFINITE
                if free[g] == 0 or added[g] + size > room[g] or g < least:
                    continue
                other = twin[g]
                while other >= least and (added[other] != added[g] or free[other] != free[g]):
                    other = twin[other]
                if other >= least:
                    continue
                added[g] += size
                free[g] -= 1
                grown = rise[depth] + _raise_over(margin[g], over[depth], weight, added[g], over[depth + 1])
                total = after[depth + 1] if left[depth] == 0 else 0
                grown += _spread(margin, free, added, weight, over[depth + 1], total)
                added[g] -= size
                free[g] += 1
                key[depth, g] = workers * grown - weight_sum * (done[depth] + after[depth])
            key[depth, workers] = _INFINITE
            if left[depth] > 0:
                key[depth, workers] = workers * rise[depth] - weight_sum * (done[depth] + after[depth + 1])
        if nodes >= node_limit:
            break
        g = workers
        for other in range(workers):
            if key[depth, other] < best and (g == workers or key[depth, other] < key[depth, g]):
                g = other
        if key[depth, g] >= best:
            depth -= 1
            if depth >= 0 and pick[depth] < workers:
                added[pick[depth]] -= prompt[depth]
                free[pick[depth]] += 1
            continue
        key[depth, g] = _INFINITE
        pick[depth] = g
        over[depth + 1] = over[depth]
        rise[depth + 1], done[depth + 1], left[depth + 1] = rise[depth], done[depth], left[depth] - 1
        if g < workers:
            added[g] += prompt[depth]
            free[g] -= 1
            left[depth + 1] = left[depth]
            done[depth + 1] += prompt[depth]
            rise[depth + 1] += _raise_over(margin[g], over[depth], weight, added[g], over[depth + 1])
        if depth + 1 < number:
            depth, enter = depth + 1, True
            continue
        value = workers * rise[number] - weight_sum * done[number]
        if value < best and left[number] == 0:
            best = value
            for i in range(number):
                chosen[i] = pick[i] if pick[i] < workers else -1
        if g < workers:
            added[g] -= prompt[depth]
            free[g] += 1
    bound = best
    for level in range(depth + 1):
        bound = min(bound, key[level].min())
    return best, bound, nodes


@compiled
def _spread(margin, free, added, weight, over, tokens):
    """Least further rise of the envelope when `tokens` more go to workers with free slots, however they are cut."""
    rise = 0
    for h in range(len(weight)):
        level, open_workers = tokens, 0
        for g in range(len(added)):
            if free[g] > 0:
                level += added[g] - margin[g, h]
                open_workers += 1
        if open_workers > 0:
            rise += weight[h] * max(0, _ceil_div(level, open_workers) - over[h])
    return rise


@compiled
def _most_that_fit(free, room, prompt, chosen):
    """Shortest first, each on the worker with most room that has a free slot: some placement, and its size."""
    free, room = free.copy(), room.copy()
    chosen[:] = -1
    count = 0
    for i in range(len(prompt) - 1, -1, -1):
        best = -1
        for g in range(len(free)):
            if free[g] > 0 and room[g] >= prompt[i] and (best < 0 or room[g] > room[best]):
                best = g
        if best >= 0:
            chosen[i] = best
            free[best] -= 1
            room[best] -= prompt[i]
            count += 1
    return count


@compiled
def solve_step(projected, free, room, prompt, weight, node_limit, worker):
    """Solve the step problem for a window of prompts, in pool order.

    Parameters
    ----------
    projected : ndarray of int64, shape (G, H + 1)
    free, room : ndarray of int64, shape (G,)
    prompt : ndarray of int64, shape (n,)
    weight : ndarray of int64, shape (H + 1,)
    node_limit : int
    worker : ndarray of int64, shape (n,)
        Output: worker of each request, or -1.

    Returns
    -------
    value, bound : int
        Objective without its constant (see step_value) and a lower bound on the best one; equal if proved.
    admitted, most, nodes : int
        Requests admitted, an upper bound on how many can be, nodes.
    """
    worker[:] = -1
    margin = step_margins(projected)
    widest = room.max()
    order = np.argsort(-prompt, kind="mergesort")
    order = order[prompt[order] <= widest]
    sizes = prompt[order]
    slots = free.sum()
    most = min(len(sizes), slots)
    if most == 0:
        return 0, 0, 0, 0, 0
    chosen = np.full(len(sizes), -1, np.int64)
    nodes = 0
    bound = -_INFINITE
    for spare in range(most):
        if len(sizes) <= slots:
            value, bound, used = _place_all(margin, free, room, sizes, weight, spare, node_limit - nodes, chosen)
        else:
            value, bound, used = _fill_slots(margin, free, room, sizes, weight, spare, node_limit - nodes, chosen)
        nodes += used
        if value < _INFINITE:
            worker[order] = chosen
            return value, bound, most - spare, most - spare, nodes
        if bound < _INFINITE:
            most -= spare
            break
    admitted = _most_that_fit(free, room, sizes, chosen)
    worker[order] = chosen
    added = np.zeros(len(free), np.int64)
    for i in range(len(sizes)):
        if chosen[i] >= 0:
            added[chosen[i]] += sizes[i]
    return step_value(margin, weight, added), bound, admitted, most, nodes


@compiled
def bfio_decide(free, room, pool, p, out_request, out_worker):
    """One step's admissions by the step problem on ``p.projected``; changes the pool; returns their number."""
    head = pool.counts[HEAD]
    size = pool.counts[TAIL] - head
    slots = free.sum()
    window = min(size, max(p.pool_window, slots))
    if window == 0 or slots == 0:
        return 0
    prompt = pool.prompt[head : head + window].copy()
    worker = np.empty(window, np.int64)
    value, bound, admitted, most, nodes = solve_step(p.projected, free, room, prompt, p.weight, p.node_limit, worker)
    p.counts[STEPS] += 1
    p.counts[PROVED] += value == bound and admitted == most
    p.counts[NODES] += nodes
    number = 0
    for at in range(window):
        if worker[at] >= 0:
            out_request[number] = pool.request[head + at]
            out_worker[number] = worker[at]
            number += 1
    # From the back, so that earlier positions stay what they were.
    for at in range(window - 1, -1, -1):
        if worker[at] >= 0:
            pool_take(pool, at)
    return number
