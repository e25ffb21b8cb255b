"""Placement (P1): exhausted search trees over *words*, the workers of the requests one after the other.

Workers are numbered by first occurrence, which names every placement up to a permutation of workers once.
Active steps are numbered 0, 1, ... (*positions*), idle ones left out. Why each leaf is closed is proved in
``docs/certificates.md``.
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ..errors import CertificateError
from ..instance import Cluster, Instance
from ._placement import peaks, positions, starts
from .format import INFEASIBLE, LAST_STEP, bytes_of, fields, integer, integers, items, show

_SCALE = 255  # the weights of a stretch add up to it
_MAX_TABLE = 10**7  # entries of the loads of a part
_MAX_TOTAL = 2**50  # token-steps of a part: 2048 times it fits int64, and no sum below is larger
_MAX_WORK = 5 * 10**10  # entries that all leaves together look at
_MAX_PREFIXES = 10**6  # of enumeration


class _Part:
    """The placement problem on positions ``cut[0] .. cut[-1] - 1``, and the word at hand with its loads.

    `load` holds the requests' loads, `placed` and `count` tokens and requests of the workers, per position. Stretch s
    is the positions ``cut[s] .. cut[s + 1] - 1``; `merged` holds the requests' loads summed over stretches.
    """

    def __init__(self, cluster: Cluster, cut: list[int], requests: list[tuple[int, int, int]]) -> None:
        m, G, K = len(requests), cluster.workers, cut[-1] - cut[0]
        self.work = 10**4 + (m + G) * K  # of a leaf
        if (m + G) * K > _MAX_TABLE or sum((s + e) * (e - b) for b, e, s in requests) > _MAX_TOTAL:
            raise CertificateError(f"{m} requests and {G} workers in {K} steps are too much to be replayed")
        self.cluster, self.cut, self.size = cluster, np.array(cut[:-1]) - cut[0], m
        position = np.arange(cut[0], cut[-1])
        begin, end, prompt = np.array(requests).T[:, :, None]
        self.load = np.where((begin <= position) & (position < end), prompt - begin + position, 0)
        self.merged = np.add.reduceat(self.load, self.cut, axis=1)
        self.placed, self.count = np.zeros((2, G, K), np.int64)
        self.word: list[int] = []
        largest = [np.zeros((2, len(cut) - 1), np.int64)]  # two largest of no requests, the last, the last two, ...
        for row in self.merged[::-1]:
            largest.append(np.sort([*largest[-1], row], axis=0)[1:])
        self.largest = largest[::-1]

    def push(self, g: int) -> None:
        """Lengthen the word by a letter: the next request is on worker g."""
        row = self.load[len(self.word)]
        self.placed[g] += row
        self.count[g] += row > 0
        self.word.append(g)

    def advance(self) -> bool:
        """Go to the first word behind all that begin with this one; False if there is none."""
        while self.word:
            g, row = self.word.pop(), self.load[len(self.word)]
            self.placed[g] -= row
            self.count[g] -= row > 0
            if g < min(max(self.word, default=-1) + 1, self.cluster.workers - 1):
                self.push(g + 1)
                return True
        return False

    def infeasible(self) -> bool:
        """Whether the requests of the word alone break slots or KV capacity in some step."""
        capacity = self.cluster.kv_capacity
        return bool(self.count.max() > self.cluster.slots or (capacity is not None and self.placed.max() > capacity))

    def price(self) -> int:
        """Summed peaks of the requests of the word."""
        return int(self.placed.max(axis=0).sum())

    def floors(self, known: Any) -> tuple[Any, Any]:
        """Placed loads summed over stretches, and a bound on the summed peaks of each, however the word goes on."""
        placed = np.add.reduceat(self.placed, self.cut, axis=1)
        v, u = self.largest[len(self.word)]
        least = np.sort(placed, axis=0)
        a, b = least[0], least[1] if len(least) > 1 else least[0] + u + v
        apart = np.minimum(np.maximum(a + u, b + v), np.maximum(a + v, b + u))
        return placed, np.maximum(np.maximum(known, least[-1]), np.minimum(a + u + v, apart))

    def lagrangian(self, known: Any, weights: Any, where: str) -> int:
        """255 times the Lagrangian bound on the price of all words that begin with this one."""
        placed, floors = self.floors(known)
        p = bytes_of(weights, where, *placed.shape)
        q = _SCALE - p.sum(axis=0)
        if q.min() < 0:
            raise CertificateError(f"{where}: the weights of a stretch add up to more than {_SCALE}")
        unplaced = (p @ self.merged[len(self.word) :].T).min(axis=0)
        return int((q * floors).sum() + (p * placed).sum() + unplaced.sum())


def _axis(inst: Instance, start: list[int]) -> list[tuple[int, int, int]]:
    """First position of each request, the one behind its last, and its prompt."""
    begin, _ = positions(start, (np.array(start, np.int64) + inst.output).tolist())
    return [(b, b + o, s) for b, o, s in zip(begin, inst.output.tolist(), inst.prompt.tolist(), strict=True)]


def tree(inst: Instance, cluster: Cluster, data: Any) -> float:
    """Parts of the steps, each with a tree whose leaves cost its claim or are infeasible; the rest as `migration`."""
    start, raised, parts = fields(data, ("start", "raised", "parts"), "data")
    start = starts(inst, start)
    floor, axis = peaks(inst, cluster, start, "migration", raised), _axis(inst, start)
    begin, end = np.array(axis).reshape(-1, 3).T[:2]
    proved: float = 0
    covered, work = 0, _MAX_WORK
    for j, entry in enumerate(items(parts, "data.parts")):
        where = f"data.parts[{j}]"
        claim, cut, order, leaves = fields(entry, ("claim", "cut", "order", "leaves"), where)
        claim = math.inf if claim == INFEASIBLE else integer(claim, f"{where}.claim", 0, LAST_STEP)
        cut = integers(cut, f"{where}.cut", covered, len(floor))
        if len(cut) < 2 or any(a >= b for a, b in pairwise(cut)):
            raise CertificateError(f"{where}.cut must be two or more ascending positions")
        order = integers(order, f"{where}.order", 0, len(inst) - 1)
        if sorted(order) != np.flatnonzero((begin < cut[-1]) & (end > cut[0])).tolist():
            raise CertificateError(f"{where}.order must name every request that is active in the part, once")
        part = _Part(cluster, cut, [axis[i] for i in order])
        work -= part.work * len(items(leaves, f"{where}.leaves"))
        if work < 0:
            raise CertificateError(f"{where}.leaves: the trees are too large to be replayed")
        known = np.array([sum(floor[a:b]) for a, b in pairwise(cut)])
        _replay(part, known, claim, leaves, f"{where}.leaves")
        proved += sum(floor[covered : cut[0]]) + max(claim, int(known.sum()))
        covered = cut[-1]
    return proved + sum(floor[covered:])


def _replay(part: _Part, known: Any, claim: float, leaves: list[Any], where: str) -> None:
    """Check that the leaves are those of a complete tree, in depth-first order, and that each is closed."""
    more = True
    for e, leaf in enumerate(leaves):
        name = f"{where}[{e}]"
        if not more:
            raise CertificateError(f"{name} lies behind the last leaf of the tree")
        word = integers((items(leaf, name) or [None])[0], f"{name}[0]", 0, part.cluster.workers - 1)
        depth = len(part.word)
        # The part is at the first word that is not covered yet; the leaf is some first prefix below it.
        if len(word) > part.size or word[:depth] != part.word or any(word[depth:]):
            raise CertificateError(f"{name}[0] must be {show(part.word)}, then any number of workers 0")
        for _ in word[depth:]:
            part.push(0)
        match leaf[1:]:
            case ["full"]:
                closed = part.infeasible()
            case ["placed"] if len(word) == part.size:
                closed = part.price() >= claim or part.infeasible()
            case ["step"]:
                closed = int(part.floors(known)[1].sum()) >= claim
            case ["lagrangian", weights]:
                closed = part.lagrangian(known, weights, f"{name}[2]") > _SCALE * (claim - 1)
            case _:
                raise CertificateError(f"{name}: nothing closes a leaf of {len(word)} requests by {show(leaf[1:])}")
        if not closed:
            raise CertificateError(f"{name}: {leaf[1]} does not close it at {show(claim)}")
        more = part.advance()
    if more:
        raise CertificateError(f"{where}: leaves are missing from {show(part.word)} on")


def enumeration(inst: Instance, cluster: Cluster, data: Any) -> float:
    """The optimum: every word of every connected component, but for those below a prefix that costs too much itself."""
    (start,) = fields(data, ("start",), "data")
    peaks(inst, cluster, starts(inst, start), "fluid")  # refuses overfull steps
    axis = sorted(_axis(inst, start))
    reach = list(accumulate((e for _, e, _ in axis), max))
    proved: float = 0
    left = _MAX_PREFIXES
    borders = [j for j, (b, _, _) in enumerate(axis) if j == 0 or b >= reach[j - 1]]  # nothing before is still active
    for a, z in pairwise([*borders, len(axis)]):
        part = _Part(cluster, [axis[a][0], reach[z - 1]], axis[a:z])
        best, more = math.inf, True
        while more:
            left -= 1 + part.work // 10**5
            if left < 0:
                raise CertificateError(f"enumeration needs more than {_MAX_PREFIXES} prefixes")
            price = math.inf if part.infeasible() else part.price()
            if price < best and len(part.word) < part.size:
                part.push(0)
            else:
                best = min(best, price)
                more = part.advance()
        proved += best
    return proved
