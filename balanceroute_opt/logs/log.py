"""The table of a log and its metrics (``docs/diagnose.md``; names of ``docs/model.md``, section 4)."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._validate import Float64Array, Int64Array, integer, real
from ..errors import InputError
from ..instance import Cluster
from ..metrics import METRICS, StepSeries, Window, step_metrics, window_bounds
from ..steptime import StepTime
from .scan import FORMATS, NONE, Scanner, open_log

if TYPE_CHECKING:
    import polars

__all__ = ["Log", "Moments", "read_log"]

Missing = Literal["auto", "empty", "skip"]
StrPath = str | os.PathLike[str]

_SHARE_UNITS = 10**9
"""Shares are summed as integers of this fraction, so that one definition of the metrics serves both units."""

_DEFAULT_INTERVAL = 10.0
_JOIN = 0.75
_MOST_CELLS = 50_000_000


@dataclass(frozen=True, eq=False)
class Moments:
    """Samples grouped in time: one row per moment, one column per rank.

    Attributes
    ----------
    time : ndarray of float64, shape (K,), seconds since the first sample
    running : ndarray of int64, shape (K, G)
        Running requests; 0 where the rank is silent.
    waiting : ndarray of int64, shape (K, G)
        Queued requests; -1 where they are not known.
    load : ndarray, shape (K, G)
        int64 tokens, or float64 shares of the KV capacity; -1 where it is not known.
    rate : ndarray of float64, shape (K, G)
        Generated tokens/s as reported; nan where they are not.
    present : ndarray of bool, shape (K, G)
        The rank reported.
    empty : ndarray of bool, shape (K, G)
        The rank is silent and counts as empty.
    """

    time: Float64Array
    running: Int64Array
    waiting: Int64Array
    load: NDArray[Any]
    rate: Float64Array
    present: NDArray[np.bool_]
    empty: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Moments at which every rank reported or counts as empty, shape (K,)."""
        return np.all(self.present | self.empty, axis=1)


