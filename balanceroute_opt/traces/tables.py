"""Tables of rows in a CSV, JSON lines or Parquet file, read through polars, and the place of a row in its file."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from ..errors import InputError
from .stream import blocks, chunks, default_limit

__all__ = ["Schema", "Table", "first_line", "named", "read_tables", "short"]

Schema = dict[str, Any]

_PARQUET_ROWS = 2**20
_CHILD_MEMORY = 4 * 2**30
_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException, RuntimeError, MemoryError)


class Table:
    """A block of rows: column names at once, values after :meth:`select`."""

    columns: list[str]
    unit = "line"

    def frame(self, wanted: Schema) -> pl.DataFrame:
        """The columns `wanted`, with these types where the file itself has none."""
        raise NotImplementedError

    def line(self, row: int) -> int:
        """1-based line of the file (row for Parquet) of row `row`."""
        raise NotImplementedError


class _CsvTable(Table):
    def __init__(self, columns: list[str], block: bytes, lines_before: int, delimiter: str) -> None:
        self.columns, self.block, self.before, self.delimiter = columns, block, lines_before, delimiter

    def frame(self, wanted: Schema) -> pl.DataFrame:
        # Blank lines read as rows of nothing, or not at all; they are rare, and only then searched for.
        with contextlib.suppress(*_FAILURES):
            frame = self._parse(self.block, wanted)
            if not frame.to_series(0).null_count():
                return frame
        try:
            return self._parse(_without_blank_lines(self.block), wanted)
        except _FAILURES as exc:
            self._explain(exc)

    def _parse(self, text: bytes, wanted: Schema) -> pl.DataFrame:
        if not text or text.isspace():
            return pl.DataFrame(schema=wanted)
        return pl.read_csv(
            io.BytesIO(text),
            has_header=False,
            schema=dict.fromkeys(self.columns, pl.String),
            columns=[self.columns.index(c) for c in wanted],
            separator=self.delimiter,
        ).select(list(wanted))

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Last line and fields of each row that is not blank, parsed slowly."""
        text = io.TextIOWrapper(io.BytesIO(self.block), "utf-8", errors="replace", newline="")
        reader = csv.reader(text, delimiter=self.delimiter)
        yield from ((self.before + reader.line_num, row) for row in reader if row)

    def line(self, row: int) -> int:
        with contextlib.suppress(csv.Error, StopIteration):  # fields too long for the slow parser
            return next(line for i, (line, _) in enumerate(self._rows()) if i == row)
        return self.before + row + 1

    def _explain(self, exc: BaseException) -> NoReturn:
        try:
            self.block.decode()
            for line, fields in self._rows():
                if len(fields) != len(self.columns):
                    raise InputError(f"line {line}: {len(fields)} fields, the header has {len(self.columns)}") from None
        except UnicodeDecodeError as bad:
            line = self.before + self.block.count(b"\n", 0, bad.start) + 1
            raise InputError(f"line {line}: byte {self.block[bad.start]:#04x} is not UTF-8 text") from None
        except csv.Error as bad:
            raise InputError(f"after line {self.before}: not CSV: {bad}") from None
        raise InputError(f"after line {self.before}: not CSV: {first_line(exc)}") from None


class _JsonTable(Table):
    def __init__(self, columns: list[str], block: bytes, lines_before: int) -> None:
        self.columns, self.block, self.before = columns, block, lines_before

    def frame(self, wanted: Schema) -> pl.DataFrame:
        text = _without_blank_lines(self.block)
        if not text or text.isspace():
            return pl.DataFrame(schema=wanted)
        rows = text.count(b"\n") + (not text.endswith(b"\n"))
        try:
            frame = pl.read_ndjson(io.BytesIO(text), schema=wanted).select(list(wanted))
            if frame.height != rows:
                raise RuntimeError(f"{rows} lines, {frame.height} objects")
            return frame
        except _FAILURES as exc:
            self._explain(exc, wanted)

    def line(self, row: int) -> int:
        full = (i for i, line in enumerate(self.block.split(b"\n")) if line.strip())
        return self.before + 1 + next((i for k, i in enumerate(full) if k == row), row)

    def _explain(self, exc: BaseException, wanted: Schema) -> NoReturn:
        for i, line in enumerate(self.block.split(b"\n")):
            if not line.strip():
                continue
            where = f"line {self.before + i + 1}"
            try:
                data = json.loads(line, parse_constant=_no_constant)
            except (ValueError, RecursionError) as bad:
                raise InputError(f"{where}: not JSON: {first_line(bad)}") from None
            if not isinstance(data, dict):
                raise InputError(f"{where}: must hold one JSON object, got {short(data)}") from None
            for column, kind in wanted.items():
                value = data.get(column)
                if kind != pl.String and not (value is None or _is_id_list(value)):
                    raise InputError(
                        f"{where}, column {column!r}: must be a list of integers, got {short(value)}"
                    ) from None
        raise InputError(f"after line {self.before}: not JSON lines: {first_line(exc)}") from None


