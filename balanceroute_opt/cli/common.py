"""Options that several commands share: the workload, the cluster, what routers see, and output."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .trace import add_reader_options, reader_options

if TYPE_CHECKING:
    from ..instance import Cluster, Instance
    from ..simulator import Run
    from ..steptime import StepTime

__all__ = [
    "Help",
    "add_cluster",
    "add_json",
    "add_view",
    "add_workload",
    "cluster_from",
    "console",
    "is_json_file",
    "names",
    "natural",
    "print_json",
    "progress",
    "read_run_or_problem",
    "require_outputs",
    "schema_of",
    "terminal_width",
    "window",
    "workload_from",
]


class Help(argparse.HelpFormatter):
    """Wraps descriptions and leaves texts of several lines, such as examples, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "".join(indent + line for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)


_GENERATE, _REQUESTS, _UTILIZATION = "bfio", 2000, 0.9


def add_workload(parser: argparse.ArgumentParser, seed_of: str = "of the generator") -> None:
    """TRACE or a generator, and what is done to it before it is simulated."""
    parser.add_argument(
        "trace",
        nargs="?",
        metavar="TRACE",
        help="trace file (.csv, .jsonl, .parquet; plain, .gz, .zst), name of a fetched trace, or instance (.json); "
        "without it a generated workload",
    )
    group = parser.add_argument_group("workload")
    group.add_argument("--generate", metavar="NAME", help=f"built-in generator (default {_GENERATE})")
    group.add_argument("--n", type=int, metavar="N", help=f"generated requests (default {_REQUESTS})")
    group.add_argument("--seed", type=natural, default=0, metavar="S", help=f"{seed_of} (default 0)")
    group.add_argument("--head", type=int, metavar="N", help="keep the first N requests")
    group.add_argument(
        "--utilization",
        type=float,
        metavar="U",
        help=f"scale arrival times to this offered load (default: as in the trace; generated: {_UTILIZATION})",
    )
    group.add_argument(
        "--clock",
        choices=("wall", "step"),
        help="seconds or decode steps (default: the trace's; step: one step stands for as long as gives the load U)",
    )
    add_reader_options(parser)


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """The cluster; an instance file may hold one, which these options override."""
    group = parser.add_argument_group("cluster")
    group.add_argument("--workers", type=int, metavar="G", help="data-parallel workers (default 8)")
    group.add_argument("--slots", type=int, metavar="B", help="requests that a worker decodes at once (default 72)")
    group.add_argument("--kv-capacity", type=int, metavar="C", help="KV tokens per worker (default: no limit)")
    group.add_argument(
        "--step-time",
        metavar="T",
        help="preset, or FIXED,PER_TOKEN[,PER_MEAN_TOKEN] in seconds (default bfio; presets: docs/step_time.md)",
    )


def add_view(parser: argparse.ArgumentParser) -> None:
    """How fresh the loads are that routers see."""
    group = parser.add_argument_group("what routers see")
    group.add_argument(
        "--staleness", type=float, default=0.0, metavar="D", help="loads are D seconds or steps old at most (default 0)"
    )
    group.add_argument("--optimistic", action="store_true", help="add the router's own decisions to stale loads")


def add_json(parser: argparse._ActionsContainer) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def cluster_from(args: argparse.Namespace, found: Cluster | None = None) -> Cluster:
    """The cluster of the options, on top of the one that a file held, on top of the defaults."""
    from ..instance import Cluster

    slots = args.slots if args.slots is not None else 72 if found is None else found.slots
    if args.step_time is not None:
        time: StepTime | None = _step_time(args.step_time, slots)
    else:
        time = None if found is None else found.step_time
    return Cluster(
        workers=args.workers if args.workers is not None else 8 if found is None else found.workers,
        slots=slots,
        kv_capacity=args.kv_capacity if args.kv_capacity is not None else None if found is None else found.kv_capacity,
        step_time=time,  # type: ignore[arg-type]
    )


def workload_from(args: argparse.Namespace) -> tuple[Instance, Cluster]:
    """The workload of the options, ready to be simulated, and the cluster."""
    from .. import generate, read_problem, read_trace
    from ..experiments.workload import prepare
    from ..generators import GENERATORS

    found = None
    utilization = args.utilization
    if utilization is not None and not utilization > 0:
        raise InputError(f"--utilization must be > 0, got {utilization:g}")
    cluster_from(args)  # wrong options are told before a long read
    if args.trace is None:
        read = [f"--{name.replace('_', '-')}" for name in reader_options(args)]
        if read:
            raise InputError(f"{read[0]} is about reading a trace, and none is given")
        name = args.generate or _GENERATE
        if name not in GENERATORS:
            from ..experiments.specs import nearest

            raise InputError(f"unknown generator {name!r}{nearest(name, GENERATORS)}; known: {', '.join(GENERATORS)}")
        # The adversary's own number is one round; the others' is smaller than what fills a cluster.
        own = inspect.signature(GENERATORS[name]).parameters["n"].default is None
        inst = generate(name, n=_REQUESTS if args.n is None and not own else args.n, seed=args.seed)
        if utilization is None and inst.clock == "wall":
            utilization = _UTILIZATION
    else:
        for option in ("generate", "n"):
            if getattr(args, option) is not None:
                raise InputError(f"--{option} makes a workload, and the trace {args.trace} is given too")
        if is_json_file(args.trace) and args.format is None:
            inst, found, _ = read_problem(args.trace)
            inst = inst if inst.name else inst.replace(name=os.path.basename(args.trace))
        else:
            inst = read_trace(args.trace, **reader_options(args))
    cluster = cluster_from(args, found)
    return prepare(inst, cluster, head=args.head, clock=args.clock, utilization=utilization), cluster


