"""Routers side by side on one workload, each beside a certified bound on its own placement problem."""

from __future__ import annotations

import html
import io
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._validate import integer
from ..certificates import Bound, write_certificate
from ..errors import InputError
from ..evaluation.intervals import mean_and_half_width
from ..evaluation.ratios import above_makespan, hindsight_ratio, makespan, percent
from ..files import write_instance, write_schedule
from ..instance import Cluster, Instance, require_fit
from ..metrics import METRICS, Window, window_bounds
from ..oracles.bounds import placement_bound
from ..oracles.makespan import makespan_bound
from ..schedule import check
from ..simulator import simulate
from .engine import require_jobs
from .hindsight import BRACKETS, Judged, bracket_fields, bracket_table, brackets
from .specs import nearest, options_of, resolve, router_from
from .workload import describe, plain

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

__all__ = ["COLUMNS", "Comparison", "check_metrics", "compare"]

COLUMNS = ("throughput", "tpot_p95", "wait_p99", "imbalance_range", "excess")
"""Metrics that the table shows; every other one is in :attr:`Comparison.rows`."""

# Header, factor and format of a metric's cells; others are shown by their name with 6 digits.
_SHOWN: dict[str, tuple[str, float, str]] = {
    "throughput": ("throughput\ntok/s", 1, ",.0f"),
    "tpot_p95": ("TPOT p95\nms", 1e3, ".2f"),
    "wait_p99": ("wait p99\n{wait_unit}", 1, ",.2f"),
    "imbalance_range": ("imbalance\nrange, tok", 1, ",.0f"),
    "excess": ("excess\n%", 100, ".2f"),
}
_MORE_IS_BETTER = {"throughput"}
_LISTS = ("best_known", "schedule_bound", "schedule_best_known", "makespan")  # over seeds, beside the bound's


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Routers on one workload, best first; made by :func:`compare`.

    Attributes
    ----------
    rows : list of dict
        One per router, ascending by ``excess``. ``router``, ``options``, ``mode``, ``random``, ``clairvoyant``
        (it is told output lengths), ``seeds`` (a list);
        every metric of ``METRICS`` (mean over the seeds) and ``half_width`` (of the 95 % t-interval, by metric; empty
        for one run); ``wait_unit``; ``bound_method``, ``bound`` and ``verified_value`` (token-steps, lists with an
        entry per seed), ``certified``, ``verified``; ``hindsight_lower``, ``hindsight_upper`` (the widest bracket
        over the seeds); ``at_most_above``: ``hindsight_upper - 1``, how much more than the best placement with the
        same admission steps the ``peak_sum`` of the run can be at most. None where there is no number. On the wall
        clock ``makespan`` (seconds from the first arrival to the end of the last step, a list) and
        ``makespan_above_bound`` (the largest over the seeds, a share); else empty and None.
        With `hindsight`, also ``best_known`` (token-steps, a list) and ``best_known_by``, which give
        ``hindsight_lower``; and for the schedule problem in which no request starts later than in the run
        (``schedule_windows``: ``latest``) ``schedule_bound_method``, ``schedule_bound`` and ``schedule_best_known``
        (seconds of decode time, lists), ``schedule_certified``, ``schedule_best_known_by``, ``schedule_lower`` and
        ``schedule_upper`` (the widest bracket of the ratio of decode times over the seeds).
    skipped : dict
        Routers of ``"all"`` that cannot run here, and why.
    workload, cluster : dict
        What was simulated.
    window : "all", "loaded" or (float, float)
        Of the metrics; bounds are always over all steps.
    hindsight : int
        Moves of the search for best known schedules, per run; 0: none was made, and there are no brackets.
    makespan_bound : Bound or None
        On the makespan of every run, certified and verified; None on the step clock.
    """

    rows: list[dict[str, Any]]
    skipped: dict[str, str]
    workload: dict[str, Any]
    cluster: dict[str, Any]
    window: Window
    hindsight: int = 0
    makespan_bound: Bound | None = None

    def table(self, sort: str = "excess", metrics: Sequence[str] = ()) -> Table:
        """A table for the terminal (:mod:`rich`), best first by the metric `sort`, with further columns `metrics`.

        Raises
        ------
        InputError
            If a metric is unknown.
        """
        from rich import box
        from rich.table import Table

        columns = _columns(metrics)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("router", overflow="fold", max_width=32)
        for name in columns:
            header = _SHOWN[name][0] if name in _SHOWN else f"{name}\n{METRICS[name][0]}"
            unit = self.rows[0]["wait_unit"]
            table.add_column(header.replace("{wait_unit}", unit).replace("wait_unit", unit), justify="right")
        table.add_column("at most above\nbest placement\n(certified)", justify="right")
        for row in self.sorted(sort):
            label = row["router"] + (" (told lengths)" if row["clairvoyant"] else "")
            table.add_row(label, *(_cell(row, name) for name in columns), _claim_cell(row))
        return table

    def hindsight_table(self, sort: str = "excess") -> Table:
        """Brackets of the ratios to both hindsight problems, with what each end rests on (:mod:`rich`).

        Raises
        ------
        InputError
            If the comparison was made without `hindsight`.
        """
        if not self.hindsight:
            raise InputError("the comparison was made without hindsight=, and has no brackets")
        return bracket_table(self.sorted(sort))

    def sorted(self, by: str = "excess") -> list[dict[str, Any]]:
        """The rows, best first by a metric (throughput: largest first; all others: smallest first)."""
        check_metrics([by])
        sign = -1 if by in _MORE_IS_BETTER else 1
        return sorted(self.rows, key=lambda row: (math.isnan(row[by]), sign * row[by]))

    def workload_lines(self) -> list[str]:
        """What was simulated, in plain words."""
        w, c = self.workload, self.cluster
        load = "all at once" if w["utilization"] is None else f"utilization {w['utilization']:.3g}"
        capacity = "no KV limit" if c["kv_capacity"] is None else f"{c['kv_capacity']:,} KV tokens per worker"
        time = c["step_time"]
        step = f"{time['fixed'] * 1e3:.4g} ms + {time['per_token'] * 1e9:.4g} ns/token of the fullest worker"
        if time["per_mean_token"]:
            step += f" + {time['per_mean_token'] * 1e9:.4g} ns/token of the mean"
        window = self.window if isinstance(self.window, str) else f"{self.window[0]:g}-{self.window[1]:g}"
        seeds = max(len(row["seeds"]) for row in self.rows)
        repeated = [f"random routers: mean of {seeds} seeds ± half of the 95 % interval"] if seeds > 1 else []
        return [
            f"{w['name']}: {w['requests']:,} requests, {w['clock']} clock, {load}",
            f"{c['workers']} workers x {c['slots']} slots, {capacity}, step {step}",
            f"metrics over {window} active steps; a single replay of one trace",
            *repeated,
        ]

    def sentences(self) -> list[str]:
        """What to conclude, in two or three plain sentences."""
        best = next((row for row in self.rows if not row["clairvoyant"]), self.rows[0])
        lines = [self._winner(best), _open(best)]
        waits = {row["router"]: row["wait_p99"] for row in self.rows if math.isfinite(row["wait_p99"])}
        if len(waits) > 1:
            short, long = min(waits, key=waits.__getitem__), max(waits, key=waits.__getitem__)
            unit = best["wait_unit"]
            if waits[long] > 2 * waits[short] and waits[long] - waits[short] > (1 if unit == "s" else 20):
                ends = [f"{_number(waits[name])} {unit} ({name})" for name in (short, long)]
                lines.append(
                    f"Waits differ strongly, from {' to '.join(ends)} at p99. The bound does not judge them: "
                    "it takes each router's admission steps as given."
                )
        if self.makespan_bound is not None:
            lines.append(self._makespans(self.makespan_bound))
        return lines

    def _makespans(self, bound: Bound) -> str:
        ends = sorted(self.rows, key=lambda row: (row["makespan_above_bound"], row["router"]))
        shares = [f"{percent(row['makespan_above_bound'], up=True)} ({row['router']})" for row in ends]
        above = shares[0] if len(ends) == 1 else f"{shares[0]} to {shares[-1]}"
        return (
            f"No run of any router ends before {bound.value:,.6g} s after the first arrival (certified, one bound for "
            f"all): these end at most {above} later."
        )

    def _winner(self, best: dict[str, Any]) -> str:
        name = best["router"]
        own = f"under {name} attention takes {_percent(best['excess'])} longer than with perfectly equal loads"
        rivals = [row for row in self.rows if row is not best and math.isfinite(row["excess"])]
        knowing = [row for row in rivals if row["clairvoyant"] and not best["clairvoyant"]]
        rivals = [row for row in rivals if row not in knowing]
        if not rivals:
            return f"{own[0].upper()}{own[1:]}."
        tied = [row["router"] for row in rivals if row["excess"] == best["excess"]]
        others = [row for row in rivals if row["router"] not in tied]
        equals = f" (with {', '.join(tied)})" if tied else ""
        title = f"{name}{equals} is the best of {len(rivals) + 1} here"
        if not others:
            return f"{title}: {own}."
        other = next((row for row in others if row["router"] == "jsq"), others[-1])
        more = (1 + other["excess"]) / (1 + best["excess"]) - 1
        text = (
            f"{title}: {own}; under {other['router']} it takes {_percent(other['excess'])} longer, "
            f"which is {_percent(more)} more attention time than under {name}"
        )
        worst = others[-1]
        if worst["excess"] > other["excess"]:
            text += f" (worst: {worst['router']}, {_percent((1 + worst['excess']) / (1 + best['excess']) - 1)} more)"
        text += "".join(
            f"; under {row['router']}, which is told all output lengths, it takes {_percent(row['excess'])} longer"
            for row in knowing
            if row["excess"] < best["excess"]
        )
        return text + "."

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``: None stands where a number is not defined or infinite."""
        return plain(
            {
                "schema": "balanceroute/comparison",
                "version": 1,
                "workload": self.workload,
                "cluster": self.cluster,
                "window": self.window,
                "hindsight": self.hindsight,
                "makespan_bound": None if self.makespan_bound is None else self.makespan_bound.value,
                "rows": self.rows,
                "skipped": self.skipped,
                "conclusions": self.sentences(),
            }
        )

    def to_polars(self) -> pl.DataFrame:
        """One row per router: every metric, ``<metric>_half_width`` where there are several seeds, and the bound.

        Lists over seeds are texts with spaces between the entries.
        """
        import polars as pl

        flat: list[dict[str, Any]] = []
        several = any(row["half_width"] for row in self.rows)
        for row in self.rows:
            record = {k: v for k, v in row.items() if k != "half_width"}
            record["options"] = json.dumps(row["options"])
            for name in ("seeds", "bound", "verified_value", *_LISTS):
                record[name] = " ".join(map(str, row[name]))
            record |= {name: float(row[name]) for name in METRICS}
            if several:
                record |= {f"{name}_half_width": row["half_width"].get(name) for name in METRICS}
            flat.append(record)
        floats = {name: pl.Float64 for name in flat[0] if name.endswith("_half_width")}
        floats |= dict.fromkeys(
            ("hindsight_lower", "hindsight_upper", "at_most_above", "schedule_lower", "schedule_upper"), pl.Float64
        )
        floats["makespan_above_bound"] = pl.Float64
        return pl.DataFrame(flat, schema_overrides=floats, infer_schema_length=None)

    def text(self, sort: str = "excess", metrics: Sequence[str] = (), width: int = 100) -> str:
        """Workload, table and conclusions as text, wider than `width` only if the table is."""
        from rich.console import Console

        out = io.StringIO()
        table = self.table(sort, metrics)
        needed = Console(width=10_000).measure(table).maximum
        console = Console(file=out, width=max(width, needed), highlight=False, markup=False, emoji=False)
        for line in self.workload_lines():
            console.print(line)
        console.print(table)
        narrow = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
        if self.hindsight:
            brackets_ = self.hindsight_table(sort)
            narrow.print(BRACKETS.format(moves=self.hindsight))
            wide = max(width, Console(width=10_000).measure(brackets_).maximum)
            Console(file=out, width=wide, highlight=False, markup=False, emoji=False).print(brackets_)
        for line in self.sentences():
            narrow.print(line)
        for name, reason in self.skipped.items():
            narrow.print(f"Left out: {name} ({reason}).")
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        routers = ", ".join(row["router"] for row in self.rows)
        return f"Comparison({self.workload['name']}, {self.workload['requests']:,} requests: {routers})"

    def _repr_html_(self) -> str:
        def cell(text: str, tag: str = "td") -> str:
            inner = html.escape(text).replace("\n", "<br>")
            return f"<{tag}>{inner}</{tag}>"

        table = self.table()
        head = "".join(cell(str(column.header), "th") for column in table.columns)
        body = "".join(
            f"<tr>{''.join(cell(str(text)) for text in line)}</tr>"
            for line in zip(*(column.cells for column in table.columns), strict=True)
        )
        caption = "<br>".join(map(html.escape, self.workload_lines()))
        notes = "".join(f"<p>{html.escape(line)}</p>" for line in self.sentences())
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{body}</table>{notes}"


