"""Multipliers for the Lagrangian bound on the schedule problem (``docs/model.md``, section 7).

The bound is the dual of the relaxation with workers merged. With ``mu_k + sum_i nu_ik = a`` and
``theta + sigma_k + sum_i eta_ik = c`` in every step, the multipliers are shares: of the price of a token,
between the mean load (``mu``) and single requests' loads (``nu``), and of the price of a step, between
the count ``K_min`` (``theta``), the slots (``sigma``) and single requests (``eta``). The volume algorithm [Barahona
and Anbil 2000] moves the shares along the violations of an average of the minimising starts. That average is
a solution of the relaxation, so it also says how far the multipliers are from the best ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .._validate import Float64Array, Int64Array
from ..errors import InputError
from ..instance import Cluster, Instance
from ..schedule import active_steps

__all__ = ["Multipliers", "Windows", "best_multipliers", "certified"]

_MAX_STEPS = 2 * 10**7
_MOST_RHO = 30.0


@dataclass(frozen=True)
class Windows:
    """The steps that start windows can reach, as one axis of K positions without gaps between uses.

    Attributes
    ----------
    step : ndarray of int64, shape (K,)
        The step of each position.
    first, wait : ndarray of int64, shape (n,)
        Position of each request's release, and ``d_i - r_i``.
    """

    step: Int64Array
    first: Int64Array
    wait: Int64Array

    @classmethod
    def of(cls, inst: Instance, last: Int64Array) -> Windows:
        """The axis of an instance with latest starts `last`."""
        release = inst.release.astype(np.int64)
        wait = last - release
        span = wait + inst.output
        if int(span.max(initial=0)) > _MAX_STEPS:
            raise InputError(
                f"a start window reaches over {int(span.max())} steps, more than {_MAX_STEPS}; use the fluid bound"
            )
        first, step = active_steps(release, span)
        if len(step) > _MAX_STEPS:
            raise InputError(f"start windows reach {len(step)} steps, more than {_MAX_STEPS}; use the fluid bound")
        return cls(step, first, wait)


@dataclass(frozen=True)
class Multipliers:
    """Multipliers as shares of the price that they are bounded by; ``mu`` is what ``nu`` leaves of 1.

    Attributes
    ----------
    theta : float
        Share of c.
    sigma : ndarray of float64, shape (K,)
        Share of c, per position of the axis.
    request, position : ndarray of int64, shape (E,)
        Where ``nu`` and ``eta`` may be positive, sorted by both.
    nu, eta : ndarray of float64, shape (E,)
        Shares of a and c.
    """

    theta: float
    sigma: Float64Array
    request: Int64Array
    position: Int64Array
    nu: Float64Array
    eta: Float64Array


def best_multipliers(
    inst: Instance, cluster: Cluster, windows: Windows, least_steps: int, iterations: int, gap: float = 1e-6
) -> tuple[Multipliers, float, float]:
    """Multipliers near the best ones, their value, and an upper limit on the value of any with these positions.

    Parameters
    ----------
    inst, cluster, windows
    least_steps : int
        ``K_min``.
    iterations : int
        Most evaluations of all starts.
    gap : float
        Stop when value and limit are this close, relatively.

    Returns
    -------
    multipliers : Multipliers
    value, limit : float
        Seconds, without the constant ``b*W/G``.
    """
    from . import _lagrangian

    n, count = len(inst), len(windows.step)
    c, a = cluster.step_time.fixed, cluster.step_time.per_token
    per_step = n if n <= 64 else 8
    request, position = _lagrangian.candidates(
        inst.prompt, inst.output, windows.first, windows.wait, count, min(n, per_step)
    )
    pointer = np.searchsorted(request, np.arange(n + 1))
    by_step = np.argsort(position, kind="stable")
    by_position = (by_step, np.searchsorted(position[by_step], np.arange(count + 1)))
    columns = (inst.prompt, inst.output, windows.first, windows.wait, pointer, position)
    G, GB = cluster.workers, cluster.workers * cluster.slots

    ones, free = np.ones(count), np.zeros(count)
    shares = (1.0, free, ones, free, np.zeros(len(request)), np.zeros(len(request)))
    kept, best, limit = shares, -np.inf, np.inf
    # All starts cost the same at first: begin from the earliest or the latest ones, whichever crowd less.
    ends = [_lagrangian.responses(*columns, windows.first + wait, count) for wait in (0, windows.wait)]
    average = min(ends, key=lambda x: float(np.maximum(x[1] / GB - 1.0, 0.0).sum()))
    pace, failures = 1.0, 0
    for iteration in range(iterations):
        theta, rho, mu, sigma, nu, eta = shares
        cost, start = _lagrangian.minima(*columns, a / G * mu, c / GB * sigma, a * nu, c * eta)
        value = float(cost.sum()) + c * (theta * least_steps - float(rho.sum()))
        new = _lagrangian.responses(*columns, start, count)
        average = tuple(0.1 * x + 0.9 * y for x, y in zip(new, average, strict=True))
        if value > best:
            best, kept, failures, pace = value, shares, 0, min(2.0, 1.1 * pace)
        else:
            failures += 1
            if failures % 5 == 0:
                pace *= 0.66
        # The average of starts solves the relaxation, where it is within the slots, at this cost:
        mean, active, single, busy = average[0] / G, average[1] / GB, average[2], average[3]
        peaks = _lagrangian.largest(mean, single, *by_position)
        on = _lagrangian.largest(active, busy, *by_position)
        over = on - 1.0
        steps = float(np.minimum(on, 1.0).sum())
        limit = min(
            limit,
            a * float(peaks.sum()) + c * (max(least_steps, steps) + _MOST_RHO * float(np.maximum(over, 0.0).sum())),
        )
        if limit - best <= gap * abs(best):
            break
        # Shares move towards what is largest in it. Theta, one for all positions, moves 1/K as far.
        # The first trial puts each token price on what is largest: the optimum if no start has a choice.
        theta, rho, mu, sigma, nu, eta = shares if failures % 20 and iteration > 1 else kept
        tokens = (mu, nu, a * mean, a * single)
        if iteration == 0:
            mu, nu, _ = _lagrangian.moved(*tokens, ones, *by_position, 1e15 / max(float(peaks.max()) * a, 1e-300))
            shares = (theta, rho, mu, sigma, nu, eta)
            continue
        slots = (sigma, eta, c * active, c * busy)
        slope = c * (least_steps - steps)
        steep = (
            _lagrangian.moved(*tokens, ones, *by_position, 0.0)[2]
            + _lagrangian.moved(*slots, ones, *by_position, 0.0)[2]
            + float(((c * over) ** 2)[(rho > 0) | (over > 0)].sum())
            + slope**2 / count
        )
        if steep <= 0:
            break
        length = pace * min(limit - best, 0.05 * abs(best)) / steep
        theta = min(1.0, max(0.0, theta + length * slope / count))
        rho = np.clip(rho + length * c * over, 0.0, _MOST_RHO)
        mu, nu, _ = _lagrangian.moved(*tokens, ones, *by_position, length)
        sigma, eta, _ = _lagrangian.moved(*slots, 1.0 - theta + rho, *by_position, length)
        shares = (theta, rho, mu, sigma, nu, eta)
    theta, _, _, sigma, nu, eta = kept
    return Multipliers(theta, sigma, request, position, nu, eta), best, limit


def certified(
    inst: Instance, cluster: Cluster, windows: Windows, least_steps: int, multipliers: Multipliers
) -> tuple[Fraction, dict[str, Any]] | None:
    """The exact bound of `multipliers` rounded to integers over a power of two, and the certificate's data.

    Seconds, without the constant ``b*W/G``. Whatever the shares are, the result is a valid bound: what they
    leave of the prices goes to ``mu`` and ``sigma``, what they exceed ``a`` by is taken from ``nu``, and what they
    exceed ``c`` by is ``rho``. None if the prices are so large that no power of two keeps costs within int64.
    """
    from . import _lagrangian

    n, count = len(inst), len(windows.step)
    G, GB = cluster.workers, cluster.workers * cluster.slots
    c, a, _ = cluster.step_time.exact()
    longest = int(inst.output.max(initial=1))
    slot = Fraction(multipliers.theta + float(multipliers.sigma.max(initial=0.0)) + 1.0)
    slot += Fraction(float(np.bincount(multipliers.position, multipliers.eta, count).max(initial=0.0)))
    dear = longest * GB * (a * (int(inst.prompt.max(initial=1)) + longest) + c * slot)
    bits = 0 if dear == 0 else math.floor(math.log2(2**61 / dear))
    if bits < 0:
        return None
    bits = min(bits, 1000)
    price, fixed = math.floor(a * 2**bits), math.floor(c * 2**bits)
    nu = np.floor(multipliers.nu * price).astype(np.int64)
    eta = np.floor(multipliers.eta * fixed).astype(np.int64)
    kept = (nu > 0) | (eta > 0)
    request, position, nu, eta = multipliers.request[kept], multipliers.position[kept], nu[kept], eta[kept]
    theta = min(fixed, math.floor(multipliers.theta * fixed))
    mu = np.full(count, price)
    np.subtract.at(mu, position, nu)
    for k in np.flatnonzero(mu < 0):  # rounding of the shares can exceed 1 by a hair
        for e in np.flatnonzero(position == k):
            less = min(nu[e], -mu[k])
            nu[e] -= less
            mu[k] += less
    sigma = np.floor(multipliers.sigma * fixed).astype(np.int64)
    total = theta + sigma
    np.add.at(total, position, eta)
    sigma += np.maximum(fixed - total, 0)
    rho = sum(np.maximum(total - fixed, 0).tolist())

    pointer = np.searchsorted(request, np.arange(n + 1))
    columns = (inst.prompt, inst.output, windows.first, windows.wait, pointer, position)
    cost, _ = _lagrangian.minima(*columns, GB // G * mu, sigma, GB * nu, GB * eta)
    value = Fraction(GB * (theta * least_steps - rho) + sum(cost.tolist()), GB * 2**bits)
    step = windows.step[position]
    data = {"bits": bits, "theta": theta, "mu": mu.tolist(), "sigma": sigma.tolist()}
    for name, x in (("nu", nu), ("eta", eta)):
        data[name] = np.stack((request, step, x), axis=1)[x > 0].tolist()
    return value, data
