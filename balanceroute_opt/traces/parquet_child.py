"""Child process that reads a Parquet file: a damaged file can abort the library, and with it only this process.

Run as a script with the file's path and a memory limit. It prints one JSON line (column names, or an
error), reads one JSON line (columns that are wanted, rows of a chunk), and prints the chunks as Arrow
streams, each after its length in eight bytes.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any


def main() -> int:
    path, memory = sys.argv[1], int(sys.argv[2])
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # no such limits on this system
    import polars as pl

    out = sys.stdout.buffer
    head: dict[str, Any]
    try:
        source = pl.scan_parquet(path, glob=False)
        head = {"columns": list(source.collect_schema()), "rows": int(source.select(pl.len()).collect().item())}
    except (Exception, pl.exceptions.PanicException) as exc:
        head = {"error": (str(exc).strip().splitlines() or [type(exc).__name__])[0][:160]}
    out.write(json.dumps(head).encode() + b"\n")
    out.flush()
    order = sys.stdin.buffer.readline()
    if "error" in head or not order:
        return 0
    wanted, size = json.loads(order)
    for offset in range(0, max(head["rows"], 1), size):
        buffer = io.BytesIO()
        source.select(wanted).slice(offset, size).collect().write_ipc_stream(buffer)
        out.write(len(buffer.getvalue()).to_bytes(8, "little") + buffer.getvalue())
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
