"""``balanceroute report``: results as one page."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from datetime import UTC, datetime
from typing import Any

from ..errors import InputError
from .common import Help, add_json, print_json

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute compare trace.csv --json > result.json && balanceroute report result.json -o report.html
  balanceroute compare --json | balanceroute report - -o report.html
  balanceroute report runs/ -o report.html            all runs, comparisons and certificates of a folder
  balanceroute report results.parquet -o report.html  a table of balanceroute run
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report",
        usage="balanceroute report RESULTS -o PAGE.html [options]",
        help="results as one page without network",
        description="Write results as one self-contained HTML page: verdict, table that sorts and filters, brackets of "
        "the hindsight ratio, loads over time, definitions. Runs and certificates are checked again on the way.",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    parser.add_argument(
        "results",
        metavar="RESULTS",
        help="saved run, folder of runs or certificates, comparison (.json, or - for stdin), or table of a study",
    )
    parser.add_argument("-o", "--output", required=True, metavar="PAGE", help="page to write (.html)")
    parser.add_argument("--force", action="store_true", help="replace PAGE if it exists")
    add_json(parser)
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    from ..report import write_report

    source: Any = args.results
    if source == "-":
        try:
            source = json.load(sys.stdin)
        except (ValueError, RecursionError) as exc:
            raise InputError(f"stdin: not JSON: {exc}") from None
        if not isinstance(source, dict):
            raise InputError("stdin: must hold one JSON object, as compare --json prints it")
    words = ["balanceroute", "report", args.results, "-o", args.output, *(["--force"] if args.force else [])]
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
    write_report(source, args.output, shlex.join(words), f"{now:%Y-%m-%d %H:%M} UTC", args.force)
    if args.json:
        print_json({"results": args.results, "page": args.output, "bytes": os.path.getsize(args.output)})
    else:
        print(f"written: {args.output} ({os.path.getsize(args.output):,} bytes, no network needed)")
    return 0
