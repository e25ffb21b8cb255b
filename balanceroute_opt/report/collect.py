"""From results of any kind to what a report shows: rows, sentences, pictures, facts."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .._validate import Float64Array
from ..certificates import read_certificate, verify
from ..errors import CertificateError, InputError
from ..evaluation.ratios import hindsight_ratio, percent
from ..experiments.comparison import Comparison
from ..files import read_json, read_problem, read_schedule
from ..instance import Cluster, Instance
from ..metrics import METRICS
from ..oracles.bounds import placement_bound
from ..oracles.floors import step_bounds
from ..schedule import Schedule, _worker_loads, check, peak_loads
from ..simulator import Run
from ..simulator.files import read_run

__all__ = ["Picture", "Report", "Row", "collect"]

_BINS = 240
_PICTURES = 12
_SAID = 6
_ENDING = ".instance.json.gz"
_MAX_PARTS = 10**6


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    workload, router : str
    told : bool
        The router is told output lengths.
    runs : int
    values, half : dict
        Metrics by name, None where there is none; half of their 95 % intervals.
    wait_unit : str
        "steps" or "s".
    lower, upper : float or None
        Bracket of the hindsight ratio.
    rests_on : str
        What the upper end rests on, in words.
    status : {"certified", "stated", "claimed", ""}
        *certified*: verified while the report was made. *stated*: the file says that it was certified. *claimed*: a
        solver said so. Empty: there is no bound.
    """

    workload: str
    router: str
    values: dict[str, float | None]
    told: bool = False
    runs: int = 1
    half: dict[str, float | None] = field(default_factory=dict)
    wait_unit: str = "steps"
    lower: float | None = None
    upper: float | None = None
    rests_on: str = ""
    status: str = ""


@dataclass(frozen=True)
class Picture:
    """The course of one run, in at most 240 columns of consecutive active steps.

    Attributes
    ----------
    label : str
    steps : int
        Active steps in all.
    most, mean, least : ndarray, shape (columns,), tokens
        Means over the steps of a column.
    bound : ndarray, shape (columns,), or None
        Lower bound on the largest load, likewise.
    heat : ndarray, shape (G, columns), or None
        Load of each worker over the mean of all.
    share : ndarray, shape (G,), or None
        The same over all steps.
    note : str
    """

    label: str
    steps: int
    most: Float64Array
    mean: Float64Array
    least: Float64Array
    bound: Float64Array | None = None
    heat: Float64Array | None = None
    share: Float64Array | None = None
    note: str = ""


@dataclass(frozen=True)
class Report:
    """What a page shows."""

    title: str
    sentences: list[str]
    facts: list[tuple[str, str]]
    rows: list[Row]
    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def collect(source: Any) -> Report:
    """What a report shows about results.

    Parameters
    ----------
    source : path-like, Run, Comparison or dict
        A saved run; a folder of runs, comparisons, or files of ``compare --certificates``; a comparison as JSON (or
        what :meth:`~balanceroute_opt.Comparison.to_json` returns); a table of ``balanceroute run``.

    Raises
    ------
    InputError
        If the file is none of these, or is damaged; its name stands before the reason.
    InvalidSchedule, CertificateError
        If a run or certificate does not hold what it says.
    """
    if isinstance(source, Run):
        return _of_runs([("", source)])
    if isinstance(source, Comparison):
        return _of_comparison(source.to_json(), "comparison")
    if isinstance(source, dict):
        return _of_comparison(source, "comparison")
    path = Path(source)
    if path.is_dir():
        return _of_folder(path)
    kind = _kind(path)
    if kind == "run":
        return _of_runs([(path.name, read_run(path))])
    if kind == "comparison":
        return _of_comparison(read_json(path, _MAX_PARTS), str(path))
    if kind == "table":
        return _of_table(path)
    raise InputError(
        f"{path}: is no saved run (simulate --save), comparison (compare --json) or table (run -o)"
        + ("; give the table that it names" if kind == "study-result" else "")
    )


