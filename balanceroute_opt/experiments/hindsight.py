"""Brackets of the hindsight ratios of several runs: each against both hindsight problems of its own starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..certificates import Bound
from ..evaluation.ratios import HindsightRatio, hindsight_ratio
from ..instance import Cluster, Instance
from ..oracles.anytime_schedule import search_schedule
from ..oracles.forced import latest_bound
from ..oracles.placement import solve_placement
from ..schedule import Schedule, decode_time, peak_sum

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["BRACKETS", "Bracket", "Judged", "bracket_fields", "bracket_table", "brackets"]

BRACKETS = (
    "Hindsight ratios, from run / best known to run / certified lower bound. P1: peak_sum, against the best placement "
    "at the run's own admission steps. P2: decode time, against the best schedule in which no request starts later "
    "than in the run (windows: latest); forced: no other starts are possible. Best known: the run, a search of "
    "{moves:,} moves, or another router's schedule."
)
"""What a table of brackets shows."""

_FOREVER = 1e9  # seconds: only the moves end a search, so that the result is the same everywhere


@dataclass(frozen=True)
class Judged:
    """What is needed of a run.

    Attributes
    ----------
    label : str
        What tables call it.
    instance, cluster, schedule, preemptions, peak_sum, decode_time
        As in :class:`~balanceroute_opt.Run`.
    bound : Bound
        On the placement problem with its starts.
    """

    label: str
    instance: Instance
    cluster: Cluster
    schedule: Schedule
    preemptions: int
    peak_sum: int
    decode_time: float
    bound: Bound


@dataclass(frozen=True)
class Bracket:
    """A run's ratio to one hindsight problem.

    Attributes
    ----------
    ratio : HindsightRatio
    bound : Bound
    best_known : int or float
        Cost of the best schedule that is known.
    by : str
        Whose it is: ``run`` (the run itself), ``search``, or the label of another run, re-placed or as it was.
    """

    ratio: HindsightRatio
    bound: Bound
    best_known: int | float
    by: str


def brackets(
    runs: Sequence[Judged],
    moves: int,
    seed: int = 0,
    parallel: Callable[[Any], Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[Bracket, Bracket]]:
    """Brackets of every run against P1 (its own starts) and P2 (``latest`` = its own starts).

    Lower bounds are those of the runs (P1); for P2 ``forced`` where full slots leave no other starts, as in the runs of
    work-conserving routers, else ``lagrangian``; they are verified here. Best known for P1 is the best of a
    deterministic search and of all runs with the same starts; for P2 the best of these placements, over all runs that
    start nothing later, and of a search that moves starts too, where they are not forced.

    Parameters
    ----------
    runs : sequence of Judged
        Without preemptions.
    moves : int
        Of the search, for each set of starts that differs from the others.
    seed : int
    parallel : callable, optional
        A ``joblib.Parallel`` with ``return_as="generator"``.
    progress : callable, optional
        Called with the number of finished searches and of all.

    Returns
    -------
    list of (Bracket, Bracket)
        Placement and schedule, in the order of the runs.
    """
    import joblib

    groups: dict[tuple[str, bytes], list[Judged]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    first = {key: min(members, key=lambda run: run.peak_sum) for key, members in groups.items()}
    work = (joblib.delayed(_hindsight)(run, moves, seed) for run in first.values())
    answers = joblib.Parallel(n_jobs=1, return_as="generator")(work) if parallel is None else parallel(work)
    found: dict[tuple[str, bytes], tuple[Schedule, Schedule, Bound]] = {}
    for key, answer in zip(groups, answers, strict=True):
        found[key] = answer
        if progress is not None:
            progress(len(found), len(groups))
    result = []
    for run in runs:
        placed, scheduled, bound = found[_key(run)]
        by = "run" if peak_sum(run.instance, run.cluster, placed) == run.peak_sum else "search"
        if by == "search" and first[_key(run)] is not run and placed is first[_key(run)].schedule:
            by = first[_key(run)].label
        placement = _bracket(run, run.bound, placed, by)
        best, whose = scheduled, by if scheduled is placed else "search"
        cost = decode_time(run.instance, run.cluster, best)
        for key, (_, other, _) in found.items():
            if key[0] != _key(run)[0] or key == _key(run) or (other.start > run.schedule.start).any():
                continue
            value = decode_time(run.instance, run.cluster, other)
            if value < cost:
                best, cost, whose = other, value, first[key].label
        result.append((placement, _bracket(run, bound, best, whose)))
    return result


def _key(run: Judged) -> tuple[str, bytes]:
    return run.instance.digest(), run.schedule.start.tobytes()


def _bracket(run: Judged, bound: Bound, best: Schedule, by: str) -> Bracket:
    price = peak_sum if bound.problem == "placement" else decode_time
    return Bracket(hindsight_ratio(run, bound, best), bound, price(run.instance, run.cluster, best), by)


def _hindsight(run: Judged, moves: int, seed: int) -> tuple[Schedule, Schedule, Bound]:
    """The best placement at the run's starts, the best schedule that starts nothing later, and a bound on all those."""
    inst, cluster, start = run.instance, run.cluster, run.schedule.start
    solution = solve_placement(
        inst, cluster, start, _FOREVER, "search", seed, node_limit=moves, warm=run.schedule, certificate=False
    )
    placed = solution.schedule
    if placed is None or solution.objective >= run.peak_sum:
        placed = run.schedule
    scheduled, bound = placed, latest_bound(inst, cluster, start)
    if bound.method != "forced":
        found = search_schedule(inst, cluster, placed, latest=start, time_limit=_FOREVER, moves=moves, seed=seed)
        if found.objective < decode_time(inst, cluster, placed):
            scheduled = found.schedule
    bound.reproduced(inst, cluster, run.label)
    return placed, scheduled, bound


