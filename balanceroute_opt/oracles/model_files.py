"""Models of the two hindsight problems as MPS and LP files for any solver, and solutions of such files as schedules.

A translation of :class:`~balanceroute_opt.oracles.model.LinearModel`, like ``highs.py``; no solver is needed.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TextIO

import numpy as np
from numpy.typing import ArrayLike

from .. import __version__
from .._validate import Float64Array, Int64Array
from ..errors import InputError, InvalidSchedule
from ..files import atomic_write, require_writable
from ..instance import Cluster, Instance
from ..schedule import Schedule, active_steps, check
from .given import given_starts, start_windows
from .model import LinearModel, placement_case, placement_model
from .schedule import NO_LIMIT, window_case
from .schedule_model import merged_model, schedule_model

__all__ = ["ModelSummary", "read_model_solution", "write_model"]

Problem = Literal["placement", "schedule"]
StrPath = str | os.PathLike[str]

_ENDINGS = (".mps", ".lp", ".mps.gz", ".lp.gz")
_MOST_ENTRIES = 10**7  # about 2 GB while it is written
_MOST_BYTES = 512 * 2**20
_WHOLE = 1e-5  # ten times what solvers allow an integer variable to be off
_EXAMPLES = {"placement": "x[i=0,g=0] or x_i0_g0", "schedule": "x[i=0,t=0,g=0] or x_i0_t0_g0"}
_SPELT = str.maketrans({"[": "_", ",": "_", "=": None, "]": None})
_X = re.compile(r"x\[i=(\d+)(?:,t=(\d+))?(?:,g=(\d+))?\]|x_i(\d+)(?:_t(\d+))?(?:_g(\d+))?")


@dataclass(frozen=True)
class ModelSummary:
    """What :func:`write_model` wrote.

    Attributes
    ----------
    path : str
    problem : {"placement", "schedule"}
    variables, integers, rows, entries : int
        Variables, those of them that must be whole, rows, and coefficients that are not 0.
    """

    path: str
    problem: Problem
    variables: int
    integers: int
    rows: int
    entries: int

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.problem} model, {self.variables:,} variables ({self.integers:,} integer), "
            f"{self.rows:,} rows, {self.entries:,} coefficients"
        )


def write_model(
    inst: Instance,
    cluster: Cluster,
    path: StrPath,
    problem: Problem = "placement",
    start: ArrayLike | None = None,
    max_wait: int | None = None,
    latest: ArrayLike | None = None,
    relaxed: bool = False,
    plain: bool = False,
    force: bool = False,
) -> ModelSummary:
    """Write one of the two hindsight problems as a file that any solver of integer programs reads.

    Names say what they are: ``x[i=12,g=3]``, ``peak[k=40]``; ``docs/oracles.md`` lists them. In LP files, where
    brackets and signs have meanings, they are spelt ``x_i12_g3``, ``peak_k40``. Comments at the top name the
    instance and the unit of the objective. Coefficients are exact: whole numbers, and c/a with all digits.

    Parameters
    ----------
    inst : Instance
        On the step clock.
    cluster : Cluster
    path : path-like
        Ends in ``.mps`` (free format), ``.lp`` (CPLEX format), ``.mps.gz`` or ``.lp.gz``; written completely or not
        at all.
    problem : {"placement", "schedule"}
        P1 or P2 of ``docs/model.md``, section 6.
    start : array_like of int, shape (n,), optional
        Placement: the given admission steps.
    max_wait, latest : optional
        Schedule: the start windows, as in :func:`~balanceroute_opt.solve_schedule`. With neither, the reduced form
        is written, in which all releases are 0.
    relaxed : bool
        Without integrality. Placement: the optimum is the fluid bound (of the strengthened model: the migration
        bound). Schedule: workers are merged, and the duals are what :func:`~balanceroute_opt.prices` reports.
    plain : bool
        The textbook formulation, without what is added to help solvers; no difference to ``relaxed`` schedules.
    force : bool
        Replace a file that exists.

    Returns
    -------
    ModelSummary

    Raises
    ------
    InputError
        If the ending is another one, the file exists and `force` is false, or it cannot be written; if `start`
        is missing for a placement, or the windows and starts do not fit; if the model would have more than 10**7
        coefficients (schedules: 2*10**7), or there are no requests.

    See Also
    --------
    read_model_solution : The way back.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> inst, cluster = Instance([0, 0, 1], [5, 3, 3], [2, 1, 1]), Cluster(workers=2, slots=2)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.mps"
    >>> write_model(inst, cluster, path, start=[0, 0, 1]).variables
    8
    """
    if not os.fspath(path).endswith(_ENDINGS):
        raise InputError(f"{os.fspath(path)}: a model file ends in {', '.join(_ENDINGS)}")
    require_writable(path, force)
    model, notes = _described(inst, cluster, problem, start, max_wait, latest, relaxed, plain)
    if relaxed:
        notes.append("relaxed: no variable need be whole")
    integer = model.integer & (not relaxed)
    notes += [f"instance {inst.digest()}", f"cluster {cluster.digest()}", f"written by balanceroute_opt {__version__}"]
    mps = os.fspath(path).removesuffix(".gz").endswith(".mps")
    with atomic_write(path, force) as temporary, temporary.open("wb") as raw:
        zipped = os.fspath(path).endswith(".gz")
        # No time stamp inside: equal data, equal bytes.
        binary = gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) if zipped else raw
        with io.TextIOWrapper(binary, "ascii", newline="\n") as out:
            (_write_mps if mps else _write_lp)(model, integer, notes, out)
    return ModelSummary(
        os.fspath(path), problem, len(model.variables), int(integer.sum()), len(model.rows), len(model.column)
    )


def read_model_solution(
    inst: Instance,
    cluster: Cluster,
    path: StrPath,
    problem: Problem = "placement",
    start: ArrayLike | None = None,
    max_wait: int | None = None,
    latest: ArrayLike | None = None,
) -> Schedule:
    """The schedule in a solver's solution of a file of :func:`write_model`, checked against every rule of the model.

    Only the variables x are read; peaks and the objective are not believed (price the schedule with
    :func:`~balanceroute_opt.peak_sum` or :func:`~balanceroute_opt.decode_time`).

    Parameters
    ----------
    inst, cluster, problem, start, max_wait, latest
        As in the call of :func:`write_model`.
    path : path-like
        Text, plain or gzip: the solution file of HiGHS, Gurobi, SCIP or CBC, or lines of a name and a value.
        Lines that name no x are skipped; variables that are not named are 0. Names in the spelling of MPS or LP files.

    Returns
    -------
    Schedule
        Without windows, begun in the last release.

    Raises
    ------
    InputError
        If the file cannot be read, names no x, one that the model does not have, or one twice; if it ends early; if
        a value is no number or not whole; if a request has no x of value 1, or two.
    InvalidSchedule
        If the schedule breaks a rule, with its numbers.
    """
    shift = 0
    if problem == "placement":
        first = last = _placement_starts(inst, cluster, start, max_wait, latest)
    else:
        first, windows = inst.release.astype(np.int64), _windows(inst, cluster, problem, start, max_wait, latest)
        if windows is None:  # the reduced form: all releases are 0
            first, shift = np.zeros(len(inst), np.int64), int(inst.release.max(initial=0))
            windows = int(inst.output.sum()) - inst.output
        last = windows
    begin, worker = np.full(len(inst), -1, np.int64), np.full(len(inst), -1, np.int64)
    seen: set[tuple[int, int, int]] = set()
    with _readable(path) as lines:
        for number, name, (i, t, g), text in _assignments(lines):
            where = f"line {number}: {name}"
            if g is None:
                raise InputError(f"{where} is a variable of the relaxation, whose solutions are no schedules")
            if (t is None) != (problem == "placement"):
                raise InputError(f"{where} is a variable of the other problem, not of {problem}")
            if i >= len(inst) or g >= cluster.workers:
                raise InputError(
                    f"{where} is no variable of a model of {len(inst)} requests on {cluster.workers} workers"
                )
            step = int(first[i]) if t is None else t
            if not first[i] <= step <= last[i]:
                raise InputError(f"{where} is no variable of this model: request {i} starts in {first[i]} .. {last[i]}")
            if (i, step, g) in seen:
                raise InputError(f"{where} is named twice")
            seen.add((i, step, g))
            try:
                value = float(text)
            except ValueError:
                raise InputError(f"{where} has a value that is no number: {text[:40]!r}") from None
            if not min(abs(value), abs(value - 1.0)) <= _WHOLE:
                raise InputError(f"{where} = {text[:40]} is neither 0 nor 1: no solution of the integer program")
            if value > 0.5:
                if worker[i] >= 0:
                    raise InputError(f"{where} is the second x of request {i} with value 1")
                begin[i], worker[i] = step, g
        if len(inst) and not seen:
            raise InputError(f"names no variable of a {problem} model, such as {_EXAMPLES[problem]}")
        if (worker < 0).any():
            i = int(np.argmax(worker < 0))
            raise InputError(f"request {i} has no x of value 1; a variable is missing, or this is no solution")
    sched = Schedule(begin + shift, worker)
    try:
        check(inst, cluster, sched)
    except InvalidSchedule as exc:
        raise InvalidSchedule(f"{os.fspath(path)}: {exc}") from None
    return sched


def _described(
    inst: Instance,
    cluster: Cluster,
    problem: Problem,
    start: ArrayLike | None,
    max_wait: int | None,
    latest: ArrayLike | None,
    relaxed: bool,
    plain: bool,
) -> tuple[LinearModel, list[str]]:
    """The model, and what a reader of the file should know."""
    if problem == "placement":
        t = _placement_starts(inst, cluster, start, max_wait, latest)
        _require_requests(inst)
        entries = 2 * cluster.workers * int(inst.output.sum())
        if entries > _MOST_ENTRIES:
            raise InputError(
                f"the model would have about {entries:,} coefficients, more than {_MOST_ENTRIES:,}; "
                "take fewer requests, or use placement_bound"
            )
        model = placement_model(placement_case(inst, cluster, t), strengthen=not plain)
        steps = len(active_steps(t, inst.output)[1])
        return model, [f"{model.name}, {steps} active steps", "objective: sum of peaks, token-steps"]
    last = _windows(inst, cluster, problem, start, max_wait, latest)
    _require_requests(inst)
    case = window_case(inst, cluster, last)
    model = merged_model(case) if relaxed else schedule_model(case, strengthen=not plain)
    words = NO_LIMIT if last is None else start_windows(inst, cluster, max_wait, latest)[1]
    unit = cluster.step_time.per_token or cluster.step_time.fixed
    return model, [
        f"{model.name}; start windows: {words}",
        "objective: tokens, the sum of peaks and c/a per active step"
        if cluster.step_time.per_token
        else "objective: number of active steps",
        f"decode time, seconds: {unit!r} * objective + {float(case.constant)!r}",
    ]


def _placement_starts(
    inst: Instance, cluster: Cluster, start: ArrayLike | None, max_wait: int | None, latest: ArrayLike | None
) -> Int64Array:
    if start is None:
        raise InputError('start is missing: a placement model takes admission steps as given (problem="schedule" not)')
    if max_wait is not None or latest is not None:
        raise InputError('max_wait and latest belong to problem="schedule"; a placement model has given starts')
    return given_starts(inst, cluster, start)


def _windows(
    inst: Instance,
    cluster: Cluster,
    problem: str,
    start: ArrayLike | None,
    max_wait: int | None,
    latest: ArrayLike | None,
) -> Int64Array | None:
    if problem != "schedule":
        raise InputError(f"unknown problem {problem!r}; problems: placement, schedule")
    if start is not None:
        raise InputError('start belongs to problem="placement"; windows of a schedule are max_wait and latest')
    return start_windows(inst, cluster, max_wait, latest)[0]


def _require_requests(inst: Instance) -> None:
    if not len(inst):
        raise InputError("the instance has no requests, and a model of it no rows")


def _number(value: float) -> str:
    """All digits, and whole numbers without a point."""
    return str(int(value)) if value == int(value) else repr(value)


def _numbers(values: Float64Array) -> list[str]:
    """All of them; few are different."""
    distinct, at = np.unique(values, return_inverse=True)
    texts = [_number(value) for value in distinct.tolist()]
    return [texts[i] for i in at.tolist()]


def _sided(model: LinearModel) -> Iterator[tuple[int, str, str, float]]:
    """Row, name, sense (E, G or L) and right-hand side; a row with two different sides comes as two."""
    for r, (name, low, high) in enumerate(
        zip(model.rows, model.row_lower.tolist(), model.row_upper.tolist(), strict=True)
    ):
        entries = slice(int(model.first[r]), int(model.first[r + 1]))
        # A count is never negative: its lower side says nothing.
        idle = low <= 0 and (model.value[entries] >= 0).all() and (model.lower[model.column[entries]] >= 0).all()
        if low == high:
            yield r, name, "E", low
        elif math.isfinite(high):
            yield r, name, "L", high
            if math.isfinite(low) and not idle:
                yield r, f"{name}.low", "G", low
        elif math.isfinite(low):
            yield r, name, "G", low


def _write_mps(model: LinearModel, integer: np.ndarray, notes: list[str], out: TextIO) -> None:
    out.writelines(f"* {note}\n" for note in notes)
    out.write(f"NAME {model.name.split(' ')[0]}\nROWS\n N objective\n")
    rows = list(_sided(model))
    of_row: list[list[str]] = [[] for _ in model.rows]
    for r, name, sense, _ in rows:
        of_row[r].append(name)
        out.write(f" {sense} {name}\n")
    out.write("COLUMNS\n")
    order = np.argsort(model.column, kind="stable")
    row_of = np.repeat(np.arange(len(model.rows)), np.diff(model.first))[order].tolist()
    values = _numbers(model.value[order])
    bounds = np.searchsorted(model.column[order], np.arange(len(model.variables) + 1)).tolist()
    whole = False
    for j, (name, cost) in enumerate(zip(model.variables, model.cost.tolist(), strict=True)):
        if bool(integer[j]) != whole:
            whole = not whole
            out.write(f" MARKER 'MARKER' '{'INTORG' if whole else 'INTEND'}'\n")
        if cost or bounds[j] == bounds[j + 1]:
            out.write(f" {name} objective {_number(cost)}\n")
        entries = range(bounds[j], bounds[j + 1])
        out.write("".join(f" {name} {row} {values[e]}\n" for e in entries for row in of_row[row_of[e]]))
    if whole:
        out.write(" MARKER 'MARKER' 'INTEND'\n")
    out.write("RHS\n")
    out.writelines(f" RHS {name} {_number(side)}\n" for _, name, _, side in rows if side)
    out.write("BOUNDS\n")
    for name, low, high, is_whole in _bounds(model, integer):
        if low == high:
            out.write(f" FX BND {name} {_number(low)}\n")
            continue
        if low:
            out.write(f" LO BND {name} {_number(low)}\n")
        if math.isfinite(high) or is_whole:  # without a bound some readers take integers for binaries
            out.write(f" UP BND {name} {_number(high)}\n" if math.isfinite(high) else f" PL BND {name}\n")
    out.write("ENDATA\n")


def _write_lp(model: LinearModel, integer: np.ndarray, notes: list[str], out: TextIO) -> None:
    names = [_safe(name) for name in model.variables]
    out.writelines(f"\\ {note}\n" for note in notes)
    priced = np.flatnonzero(model.cost) if model.cost.any() else np.arange(1)
    out.write("Minimize\n objective:")
    _write_terms(out, model.cost[priced], [names[j] for j in priced.tolist()])
    out.write("\nSubject To\n")
    for r, name, sense, side in _sided(model):
        entries = slice(int(model.first[r]), int(model.first[r + 1]))
        out.write(f" {_safe(name)}:")
        _write_terms(out, model.value[entries], [names[j] for j in model.column[entries].tolist()])
        out.write(f" {({'E': '=', 'G': '>=', 'L': '<='})[sense]} {_number(side)}\n")
    out.write("Bounds\n")
    binary, general = [], []
    for name, low, high, is_whole in _bounds(model, integer):
        name = _safe(name)
        if is_whole and (low, high) == (0.0, 1.0):
            binary.append(name)
            continue
        if is_whole:
            general.append(name)
        if low == high:
            out.write(f" {name} = {_number(low)}\n")
        elif math.isfinite(high):
            out.write(f" {_number(low)} <= {name} <= {_number(high)}\n")
        elif low:
            out.write(f" {name} >= {_number(low)}\n")
    for section, members in (("Binaries", binary), ("Generals", general)):
        if members:
            out.write(section + "\n")
            out.writelines(f" {name}\n" for name in members)
    out.write("End\n")


def _write_terms(out: TextIO, values: Float64Array, names: list[str]) -> None:
    terms: list[str] = []
    for value, size, name in zip(values.tolist(), _numbers(np.abs(values)), names, strict=True):
        # Readers of LP files limit the length of lines.
        start = "\n  " if terms and len(terms) % 10 == 0 else ""
        terms.append(f"{start} {'-' if value < 0 else '+'}{'' if size == '1' else f' {size}'} {name}")
    out.write("".join(terms))


def _bounds(model: LinearModel, integer: np.ndarray) -> Iterator[tuple[str, float, float, bool]]:
    return zip(model.variables, model.lower.tolist(), model.upper.tolist(), integer.tolist(), strict=True)


def _safe(name: str) -> str:
    """``x[i=12,g=3]`` as ``x_i12_g3``."""
    return name.translate(_SPELT)


def _assignments(
    lines: Iterator[str],
) -> Iterator[tuple[int, str, tuple[int, int | None, int | None], str]]:
    """Number of the line, name, indices and value, as text, of every x."""
    promised, count = -1, 0
    for number, line in enumerate(lines, 1):
        # HiGHS repeats the names with dual values further down.
        if line.startswith(("# Rows", "# Dual")):
            break
        words = line.split()
        if line.startswith("# Columns") and len(words) == 3 and words[2].isdecimal():
            promised, count = int(words[2]), 0
            continue
        count += bool(words)
        for at, word in enumerate(words[:-1]):
            match = _X.fullmatch(word)
            if match:
                i, t, g, *others = match.groups()
                i, t, g = (i, t, g) if i is not None else others
                yield (
                    number,
                    word,
                    (int(i), None if t is None else int(t), None if g is None else int(g)),
                    words[at + 1],
                )
                break
    if promised > count:
        raise InputError(f"ends early: {count} of {promised} variables")


@contextmanager
def _readable(path: StrPath) -> Iterator[Iterator[str]]:
    """Lines of a text file, plain or gzip, cut where they are endless; errors are typed and begin with its name."""
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            zipped = file.peek(2)[:2] == b"\x1f\x8b"
            yield _lines(gzip.GzipFile(fileobj=file) if zipped else file)
    except InputError as exc:
        raise InputError(f"{name}: {exc}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise InputError(f"{name}: not a complete gzip file: {exc}") from None
    except OSError as exc:
        raise InputError(f"{name}: {exc.strerror or exc}") from None


def _lines(source: BinaryIO | gzip.GzipFile) -> Iterator[str]:
    left = _MOST_BYTES
    while line := source.readline(4096):
        left -= len(line)
        if left < 0:
            raise InputError(f"more than {_MOST_BYTES} bytes of text")
        yield line.decode("utf-8", "replace")
