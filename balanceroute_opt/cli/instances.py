"""``balanceroute instances``: the library of instances, listed, shown, verified and improved."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .common import Help, add_json, console, print_json, progress

if TYPE_CHECKING:
    from ..library import Entry, Library, Row

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute instances list --set small
  balanceroute instances show small/n030-s01
  balanceroute instances verify                                      every row, without a solver
  balanceroute instances improve small/n100-s01 --schedule better.json
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its sub-commands."""
    parser = commands.add_parser(
        "instances",
        help="the library of instances: list, show, verify, improve",
        description="Instances with best known schedules and certified bounds (docs/instances.md).",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = _action(actions, "list", "every problem with its best known value and its bound", _list)
    listing.add_argument("--set", metavar="S", help="only this set")
    listing.add_argument("--problem", choices=("placement", "schedule"), help="only these problems")
    listing.add_argument("--open", action="store_true", help="only problems whose optimum is not certified")

    show = _action(actions, "show", "what an instance is, its best known schedule, bound and files", _show)
    show.add_argument("name", metavar="NAME", help="as in small/n030-s01")

    check = _action(
        actions, "verify", "recompute what the registry says, in exact arithmetic and without a solver", _verify
    )
    check.add_argument("names", nargs="*", metavar="NAME", help="instances or sets (default: all)")

    improve = _action(actions, "improve", "take a better schedule or certificate into the library", _improve)
    improve.add_argument("name", metavar="NAME", help="as in small/n030-s01")
    improve.add_argument("--problem", choices=("placement", "schedule"), help="if the instance has both")
    improve.add_argument("--schedule", metavar="S", help="cheaper schedule")
    improve.add_argument("--certificate", metavar="C", help="certificate of a higher bound")
    improve.add_argument("--method", default="", metavar="TEXT", help="how the schedule was found, in a few words")

    make = _action(actions, "make", "make an instance again from its recipe, and compare it with the library's", _make)
    make.add_argument("names", nargs="+", metavar="NAME", help="instances or sets")
    make.add_argument("-o", "--output", metavar="DIR", help="write the files there: NAME.json, with cluster and starts")
    make.add_argument("--force", action="store_true", help="replace files that exist")


def _action(actions: Any, name: str, what: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.add_argument(
        "--library", metavar="DIR", help="folder of the library (default: $BALANCEROUTE_LIBRARY, else instances/)"
    )
    add_json(parser)
    parser.set_defaults(run=run)
    return parser


def _library(args: argparse.Namespace) -> Library:
    from .. import read_library

    return read_library(args.library)


def _chosen(library: Library, names: list[str]) -> list[Entry]:
    """Entries by their names or those of sets; all without names."""
    chosen: dict[str, Entry] = {}
    for name in names or library.sets:
        found = [entry for entry in library if entry.set == name] if name in library.sets else [library[name]]
        chosen |= {entry.name: entry for entry in found}
    return list(chosen.values())


def _plain(row: Row) -> dict[str, Any]:
    return row.as_dict() | {"gap": row.gap if math.isfinite(row.gap) else None}


def _number(value: int | float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _gap(row: Row) -> str:
    return "–" if math.isinf(row.gap) else "0" if row.status == "optimal" else f"{100 * row.gap:.2f}"


def _short(row: Row) -> str:
    """The problem in a narrow column: ``P1``, ``P2 latest``, ``P2 wait<=8``."""
    return row.label.replace("latest=start", "latest").replace("max_wait=", "wait<=")


def _list(args: argparse.Namespace) -> int:
    library = _library(args)
    if args.set is not None and args.set not in library.sets:
        raise InputError(f"no set {args.set!r} in the library; sets: {', '.join(library.sets)}")
    rows = [
        row
        for row in library.rows
        if args.set in (None, row.set)
        and args.problem in (None, row.problem)
        and not (args.open and row.status == "optimal")
    ]
    if args.json:
        print_json({"library": str(library.path), "sets": list(library.sets), "rows": [_plain(row) for row in rows]})
        return 0
    from rich.table import Table

    table = Table(padding=(0, 1, 0, 0), pad_edge=False, box=None, header_style="bold")
    for name in ("name", "problem", "n", "GxB", "best known", "bound", "gap %", "status"):
        table.add_column(name, justify="left" if name in ("name", "problem", "status") else "right", no_wrap=True)
    for row in rows:
        size = f"{row.workers}x{row.slots}"
        table.add_row(
            row.name, _short(row), f"{row.n:,}", size, _number(row.best), _number(row.bound), _gap(row), row.status
        )
    console().print(table)
    optimal = sum(row.status == "optimal" for row in rows)
    claimed = sum(row.status == "claimed" for row in rows)
    print(
        f"{len({row.name for row in rows})} instances, {len(rows)} problems: {optimal} proved optimal, {claimed} "
        f"claimed so by a solver, {len(rows) - optimal - claimed} open"
    )
    print("P1: token-steps; P2: seconds (latest: nobody later than in the given starts); bounds: certified")
    return 0


def _show(args: argparse.Namespace) -> int:
    from ..library import TraceNotFound
    from ..library.picture import picture

    library = _library(args)
    entry = library[args.name]
    missing, pictures = "", {}
    try:
        for row in entry.rows:
            sched = entry.schedule(row.problem)
            pictures[row.problem] = [] if sched is None else picture(entry.inst, entry.cluster, sched)
    except TraceNotFound as exc:
        missing = str(exc)
    recipe = [] if entry.recipe is None else entry.recipe.lines()
    source = str(entry.path) if entry.path is not None else f"recipe in {library.path / entry.set / 'recipes.toml'}"
    if args.json:
        print_json(
            {"name": entry.name, "set": entry.set, "about": entry.about, "file": source, "recipe": dict(recipe)}
            | {"missing": missing or None, "rows": [_plain(row) for row in entry.rows], "pictures": pictures}
        )
        return 0
    out = console()
    out.print(f"{entry.name}: {entry.about}", style="bold")
    facts = [("file", source), *recipe]
    if entry.rows:
        row = entry.rows[0]
        facts.insert(0, ("size", f"{row.n:,} requests, {row.workers} workers of {row.slots} slots"))
    if missing:
        facts.append(("missing", missing))
    _facts(out, facts)
    for row in entry.rows:
        print()
        out.print(_title(row), style="bold")
        _facts(out, _facts_of(row, library.path))
        for line in pictures.get(row.problem, []):
            out.print("  " + line)
    return 0


def _title(row: Row) -> str:
    if row.problem == "placement":
        return "placement (P1): workers for the given starts, least sum of largest loads"
    windows = {"latest=start": "nobody later than in the given starts", "none": "no limit on waiting"}
    words = windows.get(row.windows, f"nobody waits more than {row.windows.removeprefix('max_wait=')} steps")
    return f"schedule (P2): starts and workers, least decode time; {words}"


def _facts_of(row: Row, folder: Path) -> list[tuple[str, str]]:
    unit = "token-steps" if row.problem == "placement" else "s"
    exact = _number if isinstance(row.best, int) else lambda value: "–" if value is None else f"{value:.12g}"
    facts = [
        ("best known", f"{exact(row.best)} {unit} ({row.method or 'no schedule'})"),
        ("bound", f"{exact(row.bound)} {unit} (certified, {row.proof or 'none'})"),
    ]
    if row.claimed is not None:
        facts.append(("claimed bound", f"{exact(row.claimed)} {unit} (by {row.claimed_by}, not certified)"))
    facts += [
        ("gap", f"{_gap(row)} %" if row.best is not None else "–"),
        ("status", row.status),
        ("changed", f"{row.date}, version {row.version}"),
    ]
    return facts + [(what, str(folder / file)) for what, file in _files(row) if file]


def _files(row: Row) -> list[tuple[str, str]]:
    return [("schedule", row.schedule), ("certificate", row.certificate)]


def _facts(out: Any, facts: list[tuple[str, str]]) -> None:
    for name, value in facts:
        out.print(f"  {name:<14} {value}", soft_wrap=True)


def _verify(args: argparse.Namespace) -> int:
    library = _library(args)
    names = {entry.name for entry in _chosen(library, args.names)}
    rows = [row for row in library.rows if row.name in names]
    began = time.perf_counter()
    verdicts = []
    with progress("verify") as show:
        for number, verdict in enumerate(library.verify(rows), 1):
            verdicts.append(verdict)
            if show is not None:
                show(number, len(rows))
            if not args.json and (args.names or verdict.outcome != "verified"):
                print(f"{verdict.row.name} {verdict.row.label}: {verdict.outcome}: {verdict.words}")
    stray = [] if args.names else library.stray_files()
    count = {word: sum(v.outcome == word for v in verdicts) for word in ("verified", "skipped", "failed")}
    if args.json:
        found = [
            {"name": v.row.name, "problem": v.row.problem, "outcome": v.outcome, "words": v.words, "seconds": v.seconds}
            for v in verdicts
        ]
        print_json(count | {"seconds": time.perf_counter() - began, "stray": stray, "rows": found})
    else:
        for file in stray:
            print(f"{file}: is not in the registry")
        parts = ", ".join(f"{number} {word}" for word, number in count.items())
        print(f"{len(rows)} problems: {parts}, in {time.perf_counter() - began:.0f} s")
    if count["failed"] or stray:
        print(f"balanceroute: {count['failed']} rows are wrong, {len(stray)} files are stray", file=sys.stderr)
        return 1
    return 0


def _improve(args: argparse.Namespace) -> int:
    library = _library(args)
    before = {row.problem: row for row in library[args.name].rows}
    row = library.improve(
        args.name, args.problem, schedule=args.schedule, certificate=args.certificate, method=args.method
    )
    old = before[row.problem]
    if args.json:
        print_json({"row": _plain(row), "before": _plain(old)})
        return 0
    changes = [
        f"{what} {_number(now)} (was {_number(then)})"
        for what, now, then in (("best known", row.best, old.best), ("bound", row.bound, old.bound))
        if now != then
    ]
    print(f"{row.name} {row.label}: {', '.join(changes)}; gap {_gap(row)} %, {row.status}")
    return 0


def _make(args: argparse.Namespace) -> int:
    from ..files import require_writable, write_instance

    library = _library(args)
    entries = [entry for entry in _chosen(library, args.names) if entry.recipe is not None or entry.name in args.names]
    folder = None if args.output is None else Path(args.output)
    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder}: is no folder")
    made = []
    for entry in entries:
        path = None if folder is None else folder / f"{entry.name.partition('/')[2]}.json"
        if path is not None:
            require_writable(path, args.force)
        inst, cluster, start = entry.make()
        if path is not None:
            write_instance(inst, path, args.force, cluster, start)
        made.append({"name": entry.name, "requests": len(inst), "instance": inst.digest(), "file": path and str(path)})
        if not args.json:
            print(f"{entry.name}: as in the library{f', {path}' if path is not None else ''}")
    if args.json:
        print_json({"made": made})
    return 0
