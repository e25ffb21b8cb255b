"""Samples written in the formats that :func:`read_log` reads: for simulated engines and for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import ArrayLike

from .._validate import integer
from ..errors import InputError
from .log import Log
from .scan import FORMATS

__all__ = ["log_text", "write_log"]

_START = datetime(2026, 1, 1)
_COLUMNS = ("time", "rank", "running", "waiting", "load")


def log_text(
    format: str,
    time: datetime,
    running: Sequence[int],
    waiting: Sequence[int],
    load: Sequence[int],
    *,
    kv_capacity: int | None = None,
    ranks: Sequence[int] | None = None,
    rate: Sequence[float] | None = None,
) -> str:
    """Lines that ranks of a serving system print at one moment.

    Parameters
    ----------
    format : {"vllm", "vllm-metrics", "sglang"}
    time : datetime
        Printed in whole seconds.
    running, waiting, load : sequence of int, length G
        Requests running and queued, and KV tokens, of every rank.
    kv_capacity : int, optional
        KV tokens that a rank holds: both vLLM formats print loads as shares of it (an engine log rounds them to
        0.1 %), SGLang prints both.
    ranks : sequence of int, optional
        Their numbers; default 0 .. G - 1.
    rate : sequence of float, optional
        Generated tokens/s, of the engine logs; default 0.

    Returns
    -------
    str
        Whole lines.

    Raises
    ------
    InputError
        If the format is unknown, or a vLLM format lacks the capacity or meets a larger load.
    """
    if format not in FORMATS:
        raise InputError(f"unknown log format {format!r}; known: {', '.join(FORMATS)}")
    if format != "sglang" and kv_capacity is None:
        raise InputError(f"format {format} prints loads as shares: kv_capacity is needed")
    if kv_capacity is not None and len(load) and max(load) > kv_capacity:
        raise InputError(f"a load of {max(load)} tokens is more than kv_capacity = {kv_capacity}")
    numbers = range(len(running)) if ranks is None else ranks
    rates = [0.0] * len(running) if rate is None else rate
    rows = list(zip(numbers, running, waiting, load, rates, strict=True))
    share = [n / kv_capacity if kv_capacity else 0.0 for n in load]
    lines: list[str] = []
    if format == "vllm":
        lines = [
            f"(APIServer pid=4242) INFO {time:%m-%d %H:%M:%S} [loggers.py:259] Engine {r:03d}: "
            f"Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: {v:.1f} tokens/s, Running: {n} reqs, "
            f"Waiting: {w} reqs, GPU KV cache usage: {100 * u:.1f}%, Prefix cache hit rate: 0.0%"
            for (r, n, w, _, v), u in zip(rows, share, strict=True)
        ]
    elif format == "vllm-metrics":
        lines = [f"{time:%Y-%m-%d %H:%M:%S}"]
        for name, values in (
            ("num_requests_running", [float(n) for _, n, *_ in rows]),
            ("num_requests_waiting", [float(w) for _, _, w, *_ in rows]),
            ("kv_cache_usage_perc", share),
        ):
            lines += [f"# TYPE vllm:{name} gauge"]
            labels = (f'{{engine="{r}",model_name="m"}}' for r, *_ in rows)
            lines += [f"vllm:{name}{label} {float(v)!r}" for label, v in zip(labels, values, strict=True)]
    else:
        lines = [
            f"[{time:%Y-%m-%d %H:%M:%S} DP{r} TP{r}] Decode batch. #running-req: {n}, #token: {t}, "
            f"token usage: {u:.2f}, cuda graph: True, gen throughput (token/s): {v:.2f}, #queue-req: {w}"
            for (r, n, w, t, v), u in zip(rows, share, strict=True)
        ]
    return "".join(f"{line}\n" for line in lines)


def write_log(
    table: Any,
    format: str,
    stream: TextIO | str | os.PathLike[str],
    *,
    kv_capacity: int | None = None,
    start: datetime = _START,
    force: bool = False,
) -> None:
    """Write samples in the format of a serving system's log.

    Parameters
    ----------
    table : Log, polars.DataFrame or mapping
        Columns ``time`` (seconds), ``rank``, ``running``, ``waiting`` and ``load`` (tokens), in order of time; the
        samples of one moment follow each other, with one time.
    format : {"vllm", "vllm-metrics", "sglang"}
    stream : text stream or path
        A file is written completely or not at all.
    kv_capacity : int, optional
        KV tokens that a rank holds; the vLLM engine log and SGLang print it at the start.
    start : datetime
        When ``time`` is 0.
    force : bool
        Replace a file that exists.

    Raises
    ------
    InputError
        If a column is missing, not whole, negative or of another length, times decrease, or as :func:`log_text`.
    """
    if isinstance(table, Log):
        if table.unit != "tokens":
            raise InputError(f"loads must be in tokens to be written, and this log has {table.unit or 'none'}")
        table = {name: getattr(table, name) for name in _COLUMNS}
    parts = _parts(table, format, kv_capacity, start)
    if isinstance(stream, (str, os.PathLike)):
        from ..files import atomic_write

        with atomic_write(stream, force) as temporary, Path(temporary).open("w", encoding="utf-8") as out:
            out.writelines(parts)
    else:
        stream.writelines(parts)


def _parts(table: Mapping[str, ArrayLike], format: str, kv_capacity: int | None, start: datetime) -> Iterator[str]:
    column: dict[str, Any] = {}
    for name in _COLUMNS:
        try:
            column[name] = np.asarray(table[name])
        except (KeyError, LookupError):
            raise InputError(f"the table has no column {name!r}; needed are {', '.join(_COLUMNS)}") from None
        except Exception as exc:  # polars raises its own type, which is not imported for this
            if type(exc).__name__ != "ColumnNotFoundError":
                raise
            raise InputError(f"the table has no column {name!r}; needed are {', '.join(_COLUMNS)}") from None
        if column[name].ndim != 1 or len(column[name]) != len(column["time"]):
            raise InputError(f"column {name!r} has shape {column[name].shape}, column 'time' {column['time'].shape}")
    for name in _COLUMNS[1:]:
        values = column[name]
        bad = values.dtype.kind not in "iu" or bool((values < 0).any())
        if bad and (values.dtype.kind != "f" or not (np.isfinite(values) & (values >= 0) & (values % 1 == 0)).all()):
            raise InputError(f"column {name!r} must hold whole numbers >= 0")
        column[name] = values.astype(np.int64)
    time = column["time"].astype(np.float64)
    if not np.isfinite(time).all() or (np.diff(time) < 0).any():
        raise InputError("column 'time' must hold finite seconds in ascending order")
    if kv_capacity is not None:
        kv_capacity = integer(kv_capacity, "kv_capacity", 1)
        if format == "vllm":
            yield (
                f"(EngineCore pid=4243) INFO {start:%m-%d %H:%M:%S} [kv_cache_utils.py:1286] "
                f"GPU KV cache size: {kv_capacity:,} tokens\n"
            )
        elif format == "sglang":
            yield f"[{start:%Y-%m-%d %H:%M:%S} DP0 TP0] max_total_num_tokens={kv_capacity}, context_len=131072\n"
    cuts = np.flatnonzero(np.diff(time, prepend=np.nan) != 0).tolist()
    for lo, hi in zip(cuts, [*cuts[1:], len(time)], strict=True):
        r, n, w, t = (column[name][lo:hi].tolist() for name in _COLUMNS[1:])
        at = start + timedelta(seconds=float(time[lo]))
        yield log_text(format, at, n, w, t, kv_capacity=kv_capacity, ranks=r)
