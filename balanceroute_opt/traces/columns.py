"""Columns of a table to exact integers: times in nanoseconds, token counts, keys."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .._validate import Int64Array
from ..errors import InputError
from ..instance import MAX_TOKENS
from .formats import UNITS, TraceFormat

__all__ = ["BadValue", "Clock", "KeyMaker", "block_keys", "text_key", "tokens"]

# About 146 years on either side of 1970; differences of two such times fit int64.
_MAX_NS = 2**62
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d([ T])\d\d:\d\d:\d\d(?:\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?")
_POWERS = 10.0 ** np.arange(1, 19)


class BadValue(Exception):
    """A value that cannot be: row within the table, column, value, what would be right."""

    def __init__(self, row: int, column: str, value: Any, why: str) -> None:
        super().__init__(row, column, value, why)
        self.row, self.column, self.value, self.why = row, column, value, why


class Clock:
    """Times of one column to nanoseconds; remembers the zone of the first row."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.zone: str | None = None
        self.separator = " "

    def nanoseconds(self, series: pl.Series) -> Int64Array:
        if self.unit == "datetime":
            return self._dates(series)
        return self._numbers(series)

    def _dates(self, series: pl.Series) -> Int64Array:
        if isinstance(series.dtype, pl.Datetime):
            self.zone = series.dtype.time_zone or ""
            per_tick = UNITS[series.dtype.time_unit]
            ticks = series.to_physical()
            _refuse(series, ticks.is_null().to_numpy() | ~_within(ticks, _MAX_NS // per_tick), "must be a time")
            return ticks.to_numpy() * per_tick
        if series.dtype != pl.String:
            _refuse(series, np.ones(len(series), bool), "is not a date and time; name the unit of numbers with unit=")
        if self.zone is None:
            match = _DATETIME.fullmatch(series[0] or "")
            if match is None:
                raise BadValue(0, series.name, series[0], _why_date(series[0], ""))
            self.separator, self.zone = match[1], match[2] or ""
        body, fine = series, pl.repeat(True, len(series), eager=True)
        if self.zone:
            fine = series.str.ends_with(self.zone)
            body = series.str.strip_suffix(self.zone)
        # Whole seconds repeat and are parsed once each; decimals are integers of nine digits.
        seconds = body.str.slice(0, 19).str.to_datetime(
            f"%Y-%m-%d{self.separator}%H:%M:%S", time_unit="us", strict=False
        )
        decimals = body.str.slice(20).str.pad_end(9, "0")
        length = body.str.len_bytes()
        fine &= (length == 19) | ((length >= 21) & (length <= 29) & (body.str.slice(19, 1) == "."))
        fine &= decimals >= "0"  # no sign
        micros, nanos = seconds.to_physical(), decimals.cast(pl.Int64, strict=False)
        fine &= micros.is_not_null() & nanos.is_not_null()
        good = fine.fill_null(False).to_numpy() & _within(micros, _MAX_NS // 1000)
        if not good.all():
            row = int(np.argmin(good))
            raise BadValue(row, series.name, series[row], _why_date(series[row], self.zone))
        return micros.to_numpy() * 1000 + nanos.to_numpy()

    def _numbers(self, series: pl.Series) -> Int64Array:
        name = series.name
        if series.dtype != pl.String and not series.dtype.is_numeric():
            hint = '; use unit="datetime"' if isinstance(series.dtype, pl.Datetime) else ""
            raise InputError(f"column {name!r} must hold numbers, got {series.dtype}{hint}")
        scale = UNITS[self.unit]
        whole = series.cast(pl.Int64, strict=False) if not series.dtype.is_float() else None
        if whole is not None and not whole.null_count() and _within(whole, _MAX_NS // scale).all():
            return whole.to_numpy() * scale
        exact = np.zeros(len(series), np.int64) if whole is None else whole.fill_null(0).to_numpy()
        fraction = np.ones(len(series), bool) if whole is None else whole.is_null().to_numpy()
        value = series.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        with np.errstate(invalid="ignore"):
            bad = ~(np.abs(value) <= _MAX_NS / scale)
        if bad.any():
            row = int(np.argmax(bad))
            text = series[row]
            if isinstance(text, str) and _DATETIME.fullmatch(text):
                why = f'is a date; this column is read as a number of {self.unit}; use unit="datetime"'
            elif text is None:
                why = "is missing; times are numbers"
            elif np.isfinite(value[row]):
                why = f"is out of range; times must lie within {_MAX_NS // scale} {self.unit}: check unit="
            else:
                why = f"is not a time; times are finite numbers of {self.unit}"
            raise BadValue(row, name, text, why)
        # A float64 holds 15 significant digits: those are rounded to, so that 19440110.1 s is exact.
        floor = np.floor(value)
        digits = np.searchsorted(_POWERS, np.abs(floor), side="right") + 1
        places = np.clip(15 - digits, 0, len(str(scale)) - 1)
        part = np.rint((value - floor) * 10.0**places).astype(np.int64) * (scale // 10**places)
        return np.where(fraction, floor.astype(np.int64) * scale + part, exact * scale)


def tokens(series: pl.Series) -> NDArray[np.int32]:
    if series.dtype != pl.String and not series.dtype.is_numeric():
        raise InputError(f"column {series.name!r} must hold whole numbers, got {series.dtype}")
    missing = np.zeros(len(series), bool)
    if series.dtype.is_float():
        values, missing = np.zeros(len(series), np.int64), ~missing
    else:
        whole = series.cast(pl.Int64, strict=False)
        if whole.null_count():
            missing = whole.is_null().to_numpy()
            whole = whole.fill_null(0)
        values = whole.to_numpy()
    if missing.any():  # perhaps whole numbers written as 12.0
        number = series.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        with np.errstate(invalid="ignore"):
            fine = missing & (number == np.floor(number)) & (np.abs(number) <= MAX_TOKENS)
        values = np.where(fine, np.where(fine, number, 0).astype(np.int64), values)
        missing &= ~fine
    bad = missing | (values < 0) | (values > MAX_TOKENS)
    if bad.any():
        row = int(np.argmax(bad))
        raise BadValue(row, series.name, series[row], _why_tokens(series[row]))
    return values.astype(np.int32)


def _why_tokens(value: Any) -> str:
    right = f"token counts are whole numbers from 0 to {MAX_TOKENS}"
    if value is None:
        return f"is missing; {right}"
    try:
        number = float(value)
    except ValueError:
        return f"is not a number; {right}"
    if number != number:
        return f"is not a number; {right}"
    if number < 0:
        return f"is negative; {right}"
    if number > MAX_TOKENS:
        return f"is too large; {right}"
    return f"is not a whole number; {right}"


def _why_date(value: Any, zone: str) -> str:
    right = "times are written YYYY-MM-DD HH:MM:SS with up to nine decimals and perhaps +HH:MM"
    if value is None:
        return f"is missing; {right}"
    match = _DATETIME.fullmatch(value)
    if match and (match[2] or "") != zone:
        return (
            f"mixes zones: it has {match[2] or 'none'}, the rows before have {zone or 'none'}; a file must keep to one"
        )
    return f"is not a time from 1825 to 2115; {right}"


def _within(series: pl.Series, bound: int) -> NDArray[np.bool_]:
    values = series.fill_null(0).to_numpy()
    return (values <= bound) & (values >= -bound)


def _refuse(series: pl.Series, bad: NDArray[np.bool_], why: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise BadValue(row, series.name, series[row], why)


def block_keys(ids: list[Int64Array], short: NDArray[np.bool_]) -> Int64Array:
    """Keys from the ids of the leading blocks (one array per depth), -1 where `short` [ours].

    A chained splitmix64 of the ids, top bit cleared: the same on every machine.
    """
    state = np.zeros(len(short), np.uint64)
    with np.errstate(over="ignore"):
        for values in ids:
            state = (state ^ values.astype(np.int64).view(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
    return np.where(short, np.int64(-1), (state >> np.uint64(1)).astype(np.int64))


class KeyMaker:
    """Where the keys of a file come from, and how a column becomes keys."""

    def __init__(self, form: TraceFormat, columns: list[str], key: str | None, depth: int | None) -> None:
        self.column: str | None = None
        self.blocks = self.lengths = False
        self.depth = form.key_blocks if depth is None else depth
        if key is None:
            return
        if key != "auto":
            if key not in columns:
                raise InputError(f"no column {key!r} for key=; columns: {', '.join(columns[:12])}")
            self.column, self.blocks, self.lengths = key, key == form.blocks, key == form.predicted
        elif form.blocks in columns:
            self.column, self.blocks = form.blocks, True
        elif form.key in columns:
            self.column = form.key

    def keys(self, series: pl.Series) -> Int64Array:
        if self.blocks:
            if not isinstance(series.dtype, pl.List):
                raise InputError(f"column {series.name!r} must hold lists of integers, got {series.dtype}")
            ids = [series.list.get(j, null_on_oob=True).cast(pl.Int64, strict=False) for j in range(self.depth)]
            return block_keys([s.fill_null(0).to_numpy() for s in ids], ids[-1].is_null().to_numpy())
        if self.lengths:
            return tokens(series).astype(np.int64)
        if series.dtype.is_nested():
            raise InputError(f"column {series.name!r} must hold texts or numbers to be a key, got {series.dtype}")
        text = series.cast(pl.String)
        # Only distinct values are hashed, as Instance does with strings: equal texts, equal keys, in every process.
        codes = text.rank("dense").fill_null(0).to_numpy().astype(np.int64)
        unique = text.drop_nulls().unique().sort().to_list()
        table = np.array([-1, *map(text_key, unique)], np.int64)
        return table[codes]


def text_key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
