"""An instance that is bad for a router, with the run, the better placement, and a picture of both."""

from __future__ import annotations

import html
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .._validate import Int64Array, frozen
from ..certificates import verify
from ..errors import InputError
from ..instance import Cluster, Instance
from ..oracles.placement import solve_placement
from ..oracles.solution import Solution
from ..schedule import Schedule, active_steps, worker_loads
from ..simulator import Run
from .batch import Player

__all__ = ["BadInstance", "judge"]

_COLUMNS = 20  # most steps of a picture in text


@dataclass(frozen=True, eq=False, repr=False)
class BadInstance:
    """A router's run on an instance beside the best placement with the same starts; made by :func:`judge`.

    Attributes
    ----------
    router : str
    instance : Instance
    cluster : Cluster
    run : Run
        Of the router; its ``peak_sum`` is the numerator.
    best : Solution
        The best placement known. Its schedule, which :func:`~balanceroute_opt.check` accepts, proves that the ratio is
        at least :attr:`ratio`; where it is proved optimal, the ratio is that.
    origin : str
        How the instance was found, in a few words.
    examined : int
        Instances that were simulated on the way.
    """

    router: str
    instance: Instance
    cluster: Cluster
    run: Run
    best: Solution
    origin: str = ""
    examined: int = 0

    @property
    def optimum(self) -> int:
        """``peak_sum`` of the best placement known."""
        return int(self.best.objective)

    @property
    def ratio(self) -> Fraction:
        """``peak_sum`` of the run over that of the best placement known."""
        return Fraction(self.run.peak_sum, self.optimum)

    @property
    def exact(self) -> bool:
        """Whether a certificate, which the verifier has reproduced, proves that no placement is better."""
        certificate = self.best.certificate
        return certificate is not None and verify(self.instance, self.cluster, certificate) == self.optimum

    @property
    def time_ratio(self) -> float:
        """The same ratio of decode times, whose fixed part both pay."""
        steps, work, workers = len(self.run.peak_loads), self.instance.total_work, self.cluster.workers
        own, best = (
            self.cluster.step_time.exact_seconds_of(steps, peak_sum, work, workers)
            for peak_sum in (self.run.peak_sum, self.optimum)
        )
        return float(own / best)

    def sentence(self) -> str:
        """What is shown, in one sentence."""
        known = "the best placement with the same starts" if self.exact else "a placement with the same starts"
        proved = "(certified)" if self.exact else "or more"
        return (
            f"{self.router} costs {self.run.peak_sum:,} token-steps on these {len(self.instance)} requests, {known} "
            f"{self.optimum:,}: a hindsight ratio of {self.ratio} = {float(self.ratio):.4f} {proved}."
        )

    def placements(self) -> tuple[Int64Array, Int64Array]:
        """Workers of the run and of the best placement, whose names are chosen so that most requests agree."""
        import networkx as nx

        assert self.best.schedule is not None
        own, other = self.run.schedule.worker, self.best.schedule.worker
        graph: Any = nx.Graph()
        for g in range(self.cluster.workers):
            for h in range(self.cluster.workers):
                graph.add_edge(("best", h), ("own", g), weight=int(((other == h) & (own == g)).sum()))
        name = dict(map(sorted, nx.max_weight_matching(graph, maxcardinality=True)))
        return own, frozen(np.array([name["best", int(h)][1] for h in other], np.int64))

    def picture(self) -> str:
        """The requests, where both put them, and every worker's load in every step, as text."""
        inst, start = self.instance, self.run.schedule.start
        own, other = self.placements()
        label = max(len(self.router), len("optimum"))
        rows = [
            f"{'request':>7} {'release':>7} {'prompt':>7} {'output':>6} {'start':>5}   {self.router:>{label}}  best"
        ]
        for i in range(len(inst)):
            numbers = f"{i:>7} {inst.release[i]:>7} {inst.prompt[i]:>7} {inst.output[i]:>6} {start[i]:>5}"
            mark = "" if own[i] == other[i] else "  <"
            rows.append(f"{numbers}   {f'worker {own[i]}':>{label}}  worker {other[i]}{mark}")
        steps = active_steps(start, inst.output)[1]
        shown = steps[:_COLUMNS]
        tables = [
            (name, worker_loads(inst, self.cluster, Schedule(start, worker)))
            for name, worker in ((self.router, own), ("optimum" if self.exact else "best", other))
        ]
        width = 1 + max(len(f"{max(int(loads.max()) for _, loads in tables):,}"), len(str(int(shown[-1]))))
        rows += ["", f"{'load in step':>{label + 10}}" + "".join(f"{k:>{width}}" for k in shown.tolist())]
        for name, loads in tables:
            for g, load in enumerate(loads[:, : len(shown)].tolist()):
                who = f"{name if g == 0 else '':>{label}} worker {g:<2}"
                rows.append(f"{who:>{label + 10}}" + "".join(f"{x:>{width},}" for x in load))
            peaks = loads.max(axis=0)
            rows.append(
                f"{'largest':>{label + 10}}"
                + "".join(f"{x:>{width},}" for x in peaks[: len(shown)].tolist())
                + f"   sum {int(peaks.sum()):,}"
            )
        if len(shown) < len(steps):
            rows.append(f"({len(steps) - len(shown):,} further steps are in the sums)")
        return "\n".join(rows)

    def plot(self, path: str | None = None) -> Any:
        """Loads of all workers over the steps, the run above the best placement, as a matplotlib figure.

        Parameters
        ----------
        path : str, optional
            File to write (``.png``, ``.pdf``, ``.svg``).
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise InputError('matplotlib is not installed; install the extra "plot" (pip install matplotlib)') from None
        own, other = self.placements()
        start = self.run.schedule.start
        steps = active_steps(start, self.instance.output)[1]
        figure, axes = plt.subplots(2, 1, sharex=True, sharey=True, figsize=(3.4, 3.2), layout="constrained")
        styles = ("-", "--", ":", "-.")
        for axis, name, worker in zip(axes, (self.router, "best placement"), (own, other), strict=True):
            loads = worker_loads(self.instance, self.cluster, Schedule(start, worker))
            axis.fill_between(steps, loads.max(axis=0), step="mid", color="0.88", linewidth=0)
            for g, load in enumerate(loads):
                axis.step(steps, load, where="mid", linewidth=1.2, linestyle=styles[g % 4], label=f"worker {g}")
            axis.set_title(f"{name}: {int(loads.max(axis=0).sum()):,} token-steps", fontsize=8, loc="left")
            axis.set_ylabel("load, tokens", fontsize=8)
            axis.tick_params(labelsize=7)
        axes[1].set_xlabel("step", fontsize=8)
        if self.cluster.workers <= 8:
            axes[0].legend(fontsize=6, frameon=False, ncols=2)
        if path is not None:
            figure.savefig(path, dpi=200)
        return figure

    def __str__(self) -> str:
        return f"{self.picture()}\n\n{self.sentence()}"

    __repr__ = sentence

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def judge(
    router: Any, inst: Instance, cluster: Cluster, time_limit: float = 60.0, origin: str = "", examined: int = 0
) -> BadInstance:
    """Run a router on an instance and put the best placement beside it.

    Parameters
    ----------
    router : str or router
        As in :func:`~balanceroute_opt.compare`; deterministic.
    inst : Instance
        On the step clock.
    cluster : Cluster
    time_limit : float
        Seconds for the proof.
    origin : str
    examined : int

    Raises
    ------
    InputError
        If the router draws random numbers, or the run has preemptions.
    """
    player = Player(router)
    run = player.run(inst, cluster)
    if run.preemptions:
        raise InputError(f"the run had {run.preemptions} preemptions, which the hindsight problems do not model")
    start = run.schedule.start
    best = solve_placement(inst, cluster, start, time_limit=time_limit)
    if best.objective > run.peak_sum:
        best = solve_placement(inst, cluster, start, time_limit=time_limit, warm=run.schedule)
    return BadInstance(player.label, inst, cluster, run, best, origin, examined)
