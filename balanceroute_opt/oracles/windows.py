"""``window(T)``: active steps cut into windows, each a small placement problem by itself [ours].

Requests are sticky inside a window and may move freely between two, so that the sum of the windows' optima, or of lower
bounds on them, is a lower bound on P1 (``docs/model.md``, section 7). Each window gets a branch and bound
(``branch.py``) with a limit; where it does not suffice, its halves get half the effort each, and the better
bound counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._validate import Int64Array
from ..certificates import Bound
from ..instance import MAX_TOKENS, Cluster, Instance
from . import branch
from .floors import step_bounds
from .model import PlacementCase
from .search import greedy, improve

__all__ = [
    "Part",
    "bound_by_halves",
    "by_halves",
    "fewest_requests",
    "middle",
    "promising",
    "replayable",
    "shifted",
    "window_bound",
    "work",
]

_MOVES = 1000  # of annealing, per request
_MEMORY = 2**27  # bytes of the open nodes of a window
_LEAVES = 60_000  # of one certificate, as of all trees that this package writes
_MOST_WORK = 5 * 10**10  # entries that the leaves of one certificate make the verifier look at
_MOST_TABLE = 10**7  # entries of one part
_LENGTHS = (5, 10, 20, 40, 80, 160)  # of windows, that a choice is between
_SHARE = 0.1  # of the time limit, for the choice

Trees = list[tuple[int, int, dict[str, Any]]]
"""What each tree gains over the floor of its positions, what it makes the verifier look at, and the tree."""


@dataclass
class Part:
    """Lower bound on the summed peaks of some consecutive positions, and the trees that prove it.

    Attributes
    ----------
    bound : int
    floor : int
        The sum of what is known step by step (``migration``).
    nodes : int
    trees : list of (gain, work, part of a certificate)
        What each gains over the floor of its positions, and what it makes the verifier look at. All of them together
        prove `bound`, unless one was too large.
    """

    bound: int
    floor: int
    nodes: int = 0
    trees: Trees = field(default_factory=list)


def middle(case: PlacementCase) -> int:
    """The middle position: windows of T steps have the windows of T/2 steps as halves."""
    return len(case.steps) // 2


def fewest_requests(case: PlacementCase) -> int:
    """The position where the larger half has as few requests as possible."""
    count = len(case.steps)
    before = np.searchsorted(np.sort(case.begin), np.arange(1, count), side="left")
    after = len(case) - np.searchsorted(np.sort(case.end), np.arange(1, count), side="right")
    return 1 + int(np.argmin(np.maximum(before, after))) if count > 1 else 0


def cut(case: PlacementCase, low: int, high: int, inside: Int64Array | None = None) -> tuple[PlacementCase, Int64Array]:
    """The positions ``low .. high - 1`` as a case of its own, and its requests (of `inside`, by default of all)."""
    here = np.flatnonzero((case.begin < high) & (case.end > low)) if inside is None else inside
    begin, end = np.maximum(case.begin[here], low), np.minimum(case.end[here], high)
    inst = Instance(begin - low, case.base[here] + begin, end - begin)
    part = PlacementCase(
        inst, case.cluster, begin - low, begin - low, end - low, case.base[here] + low, np.arange(high - low),
        case.floor[low:high],
    )  # fmt: skip
    return part, here


def bound_by_halves(
    case: PlacementCase,
    nodes: int,
    seconds: float,
    leaves: int = 0,
    memory_limit: int = _MEMORY,
    halve: Callable[[PlacementCase], int] = middle,
    moves: int = _MOVES,
    share: float = 0.5,
) -> Part:
    """Bound a case by a search of that many nodes and seconds, and by its halves where this does not close it.

    Parameters
    ----------
    case : PlacementCase
    nodes : int
        Of the search on the whole; each half gets half of them, and so on.
    seconds : float
        For all of it; the search on the whole takes up to `share` of them.
    leaves : int
        Most leaves of each tree that is kept as evidence; 0: none is kept.
    memory_limit : int
        Bytes for the open nodes of a search.
    halve : callable
        The position at which to cut.
    moves : int
        Of annealing, per request: a good placement closes the tree sooner.
    share : float
    """
    end_time = time.perf_counter() + seconds
    floor = int(case.floor.sum())
    if len(case.steps) < 2 or seconds <= 0 or nodes < 1 or not branch.fits(case):
        return Part(floor, floor)
    _, price = improve(case, greedy(case), 0, moves * len(case), 0.3 * share * seconds, floor, cooling=moves)
    if price <= floor:
        return Part(floor, floor)
    problem = branch.window(case)
    # Memory for more nodes than may be open has to be filled all the same.
    m, workers = len(problem.request), problem.workers
    open_node = m + m * workers + len(problem.floor) * workers + 24
    search = branch.Search(problem, price, min(memory_limit, 2 * (nodes + 1000) * open_node))
    search.run(share * seconds, nodes)
    found = Part(max(search.bound, floor), floor, search.nodes)
    if not search.done:
        left = end_time - time.perf_counter()
        halves = by_halves(case, nodes // 2, left, memory_limit, leaves, halve, moves, share)
        found.nodes += halves.nodes
        if halves.bound >= found.bound:
            halves.nodes = found.nodes
            return halves
    if leaves and found.bound > floor:
        left = max(0.25 * seconds, end_time - time.perf_counter())
        memory = min(memory_limit, 4 * (search.nodes + 1000) * open_node)
        tree = branch.prove(problem, found.bound, leaves, memory, left)
        if tree is not None:
            found.trees.append((found.bound - floor, work(case, tree), tree))
    return found


def by_halves(
    case: PlacementCase,
    nodes: int,
    seconds: float,
    memory_limit: int = _MEMORY,
    leaves: int = 0,
    halve: Callable[[PlacementCase], int] = fewest_requests,
    moves: int = 20 * _MOVES,
    share: float = 0.7,
) -> Part:
    """The sum of the bounds of a case's halves, with the arguments of :func:`bound_by_halves` for each."""
    end_time = time.perf_counter() + seconds
    at, total = halve(case), Part(0, int(case.floor.sum()))
    for low, high, left in ((0, at, 2), (at, len(case.steps), 1)):
        piece, inside = cut(case, low, high)
        now = (end_time - time.perf_counter()) / left
        part = bound_by_halves(piece, nodes, now, leaves, memory_limit, halve, moves, share)
        total.bound += part.bound
        total.nodes += part.nodes
        total.trees += [(g, w, shifted(tree, inside, low)) for g, w, tree in part.trees]
    return total


