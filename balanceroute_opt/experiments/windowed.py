"""One schedule problem (P2) for all routers of a bracket: the same start windows, so the same optimum for everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._validate import Int64Array
from ..certificates import verify
from ..errors import CertificateError, InputError
from ..evaluation.ratios import percent
from ..instance import Cluster, Instance
from ..oracles.anytime_schedule import search_schedule
from ..oracles.bounds import schedule_bound
from ..oracles.forced import latest_bound, windows_bound
from ..oracles.given import start_windows
from ..schedule import Schedule, check, decode_time
from .store import packed, unpacked

__all__ = ["OWN", "Windowed", "bound", "keeps", "limits_of", "require_proof", "schedule_of", "search", "windowed"]

OWN = "own"
"""Windows of each run for itself: nobody starts later than in it."""


@dataclass(frozen=True, eq=False)
class Windowed:
    """A schedule problem on the step clock with the same start windows for every router.

    Attributes
    ----------
    windows : str
        ``max_wait=D``, ``latest=ROUTER`` or ``none``.
    instance : Instance
    best : Schedule
        The best schedule known inside the windows.
    best_decode_time : float
        Seconds.
    found_by : str
        A router, or ``search``.
    bound : float
        Certified lower bound on the decode time of every schedule inside, seconds.
    bound_method : str
    certificate : dict
    inside : tuple of str
        Routers whose runs keep the windows.
    """

    windows: str
    instance: Instance
    best: Schedule
    best_decode_time: float
    found_by: str
    bound: float
    bound_method: str
    certificate: dict[str, Any]
    inside: tuple[str, ...]

    @property
    def gap(self) -> float:
        """Best schedule known over the bound, minus 1."""
        return self.best_decode_time / self.bound - 1

    def sentence(self) -> str:
        """What is known, in a sentence."""
        return (
            f"Schedules, {self.windows}: best {self.best_decode_time:,.2f} s by {self.found_by}, bound "
            f"{self.bound_method} {self.bound:,.2f} s (certified): {percent(self.gap, up=True)} apart."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data without the schedule."""
        names = ("windows", "best_decode_time", "found_by", "bound", "bound_method", "gap")
        return {name: getattr(self, name) for name in names} | {"inside": list(self.inside)}


def limits_of(windows: str, starts: Mapping[str, Int64Array]) -> dict[str, Any]:
    """The limit on starts, as keywords of :func:`~balanceroute_opt.schedule_bound`; `starts` are those of the runs.

    Raises
    ------
    InputError
        If `windows` is not understood.
    """
    kind, _, value = windows.partition("=")
    if windows == "none":
        return {}
    if kind == "max_wait" and value.isdecimal() and len(value) < 16:
        return {"max_wait": int(value)}
    if kind == "latest" and value in starts:
        return {"latest": starts[value]}
    raise InputError(
        f"windows must be own, max_wait=STEPS, latest=ROUTER with a router of the bracket, or none, got {windows!r}"
    )


def search(
    inst: Instance,
    cluster: Cluster,
    limits: dict[str, Any],
    start: Int64Array,
    worker: Int64Array,
    seed: int,
    seconds: float,
    moves: int | None,
    threads: int,
) -> dict[str, Any]:
    """A task: the best schedule found inside the windows, from a run that keeps them."""
    limit = 1e9 if moves is not None else seconds
    found = search_schedule(
        inst, cluster, Schedule(start, worker), **limits, time_limit=limit, moves=moves, seed=seed, threads=threads
    )
    return {"start": packed(found.schedule.start), "worker": packed(found.schedule.worker)}


def bound(inst: Instance, cluster: Cluster, limits: dict[str, Any], iterations: int) -> dict[str, Any]:
    """A task: the best cheap bound on all schedules inside the windows."""
    if "latest" in limits:
        found = latest_bound(inst, cluster, limits["latest"], iterations)
    elif limits:
        found = windows_bound(inst, cluster, **limits, iterations=iterations)
    else:
        found = schedule_bound(inst, cluster, "fluid")
    return {"value": float(found.value), "method": found.method, "certificate": found.certificate}


def keeps(inst: Instance, cluster: Cluster, limits: dict[str, Any], start: Int64Array) -> bool:
    """Whether these starts lie inside the windows."""
    last, _ = start_windows(inst, cluster, limits.get("max_wait"), limits.get("latest"))
    return last is None or bool((start <= last).all())


def windowed(
    inst: Instance,
    cluster: Cluster,
    windows: str,
    limits: dict[str, Any],
    candidates: Sequence[tuple[str, Schedule]],
    inside: Sequence[str],
    timed: dict[str, Any],
) -> Windowed:
    """The problem with the best of the candidates that keep the windows, all checked, and its bound verified.

    Raises
    ------
    CertificateError
        If a schedule of a search breaks the windows, or the bound is not reproduced.
    """
    found_by, best = min(candidates, key=lambda pair: decode_time(inst, cluster, pair[1]))
    check(inst, cluster, best)
    if not keeps(inst, cluster, limits, best.start):
        raise CertificateError(f"{windows}: the schedule of {found_by} breaks the windows")
    require_proof(windows, inst, cluster, timed)
    return Windowed(
        windows,
        inst,
        best,
        decode_time(inst, cluster, best),
        found_by,
        timed["value"],
        timed["method"],
        timed["certificate"],
        tuple(inside),
    )


def require_proof(name: str, inst: Instance, cluster: Cluster, row: dict[str, Any]) -> None:
    """Verify the certificate of a bound.

    Raises
    ------
    CertificateError
        If there is none, or it proves something else than the bound.
    """
    if row["certificate"] is None:
        raise CertificateError(f"{name}: the bound {row['method']} has no certificate")
    proved = verify(inst, cluster, row["certificate"])
    if proved != row["value"]:
        raise CertificateError(f"{name}: the bound is {row['value']}, its certificate proves {proved}")


def schedule_of(row: dict[str, Any]) -> Schedule:
    """The schedule of a finished task."""
    return Schedule(unpacked(row["start"]), unpacked(row["worker"]))
