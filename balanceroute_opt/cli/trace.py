"""``balanceroute trace``: describe, list and fetch request traces."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

__all__ = ["add", "add_reader_options", "reader_options"]

_FORMATS = ("azure", "burstgpt", "mooncake", "qwen", "vidur", "lengths", "generic")
_READER = ("format", "release", "prompt", "output", "unit", "key", "key_blocks", "hash_ids", "order", "delimiter")
_LIMITS = ("limit", "max_bytes")


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its sub-commands."""
    parser = commands.add_parser(
        "trace", help="describe, list and fetch request traces", description="Describe, list and fetch request traces."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    describe = actions.add_parser(
        "describe",
        help="rows, arrivals and token counts of a trace file",
        description="Rows, arrivals and token counts of a trace file, over all its rows.",
    )
    describe.add_argument("trace", metavar="FILE", help="trace file, or the name of a fetched trace")
    add_reader_options(describe)
    describe.add_argument("--plot", metavar="OUT", help="write a picture too: .png, .pdf or .svg")
    describe.add_argument("--force", action="store_true", help="replace OUT if it exists")
    describe.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    describe.set_defaults(run=_describe)

    listing = actions.add_parser("list", help="the public traces", description="The public traces and where they are.")
    listing.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    listing.set_defaults(run=_list)

    fetch = actions.add_parser(
        "fetch",
        help="download a public trace into the cache",
        description="Download a public trace into the cache ($BALANCEROUTE_CACHE) and check its hash. "
        "What is there already is resumed, and not downloaded twice.",
    )
    fetch.add_argument("name", metavar="NAME", help="a name of `balanceroute trace list`")
    fetch.add_argument("--base-url", metavar="URL", help="take the file from this folder instead (a mirror)")
    fetch.add_argument("--timeout", type=float, default=30.0, metavar="S", help="seconds without a byte (default 30)")
    fetch.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    fetch.set_defaults(run=_fetch)


def add_reader_options(parser: argparse.ArgumentParser) -> None:
    """The options of :func:`balanceroute_opt.read_trace`, for every command that reads a trace."""
    group = parser.add_argument_group("reading", "formats and options are explained in docs/traces.md")
    group.add_argument("--format", choices=_FORMATS, help="format of the file (default: told by its columns)")
    for name, what in (("release", "arrival times"), ("prompt", "prompt tokens"), ("output", "output tokens")):
        group.add_argument(f"--{name}", metavar="COLUMN", help=f"column of {what} (format generic)")
    group.add_argument("--unit", choices=("s", "ms", "us", "ns", "datetime"), help="unit of --release (default s)")
    group.add_argument("--key", metavar="COLUMN", help='column of keys; "none" for no keys (default: the format\'s)')
    group.add_argument("--key-blocks", type=int, metavar="N", help="leading prefix blocks that make the key")
    group.add_argument("--hash-ids", metavar="FILE", help="prefix block ids of a Mooncake CSV (default: beside it)")
    group.add_argument("--order", choices=("error", "sort"), help="what to do if times decrease (default error)")
    group.add_argument("--delimiter", metavar="CHAR", help='of CSV files (default ",")')
    group.add_argument("--limit", type=int, metavar="N", help="read the first N rows only")
    group.add_argument("--max-bytes", type=int, metavar="N", help="most bytes of uncompressed text")


def reader_options(args: argparse.Namespace) -> dict[str, Any]:
    """What :func:`add_reader_options` parsed, as keyword arguments of ``read_trace``."""
    options = {name: getattr(args, name) for name in _READER + _LIMITS if getattr(args, name) is not None}
    if options.get("key") == "none":
        options["key"] = None
    return options


def _describe(args: argparse.Namespace) -> int:
    from ..traces.describe import check_plot, plot_trace, summarise
    from ..traces.reader import file_name, read_raw

    if args.plot is not None:
        check_plot(args.plot, args.force)
    raw = read_raw(args.trace, **reader_options(args))
    summary = summarise(raw, file_name(args.trace))
    if args.plot is not None:
        plot_trace(raw, args.plot, summary.file, args.force)
    if args.json:
        _print_json(summary.as_dict() | {"plot": args.plot})
        return 0
    from rich.table import Table

    console = _console()
    facts = Table(show_header=False, box=None, padding=(0, 1), pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column()
    dropped = f"{summary.dropped:,}"
    if summary.dropped:
        dropped += (
            f" ({_percent(summary.dropped, summary.rows)} of the rows: {summary.zero_prompt:,} without prompt, "
            f"{summary.zero_output:,} without output)"
        )
    rows = [
        ("file", f"{summary.file} (format {summary.format})"),
        ("rows", f"{summary.rows:,}"),
        ("dropped by readers", dropped),
        ("zero output", f"{_percent(summary.zero_output, summary.rows)}"),
        ("span", "no arrival times: all requests at 0" if summary.span is None else f"{summary.span:,.1f} s"),
    ]
    if summary.rate is not None:
        rows += [
            ("rate", f"{summary.rate:,.4g} requests/s"),
            ("CV between arrivals", f"{summary.cv:.2f} (median gap {summary.median_gap:.4g} s)"),
        ]
    if summary.busiest_minute is not None:
        rows.append(("busiest minute", f"{summary.busiest_minute:.1f} times the mean rate"))
    if summary.out_of_order:
        rows.append(("out of order", f"{summary.out_of_order:,} rows, sorted"))
    if summary.zone:
        rows.append(("zone", summary.zone))
    rows.append(("keys", f"{summary.keys:,} distinct" if summary.keys else "none"))
    for row in rows:
        facts.add_row(*row)
    console.print(facts)
    lengths = Table("tokens", padding=(0, 1))
    for name in ("mean", "median", "p90", "p99", "max"):
        lengths.add_column(name, justify="right")
    for name, stats in (("prompt", summary.prompt), ("output", summary.output)):
        values = (stats.mean, stats.median, stats.p90, stats.p99, stats.max)
        lengths.add_row(name, *(f"{v:,.1f}".removesuffix(".0") for v in values))
    console.print(lengths)
    if args.plot is not None:
        console.print(f"picture: {args.plot}", soft_wrap=True)
    return 0


def _list(args: argparse.Namespace) -> int:
    from ..traces.catalog import CATALOG
    from ..traces.fetch import cache_dir, cached_trace, pinned_hash

    if args.json:
        entries = []
        for entry in CATALOG.values():
            path = cached_trace(entry.name)
            entries.append(vars(entry) | {"sha256": pinned_hash(entry), "cached": None if path is None else str(path)})
        _print_json({"cache": str(cache_dir()), "traces": entries})
        return 0
    from rich.table import Table

    console = _console()
    table = Table(padding=(0, 1, 0, 0), pad_edge=False, box=None, header_style="bold")
    for name, right in (
        ("name", 0),
        ("rows", 1),
        ("size", 1),
        ("licence", 0),
        ("hash", 0),
        ("cached", 0),
        ("source", 0),
    ):
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for entry in CATALOG.values():
        table.add_row(
            entry.name,
            "?" if entry.rows is None else f"{entry.rows:,}",
            _size(entry.size),
            entry.licence,
            "pinned" if entry.sha256 else "recorded" if pinned_hash(entry) else "unpinned",
            "yes" if cached_trace(entry.name) else "no",
            entry.source if len(entry.source) <= 31 else entry.source[:30] + "…",
        )
    console.print(table)
    console.print(f"cache: {cache_dir()}", soft_wrap=True)
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from ..traces.fetch import cached_trace, fetch_trace, find_entry, pinned_hash

    entry = find_entry(args.name)
    there = entry is not None and cached_trace(entry.name) is not None
    if entry is not None and not args.json:
        print(f"{entry.name}: licence {entry.licence}, {entry.source}; cite {entry.cite}", file=sys.stderr)
        if pinned_hash(entry) is None:
            print("unpinned: no hash of this file is known; the one of this download is recorded", file=sys.stderr)
    path = _with_progress(
        lambda show: fetch_trace(args.name, base_url=args.base_url, timeout=args.timeout, progress=show)
    )
    assert entry is not None
    if args.json:
        _print_json(vars(entry) | {"sha256": pinned_hash(entry), "path": str(path), "downloaded": not there})
    else:
        print(path)
    return 0


def _with_progress(work: Any) -> Any:
    """Run `work` with a progress bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        return work(None)
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    with Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("fetch", total=None)
        return work(lambda done, total: bar.update(task, completed=done, total=total))


def _console() -> Any:
    """A console of at most 100 columns, and of 100 where the output is not a terminal."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    if not console.is_terminal or console.width > 100:
        console.width = 100
    return console


def _print_json(data: dict[str, Any]) -> None:
    print(json.dumps(data, indent=2, allow_nan=False))


def _percent(part: int, whole: int) -> str:
    return "0" if not part else f"{100 * part / whole:.3g} %"


def _size(size: int | None) -> str:
    if size is None:
        return "?"
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
