"""Prices as tables, text and a picture."""

from __future__ import annotations

import html
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._validate import Float64Array, Int64Array, integer
from ..certificates import Bound
from ..errors import InputError
from ..files import atomic_write

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Columns", "Prices"]

_FORMATS = (".png", ".svg", ".pdf")
_MEAN, _SINGLE, _CROWDED, _INK = "#1f5f99", "#d48c1c", "#c1432e", "#333333"

# What a column holds, and how that is shown: unit and factor.
_KIND = {
    **dict.fromkeys(("cost", "tokens", "slots", "earlier", "later", "paid"), "cost"),
    **dict.fromkeys(("token", "single"), "token"),
    **dict.fromkeys(("slot", "own", "crowding"), "slot"),
    "share": "share",
    "peak": "peak",
    "active": "active",
}
_PLAIN = {"share": ("%", 100.0), "peak": ("tokens", 1.0), "active": ("", 1.0)}
_SCALES: dict[str, dict[str, tuple[str, float]]] = {
    "s": {"cost": ("ms", 1e3), "token": ("ns", 1e9), "slot": ("ms", 1e3)} | _PLAIN,
    "token-steps": dict.fromkeys(("cost", "token", "slot"), ("tok-steps", 1.0)) | _PLAIN,
}
_HEADER = {"last": "last start", "start": "best start", "earlier": "earlier <=", "later": "later <="}

