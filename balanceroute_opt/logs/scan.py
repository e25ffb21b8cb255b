"""Samples out of log files: a fast scan for the few lines that matter, in bounded memory (internal).

A file is read in blocks of whole lines. Plain substring searches find the lines that may hold a sample;
only those are looked at with regular expressions, record by record, so that records which two processes
wrote into one line are kept apart and a record that was cut is counted, never guessed.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import sys
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

FORMATS: dict[str, str] = {
    "vllm": "vLLM engine log (`Engine 000: Avg prompt throughput: ...`)",
    "vllm-metrics": 'vLLM metrics (`vllm:num_requests_running{engine="0"} 8.0`)',
    "sglang": "SGLang log (`[... DP0 TP0] Decode batch. #running-req: ...`)",
}
"""Formats that are read: name -> what it is and how its lines look."""

NONE = -1
"""A count, load or rank that a record does not have."""

_BLOCK = 4 << 20
_TAIL = 64 << 10
_RECORD = 2000  # most bytes of a record; keeps the regular expressions' work bounded
_MOST_RANKS = 100_000
_ANSI = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_DATE = re.compile(rb"(?<!\d)(?:(\d{4})-)?(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?")
_PID = re.compile(rb"pid=(\d+)")
_DP = re.compile(rb"DP(\d{1,6})(?!\d)")

_VLLM = b"Avg prompt throughput: "
_ENGINE = re.compile(rb"Engine (\d{1,6}): $")
# Fields of a record, in their order, each (pattern, needed).
_VLLM_FIELDS = (
    (re.compile(rb"Avg generation throughput: (\d+(?:\.\d+)?) "), False),
    (re.compile(rb"Running: (\d{1,9}) reqs,"), True),
    (re.compile(rb"(?:Waiting|Pending): (\d{1,9}) reqs,"), True),
    (re.compile(rb"KV cache usage: (\d{1,3}(?:\.\d+)?)%"), True),
)

_SGLANG = b"Decode batch"
_SGLANG_RECORD = re.compile(rb"(?: \[[^\]]{0,40}\])?[.,]")
_SGLANG_FIELDS = (
    (re.compile(rb"#running-req: (\d{1,9}),"), True),
    (re.compile(rb" #(?:full )?token: (\d{1,15}),"), False),
    (re.compile(rb", (?:full )?token usage: (\d+(?:\.\d+)?),"), False),
    (re.compile(rb"gen throughput \(token/s\): (\d+(?:\.\d+)?),"), False),
    (re.compile(rb"#queue-req: (\d{1,9})(?!\d)"), True),
)

_GAUGES = (b"vllm:num_requests_", b"cache_usage_perc")
_GAUGE = re.compile(
    rb"vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc|gpu_cache_usage_perc)"
    rb"(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+(\d{10,13}))?\s*$"
)
_LABEL_ENGINE = re.compile(rb'(?:^|,)\s*engine="(\d{1,6})"')
_LABEL_SOURCE = re.compile(rb'(?:^|,)\s*(?:instance|pod)="([^"]*)"')
_TIME_LINE = re.compile(
    rb"^[ \t#=\[-]*"
    rb"(?:(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?)(?: ?[A-Z]{1,4}|[+-]\d\d:?\d\d)?|(1\d{9}(?:\.\d+)?))"
    rb"[ \t\]=#:-]*\r?$",
    re.MULTILINE,
)

_CAPACITIES = (b"KV cache size: ", b"max_total_num_tokens=")
_CAPACITY = re.compile(rb"(?:KV cache size: |max_total_num_tokens=)(\d[\d,]{0,15})(?: tokens|\D)")


COLUMNS = {
    "time": float,
    "source": int,
    "rank": int,
    "running": int,
    "waiting": int,
    "tokens": int,
    "share": float,
    "capacity": int,
    "rate": float,
}
"""Columns of a sample; numbers below 2**53, so that a row of floats holds all of them exactly."""


@dataclass
class Samples:
    """Samples of one format, in the order in which they were read, and what was left out."""

    rows: array[float] = field(default_factory=lambda: array("d"))
    half: int = 0
    aggregated: int = 0
    copies: int = 0

    def add(
        self,
        time: float,
        source: int,
        rank: int,
        running: int,
        waiting: int = NONE,
        tokens: int = NONE,
        share: float = math.nan,
        capacity: int = 0,
        rate: float = math.nan,
    ) -> None:
        self.rows.extend((time, source, rank, running, waiting, tokens, share, capacity, rate))

    def __len__(self) -> int:
        return len(self.rows) // len(COLUMNS)

    def columns(self) -> dict[str, NDArray[Any]]:
        """An array of every column."""
        table = np.array(self.rows).reshape(-1, len(COLUMNS))
        return {name: table[:, i].astype(kind) for i, (name, kind) in enumerate(COLUMNS.items())}


class Clock:
    """Seconds of the times in a log, as printed (no time zones).

    A date without a year gets the year that brings it nearest to the time read before it, so that a new year
    moves on; the first one is taken as 2024 (a leap year, so that every date exists).
    """

    def __init__(self) -> None:
        self.last: float | None = None
        self.has_year = False
        self._stamp: bytes | None = None

    def read(self, match: re.Match[bytes]) -> float:
        """Seconds of a `_DATE` match; nan if there is no such date."""
        stamp = match.group()
        if stamp == self._stamp and self.last is not None:
            return self.last
        year, month, day, hour, minute, second, fraction = match.groups()
        of_day = int(hour) * 3600 + int(minute) * 60 + int(second) + (float(b"." + fraction) if fraction else 0.0)
        if year:
            self.has_year = True
            years = [int(year)]
        else:
            near = 2024 if self.last is None else date.fromordinal(int(self.last // 86400)).year
            years = [near] if self.last is None else [near, near - 1, near + 1]
        found = []
        for candidate in years:
            try:
                found.append(date(candidate, int(month), int(day)).toordinal() * 86400 + of_day)
            except ValueError:
                continue
        last = self.last
        nearest = min(found, key=lambda t: 0.0 if last is None else abs(t - last), default=math.nan)
        # A 02-29 that our guess of the year does not have must not move the log by years.
        if math.isnan(nearest) or (not year and last is not None and abs(nearest - last) > 190 * 86400):
            return math.nan
        self.last, self._stamp = nearest, stamp
        return nearest

    def epoch(self, seconds: float) -> float:
        """Seconds of a Unix time, on the same axis."""
        self.has_year = True
        self._stamp = None
        self.last = date(1970, 1, 1).toordinal() * 86400 + seconds
        return self.last


class Scanner:
    """Reads sources one after the other and collects the samples of every format."""

    def __init__(self) -> None:
        self.samples = {name: Samples() for name in FORMATS}
        self.sources: dict[tuple[int, bytes], int] = {}
        self.bytes_read = 0
        self._clock = Clock()
        self._file = -1
        self._before: dict[tuple[int, int], tuple[float, int, tuple[bytes, ...], bytes]] = {}
        self._capacity: dict[int, int] = {}
        self._read_at_capacity = 0
        self.unclear_capacity: tuple[int, int] | None = None
        self._scrape = _Scrape(self)
        self._scraped = False

    @property
    def clock(self) -> Clock:
        return self._clock

    def source(self, part: bytes = b"") -> int:
        """Number of a process or scraped instance of the file at hand."""
        number = self.sources.setdefault((self._file, part), len(self.sources))
        if number >= _MOST_RANKS:
            raise InputError(f"more than {_MOST_RANKS:,} processes or instances: this is not the log of one system")
        return number

    def read(self, stream: Any) -> None:
        """Read one file to its end."""
        self._file += 1
        self._capacity = {}
        self._scraped = False
        tail = b""
        for block in _blocks(stream):
            self.bytes_read += len(block)
            self._block(block, tail)
            tail = (tail + block)[-_TAIL:] if len(block) < _TAIL else block[-_TAIL:]
        self._scrape.close()
        self._scrape.time = math.nan

    def _block(self, block: bytes, tail: bytes) -> None:
        lines: dict[int, int] = {}
        scraped = self._scraped
        for marker in (_VLLM, _SGLANG, *_GAUGES, *_CAPACITIES):
            position = block.find(marker)
            scraped = scraped or (position >= 0 and marker in _GAUGES)
            while position >= 0:
                begin = block.rfind(b"\n", 0, position) + 1
                end = block.find(b"\n", position)
                if end < 0:
                    end = len(block)
                lines[begin] = end
                position = block.find(marker, end)
        times: list[re.Match[bytes]] = []
        if scraped:
            if not self._scraped:
                # The line with the first scrape's time may be the end of the block before.
                for match in _TIME_LINE.finditer(tail):
                    self._time_line(match)
            self._scraped = True
            times = list(_TIME_LINE.finditer(block))
        upcoming = 0
        for begin in sorted(lines):
            while upcoming < len(times) and times[upcoming].start() < begin:
                self._time_line(times[upcoming])
                upcoming += 1
            line = block[begin : lines[begin]]
            self._line(_ANSI.sub(b"", line) if b"\x1b" in line else line)
        for match in times[upcoming:]:
            self._time_line(match)

    def _line(self, line: bytes) -> None:
        if _VLLM in line:
            self._vllm(line)
        elif _SGLANG in line:
            self._sglang(line)
        elif b"vllm:" in line:
            self._scrape.line(line)
        elif any(marker in line for marker in _CAPACITIES) and (match := _CAPACITY.search(line)):
            owner = _DP.search(line, 0, match.start())
            self._capacity_line(int(owner[1]) if owner else NONE, int(match[1].replace(b",", b"")))

    def _capacity_line(self, rank: int, tokens: int) -> None:
        read = sum(map(len, self.samples.values()))
        before = self._capacity.get(rank, tokens)
        if rank == NONE and before != tokens and read == self._read_at_capacity:
            self.unclear_capacity = (min(before, tokens), max(before, tokens))
        self._capacity[rank] = tokens
        self._read_at_capacity = read

    def _time_line(self, match: re.Match[bytes]) -> None:
        stamp = _DATE.search(match[1]) if match[1] else None
        time = self._clock.read(stamp) if stamp else self._clock.epoch(float(match[2]))
        if not math.isnan(time):
            self._scrape.close()
            self._scrape.time = time

    def capacity(self, rank: int) -> int:
        """Capacity that was last printed for `rank` or for nobody in particular; 0 if none was."""
        return self._capacity.get(rank) or self._capacity.get(NONE, 0)

    def _vllm(self, line: bytes) -> None:
        out = self.samples["vllm"]
        before, *records = line.split(_VLLM)
        for record in records:
            engine = _ENGINE.search(before)
            fields = _fields(record[:_RECORD], _VLLM_FIELDS)
            head = self._head(before[-_RECORD:])
            if fields is None or head is None:
                out.half += 1
            elif engine is None and before.endswith(b"Aggregated: "):
                out.aggregated += 1
            else:
                rank = int(engine[1]) if engine else NONE
                time, source = head
                rate, running, waiting, usage = fields
                out.add(
                    time,
                    source,
                    rank,
                    int(running),
                    int(waiting),
                    share=float(usage + b"e-2"),
                    capacity=self.capacity(rank),
                    rate=float(rate) if rate else math.nan,
                )
            before = record

    def _head(self, text: bytes) -> tuple[float, int] | None:
        """Time and process of a record, from the last of each before it; None if there is no such date."""
        stamp = None
        for stamp in _DATE.finditer(text):  # noqa: B007
            pass
        time = self._clock.read(stamp) if stamp else math.nan
        if stamp and math.isnan(time):
            return None
        processes = _PID.findall(text) if b"pid=" in text else None
        return time, self.source(b"pid " + processes[-1] if processes else b"")

    def _sglang(self, line: bytes) -> None:
        out = self.samples["sglang"]
        before, *records = line.split(_SGLANG)
        for record in records:
            if _SGLANG_RECORD.match(record) is None:
                before = record
                continue
            # What follows the next bracketed time belongs to another record.
            cut = record.find(b"[20")
            fields = _fields(record[: min(cut, _RECORD) if cut >= 0 else _RECORD], _SGLANG_FIELDS)
            before = before[-_RECORD:]
            head = self._head(before)
            if fields is None or not (fields[1] or fields[2]) or head is None:
                out.half += 1
            else:
                self._decode(head, before, fields)
            before = record

    def _decode(self, head: tuple[float, int], before: bytes, fields: tuple[bytes, ...]) -> None:
        out = self.samples["sglang"]
        time, source = head
        tags = before[max(before.rfind(b"[20"), 0) :]
        owner = _DP.search(tags)
        rank = int(owner[1]) if owner else NONE
        # Ranks of tensor or pipeline parallelism repeat what their data-parallel rank has just said.
        this = (time, source, fields, tags)
        last = self._before.get((source, rank))
        self._before[source, rank] = this
        if last is not None and last[:3] == this[:3] and last[3] != this[3]:
            out.copies += 1
            return
        running, tokens, usage, rate, queue = fields
        out.add(
            time,
            source,
            rank,
            int(running),
            int(queue),
            tokens=int(tokens) if tokens else NONE,
            share=float(usage) if usage else math.nan,
            capacity=self.capacity(rank),
            rate=float(rate) if rate else math.nan,
        )


def _fields(record: bytes, wanted: tuple[tuple[re.Pattern[bytes], bool], ...]) -> tuple[bytes, ...] | None:
    """What the patterns find one after the other, b"" for a field that is not there; None if a needed one is not.

    One search per field takes time linear in the record; one expression for all would take a power of it.
    """
    found, at = [], 0
    for pattern, needed in wanted:
        match = pattern.search(record, at)
        if match is None:
            if needed:
                return None
            found.append(b"")
        else:
            found.append(match[1])
            at = match.end() - 1  # the separator may belong to the next field, too
    return tuple(found)


class _Scrape:
    """Gauges of one scrape; closed by a line with a time, by a gauge that comes again, or by the file's end."""

    def __init__(self, scanner: Scanner) -> None:
        self.time = math.nan
        self._scanner = scanner
        self._ranks: dict[tuple[int, int], dict[bytes, tuple[float, float]]] = {}

    def line(self, line: bytes) -> None:
        text = line.lstrip()
        if text.startswith(b"#"):
            return
        match = _GAUGE.search(text) if len(text) <= 2 * _RECORD else None
        if match is None:
            # Other gauges of the same family (`..._by_reason`) are not ours; a gauge of ours without a value is.
            if re.search(rb"vllm:(?:num_requests_(?:running|waiting)|(?:kv|gpu)_cache_usage_perc)(?![a-z_])", text):
                self._scanner.samples["vllm-metrics"].half += 1
            return
        name, labels, value, stamp = match.groups()
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        engine = _LABEL_ENGINE.search(labels or b"")
        instance = _LABEL_SOURCE.search(labels or b"")
        whole = name.startswith(b"num")
        if not 0 <= number < 1e9 or (whole and not number.is_integer()) or (not whole and number > 1):
            self._scanner.samples["vllm-metrics"].half += 1
            return
        key = (self._scanner.source(instance[1] if instance else b""), int(engine[1]) if engine else NONE)
        kind = b"usage" if name.endswith(b"perc") else name
        if kind in self._ranks.get(key, {}):
            self.close()
        time = self._scanner.clock.epoch(int(stamp) / 1000) if stamp else self.time
        self._ranks.setdefault(key, {})[kind] = (number, time)

    def close(self) -> None:
        out = self._scanner.samples["vllm-metrics"]
        for (source, rank), gauges in self._ranks.items():
            if b"num_requests_running" not in gauges:
                out.half += 1
                continue
            running, time = gauges[b"num_requests_running"]
            waiting, _ = gauges.get(b"num_requests_waiting", (NONE, 0))
            share, _ = gauges.get(b"usage", (math.nan, 0))
            out.add(time, source, rank, int(running), int(waiting), share=share, capacity=self._scanner.capacity(rank))
        self._ranks = {}


