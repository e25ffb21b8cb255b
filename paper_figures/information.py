"""The ladder of information: what loads, prompts, predicted and true lengths, a short wait and hindsight are worth."""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import balanceroute_opt as bro
from balanceroute_opt.evaluation.intervals import mean_and_half_width
from balanceroute_opt.experiments.prediction import with_keys
from balanceroute_opt.experiments.specs import router_from
from balanceroute_opt.experiments.workload import prepare, shuffled_blocks
from balanceroute_opt.predictors import PREDICTORS, CutoffTables, Survival, rounded_cutoffs, split

from . import style
from .common import TRACES, Size, cluster, fill, instance

NAMES = ("azure-2023-conv", "mooncake-conversation", "azure-2023-code", "bfio")
LOADS, SEEDS, TRAINING = (0.5, 0.6, 0.8, 0.95, 1.1, 1.2), 5, 0.2
MOVES = (15_000_000, 20_000)
"""Of each of the two searches of a sample, in full and in smoke size."""

AHEAD = {
    "br-h/80": "br-h:H=80:greedy_worker=least-load",
    "br-h/20": "br-h:H=20:greedy_worker=least-load",
    "bf-io/20": "bf-io:H=20:gamma=0.7:pool_window=16:node_limit=200",
}
"""Rules that ask a predictor."""
KNOWING = ("survival", "predicted", "true")
LADDER: dict[str, tuple[str, ...]] = {
    "nothing": ("random", "round-robin"),
    "counts": ("jsq",),
    "loads": ("least-kv",),
    "prompts": ("br-0", "br-0-least-load", "deferral:max_wait=0"),
    **{what: tuple(f"{rule} {what}" for rule in AHEAD) for what in KNOWING},
}
"""What is known -> the rules that admit at once and know no more, and did not stand above."""
WAIT = "deferral"
BEST, BOUND = "best known", "bound"
ENDS = (f"{BEST}, at once", f"{BEST}, {WAIT}")
HEADS = [*LADDER, "everything", "wait", "everything + wait"]
"""Of the tables."""
TEXTS = {
    "nothing": "nothing",
    "counts": "counts",
    "loads": "loads",
    "prompts": "prompts",
    "survival": "survival curve",
    "predicted": "predicted lengths",
    "true": "true lengths",
    ENDS[0]: "everything",
    "wait": "prompts + wait",
    ENDS[1]: "everything + wait",
}
"""Rows of the picture."""
SHOWN = (0.6, 0.8, 1.1)
GAINS = {
    "Points of excess that each rung adds to the one before it, all steps.": "excess",
    "The same up to the last admission.": "loaded",
    "Decode time that is saved, % (rules as in the first table).": "seconds",
}
PAGE = Path(__file__).resolve().parent.parent / "docs" / "information.md"


def generate(size: Size) -> Any:
    """Every rule on every sample; and, with the admission steps of two of them, a search and a bound."""
    import polars as pl

    tasks = [
        {"name": name, "seed": seed, "load": load, "moves": size.of(*MOVES), "smoke": size.smoke}
        for name in size.of(NAMES, NAMES[::3])
        for seed in range(size.of(SEEDS, 2))
        for load in size.of(LOADS, LOADS[2::2])
    ]
    cells = size.rows(cell, tasks)
    about = [{"workload": task["name"], "load": task["load"], "seed": task["seed"]} for task in tasks]
    rows = [where | row for where, one in zip(about, cells, strict=True) for row in one["rows"]]
    return pl.DataFrame(rows).with_columns(version=pl.lit(bro.__version__))