def compare(
    inst: Instance,
    cluster: Cluster,
    routers: Any = "all",
    seeds: int = 1,
    window: Window = "all",
    bound: str | Sequence[str] = "item",
    jobs: int = 1,
    seed: int = 0,
    *,
    staleness: float = 0.0,
    optimistic: bool = False,
    certificates: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    extra: Sequence[Any] = (),
    hindsight: int = 0,
) -> Comparison:
    """Run routers on one workload, and bound from below what any placement could have reached.

    Every run's schedule is checked by :func:`~balanceroute_opt.check`, its cost is computed again from the schedule,
    and every bound is reproduced by :func:`~balanceroute_opt.verify`.

    Parameters
    ----------
    inst : Instance
    cluster : Cluster
    routers : "all", str or list
        Names, ``name:option=value``, ``file.py:Class``, or router objects (copied for each run).
    seeds : int
        Runs of each random router, with seeds ``seed``, ``seed + 1``, ...; the others run once. A router is random if
        its class says ``random = True``.
    window : "all", "loaded" or (float, float)
        Of the metrics.
    bound : str or list of str
        Methods of :func:`~balanceroute_opt.placement_bound`; of several, the best bound counts.
    jobs : int
        Processes; -1 is one per core. The result does not depend on it.
    seed : int
    staleness, optimistic
        As in :func:`~balanceroute_opt.simulate`.
    certificates : path-like, optional
        A folder, made if missing, for the instance, schedule and certificate of every run; ``balanceroute check``
        verifies them again.
    force : bool
        Replace files in that folder.
    progress : callable, optional
        Called with the number of finished runs and of all.
    extra : sequence
        Further routers, as in a list of `routers`; with ``routers="all"`` they stand beside all.
    hindsight : int
        Moves of a search for better schedules of every run, the same on every machine: then both ends of the ratios
        to the two hindsight problems are told. 0: no search; the lower end is the run itself.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        For an empty instance, an unknown router, method or window, a number out of range, or a folder that cannot
        be written.
    RouterError
        If a router gives an answer that the model does not allow.
    CertificateError
        If a bound is not reproduced.

    Examples
    --------
    >>> inst = Instance(release=[0, 0, 0, 0], prompt=[8, 1, 8, 1], output=[3, 3, 3, 3])
    >>> result = compare(inst, Cluster(workers=2, slots=2), routers=["round-robin", "least-kv"])
    >>> [(row["router"], row["peak_sum"], row["bound"]) for row in result.rows]
    [('least-kv', 33, [33]), ('round-robin', 54, [33])]
    """
    import joblib

    if not len(inst):
        raise InputError("the workload has no requests")
    require_fit(inst, cluster)
    specs = resolve([*resolve(routers), *extra])
    seeds, seed = integer(seeds, "seeds", 1, 10**6), integer(seed, "seed", 0, 2**62)
    require_jobs(jobs)
    window_bounds(window, 1, 0)
    hindsight = integer(hindsight, "hindsight", 0, 10**12)
    methods = [bound] if isinstance(bound, str) else list(bound)
    check_bounds(methods)
    target = None if certificates is None else _usable_folder(Path(certificates), force)
    common = makespan_bound(inst, cluster) if inst.clock == "wall" else None
    if common is not None:
        common.reproduced(inst, cluster)

    tasks: list[tuple[Any, str, int]] = []
    for spec in specs:
        label, router = router_from(spec)
        runs = seeds if getattr(router, "random", False) else 1
        tasks += [(spec, label, seed + number) for number in range(runs)]
    scratch = None if target is None else Path(tempfile.mkdtemp(prefix=".balanceroute-", dir=target.parent))
    try:
        shared = (inst, cluster, window, methods, staleness, optimistic, scratch, routers == "all", hindsight > 0)
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
        results = []
        for result in parallel(joblib.delayed(_one)(*task, *shared) for task in tasks):
            results.append(result)
            if progress is not None:
                progress(len(results), len(tasks) * (2 if hindsight else 1))
        judged = [r for r in results if isinstance(r, dict) and r.get("judged") is not None]
        done = None if progress is None else lambda i, n: progress(len(tasks) + i, len(tasks) + n)
        pairs = brackets([r["judged"] for r in judged], hindsight, seed, parallel, done) if judged else []
        for result, pair in zip(judged, pairs, strict=True):
            result["brackets"] = pair
            result["ratio"] = (pair[0].ratio.lower, pair[0].ratio.upper)
        if scratch is not None and target is not None:
            if common is not None and common.certificate is not None:
                write_instance(inst, scratch / "makespan.instance.json.gz", cluster=cluster)
                write_certificate(common.certificate, scratch / "makespan.certificate.json.gz")
            target.mkdir(exist_ok=True)
            for file in sorted(scratch.iterdir()):
                os.replace(file, target / file.name)
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)

    skipped = {label: r for (_, label, _), r in zip(tasks, results, strict=True) if isinstance(r, str)}
    rows = []
    for spec in specs:
        label, router = router_from(spec)
        runs_of = [r for (_, other, _), r in zip(tasks, results, strict=True) if other == label and isinstance(r, dict)]
        if runs_of:
            rows.append(_row(label, router, runs_of, common))
    if not rows:
        raise InputError(f"no router can run here: {'; '.join(f'{k}: {v}' for k, v in skipped.items())}")
    rows.sort(key=lambda row: (math.isnan(row["excess"]), row["excess"], row["router"]))
    return Comparison(rows, skipped, describe(inst, cluster), cluster.as_dict(), window, hindsight, common)


