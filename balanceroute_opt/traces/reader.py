"""Readers: a trace file to an :class:`Instance`, block by block through polars, with exact times."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .._validate import Int64Array, integer
from ..errors import InputError
from ..instance import Instance
from .columns import BadValue, Clock, KeyMaker, block_keys, tokens
from .formats import TraceFormat, choose_format
from .tables import Schema, Table, named, read_tables, short

__all__ = ["RawTrace", "TraceReport", "read_raw", "read_trace", "read_trace_report"]

StrPath = str | os.PathLike[str]

_SUFFIXES = (".gz", ".zst", ".csv", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".txt")


@dataclass(frozen=True)
class TraceReport:
    """What became of the rows of a file.

    Parameters
    ----------
    file, format : str
        Name of the file without its folder; name of the format.
    rows, requests, dropped : int
        Rows read, rows kept, rows left out because a token count is 0.
    zero_prompt, zero_output : int
        Rows with a prompt, with an output, of 0 tokens (a row can be both).
    out_of_order : int
        Rows earlier than the row before them; more than 0 only with ``order="sort"``.
    keys : int
        Requests that have a key.
    zone : str
        UTC offset written in the times, "" if there is none.
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

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    def __str__(self) -> str:
        text = f"{self.file} ({self.format}): {self.rows:,} rows, {self.requests:,} requests"
        if self.dropped:
            text += (
                f"; {self.dropped:,} rows dropped for 0 tokens "
                f"({self.zero_prompt:,} without prompt, {self.zero_output:,} without output)"
            )
        if self.out_of_order:
            text += f"; sorted, {self.out_of_order:,} rows were out of order"
        return text


@dataclass(frozen=True)
class RawTrace:
    """Columns of a file as they are, rows with 0 tokens included, in the order of arrival.

    `time` is in nanoseconds (since 1970 for dates, else since the zero of the file), or None if the
    format has no arrivals; `prompt` and `output` are int32, `key` int64 with -1 for none.
    """

    format: TraceFormat
    time: Int64Array | None
    prompt: NDArray[np.int32]
    output: NDArray[np.int32]
    key: Int64Array | None
    out_of_order: int
    zone: str


def read_trace(path: StrPath, format: str | None = None, **options: Any) -> Instance:
    """The requests of a public trace as a wall-clock instance.

    Parameters
    ----------
    path : path-like
        Plain, gzip, zstd or Parquet, told by content; or the name of a fetched trace of the catalog.
    format : str, optional
        One of ``azure``, ``burstgpt``, ``mooncake``, ``qwen``, ``vidur``, ``lengths``, ``generic``;
        by default recognised by the columns.
    **options
        See :func:`read_trace_report`.

    Returns
    -------
    Instance
        ``clock="wall"``; `release` in seconds from the first request that is kept, in the order of
        arrival, ties in the order of the file.

    Raises
    ------
    InputError
        One line with the file, the line, the column, the value, and what would be right.
    """
    return read_trace_report(path, format, **options)[0]


def read_trace_report(
    path: StrPath, format: str | None = None, *, zero: Literal["drop", "error"] = "drop", **options: Any
) -> tuple[Instance, TraceReport]:
    """As :func:`read_trace`, with an account of the rows.

    Parameters
    ----------
    path, format
        See :func:`read_trace`.
    zero : {"drop", "error"}
        What to do with rows whose prompt or output has 0 tokens (failed requests): leave them out and
        count them, or raise.
    release, prompt, output : str, optional
        Column names of format ``generic``.
    unit : {"s", "ms", "us", "ns", "datetime"}, optional
        Unit of the `release` column of format ``generic``; default ``"s"``.
    key : str or None, optional
        Column that names what a request belongs to; ``"auto"`` (default) is the format's own, None is no key. Texts
        become hashes; the format's predicted output lengths (``num_predicted_decode_tokens``) stay numbers.
    key_blocks : int, optional
        Leading prefix blocks that make the key (``mooncake`` 2, ``qwen`` 4); shorter prompts have none.
    hash_ids : path-like, optional
        File of prefix block ids of a Mooncake CSV; by default ``X_hash_ids.csv*`` beside ``X.csv*``, if there.
    order : {"error", "sort"}
        What to do if times decrease: raise, or sort stably and count.
    delimiter : str
        Of CSV files; default ``","``.
    limit : int, optional
        Read the first `limit` rows only.
    max_bytes : int, optional
        Most bytes of text; by default 100 times the size of a compressed file (at least 256 MiB), and
        no limit for plain files.

    Returns
    -------
    inst : Instance
    report : TraceReport

    Raises
    ------
    InputError
        As :func:`read_trace`.

    Notes
    -----
    Times are exact: dates to the nanosecond, numbers of up to 15 significant digits. A file is read in
    blocks, so that memory is that of the columns, about 80 bytes per request.
    """
    path = _resolve(path)
    with named(path):
        if zero not in ("drop", "error"):
            raise InputError(f'zero must be "drop" or "error", got {zero!r}')
    raw = read_raw(path, format, **options)
    with named(path):
        no_prompt, no_output = raw.prompt == 0, raw.output == 0
        keep = ~(no_prompt | no_output)
        dropped = len(keep) - int(keep.sum())
        if dropped and zero == "error":
            row = int(np.argmin(keep))
            column, what = ("prompt", raw.format.prompt) if no_prompt[row] else ("output", raw.format.output)
            raise InputError(
                f"request {row + 1} in order of arrival, column {what!r}: 0 {column} tokens, must be >= 1 "
                f'({dropped} rows of that kind; zero="drop" leaves them out)'
            )
        if dropped == len(keep):
            raise InputError(f"all {dropped} rows have 0 prompt or output tokens; no request is left")
        time, prompt, output, key = raw.time, raw.prompt, raw.output, raw.key
        if dropped:
            time, key = (None if c is None else c[keep] for c in (time, key))
            prompt, output = prompt[keep], output[keep]
        release = np.zeros(len(prompt)) if time is None else (time - time[0]) / 1e9
        inst = Instance(release, prompt, output, key=key, name=_stem(path), clock="wall")
    report = TraceReport(
        file=path.name,
        format=raw.format.name,
        rows=len(keep),
        requests=len(inst),
        dropped=dropped,
        zero_prompt=int(no_prompt.sum()),
        zero_output=int(no_output.sum()),
        out_of_order=raw.out_of_order,
        keys=0 if key is None else int((key != -1).sum()),
        zone=raw.zone,
    )
    return inst, report