def _kind(path: Path) -> str:
    """What a file holds, by its ending and what it says of itself; "" for what is not known."""
    name = path.name.lower()
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if name.endswith(".csv"):
        return "table"
    if name.endswith(".parquet"):
        import polars as pl

        try:
            return "run" if "run" in pl.read_parquet_schema(path) else "table"
        except (OSError, pl.exceptions.PolarsError) as exc:
            raise InputError(f"{path}: not a Parquet file: {str(exc).splitlines()[0][:160]}") from None
    if name.endswith((".json", ".json.gz")):
        schema = read_json(path, 10**7, 2**28).get("schema")
        return str(schema).removeprefix("balanceroute/") if isinstance(schema, str) else ""
    return ""


def _of_folder(folder: Path) -> Report:
    """Runs, comparisons and proofs of one folder together."""
    runs: list[tuple[str, Run]] = []
    parts: list[Report] = []
    left: list[str] = []
    common: list[str] = []
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        name = path.name
        if name == f"makespan{_ENDING}":
            common.append(_makespan(path))
        elif name.endswith(_ENDING):
            runs.append((name.removesuffix(_ENDING), _from_proof(path)))
        elif name.endswith((".schedule.json.gz", ".certificate.json.gz")):
            continue  # read with their instance
        elif name.endswith((".json", ".json.gz", ".parquet", ".csv")):
            kind = _kind(path)
            if kind == "run":
                runs.append((name, read_run(path)))
            elif kind in ("comparison", "table"):
                parts.append(collect(path))
            else:
                left.append(name)
    if runs:
        parts.insert(0, _of_runs(runs, folder))
    if not parts:
        raise InputError(f"{folder}: holds no saved run, comparison, table or certificate")
    notes = [note for part in parts for note in part.notes] + common
    if left:
        notes.append(f"Not read, as they are no results: {', '.join(left)}.")
    return Report(
        folder.resolve().name,
        [line for part in parts for line in part.sentences],
        [fact for part in parts for fact in part.facts],
        [row for part in parts for row in part.rows],
        [picture for part in parts for picture in part.pictures],
        notes,
    )


@dataclass(frozen=True)
class _Proof:
    """A schedule with its certificate, as ``compare --certificates`` writes them."""

    instance: Instance
    cluster: Cluster
    schedule: Schedule
    router: str
    certificate: dict[str, Any] | None


def _makespan(path: Path) -> str:
    """What the certificate beside the workload proves of all its runs, verified."""
    inst, cluster, _ = read_problem(path)
    if cluster is None:
        raise InputError(f"{path}: holds no cluster")
    proved = verify(inst, cluster, f"{str(path).removesuffix(_ENDING)}.certificate.json.gz")
    return f"No run of any router ends before {proved:,.6g} s after the first arrival (certified, one bound for all)."


def _from_proof(path: Path) -> Any:
    stem = str(path).removesuffix(_ENDING)
    inst, cluster, _ = read_problem(path)
    if cluster is None:
        raise InputError(f"{path}: holds no cluster")
    sched = read_schedule(f"{stem}.schedule.json.gz", inst)
    proof = Path(f"{stem}.certificate.json.gz")
    certificate = read_certificate(proof) if proof.exists() else None
    return _Proof(inst, cluster, sched, Path(stem).name, certificate)


def _of_runs(runs: Sequence[tuple[str, Any]], folder: Path | None = None) -> Report:
    """Runs, each checked and bounded anew."""
    rows: list[Row] = []
    pictures: list[Picture] = []
    facts: list[tuple[str, str]] = []
    notes: list[str] = []
    names = _names([run for _, run in runs])
    for (label, run), name in zip(runs, names, strict=True):
        inst, cluster = run.instance, run.cluster
        row, picture = (_proved if isinstance(run, _Proof) else _run)(run)
        rows.append(replace(row, workload=name))
        if len(pictures) < _PICTURES:
            pictures.append(picture)
        facts.append(
            (
                label or run.router,
                f"{len(inst):,} requests, {_cluster(cluster)}, instance {inst.digest()[:12]}"
                + (f", seed {run.seed}" if getattr(run, "seed", None) is not None else ""),
            )
        )
    if len(runs) > _PICTURES:
        notes.append(f"Pictures are of the first {_PICTURES} of {len(runs)} runs.")
    title = folder.resolve().name if folder is not None else f"{runs[0][1].router} on {rows[0].workload}"
    return Report(title, _sentences(rows), facts, _sorted(rows), pictures, notes)


