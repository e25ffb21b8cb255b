"""Instances whose ratio can be proved: one per level of information (``docs/worst_cases.md`` has the proofs)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from .._validate import integer
from ..errors import InputError
from ..instance import Cluster, Instance
from .batch import Player

__all__ = ["big_request", "big_request_ratio", "survivors", "survivors_ratio"]


def survivors(router: Any, cluster: Cluster, length: int = 64) -> Instance:
    """The unit requests of which only those of one worker live on: lengths unknown [ours], section 8.

    ``G*G`` requests with one prompt token arrive at once. The router, which does not know lengths, puts at least G of
    them on some worker; G of these get `length` output tokens, all others one. Then the peak is at least
    ``G*(1 + k)`` in every step k, and ``1 + k`` would do from the second step on.

    Parameters
    ----------
    router : str or router
        Deterministic. If it knows lengths (a predictor named ``oracle``), it need not fall for this.
    cluster : Cluster
        With at least G slots per worker.
    length : int
        T, >= 1.

    Returns
    -------
    Instance

    Raises
    ------
    InputError
        If there are fewer slots than workers, or the router draws random numbers.
    """
    player = Player(router)
    G, length = cluster.workers, integer(length, "length", 1, 10**6)
    if cluster.slots < G:
        raise InputError(f"the construction needs at least as many slots as workers, got {cluster.slots} for {G}")
    n = G * G
    run = player.run(Instance(np.zeros(n), np.ones(n), np.full(n, length)), cluster)
    first = run.schedule.start == 0
    crowded = int(np.argmax(np.bincount(run.schedule.worker[first], minlength=G)))
    chosen = np.flatnonzero(first & (run.schedule.worker == crowded))[:G]
    output = np.ones(n, np.int64)
    output[chosen] = length
    return Instance(np.zeros(n), np.ones(n), output, name=f"survivors for {player.label}")


def survivors_ratio(workers: int, length: int) -> Fraction:
    """``(G + G*X) / (G + X)`` with ``X = sum_{k=1}^{T-1} (1 + k)``: what :func:`survivors` forces; tends to G."""
    x = sum(1 + k for k in range(1, length))
    return Fraction(workers + workers * x, workers + x)


def big_request(cluster: Cluster, prompt: int = 1000, length: int = 8) -> Instance:
    """Equal requests everywhere, then one as large as G of them: lengths known, arrivals unknown [ours].

    ``G*(G-1)`` requests with `prompt` tokens arrive in step 0, and one with ``G*prompt`` tokens in step 1; all end with
    step `length`. A rule that spreads equal requests equally has ``G - 1`` on every worker when the large one comes,
    and a peak of ``(2*G - 1)*prompt`` and more from then on; with the equal ones on ``G - 1`` workers, G on each, it
    would be ``G*prompt``. This is Graham's example for list scheduling, on temporary tasks.

    Parameters
    ----------
    cluster : Cluster
        With at least G slots per worker, and at least two workers.
    prompt, length : int
        s and T, tokens and steps; ``T >= 2``.

    Returns
    -------
    Instance

    Raises
    ------
    InputError
        If there are fewer slots than workers, or only one worker.
    """
    G, s, T = cluster.workers, integer(prompt, "prompt", 1, 10**8), integer(length, "length", 2, 10**6)
    if G < 2 or cluster.slots < G:
        raise InputError(
            f"the construction needs 2 workers or more and as many slots, got {G} workers x {cluster.slots} slots"
        )
    n = G * (G - 1)
    return Instance([0] * n + [1], [s] * n + [G * s], [T] * n + [T - 1], name=f"a big request after {n} small ones")


def big_request_ratio(workers: int, prompt: int, length: int) -> Fraction:
    """What a rule that spreads equal requests equally pays for :func:`big_request`, over the better placement.

    ``((G-1)*s + sum_{k=1}^{T-1} ((2*G-1)*s + G*k - 1)) / (G*s + sum_{k=1}^{T-1} (G*s + G*k))``, which tends to
    ``2 - 1/G`` where T is large and s much larger. The better placement need not be the best one for small T.
    """
    G, s = workers, prompt
    paid = (G - 1) * s + sum((2 * G - 1) * s + G * k - 1 for k in range(1, length))
    return Fraction(paid, G * s + sum(G * s + G * k for k in range(1, length)))
