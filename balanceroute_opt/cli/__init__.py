"""The command line. Each command is a module with ``add(commands)``; nothing heavy is imported before one runs."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import __version__
from ..errors import BalanceRouteError

__all__ = ["main"]

_COMMANDS = (
    "compare",
    "simulate",
    "bound",
    "solve",
    "check",
    "routers",
    "trace",
    "diagnose",
    "predictors",
    "run",
    "figures",
    "report",
    "instances",
    "adversary",
    "bracket",
)

_EPILOG = """\
examples:
  balanceroute compare                                   every router on a built-in workload
  balanceroute compare trace.csv.gz --utilization 0.9    ... on a trace
  balanceroute COMMAND --help                            all options of a command

Exit status: 0 success, 2 bad arguments or bad input (one line on stderr), 1 anything else.
"""


class _Usage(Exception):
    """Bad arguments; the text is the whole message."""


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **({"allow_abbrev": False} | kwargs))

    def error(self, message: str) -> NoReturn:
        raise _Usage(f"{' '.join(message.split())} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        Exit status: 0 success; 2 bad arguments or bad input, after one line on stderr; 1 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without a sign such as a dash is no reason to fail
    try:
        args = _parse(arguments)
        status = int(args.run(args) or 0)
        sys.stdout.flush()
        return status
    except _Usage as exc:
        return _fail(str(exc), 2)
    except BalanceRouteError as exc:
        return _fail(" ".join(str(exc).split()), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 1)
    except BrokenPipeError:
        # The reader went away, as `head` does: nobody is left to tell. The interpreter flushes again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as exc:  # of --help and --version
        return int(exc.code or 0)


def _fail(message: str, status: int) -> int:
    print(f"balanceroute: {message}", file=sys.stderr)
    return status


def _parse(arguments: list[str]) -> argparse.Namespace:
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    named = arguments[0] if arguments else ""
    if named and not named.startswith("-") and named not in _COMMANDS:
        raise _Usage(f"unknown command {named!r}{_nearest(named, _COMMANDS)}; commands: {', '.join(_COMMANDS)}")
    parser = _Parser(
        prog="balanceroute",
        description="Judge routers of LLM requests on a trace, against certified bounds on what was possible.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"balanceroute_opt {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=_Parser)
    for name in (named,) if named in _COMMANDS else _COMMANDS:
        importlib.import_module(f".{name}", __name__).add(commands)
    if not arguments:
        parser.print_help()
        raise _Usage(f"no command given; commands: {', '.join(_COMMANDS)}")
    args, rest = parser.parse_known_args(arguments)
    if rest:
        raise _Usage(_unexpected(rest[0], commands.choices[args.command] if args.command else parser))
    return args


def _unexpected(word: str, parser: argparse.ArgumentParser) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r} (see {parser.prog} --help)"
    option = word.partition("=")[0]
    known = [text for action in parser._actions for text in action.option_strings]
    return f"unknown option {option}{_nearest(option, known)} (see {parser.prog} --help)"


def _nearest(word: str, known: Sequence[str]) -> str:
    close = [k for k in known if k.startswith(word)][:1] or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
