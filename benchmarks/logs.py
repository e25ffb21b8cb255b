"""Speed and memory of the log reader beside a reader with one regular expression per line.

    python benchmarks/logs.py [--megabytes 256] [--json]

A generated vLLM log: 8 engines that report every 10 s between 250 other lines each (99 % of the bytes), and the
same compressed; a generated SGLang log of sample lines only. Each measurement is a process of its own; peak memory
is that of the whole process, libraries included.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from balanceroute_opt.logs import log_text

OURS = """
import balanceroute_opt as bro
samples = len(bro.read_log(path))
"""

# What one writes first: every line of the file against the expression of each format.
PLAIN = """
import re
patterns = [re.compile(p) for p in (
    r"(\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d).*Engine (\\d+): .*Running: (\\d+) reqs, Waiting: (\\d+) reqs, "
    r".*KV cache usage: ([\\d.]+)%",
    r"\\[(.*?) DP(\\d+).*\\] Decode batch.*#running-req: (\\d+), #token: (\\d+),.*#queue-req: (\\d+)",
    r'vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc)\\{.*engine="(\\d+)".*\\} (\\S+)',
)]
samples = 0
with open(path, errors="replace") as lines:
    for line in lines:
        samples += any(pattern.search(line) for pattern in patterns)
"""

MEASURE = """
import json, resource, sys, time
path = sys.argv[1]
start = time.perf_counter()
{code}
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({{"samples": samples, "seconds": seconds, "peak_bytes": peak}}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256, help="size of the log with other lines")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        noisy, packed, dense = (Path(folder, name) for name in ("noisy.log", "noisy.log.gz", "dense.log"))
        write_noisy(noisy, args.megabytes * 10**6)
        size = noisy.stat().st_size
        with noisy.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
            while chunk := source.read(2**22):
                target.write(chunk)
        write_dense(dense, args.megabytes * 10**5)
        for name, path, code, length in (
            ("vLLM, 99 % other lines", noisy, OURS, size),
            ("... one expression per line", noisy, PLAIN, size),
            ("... .gz", packed, OURS, size),
            ("SGLang, samples only", dense, OURS, dense.stat().st_size),
            ("... one expression per line", dense, PLAIN, dense.stat().st_size),
        ):
            name = name if name not in results else f"{name} (samples only)"
            done = subprocess.run(
                [sys.executable, "-c", MEASURE.format(code=code), str(path)], capture_output=True, text=True, check=True
            )
            results[name] = json.loads(done.stdout) | {"bytes": length}
    for row in results.values():
        row["mb_per_s"] = row["bytes"] / row["seconds"] / 1e6
    noisy_rows, dense_rows = list(results.values())[:2], list(results.values())[3:]
    ratios = [ours["mb_per_s"] / plain["mb_per_s"] for ours, plain in (noisy_rows, dense_rows)]
    if args.json:
        print(json.dumps({"rows": results, "ratio_noisy": ratios[0], "ratio_dense": ratios[1]}, indent=2))
        return 0
    print(f"{'':44} {'MB':>6} {'samples':>9} {'s':>7} {'MB/s':>7} {'peak MB':>8}")
    for name, row in results.items():
        print(
            f"{name:44} {row['bytes'] / 1e6:6.0f} {row['samples']:9,.0f} {row['seconds']:7.2f} {row['mb_per_s']:7.0f} "
            f"{row['peak_bytes'] / 1e6:8.0f}"
        )
    print(f"ratio to one expression per line: {ratios[0]:.1f} among other lines, {ratios[1]:.1f} on samples only")
    return 0


def write_noisy(path: Path, size: int) -> None:
    """Eight engines that report every 10 s, and 2000 lines of requests and of the scheduler in between."""
    draw = random.Random(0)
    other = [
        f"(EngineCore_DP{draw.randrange(8)} pid={draw.randrange(9999)}) INFO 05-28 13:46:18 [scheduler.py:214] "
        f"Engine finished request cmpl-{draw.getrandbits(128):032x}, reason stop, Running late\n"
        if draw.random() < 0.5
        else f'INFO:     10.0.0.{draw.randrange(255)}:{draw.randrange(65535)} - "POST /v1/completions HTTP/1.1" 200\n'
        for _ in range(5000)
    ]
    written, time = 0, datetime(2026, 5, 28)
    with path.open("w") as out:
        while written < size:
            counts = [draw.randrange(1, 40) for _ in range(8)]
            loads = [n * draw.randrange(100, 9000) for n in counts]
            report = log_text("vllm", time, counts, [0] * 8, loads, kv_capacity=400_000)
            written += out.write("".join(draw.choices(other, k=2000))) + out.write(report)
            time += timedelta(seconds=10)


def write_dense(path: Path, size: int) -> None:
    """Eight ranks of SGLang that report every second, and nothing else."""
    draw = random.Random(0)
    written, time = 0, datetime(2026, 5, 28)
    with path.open("w") as out:
        while written < size:
            counts = [draw.randrange(1, 40) for _ in range(8)]
            loads = [n * draw.randrange(100, 9000) for n in counts]
            written += out.write(log_text("sglang", time, counts, [0] * 8, loads, kv_capacity=400_000))
            time += timedelta(seconds=1)


if __name__ == "__main__":
    raise SystemExit(main())