def cell(name: str, seed: int, load: float, moves: int, smoke: bool) -> dict[str, Any]:
    """One sample at one load, on the step clock."""
    from balanceroute_opt.oracles.anytime import search_placement
    from balanceroute_opt.oracles.floors import step_bounds

    machines = cluster(smoke)
    requests, predictors = sample(name, seed, smoke)
    inst = prepare(requests, machines, clock="step", utilization=load)
    runs: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []

    def note(rule: str, run: Any, peaks: Any) -> None:
        """`peaks` per active step, with the admission steps of `run`."""
        loaded = run.steps.step <= run.schedule.start.max()
        excess, while_loaded = (
            machines.workers * int(peaks[chosen].sum()) / int(run.steps.total[chosen].sum()) - 1
            for chosen in (np.ones(len(peaks), np.bool_), loaded)
        )
        seconds = machines.step_time.seconds_of(len(peaks), int(peaks.sum()), inst.total_work, machines.workers)
        others = (run.schedule.start != runs["least-kv"].schedule.start).mean() if "least-kv" in runs else 0.0
        rows.append(
            {
                "rule": rule,
                "excess": round(excess, 5),
                "loaded": round(while_loaded, 5),
                "seconds": round(seconds, 3),
                "wait": round(float((run.first_start - inst.release).mean()), 2),
                "others": round(float(others), 3),
            }
        )

    rules = [rule for rules in LADDER.values() for rule in rules]
    for rule in ("least-kv", *(r for r in rules if r != "least-kv"), WAIT):
        what, _, knows = rule.partition(" ")
        router = router_from(AHEAD.get(what, what))[1]
        if knows in ("survival", "predicted"):
            if (knows, router.H) not in predictors:
                continue
            router.predictor = predictors[knows, router.H]
        runs[rule] = bro.simulate(inst, machines, router, seed)
        note(rule, runs[rule], runs[rule].peak_loads)
    at_once = min((rule for rule in runs if rule != WAIT), key=lambda rule: runs[rule].peak_sum)
    for label, rule in (("at once", at_once), (WAIT, WAIT)):
        run = runs[rule]
        found = search_placement(inst, machines, run.schedule, time_limit=1e9, moves=moves, seed=seed)
        note(f"{BEST}, {label}", run, bro.peak_loads(inst, machines, found.schedule))
        bound = bro.placement_bound(inst, machines, run.schedule.start)
        bound.reproduced(inst, machines)
        note(f"{BOUND}, {label}", run, step_bounds(inst, machines, run.schedule.start, bound.method).peak)
    return {"rows": rows}


@lru_cache(maxsize=1)
def sample(name: str, seed: int, smoke: bool) -> tuple[bro.Instance, dict[tuple[str, int], Any]]:
    """The requests of a sample, numbered by their keys, and predictors fitted on earlier ones."""
    known, later = split(with_keys(instance(name, smoke, seed=seed))[0], TRAINING)
    if name in TRACES:
        later = shuffled_blocks(later, seed)
    predictors: dict[tuple[str, int], Any] = {}
    for horizon in sorted({router_from(spec)[1].H for spec in AHEAD.values()}):
        predictors["survival", horizon] = Survival.fit(known)
        if not smoke:
            predictors["predicted", horizon] = _Asked(PREDICTORS["fitted"](known, horizon), later, horizon)
    return later.replace(key=np.arange(len(later))), predictors


