"""Measured decode attention time against KV tokens: the evidence that a worker's load is their sum.

    python paper_figures/step_time.py [--data FILE] [--output docs/images/step_time_fit.png]

Takes two seconds. The data are those of docs/step_time.md; by default they are read from the folder
in the environment variable BALANCEROUTE_STEP_TIME.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path

import numpy as np

from balanceroute_opt import StepTime

ROOT = Path(__file__).resolve().parent.parent
NAME = "a100_decode_attention.csv.gz"
WAVES = (27, 54, 108)
"""Requests that fill 1, 2, 4 thread blocks on each of an A100's 108 multiprocessors, at 4 KV heads per request."""


def measurements(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns (requests, KV tokens of each request, seconds of one layer)."""
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    return rows[:, 0], rows[:, 1], rows[:, 2] * 1e-3


def draw(path: Path, output: Path) -> None:
    """Fit the measurements in `path`, print the fit, and write the picture to `output`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    requests, each, seconds = measurements(path)
    load = requests * each
    fit = StepTime.fit({"tokens": load, "seconds": seconds})
    by_count = StepTime.fit({"tokens": requests, "seconds": seconds})
    print(f"load (sum of KV tokens): {fit}")
    print(f"number of requests only: {by_count}")

    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6})
    figure, (sums, rest, counts) = plt.subplots(
        3, 1, figsize=(3.5, 6.2), layout="constrained", height_ratios=(1.25, 0.8, 1.0)
    )
    order = np.random.default_rng(0).permutation(len(load))
    style = {"s": 2.0, "cmap": "viridis", "linewidths": 0, "rasterized": True}
    ms, thousand = 1e3 * seconds, load / 1e3
    points = sums.scatter(thousand[order], ms[order], c=requests[order], **style)
    line = np.array([0.0, load.max()])
    sums.plot(line / 1e3, 1e3 * fit.step_time.seconds(line, 0, 1), color="#D55E00", linewidth=1.2)
    sums.set(ylabel="one layer (ms)", xlim=(0, 530), ylim=(0, 0.75))
    sums.tick_params(labelbottom=False)
    sums.text(
        0.03,
        0.97,
        f"{1e3 * fit.step_time.fixed:.3f} ms + {1e9 * fit.step_time.per_token:.3f} ns per token",
        transform=sums.transAxes,
        va="top",
        color="#A34700",
    )
    sums.set_title(f"(a) the sum of KV tokens: R² = {fit.r2:.2f}", loc="left", fontsize=8)
    bar = figure.colorbar(points, ax=[sums, rest], aspect=40, pad=0.02)
    bar.set_label("requests in the batch")
    bar.set_ticks([1, 32, 64, 96, 128])
    bar.outline.set_linewidth(0.4)

    rest.scatter(thousand[order], 1e6 * fit.residuals[order], c=requests[order], **style)
    rest.axhline(0, color="#D55E00", linewidth=1.2)
    rest.set(xlabel="sum of KV tokens (thousands)", ylabel="residual (µs)", xlim=(0, 530), ylim=(-105, 105))
    rest.set_title(f"(b) residuals of (a): {1e6 * fit.rmse:.0f} µs rms", loc="left", fontsize=8)

    tokens = counts.scatter(requests[order], ms[order], c=each[order], **(style | {"cmap": "cividis"}))
    for wave in WAVES:
        counts.axvline(wave + 0.5, color="0.35", linewidth=0.6, linestyle=(0, (4, 3)))
    counts.set(xlabel="requests in the batch", ylabel="one layer (ms)", xlim=(0, 130), ylim=(0, 0.75))
    counts.set_xticks([1, *WAVES, 128], ["1", *map(str, WAVES), "128"])
    counts.set_title(f"(c) the number of requests: R² = {by_count.r2:.2f}", loc="left", fontsize=8)
    bar = figure.colorbar(tokens, ax=counts, aspect=20, pad=0.02)
    bar.set_label("KV tokens of each")
    bar.set_ticks([32, 1000, 2000, 3000, 4000])
    bar.outline.set_linewidth(0.4)

    output.parent.mkdir(parents=True, exist_ok=True)
    buffer, partial = io.BytesIO(), output.with_suffix(".partial.png")
    figure.savefig(buffer, dpi=220)
    # 20 000 smoothed dots in full colour take 400 kB; a palette shows no difference.
    Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(partial, optimize=True)
    os.replace(partial, output)
    print(f"{output}: {output.stat().st_size / 1e3:.0f} kB", file=sys.stderr)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    folder = os.environ.get("BALANCEROUTE_STEP_TIME") or ROOT.parent / "shared" / "step_time"
    parser.add_argument("--data", type=Path, default=Path(folder) / NAME)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "step_time_fit.png")
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        parser.error(f"no file {arguments.data}: give --data, or set BALANCEROUTE_STEP_TIME to its folder")
    draw(arguments.data, arguments.output)


if __name__ == "__main__":
    main()
