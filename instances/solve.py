"""Fill the registry: every problem of the library gets a row, and its row gets what the solvers find.

    python instances/solve.py [NAME ...] [--set S] [--problem P] [--solver S] [--time-limit 60] [--only-open]

A row changes only if a schedule is cheaper or a certificate proves more, as with `balanceroute instances improve`.
Instances that are new in a set get their rows here.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import balanceroute_opt as bro
from balanceroute_opt.library import Entry, Library, Row, read_library
from balanceroute_opt.library.catalogue import MAX_FILE
from balanceroute_opt.oracles.forced import forced_starts, latest_bound, placed_bound

_SEARCHED, _ONLY_SEARCHED = 60, 200  # requests from which search comes before the solver, and in place of it


def rows_of(library: Library, entry: Entry) -> tuple[Row, ...]:
    """The rows of an entry; made if it has none."""
    if not entry.rows:
        if entry.path is None:
            entry.make()
        if entry.start is not None:
            library.add(entry.name, "placement")
        if entry.windows:
            library.add(entry.name, "schedule", entry.windows)
    return entry.rows


def size(certificate: dict[str, Any]) -> int:
    """Bytes of the file that it would be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.json.gz"
        bro.write_certificate(certificate, path)
        return path.stat().st_size


def attempt(library: Library, row: Row, **new: Any) -> bool:
    """Improve the row, or say nothing if this is no improvement."""
    try:
        library.improve(row.name, row.problem, **new)
    except (bro.InvalidSchedule, bro.CertificateError) as exc:
        if not any(words in str(exc) for words in ("and the best known one", "and the bound is", "later than")):
            print(f"  refused: {exc}")
        return False
    return True


def fill(library: Library, entry: Entry, row: Row, args: argparse.Namespace) -> None:
    inst, cluster, start = entry.inst, entry.cluster, entry.start
    if row.best is None and entry.recipe is not None:
        run = bro.simulate(inst, cluster, entry.recipe.starts, seed=0)
        attempt(library, row, schedule=run.schedule, method=f"run of {entry.recipe.starts}")
    better_bound(library, entry, row, args)
    if row.problem == "schedule" and start is not None and entry.schedule("placement") is not None:
        attempt(library, row, schedule=entry.schedule("placement"), method="the best placement")
    if args.bounds_only:
        return
    warm = entry.schedule(row.problem)
    options = {"time_limit": args.time_limit, "seed": args.seed} | ({"solver": args.solver} if args.solver else {})
    if row.problem == "placement" and warm is not None and len(inst) >= _SEARCHED:
        better = bro.search_placement(inst, cluster, warm, time_limit=args.time_limit, seed=args.seed)
        if attempt(library, row, schedule=better.schedule, method="search"):
            warm = better.schedule
        if not args.solver and len(inst) >= _ONLY_SEARCHED:
            return
    if row.problem == "placement":
        found: bro.Solution = bro.solve_placement(inst, cluster, start, warm=warm, **options)
    else:
        found = bro.solve_schedule(inst, cluster, warm=warm, **windows(entry, row), **options)
    if found.schedule is not None:
        attempt(library, row, schedule=found.schedule, method=found.solver)
    if found.certificate is not None and size(found.certificate) <= min(MAX_FILE, args.max_bytes):
        attempt(library, row, certificate=found.certificate)
    now = entry.row(row.problem)
    claim = found.lower_bound
    if math.isfinite(claim) and (now.bound is None or claim > now.bound) and claim > (now.claimed or 0):
        claim = int(claim) if row.problem == "placement" else float(claim)
        library.improve(row.name, row.problem, claimed=(claim, found.solver))


def windows(entry: Entry, row: Row) -> dict[str, Any]:
    if row.windows == "latest=start":
        return {"latest": entry.start}
    return {"max_wait": int(row.windows.removeprefix("max_wait="))} if row.windows != "none" else {}


def better_bound(library: Library, entry: Entry, row: Row, args: argparse.Namespace) -> None:
    """The best certificate that is small enough."""
    inst, cluster, start = entry.inst, entry.cluster, entry.start
    most = min(MAX_FILE, args.max_bytes)
    if row.problem == "schedule":
        limits = windows(entry, row)
        tries: list[Callable[[], bro.Bound]] = []
        if "latest" in limits:
            proof = entry.certificate("placement") if any(r.problem == "placement" for r in entry.rows) else None
            if proof is not None and forced_starts(inst, cluster, latest=start) is not None:
                data = {"max_wait": None, "latest": start.tolist()}
                tries.append(partial(placed_bound, inst, cluster, start, "latest", data, proof))
            tries.append(partial(latest_bound, inst, cluster, start))
        tries += [partial(bro.schedule_bound, inst, cluster, method, **limits) for method in ("lagrangian", "fluid")]
        for bound in tries:
            certificate = bound().certificate
            fits = certificate is not None and size(certificate) <= MAX_FILE
            if fits and attempt(library, row, certificate=certificate):
                return
        return
    for method in ("migration", "pigeonhole", "item"):
        certificate = bro.placement_bound(inst, cluster, start, method).certificate
        if certificate is not None and size(certificate) <= MAX_FILE:
            attempt(library, row, certificate=certificate)
            break
    for length in args.windows:
        nodes = 20_000
        for _ in range(4):
            proof = bro.placement_bound(
                inst, cluster, start, "window", nodes, window=length, time_limit=args.time_limit
            )
            if proof.certificate is None or proof.value <= (entry.row("placement").bound or 0):
                break
            bytes_ = size(proof.certificate)
            if bytes_ <= most:
                attempt(library, row, certificate=proof.certificate)
                break
            print(f"  window({length}), {nodes:,} nodes: {proof.value}, but {bytes_ / 1e3:.0f} kB")
            nodes = max(1, int(0.8 * nodes * most / bytes_))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--set")
    parser.add_argument("--problem", choices=("placement", "schedule"))
    parser.add_argument("--solver", help="of solve_placement or solve_schedule (default: auto)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--windows", type=int, nargs="*", default=[], help="lengths for certificates of kind window")
    parser.add_argument("--max-bytes", type=int, default=MAX_FILE, help="of a certificate of kind window or tree")
    parser.add_argument("--only-open", action="store_true", help="leave proved rows alone")
    parser.add_argument("--bounds-only", action="store_true", help="no solver")
    args = parser.parse_args()
    library = read_library(Path(__file__).parent)
    entries = [library[name] for name in args.names] or [e for e in library if args.set in (None, e.set)]
    for entry in entries:
        for row in rows_of(library, entry):
            if args.problem not in (None, row.problem) or (args.only_open and row.status == "optimal"):
                continue
            try:
                fill(library, entry, row, args)
            except bro.SolverError as exc:
                print(f"  {row.name} {row.label}: {exc}")
            now = entry.row(row.problem)
            print(f"{now.name} {now.label}: best {now.best} bound {now.bound} ({now.proof}) {now.status}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
