"""The verifier: what a certificate proves, in integers and rationals, with no solver and no compiled code.

It shares no code with the bounds that it checks. Section numbers are those of ``docs/model.md``, the
format is that of ``docs/certificates.md``. All requests grow by one token a step, so the active
requests keep their order by load from one start or end to the next: with *offset* ``s_i - t_i`` the
load of request i in step k is ``offset + k``, and every proof below walks over these stretches.
"""

from __future__ import annotations

import math
import os
import re
import sys
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np

from ..errors import CertificateError
from ..instance import Cluster, Instance, require_fit, require_step_clock
from .format import fields, header, read_certificate, show

__all__ = ["verify"]

_LAST_STEP = 2**62
_HUGE = 2**1200  # beyond any multiplier
_MAX_NODES = 5 * 10**6  # of all searches of one certificate
_MAX_ITEMS = 256  # of one search: the depth of its recursion


def verify(inst: Instance, cluster: Cluster, certificate: dict[str, Any] | str | os.PathLike[str]) -> int | float:
    """What `certificate` proves about `inst` on `cluster`.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    certificate : dict or path
        The certificate, or a ``.json`` or ``.json.gz`` file that holds it.

    Returns
    -------
    int or float
        The certified lower bound: token-steps (placement), or seconds (schedule; the largest float
        that is not above the exact rational).

    Raises
    ------
    CertificateError
        If the certificate is malformed, of a newer schema, for another instance or cluster, or proves
        less than it claims.
    InputError
        If the file cannot be read, or the instance is on the wall clock.
    """
    require_step_clock(inst, "verify")
    require_fit(inst, cluster)
    if isinstance(certificate, (str, os.PathLike)):
        certificate = read_certificate(certificate)
    problem, kind, instance, machine, claim, data = header(certificate)
    if instance != inst.digest():
        raise CertificateError(f"the certificate is for instance {show(instance[:12])}, not {inst.digest()[:12]!r}")
    if machine != cluster.digest():
        raise CertificateError(f"the certificate is for cluster {show(machine[:12])}, not {cluster.digest()[:12]!r}")
    proof = _PROOFS.get((problem, kind))
    if proof is None:
        known = ", ".join(f"{p} {k}" for p, k in _PROOFS)
        raise CertificateError(f"no proof is known of kind {show(f'{problem} {kind}')}; kinds: {known}")
    claimed = _rational(claim, "claim") if problem == "schedule" else _integer(claim, "claim", 0)
    proved = proof(inst, cluster, data)
    if claimed > proved:
        raise CertificateError(f"the certificate claims {show(claim)} and proves {show(proved)}")
    return proved if isinstance(proved, int) else _round_down(proved)


# Values


def _integer(value: Any, where: str, low: int, high: int | None = None) -> int:
    if type(value) is not int:  # a bool or a float is none
        raise CertificateError(f"{where} must be an integer, got {show(value)}")
    if value < low or (high is not None and value > high):
        raise CertificateError(f"{where} must be in {low} .. {'' if high is None else show(high)}, got {show(value)}")
    return value


def _integers(value: Any, where: str, count: int, low: int, high: int) -> list[int]:
    if not isinstance(value, list) or len(value) != count:
        raise CertificateError(f"{where} must be a list of {count} integers, got {show(value)}")
    for index, entry in enumerate(value):
        if type(entry) is not int or not low <= entry <= high:
            _integer(entry, f"{where}[{index}]", low, high)
    return value


def _rational(value: Any, where: str) -> Fraction:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,4000}/[1-9][0-9]{0,3999}", value, re.ASCII):
        raise CertificateError(f'{where} must be a rational "num/den" >= 0, got {show(value)}')
    numerator, denominator = value.split("/")
    return Fraction(int(numerator), int(denominator))


def _round_down(value: Fraction) -> float:
    if value >= Fraction(sys.float_info.max):
        return sys.float_info.max
    result = float(value)
    return math.nextafter(result, -math.inf) if Fraction(result) > value else result


# Placement (P1): the starts are given


def _starts(inst: Instance, value: Any) -> list[int]:
    start = _integers(value, "data.start", len(inst), 0, _LAST_STEP)
    for i, (t, r) in enumerate(zip(start, inst.release.tolist(), strict=True)):
        if t < r:
            raise CertificateError(f"data.start[{i}] = {t} lies before the release {r}")
    return start


