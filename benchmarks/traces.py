"""Time and memory of the trace readers; each measurement in a fresh process.

    python benchmarks/traces.py [--rows 5000000] [--repeat 9] [--json]

The azure row is the median of repeated reads of azure_2023_conv (environment variable BALANCEROUTE_TRACES, or
../shared/traces). The others read a generated file in the format of the 2024 traces, once, plain and compressed;
peak memory is that of the whole process, libraries included.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import zstandard

ROOT = Path(__file__).resolve().parent.parent

MEASURE = """
import json, resource, statistics, sys, time
import balanceroute_opt as bro
path, repeat = sys.argv[1], int(sys.argv[2])
seconds = []
for _ in range(repeat):
    start = time.perf_counter()
    inst = bro.read_trace(path)
    seconds.append(time.perf_counter() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
first, median = seconds[0], statistics.median(seconds)
print(json.dumps({"requests": len(inst), "first": first, "median": median, "peak_bytes": peak}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeat", type=int, default=9, help="reads of azure_2023_conv")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = {}
    azure = Path(os.environ.get("BALANCEROUTE_TRACES") or ROOT.parent / "shared" / "traces") / "azure_2023_conv.csv.gz"
    if azure.is_file():
        results["azure_2023_conv.csv.gz"] = measure(azure, args.repeat)
    else:
        print(f"skipped: no file {azure}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "azure_2024.csv")
        generate(plain, args.rows)
        results[f"2024 format, {args.rows:,} rows"] = measure(plain, 1)
        packed = plain.with_suffix(".csv.gz")
        with plain.open("rb") as source, gzip.open(packed, "wb", compresslevel=3) as target:
            while chunk := source.read(2**22):
                target.write(chunk)
        results["the same, gzip"] = measure(packed, 1)
        packed = plain.with_suffix(".csv.zst")
        with plain.open("rb") as source, packed.open("wb") as target:
            zstandard.ZstdCompressor().copy_stream(source, target)
        results["the same, zstd"] = measure(packed, 1)
    if args.json:
        print(json.dumps(results, indent=2))
        return 0
    print(f"{'file':<30} {'requests':>11} {'first s':>9} {'median s':>9} {'requests/s':>12} {'peak GB':>8}")
    for name, r in results.items():
        print(
            f"{name:<30} {r['requests']:>11,} {r['first']:>9.3f} {r['median']:>9.3f} "
            f"{r['requests'] / r['median']:>12,.0f} {r['peak_bytes'] / 1e9:>8.2f}"
        )
    return 0


def measure(path: Path, repeat: int) -> dict[str, float]:
    """Seconds and peak bytes of a fresh process that reads `path`."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), str(repeat)], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )
    return json.loads(done.stdout)


def generate(path: Path, rows: int, seed: int = 0) -> None:
    """A file in the format of the Azure 2024 traces: UTC offset, six decimals, or none when they are zero."""
    rng = np.random.default_rng(seed)
    micros = np.cumsum(rng.integers(1, 40_000, rows))
    micros[::1000] -= micros[::1000] % 10**6
    micros = np.maximum.accumulate(micros) + np.datetime64("2024-05-12", "us").astype(np.int64)
    with path.open("wb") as file:
        file.write(b"TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for start in range(0, rows, 500_000):
            part = micros[start : start + 500_000]
            frame = pl.DataFrame(
                {
                    "time": pl.Series(part).cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d %H:%M:%S"),
                    "fraction": pl.Series(part % 10**6).cast(pl.String).str.zfill(6),
                    "prompt": rng.integers(1, 8000, len(part)),
                    "output": rng.integers(1, 900, len(part)),
                }
            )
            whole = pl.col("fraction") == "000000"
            stamp = pl.when(whole).then(pl.col("time")).otherwise(pl.concat_str("time", "fraction", separator="."))
            frame.select(stamp + "+00:00", "prompt", "output").write_csv(file, include_header=False)


if __name__ == "__main__":
    sys.exit(main())
