"""``registry.csv``: one row per instance and problem, read strictly and written in one step."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Literal

from ..errors import InputError
from ..files import atomic_write

__all__ = ["COLUMNS", "Row", "read_registry", "write_registry"]

Problem = Literal["placement", "schedule"]

_DIGITS = 1e-9  # decode times are floats: a bound this close to a schedule's is equal to it


@dataclass(frozen=True)
class Row:
    """What the library says about one problem.

    Attributes
    ----------
    name, set : str
        ``small/n030-s01`` and ``small``.
    problem : {"placement", "schedule"}
    windows : str
        Of a schedule problem: ``latest=start`` (nobody later than in the starts of the instance), ``max_wait=D`` or
        ``none``; empty for a placement problem, whose starts are given.
    n, workers, slots : int
    best : int, float or None
        Objective of the best known schedule: token-steps (placement) or seconds (schedule).
    bound : int, float or None
        Certified lower bound.
    claimed : int, float or None
        A higher lower bound that a solver reported, without a certificate.
    claimed_by, method, proof : str
        Which solver; how the schedule was found; kind of the certificate.
    version, date : str
        Of the package, and the day (ISO), when the row changed last.
    schedule, certificate : str
        Files, relative to the library; empty: none.
    instance, cluster : str
        Digests.
    given : str
        SHA-256 of the given starts (as int64, little endian); empty where the problem has none.
    """

    name: str
    set: str
    problem: Problem
    windows: str
    n: int
    workers: int
    slots: int
    best: int | float | None
    bound: int | float | None
    claimed: int | float | None
    claimed_by: str
    method: str
    proof: str
    version: str
    date: str
    schedule: str
    certificate: str
    instance: str
    cluster: str
    given: str

    @property
    def status(self) -> Literal["optimal", "claimed", "open"]:
        """``optimal``: the certified bound meets the schedule; ``claimed``: a solver's does; else ``open``."""
        if _meet(self.bound, self.best):
            return "optimal"
        return "claimed" if _meet(self.claimed, self.best) else "open"

    @property
    def gap(self) -> float:
        """``(best - bound) / best`` with the certified bound; inf if either is missing."""
        if self.best is None or self.bound is None:
            return math.inf
        return max(0.0, (self.best - self.bound) / self.best) if self.best else 0.0

    @property
    def label(self) -> str:
        """The problem in a few letters: ``P1``, ``P2 max_wait=8``."""
        return "P1" if self.problem == "placement" else f"P2 {self.windows}"

    def as_dict(self) -> dict[str, str | int | float | None]:
        """Plain data, with the status."""
        return {name: getattr(self, name) for name in COLUMNS}


def _columns() -> tuple[str, ...]:
    names = [f.name for f in fields(Row)]
    return (*names[: names.index("claimed")], "status", *names[names.index("claimed") :])


COLUMNS = _columns()
"""Columns of the file, in order: the fields of :class:`Row`, and the status that follows from them."""


def read_registry(path: Path) -> tuple[Row, ...]:
    """The rows of a registry.

    Raises
    ------
    InputError
        With the file, the line and the column: a missing or unknown column, a value of the wrong form, a status that
        does not follow from the numbers, a second row of one problem.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{path}: {exc}") from None
    return _rows(text, path)


def write_registry(rows: Iterable[Row], path: Path) -> None:
    """Replace the registry in one step."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(COLUMNS)
    for row in rows:
        out.writerow(["" if value is None else value for value in row.as_dict().values()])
    _rows(text.getvalue(), path)  # nothing is written that could not be read
    with atomic_write(path, force=True) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _rows(text: str, path: Path) -> tuple[Row, ...]:
    lines = csv.reader(io.StringIO(text))
    if tuple(next(lines, ())) != COLUMNS:
        raise InputError(f"{path}: the columns must be {','.join(COLUMNS)}")
    rows: dict[tuple[str, str], Row] = {}
    for line in lines:
        try:
            row = _parse(line)
            if (row.name, row.problem) in rows:
                raise InputError(f"a second row of {row.name}, {row.problem}")
        except InputError as exc:
            raise InputError(f"{path}: line {lines.line_num}: {exc}") from None
        rows[row.name, row.problem] = row
    return tuple(rows.values())


def _meet(bound: int | float | None, best: int | float | None) -> bool:
    if bound is None or best is None:
        return False
    return bound >= best if isinstance(best, int) else bound >= best * (1 - _DIGITS)


def _parse(line: list[str]) -> Row:
    if len(line) != len(COLUMNS):
        raise InputError(f"has {len(line)} values, and there are {len(COLUMNS)} columns")
    text = dict(zip(COLUMNS, line, strict=True))
    if text["problem"] not in ("placement", "schedule"):
        raise InputError(f"problem must be placement or schedule, got {text['problem']!r}")
    exact = text["problem"] == "placement"
    form = r"" if exact else r"latest=start|none|max_wait=[0-9]{1,9}"
    _match(text, "windows", form)
    _match(text, "set", r"[a-z0-9-]+")
    _match(text, "name", rf"{re.escape(text['set'])}/[a-z0-9.-]+")
    for name in ("instance", "cluster"):
        _match(text, name, r"[0-9a-f]{64}")
    _match(text, "given", r"[0-9a-f]{64}|")
    for name in ("schedule", "certificate"):
        path = PurePosixPath(text[name])
        if path.is_absolute() or ".." in path.parts or "\\" in text[name]:
            raise InputError(f"{name} must be a path inside the library, got {text[name]!r}")
    numbers = {name: _number(text, name, exact) for name in ("best", "bound", "claimed")}
    counts = {name: int(_match(text, name, r"[0-9]{1,9}")) for name in ("n", "workers", "slots")}
    status = text.pop("status")
    row = Row(**(text | counts | numbers))  # type: ignore[arg-type]
    if row.status != status:
        raise InputError(f"status is {status!r}, and the numbers say {row.status!r}")
    for number, file in (("best", "schedule"), ("bound", "certificate")):
        if (numbers[number] is None) != (not text[file]):
            raise InputError(f"{number} and the file {file} must both be there, or neither")
    return row


def _match(text: dict[str, str], name: str, form: str) -> str:
    if not re.fullmatch(form, text[name]):
        raise InputError(f"{name} must have the form {form or 'of an empty text'}, got {text[name]!r}")
    return text[name]


def _number(text: dict[str, str], name: str, exact: bool) -> int | float | None:
    if not text[name]:
        return None
    try:
        value = int(text[name]) if exact else float(text[name])
    except ValueError:
        value = -1
    if not 0 <= value < math.inf:
        raise InputError(f"{name} must be a number >= 0, got {text[name]!r}")
    return value
