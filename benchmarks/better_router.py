"""`deferral` beside `least-kv` and `br-0`, on every shared trace and at four loads; its frontier; where its gain lies.

    python benchmarks/better_router.py [FOLDER OF TRACES]
    python benchmarks/better_router.py --frontier [FOLDER OF TRACES]
    python benchmarks/better_router.py --where [FOLDER OF TRACES]

8 workers, 72 slots, step clock. Five seeds per row. Traces: the seed permutes 20 blocks of consecutive requests, each
with its lengths and gaps; other rows: the seed of the generator (ShareGPT has no arrivals, so they are Poisson). Excess
in per cent of the mean load up to the last admission (`loaded`) and over all steps; differences are paired, with
Student's 95 % interval; waits in steps.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import balanceroute_opt as bro
from balanceroute_opt.evaluation.intervals import mean_and_half_width
from balanceroute_opt.experiments.workload import prepare, shuffled_blocks
from balanceroute_opt.routers import BR0, LPT, Deferral, LeastKV

CLUSTER = bro.Cluster(workers=8, slots=72)
SEEDS = range(5)
LOADS = (0.6, 0.8, 0.95, 1.1)
TRAINING = ("azure_2023_code", "bfio", "poisson-lognormal", "azure-2024-long")
TRACES = ("azure_2023_conv", "mooncake_conversation", "burstgpt_1_first400", "burstgpt_3_first400", "azure_2023_code")
GENERATED = {"servegen": 10_000, "bfio": 6_000, "poisson-lognormal": 8_000, "azure-2024-long": 6_000}


class HeldBack:
    """The lightest worker takes the longest request that fits its margin; the others wait `max_wait` steps."""

    mode = "pooled"

    def __init__(self, max_wait: int) -> None:
        self.max_wait = max_wait

    def route(self, view: bro.View) -> tuple[list[int], list[int]]:
        load, free = view.load.tolist(), view.free.tolist()
        level = max(load)
        waiting = sorted(range(len(view.pool)), key=lambda j: -int(view.pool.prompt[j]))
        chosen: list[tuple[int, int]] = []
        for urgent in (False, True):
            while waiting and any(free):
                g = min((g for g in range(len(load)) if free[g]), key=lambda g: load[g])
                fits = [
                    j
                    for j in waiting
                    if (view.pool.wait[j] >= self.max_wait if urgent else load[g] + view.pool.prompt[j] <= level)
                ]
                if not fits:
                    break
                waiting.remove(fits[0])
                chosen.append((int(view.pool.index[fits[0]]), g))
                load[g] += int(view.pool.prompt[fits[0]])
                free[g] -= 1
        return [i for i, _ in chosen], [g for _, g in chosen]


def sharegpt(folder: Path, seed: int, n: int = 10_000) -> bro.Instance:
    """Lengths of `n` conversations drawn without replacement, with Poisson arrivals."""
    with gzip.open(folder / "lengths_sharegpt_predicted.csv.gz", "rt") as file:
        rows = [(int(r["num_prefill_tokens"]), int(r["num_decode_tokens"])) for r in csv.DictReader(file)]
    rng = np.random.default_rng(seed)
    lengths = np.array([row for row in rows if min(row) > 0])[rng.permutation(n)]
    return bro.Instance(np.cumsum(rng.exponential(1.0, n)), *lengths.T, clock="wall")


def workloads(folder: Path) -> dict[str, Callable[[int], bro.Instance]]:
    """Name -> instance by seed."""
    found: dict[str, Callable[[int], bro.Instance]] = {}
    traces = {name: bro.read_trace(folder / f"{name}.csv.gz") for name in TRACES}
    for name in TRACES[:-1]:
        found[name] = partial(shuffled_blocks, traces[name])
    found["sharegpt lengths"] = lambda seed: sharegpt(folder, seed)
    found["servegen"] = lambda seed: bro.generate("servegen", GENERATED["servegen"], seed, folder=folder)
    found[TRACES[-1]] = partial(shuffled_blocks, traces[TRACES[-1]])
    for name in TRAINING[1:]:
        found[name] = partial(bro.generate, name, GENERATED[name])
    return found


def measure(inst: bro.Instance, router: object) -> tuple[float, ...]:
    """Excess while loaded and over all steps (%), mean and p99 of the wait, decode time."""
    run = bro.simulate(inst, CLUSTER, router)
    wait = run.first_start - inst.release
    loaded, every = (100 * run.metrics(window)["excess"] for window in ("loaded", "all"))
    return loaded, every, float(wait.mean()), float(np.percentile(wait, 99)), run.decode_time


def interval(values: Sequence[float]) -> str:
    """Mean and half width, starred if 0 lies outside."""
    mean, half = mean_and_half_width(list(values))
    return f"{mean:+6.2f} ±{half:5.2f}{'*' if abs(mean) > half else ' '}"


def table(folder: Path) -> None:
    """One row per workload and load."""
    routers = {"least-kv": LeastKV(), "br-0": BR0(), "no wait": Deferral(max_wait=0), "deferral": Deferral()}
    print(
        f"{'':22} {'u':>4} | excess, loaded: {'least-kv':>8} {'br-0':>6} {'no wait':>7} {'deferral':>8} |"
        f" {'- least-kv':>14} {'- br-0':>14} {'no wait - lkv':>14} | {'all: - lkv':>14} {'- br-0':>14} |"
        f" {'wait lkv':>8} {'deferral':>8} {'p99':>4} {'p99':>4} | {'time - br-0, %':>14}"
    )
    for name, make in workloads(folder).items():
        for load in LOADS:
            rows: dict[str, list[tuple[float, ...]]] = {label: [] for label in routers}
            for seed in SEEDS:
                inst = prepare(make(seed), CLUSTER, clock="step", utilization=load)
                for label, router in routers.items():
                    rows[label].append(measure(inst, router))
            got = {label: np.array(values) for label, values in rows.items()}
            mean = {label: values.mean(axis=0) for label, values in got.items()}
            ours, theirs, br0, still = (got[x] for x in ("deferral", "least-kv", "br-0", "no wait"))
            print(
                f"{name + ('+' if name in TRAINING else ''):22} {load:4} | {'':15} "
                + " ".join(f"{mean[x][0]:{w}.2f}" for x, w in zip(routers, (8, 6, 7, 8), strict=True))
                + f" | {interval(ours[:, 0] - theirs[:, 0])} {interval(ours[:, 0] - br0[:, 0])}"
                + f" {interval(still[:, 0] - theirs[:, 0])} | {interval(ours[:, 1] - theirs[:, 1])}"
                + f" {interval(ours[:, 1] - br0[:, 1])} |"
                + f" {mean['least-kv'][2]:8.2f} {mean['deferral'][2]:8.2f} {mean['least-kv'][3]:4.0f}"
                + f" {mean['deferral'][3]:4.0f} | {interval(100 * (ours[:, 4] / br0[:, 4] - 1))}",
                flush=True,
            )
    print("+ used to choose the rule and its defaults;  * the interval leaves 0 out")


def frontier(folder: Path) -> None:
    """Excess against wait on azure conv at u = 0.8: the trace as it is, and five shuffles of it."""
    trace = bro.read_trace(folder / "azure_2023_conv.csv.gz")
    cases = [
        prepare(i, CLUSTER, clock="step", utilization=0.8) for i in (trace, *(shuffled_blocks(trace, s) for s in SEEDS))
    ]
    routers: dict[str, object] = {"least-kv": LeastKV(), "lpt": LPT()}
    routers |= {f"longest that fits, D={d}": HeldBack(d) for d in (4, 8, 16)}
    routers |= {f"deferral, D={d}": Deferral(max_wait=d) for d in (0, 1, 2, 4, 8, 12, 16, 32)}
    routers |= {f"deferral, D=8, price={p:g}": Deferral(price=p) for p in (0.0, 0.1, 1.6)}
    routers |= {f"deferral, D=16, price={p:g}": Deferral(16, p) for p in (0.0, 0.1, 1.6)}
    print(f"{'':28} | trace: loaded    all  wait p99 | shuffled: loaded   - least-kv      all  wait  p99")
    base = None
    for label, router in routers.items():
        got = np.array([measure(inst, router) for inst in cases])
        base = got if base is None else base
        one, five = got[0], got[1:]
        mean = five.mean(axis=0)
        print(
            f"{label:28} | {one[0]:13.2f} {one[1]:6.2f} {one[2]:5.2f} {one[3]:3.0f} | {mean[0]:16.2f}"
            f" {interval(five[:, 0] - base[1:, 0])} {mean[1]:6.2f} {mean[2]:5.2f} {mean[3]:4.1f}",
            flush=True,
        )


def where(folder: Path) -> None:
    """Azure conv at u = 0.8, five shuffles: excess by slots in use, and rises of the largest load by prompt."""
    trace = bro.read_trace(folder / "azure_2023_conv.csv.gz")
    cases = [prepare(shuffled_blocks(trace, s), CLUSTER, clock="step", utilization=0.8) for s in SEEDS]
    routers = {"least-kv": LeastKV(), "no wait": Deferral(max_wait=0), "deferral": Deferral()}
    use, prompts = (0.6, 0.7, 0.8, 0.9, 1.0), (250, 500, 1000, 2000, 4000)
    by_use, by_prompt = {}, {}
    for label, router in routers.items():
        parts = [gains(bro.simulate(inst, CLUSTER, router), use, prompts) for inst in cases]
        by_use[label], by_prompt[label] = (np.mean([part[i] for part in parts], axis=0) for i in (0, 1))
    print(f"{'slots in use':16} | {'steps':>6} | excess from these: " + " ".join(f"{x:>8}" for x in routers))
    for b, name in enumerate([*classes([f"{100 * x:.0f} %" for x in use])[:-1], "all"]):
        print(
            f"{name:16} | {by_use['least-kv'][b, 0]:6.1%} | {'':18} "
            + " ".join(f"{100 * by_use[x][b, 1]:8.2f}" for x in routers)
        )
    print(
        f"\n{'prompt':16} | {'requests':>8} | rise, tokens per request: "
        + " ".join(f"{x:>8}" for x in routers)
        + f" | deferral: {'waits':>6} {'mean':>5}"
    )
    for b, name in enumerate(classes([f"{x:,}" for x in prompts])):
        share, _, waits, mean = by_prompt["deferral"][b]
        print(
            f"{name:16} | {share:8.1%} | {'':25} "
            + " ".join(f"{by_prompt[x][b, 1]:8.2f}" for x in routers)
            + f" | {'':9} {waits:6.1%} {mean:5.2f}"
        )


def classes(edges: Sequence[str]) -> list[str]:
    """Names of the intervals between edges."""
    return [f"below {edges[0]}", *(f"{a} to {b}" for a, b in itertools.pairwise(edges)), f"{edges[-1]} and more"]


def gains(run: bro.Run, use: Sequence[float], prompts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """By share of slots in use: share of the loaded steps, and the excess that comes from them. By prompt: share of
    the requests, rise of the largest load per request of the trace, share that waits, mean wait.

    A rise is what the admissions of a step add to the largest load, beyond the mean of that step; it is put down to
    the largest prompt among those that come to the worker that then has it.
    """
    inst, sched = run.instance, run.schedule
    workers = CLUSTER.workers
    steps = int((sched.start + inst.output).max())
    active, base, new = (np.zeros((workers, steps + 1), np.int64) for _ in range(3))
    for at, sign in ((sched.start, 1), (sched.start + inst.output, -1)):
        np.add.at(active, (sched.worker, at), sign)
        np.add.at(base, (sched.worker, at), sign * (inst.prompt - sched.start))
    np.add.at(new, (sched.worker, sched.start), inst.prompt)
    active = active.cumsum(axis=1)
    load = base.cumsum(axis=1) + active * np.arange(steps + 1)
    if int(load.max(axis=0).sum()) != run.peak_sum:
        raise AssertionError("the loads are not those of the run")
    slots = active.sum(axis=0)
    loaded = (slots > 0) & (np.arange(steps + 1) <= sched.start.max())
    imbalance, work = workers * load.max(axis=0) - load.sum(axis=0), load.sum(axis=0)[loaded].sum()
    level = np.digitize(slots / (workers * CLUSTER.slots), use)
    by_use = [
        (float((loaded & (level == b)).sum() / loaded.sum()), float(imbalance[loaded & (level == b)].sum() / work))
        for b in range(len(use) + 1)
    ]
    unavoidable = np.maximum((load - new).max(axis=0), -(-load.sum(axis=0) // workers))
    rise = np.maximum(load.max(axis=0) - unavoidable, 0)
    at_top = np.flatnonzero(sched.worker == load.argmax(axis=0)[sched.start])
    at_top = at_top[np.argsort(inst.prompt[at_top], kind="stable")]
    charged = np.zeros(len(inst))
    largest = dict(zip(sched.start[at_top].tolist(), at_top.tolist(), strict=True))
    charged[list(largest.values())] = rise[list(largest)]
    size, wait = np.digitize(inst.prompt, prompts), run.first_start - inst.release
    by_prompt = [
        (
            float((size == b).mean()),
            float(charged[size == b].sum() / len(inst)),
            float((wait[size == b] > 0).mean()),
            float(wait[size == b].mean()),
        )
        for b in range(len(prompts) + 1)
    ]
    return np.array(by_use), np.array(by_prompt)


def main() -> None:
    modes = {"--frontier": frontier, "--where": where}
    chosen = [mode for mode in modes if mode in sys.argv[1:]]
    arguments = [a for a in sys.argv[1:] if a not in modes]
    folder = Path(arguments[0] if arguments else os.environ.get("BALANCEROUTE_TRACES", "../shared/traces"))
    (modes[chosen[0]] if chosen else table)(folder)


if __name__ == "__main__":
    main()