def predicted_column(path: StrPath, format: str | None = None, delimiter: str = ",", **options: Any) -> str | None:
    """Name of a file's column of predicted output lengths, None if its format or the file has none.

    Takes the options of :func:`read_trace_report`; give the name as `key` to read the lengths.
    """
    path = _resolve(path)
    own = {name: options.get(name) for name in ("release", "prompt", "output", "unit")}
    with named(path):
        columns = next(read_tables(path, delimiter, options.get("max_bytes"))).columns
        column = choose_format(columns, format, own).predicted
    return column if column in columns else None


def read_raw(
    path: StrPath,
    format: str | None = None,
    *,
    release: str | None = None,
    prompt: str | None = None,
    output: str | None = None,
    unit: str | None = None,
    key: str | None = "auto",
    key_blocks: int | None = None,
    hash_ids: StrPath | None = None,
    order: Literal["error", "sort"] = "error",
    delimiter: str = ",",
    limit: int | None = None,
    max_bytes: int | None = None,
) -> RawTrace:
    """All rows of a trace file, zero-token rows included; parameters as :func:`read_trace_report`."""
    path = _resolve(path)
    with named(path):
        if order not in ("error", "sort"):
            raise InputError(f'order must be "error" or "sort", got {order!r}')
        if not (
            isinstance(delimiter, str) and len(delimiter) == 1 and delimiter.isascii() and delimiter not in '\r\n"'
        ):
            raise InputError(f"delimiter must be one ASCII character, got {delimiter!r}")
        limit = None if limit is None else integer(limit, "limit", 1)
        max_bytes = None if max_bytes is None else integer(max_bytes, "max_bytes", 1)
        if key_blocks is not None:
            integer(key_blocks, "key_blocks", 1, 64)
        own = {"release": release, "prompt": prompt, "output": output, "unit": unit}
        collected: _Collected | None = None
        for table in read_tables(path, delimiter, max_bytes):
            if collected is None:
                form = choose_format(table.columns, format, own)
                keys = KeyMaker(form, table.columns, key, key_blocks)
                collected = _Collected(form, keys, order, limit)
            collected.add(table)
            if collected.full:
                break
        assert collected is not None
        if collected.rows == 0:
            raise InputError("the file has a header and no rows")
        raw = collected.finish()
    beside = None
    if form.name == "mooncake" and keys.column is None and key == "auto":
        beside = _hash_file(path, hash_ids)
    if beside is None:
        return raw
    if collected.out_of_order:
        raise InputError(f"{path}: cannot be sorted and matched with {beside}; give key=None")
    depth = form.key_blocks if key_blocks is None else key_blocks
    return RawTrace(**(vars(raw) | {"key": _read_hash_ids(beside, depth, len(raw.prompt), limit, max_bytes)}))


