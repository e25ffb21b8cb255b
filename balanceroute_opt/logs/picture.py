"""The time line of a log as a picture."""

from __future__ import annotations

import os
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files import atomic_write
from ..metrics import Window
from .log import Log

__all__ = ["plot_log"]

_BINS = 800
_INK, _PEAK, _MEAN, _LEAST = "#333333", "#c1432e", "#1f5f99", "#8aa9c4"
_DAY = timedelta(days=1)
_FORMATS = (".png", ".svg", ".pdf")


def plot_log(log: Log, path: str | os.PathLike[str], window: Window = "all", force: bool = False) -> None:
    """Draw loads and requests of the ranks over time.

    Above: largest, mean and least load, the area between the first two being what the barrier wastes. In the middle
    every rank's load relative to the mean of its moment. Below: the same for running requests, and the queues.
    Long logs are averaged over at most 800 bins of equally many moments.

    Parameters
    ----------
    log : Log
    path : path-like
        Name in .png, .svg or .pdf; written completely or not at all.
    window : "all" or (float, float)
    force : bool
        Replace a file that exists.

    Raises
    ------
    InputError
        If matplotlib is not installed, the name has another suffix, a single moment counts, or as :meth:`Log.metrics`.
    """
    if Path(path).suffix.lower() not in _FORMATS:
        raise InputError(f"{os.fspath(path)}: a picture's name ends in {', '.join(_FORMATS)}")
    try:
        import matplotlib
    except ImportError:
        raise InputError("pictures need matplotlib: pip install 'balanceroute-opt[plot]'") from None
    rows = log.chosen(window)
    metrics = log.metrics(window)
    if len(rows) < 2:
        raise InputError("a time line needs two moments, and one counts")
    # A figure of its own, not pyplot's: no global state, no display.
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 7.4), layout="constrained")
        _draw(figure, log, rows, metrics)
        with atomic_write(path, force) as temporary:
            figure.savefig(temporary, dpi=150)


def _draw(figure: Any, log: Log, rows: NDArray[np.int64], metrics: dict[str, Any]) -> None:
    m = log.moments
    bins = np.array_split(rows, min(_BINS, len(rows)))
    axis, label = _axis(log, np.array([b[0] for b in bins]))
    has_load = "excess" in metrics
    axes = (
        figure.subplots(3, 1, sharex=True, height_ratios=[3, 2.4, 2.4]) if has_load else [None, None, figure.subplots()]
    )
    title = f"{len(log.ranks)} ranks, {len(rows):,} moments"
    if has_load:
        unit, scale = ("KV tokens", 1.0) if log.unit == "tokens" else ("KV use, %", 100.0)
        load = m.load.astype(np.float64) * scale
        _band(axes[0], axis, load, bins)
        axes[0].set_ylabel(unit)
        wasted = metrics["excess"] / (1 + metrics["excess"])
        title += f": the barrier wastes {wasted:.1%} of the attention time (excess {metrics['excess']:.1%})"
        mean = load.mean(axis=1, keepdims=True)
        relative = np.stack([(load[b] / np.maximum(mean[b], 1e-12)).mean(axis=0) for b in bins], axis=1)
        _heat(figure, axes[1], axis, relative, log)
    figure.suptitle(title, x=0.01, ha="left", color=_INK, fontsize=11, fontweight="bold")
    _band(axes[2], axis, m.running.astype(np.float64), bins)
    queue = np.array([np.maximum(m.waiting[b], 0).sum(axis=1).mean() for b in bins])
    if queue.any():
        axes[2].plot(axis, queue, color="#d48c1c", lw=0.7, alpha=0.9, label="waiting, all ranks")
    axes[2].set_ylabel("running requests")
    axes[2].set_xlabel(label)
    for a in (axes[0], axes[2]):
        if a is not None:
            a.set_ylim(bottom=0)
            a.margins(x=0)
            a.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, borderaxespad=0.1)
            a.yaxis.set_major_formatter(lambda value, _: f"{value / 1000:,g}k" if value >= 10_000 else f"{value:,g}")
    if isinstance(axis, list):
        from matplotlib.dates import DateFormatter

        axes[2].xaxis.set_major_formatter(DateFormatter("%H:%M" if axis[-1] - axis[0] < _DAY else "%m-%d %H:%M"))


def _axis(log: Log, moments: NDArray[np.int64]) -> tuple[list[Any] | NDArray[Any], str]:
    seconds = log.moments.time[moments]
    if log.start is None or (np.diff(seconds) <= 0).any():
        # No times, or several moments in a second: their order is the axis.
        return moments, "moment"
    if len(log.start) > 14:
        begin = datetime.fromisoformat(log.start)
    else:
        month, day = int(log.start[:2]), int(log.start[3:5])
        begin = datetime.combine(date(2024, month, day), datetime.strptime(log.start[6:], "%H:%M:%S").time())
    if seconds[-1] - seconds[0] < 120:
        return seconds, f"seconds since {log.start}"
    return [begin + timedelta(seconds=float(s)) for s in seconds], f"time (first sample: {log.start})"


def _band(axes: Any, x: Any, values: NDArray[np.float64], bins: list[NDArray[np.int64]]) -> None:
    most, mean, least = (np.array([f(values[b], axis=1).mean() for b in bins]) for f in (np.max, np.mean, np.min))
    axes.fill_between(x, mean, most, color=_PEAK, alpha=0.18, lw=0)
    axes.plot(x, most, color=_PEAK, lw=1.2, label="largest rank")
    axes.plot(x, mean, color=_MEAN, lw=1.2, label="mean")
    axes.plot(x, least, color=_LEAST, lw=1.0, label="least rank")
    axes.grid(axis="y", lw=0.4, color="#dddddd")


def _heat(figure: Any, axes: Any, x: Any, relative: NDArray[np.float64], log: Log) -> None:
    from matplotlib.colors import TwoSlopeNorm

    top = min(max(float(relative.max()), 1.2), 3.0)
    edges = np.arange(len(log.ranks) + 1) - 0.5
    mesh = axes.pcolormesh(
        x,
        (edges[:-1] + edges[1:]) / 2,
        relative,
        cmap="RdBu_r",
        norm=TwoSlopeNorm(1.0, vmin=0.0, vmax=top),
        shading="nearest",
        rasterized=True,
    )
    every = max(1, -(-len(log.ranks) // 16))
    ticks = np.arange(0, len(log.ranks), every)
    axes.set_yticks(ticks, [log.ranks[i] for i in ticks])
    axes.invert_yaxis()
    axes.set_ylabel("rank")
    figure.colorbar(mesh, ax=axes, label="load / mean", pad=0.01, extend="max" if relative.max() > top else "neither")
