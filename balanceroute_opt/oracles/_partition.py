"""Compiled ``P||Cmax`` with at most B items per machine: the step problem of free migration (internal)."""

from __future__ import annotations

import numpy as np

from .._jit import compiled
from .._validate import Int64Array

FEASIBLE, INFEASIBLE, UNKNOWN = 1, 0, -1


@compiled
def spread(items: Int64Array, machines: int, slots: int, target: int) -> int:
    """Largest load of a good partition of the descending `items`; stops early at `target`.

    Longest first onto the least loaded machine with a free slot, then exchanges of two items (or moves
    into a free slot) between the fullest machine and another one, while the excess over `target` falls.
    """
    load, count = np.zeros(machines, np.int64), np.zeros(machines, np.int64)
    held = np.zeros((machines, slots + 1), np.int64)  # descending, ended by a 0: a free slot
    for j in range(len(items)):
        w = items[j]
        g = -1
        for h in range(machines):
            if count[h] < slots and (g < 0 or load[h] < load[g]):
                g = h
        held[g, count[g]] = w
        load[g] += w
        count[g] += 1
    for _ in range(16 * machines):
        g = int(np.argmax(load))
        excess = load[g] - target
        if excess <= 0:
            break
        best, from_g, from_h, to = excess, -1, -1, -1  # excess of both machines after the exchange
        for h in range(machines):
            room = target - load[h]
            if room <= 0:
                continue
            low = min(excess, room)
            last = count[h] + (1 if count[h] < slots else 0)
            j = 0
            for i in range(count[g]):
                # As items of g fall, so does the item of h whose difference is next to the wanted range.
                while j < last and held[g, i] - held[h, j] < low:
                    j += 1
                for jj in (j - 1, j):
                    if 0 <= jj < last:
                        d = held[g, i] - held[h, jj]
                        after = max(0, excess - d) + max(0, d - room)
                        if d > 0 and after < best:
                            best, from_g, from_h, to = after, i, jj, h
                if best <= max(0, excess - room):
                    break
            if best == 0:
                break
        if to < 0:
            break
        x, y = held[g, from_g], held[to, from_h]
        _replace(held[g], count[g], from_g, y)
        _replace(held[to], count[to], from_h, x)
        load[g] += y - x
        load[to] += x - y
        if y == 0:
            count[g] -= 1
            count[to] += 1
    return load.max()


@compiled
def _replace(row: Int64Array, count: int, at: int, value: int) -> None:
    """Replace ``row[at]`` by `value` and keep the row descending."""
    j = at
    while j > 0 and row[j - 1] < value:
        row[j] = row[j - 1]
        j -= 1
    while j < count and row[j + 1] > value:
        row[j] = row[j + 1]
        j += 1
    row[j] = value


@compiled
def packs(items: Int64Array, machines: int, slots: int, limit: int, nodes: int) -> tuple[int, int]:
    """Whether the descending `items` fit on the machines with no load above `limit`; and the nodes it took.

    Machine by machine: each takes the largest item that is left and a set of smaller ones that leaves
    no more room than the machines together have to spare, and none that a further item would fit into.
    """
    n = len(items)
    spare = machines * limit - items.sum()
    if spare < 0 or n > machines * slots:
        return INFEASIBLE, 0
    most = min(n, slots)
    rest = np.empty((machines, n), np.int64)  # items left when the machine is opened, descending
    sums = np.zeros((machines, n + 1), np.int64)
    left, free = np.zeros(machines, np.int64), np.zeros(machines, np.int64)
    taken = np.zeros((machines, most), np.int64)  # positions in rest, ascending
    following = np.zeros((machines, most + 1), np.int64)  # next position to try
    count, load = np.zeros(machines, np.int64), np.zeros(machines, np.int64)
    rest[0], left[0], free[0] = items, n, spare
    sums[0, 1:] = np.cumsum(items)
    used = g = 0
    while used < nodes:
        m, c, later = left[g], count[g], (machines - g - 1) * slots
        need = limit - free[g]
        j, push = following[g, c], False
        if c < slots and (c > 0 or j == 0):
            while j < m and j - c <= later and load[g] + sums[g, min(j + slots - c, m)] - sums[g, j] >= need:
                if load[g] + rest[g, j] <= limit:
                    push = True
                    break
                j += 1
        if push:
            used += 1
            taken[g, c] = j
            load[g] += rest[g, j]
            count[g] = c + 1
            following[g, c + 1] = j + 1
            continue
        if c > 0 and load[g] >= need and m - c <= later:
            smallest, k = m - 1, c - 1  # of the items not taken
            while k >= 0 and taken[g, k] == smallest:
                smallest -= 1
                k -= 1
            if smallest < 0:
                return FEASIBLE, used
            if c == slots or load[g] + rest[g, smallest] > limit:
                used += 1
                k = 0
                for i in range(m):
                    if k < c and taken[g, k] == i:
                        k += 1
                    else:
                        rest[g + 1, i - k] = rest[g, i]
                        sums[g + 1, i - k + 1] = sums[g + 1, i - k] + rest[g, i]
                left[g + 1], free[g + 1] = m - c, free[g] - limit + load[g]
                g += 1
                count[g] = load[g] = following[g, 0] = 0
                continue
        while True:  # take back the last item; a machine without its largest item is done
            if count[g] > 0:
                c = count[g] - 1
                j = taken[g, c]
                load[g] -= rest[g, j]
                count[g] = c
                if c > 0:
                    w = rest[g, j]
                    while j < left[g] and rest[g, j] == w:
                        j += 1
                    following[g, c] = j
                    break
            g -= 1
            if g < 0:
                return INFEASIBLE, used
    return UNKNOWN, used


@compiled
def least_maximum(
    items: Int64Array, machines: int, slots: int, low: int, high: int, nodes: int
) -> tuple[int, int, bool]:
    """Proved lower bound on the best maximum load, known to be in ``low .. high``.

    Returns the bound, the nodes of the exhausted tree one below it (0 where it is `low`), and whether
    it is the optimum.
    """
    proof, left, probe = 0, nodes, low
    while low < high:
        answer, used = packs(items, machines, slots, probe, left)
        left -= used
        if answer == UNKNOWN:
            return low, proof, False
        if answer == FEASIBLE:
            high = probe
        else:
            low, proof = probe + 1, used
        probe = (low + high) // 2
    return low, proof, True