Table = Literal["requests", "steps"]
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False, repr=False)
class Prices:
    """Optimal duals of the relaxation of a hindsight problem; made by :func:`prices`.

    Attributes
    ----------
    problem : {"placement", "schedule"}
    windows : str
        The starts, in words.
    unit : str
        Of all prices and costs: "token-steps" (placement) or "s" (schedule).
    value : float
        Of the relaxation: the sum of ``bill``.
    bill : dict
        Its parts: ``requests`` (the sum of what requests pay); ``steps`` (what the least number of active steps costs,
        ``theta*c*K_min``); ``crowding`` (<= 0: the sum of the crowding prices, paid back); ``constant`` (``b*W/G``).
    optimal : bool
        False: the time limit came first. The prices are valid, better ones may exist.
    bound : Bound
        What these prices, rounded down to integers over a power of two, prove, or the fluid bound where that is
        more; certified.
    requests : dict of ndarray, shape (n,)
        Columns. ``request``, ``release``, ``last`` (last start allowed; -1: no limit), ``prompt``, ``output``;
        ``cost``: what it pays at its cheapest start, and of that ``tokens`` and ``slots``; ``share`` of all costs;
        ``start``: the first cheapest start; ``earlier``, ``later``: what the value could fall by, at most, if it were
        released one step earlier, or allowed to start one step later (at these prices and the same ``K_min``).
    steps : dict of ndarray, shape (K,)
        Columns. ``step``; ``token``: price of a token of any active request; ``single``: what the requests whose load
        alone can set the pace pay for a token beside that, summed over them; ``slot``: price of a slot, per active
        request; ``own``: beside it, summed over requests that keep the step active alone; ``crowding``: what the
        prices of the step exceed its cost ``c`` by, because a step cannot be active more than once; ``peak``,
        ``active``: tokens and activity in the solution of the relaxation; ``cost``: of them, ``a*peak + c*active``;
        ``paid``: what requests and the count of steps pay for it, which is crowding more.
    """

    problem: Literal["placement", "schedule"]
    windows: str
    unit: str
    value: float
    bill: dict[str, float]
    optimal: bool
    bound: Bound
    requests: Columns
    steps: Columns

    def to_polars(self, table: Table = "requests") -> pl.DataFrame:
        """One of the two tables, a row per request or step."""
        import polars as pl

        return pl.DataFrame(self._columns(table))

    def top(self, n: int = 10, table: Table = "requests") -> pl.DataFrame:
        """The `n` requests that pay most, or the `n` steps for which most is paid, dearest first."""
        import polars as pl

        return pl.DataFrame({k: v[self._dearest(n, table)] for k, v in self._columns(table).items()})

    def plot(self, path: str | os.PathLike[str] | None = None, force: bool = False) -> Any:
        """Draw the price of a token, the price of a slot and what each request pays over the steps.

        Parameters
        ----------
        path : path-like, optional
            Name in .png, .svg or .pdf; written completely or not at all.
        force : bool
            Replace a file that exists.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        InputError
            If matplotlib is not installed, the name has another suffix, the file exists, or there are no requests.
        """
        if path is not None and Path(path).suffix.lower() not in _FORMATS:
            raise InputError(f"{os.fspath(path)}: a picture's name ends in {', '.join(_FORMATS)}")
        if not len(self.steps["step"]):
            raise InputError("there are no requests, and no prices to draw")
        try:
            import matplotlib
        except ImportError:
            raise InputError("pictures need matplotlib: pip install 'balanceroute-opt[plot]'") from None
        # A figure of its own, not pyplot's: no global state, no display.
        from matplotlib.figure import Figure

        with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
            figure = Figure(figsize=(9, 7), layout="constrained")
            self._draw(figure)
            if path is not None:
                with atomic_write(path, force) as temporary:
                    figure.savefig(temporary, dpi=150)
        return figure

    def text(self, n: int = 5, width: int = 100) -> str:
        """Value, bill, and the `n` dearest requests and steps, wider than `width` only if a table is."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable

        tables = []
        for name in ("requests", "steps"):
            headers, rows = self._shown(n, name)
            table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
            for header in headers:
                table.add_column(header, justify="right")
            for row in rows:
                table.add_row(*row)
            tables.append((f"The dearest {name}", table))
        needed = max(Console(width=10_000).measure(table).maximum for _, table in tables)
        out = io.StringIO()
        console = Console(file=out, width=max(width, needed), highlight=False, markup=False, emoji=False)
        for line in self._lines():
            console.print(line)
        for title, table in tables:
            console.print(f"\n{title}:", table)
        lines = "\n".join(line.rstrip() for line in out.getvalue().splitlines())
        return lines.replace("\n\n\n", "\n\n").strip() + "\n"

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return (
            f"Prices({self.problem}, {self.windows}: value {self.value:.9g} {self.unit}, "
            f"{len(self.requests['request']):,} requests, {len(self.steps['step']):,} steps)"
        )

    def _repr_html_(self) -> str:
        parts = [f"<p>{'<br>'.join(map(html.escape, self._lines()))}</p>"]
        for name in ("requests", "steps"):
            headers, rows = self._shown(5, name)
            head = "".join(f"<th>{html.escape(header).replace(chr(10), '<br>')}</th>" for header in headers)
            body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
            parts.append(f"<table><caption>The dearest {name}</caption><tr>{head}</tr>{body}</table>")
        return "".join(parts)

    def _columns(self, table: str) -> Columns:
        if table not in ("requests", "steps"):
            raise InputError(f"unknown table {table!r}; tables: requests, steps")
        return self.requests if table == "requests" else self.steps

    def _dearest(self, n: int, table: str) -> Int64Array:
        paid = self._columns(table)["cost" if table == "requests" else "paid"]
        return np.argsort(-paid, kind="stable")[: integer(n, "n", 0)]

    def _lines(self) -> list[str]:
        over = self.windows if self.problem == "placement" else f"start windows: {self.windows}"
        state = "" if self.optimal else "; the time limit came before the best prices"
        parts = ", ".join(f"{name} {value:.6g}" for name, value in self.bill.items() if value)
        return [
            f"No {self.problem} costs less than {self.value:.9g} {self.unit} ({over}{state}).",
            f"Of that: {parts or 'nothing'}.",
            f"Certified in exact arithmetic: {self.bound.value:.9g} {self.unit}.",
        ]

    def _shown(self, n: int, table: str) -> tuple[list[str], list[list[str]]]:
        """Headers and cells of the dearest rows; columns that hold nothing but 0 are left out."""
        columns, rows = self._columns(table), self._dearest(n, table).tolist()
        scales = _SCALES[self.unit]
        names = [name for name in columns if name in ("request", "step", "release") or (columns[name] > 0).any()]
        cells = []
        for name in names:
            scale = scales[_KIND[name]][1] if name in _KIND else 0.0
            values = [columns[name][r].item() for r in rows]
            cells.append(["-" if v != v else _short(v * scale) if scale else str(v) for v in values])
        headers = [f"{_HEADER.get(name, name)}\n{scales[_KIND[name]][0] if name in _KIND else ''}" for name in names]
        return headers, [list(row) for row in zip(*cells, strict=True)]

    def _draw(self, figure: Any) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        s, r, scales = self.steps, self.requests, _SCALES[self.unit]
        # Positions on the axis of the steps that count; idle stretches take no room.
        x, step = np.arange(len(s["step"])), s["step"]
        gaps = np.flatnonzero(np.diff(step) > 1) + 1
        with_slots = bool(s["slot"].any() or s["own"].any())
        axes = figure.subplots(2 + with_slots, 1, sharex=True, height_ratios=[2] * (1 + with_slots) + [3])
        unit, factor = scales["token"]
        _stack(axes[0], s["token"] * factor, s["single"] * factor, "sets the pace")
        axes[0].set_ylabel(f"price of a token\n{unit} per token")
        if with_slots:
            unit, factor = scales["slot"]
            for number, (low, high) in enumerate(_runs(x[s["crowding"] > 0])):
                label = {} if number else {"label": "crowded step"}
                axes[1].axvspan(low, high, color=_CROWDED, alpha=0.18, lw=0, zorder=0, **label)
            _stack(axes[1], s["slot"] * factor, s["own"] * factor, "keeps the step active")
            axes[1].set_ylabel(f"price of a slot\n{unit} per request")
        unit, factor = scales["cost"]
        paid, begin = r["cost"] * factor, np.searchsorted(step, r["start"])
        axes[-1].hlines(paid, begin, begin + r["output"], color=_MEAN, lw=1.2, alpha=0.8)
        axes[-1].plot(begin, paid, ls="", marker="o", ms=2.5, color=_MEAN)
        for i in self._dearest(5, "requests").tolist():
            axes[-1].annotate(
                f"{i}", (begin[i], paid[i]), xytext=(-4, 0), textcoords="offset points", ha="right", va="center",
                fontsize=8, color=_INK, bbox={"fc": "white", "ec": "none", "pad": 0.5},
            )  # fmt: skip
        axes[-1].set_ylabel(f"what a request pays\n{unit}")
        idle = "; idle steps left out at dotted lines" if len(gaps) else ""
        axes[-1].set_xlabel(f"step{idle} (below: best start to end of each request, the five dearest with numbers)")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[-1].xaxis.set_major_formatter(
            FuncFormatter(lambda at, _: f"{step[int(at)]}" if 0 <= at < len(step) and at == int(at) else "")
        )
        for panel in axes:
            panel.set_ylim(bottom=0)
            panel.margins(x=0.03)
            panel.grid(axis="y", lw=0.4, color="#dddddd")
            panel.set_axisbelow(True)
            for gap in gaps.tolist():
                panel.axvline(gap, ls=":", lw=0.8, color=_INK)
        for panel in axes[:-1]:
            panel.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, borderaxespad=0.1)
        figure.suptitle(self._lines()[0], x=0.01, ha="left", color=_INK, fontsize=11, fontweight="bold")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _runs(positions: Int64Array) -> list[tuple[int, int]]:
    """Ranges (first, end) of consecutive positions."""
    runs = np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1)
    return [(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]


def _stack(axes: Any, common: Float64Array, single: Float64Array, role: str) -> None:
    """What every request pays, and on it what those with a role of their own pay besides."""
    edges = np.arange(len(common) + 1)
    axes.stairs(common, edges, fill=True, color=_MEAN, lw=0, label="any request")
    if single.any():
        axes.stairs(
            common + single,
            edges,
            baseline=common,
            fill=True,
            color=_SINGLE,
            lw=0,
            label=f"besides, one that {role} alone",
        )
