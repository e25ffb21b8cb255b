"""Statistics behind the generator ``servegen``: reading, length histograms and arrival bridges (internal)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._validate import Float64Array, Int64Array
from .errors import InputError

__all__ = ["DAY", "WINDOW", "bridges", "read_servegen"]

WINDOW = 600
DAY = 86_400
_LENGTH_WINDOW = 21_600


@dataclass(frozen=True)
class Histograms:
    """Empirical distributions of one field, one per group, end to end."""

    values: Float64Array
    edges: Float64Array  # group + cumulative probability, ascending over all groups
    last: Int64Array  # position of each group's last value

    def draw(self, rng: np.random.Generator, group: Int64Array) -> Float64Array:
        index = np.searchsorted(self.edges, group + rng.random(len(group)), side="right")
        return self.values[np.minimum(index, self.last[group])]


@dataclass(frozen=True)
class ServeGen:
    """Active client-windows, one row each."""

    client: Int64Array
    count: Float64Array  # requests observed in the window
    shape: Float64Array
    weibull: NDArray[np.bool_]
    group: Int64Array  # of the histograms: client and 6-hour window
    rows_of_slot: list[Int64Array]
    prompts: Histograms
    outputs: Histograms


def bridges(
    rng: np.random.Generator, number: Int64Array, shape: Float64Array, weibull: NDArray[np.bool_]
) -> Float64Array:
    """Arrival positions in [0, 1] of each window, end to end: ``number + 1`` gaps scaled to fill it."""
    sizes = number + 1
    shapes, is_weibull = np.repeat(shape, sizes), np.repeat(weibull, sizes)
    gaps = rng.standard_gamma(np.where(is_weibull, 1.0, shapes))
    gaps = np.where(is_weibull, gaps ** (1 / shapes), gaps)
    gaps = np.maximum(gaps, 1e-300)  # a small Gamma shape underflows to 0
    begin = np.cumsum(sizes) - sizes
    gaps /= np.repeat(np.add.reduceat(gaps, begin), sizes)
    position = np.cumsum(gaps) - np.repeat(np.arange(len(sizes)), sizes)
    position = np.delete(position, begin + number)  # the last gap ends the window, not at a request
    return np.clip(position, 0.0, 1.0)


def read_servegen(folder: str | os.PathLike[str] | None) -> ServeGen:
    """The statistics in `folder` (or ``BALANCEROUTE_TRACES``), checked; InputError says what is missing."""
    import polars as pl

    if folder is None:
        folder = os.environ.get("BALANCEROUTE_TRACES") or None
    if folder is None:
        raise InputError(
            "generator 'servegen' needs the folder of its statistics: folder=..., or the environment variable "
            "BALANCEROUTE_TRACES"
        )
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"generator 'servegen': no folder {root} (folder=..., or BALANCEROUTE_TRACES)")
    arrivals = _read_table(
        root / "servegen_deepseek_r1_arrivals.csv.gz",
        {
            "client_id": pl.Int64,
            "timestamp": pl.Int64,
            "rate": pl.Float64,
            "pat_name": pl.String,
            "pat_arg1": pl.Float64,
        },
    ).filter(pl.col("rate") > 0)
    lengths = _read_table(
        path := root / "servegen_deepseek_r1_lengths.csv.gz",
        {
            "client_id": pl.Int64,
            "timestamp": pl.Int64,
            "field": pl.String,
            "value": pl.Float64,
            "probability": pl.Float64,
        },
    ).filter(pl.col("field").is_in(["input_tokens", "output_tokens"]) & (pl.col("probability") > 0))
    groups = lengths.select("client_id", "timestamp").unique().sort("client_id", "timestamp").with_row_index("group")
    lengths = lengths.join(groups, on=["client_id", "timestamp"])
    active = (
        arrivals.with_columns(window=pl.col("timestamp") // _LENGTH_WINDOW * _LENGTH_WINDOW)
        .join(groups, left_on=["client_id", "window"], right_on=["client_id", "timestamp"], how="left")
        .sort("timestamp", "client_id")
    )
    bad = active.filter(~pl.col("pat_name").is_in(["Gamma", "Weibull"]).fill_null(False) | ~(pl.col("pat_arg1") > 0))
    if len(bad) or not len(active):
        where = f"client {bad['client_id'][0]}, window {bad['timestamp'][0]}" if len(bad) else "no window with requests"
        raise InputError(f"servegen arrivals: {where}: needs pat_name Gamma or Weibull and pat_arg1 > 0")
    if (missing := active.filter(pl.col("group").is_null())).height:
        raise InputError(f"{path}: no lengths of client {missing['client_id'][0]} at {missing['window'][0]} s")
    slot = active["timestamp"].to_numpy() // WINDOW
    if slot.min() < 0 or slot.max() >= DAY // WINDOW:
        raise InputError(f"servegen arrivals: timestamp must be in 0 .. {DAY - WINDOW}")
    cuts = np.searchsorted(slot, np.arange(DAY // WINDOW + 1))
    return ServeGen(
        client=active["client_id"].to_numpy(),
        count=active["rate"].to_numpy() * WINDOW,
        shape=active["pat_arg1"].to_numpy(),
        weibull=(active["pat_name"] == "Weibull").to_numpy(),
        group=active["group"].to_numpy().astype(np.int64),
        rows_of_slot=[np.arange(a, b) for a, b in pairwise(cuts)],
        prompts=_histograms(lengths.filter(pl.col("field") == "input_tokens"), len(groups), path),
        outputs=_histograms(lengths.filter(pl.col("field") == "output_tokens"), len(groups), path),
    )


def _read_table(path: Path, schema: dict[str, Any]) -> Any:
    import polars as pl

    if not path.is_file():
        raise InputError(f"generator 'servegen': no file {path}")
    try:
        return pl.read_csv(path, columns=list(schema), schema_overrides=schema)
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise InputError(
            f"{path}: cannot be read as CSV with the columns {', '.join(schema)}: {exc}".split("\n")[0]
        ) from None


def _histograms(table: Any, groups: int, path: Path) -> Histograms:
    table = table.sort("group", "value")
    group, weight = table["group"].to_numpy().astype(np.int64), table["probability"].to_numpy()
    size = np.bincount(group, minlength=groups)
    if (size == 0).any():
        raise InputError(f"{path}: every client and window needs rows of input_tokens and of output_tokens")
    last = np.cumsum(size) - 1
    total = np.add.reduceat(weight, last - size + 1)
    return Histograms(values=table["value"].to_numpy(), edges=np.cumsum(weight / total[group]), last=last)