def shifted(tree: dict[str, Any], requests: Int64Array, low: int) -> dict[str, Any]:
    """A part of a certificate in the numbers of the larger case that it was cut from."""
    order = requests[tree["order"]].tolist()
    return tree | {"order": order, "cut": [k + low for k in tree["cut"]]}


def work(case: PlacementCase, tree: dict[str, Any]) -> int:
    """What the verifier has to look at to replay a tree."""
    table = (len(tree["order"]) + case.cluster.workers) * (tree["cut"][-1] - tree["cut"][0])
    return len(tree["leaves"]) * (10**4 + table) if table <= _MOST_TABLE else _MOST_WORK + 1


def replayable(trees: Trees) -> bool:
    """Whether one certificate may hold all of these trees."""
    return sum(w for _, w, _ in trees) <= _MOST_WORK and sum(len(t["leaves"]) for _, _, t in trees) <= _LEAVES


def window_bound(
    inst: Instance,
    cluster: Cluster,
    start: Int64Array,
    window: int | None,
    node_limit: int,
    time_limit: float,
    jobs: int,
    certificate: bool,
) -> Bound:
    """``window(T)`` of validated `start`, None: for several T; see :func:`~balanceroute_opt.placement_bound`."""
    end_time = time.perf_counter() + time_limit
    floor = step_bounds(inst, cluster, start, "migration")
    position = np.searchsorted(floor.step, start)
    case = PlacementCase(
        inst, cluster, start, position, position + inst.output, inst.prompt - position, floor.step, floor.peak
    )
    best = -1
    best_trees: Trees = []
    for length in promising(case, node_limit, end_time, jobs, certificate) if window is None else [window]:
        began = time.perf_counter()
        gain, trees = _gained(case, length, node_limit, end_time, jobs, certificate)
        if gain > best:
            best, best_trees = gain, trees
        if end_time - time.perf_counter() < time.perf_counter() - began:  # the next one takes about as long
            break
    total = int(floor.peak.sum()) + max(best, 0)
    if not certificate:
        return Bound.placement(inst, cluster, start, "window", total, None)
    raised = np.flatnonzero(floor.proof)
    proof = {
        "raised": [[int(k), int(v)] for k, v in zip(floor.step[raised], floor.peak[raised], strict=True)],
        "parts": sorted((tree for _, _, tree in best_trees), key=lambda tree: tree["cut"][0]),
    }
    return Bound.placement(inst, cluster, start, "window", total, proof)


def _gained(
    case: PlacementCase, window: int, nodes: int, end_time: float, jobs: int, certify: bool
) -> tuple[int, Trees]:
    """What windows of that many steps gain over the floor, and the trees for it that one certificate may hold."""
    gain = 0
    trees: Trees = []
    for low, inside, part in _solved(case, window, nodes, end_time, jobs, certify):
        gain += part.bound - part.floor
        trees += [(g, w, shifted(tree, inside, low)) for g, w, tree in part.trees]
        if len(trees) > 100 and not replayable(trees):
            trees = _dearest_dropped(trees)
    if certify:
        trees = _dearest_dropped(trees)
        gain = sum(g for g, _, _ in trees)
    return gain, trees