def check_bounds(methods: Sequence[str]) -> None:
    """Raise InputError unless every method is one of placement bounds; asked before long work."""
    if not methods:
        raise InputError("at least one bound method is needed")
    for method in methods:
        placement_bound(Instance([0], [1], [1]), Cluster(1, 1), [0], method)  # type: ignore[arg-type]


def check_metrics(names: Sequence[str]) -> None:
    """Raise InputError, listing what there is, unless all are metrics."""
    for name in names:
        if name not in METRICS:
            raise InputError(f"unknown metric {name!r}{nearest(str(name), METRICS)}; metrics: {', '.join(METRICS)}")


def _one(
    spec: Any,
    label: str,
    seed: int,
    inst: Instance,
    cluster: Cluster,
    window: Window,
    methods: list[str],
    staleness: float,
    optimistic: bool,
    folder: Path | None,
    may_skip: bool,
    judge: bool,
) -> dict[str, Any] | str:
    """One run with its bound, checked; or why this router cannot run here, if that is allowed."""
    try:
        run = simulate(inst, cluster, router_from(spec)[1], seed, staleness=staleness, optimistic=optimistic)
    except InputError as exc:
        if not may_skip:
            raise
        return str(exc)
    result: dict[str, Any] = {"seed": seed, "metrics": run.metrics(window), "bound": None}
    if inst.clock == "wall":
        result["makespan"] = makespan(run)
    if run.preemptions:
        return result
    check(run.instance, cluster, run.schedule)
    bounds = [placement_bound(run.instance, cluster, run.schedule.start, m) for m in methods]  # type: ignore[arg-type]
    best = max(bounds, key=lambda bound: bound.exact)
    proved = best.reproduced(run.instance, cluster, label)
    ratio = hindsight_ratio(run, best)
    if folder is not None:
        stem = folder / (re.sub(r"[^\w.=-]+", "_", label) + f".seed{seed}")
        write_instance(run.instance, f"{stem}.instance.json.gz", cluster=cluster, start=run.schedule.start)
        write_schedule(run.schedule, f"{stem}.schedule.json.gz", run.instance)
        if best.certificate is not None:
            write_certificate(best.certificate, f"{stem}.certificate.json.gz")
    if judge:
        result["judged"] = Judged(
            label, run.instance, cluster, run.schedule, run.preemptions, run.peak_sum, run.decode_time, best
        )
    return result | {"bound": best.value, "method": best.method, "proved": proved, "ratio": (ratio.lower, ratio.upper)}