@dataclass(frozen=True, eq=False, repr=False)
class Log:
    """Samples of one system's data-parallel ranks, as :func:`read_log` returns them.

    Attributes
    ----------
    format : str
        One of ``balanceroute_opt.logs.FORMATS``.
    unit : {"tokens", "share", None}
        Unit of the loads: KV tokens, a share (0 .. 1) of the KV capacity, or None where the log has no loads.
    ranks : tuple of str
        Names of the ranks, in order; the number in the log, or ``file:number`` where numbers repeat.
    rank_ids : ndarray of int64, shape (G,)
        Their numbers in the table.
    start : str or None
        Time of the first sample as printed; None where the log has no times.
    interval : float
        Seconds between two samples of a rank.
    kv_capacity : int or None
        Tokens, where all ranks have the same and it is known.
    counts : dict of str to int
        ``bytes`` read, ``samples``, and what was left out: ``half`` (records that were cut), ``copies`` (of other
        tensor- or pipeline-parallel ranks), ``aggregated`` and ``unranked`` records.
    notes : tuple of str
        What a reader should know about how the log was read.
    missing : {"auto", "empty", "skip"}
    time, rank, running, waiting, load, rate, moment : ndarray, shape (n,)
        The samples by time; `moment` is the row of :attr:`moments` that the sample is in.
    """

    format: str
    unit: str | None
    ranks: tuple[str, ...]
    rank_ids: Int64Array
    start: str | None
    interval: float
    kv_capacity: int | None
    counts: dict[str, int]
    notes: tuple[str, ...]
    missing: Missing
    time: Float64Array
    rank: Int64Array
    running: Int64Array
    waiting: Int64Array
    load: NDArray[Any]
    rate: Float64Array
    moment: Int64Array

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        return (
            f"Log({FORMATS[self.format].split(' (')[0]}: {len(self.ranks)} ranks, {len(self):,} samples, "
            f"{len(self.moments):,} moments, load in {self.unit or 'nothing'})"
        )

    @cached_property
    def table(self) -> polars.DataFrame:
        """A polars table of the samples by time.

        Columns: ``time`` (Float64, seconds since the first sample), ``rank``, ``running``, ``waiting`` (Int64,
        null where not known), ``load`` (Int64 tokens or Float64 share, see `unit`; null where not known).
        """
        import polars as pl

        columns = {name: getattr(self, name) for name in ("time", "rank", "running", "waiting", "load")}
        unknown = [pl.when(pl.col(name) >= 0).then(pl.col(name)).alias(name) for name in ("waiting", "load")]
        return pl.DataFrame(columns).with_columns(unknown)

    @cached_property
    def moments(self) -> Moments:
        """The samples grouped in time (the rule is in ``docs/diagnose.md``)."""
        shape = (int(self.moment[-1]) + 1, len(self.ranks))
        cell = (self.moment, np.searchsorted(self.rank_ids, self.rank))
        present = np.zeros(shape, bool)
        present[cell] = True
        first = np.flatnonzero(np.diff(self.moment, prepend=-1))

        def grid(values: NDArray[Any]) -> NDArray[Any]:
            # Silent ranks hold nothing; those that do not count as empty are in no complete moment.
            result = np.zeros(shape, values.dtype)
            result[cell] = values
            return result

        running, waiting = grid(self.running), grid(self.waiting)
        return Moments(
            time=self.time[first],
            running=running,
            waiting=waiting,
            load=grid(self.load),
            rate=grid(self.rate),
            present=present,
            empty=self._empty(present, running, waiting),
        )

    def _empty(self, present: NDArray[np.bool_], running: Int64Array, waiting: Int64Array) -> NDArray[np.bool_]:
        silent = ~present
        if self.missing == "empty":
            return silent
        # A metrics page always lists every engine: silence there is a lost scrape.
        if self.missing == "skip" or self.format == "vllm-metrics":
            return np.zeros_like(silent)
        row = np.arange(len(present))[:, None]
        last = np.maximum.accumulate(np.where(present, row, -1), axis=0)
        column = np.arange(present.shape[1])
        idle = (last < 0) | ((running[last, column] == 0) & (waiting[last, column] <= 0))
        long = np.zeros_like(silent)
        long[1:] = silent[1:] & silent[:-1]
        long[:-1] |= long[1:]
        return silent & (idle | long)

    def chosen(self, window: Window = "all") -> Int64Array:
        """Rows of :attr:`moments` that the metrics are over: complete, active, and in the window.

        Raises
        ------
        InputError
            If there is none, or the window is neither "all" nor a fraction range.
        """
        if window == "loaded":
            raise InputError('a log does not say when its last request was admitted: window must be "all" or (lo, hi)')
        m = self.moments
        active = m.complete & (m.running.sum(axis=1) > 0)
        if self.unit is not None:
            # Loads are printed rounded: where all of them round to nothing, nothing can be said.
            least = 1 if self.unit == "tokens" else 1 / _SHARE_UNITS
            known = active & (m.load >= 0).all(axis=1) & (m.load.max(axis=1) >= least)
            active = known if known.any() else active
        rows = np.flatnonzero(active)
        lo, hi = window_bounds(window, len(rows), len(rows) - 1)
        if lo < hi:
            return rows[lo:hi]
        if m.complete.any():
            raise InputError("no requests were running at any moment at which all ranks are known")
        raise InputError(
            f"at none of {len(m):,} moments are all {len(self.ranks)} ranks known: give the files of all ranks, "
            "or count silent ones as empty (--missing empty)"
        )

    def metrics(self, window: Window = "all", step_time: StepTime | None = None) -> dict[str, Any]:
        """Metrics by the names of ``docs/model.md``, section 4, as far as a log tells them.

        Every moment stands for one step: where the log holds every step they are the run's own metrics, otherwise
        averages over samples. A silent rank that counts as empty has load 0.

        Parameters
        ----------
        window : "all" or (float, float)
            All active moments, or a fraction range of them.
        step_time : StepTime, optional
            Adds ``throughput`` (tokens/s of decode time), ``decode_time`` and ``energy``, of the moments as steps;
            needs loads in tokens.

        Returns
        -------
        dict
            Of ``imbalance_sum``, ``imbalance_range``, ``imbalance_gap`` (in `unit`), ``excess``, ``idle``,
            ``max_over_min_load_p50`` .. ``max_over_min_requests_p95``, ``steps`` (moments), ``peak_sum`` (tokens
            only) those that can be computed, and ``unit`` and ``window``.

        Raises
        ------
        InputError
            If no moment is complete and active, the window is not one, or a step time meets loads in shares.
        """
        rows = self.chosen(window)
        m = self.moments
        load, running = m.load[rows], m.running[rows]
        if step_time is not None and self.unit != "tokens":
            raise InputError(
                f"a step time needs loads in tokens, and this log has {self.unit or 'no load'}"
                + (": give the capacity of a rank (--kv-capacity, kv_capacity=)" if self.unit else "")
            )
        with_load = self.unit is not None and bool((load >= 0).all() and (load.max(axis=1) > 0).all())
        if self.unit == "share":
            load = np.rint(load * _SHARE_UNITS).astype(np.int64)
        if not with_load:
            load = np.ones_like(running)
        cluster = Cluster(
            workers=len(self.ranks),
            slots=max(int(running.max()), 1),
            step_time=step_time or StepTime(fixed=0.0, per_token=0.0),
        )
        steps = _series(m.time[rows], load, running, cluster)
        result: dict[str, Any] = step_metrics(steps, cluster)
        if step_time is None:
            for name in ("throughput", "decode_time", "energy"):
                del result[name]
        if self.unit != "tokens" or not with_load:
            del result["peak_sum"]
        for name in ("imbalance_sum", "imbalance_range", "imbalance_gap", "excess", "idle"):
            if not with_load:
                del result[name]
            elif self.unit == "share" and name.startswith("imbalance"):
                result[name] /= _SHARE_UNITS
        if not with_load:
            for q in (50, 90, 95):
                del result[f"max_over_min_load_p{q}"]
        return {name: result[name] for name in METRICS if name in result} | {"unit": self.unit, "window": window}