def _stretches(inst: Instance, cluster: Cluster, start: list[int]) -> Iterator[tuple[int, int, list[int], int]]:
    """``(first, end, offsets, sum of offsets)`` of every stretch of steps with the same active requests.

    `offsets` is ascending, belongs to the generator and changes after the next step of it.
    """
    events = []
    for t, s, o in zip(start, inst.prompt.tolist(), inst.output.tolist(), strict=True):
        events.append((t, s - t, 1))
        events.append((t + o, s - t, -1))
    events.sort()
    offsets: list[int] = []
    total = 0
    for position, (step, offset, change) in enumerate(events):
        total += change * offset
        if change == 1:
            insort(offsets, offset)
        else:
            del offsets[bisect_left(offsets, offset)]
        end = events[position + 1][0] if position + 1 < len(events) else step
        if step < end and offsets:
            if len(offsets) > cluster.workers * cluster.slots:
                raise CertificateError(
                    f"step {step} has {len(offsets)} active requests, more than the "
                    f"{cluster.workers * cluster.slots} slots: these starts allow no placement"
                )
            yield step, end, offsets, total


def _placement_fluid(inst: Instance, cluster: Cluster, data: Any) -> int:
    """``sum_k ceil(W_k / G)`` (section 7)."""
    (start,) = fields(data, ("start",), "data")
    proved = 0
    for first, end, offsets, total in _stretches(inst, cluster, _starts(inst, start)):
        n = len(offsets)
        proved += sum(-((total + n * k) // -cluster.workers) for k in range(first, end))
    return proved


def _placement_item(inst: Instance, cluster: Cluster, data: Any) -> int:
    """``sum_k max(ceil(W_k / G), max_i w_i(k))`` (section 7)."""
    (start,) = fields(data, ("start",), "data")
    proved = 0
    for first, end, offsets, total in _stretches(inst, cluster, _starts(inst, start)):
        n, largest = len(offsets), offsets[-1]
        proved += sum(max(-((total + n * k) // -cluster.workers), largest + k) for k in range(first, end))
    return proved


def _pigeonhole(cluster: Cluster, offsets: list[int], total: int, first: int, end: int) -> list[int]:
    """The pigeonhole bound (section 7) of each step of a stretch.

    Every form of it is a sum of loads, so it is a line in k: the sum of their offsets, and their number times k.
    """
    G, n = cluster.workers, len(offsets)
    lines = [(1, offsets[-1])]
    for q in range(1, (n - 1) // G + 1):  # two of G + 1 requests share a worker, three of 2*G + 1, ...
        smallest = n - (q * G + 1)
        lines.append((q + 1, sum(offsets[smallest : smallest + q + 1])))
    others = max(0, n - (G - 1) * cluster.slots - 1)  # even if all other workers are full
    lines.append((others + 1, offsets[-1] + sum(offsets[:others])))
    return [max(-((total + n * k) // -G), *(s + m * k for m, s in lines)) for k in range(first, end)]


def _placement_pigeonhole(inst: Instance, cluster: Cluster, data: Any) -> int:
    """The pigeonhole bound, summed over steps."""
    (start,) = fields(data, ("start",), "data")
    stretches = _stretches(inst, cluster, _starts(inst, start))
    return sum(sum(_pigeonhole(cluster, offsets, total, a, b)) for a, b, offsets, total in stretches)


def _placement_migration(inst: Instance, cluster: Cluster, data: Any) -> int:
    """The pigeonhole bound, and in the steps named in ``raised`` a higher value that a search proves.

    No placement of the step's loads has a maximum of value - 1: every branch of :func:`_fits` ends.
    """
    start, raised = fields(data, ("start", "raised"), "data")
    if not isinstance(raised, list):
        raise CertificateError(f"data.raised must be a list, got {show(raised)}")
    values: dict[int, int] = {}
    for j, pair in enumerate(raised):
        step, value = _integers(pair, f"data.raised[{j}]", 2, 0, 2**63)
        if step in values:
            raise CertificateError(f"data.raised[{j}] names step {step} a second time")
        values[step] = value
    proved, nodes = 0, [_MAX_NODES]
    for first, end, offsets, total in _stretches(inst, cluster, _starts(inst, start)):
        for k, bound in zip(range(first, end), _pigeonhole(cluster, offsets, total, first, end), strict=True):
            value = values.pop(k, bound)
            if value > bound:
                if len(offsets) > _MAX_ITEMS:
                    raise CertificateError(f"data.raised: step {k} has more than {_MAX_ITEMS} active requests")
                loads = [offset + k for offset in reversed(offsets)]
                if _fits(loads, cluster.workers, cluster.slots, value - 1, nodes):
                    raise CertificateError(f"data.raised: step {k} can be placed below {show(value)} tokens")
            proved += max(value, bound)
    if values:
        raise CertificateError(f"data.raised names step {next(iter(values))}, in which nothing is active")
    return proved


def _fits(loads: list[int], workers: int, slots: int, limit: int, nodes: list[int]) -> bool:
    """Whether the loads (descending) can be placed with no worker above `limit`, by trying everything.

    One worker holds the largest load, and some set of smaller ones with it. The set must leave no more
    room than all workers have to spare; and if a further load still fits, moving it there does no harm,
    so only sets into which none fits need a look.
    """
    if not loads:
        return True
    spare = workers * limit - sum(loads)
    elsewhere = (workers - 1) * slots  # slots of the other workers
    if spare < 0 or len(loads) > elsewhere + slots:
        return False
    n, prefix = len(loads), [0, *accumulate(loads)]

    def extend(chosen: list[int], total: int) -> bool:
        nodes[0] -= 1
        if nodes[0] < 0:
            raise CertificateError(f"the searches need more than {_MAX_NODES} nodes")
        room = slots - len(chosen)
        before = 0
        if room:
            for j in range(chosen[-1] + 1, n):
                if total + prefix[min(j + room, n)] - prefix[j] < limit - spare:
                    break  # even the largest ones left leave too much room
                if j - len(chosen) > elsewhere:
                    break  # too many loads were passed over
                if total + loads[j] > limit or loads[j] == before:
                    continue
                if extend([*chosen, j], total + loads[j]):
                    return True
                before = loads[j]
        if total < limit - spare:
            return False
        rest = [load for j, load in enumerate(loads) if j not in chosen]
        if room and rest and total + rest[-1] <= limit:
            return False
        return _fits(rest, workers - 1, slots, limit, nodes)

    return loads[0] <= limit and extend([0], loads[0])


# Schedule (P2): the starts lie in windows


def _latest(inst: Instance, max_wait: Any, latest: Any) -> list[int] | None:
    """Last step in which each request may start, or None without a limit."""
    release = inst.release.tolist()
    last = None
    if max_wait is not None:
        wait = _integer(max_wait, "data.max_wait", 0, 2**53)
        last = [r + wait for r in release]
    if latest is not None:
        given = _integers(latest, "data.latest", len(inst), 0, _LAST_STEP)
        last = given if last is None else [min(pair) for pair in zip(last, given, strict=True)]
        for i, (d, r) in enumerate(zip(last, release, strict=True)):
            if d < r:
                raise CertificateError(f"data.latest[{i}] = {d} lies before the release {r}")
    return last


def _least_steps(inst: Instance, cluster: Cluster, last: list[int] | None) -> int:
    """``K_min``: no schedule has fewer active steps (section 7)."""
    output = inst.output.tolist()
    least = max(max(output, default=0), -(sum(output) // -(cluster.workers * cluster.slots)))
    if last is None:
        return least
    mandatory, covered = 0, -1  # a request runs in all steps d_i .. r_i + o_i - 1, whenever it starts
    for d, end in sorted((d, r + o) for d, r, o in zip(last, inst.release.tolist(), output, strict=True)):
        mandatory += max(0, end - max(d, covered))
        covered = max(covered, end)
    return max(least, mandatory)


def _constant(inst: Instance, cluster: Cluster) -> Fraction:
    """``b*W/G``: what the mean load costs in any schedule."""
    return Fraction(cluster.step_time.per_mean_token) * Fraction(sum(inst.work.tolist()), cluster.workers)


def _schedule_fluid(inst: Instance, cluster: Cluster, data: Any) -> Fraction:
    """``c*K_min + a*max(W/G, max w_i) + b*W/G`` (section 7)."""
    max_wait, latest = fields(data, ("max_wait", "latest"), "data")
    steps = _least_steps(inst, cluster, _latest(inst, max_wait, latest))
    work = [o * s + o * (o - 1) // 2 for s, o in zip(inst.prompt.tolist(), inst.output.tolist(), strict=True)]
    c, a = Fraction(cluster.step_time.fixed), Fraction(cluster.step_time.per_token)
    return c * steps + a * max(Fraction(sum(work), cluster.workers), *work, 0) + _constant(inst, cluster)


def _schedule_lagrangian(inst: Instance, cluster: Cluster, data: Any) -> Fraction:
    """The Lagrangian bound (section 7) of multipliers that are integers over ``2**bits``."""
    names = ("max_wait", "latest", "bits", "theta", "mu", "sigma", "nu", "eta")
    max_wait, latest, bits, theta, mu, sigma, nu, eta = fields(data, names, "data")
    last = _latest(inst, max_wait, latest)
    if last is None:
        raise CertificateError("a lagrangian certificate needs start windows: data.max_wait or data.latest")
    release, prompt, output = inst.release.tolist(), inst.prompt.tolist(), inst.output.tolist()
    GB = cluster.workers * cluster.slots
    # Positions: the steps that some window reaches, without the gaps between them.
    bases: list[tuple[int, int]] = []  # first step of each run of such steps, and its position
    count, covered = 0, -1
    for r, d, o in sorted(zip(release, last, output, strict=True)):
        if r > covered or not bases:
            bases.append((r, count))
            covered = r
        count += max(0, d + o - covered)
        covered = max(covered, d + o)
    mu = _integers(mu, "data.mu", count, 0, _HUGE)
    sigma = _integers(sigma, "data.sigma", count, 0, _HUGE)
    theta, scale = _integer(theta, "data.theta", 0, _HUGE), 2 ** _integer(bits, "data.bits", 0, 1100)
    runs = [bases[bisect_right(bases, (r, count)) - 1] for r in release]
    first = [r - begin + position for r, (begin, position) in zip(release, runs, strict=True)]

    token, step = list(mu), [theta + x for x in sigma]  # totals per position
    own: dict[int, list[tuple[int, int, bool]]] = {}  # per request: steps since its release, multiplier, per token
    for name, entries, totals in (("nu", nu, token), ("eta", eta, step)):
        if not isinstance(entries, list):
            raise CertificateError(f"data.{name} must be a list, got {show(entries)}")
        seen = set()
        for e, entry in enumerate(entries):
            i, k, x = _integers(entry, f"data.{name}[{e}]", 3, 0, _HUGE)
            if i >= len(inst) or not release[i] <= k < last[i] + output[i]:
                raise CertificateError(f"data.{name}[{e}]: request {show(i)} cannot be active in step {show(k)}")
            if (i, k) in seen:
                raise CertificateError(f"data.{name}[{e}] names request {i} and step {k} a second time")
            seen.add((i, k))
            own.setdefault(i, []).append((k - release[i], GB * x, name == "nu"))
            totals[first[i] + k - release[i]] += x
    price = math.floor(Fraction(cluster.step_time.per_token) * scale)
    if max(token, default=0) > price:
        raise CertificateError(f"mu + nu exceed a * 2**bits = {price} in position {token.index(max(token))}")
    rho = sum(max(0, x - math.floor(Fraction(cluster.step_time.fixed) * scale)) for x in step)

    # In units of 1 / (G * B * 2**bits). Sums may wrap round in int64; differences of them are right if
    # every cost fits, and it does below this limit.
    longest = max(output, default=0)
    dear = longest * GB * (price * (max(prompt, default=0) + longest) + max(step, default=0))
    number = np.int64 if dear < 2**62 else object

    def prefix(values: list[int]) -> tuple[Any, Any]:
        """Sums of the first k values, and of the first k values times their positions."""
        array = np.array([0, *values], dtype=number)
        return np.cumsum(array), np.cumsum(array * (np.arange(len(array)).astype(number) - 1))

    token0, token1 = prefix([cluster.slots * x for x in mu])
    slot0, _ = prefix(sigma)
    minima = 0
    for o in set(output):
        load = token0[o:] - token0[:-o]
        rest = token1[o:] - token1[:-o] + slot0[o:] - slot0[:-o] - np.arange(len(load)).astype(number) * load
        for i in np.flatnonzero(inst.output == o).tolist():
            wait = last[i] - release[i]
            starts = slice(first[i], first[i] + wait + 1)
            cost = prompt[i] * load[starts] + rest[starts]
            for j, x, per_token in own.get(i, []):  # active j steps after the release: these starts
                some = slice(max(0, j - o + 1), min(j, wait) + 1)
                cost[some] += x * (prompt[i] + j - np.arange(some.start, some.stop).astype(number)) if per_token else x
            minima += int(cost.min())
    value = GB * (theta * _least_steps(inst, cluster, last) - rho) + minima
    return Fraction(value, GB * scale) + _constant(inst, cluster)


_PROOFS: dict[tuple[str, str], Callable[[Instance, Cluster, Any], int | Fraction]] = {
    ("placement", "fluid"): _placement_fluid,
    ("placement", "item"): _placement_item,
    ("placement", "pigeonhole"): _placement_pigeonhole,
    ("placement", "migration"): _placement_migration,
    ("schedule", "fluid"): _schedule_fluid,
    ("schedule", "lagrangian"): _schedule_lagrangian,
}