def _solved(
    case: PlacementCase, window: int, nodes: int, end_time: float, jobs: int, certify: bool
) -> Iterator[tuple[int, Int64Array, Part]]:
    """Windows in their order: first position, requests, and what is proved. In memory are those at work."""
    if _can_be_cut(case):
        yield from _in_processes(_task, _windows(case, window, nodes, end_time, jobs, certify), jobs)


def _can_be_cut(case: PlacementCase) -> bool:
    """Whether no request would enter a window with more tokens than a prompt may have."""
    return int((case.base + case.end).max(initial=0)) <= MAX_TOKENS


def _in_processes(function: Callable[[Any], Any], tasks: Iterator[Any], jobs: int) -> Iterator[Any]:
    """Results in the order of the tasks, which are made when a process is about to be free."""
    if jobs == 1:
        yield from map(function, tasks)
        return
    import joblib

    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)
    yield from parallel(joblib.delayed(function)(task) for task in tasks)


_Task = tuple[int, Int64Array, PlacementCase, int, float, int]


def _windows(
    case: PlacementCase, window: int, nodes: int, end_time: float, jobs: int, certify: bool
) -> Iterator[_Task]:
    """One task per window; what earlier ones left of the time goes to the later ones."""
    count = len(case.steps)
    order = np.argsort(case.begin, kind="stable")
    first = np.searchsorted(case.begin[order], np.arange(0, count + window, window))
    active = np.zeros(0, np.int64)
    for w, low in enumerate(range(0, count, window)):
        high = min(low + window, count)
        active = np.concatenate((active[case.end[active] > low], order[first[w] : first[w + 1]]))
        piece, inside = cut(case, low, high, np.sort(active))
        left = -(-(count - low) // window)
        seconds = max(0.0, end_time - time.perf_counter()) * min(1.0, jobs / left)
        yield low, inside, piece, nodes, seconds, _LEAVES if certify else 0


def _task(job: _Task) -> tuple[int, Int64Array, Part]:
    low, inside, piece, nodes, seconds, leaves = job
    return low, inside, bound_by_halves(piece, nodes, seconds, leaves)


def promising(case: PlacementCase, nodes: int, end_time: float, jobs: int, certify: bool) -> list[int]:
    """Lengths of windows, those first that gain most per step on a sample, for what time and certificate allow.

    Every length gets the same small share of the time on the same stretches of steps, and about as much for a step as
    the whole will. What the trees gain counts as far as a certificate of the whole has room for such trees; and in
    proportion where the time would not suffice for all windows.
    """
    count, began = len(case.steps), time.perf_counter()
    lengths = [T for T in _LENGTHS if count >= 4 * T] or [max(1, count)]
    if len(lengths) == 1 or not _can_be_cut(case):
        return lengths[:1]
    longest = lengths[-1]
    samples = max(1, round(_SHARE / len(lengths) * count / longest))
    seconds = _SHARE * max(0.0, end_time - began) * jobs / (samples * len(lengths))
    lows = [(2 * j + 1) * count // (2 * samples) - longest // 2 for j in range(samples)]
    tasks = (
        (piece, T, nodes, seconds, certify)
        for piece in (cut(case, low, low + longest)[0] for low in lows)
        for T in reversed(lengths)
    )
    spent, gain = dict.fromkeys(lengths, 0.0), dict.fromkeys(lengths, 0)
    trees: dict[int, Trees] = {T: [] for T in lengths}
    for T, took, gained, found in _in_processes(_sampled, tasks, jobs):
        spent[T] += took
        gain[T] += gained
        trees[T] += found
    share = samples * longest / count
    left = end_time - time.perf_counter()

    def worth(T: int) -> float:
        gained = sum(g for g, _, _ in _dearest_dropped(trees[T], share)) if certify else gain[T]
        return gained * min(1.0, left * jobs * share / max(spent[T], 1e-9))

    return sorted(lengths, key=worth, reverse=True)


def _sampled(job: tuple[PlacementCase, int, int, float, bool]) -> tuple[int, float, int, Trees]:
    """T, seconds, gain and trees of the windows of a sample."""
    piece, window, nodes, seconds, certify = job
    began = time.perf_counter()
    parts = [_task(task)[2] for task in _windows(piece, window, nodes, began + seconds, 1, certify)]
    trees = [tree for part in parts for tree in part.trees]
    return window, time.perf_counter() - began, sum(part.bound - part.floor for part in parts), trees


def _dearest_dropped(trees: Trees, share: float = 1.0) -> Trees:
    """Trees that gain most for what they cost the verifier, within that share of its limits and of 60 000 leaves."""
    kept: Trees = []
    leaves = cost = 0
    for tree in sorted(trees, key=lambda tree: tree[1] / tree[0]):
        leaves, cost = leaves + len(tree[2]["leaves"]), cost + tree[1]
        if leaves > share * _LEAVES or cost > share * _MOST_WORK:
            break
        kept.append(tree)
    return kept