def _series(time: Float64Array, load: Int64Array, running: Int64Array, cluster: Cluster) -> StepSeries:
    peak, total = load.max(axis=1), load.sum(axis=1)
    tau = cluster.step_time.seconds(peak, total, cluster.workers)
    power = (100 + 300 * (load / peak[:, None]) ** 0.7).sum(axis=1)
    return StepSeries(
        step=np.arange(len(time)),
        time=time,
        peak=peak,
        total=total,
        least=load.min(axis=1),
        active=running.sum(axis=1),
        most_active=running.max(axis=1),
        least_active=running.min(axis=1),
        energy=tau * power,
    )


def read_log(
    path: StrPath | Sequence[StrPath],
    *,
    format: str | None = None,
    kv_capacity: int | None = None,
    ranks: int | None = None,
    interval: float | None = None,
    missing: Missing = "auto",
    rank_per_file: bool = False,
) -> Log:
    """Read the log of a serving system's data-parallel ranks.

    Parameters
    ----------
    path : path-like, or several
        vLLM engine logs, scraped vLLM metrics or SGLang logs; plain, gzip or zstandard (told by content); ``"-"`` is
        standard input. Several files are one system: files of several ranks or nodes, or one rotated log.
    format : {"vllm", "vllm-metrics", "sglang"}, optional
        Recognised if not given.
    kv_capacity : int, optional
        KV tokens that a rank holds; default: as printed in the log. Without it vLLM's loads stay shares.
    ranks : int, optional
        Number of ranks, 0 .. ranks - 1; default: those that appear.
    interval : float, optional
        Seconds between two samples of a rank; default: the median in the log.
    missing : {"auto", "empty", "skip"}
        What a silent rank means: empty, unknown (its moment is left out), or judged case by case.
    rank_per_file : bool
        Ranks of different files are different ranks, whatever their numbers.

    Raises
    ------
    InputError
        One line: no such file, folder, empty, broken gzip, no or several formats recognised, only cut records,
        no ranks, a single rank, ranks beyond `ranks`, samples that do not line up.

    Notes
    -----
    Memory grows with the samples, not with the other lines. Grouping rule: in order of time a moment ends when a
    rank reports again, or when more than 3/4 of the interval (at least the resolution of the times) has passed
    since its first sample. Dates without a year move on to the nearest year.

    Examples
    --------
    >>> log = read_log(["node0.log", "node1.log.gz"])  # doctest: +SKIP
    >>> log.metrics()["excess"]  # doctest: +SKIP
    0.31
    """
    paths: list[StrPath] = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not paths:
        raise InputError("no log given")
    if sum(os.fspath(p) == "-" for p in paths) > 1:
        raise InputError("standard input (-) can be given once")
    if format is not None and format not in FORMATS:
        raise InputError(f"unknown log format {format!r}; known: {', '.join(FORMATS)}")
    if missing not in ("auto", "empty", "skip"):
        raise InputError(f'missing must be "auto", "empty" or "skip", got {missing!r}')
    kv_capacity = None if kv_capacity is None else integer(kv_capacity, "kv_capacity", 1, 2**53)
    ranks = None if ranks is None else integer(ranks, "ranks", 2, 100_000)
    interval = None if interval is None else real(interval, "interval", positive=True)
    scanner = Scanner()
    for each in paths:
        with open_log(each) as stream:
            scanner.read(stream)
    named = [Path(p).name if os.fspath(p) != "-" else "standard input" for p in paths]
    where = named[0] if len(named) == 1 else f"{named[0]} and {len(named) - 1} more"
    found = _format(scanner, format, where)
    try:
        return _build(scanner, found, named, kv_capacity, ranks, interval, missing, rank_per_file)
    except InputError as exc:
        raise InputError(f"{where}: {exc}") from None