def _names(runs: Sequence[Any]) -> list[str]:
    """What each run was on; runs of one name are on the same requests, cluster and view."""
    keys = []
    for run in runs:
        inst, cluster = run.instance, run.cluster
        lengths = hashlib.sha256(inst.prompt.tobytes() + b"+" + inst.output.tobytes()).hexdigest()
        stale = f"loads up to {run.staleness:g} old" if getattr(run, "staleness", 0) else ""
        keys.append((inst.name or "instance", _cluster(cluster), stale, lengths + cluster.digest(), _source(run)))
    # As many words as it takes to tell the runs apart.
    for words in range(1, 5):
        names = [", ".join(w for w in (*key[:3], f"requests {key[3][:8]}")[:words] if w) for key in keys]
        if len(set(names)) == len(set(keys)):
            return names
    return [f"{name}, {key[4][:8]}" for name, key in zip(names, keys, strict=True)]


def _source(run: Any) -> str:
    """Digest of what was simulated, where it is known."""
    return str(getattr(run, "source", ""))


def _run(run: Run) -> tuple[Row, Picture]:
    inst, cluster = run.instance, run.cluster
    metrics = run.metrics()
    steps = run.steps
    picture = _picture(run.router, steps.peak, steps.total / cluster.workers, steps.least)
    values = {name: _finite(metrics[name]) for name in METRICS}
    name = inst.name or "instance"
    if run.preemptions:
        note = "Requests were preempted, so loads of single workers and bounds are not known."
        return (
            Row(name, run.router, values, wait_unit=metrics["wait_unit"], rests_on="preempted"),
            replace(picture, note=note),
        )
    _require_peaks(run)
    bound = placement_bound(inst, cluster, run.schedule.start, "pigeonhole")
    if verify(inst, cluster, bound.certificate or {}) != bound.value:
        raise CertificateError(f"run of {run.router}: the bound {bound.method} is not reproduced")
    ratio = hindsight_ratio(run, bound)
    row = Row(
        name,
        run.router,
        values,
        wait_unit=metrics["wait_unit"],
        lower=ratio.lower,
        upper=_finite(ratio.upper),
        rests_on="placement bound pigeonhole",
        status="certified",
    )
    return row, _with_workers(run, picture)


def _proved(proof: _Proof) -> tuple[Row, Picture]:
    """A schedule on the step clock without its run: what follows from it alone."""
    inst, cluster, sched = proof.instance, proof.cluster, proof.schedule
    check(inst, cluster, sched)
    peak = peak_loads(inst, cluster, sched)
    least, total = peak.copy(), np.zeros_like(peak)
    for load in _worker_loads(inst, cluster, sched):
        np.minimum(least, load, out=least)
        total += load
    count, work, cost = len(peak), int(total.sum()), int(peak.sum())
    seconds = cluster.step_time.seconds_of(count, cost, work, cluster.workers)
    wait = sched.start - inst.release
    values: dict[str, float | None] = dict.fromkeys(METRICS)
    if count:
        values |= {
            "imbalance_sum": (cluster.workers * cost - work) / count,
            "imbalance_range": (cost - int(least.sum())) / count,
            "imbalance_gap": (cost - work / cluster.workers) / count,
            "excess": cluster.workers * cost / work - 1,
            "idle": float(1 - (total / (cluster.workers * peak)).mean()),
            "throughput": int(inst.output.sum()) / seconds if seconds else None,
            "wait_p50": float(np.percentile(wait, 50)),
            "wait_p99": float(np.percentile(wait, 99)),
            "wait_max": float(wait.max()),
        }
    values |= {"decode_time": seconds, "steps": count, "peak_sum": cost}
    lower, upper, rests_on, status = None, None, "", ""
    if proof.certificate is not None:
        proved = verify(inst, cluster, proof.certificate)
        problem, kind = proof.certificate["problem"], proof.certificate["kind"]
        if problem == "placement" and proof.certificate["data"]["start"] == sched.start.tolist():
            upper = math.nextafter(cost / proved, math.inf) if proved else None if cost else 1.0
            lower, rests_on, status = 1.0, f"placement bound {kind}", "certified"
    picture = _picture(proof.router, peak, total / cluster.workers, least)
    name = inst.name or "instance"
    row = Row(name, proof.router, values, lower=lower, upper=upper, rests_on=rests_on, status=status)
    return row, _with_workers(proof, picture)


