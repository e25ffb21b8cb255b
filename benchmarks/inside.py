"""Where the optimum lies between the bound and the search, on pieces of traces that can be solved exactly.

    python benchmarks/inside.py [--folder TRACES] [--samples 3] [--seconds 10] [--moves 5000] [--json]

A workload runs under least-kv on few workers with few slots at utilization 0.8 (step clock), and a stretch of its steps
is cut out, from a random step on until it has seen so many requests; those that began earlier enter with the load that
they have there. So a piece is as full as the middle of a trace. Its starts are those of the run. *bound* is
``pigeonhole``, the *optimum* is that of ``solve_placement`` with a limit of processor seconds: where it is not proved
the interval between its bound and its best placement counts, so that no hard piece is left out. *search* is
``search_placement`` from the run's placement with that many moves per request, and *beam* the same with
``method="beam"``. The *position* of the optimum is (optimum - bound) / (better of both - bound), from the sums over all
pieces of a row.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any

import numpy as np
from exact import count_processor_time

import balanceroute_opt as bro

UTILIZATION, RUN = 0.8, 1500  # requests of the run that pieces are cut from
SHAPES = ((2, 2), (2, 4), (2, 8), (2, 16), (2, 32), (4, 2), (4, 4), (4, 8), (8, 2), (8, 4))  # workers, slots
EDGES = (0, 2.5, 5, 10, 20, 40)  # of the rows: requests that are active at once on a worker, mean over the piece
FAMILIES = ("azure-conv", "azure-code", "lognormal")


def workload(family: str, folder: Path) -> bro.Instance:
    if family == "lognormal":
        lengths = {"prompt_mu": 6.5, "prompt_sigma": 0.9, "output_mu": 2.8, "output_sigma": 0.7}
        return bro.generate("poisson-lognormal", n=RUN, seed=0, rate=0.001, clock="step", **lengths)
    name = {"azure-conv": "azure_2023_conv", "azure-code": "azure_2023_code"}[family]
    return bro.read_trace(folder / f"{name}.csv.gz").head(RUN).to_step_clock(0.03)


def piece(run: bro.Run, begin: int, most: int) -> tuple[bro.Instance, bro.Cluster, bro.Schedule]:
    """The steps from `begin` on with at most so many requests, but six new ones, as a problem of its own."""
    inst, start = run.instance, run.schedule.start
    end = start + inst.output
    late = np.sort(start[start >= begin])
    room = max(6, most - int(((start < begin) & (end > begin)).sum()))
    last = int(late[room]) if room < len(late) else int(end.max())
    here = np.flatnonzero((start < last) & (end > begin))
    first, behind = np.maximum(start[here], begin), np.minimum(end[here], last)
    part = bro.Instance(first - begin, inst.prompt[here] + first - start[here], behind - first)
    return part, run.cluster, bro.Schedule(first - begin, run.schedule.worker[here])


def measure(
    family: str, inst: bro.Instance, shape: tuple[int, int], sample: int, seconds: float, moves: int
) -> dict[str, Any]:
    cluster = bro.Cluster(*shape)
    run = bro.simulate(inst.scaled_to(cluster, UTILIZATION), cluster, "least-kv")
    rng = np.random.default_rng([sample, *shape])
    steps = run.steps.step
    begin = int(steps[int((0.1 + 0.8 * rng.random()) * len(steps))])
    part, cluster, sched = piece(run, begin, int(min(60, max(16, 1.6 * UTILIZATION * shape[0] * shape[1]))))
    count = len(bro.peak_loads(part, cluster, sched))
    bound, migration = (
        int(bro.placement_bound(part, cluster, sched.start, method).value) for method in ("pigeonhole", "migration")
    )
    began = time.process_time()
    found = bro.solve_placement(part, cluster, sched.start, seconds, warm=sched)
    spent = time.process_time() - began
    certified = found.certificate is not None and bro.verify(part, cluster, found.certificate) == found.objective
    search, beam = (
        int(
            bro.search_placement(
                part, cluster, sched, time_limit=1e9, moves=moves * len(part), seed=sample, method=method
            ).objective
        )
        for method in ("auto", "beam")
    )
    return {
        "family": family,
        "workers": shape[0],
        "slots": shape[1],
        "sample": sample,
        "requests": len(part),
        "steps": count,
        "per_worker": int(part.output.sum()) / count / shape[0],
        "run": bro.peak_sum(part, cluster, sched),
        "bound": bound,
        "migration": migration,
        "lower": max(int(found.lower_bound), migration),
        "upper": min(int(found.objective), search, beam),
        "proved": found.status == "optimal",
        "certified": certified,
        "search": search,
        "beam": beam,
        "best": min(search, beam),
        "seconds": spent,
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| workers | active per worker | pieces | proved (certified) | optimum over bound % | "
        "over migration % | search, beam over bound % | position | better of both = optimum |",
        "|" + "---|" * 9,
    ]
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["workers"], bisect_left(EDGES, row["per_worker"])), []).append(row)
    for (workers, _), some in sorted(groups.items()):
        total = {
            key: sum(row[key] for row in some)
            for key in ("bound", "migration", "lower", "upper", "search", "beam", "best")
        }
        over = [f"{100 * (total[end] / total['bound'] - 1):.2f}" for end in ("lower", "upper", "search", "beam")]
        above = [f"{100 * (total[end] / total['migration'] - 1):.2f}" for end in ("lower", "upper")]
        width = max(1, total["best"] - total["bound"])
        place = [f"{(total[end] - total['bound']) / width:.2f}" for end in ("lower", "upper")]
        proved = [row for row in some if row["proved"]]
        cells = [
            str(workers),
            f"{min(row['per_worker'] for row in some):.1f} .. {max(row['per_worker'] for row in some):.1f}",
            str(len(some)),
            f"{len(proved)} ({sum(row['certified'] for row in some)})",
            _interval(*over[:2]),
            _interval(*above),
            f"{over[2]}, {over[3]}",
            _interval(*place),
            f"{sum(row['best'] == row['lower'] for row in proved)} of {len(proved)}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _interval(low: str, high: str) -> str:
    return low if low == high else f"{low} .. {high}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("BALANCEROUTE_TRACES", "../shared/traces")
    parser.add_argument("--folder", type=Path, default=Path(folder), help="of the public traces")
    parser.add_argument("--samples", type=int, default=3, help="pieces of every family and cluster")
    parser.add_argument("--seconds", type=float, default=10.0, help="processor time for the optimum of a piece")
    parser.add_argument("--moves", type=int, default=5000, help="of the search, per request")
    parser.add_argument("--json", action="store_true", help="one row per piece instead of the table")
    args = parser.parse_args()
    count_processor_time()
    rows = []
    for family in FAMILIES:
        inst = workload(family, args.folder)
        for shape in SHAPES:
            for sample in range(args.samples):
                rows.append(measure(family, inst, shape, sample, args.seconds, args.moves))
                print(json.dumps(rows[-1]), file=sys.stdout if args.json else sys.stderr, flush=True)
    if not args.json:
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