def _row(label: str, router: Any, runs: list[dict[str, Any]], common: Bound | None) -> dict[str, Any]:
    """One router's runs as a row of the table."""
    first = runs[0]["metrics"]
    row: dict[str, Any] = {
        "router": label,
        "options": options_of(router),
        "mode": router.mode,
        "random": bool(getattr(router, "random", False)),
        "clairvoyant": bool(getattr(router, "clairvoyant", False)),
        "seeds": [run["seed"] for run in runs],
    }
    half: dict[str, float] = {}
    for name in METRICS:
        if len(runs) == 1:
            row[name] = first[name]
        else:
            row[name], half[name] = mean_and_half_width([run["metrics"][name] for run in runs])
    bounded = all(run["bound"] is not None for run in runs)
    proved = [run["proved"] for run in runs] if bounded else []
    certified = bounded and None not in proved
    upper = max(run["ratio"][1] for run in runs) if bounded else None
    ends = [] if common is None else [run["makespan"] for run in runs]
    return row | {
        "wait_unit": first["wait_unit"],
        "half_width": half,
        "bound_method": "+".join(sorted({run["method"] for run in runs})) if bounded else None,
        "bound": [run["bound"] for run in runs] if bounded else [],
        "verified_value": proved if certified else [],
        "certified": certified,
        "verified": certified,
        "hindsight_lower": min(run["ratio"][0] for run in runs) if bounded else None,
        "hindsight_upper": upper,
        "at_most_above": None if upper is None else upper - 1,
        "makespan": ends,
        "makespan_above_bound": None if common is None else above_makespan(max(ends), common),
        **bracket_fields([run["brackets"] for run in runs] if bounded and "brackets" in runs[0] else []),
    }