def _require_peaks(run: Run) -> None:
    """The schedule obeys the rules and costs what the run says."""
    check(run.instance, run.cluster, run.schedule)
    peaks = peak_loads(run.instance, run.cluster, run.schedule)
    if not np.array_equal(peaks, run.steps.peak):
        raise InputError(f"run of {run.router}: states largest loads that are not those of its schedule")


def _picture(label: str, peak: Any, mean: Any, least: Any) -> Picture:
    columns = _columns(len(peak))
    return Picture(label, len(peak), _means(peak, columns), _means(mean, columns), _means(least, columns))


def _with_workers(run: Any, picture: Picture) -> Picture:
    """The picture with the bound and the loads of single workers."""
    inst, cluster, sched = run.instance, run.cluster, run.schedule
    if not picture.steps:
        return picture
    columns = _columns(picture.steps)
    floor = step_bounds(inst, cluster, sched.start, "pigeonhole").peak
    load = np.stack([np.add.reduceat(x, columns) for x in _worker_loads(inst, cluster, sched)]).astype(float)
    mean = load.mean(axis=0)
    share = load.sum(axis=1) / float(mean.sum())
    return replace(picture, bound=_means(floor, columns), heat=load / mean, share=share)


def _columns(count: int) -> Any:
    """First steps of at most 240 columns of nearly equally many steps."""
    return np.unique(np.arange(min(count, _BINS)) * count // max(1, min(count, _BINS)))


def _means(values: Any, columns: Any) -> Float64Array:
    if not len(values):
        return np.empty(0)
    width = np.diff(np.append(columns, len(values)))
    return np.asarray(np.add.reduceat(np.asarray(values, np.float64), columns) / width)


def _of_comparison(data: dict[str, Any], where: str) -> Report:
    """A comparison as JSON; what it states is shown as stated."""
    if data.get("schema") != "balanceroute/comparison" or data.get("version") != 1:
        raise InputError(f"{where}: schema must be balanceroute/comparison, version 1")
    workload, cluster = data.get("workload"), data.get("cluster")
    given = data.get("rows")
    if not isinstance(workload, dict) or not isinstance(cluster, dict) or not isinstance(given, list) or not given:
        raise InputError(f"{where}: workload and cluster must be objects, rows a list with at least one entry")
    name = _text(workload.get("name"))
    rows = []
    for number, entry in enumerate(given):
        if not isinstance(entry, dict) or not isinstance(entry.get("router"), str):
            raise InputError(f"{where}: rows[{number}] must be an object with a text router")
        seeds, half = entry.get("seeds"), entry.get("half_width")
        upper = _finite(entry.get("hindsight_upper"))
        status = "" if upper is None else "stated" if entry.get("certified") is True else "claimed"
        rows.append(
            Row(
                name,
                entry["router"],
                {metric: _finite(entry.get(metric)) for metric in METRICS},
                told=entry.get("clairvoyant") is True,
                runs=len(seeds) if isinstance(seeds, list) and seeds else 1,
                half={m: _finite(v) for m, v in half.items()} if isinstance(half, dict) else {},
                wait_unit=_text(entry.get("wait_unit")) or "steps",
                lower=_finite(entry.get("hindsight_lower")),
                upper=upper,
                rests_on=f"placement bound {_text(entry.get('bound_method'))}" if status else "",
                status=status,
            )
        )
    said = data.get("conclusions")
    skipped = data.get("skipped")
    facts = [
        ("workload", ", ".join(f"{key} {_short(value)}" for key, value in workload.items())),
        ("cluster", ", ".join(f"{key} {_short(value)}" for key, value in cluster.items())),
        ("window", _short(data.get("window"))),
    ]
    return Report(
        f"Routers on {name}",
        [_text(line) for line in said] if isinstance(said, list) and said else _sentences(rows),
        facts,
        rows,
        notes=[f"Left out: {_text(k)} ({_text(v)})." for k, v in skipped.items()] if isinstance(skipped, dict) else [],
    )


def _of_table(path: Path) -> Report:
    """A table of a study: means over seeds per cell and router."""
    import polars as pl

    from ..experiments.summaries import CELL, summary

    try:
        table = pl.read_csv(path, infer_schema_length=None) if path.suffix == ".csv" else pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as exc:
        raise InputError(f"{path}: not a table: {str(exc).splitlines()[0][:160]}") from None
    missing = [
        name for name in (*CELL, "router", "seed", "repeated", "excess", "wait_unit") if name not in table.columns
    ]
    if missing or not len(table):
        raise InputError(
            f"{path}: is no table of balanceroute run: " + (f"no column {missing[0]}" if missing else "no rows")
        )
    metrics = [name for name in METRICS if name in table.columns]
    bounds = [name for name in table.columns if name.startswith("above_")]
    table = table.with_columns(pl.col(metrics + bounds).cast(pl.Float64, strict=False))
    varying = [name for name in CELL if name != "workload" and table[name].n_unique() > 1]
    means = summary(table, metrics)
    worst = table.group_by([*CELL, "router"]).agg(pl.col(bounds).max(), pl.col("wait_unit").first(),
        pl.col(bounds).null_count().name.suffix("_missing"))  # fmt: skip
    extra = {tuple(row[c] for c in (*CELL, "router")): row for row in worst.iter_rows(named=True)}
    told = set(table.filter(pl.col("clairvoyant"))["router"]) if "clairvoyant" in table.columns else set()
    rows = []
    for mean in means.iter_rows(named=True):
        more = extra[tuple(mean[c] for c in (*CELL, "router"))]
        whole = {b: more[b] for b in bounds if more[b] is not None and not more[f"{b}_missing"]}
        best = min(whole, key=whole.__getitem__) if whole else None
        method = "" if best is None else best.removeprefix("above_")
        certified = best is not None and _all_certified(table, f"bound_{method}_status")
        cell = ", ".join([_text(mean["workload"]), *(f"{_WORDS.get(v, v)} {_short(mean[v])}" for v in varying)])
        rows.append(
            Row(
                cell,
                _text(mean["router"]),
                {name: _finite(mean.get(name)) for name in METRICS},
                told=mean["router"] in told,
                runs=int(mean["runs"]),
                half={name: _finite(mean.get(f"{name}_half_width")) for name in metrics},
                wait_unit=_text(more["wait_unit"]),
                lower=None if best is None else 1.0,
                upper=None if best is None else 1 + whole[best],
                rests_on=f"placement bound {method}" + (", worst run" if mean["runs"] > 1 else "") if best else "",
                status="" if best is None else "stated" if certified else "claimed",
            )
        )
    facts = [("runs", f"{len(table):,}"), ("seeds", f"{table['seed'].n_unique()}")]
    for column in ("window", "version", "python", "numpy", "numba", "workers", "slots"):
        if column in table.columns:
            facts.append((column, ", ".join(map(str, table[column].unique(maintain_order=True).to_list()[:20]))))
    return Report(f"Results of {path.stem}", _sentences(rows, _unclear(table, rows)), facts, rows)


def _unclear(table: Any, rows: Sequence[Row]) -> dict[str, list[str]]:
    """Routers whose paired difference in excess to the best of their workload has an interval around 0."""
    from ..experiments.summaries import CELL, paired

    found = {}
    cells = table.partition_by(list(CELL), maintain_order=True)
    for cell, (workload, group) in zip(cells, _groups(rows), strict=True):
        fair = [row for row in group if not row.told] or group
        best = min(fair, key=_excess).router
        names = [row.router for row in fair]
        found[workload] = [
            pair["router"]
            for pair in paired(cell, "excess", best).iter_rows(named=True)
            if pair["router"] in names and pair["half_width"] is not None and pair["difference"] <= pair["half_width"]
        ]
    return found


_WORDS = {"offered": "utilization", "step_fixed": "fixed", "step_per_token": "per token"}


def _all_certified(table: Any, column: str) -> bool:
    return column in table.columns and set(table[column].drop_nulls()) == {"certified"}


def _sentences(rows: Sequence[Row], unclear: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """Who is best in each workload, and how much is left; `unclear`: whom the seeds do not tell from the best."""
    lines: list[str] = []
    for workload, group in _groups(rows):
        known = [row for row in group if row.values.get("excess") is not None]
        if not known:
            continue
        fair = [row for row in known if not row.told] or known
        best, worst = min(fair, key=_excess), max(fair, key=_excess)
        line = (
            f"On {workload}, {best.router} has the lowest excess of {len(fair)} routers: attention takes "
            f"{100 * _excess(best):.1f} % longer than with perfectly equal loads{_mean_of(best)}"
            if len(fair) > 1
            else f"On {workload}, attention under {best.router} takes {100 * _excess(best):.1f} % longer than with "
            f"perfectly equal loads{_mean_of(best)}"
        )
        if _excess(worst) > _excess(best):
            more = (1 + _excess(worst)) / (1 + _excess(best)) - 1
            line += f"; under {worst.router} it takes {100 * more:.1f} % more attention time than under {best.router}"
        if tied := (unclear or {}).get(workload):
            line += f"; the seeds do not tell it from {', '.join(tied)}"
        if best.upper is not None:
            line += (
                f". With its admission steps as they are, it is at most {percent(best.upper - 1, up=True)} above the "
                f"best possible placement ("
                f"{'certified' if best.status in ('certified', 'stated') else 'claimed'}; {best.rests_on})"
            )
        single = all(row.runs == 1 for row in group)
        lines.append(line + ("." if not single else ". A single replay: nothing is known about its spread."))
    if len(lines) > _SAID:
        wins: dict[str, int] = {}
        for _, group in _groups(rows):
            fair = [row for row in group if not row.told and row.values.get("excess") is not None]
            if fair:
                name = min(fair, key=_excess).router
                wins[name] = wins.get(name, 0) + 1
        ranked = sorted(wins.items(), key=lambda item: -item[1])
        tally = ", ".join(f"{name} in {number}" for name, number in ranked)
        lines = [f"Lowest excess over {sum(wins.values())} settings: {tally}.", *lines[:_SAID]]
        lines.append("The other settings are in the table.")
    return lines


def _mean_of(row: Row) -> str:
    half = row.half.get("excess")
    return "" if half is None else f" (mean of {row.runs} runs, ± {100 * half:.1f})"


def _excess(row: Row) -> float:
    value = row.values.get("excess")
    return math.inf if value is None else value


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for workload in dict.fromkeys(row.workload for row in rows):
        yield workload, [row for row in rows if row.workload == workload]


def _sorted(rows: Sequence[Row]) -> list[Row]:
    order = list(dict.fromkeys(row.workload for row in rows))
    key: Callable[[Row], Any] = lambda row: (order.index(row.workload), _excess(row), row.router)  # noqa: E731
    return sorted(rows, key=key)


def _cluster(cluster: Cluster) -> str:
    capacity = "" if cluster.kv_capacity is None else f", {cluster.kv_capacity:,} KV tokens each"
    return f"{cluster.workers} workers x {cluster.slots} slots{capacity}"


def _finite(value: Any) -> float | None:
    """A number, or None for what is none, not finite, or beyond what a page can show."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
        return None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_short(entry)}" for key, entry in value.items()) + ")"
    return "none" if value is None else os.fspath(value) if isinstance(value, os.PathLike) else str(value)
