"""Files of runs: JSON, or Parquet with a row per request (``docs/files.md``, section Runs)."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from .._validate import Int64Array, integer, integers, real, reals
from ..errors import InputError
from ..files import _column, _document, _named, atomic_write, read_json, write_json
from ..instance import Cluster, Instance
from ..metrics import StepSeries
from ..schedule import Schedule
from .run import Run

__all__ = ["read_run", "require_run_name", "write_run"]

_SCHEMA = "balanceroute/run"
_REQUIRED = (
    "router",
    "cluster",
    "preemptions",
    "release",
    "prompt",
    "output",
    "start",
    "worker",
    "first_start",
    "steps",
)
_OPTIONAL = ("name", "seed", "staleness", "optimistic", "source", "unproved", "key", "arrival", "remaining", "dispatch")
_COLUMNS = ("release", "prompt", "output", "key", "start", "worker", "first_start", "arrival", "remaining")
_SERIES = tuple(field.name for field in fields(StepSeries))
_FLOATS = ("arrival", "dispatch", "time", "energy")
_MAX_BYTES = 256 * 2**20
_MAX_ROWS = 10**8
_ENDINGS = (".json", ".json.gz", ".parquet")

StrPath = str | os.PathLike[str]


def require_run_name(path: StrPath) -> None:
    """Raise InputError unless the name says in which of the formats a run is to be written."""
    if not os.fspath(path).endswith(_ENDINGS):
        raise InputError(f"{os.fspath(path)}: the name of a run must end in {', '.join(_ENDINGS)}")


def write_run(run: Run, path: StrPath, force: bool = False) -> None:
    """Write a run as JSON or Parquet, by the ending of the name: all of it or nothing.

    Parameters
    ----------
    run : Run
    path : path-like
        ``.json``, ``.json.gz`` or ``.parquet`` (one row per request; what belongs to the whole run stands in the
        first row).
    force : bool
        Replace a file that exists.

    Raises
    ------
    InputError
        For another ending, a file that exists, a place that cannot be written, JSON of more than 256 MiB, or
        Parquet of a run without requests.
    """
    require_run_name(path)
    inst = run.instance
    given: dict[str, Any] = {
        "release": inst.release,
        "prompt": inst.prompt,
        "output": inst.output,
        "key": inst.key,
        "start": run.schedule.start,
        "worker": run.schedule.worker,
        "first_start": run.first_start,
        "arrival": run.arrival,
        "remaining": run.remaining,
    }
    columns = {name: column for name, column in given.items() if column is not None}
    series = {name: getattr(run.steps, name) for name in _SERIES}
    head: dict[str, Any] = {
        "schema": _SCHEMA,
        "version": 1,
        "router": run.router,
        "name": inst.name,
        "cluster": run.cluster.as_dict(),
        "preemptions": run.preemptions,
        "seed": run.seed,
        "staleness": run.staleness,
        "optimistic": run.optimistic,
        "source": run.source,
    }
    if run.unproved is not None:
        head["unproved"] = run.unproved
    if not os.fspath(path).endswith(".parquet"):
        if run.dispatch is not None:
            head["dispatch"] = run.dispatch.tolist()
        data = head | {name: column.tolist() for name, column in columns.items()}
        write_json(data | {"steps": {k: v.tolist() for k, v in series.items()}}, path, force, _MAX_BYTES)
        return
    if not len(inst):
        raise InputError(f"{os.fspath(path)}: a run without requests has no rows; write it as .json")
    import polars as pl

    rest = [None] * (len(inst) - 1)
    lists = {f"steps.{name}": column for name, column in series.items()}
    if run.dispatch is not None:
        lists["dispatch"] = run.dispatch
    frame = pl.DataFrame(
        columns
        | {"run": pl.Series([json.dumps(head, allow_nan=False), *rest], dtype=pl.String)}
        | {k: pl.Series([v.tolist(), *rest], dtype=pl.List(_polars_type(k))) for k, v in lists.items()}
    )
    with atomic_write(path, force) as temporary:
        frame.write_parquet(temporary)


def read_run(path: StrPath) -> Run:
    """The run in a file that :func:`write_run` wrote; ``balanceroute check`` says whether it obeys the model.

    Parameters
    ----------
    path : path-like
        JSON (plain or gzip, told by content), or Parquet if the name ends in ``.parquet``.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        One line with the file, the field and the value: missing file, wrong type, unknown or missing field, newer
        version, lengths that differ, or steps that do not fit the schedule.
    """
    with _named(path):
        data = _from_parquet(Path(path)) if os.fspath(path).endswith(".parquet") else read_json(path, 1000, _MAX_BYTES)
        data = _document(data, _SCHEMA, _REQUIRED, _OPTIONAL)
        columns = {
            name: _column(data, name, (int, float) if name in _FLOATS else (int,)) for name in _COLUMNS if name in data
        }
        inst = Instance(
            columns["release"], columns["prompt"], columns["output"], key=columns.get("key"), name=_text(data, "name")
        )
        steps = data["steps"]
        if not isinstance(steps, dict) or set(steps) != set(_SERIES):
            raise InputError(f"steps must be an object with the fields {', '.join(_SERIES)}")
        series: dict[str, Any] = {}
        for name in _SERIES:
            values = _column(steps, name, (int, float) if name in _FLOATS else (int,))
            series[name] = (
                reals(values, f"steps.{name}", 0.0) if name in _FLOATS else integers(values, f"steps.{name}", 0, 2**62)
            )
        remaining = None if "remaining" not in columns else integers(columns["remaining"], "remaining", 1, 2**31)
        dispatch = reals(_column(data, "dispatch", (int, float)), "dispatch", 0.0) if "dispatch" in data else None
        optimistic = data.get("optimistic", False)
        if not isinstance(optimistic, bool):
            raise InputError(f"optimistic must be true or false, got {optimistic!r}")
        seed = data.get("seed")
        run = Run(
            instance=inst,
            cluster=Cluster.from_dict(data["cluster"]),
            router=_text(data, "router"),
            schedule=Schedule(columns["start"], columns["worker"]),
            first_start=integers(columns["first_start"], "first_start", 0, 2**62),
            steps=StepSeries(**series),
            preemptions=integer(data["preemptions"], "preemptions", 0),
            remaining=remaining,
            arrival=reals(columns["arrival"], "arrival", 0.0) if "arrival" in columns else None,
            dispatch=dispatch,
            seed=None if seed is None else integer(seed, "seed", 0),
            staleness=real(data.get("staleness", 0.0), "staleness", 0.0),
            optimistic=optimistic,
            source=_text(data, "source"),
            unproved=None if data.get("unproved") is None else integer(data["unproved"], "unproved", 0),
        )
        _require_consistent(run)
    return run


def _require_consistent(run: Run) -> None:
    """Refuse lengths that differ, and requests that are active in steps that the run does not have."""
    n = len(run.instance)
    for name, column in (
        ("start", run.schedule.start),
        ("first_start", run.first_start),
        ("arrival", run.arrival),
        ("remaining", run.remaining),
    ):
        if column is not None and len(column) != n:
            raise InputError(f"{name} has {len(column)} entries, release has {n}")
    steps = run.steps
    for name in _SERIES:
        if len(getattr(steps, name)) != len(steps):
            raise InputError(f"steps.{name} has {len(getattr(steps, name))} entries, steps.step has {len(steps)}")
    if (run.remaining is not None) != (run.preemptions > 0):
        raise InputError(f"remaining belongs to runs with preemptions, and preemptions is {run.preemptions}")
    falls = np.diff(steps.step) <= 0
    if falls.any():
        k = int(np.argmax(falls)) + 1
        raise InputError(f"steps.step[{k}] = {steps.step[k]} does not come after {steps.step[k - 1]}")
    for name, column in (
        ("first_start", run.first_start),
        ("start", run.schedule.start),
        ("the last step", run.finish),
    ):
        missing = ~_contains(steps.step, column)
        if missing.any():
            i = int(np.argmax(missing))
            raise InputError(f"{name} of request {i} is step {column[i]}, which is not among steps.step")
    late = run.first_start > run.schedule.start
    if late.any():
        i = int(np.argmax(late))
        raise InputError(f"first_start[{i}] = {run.first_start[i]} comes after start[{i}] = {run.schedule.start[i]}")


def _contains(ascending: Int64Array, values: Int64Array) -> Any:
    if not len(ascending):
        return np.zeros(len(values), bool)
    return ascending[np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)] == values


def _from_parquet(path: Path) -> dict[str, Any]:
    """The same data as in a JSON file."""
    import polars as pl

    with path.open("rb"):
        pass  # errors of the system, by their own types
    try:
        scan = pl.scan_parquet(path, glob=False)
        schema = dict(scan.collect_schema())
        rows = int(scan.select(pl.len()).collect().item())
        if rows > _MAX_ROWS:
            raise InputError(f"holds {rows} rows, more than {_MAX_ROWS}")
        frame = scan.collect()
    except InputError:
        raise
    except (Exception, pl.exceptions.PanicException) as exc:
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0][:160]
        raise InputError(f"not a Parquet file of a run: {reason}") from None
    if schema.get("run") != pl.String or not rows:
        raise InputError("not a Parquet file of a run: no text column run")
    try:
        data = json.loads(frame["run"][0] or "")
    except ValueError as exc:
        raise InputError(f"column run, first row: not JSON: {exc}") from None
    if not isinstance(data, dict):
        raise InputError("column run, first row: must hold one JSON object")
    steps: dict[str, Any] = {}
    for name, kind in schema.items():
        if name == "run":
            continue
        whole = name.startswith("steps.") or name == "dispatch"
        wanted: Any = pl.List(_polars_type(name)) if whole else _polars_type(name)
        if kind != wanted:
            raise InputError(f"column {name} must have the type {wanted}, got {kind}")
        if not whole and frame[name].null_count():
            raise InputError(f"column {name} has {frame[name].null_count()} empty entries")
        values = frame[name][0] if whole else frame[name]
        if values is None or values.null_count():
            raise InputError(f"column {name}, first row: must hold a list without empty entries")
        target = steps if name.startswith("steps.") else data
        field = name.removeprefix("steps.")
        if field in target:
            raise InputError(f"field {name} is given twice")
        target[field] = values.to_list()
    data["steps"] = steps
    return data


def _polars_type(column: str) -> Any:
    import polars as pl

    return pl.Float64 if column.removeprefix("steps.") in _FLOATS else pl.Int64


def _text(data: dict[str, Any], name: str) -> str:
    value = data.get(name, "")
    if not isinstance(value, str):
        raise InputError(f"{name} must be a string, got {value!r}")
    return value
