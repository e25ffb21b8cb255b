"""Pictures of a report: inline SVG that keeps its text size at every width, and a small PNG for the heat map."""

from __future__ import annotations

import base64
import html
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from .._validate import Float64Array
from .collect import Picture, Row

__all__ = ["brackets", "heat_map", "ticks", "trajectory"]

# Diverging, readable without colour vision: blue below the mean, orange above, light in between.
_BELOW, _EVEN, _ABOVE = np.array([33.0, 85, 145]), np.array([244.0, 244, 242]), np.array([178.0, 72, 16])


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between `low` and `high`, at most `most`."""
    if not high > low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / most))
    step *= next(f for f in (1, 2, 5, 10, 20) if (high - low) / (f * step) < most)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def brackets(rows: Sequence[Row]) -> str:
    """The bracket of the hindsight ratio of each row, on one axis; a list of text and bar."""
    drawn = [row for row in rows if row.upper is not None]
    if not drawn:
        return ""
    high = max(max(row.upper or 1.0 for row in drawn), 1.001)
    high = 1 + (high - 1) * 1.04

    def x(value: float) -> str:
        return f"{100 * (value - 1) / (high - 1):.3f}%"

    marks = ticks(1.0, high)
    grid = "".join(f'<line class="grid" x1="{x(v)}" x2="{x(v)}" y1="0" y2="100%"/>' for v in marks)
    digits = max(2, *(len(f"{v:.6f}".rstrip("0").partition(".")[2]) for v in marks))
    labels = "".join(
        f'<text class="tick" x="{x(v)}" y="12" text-anchor="{"start" if v <= 1 else "middle"}">{v:.{digits}f}</text>'
        for v in marks
        if (v - 1) / (high - 1) < 0.95
    )
    items = []
    several = len({row.workload for row in drawn}) > 1
    before = ""
    for row in drawn:
        if several and row.workload != before:
            items.append(f'<li class="group">{html.escape(row.workload)}</li>')
            before = row.workload
        low, up = max(row.lower or 1.0, 1.0), row.upper or 1.0
        kind = "" if row.status in ("certified", "stated") else " claimed"
        items.append(
            f'<li><span class="name">{html.escape(row.router)}</span> '
            f'<span class="range">{low:.4f} … {_up(up):.4f}</span>'
            f'<svg class="bar" width="100%" height="16" aria-hidden="true">{grid}'
            f'<line class="bracket{kind}" x1="{x(low)}" x2="{x(up)}" y1="8" y2="8"/>'
            f'<line class="end" x1="{x(low)}" x2="{x(low)}" y1="3" y2="13"/>'
            f'<line class="end" x1="{x(up)}" x2="{x(up)}" y1="3" y2="13"/></svg></li>'
        )
    return (
        f'<ol class="brackets">{"".join(items)}</ol>'
        f'<svg class="axis" width="100%" height="16" aria-hidden="true">{labels}</svg>'
    )


def _up(value: float) -> float:
    """Rounded up to four digits: what is at most so much stays true."""
    return math.ceil(value * 10_000 - 1e-9) / 10_000


def trajectory(picture: Picture) -> str:
    """Largest, mean and least load over the active steps, and the bound below the largest."""
    count = len(picture.most)
    if not count:
        return ""
    top = float(picture.most.max()) * 1.05 or 1.0
    across = np.arange(count) if count > 1 else np.array([0])
    span = max(count - 1, 1)

    def path(values: Float64Array) -> str:
        return "".join(
            f"{'M' if k == 0 else 'L'}{1000 * k / span:.1f} {1000 * (1 - v / top):.1f}"
            for k, v in zip(across.tolist(), values.tolist(), strict=True)
        )

    back = "".join(
        f"L{1000 * k / span:.1f} {1000 * (1 - v / top):.1f}"
        for k, v in zip(across[::-1].tolist(), picture.mean[::-1].tolist(), strict=True)
    )
    bound = f'<path class="floor" d="{path(picture.bound)}"/>' if picture.bound is not None else ""
    marks = ticks(0.0, top, 4)
    lines = "".join(f'<line class="grid" x1="0" x2="1000" y1="{_y(v, top)}" y2="{_y(v, top)}"/>' for v in marks)
    labels = "".join(
        f'<text class="tick" x="2" y="{100 * (1 - v / top):.2f}%" dy="-3">{_tokens(v)}</text>' for v in marks
    )
    largest, mean = (_tokens(float(x.mean())) for x in (picture.most, picture.mean))
    word = f"Largest load {largest}, mean {mean} tokens on average"
    return (
        f'<svg class="plot" width="100%" height="180" role="img" aria-label="{html.escape(word)}">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" width="100%" height="100%">{lines}'
        f'<path class="lost" d="{path(picture.most)}{back}Z"/><path class="least" d="{path(picture.least)}"/>'
        f'<path class="mean" d="{path(picture.mean)}"/>{bound}<path class="most" d="{path(picture.most)}"/></svg>'
        f"{labels}</svg>"
    )


def _y(value: float, top: float) -> str:
    return f"{1000 * (1 - value / top):.1f}"


def _tokens(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def heat_map(picture: Picture) -> str:
    """Load of every worker over the mean, a row per worker, as an image with the shares in words."""
    if picture.heat is None or picture.share is None or not picture.heat.size:
        return ""
    share = picture.share
    words = ", ".join(f"worker {g}: {100 * v:.1f} %" for g, v in enumerate(share.tolist()))
    height = min(24 * len(share), 480)
    return (
        f'<img class="heat" width="{picture.heat.shape[1]}" height="{height}" alt="Load over mean, by worker. '
        f'{html.escape(words)}" src="data:image/png;base64,{base64.b64encode(_png(picture.heat)).decode()}">'
        f"<details><summary>Load of each worker over the mean, all steps</summary><p>{html.escape(words)}</p></details>"
    )


def _png(values: Float64Array) -> bytes:
    """An image with a pixel per value: 0 blue, 1 light, 2 and more orange."""
    far = np.clip(values - 1, -1, 1)[..., None]
    colour = np.where(
        far < 0, _EVEN + (_BELOW - _EVEN) * np.sqrt(-far.clip(max=0)), _EVEN + (_ABOVE - _EVEN) * np.sqrt(far.clip(0))
    )
    pixels = np.rint(colour).astype(np.uint8)
    rows, columns = values.shape
    raw = b"".join(b"\0" + pixels[g].tobytes() for g in range(rows))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
