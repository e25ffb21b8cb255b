"""Placement (P1): what is proved for given starts, step by step.

All requests grow by one token a step, so the active requests keep their order by load from one start or
end to the next: with *offset* ``s_i - t_i`` the load of request i in step k is ``offset + k``, and every
proof below walks over these stretches.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from ..errors import CertificateError
from ..instance import Cluster, Instance
from .format import LAST_STEP, fields, integer, integers, show, table

PER_STEP = ("fluid", "item", "pigeonhole", "migration")
_MAX_NODES = 5 * 10**6  # of all searches of one certificate
_MAX_ITEMS = 256  # of one search


def starts(inst: Instance, value: Any, where: str = "data.start") -> list[int]:
    """A step for each request, none before its release."""
    start = integers(value, where, 0, LAST_STEP, len(inst))
    for i, (t, r) in enumerate(zip(start, inst.release.tolist(), strict=True)):
        if t < r:
            raise CertificateError(f"{where}[{i}] = {t} lies before the release {r}")
    return start


def positions(first: list[int], end: list[int]) -> tuple[list[int], int]:
    """Number the steps of all ranges ``first[i] .. end[i] - 1``: the first position of each, and how many there are."""
    runs: list[tuple[int, int]] = []  # first step of each run of such steps, and its position
    count, covered = 0, -1
    for a, b in sorted(zip(first, end, strict=True)):
        if a > covered:
            runs.append((a, count))
            covered = a
        count += max(0, b - covered)
        covered = max(covered, b)
    found = [runs[bisect_right(runs, (a, count)) - 1] for a in first]
    return [position + a - run for a, (run, position) in zip(first, found, strict=True)], count


def _stretches(inst: Instance, cluster: Cluster, start: list[int]) -> Iterator[tuple[int, int, list[int], int]]:
    """``(first, end, offsets, sum of offsets)`` of every stretch of steps with the same active requests.

    `offsets` is ascending, belongs to the generator and changes after the next step of it.
    """
    requests = zip(start, inst.prompt.tolist(), inst.output.tolist(), strict=True)
    events = sorted((step, s - t, change) for t, s, o in requests for step, change in ((t, 1), (t + o, -1)))
    offsets: list[int] = []
    total, slots = 0, cluster.workers * cluster.slots
    for (step, offset, change), (end, *_) in zip(events, events[1:] + events[-1:], strict=True):
        total += change * offset
        if change == 1:
            insort(offsets, offset)
        else:
            del offsets[bisect_left(offsets, offset)]
        if step < end and offsets:
            if len(offsets) > slots:
                raise CertificateError(f"step {step} has {len(offsets)} active requests on {slots} slots: no placement")
            yield step, end, offsets, total


def _arithmetic(cluster: Cluster, kind: str, offsets: list[int], total: int, first: int, end: int) -> list[int]:
    """The fluid, item or pigeonhole bound (section 7) on the peak of each step of a stretch.

    Every form of it is a sum of loads, so it is a line in k: the sum of their offsets, and their number times k.
    """
    G, n = cluster.workers, len(offsets)
    # Two of the G + 1 largest requests share a worker, three of the 2*G + 1 largest, ...; item is one of 1.
    groups = {"fluid": 0, "item": 1}.get(kind, 1 + (n - 1) // G)
    lines = [(q + 1, sum(offsets[n - 1 - q * G : n + q - q * G])) for q in range(groups)]
    if kind in ("pigeonhole", "migration"):
        others = max(0, n - (G - 1) * cluster.slots - 1)  # beside the largest, even if all other workers are full
        lines.append((others + 1, offsets[-1] + sum(offsets[:others])))
    return [max([-((total + n * k) // -G), *[s + m * k for m, s in lines]]) for k in range(first, end)]


def per_step(kind: str, inst: Instance, cluster: Cluster, data: Any) -> int:
    """Kinds fluid, item, pigeonhole and migration: a bound on the peak of each active step, summed."""
    start, *raised = fields(data, ("start", "raised") if kind == "migration" else ("start",), "data")
    return sum(peaks(inst, cluster, starts(inst, start), kind, *raised))


def peaks(inst: Instance, cluster: Cluster, start: list[int], kind: str, *raised: Any) -> list[int]:
    """A lower bound on the peak of every active step: arithmetic, or the value that `raised` gives.

    No placement of the step's loads has a maximum of value - 1: every branch of :func:`_fits` ends.
    """
    values = {step: value for row in raised for step, value in table(row, "data.raised", 2, 2**63)}
    found, nodes = [], [_MAX_NODES]
    for first, end, offsets, total in _stretches(inst, cluster, start):
        for k, bound in zip(range(first, end), _arithmetic(cluster, kind, offsets, total, first, end), strict=True):
            value = values.pop(k, bound)
            if value > bound:
                if len(offsets) > _MAX_ITEMS:
                    raise CertificateError(f"data.raised: step {k} has more than {_MAX_ITEMS} active requests")
                loads = [offset + k for offset in reversed(offsets)]
                if _fits(loads, cluster.workers, cluster.slots, value - 1, nodes):
                    raise CertificateError(f"data.raised: step {k} can be placed below {show(value)} tokens")
            found.append(max(value, bound))
    if values:
        raise CertificateError(f"data.raised names step {next(iter(values))}, in which nothing is active")
    return found


def _fits(loads: list[int], workers: int, slots: int, limit: int, nodes: list[int]) -> bool:
    """Whether the loads (descending) can be placed with no worker above `limit`, by trying everything.

    One worker holds the largest load, and some set of smaller ones with it. The set must weigh so much that the
    others can hold the rest; and if a further load still fits, moving it there does no harm, so only sets into
    which none fits need a look.
    """
    stack = [(loads, [0, *accumulate(loads)], workers, [0], loads[0])]  # with sums of the first loads; the set, its sum
    while stack:
        loads, prefix, workers, chosen, total = stack.pop()
        n, room, elsewhere = len(loads), slots - len(chosen), (workers - 1) * slots
        least = prefix[-1] - (workers - 1) * limit
        if total > limit or least > limit or n > elsewhere + slots:
            continue
        nodes[0] -= 1
        if nodes[0] < 0:
            raise CertificateError(f"the searches need more than {_MAX_NODES} nodes")
        before = 0
        for j in range(chosen[-1] + 1, n if room else 0):
            # Even the largest ones left weigh too little, or too many loads were passed over.
            if total + prefix[min(j + room, n)] - prefix[j] < least or j - len(chosen) > elsewhere:
                break
            if total + loads[j] <= limit and loads[j] != before:
                before = loads[j]
                stack.append((loads, prefix, workers, [*chosen, j], total + before))
        if total >= least:
            rest = [load for j, load in enumerate(loads) if j not in chosen]
            if not rest:
                return True
            if not room or total + rest[-1] > limit:
                stack.append((rest, [0, *accumulate(rest)], workers - 1, [0], rest[0]))
    return False


def infeasible(inst: Instance, cluster: Cluster, data: Any) -> float:
    """No placement: in one step more requests are active than slots, or their loads are more than all KV capacity."""
    start, step = fields(data, ("start", "step"), "data")
    k = integer(step, "data.step", 0, 2 * LAST_STEP)
    requests = zip(starts(inst, start), inst.prompt.tolist(), inst.output.tolist(), strict=True)
    loads = [s + k - t for t, s, o in requests if t <= k < t + o]
    slots = cluster.workers * cluster.slots
    room = math.inf if cluster.kv_capacity is None else cluster.workers * cluster.kv_capacity
    if len(loads) <= slots and sum(loads) <= room:
        raise CertificateError(f"step {k} has {len(loads)} active requests on {slots} slots: that proves nothing")
    return math.inf