def _format(scanner: Scanner, format: str | None, where: str) -> str:
    if scanner.bytes_read == 0:
        raise InputError(f"{where}: empty")
    found = {name: len(s) for name, s in scanner.samples.items() if len(s) and format in (None, name)}
    if len(found) > 1:
        parts = ", ".join(f"{count:,} of {name}" for name, count in found.items())
        raise InputError(f"{where}: samples of more than one format ({parts}); name one (--format, format=)")
    if found:
        return next(iter(found))
    for name, samples in scanner.samples.items():
        if format in (None, name) and samples.aggregated:
            raise InputError(f"{where}: no ranks: vLLM printed sums over all engines only (`Engines Aggregated`)")
        if format in (None, name) and samples.half:
            raise InputError(f"{where}: {samples.half:,} records of format {name}, and every one of them is cut")
    if format is not None:
        raise InputError(f"{where}: no line of format {format}: {FORMATS[format]}")
    raise InputError(f"{where}: no line of a known format; known are: {'; '.join(FORMATS.values())}")


def _build(
    scanner: Scanner,
    format: str,
    files: list[str],
    kv_capacity: int | None,
    ranks: int | None,
    interval: float | None,
    missing: Missing,
    rank_per_file: bool,
) -> Log:
    samples = scanner.samples[format]
    column = samples.columns()
    notes: list[str] = []
    owner = sorted(scanner.sources, key=lambda key: scanner.sources[key])
    file_of = np.array([file for file, _ in owner], np.int64)[column["source"]]
    time, timed = _times(column["time"], file_of, column["source"], column["rank"], rank_per_file)
    column["time"] = time
    keep, names = _number(column, file_of, owner, files, rank_per_file, notes)
    unranked = int((~keep).sum())
    column = {name: values[keep] for name, values in column.items()}
    file_of = file_of[keep]
    ids, labels = _all_ranks(column["rank"], names, ranks, notes)

    order = _order(column["time"], column["rank"], file_of)
    column = {name: values[order] for name, values in column.items()}
    time = column["time"]
    start = None
    if timed:
        start = _printed(float(time[0]), scanner.clock.has_year)
    time = time - time[0]
    load, unit, capacity = _loads(column, kv_capacity, notes)
    if kv_capacity is None and scanner.unclear_capacity is not None and format != "vllm-metrics":
        low, high = scanner.unclear_capacity
        notes.append(
            f"several KV capacities ({low:,} .. {high:,}) are printed without their ranks: the last one is used"
        )
    step = _interval(time, column["rank"]) if interval is None else interval
    whole = timed and bool((np.floor(time) == time).all())
    moment = _group(time, np.searchsorted(ids, column["rank"]), max(_JOIN * step, 1.0 if whole else 0.0), len(ids))
    if (int(moment[-1]) + 1) * len(ids) > _MOST_CELLS:
        raise InputError(
            f"{len(time):,} samples of {len(ids):,} ranks make {int(moment[-1]) + 1:,} moments: they do not line up in "
            "time; give the seconds between samples (--interval, interval=)"
        )
    counts = {"bytes": scanner.bytes_read, "samples": len(time), "half": samples.half, "copies": samples.copies}
    counts |= {"aggregated": samples.aggregated, "unranked": unranked}
    return Log(
        format=format,
        unit=unit,
        ranks=labels,
        rank_ids=ids,
        start=start,
        interval=step,
        kv_capacity=capacity,
        counts=counts,
        notes=tuple(notes),
        missing=missing,
        time=time,
        rank=column["rank"],
        running=column["running"],
        waiting=column["waiting"],
        load=load,
        rate=column["rate"],
        moment=moment,
    )


