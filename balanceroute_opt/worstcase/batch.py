"""Ratios of many small instances at once: one simulation and one compiled loop for all, where the router allows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._validate import Int64Array
from ..errors import InputError
from ..experiments.specs import router_from
from ..instance import Cluster, Instance
from ..oracles.many import prices_and_optima
from ..simulator import Run, simulate

__all__ = ["Player", "largest_ratio", "prices"]

# Their decisions depend on nothing that was before the workers were last idle, so that one run can hold many
# instances, one after the other.
_FORGETFUL = frozenset(
    (
        "br-0",
        "br-0-least-load",
        "br-h",
        "jsq",
        "least-kv",
        "lpt",
        "vllm",
        "vllm-kv",
        "sglang-tokens",
        "tpu-minmax",
        "trtllm-adp",
    )
)


class Player:
    """A deterministic router, made once from its spec, and fresh for every run.

    Parameters
    ----------
    router : str, router or Player
        As in :func:`~balanceroute_opt.compare`.

    Raises
    ------
    InputError
        If it draws random numbers.
    """

    def __init__(self, router: Any) -> None:
        self.label: str
        self._made: Any
        if isinstance(router, Player):
            self.label, self._made = router.label, router._made
        else:
            self.label, self._made = router_from(router)
        if getattr(self._made, "random", False):
            raise InputError(f"{self.label} draws random numbers; the adversary needs a deterministic router")

    def run(self, inst: Instance, cluster: Cluster) -> Run:
        """Its run on an instance."""
        return simulate(inst, cluster, router_from(self._made)[1])


def prices(
    router: Any, cluster: Cluster, columns: Sequence[tuple[Int64Array, Int64Array, Int64Array]]
) -> tuple[Int64Array, Int64Array]:
    """``peak_sum`` of the router and the least one for its starts, of every instance.

    Parameters
    ----------
    router : str, router or Player
    cluster : Cluster
    columns : sequence of (release, prompt, output)
        One triple per instance, requests in any order.

    Returns
    -------
    price, optimum : ndarray of int64, token-steps
    """
    sizes = np.array([len(release) for release, _, _ in columns], np.int64)
    first = np.concatenate(([0], np.cumsum(sizes)))
    release, prompt, output = (np.concatenate([c[j] for c in columns]) for j in range(3))
    player = Player(router)
    if player.label in _FORGETFUL:
        # By then an instance has ended, however few slots there are.
        spans = np.array([int(r.max() + o.sum()) + 1 for r, _, o in columns], np.int64)
        shift = np.repeat(np.concatenate(([0], np.cumsum(spans)[:-1])), sizes)
        inst = Instance(release + shift, prompt, output)
        schedule = player.run(inst, cluster).schedule
        return prices_and_optima(inst, cluster, schedule.start, schedule.worker, first)
    price, optimum = np.empty(len(columns), np.int64), np.empty(len(columns), np.int64)
    for j, (r, s, o) in enumerate(columns):
        inst = Instance(r, s, o)
        schedule = player.run(inst, cluster).schedule
        (price[j],), (optimum[j],) = prices_and_optima(
            inst, cluster, schedule.start, schedule.worker, np.array([0, len(r)], np.int64)
        )
    return price, optimum


def largest_ratio(price: Int64Array, optimum: Int64Array) -> int:
    """The first position of the largest ratio, exactly."""
    shares = price / optimum
    near = np.flatnonzero(shares >= shares.max() * (1 - 1e-12))
    best = int(near[0])
    for j in near[1:].tolist():
        if int(price[j]) * int(optimum[best]) > int(price[best]) * int(optimum[j]):
            best = j
    return best