def _usable_folder(path: Path, force: bool) -> Path:
    """A folder that may be made or written to."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is not a folder")
    if not path.exists() and not path.absolute().parent.is_dir():
        raise InputError(f"{path}: cannot be made: {path.absolute().parent} is not a folder")
    if path.exists() and any(path.iterdir()) and not force:
        raise InputError(f"{path}: is not empty; use force=True (--force) to replace files in it")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise InputError(f"{path}: cannot be written: permission denied")
    return path.absolute()


def _columns(metrics: Sequence[str]) -> list[str]:
    check_metrics(metrics)
    return list(dict.fromkeys((*COLUMNS, *metrics)))


def _cell(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if isinstance(value, float) and math.isnan(value):
        return "-"
    half = row["half_width"].get(name, math.nan)
    return _in_column(value, name) + ("" if math.isnan(half) else f"\n± {_in_column(half, name)}")


def _in_column(value: float, name: str) -> str:
    if name in _SHOWN:
        _, factor, form = _SHOWN[name]
        return format(value * factor, form)
    return _number(value)


def _number(value: float) -> str:
    """Whole if it is large, else with four digits."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < math.inf else f"{value:.4g}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _claim_cell(row: dict[str, Any]) -> str:
    if row["at_most_above"] is None:
        return "preempted"
    return percent(row["at_most_above"], up=True) + ("" if row["certified"] else "\nclaimed only")


def _open(best: dict[str, Any]) -> str:
    """How much a better placement could still gain."""
    name = best["router"]
    if best["at_most_above"] is None:
        number = f"{best['preemptions']:,.4g}"
        return f"{name} preempted {number} requests, which the bounds do not model: nothing is certified."
    status = "certified" if best["certified"] else "claimed, not certified"
    every = f" in each of {len(best['seeds'])} runs" if len(best["seeds"]) > 1 else ""
    if best["best_known"] and best["hindsight_lower"] > 1:
        least = percent(best["hindsight_lower"] - 1, up=False)
        return (
            f"With its admission steps as they are, {name} is between {least} and "
            f"{percent(best['at_most_above'], up=True)} above the best possible placement{every} (a better one is "
            f"known; bound {best['bound_method']}, {status}): no placement saves more attention time than that."
        )
    return (
        f"With its admission steps as they are, {name} is at most {percent(best['at_most_above'], up=True)} above the "
        f"best possible placement{every} ({status}; bound {best['bound_method']}): no better placement saves more "
        "attention time than that."
    )
