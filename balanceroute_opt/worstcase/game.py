"""The online game on a family: how well any online rule could do, and how well any rule that may toss coins.

The adversary reveals arrivals (and, at last, ends), the player places every request at once and for good. Slots never
bind (at least as many per worker as requests), so that no rule has a reason to wait but to see more; rules that wait
are another game, since their admission steps are their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import combinations_with_replacement, product
from typing import Any, Literal, NamedTuple

import numpy as np

from .._validate import integer
from ..errors import InputError
from ..instance import Cluster, Instance
from ..oracles.many import prices_and_optima
from .families import Family

__all__ = ["GameValue", "Request", "check_information", "game_value", "least_peak_sum"]

Information = Literal["lengths unknown", "lengths known"]

_INFORMATION = ("lengths unknown", "lengths known")


class Request(NamedTuple):
    """A request as the player knows it: `output` is 0 while it is unknown."""

    release: int
    prompt: int
    output: int


_Worker = tuple[Request, ...]


@dataclass(frozen=True)
class GameValue:
    """The value of the online game on a family; made by :func:`game_value`.

    Attributes
    ----------
    value : Fraction
        The least ratio that a deterministic online rule without waiting can guarantee over the family, and some
        instance forces it on every such rule.
    family : Family
    workers : int
    information : {"lengths unknown", "lengths known"}
    states : int
        Positions of the game that were evaluated.
    opening : tuple
        What an optimal player does against an optimal adversary: per step the prompts (and outputs, where known) that
        each worker is given.
    """

    value: Fraction
    family: Family
    workers: int
    information: str
    states: int
    opening: tuple[tuple[tuple[tuple[int, int], ...], ...], ...]

    def __str__(self) -> str:
        moves = []
        for k, step in enumerate(self.opening):
            given = [
                f"worker {g}: {', '.join(str(s) if not o else f'{s} for {o} steps' for s, o in items)}"
                for g, items in enumerate(step)
                if items
            ]
            moves.append(f"step {k}: {'; '.join(given)}" if given else f"step {k}: nothing arrives")
        return (
            f"{self.workers} workers, {self.information}: no deterministic rule that places at once guarantees less "
            f"than {self.value} = {float(self.value):.4f} on the family ({self.family}), and one guarantees it. "
            f"Optimal play: {'. '.join(moves)}."
        )


@lru_cache(maxsize=2**20)
def least_peak_sum(requests: tuple[Request, ...], workers: int) -> int:
    """The least ``peak_sum`` of requests that start when they are released."""
    release, prompt, output = np.array(requests, np.int64).T
    inst, everywhere = Instance(release, prompt, output), np.zeros(len(requests), np.int64)
    cluster, whole = Cluster(workers, len(requests)), np.array([0, len(requests)], np.int64)
    return int(prices_and_optima(inst, cluster, release, everywhere, whole)[1][0])


class _Game:
    def __init__(self, family: Family, workers: int, known: bool) -> None:
        self.family, self.workers, self.known = family, workers, known
        self.longest = max(family.outputs)
        self.memo: dict[Any, Fraction] = {}

    # A position before step k: what is active on each worker, what has ended, what has been paid.

    def arrivals(self, left: int, must: bool) -> Iterator[tuple[tuple[int, int], ...]]:
        """Every multiset of at most `left` arrivals; at least one if `must`."""
        outputs = self.family.outputs if self.known else (0,)
        kinds = list(product(self.family.prompts, outputs))
        for n in range(int(must), left + 1):
            yield from combinations_with_replacement(kinds, n)

    def placements(
        self, active: tuple[_Worker, ...], k: int, came: tuple[tuple[int, int], ...]
    ) -> Iterator[tuple[_Worker, ...]]:
        """Every way to place the arrivals, up to names of workers."""
        seen = set()
        for choice in product(range(self.workers), repeat=len(came)):
            boxes = [list(items) for items in active]
            for g, (s, o) in zip(choice, came, strict=True):
                boxes[g].append(Request(k, s, o))
            key = tuple(sorted(tuple(sorted(box)) for box in boxes))
            if key not in seen:
                seen.add(key)
                yield key

    def ends(self, active: tuple[_Worker, ...], k: int) -> Iterator[tuple[tuple[_Worker, ...], tuple[Request, ...]]]:
        """Every way in which requests may end with step k: what is left, and what has ended."""
        options: list[list[tuple[_Worker, tuple[Request, ...]]]] = []
        for items in active:
            may: list[tuple[bool, ...]] = []
            found: dict[tuple[_Worker, tuple[Request, ...]], None] = {}
            for item in items:
                length = k - item.release + 1
                if self.known:
                    may.append((length == item.output,))
                elif length in self.family.outputs:
                    may.append((True,) if length == self.longest else (False, True))
                else:
                    may.append((False,))
            for choice in product(*may):
                stay = tuple(item for item, done in zip(items, choice, strict=True) if not done)
                gone = tuple(
                    item._replace(output=k - item.release + 1) for item, done in zip(items, choice, strict=True) if done
                )
                found[stay, gone] = None
            options.append(list(found))
        for combination in product(*options):
            boxes = tuple(sorted(stay for stay, _ in combination))
            yield boxes, tuple(item for _, gone in combination for item in gone)

    def adversary(self, k: int, active: tuple[_Worker, ...], ended: tuple[Request, ...], paid: int) -> Fraction:
        """Value before the arrivals of step k."""
        key = (k, active, ended, paid)
        known = self.memo.get(key)
        if known is not None:
            return known
        present = sum(map(len, active))
        left = self.family.requests - present - len(ended)
        best = Fraction(0)
        if not present and ended:
            # Later arrivals would make an instance that falls apart.
            best = Fraction(paid, least_peak_sum(tuple(sorted(ended)), self.workers))
        else:
            open_ = left if k <= self.family.releases else 0
            for came in self.arrivals(open_, must=not present):
                best = max(best, self.player(k, active, ended, paid, came)[0])
        self.memo[key] = best
        return best

    def player(
        self,
        k: int,
        active: tuple[_Worker, ...],
        ended: tuple[Request, ...],
        paid: int,
        came: tuple[tuple[int, int], ...],
    ) -> tuple[Fraction, tuple[_Worker, ...]]:
        """Value of the best placement of the arrivals, and the placement."""
        best: tuple[Fraction, tuple[_Worker, ...]] | None = None
        for boxes in self.placements(active, k, came):
            value = self.step(k, boxes, ended, paid)
            if best is None or value < best[0]:
                best = value, boxes
        assert best is not None
        return best

    def step(self, k: int, boxes: tuple[_Worker, ...], ended: tuple[Request, ...], paid: int) -> Fraction:
        """Value after the placement: the step is paid, the adversary chooses what ends."""
        paid += max(sum(item.prompt + k - item.release for item in items) for items in boxes)
        return max(
            self.adversary(k + 1, stay, tuple(sorted((*ended, *gone))), paid) for stay, gone in self.ends(boxes, k)
        )

    def opening(self) -> tuple[tuple[tuple[tuple[int, int], ...], ...], ...]:
        """The placements along one line of optimal play."""
        k, paid = 0, 0
        active: tuple[_Worker, ...] = ((),) * self.workers
        ended: tuple[Request, ...] = ()
        line = []
        while k <= self.family.releases and (any(active) or not ended):
            open_ = self.family.requests - sum(map(len, active)) - len(ended)
            value = self.adversary(k, active, ended, paid)
            for came in self.arrivals(open_, must=not any(active)):
                found, boxes = self.player(k, active, ended, paid, came)
                if found == value:
                    break
            line.append(tuple(tuple((x.prompt, x.output) for x in items if x.release == k) for items in boxes))
            paid += max(sum(item.prompt + k - item.release for item in items) for items in boxes)
            for stay, gone in self.ends(boxes, k):
                after = tuple(sorted((*ended, *gone)))
                if self.adversary(k + 1, stay, after, paid) == value:
                    active, ended = stay, after
                    break
            k += 1
        return tuple(line)


def game_value(family: Family, workers: int, information: Information = "lengths unknown") -> GameValue:
    """The least ratio of ``peak_sum`` that a deterministic online rule can guarantee over a family [ours].

    The rule sees arrivals of a step together, places them at once, and learns lengths on arrival or when requests end.
    The game tree is evaluated in rationals, positions that differ by names of workers and requests once.

    Parameters
    ----------
    family : Family
    workers : int
    information : {"lengths unknown", "lengths known"}

    Returns
    -------
    GameValue

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> game_value(Family(3, (1,), (1, 3)), workers=2).value
    Fraction(12, 7)
    >>> game_value(Family(3, (1,), (1, 3)), workers=2, information="lengths known").value
    Fraction(1, 1)
    """
    workers = integer(workers, "workers", 1, 64)
    game = _Game(family, workers, check_information(information) == "lengths known")
    value = game.adversary(0, ((),) * workers, (), 0)
    return GameValue(value, family, workers, information, len(game.memo), game.opening())


def check_information(value: Any) -> Any:
    """`value`, if it is a level of information."""
    if value not in _INFORMATION:
        raise InputError(f"information must be {' or '.join(map(repr, _INFORMATION))}, got {value!r}")
    return value
