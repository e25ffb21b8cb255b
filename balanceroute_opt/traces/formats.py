"""The trace formats: which columns they have, in which unit, and how they are recognised."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..errors import InputError

__all__ = ["FORMATS", "UNITS", "TraceFormat", "choose_format"]

UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Nanoseconds of each unit of numeric times; ``"datetime"`` is the unit of date-and-time texts."""


@dataclass(frozen=True)
class TraceFormat:
    """Columns of one format.

    Parameters
    ----------
    name, title : str
        What `format` of :func:`read_trace` takes, and what it is.
    release : str or None
        Column of arrival times; None if the format has none (every request is there at time 0).
    prompt, output : str
        Columns of token counts.
    unit : {"s", "ms", "us", "ns", "datetime"}
        Unit of `release`.
    key : str or None
        Column of texts that name what a request belongs to (a session); may be missing in a file.
    blocks : str or None
        Column of prefix block ids, from which a key can be derived; may be missing in a file.
    key_blocks : int
        Number of leading blocks that make the key.
    predicted : str or None
        Column of output lengths that somebody's model predicted; may be missing in a file. Named as the key, its
        numbers are the keys.
    marks : tuple of str
        Further columns that tell the format from another with the same columns.
    """

    name: str
    title: str
    release: str | None
    prompt: str
    output: str
    unit: str = "s"
    key: str | None = None
    blocks: str | None = None
    key_blocks: int = 0
    predicted: str | None = None
    marks: tuple[str, ...] = ()

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that a file of this format must have."""
        return tuple(c for c in (self.release, self.prompt, self.output, *self.marks) if c is not None)


_ALL = (
    TraceFormat(
        "azure", "Azure LLM inference, 2023 and 2024", "TIMESTAMP", "ContextTokens", "GeneratedTokens", "datetime"
    ),
    TraceFormat(
        "burstgpt", "BurstGPT, releases 1 to 3", "Timestamp", "Request tokens", "Response tokens", key="Session ID"
    ),
    # Before mooncake: it has all columns of mooncake, in another unit.
    TraceFormat(
        "qwen",
        "Qwen-Bailian usage traces",
        "timestamp",
        "input_length",
        "output_length",
        blocks="hash_ids",
        key_blocks=4,
        marks=("chat_id", "parent_chat_id"),
    ),
    TraceFormat(
        "mooncake",
        "Mooncake, FAST'25 and arXiv",
        "timestamp",
        "input_length",
        "output_length",
        "ms",
        blocks="hash_ids",
        key_blocks=2,
    ),
    TraceFormat(
        "vidur",
        "Vidur and Splitwise CSV",
        "arrived_at",
        "num_prefill_tokens",
        "num_decode_tokens",
        predicted="num_predicted_decode_tokens",
    ),
    TraceFormat(
        "lengths",
        "token lengths without arrivals (ShareGPT)",
        None,
        "num_prefill_tokens",
        "num_decode_tokens",
        predicted="num_predicted_decode_tokens",
    ),
    TraceFormat("generic", "named columns", "release", "prompt", "output", key="key"),
)
FORMATS: dict[str, TraceFormat] = {f.name: f for f in _ALL}
"""Every format by name, in the order in which files are compared with them."""

_SERVEGEN = ({"client_id", "pat_name"}, {"client_id", "field", "probability"})


def choose_format(columns: Collection[str], name: str | None = None, own: dict[str, Any] | None = None) -> TraceFormat:
    """The format called `name`, or else the first whose columns are all there.

    Parameters
    ----------
    columns : collection of str
        Columns of the file.
    name : str, optional
        A format's name.
    own : dict, optional
        The caller's own ``release``, ``prompt``, ``output`` and ``unit``; they make the format ``generic``.

    Raises
    ------
    InputError
        If no format fits, or the named one lacks a column; the message lists what is there.
    """
    own = {k: v for k, v in (own or {}).items() if v is not None}
    there = set(columns)
    listed = ", ".join(str(c)[:40] for c in list(columns)[:12]) + (", ..." if len(columns) > 12 else "")
    if any(marks <= there for marks in _SERVEGEN):
        raise InputError('holds ServeGen statistics, not requests; use generate("servegen") to draw requests from them')
    if there == {"row", "hash_ids"}:
        raise InputError(
            "holds the hash ids of a Mooncake trace, not requests; read the main file, which lies beside it"
        )
    if name is None and not own:
        for form in _ALL:
            if set(form.required) <= there:
                return form
        raise InputError(
            f"no known trace format has these columns: {listed}; name release=, prompt= and output= (and unit=), "
            f"or format= one of {', '.join(FORMATS)}"
        )
    if name not in (None, *FORMATS):
        raise InputError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    form = FORMATS[name or "generic"]
    if own:
        if form.name != "generic":
            raise InputError(f"format {form.name} has fixed columns and unit; {sorted(own)[0]}= is for format generic")
        unit = own.pop("unit", form.unit)
        if unit not in (*UNITS, "datetime"):
            raise InputError(f"unit must be one of {', '.join(UNITS)}, datetime, got {unit!r}")
        form = TraceFormat(**(vars(form) | own | {"unit": unit}))
    for column in form.required:
        if column not in there:
            other = next((f.name for f in _ALL if set(f.required) <= there and f.name != form.name), None)
            hint = f"; this looks like format {other}" if other else ""
            raise InputError(f"no column {column!r} (format {form.name}); columns: {listed}{hint}")
    return form
