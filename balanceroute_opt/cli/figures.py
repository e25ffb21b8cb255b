"""``balanceroute figures``: make the figures of ``paper_figures/`` in a checkout."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from ..errors import InputError
from .common import Help, add_json, names, print_json, progress

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute figures                        which figures there are
  balanceroute figures --all --jobs 2         all of them, from the public traces (BALANCEROUTE_TRACES)
  balanceroute figures trajectory,load-sweep  some of them
  balanceroute figures --all --smoke          all, small, without any trace
  balanceroute figures --all --plot           draw the committed tables again
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "figures",
        usage="balanceroute figures [NAME,...] [options]",
        help="make the figures of paper_figures/ (in a checkout)",
        description="Make figures: first a small table (slow, resumable), then PNG and PDF (seconds).",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    parser.add_argument("names", nargs="?", type=names, default=[], metavar="NAME", help="figures, by commas")
    parser.add_argument("--all", action="store_true", help="every figure")
    parser.add_argument("--smoke", action="store_true", help="small sizes, built-in workloads, into out/smoke")
    parser.add_argument("--plot", action="store_true", help="only draw the tables that exist")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; -1: one per core (default 1)")
    parser.add_argument("--force", action="store_true", help="compute finished rows again")
    add_json(parser)
    parser.set_defaults(run=_figures)


def _figures(args: argparse.Namespace) -> int:
    package = _package()
    if args.all and args.names:
        raise InputError("give figures by name or --all, not both")
    wanted = list(package.FIGURES) if args.all else args.names
    for name in wanted:
        if name not in package.FIGURES:
            raise InputError(f"unknown figure {name!r}; figures: {', '.join(package.FIGURES)}")
    if not (args.jobs >= 1 or args.jobs == -1):
        raise InputError(f"--jobs must be >= 1, or -1 for one per core, got {args.jobs}")
    if not wanted and not args.json:
        print("\n".join(package.FIGURES))
    made = []
    for name in wanted:
        with progress(name) as show:
            files, seconds = package.make(
                name, smoke=args.smoke, jobs=args.jobs, plot_only=args.plot, force=args.force, progress=show
            )
        made.append({"figure": name, "seconds": seconds, "files": [str(path) for path in files]})
        if not args.json:
            print(f"{name}: {seconds:.0f} s, {files[1]}", flush=True)
    if args.json:
        print_json({"schema": "balanceroute/figures", "version": 1, "figures": list(package.FIGURES), "made": made})
    return 0


def _package() -> Any:
    """The folder paper_figures of the checkout that this package, or the working directory, lies in."""
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (root / "paper_figures" / "__init__.py").is_file():
            try:
                importlib.import_module("matplotlib")
            except ImportError:
                raise InputError("figures need matplotlib: pip install 'balanceroute-opt[plot]'") from None
            if str(root) not in sys.path:
                sys.path.insert(0, str(root))
            return importlib.import_module("paper_figures")
    raise InputError("figures are made in a checkout of the repository: there is no folder paper_figures here")
