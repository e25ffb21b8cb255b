"""One look for all figures: column width, colours of Okabe and Ito, told apart in grey by marker and dash."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from balanceroute_opt.evaluation.intervals import mean_and_half_width

COLUMN = 3.4
"""Width of every figure in inches: one column of a two-column page."""
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#777777"

# Colour, marker, dashes; the same router looks the same in every figure.
ROUTERS: dict[str, tuple[str, str, Any]] = {
    "jsq": (BLACK, "o", "-"),
    "po2": (GREY, "v", (0, (1, 1))),
    "least-kv": (ORANGE, "s", (0, (5, 1.5))),
    "br-0": (BLUE, "^", "-"),
    "br-0-least-load": (SKY, "D", (0, (4, 1, 1, 1))),
    "br-h": (RED, "P", (0, (2.5, 1))),
    "br-h:predictor=survival": (PINK, "X", (0, (1, 1.2))),
    "random": (GREEN, "*", (0, (1, 2))),
    "vllm": (GREEN, "<", (0, (3, 1, 1, 1, 1, 1))),
}
LABELS = {
    "br-0-least-load": "br-0, least load",
    "br-h": "br-h (told lengths)",
    "br-h:predictor=survival": "br-h (survival)",
}
_RC = {
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.labelsize": 7.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "legend.columnspacing": 1.2,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}


@contextmanager
def applied() -> Iterator[None]:
    """The look, for the block."""
    with plt.rc_context(_RC):
        yield


def label(router: str) -> str:
    """How a router is written in a figure."""
    return LABELS.get(router, router)


def line(router: str) -> dict[str, Any]:
    """Keywords of a line."""
    colour, marker, dashes = ROUTERS[router]
    return {"color": colour, "marker": marker, "linestyle": dashes, "label": label(router), "clip_on": False}


def means(table: Any, by: Sequence[str], value: str) -> Any:
    """Mean of a column over the other rows, and half the 95 % interval (0 for one row), in the order of the table."""
    import polars as pl

    rows = []
    for part in table.partition_by(list(by), maintain_order=True):
        mean, half = mean_and_half_width(part[value].to_list())
        rows.append({name: part[name][0] for name in by} | {value: mean, "half": 0.0 if math.isnan(half) else half})
    return pl.DataFrame(rows)


def curve(axes: Any, x: Any, y: Any, half: Any, look: dict[str, Any]) -> None:
    """A line, and the band of its intervals where there are any."""
    x, y, half = (np.asarray(values, float) for values in (x, y, half))
    axes.plot(x, y, **look)
    if half.any():
        axes.fill_between(x, y - half, y + half, color=look["color"], alpha=0.18, linewidth=0)


def below(figure: Any, axes: Any, columns: int) -> None:
    """One legend for all panels, under them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def head(figure: Any, text: str) -> None:
    """What all panels have in common, above them."""
    figure.suptitle(text, fontsize=7.5, x=0.01, ha="left")


def save(figure: Any, paths: Sequence[Path]) -> None:
    """PNG with a small palette, PDF without a date, each complete or not at all."""
    from PIL import Image

    from balanceroute_opt.files import atomic_write

    for path in paths:
        with atomic_write(path, force=True) as temporary:
            if path.suffix == ".png":
                buffer = io.BytesIO()
                figure.savefig(buffer, format="png", dpi=260)
                image = Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE)
                image.save(temporary, format="png", optimize=True)
            else:
                figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
    plt.close(figure)
