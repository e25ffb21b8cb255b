"""What the benchmarks of exact methods share: options, processor time, geometric means, rows as they come."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from balanceroute_opt.oracles import highs


def options(doc: str | None, sizes: list[int]) -> argparse.ArgumentParser:
    """The options that all of them have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes)
    parser.add_argument("--seeds", type=int, default=10, help="seeds 1 .. this")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--no-plain", action="store_true", help="ours alone")
    parser.add_argument("--busy", action="store_true", help="count processor time")
    parser.add_argument("--json", action="store_true", help="one row per problem instead of the table")
    return parser


def seeds(args: argparse.Namespace) -> range:
    return range(args.first_seed, args.seeds + 1)


def report(rows: Iterable[dict[str, Any]], table: Callable[[list[dict[str, Any]]], str], as_json: bool) -> None:
    """Print each row as soon as it is measured, and the table of all."""
    found = []
    for row in rows:
        found.append(row)
        print(json.dumps(row), file=sys.stdout if as_json else sys.stderr, flush=True)
    if not as_json:
        print(table(found))


def mean(values: list[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def count_processor_time() -> None:
    """Let every clock and time limit count the processor time of this process."""
    time.perf_counter = time.process_time
    plain = highs.new_highs

    def new() -> Any:
        solver, end_time = plain(), [math.inf]
        set_option = solver.setOptionValue

        def set_value(name: str, value: Any) -> Any:
            if name == "time_limit":
                end_time[0], value = time.process_time() + value, 1e9
            return set_option(name, value)

        def look(event: Any) -> None:
            if time.process_time() > end_time[0]:
                event.interrupt()

        solver.setOptionValue = set_value
        solver.cbMipInterrupt.subscribe(look)
        return solver

    highs.new_highs = new
