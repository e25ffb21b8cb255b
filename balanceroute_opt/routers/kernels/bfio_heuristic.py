"""The heuristic of BF-IO's released code, compiled (``docs/bfio.md``; internal)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..._jit import compiled
from .br import BRHParams, brh_score, brh_single, pick_worker
from .pool import HEAD, TAIL, pool_size, pool_take


class HeuristicParams(NamedTuple):
    """Options of the rule: those of BR-H, and the weight of the last projected load in stage 2's order."""

    rule: BRHParams
    mix: float
    horizon: int
    projected: Any


@compiled
def _lowest_mixed(projected, free, closed, mix):
    """Open worker with the least mix of present and last projected load, lower index first; -1 if there is none."""
    best, value = -1, 0.0
    for g in range(len(free)):
        if free[g] > 0 and not closed[g]:
            mixed = (1.0 - mix) * projected[g, 0] + mix * projected[g, -1]
            if best < 0 or mixed < value:
                best, value = g, mixed
    return best


@compiled
def _extreme(prompt, number, sign, chosen):
    """Choose the `number` smallest (sign = 1) or largest (-1) prompts, the younger of equals; returns their sum."""
    chosen[:] = False
    # Stable on the reversed window: of equal prompts the younger come first.
    count = len(prompt)
    order = np.argsort(sign * prompt[::-1], kind="mergesort")
    total = 0
    for at in range(number):
        position = count - 1 - order[at]
        chosen[position] = True
        total += prompt[position]
    return total


@compiled
def _bit_position(bit):
    position = 0
    for width in (32, 16, 8, 4, 2, 1):
        if bit >> np.uint64(width):
            bit >>= np.uint64(width)
            position += width
    return position


@compiled
def _largest_sum(prompt, number, limit, chosen):
    """Largest sum of exactly `number` prompts that is at most `limit`, by sets of reachable sums; one that exists.

    `first[j, S]` is the first request with which j requests reach S; the set is read off from the youngest on.
    """
    count, words = len(prompt), (limit >> 6) + 1
    one = np.uint64(1)
    reach = np.zeros((number + 1, words), np.uint64)
    reach[0, 0] = one
    first = np.full((number + 1, limit + 1), count, np.int32)
    first[0, 0] = -1
    for i in range(count):
        size = prompt[i]
        if size > limit:
            continue
        jump, shift = size >> 6, np.uint64(size & 63)
        back = np.uint64(64) - shift
        for j in range(min(i + 1, number), 0, -1):
            for word in range(words - 1, jump - 1, -1):
                new = reach[j - 1, word - jump] << shift
                if shift and word > jump:
                    new |= reach[j - 1, word - jump - 1] >> back
                new &= ~reach[j, word]
                reach[j, word] |= new
                while new:
                    bit = new & (~new + one)
                    new ^= bit
                    total = (word << 6) + _bit_position(bit)
                    if total <= limit:
                        first[j, total] = i
    total = limit
    while first[number, total] == count:
        total -= 1
    chosen[:] = False
    left, j = total, number
    for i in range(count - 1, -1, -1):
        if j > 0 and left >= prompt[i] and first[j - 1, left - prompt[i]] < i:
            chosen[i] = True
            left -= prompt[i]
            j -= 1
    return total


@compiled
def _best_subset(p, prompt, free, room, chosen):
    """Mark the subset that stage 2 takes; whether there is one with a positive score."""
    margin = p.margin.min()
    best = 0.0
    mark = np.empty(len(prompt), np.bool_)
    for number in range(min(free, len(prompt)), 0, -1):
        total = _extreme(prompt, number, 1, mark)
        if total > room:
            continue
        safe = total <= margin
        if safe:
            limit = min(margin, room)
            total = _extreme(prompt, number, -1, mark)
            if total > limit:
                total = _largest_sum(prompt, number, limit, mark)
        value = brh_score(p, total, number)
        if value > best:
            best = value
            chosen[:] = mark
            if safe:
                break
    return best > 0


@compiled
def heuristic_decide(free, room, pool, params, out_request, out_worker):
    """As brh_decide, for the released BF-IO heuristic."""
    p, projected = params.rule, params.projected
    workers, horizon = projected.shape[0], p.horizon
    load, envelope = p.load, p.envelope
    p.closed[:] = 0
    number = slots = 0
    envelope[:] = 0
    for g in range(workers):
        slots += free[g]
        load[g] = projected[g, 0]
        for h in range(horizon + 1):
            envelope[h] = max(envelope[h], projected[g, h])
    while slots > 0 and pool_size(pool) > 0:
        greedy = slots > p.greedy_slots
        g = pick_worker(load, free, p.closed, False) if greedy else _lowest_mixed(projected, free, p.closed, params.mix)
        if g < 0:
            break
        head = pool.counts[HEAD]
        window = min(pool.counts[TAIL] - head, p.pool_window)
        for h in range(horizon + 1):
            p.margin[h] = envelope[h] - projected[g, h]
        chosen = np.zeros(window, np.bool_)
        if greedy or not _best_subset(p, pool.prompt[head : head + window], free[g], room[g], chosen):
            single = brh_single(p, pool.prompt, head, window, room[g])
            if single < 0:
                p.closed[g] = 1
                continue
            chosen[single] = True
        total = 0
        for at in range(window):
            if chosen[at]:
                out_request[number] = pool.request[head + at]
                out_worker[number] = g
                total += pool.prompt[head + at]
                number += 1
                free[g] -= 1
                slots -= 1
        # From the back, so that earlier positions stay what they were.
        for at in range(window - 1, -1, -1):
            if chosen[at]:
                pool_take(pool, at)
        room[g] -= total
        load[g] += total
        for h in range(horizon + 1):
            projected[g, h] += total
            envelope[h] = max(envelope[h], projected[g, h])
    return number
