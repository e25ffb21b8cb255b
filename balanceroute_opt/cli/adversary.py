"""``balanceroute adversary``: instances on which a router is bad, and how bad any online rule must be."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .common import Help, add_cluster, add_json, cluster_from, names, natural, print_json, progress, require_outputs

if TYPE_CHECKING:
    from ..worstcase.families import Family

__all__ = ["add"]

_EPILOG = """\
examples:
  balanceroute adversary --router br-0 --workers 3 --slots 3 --seed 0 --minutes 1
  balanceroute adversary --router mine.py:Lightest --workers 2 --slots 4 --save-instance bad.json --certificate c.json
  balanceroute adversary --exhaustive --router br-0 --workers 2 --requests 5 --prompts 1,3 --outputs 1,4 --releases 2
  balanceroute adversary --game --workers 2 --requests 4 --prompts 1,3 --outputs 1,4 --releases 2
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "adversary",
        usage="balanceroute adversary [--router R] [options]",
        help="instances on which a router is far from the best placement",
        description="Search small instances on which a router's peak_sum is a large multiple of the best placement's; "
        "or examine all instances of a family; or solve the online game on it, which no router can beat.",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    parser.add_argument("--router", default="br-0", metavar="R", help="deterministic router (default br-0)")
    add_cluster(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--seed", type=natural, default=0, metavar="S", help="of the search (default 0)")
    group.add_argument("--minutes", type=float, default=1.0, metavar="M", help="time limit (default 1)")
    group.add_argument(
        "--evaluations", type=int, metavar="N", help="examine at most N instances: same seed, same instance"
    )
    group.add_argument("--requests", type=int, default=10, metavar="N", help="most requests (default 10)")
    group.add_argument("--largest-prompt", type=int, default=8, metavar="S", help="tokens (default 8)")
    group.add_argument("--longest-output", type=int, default=8, metavar="O", help="steps (default 8)")
    group.add_argument("--last-release", type=int, default=6, metavar="R", help="step (default 6)")
    group = parser.add_argument_group("families")
    group.add_argument("--exhaustive", action="store_true", help="the worst of all instances of the family")
    group.add_argument("--game", action="store_true", help="the best that any online rule can guarantee on the family")
    group.add_argument("--prompts", type=_numbers, default=(1,), metavar="LIST", help="prompts (default 1)")
    group.add_argument("--outputs", type=_numbers, default=(1, 4), metavar="LIST", help="outputs (default 1,4)")
    group.add_argument("--releases", type=int, default=1, metavar="R", help="last release, step (default 1)")
    output = parser.add_argument_group("output")
    output.add_argument("--save-instance", metavar="OUT", help="write instance, cluster and starts (.json)")
    output.add_argument("--schedule", metavar="OUT", help="write the best placement (.json)")
    output.add_argument("--certificate", metavar="OUT", help="write the proof that it is optimal (.json or .json.gz)")
    output.add_argument("--plot", metavar="OUT", help="draw both placements (.png, .pdf, .svg)")
    output.add_argument("--force", action="store_true", help="replace files that exist")
    add_json(output)
    parser.set_defaults(run=_adversary)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be integers separated by commas, got {text!r}") from None


def _adversary(args: argparse.Namespace) -> int:
    if args.exhaustive and args.game:
        raise InputError("give either --exhaustive or --game")
    if args.exhaustive or args.game:
        for name in ("save_instance", "schedule", "certificate", "plot"):
            if getattr(args, name) is not None:
                raise InputError(f"--{name.replace('_', '-')} belongs to the search, without --exhaustive and --game")
    if args.exhaustive:
        return _exhaustive(args)
    if args.game:
        return _game(args)
    return _search(args)


def _search(args: argparse.Namespace) -> int:
    from ..certificates import write_certificate
    from ..files import write_instance, write_schedule
    from ..worstcase.search import adversary

    if not args.minutes > 0:
        raise InputError(f"--minutes must be positive, got {args.minutes:g}")
    require_outputs([args.save_instance, args.schedule, args.certificate, args.plot], args.force)
    terminal = sys.stderr.isatty()

    def show(seconds: float, ratio: float, examined: int) -> None:
        if terminal:
            print(f"\r{seconds:6.1f} s  ratio {ratio:.4f}  {examined:,} instances", end="", file=sys.stderr)

    found = adversary(
        args.router,
        cluster_from(args),
        args.seed,
        60 * args.minutes,
        requests=args.requests,
        largest_prompt=args.largest_prompt,
        longest_output=args.longest_output,
        last_release=args.last_release,
        evaluations=args.evaluations,
        progress=show,
    )
    if terminal:
        print(file=sys.stderr)
    start, better = found.run.schedule.start, found.best.schedule
    assert better is not None  # the run's own placement is one
    if args.save_instance is not None:
        write_instance(found.instance, args.save_instance, args.force, found.cluster, start)
    if args.schedule is not None:
        write_schedule(better, args.schedule, found.instance, args.force)
    if args.certificate is not None:
        if found.best.certificate is None:
            raise InputError("no certificate proves the best placement found; give the proof more --minutes")
        write_certificate(found.best.certificate, args.certificate, args.force)
    if args.plot is not None:
        found.plot(args.plot)
    if args.json:
        print_json(
            {
                "router": found.router,
                "workers": found.cluster.workers,
                "slots": found.cluster.slots,
                "release": found.instance.release.tolist(),
                "prompt": found.instance.prompt.tolist(),
                "output": found.instance.output.tolist(),
                "start": start.tolist(),
                "worker": found.run.schedule.worker.tolist(),
                "best_worker": better.worker.tolist(),
                "peak_sum": found.run.peak_sum,
                "best": found.optimum,
                "ratio": str(found.ratio),
                "ratio_value": float(found.ratio),
                "certified": found.exact,
                "decode_time_ratio": found.time_ratio,
                "examined": found.examined,
            }
        )
        return 0
    print(found.picture())
    print()
    print(found.sentence())
    print(f"{found.examined:,} instances were examined.")
    return 0


def _family(args: argparse.Namespace) -> Family:
    from ..worstcase.families import Family

    return Family(args.requests, args.prompts, args.outputs, args.releases)


def _exhaustive(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from ..worstcase.exhaustive import worst_case
    from ..worstcase.found import judge

    family, cluster = _family(args), cluster_from(args)
    if args.slots is None:  # no request has to wait
        cluster = replace(cluster, slots=args.requests)
    began = time.perf_counter()
    with progress("instances") as show:
        worst = worst_case(args.router, family, cluster, show)
    seconds = time.perf_counter() - began
    if args.json:
        print_json(
            {
                "router": worst.router,
                "workers": cluster.workers,
                "slots": cluster.slots,
                "family": str(family),
                "examined": worst.examined,
                "ratio": str(worst.ratio),
                "ratio_value": float(worst.ratio),
                "reached": worst.reached,
                "release": worst.instance.release.tolist(),
                "prompt": worst.instance.prompt.tolist(),
                "output": worst.instance.output.tolist(),
                "seconds": seconds,
            }
        )
        return 0
    print(judge(args.router, worst.instance, cluster).picture())
    print()
    print(f"{worst}. {seconds:.1f} s.")
    return 0


def _game(args: argparse.Namespace) -> int:
    from ..errors import SolverError
    from ..worstcase.game import game_value
    from ..worstcase.randomized import randomized_value

    family, workers = _family(args), cluster_from(args).workers
    report: dict[str, Any] = {"family": str(family), "workers": workers}
    for information in ("lengths unknown", "lengths known"):
        value = game_value(family, workers, information)
        entry: dict[str, Any] = {"deterministic": str(value.value), "deterministic_value": float(value.value)}
        if not args.json:
            print(value)
        try:
            mixed = randomized_value(family, workers, information)
        except (InputError, SolverError) as exc:  # too large for a matrix, or no solver
            entry["randomized"] = None
            if not args.json:
                print(f"With coins: not computed ({exc}).")
        else:
            entry |= {"randomized": [str(mixed.lower), str(mixed.upper)], "randomized_value": float(mixed.upper)}
            if not args.json:
                print(f"With coins: {mixed}.")
        report[information.replace(" ", "_")] = entry
        if not args.json:
            print()
    if args.json:
        print_json(report)
    return 0
