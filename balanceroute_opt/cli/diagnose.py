"""``balanceroute diagnose LOG...``: how unbalanced a running system's ranks are, from its own log."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .common import add_json, console, print_json, window

if TYPE_CHECKING:
    from ..logs import Diagnosis, Log
    from ..logs.findings import RankSummary
    from ..steptime import StepTime

__all__ = ["add"]

_EPILOG = """\
formats: vLLM engine log, scraped vLLM metrics, SGLang log; plain, .gz, .zst, or - for standard input

examples:
  balanceroute diagnose server.log
  balanceroute diagnose node0.log.gz node1.log.gz --plot timeline.png
  docker logs vllm 2>&1 | balanceroute diagnose - --fixed 0.02 --per-token 1e-7
"""
_MOST_RANKS = 12


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "diagnose",
        help="judge the balance of a running system from its log",
        description="Read what a vLLM or SGLang system prints about its data-parallel ranks, and say how unbalanced "
        "they are, what that costs, and what to do.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("logs", nargs="+", metavar="LOG", help="log files of one system, or - for standard input")
    reading = parser.add_argument_group("reading")
    reading.add_argument("--format", metavar="NAME", help="vllm, vllm-metrics or sglang (default: recognised)")
    reading.add_argument("--kv-capacity", type=int, metavar="TOKENS", help="KV tokens per rank (default: as printed)")
    reading.add_argument("--ranks", type=int, metavar="G", help="number of ranks (default: those that appear)")
    reading.add_argument("--interval", type=float, metavar="S", help="seconds between reports of a rank")
    reading.add_argument(
        "--missing", choices=("auto", "empty", "skip"), default="auto", help="what a silent rank means (default: auto)"
    )
    reading.add_argument("--rank-per-file", action="store_true", help="ranks of different files are different ranks")
    reading.add_argument("--window", type=window, default="all", metavar="W", help="all, or a part such as 0.1-0.9")
    time = parser.add_argument_group("step time, for an estimate in tokens/s (needs loads in tokens)")
    time.add_argument("--preset", metavar="NAME", help="a named step time")
    time.add_argument("--slots", type=int, metavar="B", help="requests per rank, for presets that need it")
    time.add_argument("--fixed", type=float, metavar="S", help="seconds of a step without any load")
    time.add_argument("--per-token", type=float, metavar="S", help="seconds per KV token on the slowest rank")
    time.add_argument("--per-mean-token", type=float, metavar="S", help="seconds per KV token of the mean rank")
    output = parser.add_argument_group("output")
    output.add_argument("--plot", metavar="OUT", help="draw the time line (.png, .svg, .pdf)")
    output.add_argument("--force", action="store_true", help="replace a picture that exists")
    add_json(output)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..logs import diagnose, read_log

    step_time = _step_time(args)
    if args.plot:
        from ..files import require_writable

        require_writable(args.plot, args.force)
    log = read_log(
        args.logs,
        format=args.format,
        kv_capacity=args.kv_capacity,
        ranks=args.ranks,
        interval=args.interval,
        missing=args.missing,
        rank_per_file=args.rank_per_file,
    )
    found = diagnose(log, args.window, step_time)
    if args.plot:
        from ..logs.picture import plot_log

        plot_log(log, args.plot, args.window, args.force)
    if args.json:
        print_json(_as_dict(log, found))
    else:
        _print(log, found)
        if args.plot:
            print(f"time line: {args.plot}")
    return 0


def _step_time(args: argparse.Namespace) -> StepTime | None:
    given = {name: getattr(args, name) for name in ("fixed", "per_token", "per_mean_token")}
    given = {name: value for name, value in given.items() if value is not None}
    if args.preset is None and not given:
        return None
    from ..steptime import StepTime

    if args.preset is None:
        return StepTime(**({"fixed": 0.0, "per_token": 0.0} | given))
    if given:
        raise InputError("give either --preset or --fixed, --per-token and --per-mean-token")
    return StepTime.preset(args.preset, slots=args.slots)


def _as_dict(log: Log, found: Diagnosis) -> dict[str, Any]:
    return {
        "format": log.format,
        "unit": log.unit,
        "kv_capacity": log.kv_capacity,
        "start": log.start,
        "span": float(log.time[-1]),
        "interval": log.interval,
        "counts": log.counts,
        "notes": list(log.notes),
    } | found.as_dict()


def _print(log: Log, found: Diagnosis) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    for line in _head(log, found):
        out.print(Text(line))
    out.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("meaning")
    for row in _metric_rows(log, found):
        table.add_row(*(Text(cell) for cell in row))
    out.print(table)
    out.print()
    shown, left = _shown(found.ranks)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("rank", "load", "/ mean", "above mean", "heaviest", "running", "queue p95", "silent", ""):
        table.add_column(name, justify="left" if name in ("rank", "") else "right")
    for r in shown:
        style = {"heavy": "red", "light": "blue"}.get(r.verdict, "")
        table.add_row(*(Text(cell) for cell in _rank_cells(log, r)), style=style)
    out.print(table)
    if left:
        out.print(Text(f"({left} ranks in between are not shown; --json has all)"))
    for finding in found.findings:
        out.print()
        out.print(Text(f"* {finding.text}"))


def _head(log: Log, found: Diagnosis) -> list[str]:
    from ..logs import FORMATS

    span = float(log.time[-1])
    over = f" over {_duration(span)}" if log.start is not None else ""
    every = ""
    if log.start is not None and len(log) > len(log.ranks):
        every = f", a report per rank every {log.interval:g} s" if log.interval else ", several reports a second"
    unit = {"tokens": "KV tokens", "share": "% of the KV capacity", None: "not in this log"}[log.unit]
    if log.kv_capacity:
        unit += f" (capacity {log.kv_capacity:,} per rank)"
    lines = [
        f"{FORMATS[log.format].split(' (')[0]}: {len(log.ranks)} ranks, {len(log):,} samples{over}{every}",
        f"load: {unit}",
        f"moments: {found.counted:,} of {found.moments:,} count"
        + (f", {found.incomplete:,} left out (a rank unknown)" if found.incomplete else "")
        + (f", {found.idle:,} idle" if found.idle else ""),
    ]
    reasons = {"half": "records cut", "copies": "copies by other TP/PP ranks", "aggregated": "sums over engines"}
    left = [f"{log.counts[name]:,} {what}" for name, what in reasons.items() if log.counts[name]]
    if left:
        lines.append("left out: " + ", ".join(left))
    return lines + [f"note: {note}" for note in log.notes]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:g} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"


def _metric_rows(log: Log, found: Diagnosis) -> list[tuple[str, str, str, str]]:
    from ..metrics import METRICS

    scale, unit = (1.0, "tokens") if log.unit == "tokens" else (100.0, "% points")
    rows: list[tuple[str, str, str, str]] = []
    m = found.metrics
    for name in ("imbalance_range", "imbalance_gap"):
        if name in m:
            rows.append((name, f"{scale * m[name]:,.1f}", unit, METRICS[name][1].replace("steps", "moments")))
    for name in ("excess", "idle"):
        if name in m:
            rows.append((name, f"{m[name]:.1%}", "", METRICS[name][1].replace("steps", "moments")))
    for kind in ("load", "requests"):
        values = [m.get(f"max_over_min_{kind}_p{q}") for q in (50, 90, 95)]
        if None not in values:
            shown = " / ".join(f"{v:.2f}" for v in values)
            rows.append((f"max_over_min_{kind}", shown, "", "max/min over ranks, p50 / p90 / p95"))
    rows.append(("excess of requests", f"{found.excess_requests:.1%}", "", "as excess, of running requests"))
    if found.wasted is not None:
        rows.append(("attention time wasted", f"{found.wasted:.1%}", "", "1 - sum of means over sum of maxima"))
    if found.reported is not None:
        rows.append(("reported", f"{found.reported:,.0f}", "tokens/s", "sum over ranks of what they print, mean"))
    if found.estimate is not None:
        e = found.estimate
        rows.append(("estimated now", f"{e.throughput:,.0f}", "tokens/s", "with this step time, a moment being a step"))
        rows.append(
            ("estimated, balanced", f"{e.balanced:,.0f}", "tokens/s", f"{e.gain:+.1%}: the most a router can gain")
        )
    return rows


def _shown(ranks: tuple[RankSummary, ...]) -> tuple[list[RankSummary], int]:
    """All ranks, or of many the heaviest and lightest."""
    if len(ranks) <= _MOST_RANKS + 1:
        return list(ranks), 0
    by_load = sorted(ranks, key=lambda r: -(r.running if r.load is None else r.load))
    some = by_load[: _MOST_RANKS * 2 // 3] + by_load[-_MOST_RANKS // 3 :]
    return some, len(ranks) - len(some)


def _rank_cells(log: Log, r: RankSummary) -> list[str]:
    def cell(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    load = "" if r.load is None else f"{r.load:,.0f}" if log.unit == "tokens" else f"{r.load:.1%}"
    return [
        r.rank,
        load,
        cell(r.relative, ".2f"),
        cell(r.above, ".0%"),
        cell(r.heaviest, ".0%"),
        f"{r.running:.1f}",
        cell(r.queue_p95, ".0f"),
        str(r.silent) if r.silent else "",
        r.verdict,
    ]