class _Collected:
    """Columns that grow block by block."""

    def __init__(self, form: TraceFormat, keys: KeyMaker, order: str, limit: int | None) -> None:
        self.form, self.keys, self.order, self.limit = form, keys, order, limit
        self.wanted: Schema = {c: pl.String for c in (form.release, form.prompt, form.output) if c is not None}
        if keys.column is not None:
            self.wanted[keys.column] = pl.List(pl.Int64) if keys.blocks else pl.String
        self.rows = self.out_of_order = 0
        self.parts: dict[str, list[NDArray[Any]]] = {"time": [], "prompt": [], "output": [], "key": []}
        self.clock = Clock(form.unit)
        self.last: int | None = None

    @property
    def full(self) -> bool:
        return self.limit is not None and self.rows >= self.limit

    def add(self, table: Table) -> None:
        form = self.form
        frame = table.frame(self.wanted)
        if self.limit is not None:
            frame = frame.head(self.limit - self.rows)
        if not frame.height:
            return
        try:
            if form.release is not None:
                times = self.clock.nanoseconds(frame[form.release])
                self._check_order(times, frame[form.release])
                self.parts["time"].append(times)
            self.parts["prompt"].append(tokens(frame[form.prompt]))
            self.parts["output"].append(tokens(frame[form.output]))
            if self.keys.column is not None:
                self.parts["key"].append(self.keys.keys(frame[self.keys.column]))
        except BadValue as bad:
            raise InputError(
                f"{table.unit} {table.line(bad.row)}, column {bad.column!r}: {short(bad.value)} {bad.why}"
            ) from None
        self.rows += frame.height

    def _check_order(self, times: Int64Array, series: pl.Series) -> None:
        back = np.diff(times, prepend=times[0] if self.last is None else self.last) < 0
        self.last = int(times[-1])
        if back.any():
            if self.order == "error":
                row = int(np.argmax(back))
                raise BadValue(
                    row,
                    series.name,
                    series[row],
                    'is earlier than the row before it; times must not decrease (order="sort" sorts them)',
                )
            self.out_of_order += int(back.sum())

    def finish(self) -> RawTrace:
        columns: dict[str, Any] = {}
        for name, parts in self.parts.items():
            columns[name] = np.concatenate(parts) if parts else None
            parts.clear()
        if self.out_of_order:
            arrival = np.argsort(columns["time"], kind="stable")
            columns = {name: None if c is None else c[arrival] for name, c in columns.items()}
        return RawTrace(format=self.form, out_of_order=self.out_of_order, zone=self.clock.zone or "", **columns)


def _hash_file(path: Path, named: StrPath | None) -> Path | None:
    """The file of prefix block ids that belongs to a Mooncake CSV."""
    if named is not None:
        return Path(named)
    stem = _stem(path)
    for suffix in (path.name[len(stem) :], ".csv.gz", ".csv.zst", ".csv"):
        beside = path.with_name(f"{stem}_hash_ids{suffix}")
        if beside.is_file() and beside != path:
            return beside
    return None


def _read_hash_ids(path: Path, depth: int, rows: int, limit: int | None, max_bytes: int | None) -> Int64Array:
    keys: list[Int64Array] = []
    done = 0
    with named(path):
        for table in read_tables(path, ",", max_bytes):
            for column in ("row", "hash_ids"):
                if column not in table.columns:
                    raise InputError(f"no column {column!r}; a file of hash ids has row and hash_ids")
            frame = table.frame({"row": pl.String, "hash_ids": pl.String})
            if limit is not None:
                frame = frame.head(rows - done)
            if not frame.height:
                continue
            number = frame["row"].cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
            bad = number != np.arange(done, done + frame.height)
            if bad.any():
                row = int(np.argmax(bad))
                raise InputError(f"line {table.line(row)}, column 'row': must be {done + row}, got {frame['row'][row]}")
            split = frame["hash_ids"].str.splitn(" ", depth + 1).struct
            texts = [split.field(f"field_{j}") for j in range(depth)]
            ids = [text.cast(pl.Int64, strict=False) for text in texts]
            for text, values in zip(texts, ids, strict=True):
                wrong = (values.is_null() & text.is_not_null()).to_numpy()
                if wrong.any():
                    row = int(np.argmax(wrong))
                    raise InputError(
                        f"line {table.line(row)}, column 'hash_ids': {short(text[row])} is no block id; "
                        "ids are integers with single spaces between them"
                    )
            keys.append(block_keys([s.fill_null(0).to_numpy() for s in ids], ids[-1].is_null().to_numpy()))
            done += frame.height
        if done != rows:
            raise InputError(f"{done} rows, the trace has {rows}")
    return np.concatenate(keys)


def _resolve(path: StrPath) -> Path:
    """The file, or the cached file of a catalog name."""
    try:
        found = Path(path)
        exists = found.exists()
    except (TypeError, ValueError, OSError) as exc:
        raise InputError(f"{path!r}: not a path: {exc}") from None
    if not exists and isinstance(path, str) and found.name == path:
        from .fetch import cached_trace, find_entry

        entry = find_entry(path)
        if entry is not None:
            cached = cached_trace(entry.name)
            if cached is None:
                raise InputError(
                    f"{path}: no such file; it is a public trace: get it with balanceroute trace fetch {entry.name}"
                )
            return cached
    return found


def file_name(path: StrPath) -> str:
    """Name, without its folder, of the file that :func:`read_trace` would read."""
    return _resolve(path).name


def _stem(path: Path) -> str:
    name = path.name
    while (suffix := Path(name).suffix.lower()) in _SUFFIXES:
        name = name[: -len(suffix)]
    return name or path.name