class _ParquetTable(Table):
    unit = "row"

    def __init__(self, columns: list[str], child: subprocess.Popen[bytes], offset: int) -> None:
        self.columns, self.child, self.offset = columns, child, offset

    def frame(self, wanted: Schema) -> pl.DataFrame:
        """The wanted columns; tables must be asked one after the other, each once."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        with contextlib.suppress(OSError, *_FAILURES):
            if self.offset == 0:
                self.child.stdin.write(json.dumps([list(wanted), _PARQUET_ROWS]).encode() + b"\n")
                self.child.stdin.flush()
            size = int.from_bytes(self.child.stdout.read(8), "little")
            data = self.child.stdout.read(size)
            if size and len(data) == size:
                return pl.read_ipc_stream(io.BytesIO(data))
        raise InputError(f"after row {self.offset}: not a readable Parquet file: it is damaged, or too large to unfold")

    def line(self, row: int) -> int:
        return self.offset + row + 1


def read_tables(path: Path, delimiter: str, max_bytes: int | None) -> Iterator[Table]:
    """The tables of a file, at least one; kind and compression are told by content."""
    with path.open("rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InputError("is not a regular file")
        if file.peek(4)[:4] == b"PAR1":
            yield from _parquet_tables(path, max_bytes)
            return
        pieces = chunks(file, max_bytes)
        start = next((piece for piece in pieces if piece), b"")
        if not start:
            raise InputError("the file is empty")
        start = start.removeprefix(b"\xef\xbb\xbf")
        if (at := start.find(b"\0")) >= 0 or _not_text(start[:4096]):
            raise InputError(
                f"is not text (byte 0 at {at})" if at >= 0 else "is not UTF-8 text: neither CSV, JSON lines nor Parquet"
            )
        is_json = start.lstrip().startswith(b"{")
        columns: list[str] = []
        for before, block in blocks(_chain(start, pieces), quoted=not is_json):
            if not columns:
                blank = len(block) - len(block.lstrip())
                before += block.count(b"\n", 0, blank)
                block = block[blank:]
                if not block:
                    continue
                columns, block, used = _json_columns(block, before) if is_json else _csv_columns(block, delimiter)
                before += used
            yield _JsonTable(columns, block, before) if is_json else _CsvTable(columns, block, before, delimiter)
        if not columns:
            raise InputError("the file is empty")


def _parquet_tables(path: Path, max_bytes: int | None) -> Iterator[_ParquetTable]:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 4))
        if size < 12 or file.read(4) != b"PAR1":
            raise InputError("the Parquet file is cut off: its end is missing")
    memory = _CHILD_MEMORY + 40 * size
    child = subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).with_name("parquet_child.py")), str(path.absolute()), str(memory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert child.stdout is not None
        try:
            head = json.loads(child.stdout.readline())
        except ValueError:
            head = {"error": "it is damaged"}
        if "error" in head:
            raise InputError(f"not a readable Parquet file: {head['error']}")
        columns, rows = head["columns"], head["rows"]
        limit = default_limit(size) if max_bytes is None else max_bytes
        if rows * 8 * max(1, min(3, len(columns))) > limit:
            raise InputError(f"claims {rows:,} rows in {size:,} bytes; if that is right, allow more with max_bytes=")
        for offset in range(0, max(rows, 1), _PARQUET_ROWS):
            yield _ParquetTable(columns, child, offset)
    finally:
        child.kill()
        child.communicate()


def _csv_columns(block: bytes, delimiter: str) -> tuple[list[str], bytes, int]:
    head, _, rest = block.partition(b"\n")
    try:
        columns = next(csv.reader([head.decode().rstrip("\r")], delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error, StopIteration) as exc:
        raise InputError(f"line 1: not a CSV header: {exc}") from None
    twice = next((c for i, c in enumerate(columns) if c in columns[:i]), None)
    if twice is not None:
        raise InputError(f"line 1: the column {short(twice)} is named twice")
    if columns and all(_is_number(c) for c in columns):
        raise InputError(f"line 1: numbers where the column names should be: {head[:60].decode(errors='replace')}")
    return columns, rest, 1


def _json_columns(block: bytes, before: int) -> tuple[list[str], bytes, int]:
    line = block.partition(b"\n")[0]
    try:
        data = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"line {before + 1}: not JSON: {first_line(exc)}; there must be one object per line") from None
    return list(data), block, 0


class named:
    """Put the file's name before the message of errors, and type system errors."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, InputError):
            raise InputError(f"{self.path}: {exc}") from None
        if isinstance(exc, FileNotFoundError):
            raise InputError(f"{self.path}: no such file") from None
        if isinstance(exc, IsADirectoryError):
            raise InputError(f"{self.path}: is a directory, not a file") from None
        if isinstance(exc, OSError):
            raise InputError(f"{self.path}: {exc.strerror or exc}") from None


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _without_blank_lines(block: bytes) -> bytes:
    return re.sub(rb"\n(?:\r?\n)+", b"\n", block.lstrip(b"\r\n"))


def _not_text(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as exc:
        return exc.start < len(start) - 4
    return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_id_list(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and abs(v) < 2**63 for v in value)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"the number {text} is not allowed")


def short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:160]