def is_json_file(path: str) -> bool:
    """Whether a file's name says that it is one of our JSON files."""
    return path.lower().endswith((".json", ".json.gz"))


def schema_of(path: str) -> str:
    """The schema that a JSON file names within its first 64 KiB, or ""."""
    import gzip
    import zlib

    try:
        with open(path, "rb") as file:
            text = file.read(1 << 16)
        if text.startswith(b"\x1f\x8b"):
            text = zlib.decompressobj(31).decompress(text, 1 << 16)
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory, not a file") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as exc:
        raise InputError(f"{path}: {exc.strerror or exc}") from None
    except (zlib.error, gzip.BadGzipFile) as exc:
        raise InputError(f"{path}: not a complete gzip file: {exc}") from None
    match = re.search(rb'"schema"\s*:\s*"([^"]{1,80})"', text)
    return match[1].decode(errors="replace") if match else ""


def window(text: str) -> str | tuple[float, float]:
    """``all``, ``loaded`` or ``0.1-0.9`` (type of an option)."""
    if text in ("all", "loaded"):
        return text
    try:
        lo, hi = (float(part) for part in text.split("-"))
    except ValueError:
        pass
    else:
        if 0 <= lo < hi <= 1:
            return lo, hi
    raise argparse.ArgumentTypeError(f"must be all, loaded or fractions such as 0.1-0.9, got {text!r}")


def natural(text: str) -> int:
    """A whole number >= 0 (type of an option)."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number >= 0, got {text!r}")
    return int(text)


def names(text: str) -> list[str]:
    """Names separated by commas (type of an option)."""
    parts = [part.strip() for part in text.split(",")]
    if "" in parts:
        raise argparse.ArgumentTypeError(f"must be names separated by commas, got {text!r}")
    return parts


def require_outputs(paths: Sequence[str | None], force: bool) -> None:
    """Refuse files that cannot be written or are named twice, before long work."""
    from ..files import require_writable

    seen: set[str] = set()
    for path in paths:
        if path is None:
            continue
        require_writable(path, force)
        place = os.path.realpath(path)
        if place in seen:
            raise InputError(f"{path}: two outputs have this name")
        seen.add(place)


def print_json(data: dict[str, Any]) -> None:
    """Print one JSON object; None stands where a number is not defined or infinite."""
    from ..experiments.workload import plain

    print(json.dumps(plain(data), indent=2, allow_nan=False))


def terminal_width() -> int:
    """Columns of the terminal (or of ``COLUMNS``); 100 where the output is no terminal."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        import shutil

        return max(60, shutil.get_terminal_size((100, 25)).columns)
    return 100


def console() -> Any:
    """A console that takes text as it is, without colours where the output is no terminal."""
    from rich.console import Console

    return Console(width=terminal_width(), markup=False, highlight=False, emoji=False)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress callback (done, all) that draws a bar on stderr; None if that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def read_run_or_problem(path: str) -> tuple[Run | None, Instance, Cluster | None, Any]:
    """A saved run, or an instance file: (run or None, instance, cluster or None, starts or None)."""
    from .. import read_problem, read_run

    if path.endswith(".parquet") or (is_json_file(path) and schema_of(path) == "balanceroute/run"):
        with _quiet_libraries():
            run = read_run(path)
        return run, run.instance, run.cluster, run.schedule.start
    return (None, *read_problem(path))


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep what compiled libraries print about a damaged file from stderr: the error itself says it in one line."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _step_time(text: str, slots: int) -> StepTime:
    from ..steptime import STEP_TIME_PRESETS, StepTime

    if text in STEP_TIME_PRESETS:
        return StepTime.preset(text, slots)
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3):
        from ..experiments.specs import nearest

        raise InputError(
            f"--step-time must be FIXED,PER_TOKEN[,PER_MEAN_TOKEN] in seconds or a preset, got {text!r}"
            f"{nearest(text, STEP_TIME_PRESETS)}; presets: {', '.join(STEP_TIME_PRESETS)}"
        )
    return StepTime(*numbers)