class _Asked:
    """A fitted predictor's answers about every request at every age: asked once, so the same and sooner."""

    def __init__(self, predictor: Any, inst: bro.Instance, horizon: int) -> None:
        self.end = np.cumsum(inst.output)
        self.first = self.end - inst.output
        parts = []
        for chosen in np.array_split(np.arange(len(inst)), 1 + self.end[-1] // 500_000):
            i = np.repeat(chosen, inst.output[chosen])
            age = np.arange(self.first[chosen[0]], self.end[chosen[-1]]) - self.first[i]
            p, mu = predictor.predict(age, inst.prompt[i], inst.key[i], horizon)
            parts.append(rounded_cutoffs(p, mu, horizon))
        self.table = np.concatenate(parts)
        self.horizon = horizon

    def tables(self, key: Any, horizon: int) -> CutoffTables:
        """Cut-offs by age; keys are the numbers of the requests."""
        assert horizon == self.horizon
        return CutoffTables(np.array([horizon + 1]), self.table, self.first[key], self.end[key])


def rungs(part: Any, column: str = "excess") -> dict[str, tuple[str, Any]]:
    """What is known -> the rule that is best of those that know no more, by its mean over the samples; and its rows.

    `part` holds one workload at one load; rows are in the order of the seeds.
    """
    rows = {own["rule"][0]: own.sort("seed") for own in part.partition_by("rule", maintain_order=True)}
    found: dict[str, tuple[str, Any]] = {}
    best = ""
    for what, rules in LADDER.items():
        for rule in rules:
            if rule in rows and (not best or rows[rule][column].mean() < rows[best][column].mean()):
                best = rule
        found[what] = best, rows[best]
    found["wait"] = WAIT, rows[WAIT]
    return found | {rule: (rule, own) for rule, own in rows.items() if rule.startswith((BEST, BOUND))}


def plot(table: Any) -> Any:
    """A panel per workload: from top to bottom more is known; hindsight as a bracket."""
    import matplotlib.pyplot as plt
    import polars as pl

    looks = dict(zip(SHOWN, ((style.BLUE, "o", -0.22), (style.GREEN, "s", 0.0), (style.RED, "D", 0.22)), strict=True))
    names = table["workload"].unique(maintain_order=True).to_list()
    places = {what: float(i) for i, what in enumerate(TEXTS)}
    places |= {what: place + 0.5 for what, place in places.items() if what in ("wait", ENDS[1])}
    across = min(2, len(names))
    down = -(-len(names) // across)
    figure, panels = plt.subplots(down, across, figsize=(style.COLUMN, 1.0 + 1.75 * down), sharex=True, sharey=True,
                                  squeeze=False, layout="constrained")  # fmt: skip
    widest = 0.0
    for axes, name in zip(panels.flat, names, strict=True):
        for load, (colour, marker, shift) in looks.items():
            part = table.filter((pl.col("workload") == name) & (pl.col("load") == load))
            if not len(part):
                continue
            known = rungs(part)
            mean = {what: 100 * own["excess"].mean() for what, (_, own) in known.items()}
            half = {what: 100 * mean_and_half_width(own["excess"].to_list())[1] for what, (_, own) in known.items()}
            widest = max(widest, *(mean[what] + half[what] for what in LADDER))
            for line in (tuple(LADDER), ("wait",)):
                axes.plot([mean[what] for what in line], [places[what] + shift for what in line], color=colour,
                          linewidth=0.6, alpha=0.5)  # fmt: skip
                axes.errorbar([mean[what] for what in line], [places[what] + shift for what in line],
                              xerr=[half[what] for what in line], color=colour, marker=marker, markersize=2.4,
                              linestyle="none", elinewidth=0.8)  # fmt: skip
            for label in ("at once", WAIT):
                y = places[f"{BEST}, {label}"] + shift
                low, high = mean[f"{BOUND}, {label}"], mean[f"{BEST}, {label}"]
                axes.plot([low, high], [y, y], color=colour, linewidth=1.4, alpha=0.45, solid_capstyle="butt")
                axes.plot([low], [y], marker="|", color=colour, markersize=4, markeredgewidth=1)
                axes.plot([high], [y], marker=marker, color=colour, markersize=2.4, markerfacecolor="white")
        axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
        axes.set_title(name.removesuffix("-conversation"))
        axes.set_yticks(list(places.values()), list(TEXTS.values()))
        axes.set_ylim(max(places.values()) + 0.5, -0.5)
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
    panels[0, 0].set(xlim=(0, 1.03 * widest), xticks=[x for x in (0, 2, 5, 10, 20, 30) if x < widest])
    figure.supxlabel("excess over equal loads (%), square-root scale", fontsize=7.5)
    entries = {
        f"load {load:g}": plt.Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=3)
        for load, (colour, marker, _) in looks.items()
    }
    legend = figure.legend(entries.values(), entries, loc="outside upper left", ncols=3, alignment="left",
                           title="from |: certified bound, to an open mark: placement found")  # fmt: skip
    legend.get_title().set_fontsize(7)
    return figure


def page(table: Any) -> Path:
    """Write the tables of docs/information.md, each between its marks."""
    tables = [line for name in NAMES for line in _tables(table, name)]
    return fill(PAGE, "information", {"summary": _summary(table), "tables": tables})


def _summary(table: Any) -> list[str]:
    """What each rung is worth, at one load without and one with full slots."""
    import polars as pl

    cells = {
        (name, load): _worth(table.filter((pl.col("workload") == name) & (pl.col("load") == load)), "excess")
        for load in (0.8, 1.1)
        for name in NAMES
    }
    heads = [name.removesuffix("-conversation") for name in NAMES]
    lines = ["", f"| | {' | '.join(f'{head}, {load:g}' for load in (0.8, 1.1) for head in heads)} |"]
    lines.append("|---|" + "---:|" * len(cells))
    for i, what in enumerate(HEADS[1:]):
        lines.append(f"| {what} | " + " | ".join(worth[i] for worth in cells.values()) + " |")
    return [*lines, ""]


def _tables(table: Any, name: str) -> list[str]:
    """Excess of every rung, and what each adds to the one before it."""
    import polars as pl

    parts = {load: table.filter((pl.col("workload") == name) & (pl.col("load") == load)) for load in LOADS}
    known = {load: rungs(part) for load, part in parts.items()}
    shown = [*LADDER, ENDS[0], "wait", ENDS[1]]
    lines = [f"\n### {name}\n", "Excess over equal loads, %, all steps.\n"]
    lines += ["| load | " + " | ".join(HEADS) + " |", "|---:" * (len(HEADS) + 1) + "|"]
    for load, own in known.items():
        cells = []
        for what in shown:
            value = f"{100 * own[what][1]['excess'].mean():.2f}"
            if what in ENDS:
                value = f"{100 * own[what.replace(BEST, BOUND)][1]['excess'].mean():.2f} to {value}"
            cells.append(value)
        lines.append(f"| {load:g} | " + " | ".join(cells) + " |")
    for title, column in GAINS.items():
        lines += [f"\n{title}\n", "| load | " + " | ".join(HEADS[1:]) + " |", "|---:" * len(HEADS) + "|"]
        lines += [f"| {load:g} | " + " | ".join(_worth(part, column)) + " |" for load, part in parts.items()]
    lines += ["\nOne rule with better answers: its excess by the survival curve, and points gained by better ones.\n"]
    lines += ["| rule | load | survival | predicted | true |", "|---|---:|---:|---:|---:|"]
    for rule in AHEAD:
        for load in SHOWN:
            by = {what: parts[load].filter(pl.col("rule") == f"{rule} {what}").sort("seed") for what in KNOWING}
            cells = [_interval(_gains(by[a], by[b], "excess")) for a, b in itertools.pairwise(KNOWING)]
            lines.append(
                f"| {rule} | {load:g} | {100 * by['survival']['excess'].mean():.2f} | " + " | ".join(cells) + " |"
            )
    lines.append("\nRules: " + "; ".join(_rules(known, what) for what in LADDER) + ".")
    return lines


def _worth(part: Any, column: str) -> list[str]:
    """What each rung adds, in the order of HEADS; rules are chosen by excess where `column` is time."""
    own = rungs(part, "excess" if column == "seconds" else column)
    cells = []
    for upper, lower in [*itertools.pairwise(LADDER), ("true", ENDS[0]), ("prompts", "wait"), ("wait", ENDS[1])]:
        text = _interval(_gains(own[upper][1], own[lower][1], column))
        if lower in ENDS:
            most = _gains(own[upper][1], own[lower.replace(BEST, BOUND)][1], column)
            text += f" to {mean_and_half_width(most)[0]:.2f}"
        cells.append(text)
    return cells


def _gains(upper: Any, lower: Any, column: str) -> list[float]:
    """By how much `lower` is below `upper` on the same samples: points of excess, or per cent of the time."""
    scale = upper[column] if column == "seconds" else 1.0
    return list(100 * (upper[column] - lower[column]) / scale)


def _interval(values: list[float]) -> str:
    mean, half = mean_and_half_width(values)
    if not any(values):
        return "0"
    return f"**{mean:.2f}** ± {half:.2f}" if abs(mean) > half else f"{mean:.2f} ± {half:.2f}"


def _rules(known: dict[float, dict[str, tuple[str, Any]]], what: str) -> str:
    """Which rule stands for a rung, and at which loads."""
    chosen: dict[str, list[str]] = {}
    for load, own in known.items():
        chosen.setdefault(own[what][0], []).append(f"{load:g}")
    if len(chosen) == 1:
        return f"{what} `{next(iter(chosen))}`"
    return f"{what} " + ", ".join(f"`{rule}` ({', '.join(loads)})" for rule, loads in chosen.items())