def _blocks(stream: Any) -> Iterator[bytes]:
    """Blocks of whole lines; of a line longer than a block only its end is kept."""
    rest = b""
    while block := stream.read(_BLOCK):
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest = (rest + block)[-_TAIL:]
    if rest:
        yield rest


@contextmanager
def open_log(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The bytes of a log, decompressed where gzip or zstandard is told by content; ``-`` is standard input.

    Raises
    ------
    InputError
        If there is no such file, it is a folder, it cannot be read, or its compressed data is broken.
    """
    name = "standard input" if os.fspath(path) == "-" else os.fspath(path)
    try:
        with _opened(path) as raw:
            start = raw.peek(4)[:4]
            if start.startswith(b"\x1f\x8b"):
                yield gzip.GzipFile(fileobj=raw)
            elif start == b"\x28\xb5\x2f\xfd":
                yield _zstandard(raw, name)
            else:
                yield raw
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{name} is a folder, not a log") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise InputError(f"{name}: broken gzip data ({exc})") from None
    except OSError as exc:
        raise InputError(f"{name} cannot be read: {exc.strerror or exc}") from None


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    if os.fspath(path) == "-":
        source: Any = sys.stdin.buffer
        yield source if hasattr(source, "peek") else io.BufferedReader(source)
    else:
        with open(path, "rb") as stream:
            yield stream


def _zstandard(raw: Any, name: str) -> Any:
    import zstandard

    class Reader:
        """Names the file where its data is broken."""

        stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)

        def read(self, size: int) -> bytes:
            try:
                return self.stream.read(size)
            except zstandard.ZstdError as exc:
                raise InputError(f"{name}: broken zstandard data ({exc})") from None

    return Reader()