def _times(
    time: Float64Array, file: Int64Array, source: Int64Array, rank: Int64Array, rank_per_file: bool
) -> tuple[Float64Array, bool]:
    """Times without gaps: the last known one of the file, or, in a log without any, the number of the report."""
    if not np.isnan(time).all():
        time = time.copy()
        for f in np.unique(file):
            rows = np.flatnonzero(file == f)
            known = np.flatnonzero(~np.isnan(time[rows]))
            if not len(known):
                raise InputError("some files have times and some have none: they cannot be put on one axis")
            at = np.searchsorted(known, np.arange(len(rows)), side="right") - 1
            time[rows] = time[rows][known[np.maximum(at, 0)]]
        return time, True
    # Files that repeat ranks are taken as successive reports, others as reports side by side.
    result = np.empty_like(time)
    end: dict[tuple[int, int], int] = {}
    for f in np.unique(file):
        rows = np.flatnonzero(file == f)
        unranked = bool((rank[rows] == NONE).all())
        pairs = [(int(f) if rank_per_file or unranked else -1, int(r)) for r in rank[rows]]
        begin = max((end.get(pair, 0) for pair in pairs), default=0)
        seen: dict[tuple[int, int, int], int] = {}
        for row, pair in zip(rows, pairs, strict=True):
            key = (*pair, int(source[row]))
            result[row] = begin + seen.get(key, 0)
            seen[key] = seen.get(key, 0) + 1
            end[pair] = max(end.get(pair, 0), int(result[row]) + 1)
    return result, False


def _number(
    column: dict[str, NDArray[Any]],
    file: Int64Array,
    owner: list[tuple[int, bytes]],
    files: list[str],
    rank_per_file: bool,
    notes: list[str],
) -> tuple[NDArray[np.bool_], list[str] | None]:
    """Give every rank one number (in place); returns the samples to keep and names where numbers are ours."""
    rank = column["rank"]
    place = file if rank_per_file else column["source"]
    keep = rank != NONE
    if not keep.any():
        keep = np.ones(len(rank), bool)
        if len(np.unique(place)) == 1:
            raise InputError(
                "no data-parallel ranks in these lines (one engine, or a log without `DPn` / `Engine n` / `engine=`); "
                "give one file per rank, or the log of a data-parallel system"
            )
        repeated = True
    else:
        if not keep.all():
            notes.append(f"{int((~keep).sum()):,} samples without a rank are left out")
        repeated = rank_per_file or _overlap(column["time"][keep], rank[keep], place[keep])
    if not repeated:
        return keep, None
    pairs, number = np.unique(np.stack([place[keep], rank[keep]]), axis=1, return_inverse=True)
    column["rank"] = rank.copy()
    column["rank"][keep] = np.asarray(number, np.int64).ravel()

    def label(p: int, r: int) -> str:
        f, part = (p, b"") if rank_per_file else owner[p]
        several = part and sum(file == f for file, _ in owner) > 1
        names = ([files[f]] if len(files) > 1 or not several else []) + (
            [part.decode("utf-8", "replace")] if several else []
        )
        return " ".join(names) + ("" if r == NONE else f":{r}")

    names = [label(int(p), int(r)) for p, r in pairs.T]
    if (pairs[1] == NONE).all():
        notes.append(f"the lines name no ranks: each of {len(names)} files or processes is one")
    else:
        notes.append(f"several files or processes have ranks of their own, {len(names)} in all (repeated numbers)")
    return keep, names


def _overlap(time: Float64Array, rank: Int64Array, place: Int64Array) -> bool:
    """Whether two places report the same rank over the same time (a rotated log or a restart does not)."""
    if len(np.unique(place)) == 1:
        return False
    order = np.lexsort((place, rank))
    time, rank, place = time[order], rank[order], place[order]
    cut = np.flatnonzero((np.diff(rank, prepend=-2) != 0) | (np.diff(place, prepend=-2) != 0))
    begin, end = np.minimum.reduceat(time, cut), np.maximum.reduceat(time, cut)
    spans = sorted(zip(rank[cut].tolist(), begin.tolist(), end.tolist(), strict=True))
    # A place with one sample at the very time of another's is side by side with it, too.
    return any(a[0] == b[0] and (b[1] < a[2] or b[1] == a[2] == a[1]) for a, b in pairwise(spans))


