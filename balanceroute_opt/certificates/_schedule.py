"""Schedule (P2): what is proved for all schedules whose starts lie in given windows; and for makespans."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import CertificateError
from ..instance import Cluster, Instance
from ._placement import peaks, positions, starts
from .format import LAST_STEP, fields, integer, integers, show, table

_HUGE = 2**1200  # beyond any multiplier
_MAX_LOOKS = 2 * 10**7  # pairs of a start and a range of steps that one proof of infeasibility looks at


def _latest(inst: Instance, max_wait: Any, latest: Any) -> list[int]:
    """Last step in which each request may start."""
    limits = [] if latest is None else [starts(inst, latest, "data.latest")]
    if max_wait is not None:
        limits.append((inst.release + integer(max_wait, "data.max_wait", 0, 2**53)).tolist())
    if not limits:
        raise CertificateError("data.max_wait and data.latest are null: the proof needs start windows")
    return [min(pair) for pair in zip(*limits, strict=True)]


def _least_steps(inst: Instance, cluster: Cluster, last: list[int] | None) -> int:
    """``K_min``: no schedule has fewer active steps (section 7)."""
    output = inst.output.tolist()
    least = max(max(output, default=0), -(sum(output) // -(cluster.workers * cluster.slots)))
    if last is None:
        return least
    # Request i runs in all steps d_i .. r_i + o_i - 1, whenever it starts.
    return max(least, positions(last, [r + o for r, o in zip(inst.release.tolist(), output, strict=True)])[1])


def _seconds(inst: Instance, cluster: Cluster, steps: int, peaks: int | Fraction) -> Fraction:
    """``c*steps + a*peaks + b*W/G``: what so many active steps with this sum of largest loads take."""
    c, a, b = map(Fraction, (cluster.step_time.fixed, cluster.step_time.per_token, cluster.step_time.per_mean_token))
    return c * steps + a * peaks + b * Fraction(sum(inst.work.tolist()), cluster.workers)


def fluid(inst: Instance, cluster: Cluster, data: Any) -> Fraction:
    """``c*K_min + a*max(W/G, max w_i) + b*W/G`` (section 7)."""
    max_wait, latest = fields(data, ("max_wait", "latest"), "data")
    last = None if max_wait is None and latest is None else _latest(inst, max_wait, latest)
    work = [o * s + o * (o - 1) // 2 for s, o in zip(inst.prompt.tolist(), inst.output.tolist(), strict=True)]
    least = max(Fraction(sum(work), cluster.workers), *work, 0)
    return _seconds(inst, cluster, _least_steps(inst, cluster, last), least)


def arrival(inst: Instance, cluster: Cluster, data: Any) -> Fraction:
    """Makespan (wall clock): from the first arrival to that of a request, then `fluid` of all that is not earlier."""
    (i,) = fields(data, ("request",), "data")
    release = inst.release.tolist() or [0.0]
    begin = min(release) if i is None else release[integer(i, "data.request", 0, len(inst) - 1)]
    later = fluid(inst.take(inst.release >= begin), cluster, {"max_wait": None, "latest": None})
    return Fraction(begin) - Fraction(min(release)) + later


def lagrangian(inst: Instance, cluster: Cluster, data: Any) -> Fraction:
    """The Lagrangian bound (section 7) of multipliers that are integers over ``2**bits``."""
    names = ("max_wait", "latest", "bits", "theta", "mu", "sigma", "nu", "eta")
    max_wait, latest, bits, theta, mu, sigma, nu, eta = fields(data, names, "data")
    last = _latest(inst, max_wait, latest)
    release, prompt, output = inst.release.tolist(), inst.prompt.tolist(), inst.output.tolist()
    GB = cluster.workers * cluster.slots
    # Positions: the steps that some window reaches, without the gaps between them.
    first, count = positions(release, [d + o for d, o in zip(last, output, strict=True)])
    mu = integers(mu, "data.mu", 0, _HUGE, count)
    sigma = integers(sigma, "data.sigma", 0, _HUGE, count)
    theta, scale = integer(theta, "data.theta", 0, _HUGE), 2 ** integer(bits, "data.bits", 0, 1100)
    tokens, steps = list(mu), [theta + x for x in sigma]  # totals per position
    own: dict[int, list[tuple[int, int, bool]]] = {}  # per request: steps since its release, multiplier, per token
    for name, entries, totals in (("nu", nu, tokens), ("eta", eta, steps)):
        for i, k, x in table(entries, f"data.{name}", 3, _HUGE):
            if i >= len(inst) or not release[i] <= k < last[i] + output[i]:
                raise CertificateError(f"data.{name}: request {show(i)} cannot be active in step {show(k)}")
            own.setdefault(i, []).append((k - release[i], GB * x, name == "nu"))
            totals[first[i] + k - release[i]] += x
    price = math.floor(Fraction(cluster.step_time.per_token) * scale)
    if max(tokens, default=0) > price:
        raise CertificateError(f"mu + nu exceed a * 2**bits = {show(price)} in position {tokens.index(max(tokens))}")
    rho = sum(max(0, x - math.floor(Fraction(cluster.step_time.fixed) * scale)) for x in steps)

    # In units of 1 / (G * B * 2**bits). Sums may wrap round in int64; differences of them are right if
    # every cost fits, and it does below this limit.
    longest = max(output, default=0)
    dear = longest * GB * (price * (max(prompt, default=0) + longest) + max(steps, default=0))
    number = np.int64 if dear < 2**62 else object

    index = np.arange(-1, count).astype(number)
    token, slot = np.array([0, *[cluster.slots * x for x in mu]], number), np.array([0, *sigma], number)
    token0, token1, slot0 = np.cumsum(token), np.cumsum(token * index), np.cumsum(slot)
    minima = 0
    for o in set(output):
        load = token0[o:] - token0[:-o]
        rest = token1[o:] - token1[:-o] + slot0[o:] - slot0[:-o] - np.arange(len(load)).astype(number) * load
        for i in np.flatnonzero(inst.output == o).tolist():
            wait = last[i] - release[i]
            window = slice(first[i], first[i] + wait + 1)
            cost = prompt[i] * load[window] + rest[window]
            for j, x, per_token in own.get(i, []):  # active j steps after the release: these starts
                some = slice(max(0, j - o + 1), min(j, wait) + 1)
                cost[some] += x * (prompt[i] + j - np.arange(some.start, some.stop).astype(number)) if per_token else x
            minima += int(cost.min())
    value = GB * (theta * _least_steps(inst, cluster, last) - rho) + minima
    return Fraction(value, GB * scale) + _seconds(inst, cluster, 0, 0)


def forced(inst: Instance, cluster: Cluster, data: Any, placement: Any = None) -> Fraction:
    """``c*K + a*P + b*W/G`` of the last starts, P by pigeonhole or `placement`: before them no slot is ever free."""
    max_wait, latest, *proof = fields(data, ("max_wait", "latest") + ("kind", "proof") * bool(placement), "data")
    last = np.array(_latest(inst, max_wait, latest), np.int64)
    begins, ends, slots = np.sort(last), np.sort(last + inst.output), cluster.workers * cluster.slots
    taken = [np.searchsorted(begins, k, "right") - np.searchsorted(ends, k, "right") for k in (inst.release, ends)]
    fewer = ends[taken[1] < slots]  # only here do steps with a free slot begin
    free = (taken[0] < slots) | (np.searchsorted(fewer, last) > np.searchsorted(fewer, inst.release, "right"))
    for i in np.flatnonzero(free & (inst.release < last)).tolist():
        raise CertificateError(f"request {i} may find a free slot before step {last[i]}")
    peak = peaks(inst, cluster, last.tolist(), "pigeonhole")
    least = placement(last.tolist(), *proof) if proof else sum(peak)
    if least == math.inf:
        raise CertificateError("data.proof says that there is no placement: that is no bound in seconds")
    return _seconds(inst, cluster, len(peak), least)


def infeasible(inst: Instance, cluster: Cluster, data: Any) -> float:
    """No schedule: wherever they start, the requests need more slots inside the ranges of steps than these have."""
    max_wait, latest, requests, steps = fields(data, ("max_wait", "latest", "requests", "steps"), "data")
    last, ranges = _latest(inst, max_wait, latest), table(steps, "data.steps", 2, 2 * LAST_STEP)
    needed, looks = 0, _MAX_LOOKS
    for i in set(integers(requests, "data.requests", 0, len(inst) - 1)):
        r, d, o = int(inst.release[i]), last[i], int(inst.output[i])
        # What i takes of the ranges is a piecewise linear function of its start: least at an end of a piece.
        ends = {r, d, *[t for pair in ranges for k in pair for t in (k, k - o) if r < t < d]}
        looks -= (len(ends) + 4) * len(ranges)
        if looks < 0:
            raise CertificateError(f"data.steps: more than {_MAX_LOOKS} pairs of a start and a range to look at")
        needed += min(sum(max(0, min(hi, t + o) - max(lo, t)) for lo, hi in ranges) for t in ends)
    room = cluster.workers * cluster.slots * sum(max(0, hi - lo) for lo, hi in ranges)
    if needed <= room:
        raise CertificateError(f"the requests need {show(needed)} slots in the steps, which have {show(room)}")
    return math.inf