def bracket_fields(pairs: Sequence[tuple[Bracket, Bracket]]) -> dict[str, Any]:
    """What the brackets of one router's runs add to its row; empty without any."""
    placed, scheduled = [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    def all_of(values: Iterable[str]) -> str | None:
        return "+".join(sorted(set(values))) or None

    return {
        "best_known": [b.best_known for b in placed],
        "best_known_by": all_of(b.by for b in placed),
        "schedule_windows": "latest" if pairs else None,
        "schedule_bound_method": all_of(b.bound.method for b in scheduled),
        "schedule_bound": [b.bound.value for b in scheduled],
        "schedule_certified": bool(pairs) and all(b.ratio.certified for b in scheduled),
        "schedule_best_known": [b.best_known for b in scheduled],
        "schedule_best_known_by": all_of(b.by for b in scheduled),
        "schedule_lower": min((b.ratio.lower for b in scheduled), default=None),
        "schedule_upper": max((b.ratio.upper for b in scheduled), default=None),
    }


def bracket_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A table of rows of a comparison: both brackets, and what each end rests on (:mod:`rich`)."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("router", overflow="fold", max_width=24)
    for name in ("placement (P1)\nratio", "schedule (P2)\nratio"):
        for header in (name, "lower\nbound", "best\nknown"):
            table.add_column(header, overflow="fold", max_width=14 if header == "best\nknown" else None)
    for row in rows:
        if row["hindsight_upper"] is None:
            table.add_row(row["router"], "preempted", "", "", "preempted", "", "")
            continue
        cells = []
        for prefix, kind, sure in (("hindsight", "", "certified"), ("schedule", "schedule_", "schedule_certified")):
            cells += [
                f"{_four(row[f'{prefix}_lower'], False)} .. {_four(row[f'{prefix}_upper'], True)}",
                row[f"{kind}bound_method"] + ("" if row[sure] else "\n(claimed)"),
                row[f"{kind}best_known_by"],
            ]
        table.add_row(row["router"], *cells)
    return table


def _four(ratio: float, up: bool) -> str:
    """A ratio with four digits, rounded outwards."""
    if not math.isfinite(ratio):
        return "no limit"
    return f"{(math.ceil if up else math.floor)(ratio * 10_000) / 10_000:.4f}"