def _all_ranks(
    rank: Int64Array, names: list[str] | None, ranks: int | None, notes: list[str]
) -> tuple[Int64Array, tuple[str, ...]]:
    ids = np.unique(rank)
    if ranks is not None:
        if int(ids[-1]) >= ranks:
            raise InputError(f"rank {int(ids[-1])} reports, and ranks = {ranks} (0 .. {ranks - 1}) were said to exist")
        ids = np.arange(ranks)
    elif len(ids) == 1:
        raise InputError(
            f"one rank only ({names[0] if names else int(ids[0])}): balance needs two; give the files of all ranks, "
            "or their number (--ranks, ranks=) if the others are idle"
        )
    elif names is None and len(ids) <= int(ids[-1]):
        gaps = np.setdiff1d(np.arange(int(ids[-1]) + 1), ids)
        shown = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
        notes.append(
            f"rank{'s' if len(gaps) > 1 else ''} {shown} never report{'s' if len(gaps) == 1 else ''}; "
            f"if idle rather than elsewhere, say how many ranks there are (--ranks {int(ids[-1]) + 1})"
        )
    return ids, tuple(names[i] if names and i < len(names) else str(i) for i in ids)


def _order(time: Float64Array, rank: Int64Array, file: Int64Array) -> Int64Array:
    """By time; within the resolution of the times the n-th reports of several files belong together."""
    if file[0] == file[-1] and (file == file[0]).all():
        return np.argsort(time, kind="stable")
    by_rank = np.lexsort((time, rank))
    fresh = (np.diff(rank[by_rank], prepend=-2) != 0) | (np.diff(time[by_rank], prepend=math.nan) != 0)
    at = np.arange(len(time))
    nth = np.empty(len(time), np.int64)
    nth[by_rank] = at - np.maximum.accumulate(np.where(fresh, at, 0))
    return np.lexsort((at, nth, time))


def _interval(time: Float64Array, rank: Int64Array) -> float:
    order = np.lexsort((time, rank))
    gaps = np.diff(time[order])[np.diff(rank[order]) == 0]
    return float(np.median(gaps)) if len(gaps) else _DEFAULT_INTERVAL


def _group(time: Float64Array, rank: Int64Array, span: float, ranks: int) -> Int64Array:
    """Number of the moment of every sample (see :func:`read_log`)."""
    last = [-1] * ranks
    result = np.empty(len(time), np.int64)
    number, begin = 0, float(time[0])
    for i, (t, r) in enumerate(zip(time.tolist(), rank.tolist(), strict=True)):
        if last[r] == number or t - begin > span:
            number, begin = number + 1, t
        last[r] = number
        result[i] = number
    return result


def _loads(
    column: dict[str, NDArray[Any]], kv_capacity: int | None, notes: list[str]
) -> tuple[NDArray[Any], str | None, int | None]:
    tokens, share, capacity = column["tokens"], column["share"], column["capacity"]
    if kv_capacity is not None:
        capacity = np.full_like(capacity, kv_capacity)
    else:
        # A line at the start of one file serves the files that lack it, as long as there is one value only.
        printed = np.unique(capacity[capacity > 0])
        if len(printed) == 1:
            capacity = np.full_like(capacity, printed[0])
    known = np.unique(capacity)
    same = int(known[0]) if len(known) == 1 and known[0] > 0 else None
    shared = ~np.isnan(share)
    told = (tokens >= 0) | shared
    counted = (tokens >= 0) | (shared & (capacity > 0))
    if not told.any():
        notes.append("the log has no KV loads: only requests can be judged")
        return np.full(len(tokens), -1, np.int64), None, same
    if counted.any() and ((counted == told).all() or not (shared == told).all()):
        from_share = np.rint(np.where(shared, share, 0.0) * capacity).astype(np.int64)
        return np.where(tokens >= 0, tokens, np.where(counted, from_share, -1)), "tokens", same
    if (capacity > 0).any():
        notes.append("the KV capacity is known for some samples only: loads stay shares of it (--kv-capacity gives it)")
    return np.where(shared, share, -1.0), "share", same


def _printed(seconds: float, has_year: bool) -> str:
    day, of_day = divmod(int(seconds), 86400)
    at = date.fromordinal(day).strftime("%Y-%m-%d" if has_year else "%m-%d")
    return f"{at} {timedelta(seconds=of_day)!s:0>8}"
