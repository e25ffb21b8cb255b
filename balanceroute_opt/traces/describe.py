"""What is in a trace: the numbers of the usual summary table, and a picture."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files import atomic_write, require_writable
from .reader import RawTrace, file_name, read_raw

__all__ = ["LengthStats", "TraceSummary", "describe_trace", "plot_trace"]

_BINS = (60, 300, 600, 1800, 3600, 6 * 3600, 86400, 7 * 86400)
_BLUE, _ORANGE, _GREY = "#2a6f97", "#d1662a", "#555555"


@dataclass(frozen=True)
class LengthStats:
    """Token counts of one column over all rows; percentiles interpolate linearly."""

    mean: float
    median: float
    p90: float
    p99: float
    max: int


@dataclass(frozen=True)
class TraceSummary:
    """Summary of all rows of a trace, those with 0 tokens included.

    Parameters
    ----------
    file, format : str
        Name of the file without its folder; name of the format.
    rows, requests, dropped : int
        Rows, rows with a prompt and an output, rows that :func:`read_trace` leaves out.
    zero_prompt, zero_output : int
        Rows with a prompt, with an output, of 0 tokens.
    out_of_order : int
        Rows earlier than the row before them; the arrivals below are those of the sorted times.
    keys : int
        Distinct keys.
    zone : str
        UTC offset written in the times.
    span : float or None
        Last minus first arrival, seconds; None without arrivals.
    rate : float or None
        ``(rows - 1) / span``, requests per second; None without a span.
    cv : float or None
        Standard deviation over mean of the times between arrivals.
    median_gap : float or None
        Median time between arrivals, seconds.
    busiest_minute : float or None
        Arrivals in the busiest minute (counted from the first arrival) over those of a mean minute.
    prompt, output : LengthStats
    """

    file: str
    format: str
    rows: int
    requests: int
    dropped: int
    zero_prompt: int
    zero_output: int
    out_of_order: int
    keys: int
    zone: str
    span: float | None
    rate: float | None
    cv: float | None
    median_gap: float | None
    busiest_minute: float | None
    prompt: LengthStats
    output: LengthStats

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def describe_trace(path: str | os.PathLike[str], format: str | None = None, **options: Any) -> TraceSummary:
    """Summary of a trace file; parameters and errors as :func:`read_trace`.

    Times that decrease are an error here too, unless ``order="sort"``.
    """
    return summarise(read_raw(path, format, **options), file_name(path))


def summarise(raw: RawTrace, file: str) -> TraceSummary:
    """Summary of the columns of a file."""
    no_prompt, no_output = raw.prompt == 0, raw.output == 0
    dropped = int((no_prompt | no_output).sum())
    span = rate = cv = median = busiest = None
    if raw.time is not None:
        span = int(raw.time[-1] - raw.time[0]) / 1e9
        if span > 0:
            gaps = np.diff(raw.time) / 1e9
            rate = len(gaps) / span
            cv, median = float(gaps.std() / gaps.mean()), float(np.median(gaps))
            if span >= 120:
                busiest = float(_counts(raw.time, 60).max() / (60 * rate))
    return TraceSummary(
        file=file,
        format=raw.format.name,
        rows=len(raw.prompt),
        requests=len(raw.prompt) - dropped,
        dropped=dropped,
        zero_prompt=int(no_prompt.sum()),
        zero_output=int(no_output.sum()),
        out_of_order=raw.out_of_order,
        keys=0 if raw.key is None else int(np.count_nonzero(np.unique(raw.key) != -1)),
        zone=raw.zone,
        span=span,
        rate=rate,
        cv=cv,
        median_gap=median,
        busiest_minute=busiest,
        prompt=_lengths(raw.prompt),
        output=_lengths(raw.output),
    )


def plot_trace(raw: RawTrace, out: str | os.PathLike[str], title: str, force: bool = False) -> None:
    """A picture of a trace: arrivals over time, and the distributions of prompt and output tokens.

    Parameters
    ----------
    raw : RawTrace
        Columns of the file, from ``read_raw``.
    out : path-like
        A ``.png``, ``.pdf`` or ``.svg`` file.
    title : str
        Heading.
    force : bool
        Replace a file that exists.

    Raises
    ------
    InputError
        If matplotlib is not installed, the ending is another, the file exists, or it cannot be written.
    """
    check_plot(out, force)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.4), layout="constrained")
    arrivals = raw.time is not None and raw.time[-1] > raw.time[0]
    shape = [["time", "time"], ["prompt", "output"]] if arrivals else [["prompt", "output"]]
    axes: dict[str, Any] = figure.subplot_mosaic(shape)
    if arrivals:
        assert raw.time is not None
        _plot_arrivals(axes["time"], raw.time)
    else:
        figure.set_size_inches(8.0, 3.1)
    _plot_lengths(axes["prompt"], raw.prompt, "prompt tokens", _BLUE)
    _plot_lengths(axes["output"], raw.output, "output tokens", _ORANGE)
    axes["prompt"].set_ylabel("% of requests per bin")
    for axis in axes.values():
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    figure.suptitle(f"{title}: {len(raw.prompt):,} requests", fontsize=11, x=0.01, ha="left")
    with atomic_write(out, force) as temporary:
        figure.savefig(temporary, format=Path(out).suffix[1:].lower(), dpi=160, metadata=_no_date(out))


def check_plot(out: str | os.PathLike[str], force: bool = False) -> None:
    """Raise InputError unless a picture can be written to `out`; to be asked before long work."""
    if Path(out).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"{os.fspath(out)}: a plot is a .png, .pdf or .svg file")
    require_writable(out, force)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("plots need matplotlib: pip install 'balanceroute-opt[plot]'") from None


def _lengths(tokens: NDArray[np.int32]) -> LengthStats:
    median, p90, p99 = np.percentile(tokens, (50, 90, 99)).tolist()
    return LengthStats(float(tokens.mean()), median, p90, p99, int(tokens.max()))


def _counts(time: NDArray[np.int64], seconds: int) -> NDArray[np.int64]:
    """Arrivals per bin of `seconds`, from the first arrival on."""
    return np.bincount((time - time[0]) // (seconds * 10**9))


def _plot_arrivals(axis: Any, time: NDArray[np.int64]) -> None:
    span = int(time[-1] - time[0]) / 1e9
    width = next((b for b in _BINS if span / b <= 400), _BINS[-1] * math.ceil(span / _BINS[-1] / 400))
    counts = _counts(time, width)
    unit, per = ("minutes", 60) if span <= 3 * 3600 else ("hours", 3600) if span <= 4 * 86400 else ("days", 86400)
    edges = np.append(np.arange(len(counts)) * width, max(span, width * (len(counts) - 1) + 1e-9)) / per
    # The last bin is cut where the trace ends, and so is its share of a minute.
    rate = counts / np.maximum(np.diff(edges) * per, min(width, 1)) * 60
    if len(rate) > 1 and (edges[-1] - edges[-2]) * per < width / 2:
        rate, edges = rate[:-1], edges[:-1]
    axis.stairs(rate, edges, fill=True, color=_BLUE, alpha=0.25)
    axis.stairs(rate, edges, color=_BLUE, linewidth=1.2, baseline=None)
    mean = (len(time) - 1) / span * 60
    axis.axhline(mean, color=_GREY, linewidth=0.9, linestyle="--")
    text = f"mean {mean:,.0f}" if mean >= 100 else f"mean {mean:.3g}"
    axis.annotate(
        text, (1, mean), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
        fontsize=8, color=_GREY, va="center", annotation_clip=False,
    )  # fmt: skip
    size = f"{width // 60} min" if width < 3600 else f"{width // 3600} h"
    axis.set_ylabel("arrivals per minute")
    axis.set_xlabel(f"time since first arrival ({unit}; bins of {size})")
    axis.set_xlim(0, edges[-1])
    axis.set_ylim(0)


def _plot_lengths(axis: Any, tokens: NDArray[np.int32], label: str, color: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    median, p99 = np.percentile(tokens, (50, 99)).tolist()
    text = f"{label}: median {median:,.0f}, p99 {p99:,.0f}, max {tokens.max():,}"
    axis.set_title(text, fontsize=9, loc="left", color=_GREY)
    positive = tokens[tokens > 0]
    zeros = len(tokens) - len(positive)
    axis.set_xlabel(label + (f" ({zeros:,} of 0 not shown)" if zeros else ""))
    if not len(positive):
        return
    low, high = int(positive.min()), int(positive.max())
    edges = np.unique(np.floor(np.geomspace(low, high + 1, 41)).astype(np.int64))
    counts, edges = np.histogram(positive, edges)
    # Bins that hold few integers differ in width, even on the logarithmic axis: densities do not comb.
    usual = math.log((high + 1) / low) / 40
    density = 100 * counts / len(tokens) * usual / np.diff(np.log(edges))
    axis.stairs(density, edges, fill=True, color=color, alpha=0.75)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(numticks=8))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(0, density.max() * 1.05)
    for value, style in ((median, "--"), (p99, ":")):
        if value > 0:
            axis.axvline(value, color=_GREY, linewidth=1.1, linestyle=style)


def _no_date(out: str | os.PathLike[str]) -> dict[str, Any]:
    """Metadata without the time of day: equal data, equal bytes."""
    return {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}[Path(out).suffix.lower()]
