"""An adversary that watches: it decides arrivals and ends from where a router has put the requests so far."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._validate import Int64Array
from ..instance import Cluster, Instance
from ..schedule import Schedule
from .batch import Player, largest_ratio, prices
from .families import Family

__all__ = ["adaptive"]

_OPEN = 0  # an output that is not decided yet
_ALL, _NONE = -2, -1  # in place of the worker whose requests are spared

_Requests = list[tuple[int, int, int]]  # release, prompt, output


def adaptive(router: Any, cluster: Cluster, family: Family) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Columns of an instance that a watching adversary makes for a deterministic router [ours].

    Before each step it chooses which requests arrive, after it which of the active ones end: none, all, or all but
    those of one worker. A choice is valued by the largest ratio that it can still come to if nothing else arrives and,
    as soon as they can, all requests end but those of one worker, which live as long as the family allows; the best one
    is taken. A router that does not know lengths decides the same again when the instance is replayed, since it saw the
    same.

    Parameters
    ----------
    router : str or router
    cluster : Cluster
    family : Family
        Most requests, their prompts and outputs, and the last release.

    Returns
    -------
    release, prompt, output : ndarray of int64
    """
    adversary = _Adversary(Player(router), cluster, family)
    requests: _Requests = []
    for k in range(family.releases + adversary.longest):
        if k <= family.releases:
            requests = adversary.best(adversary.arrivals(requests, k), k)
        if any(x[2] == _OPEN for x in requests):
            requests = adversary.best(adversary.ends(requests, k), k + 1)
        elif k >= family.releases:
            break
    return adversary.closed(requests)


class _Adversary:
    def __init__(self, player: Player, cluster: Cluster, family: Family) -> None:
        self.player, self.cluster, self.family = player, cluster, family
        self.longest = max(family.outputs)

    def arrivals(self, requests: _Requests, k: int) -> list[_Requests]:
        """Nothing (unless there is nothing yet), or some requests of one size in step k."""
        left = self.family.requests - len(requests)
        workers = self.cluster.workers
        counts = sorted({c for c in (1, workers, workers**2, left) if 0 < c <= left})
        more: list[_Requests] = [[(k, s, _OPEN)] * c for s in self.family.prompts for c in counts]
        return ([requests] if requests else []) + [requests + batch for batch in more]

    def ends(self, requests: _Requests, k: int) -> list[_Requests]:
        """None of those that can end with step k do, or all, or all but those of one worker."""
        schedule = self.simulated(requests)
        options = []
        for spared in (_ALL, _NONE, *range(self.cluster.workers)):
            option = list(requests)
            for i, (r, s, o) in enumerate(requests):
                age = k - int(schedule.start[i]) + 1
                ended = spared != _ALL and schedule.worker[i] != spared and age in self.family.outputs
                if o == _OPEN and (ended or age == self.longest):
                    option[i] = (r, s, age)
            options.append(option)
        return options

    def best(self, options: list[_Requests], k: int) -> _Requests:
        """The choice that can come to the largest ratio by ends with step k or later."""
        columns, owner = [], []
        for j, option in enumerate(options):
            schedule = self.simulated(option)
            for spared in (_ALL, *range(self.cluster.workers)):
                closed = []
                for i, (r, s, o) in enumerate(option):
                    if o == _OPEN:
                        age = k - int(schedule.start[i]) + 1
                        ended = spared != _ALL and schedule.worker[i] != spared
                        later = [x for x in self.family.outputs if x >= age]
                        o = min(later) if ended and later else self.longest
                    closed.append((r, s, o))
                columns.append(self.closed(closed))
                owner.append(j)
        return options[owner[largest_ratio(*prices(self.player, self.cluster, columns))]]

    def simulated(self, requests: _Requests) -> Schedule:
        """Where the router puts the requests, as long as those without an end go on."""
        return self.player.run(Instance(*self.closed(requests)), self.cluster).schedule

    def closed(self, requests: _Requests) -> tuple[Int64Array, Int64Array, Int64Array]:
        release, prompt, output = np.array(requests, np.int64).reshape(-1, 3).T
        return release.copy(), prompt.copy(), np.where(output == _OPEN, self.longest, output)
