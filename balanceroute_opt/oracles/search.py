"""Incumbents and warm starts for the exact solvers, and the search that makes them better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._validate import Int64Array
from .anytime import improved
from .model import PlacementCase

__all__ = ["greedy", "improve"]


def greedy(case: PlacementCase) -> Int64Array:
    """Each request, by start, to the worker with least load and a free slot; KV capacity is not looked at."""
    load = np.zeros((len(case.steps), case.cluster.workers), np.int64)
    count = np.zeros_like(load)
    worker = np.zeros(len(case), np.int64)
    for i in case.order().tolist():
        b, e = int(case.begin[i]), int(case.end[i])
        free = count[b] < case.cluster.slots
        worker[i] = g = int(np.argmin(np.where(free, load[b], np.iinfo(np.int64).max)))
        load[b:e, g] += case.base[i] + np.arange(b, e)
        count[b:e, g] += 1
    return worker


def improve(
    case: PlacementCase,
    worker: Int64Array,
    seed: int = 0,
    moves: int | None = None,
    time_limit: float = 1.0,
    target: int = 0,
    progress: Callable[[int], None] | None = None,
    cooling: int | None = None,
    beam: bool = False,
) -> tuple[Int64Array, int]:
    """The best placement that a search (:mod:`~balanceroute_opt.oracles.anytime`) finds from `worker`, and its price.

    Parameters
    ----------
    case : PlacementCase
    worker : ndarray of int64, shape (n,)
        Keeps the slots; loads above the KV capacity are priced at 1000 tokens each and worked off.
    seed : int
    moves : int, optional
        Most moves tried. With a number of moves that the time limit does not cut, the result depends on
        the seed alone. By default until the time limit.
    time_limit : float
        Seconds.
    target : int
        A price that cannot be beaten: stop there.
    progress : callable, optional
        Called with each better price.
    cooling : int, optional
        Moves per request of one round of falling temperature.
    beam : bool
        Begin with a beam where slots are short, in small problems too.

    Returns
    -------
    worker : ndarray of int64, shape (n,)
    price : int
        ``peak_sum`` plus 1000 per token above the KV capacity.
    """
    return improved(
        case.begin,
        case.end,
        case.base,
        len(case.steps),
        case.cluster,
        worker,
        seed,
        moves,
        time_limit,
        target,
        progress,
        cooling,
        beam,
    )
