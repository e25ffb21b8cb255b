"""The exact worst hindsight ratio of a router over a whole family of instances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .._validate import Int64Array
from ..errors import InputError
from ..instance import Cluster, Instance
from ..oracles.many import prices_and_optima
from ..simulator import Run
from .batch import Player, largest_ratio, prices
from .families import Family

__all__ = ["WorstCase", "worst_case"]


@dataclass(frozen=True, eq=False, repr=False)
class WorstCase:
    """The worst instance of a family for a router; made by :func:`worst_case`.

    Attributes
    ----------
    router : str
    family : Family
    cluster : Cluster
    ratio : Fraction
        ``peak_sum`` of the run over that of the best placement with the same starts, the largest in the family.
    instance : Instance
        The first one that reaches it; the one with fewest requests comes first.
    run : Run
        Of the router on it.
    optimum : int
        Its least ``peak_sum``.
    examined : int
        Instances of the family.
    reached : int
        How many of them reach the ratio.
    """

    router: str
    family: Family
    cluster: Cluster
    ratio: Fraction
    instance: Instance
    run: Run
    optimum: int
    examined: int
    reached: int

    def __str__(self) -> str:
        return (
            f"{self.router} on {self.cluster.workers} workers x {self.cluster.slots} slots: no instance of the family "
            f"({self.family}; {self.examined:,} instances) has a hindsight ratio above {self.ratio} = "
            f"{float(self.ratio):.4f}; {self.reached:,} reach it"
        )

    __repr__ = __str__


def worst_case(
    router: Any, family: Family, cluster: Cluster, progress: Callable[[int, int], None] | None = None
) -> WorstCase:
    """The largest ratio of ``peak_sum`` to the best placement of the same starts, over a family [ours].

    Every instance is simulated and its optimum enumerated. For the built-in rules that forget everything when the
    workers are idle, many instances run one after the other in one simulation; the worst one is then replayed alone.

    Parameters
    ----------
    router : str or router
        As in :func:`~balanceroute_opt.compare`; not one that draws random numbers.
    family : Family
    cluster : Cluster
        Without KV capacity.
    progress : callable, optional
        Called with the number of instances examined, and a bound on all.

    Returns
    -------
    WorstCase

    Raises
    ------
    InputError
        If the router is random, or the cluster has a KV capacity.
    RouterError
        If the router gives an answer that the model does not allow.

    Examples
    --------
    >>> family = Family(requests=3, prompts=(1,), outputs=(1, 3), releases=0)
    >>> worst_case("least-kv", family, Cluster(workers=2, slots=3)).ratio
    Fraction(12, 7)
    """
    player = Player(router)
    if cluster.kv_capacity is not None:
        raise InputError("worst cases are for clusters without a KV capacity")
    best, examined, reached = (0, 1), 0, 0
    worst: tuple[Int64Array, Int64Array, Int64Array] | None = None
    limit = family.bound_on_count()
    for release, prompt, output in family.blocks():
        price, optimum = prices(player, cluster, list(zip(release, prompt, output, strict=True)))
        examined += len(price)
        j = largest_ratio(price, optimum)
        if int(price[j]) * best[1] > best[0] * int(optimum[j]):
            best, reached = (int(price[j]), int(optimum[j])), 0
            worst = (release[j], prompt[j], output[j])
        # Products fit: a tiny instance has few tokens.
        reached += int((price * best[1] == best[0] * optimum).sum())
        if progress is not None:
            progress(examined, limit)
    assert worst is not None  # a family has the instance of one request
    inst = Instance(*worst)
    run = player.run(inst, cluster)
    _, alone = prices_and_optima(
        inst, cluster, run.schedule.start, run.schedule.worker, np.array([0, len(inst)], np.int64)
    )
    ratio = Fraction(*best)
    if Fraction(run.peak_sum, int(alone[0])) != ratio:
        raise InputError(f"{player.label} decides otherwise on the instance alone: it remembers what came before")
    return WorstCase(player.label, family, cluster, ratio, inst, run, int(alone[0]), examined, reached)
