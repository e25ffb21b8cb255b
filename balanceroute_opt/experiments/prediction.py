"""Predictors on one trace: fitted on the first part, judged on the rest, and what they do to BR-H."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from ..files import atomic_write
from ..instance import Cluster, Instance
from ..predictors import PREDICTORS, score, split
from ..routers import BRH
from ..simulator import simulate
from ..traces.describe import check_plot
from .specs import nearest

__all__ = ["PUBLISHED", "judge_predictors", "plot_calibration", "predicted_routers", "with_keys"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
# No time of day in a picture.
_NO_DATE: dict[str, dict[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}

PUBLISHED: dict[str, tuple[tuple[str, float, float], ...]] = {
    "survival": (("Azure-2024", 0.993, 5.4), ("proprietary", 0.700, 20.1)),
    "exact-match": (("Azure-2024", 0.995, 5.4), ("proprietary", 0.974, 2.9)),
}
"""Published AUC and mean absolute error (steps) by predictor and trace (Bu et al., arXiv:2605.06113)."""


def with_keys(inst: Instance) -> tuple[Instance, str]:
    """The instance with something to match exactly: its keys, or, without any, its prompt lengths [ours]; and which."""
    if inst.key is not None and (inst.key >= 0).any():
        return inst, "key of the trace"
    return inst.replace(key=inst.prompt), "prompt length"


def predicted_routers(
    inst: Instance, fraction: float, names: Sequence[str] = ("survival", "exact-match"), H: int = 80
) -> tuple[Instance, dict[str, Any]]:
    """BR-H with fitted predictors, to be compared on the part of a trace that they were not fitted on.

    Parameters
    ----------
    inst : Instance
        Without keys, prompt lengths take their place; ``predicted-length`` needs keys that are predicted lengths.
    fraction : float
        Share of the requests, the earliest ones, that is trained on.
    names : sequence of str
        Of :data:`~balanceroute_opt.predictors.PREDICTORS`.
    H : int
        Horizon of BR-H, steps.

    Returns
    -------
    evaluation : Instance
        The later part, with the keys that the predictors go by.
    routers : dict of str to BRH
        ``br-h-survival`` and so on.

    Raises
    ------
    InputError
        If a part is empty, a predictor is unknown, or it cannot be fitted.
    """
    _require_known(names)
    if "predicted-length" in names and inst.key is None:
        raise InputError("predicted-length needs keys that are predicted lengths, and the instance has no keys")
    training, evaluation = split(with_keys(inst)[0], fraction)
    routers = {}
    for name in names:
        router = BRH(H=H, predictor=PREDICTORS[name](training, H))
        router.name = f"br-h-{name}"  # type: ignore[attr-defined]
        routers[f"br-h-{name}"] = router
    return evaluation, routers


def judge_predictors(
    inst: Instance,
    cluster: Cluster,
    fraction: float = 0.5,
    H: int = 80,
    names: Sequence[str] = ("survival", "exact-match"),
    *,
    utilization: float | None = None,
    predicted: ArrayLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Scores on the later part of a trace, and the excess of BR-H with each predictor there.

    Parameters
    ----------
    inst : Instance
    cluster : Cluster
    fraction, H, names
        As in :func:`predicted_routers`, H >= 1.
    utilization : float, optional
        Offered load to which the arrivals of the later part are scaled; None leaves them as they are. Requests
        without arrival times (all at once) are then spaced evenly, in their order [ours].
    predicted : array_like of int, shape (n,), optional
        Predicted output length of each request (-1: none), for ``predicted-length``; by default the keys.
    progress : callable, optional
        Called with the number of finished routers and of all.

    Returns
    -------
    dict
        ``trained``, ``evaluated`` (requests), ``matched`` (what exact match goes by), ``horizon``, ``utilization``
        (offered in the later part; None: all at once), ``spaced`` (arrivals were made up), and ``rows``: one dict per
        router with ``router``, ``predictor``, ``excess`` and ``score``, the
        :class:`~balanceroute_opt.predictors.Score` of a predictor (None for the others).

    Raises
    ------
    InputError
        As :func:`predicted_routers`; if H or the utilization is out of range.
    """
    if H < 1:
        raise InputError(f"H must be >= 1 to judge predictors, got {H}")
    _require_known(names)
    told = inst.key if predicted is None else predicted
    if "predicted-length" in names and told is None:
        raise InputError("predicted-length needs predicted lengths, and the trace has none")
    spaced = utilization is not None and len(inst) > 1 and math.isinf(inst.rate)
    if spaced:
        inst = inst.replace(release=np.arange(len(inst)))
    keyed, matched = with_keys(inst)
    training, evaluation = split(keyed, fraction)
    if utilization is not None:
        evaluation = evaluation.scaled_to(cluster, utilization)
    order = np.argsort(inst.release, kind="stable")
    first = len(training)
    rows: list[dict[str, Any]] = []
    routers = ["br-0", *dict.fromkeys(["oracle", *names])]
    for name in routers:
        result = None
        router: Any = "br-0"
        known, asked = training, evaluation
        if name == "predicted-length":
            lengths = np.asarray(told)[order]
            known, asked = training.replace(key=lengths[:first]), evaluation.replace(key=lengths[first:])
        if name != "br-0":
            predictor = PREDICTORS[name](known, H)
            router = BRH(H=H, predictor=predictor)
            if name != "oracle":
                result = score(predictor, asked, H, training=known)
        excess = simulate(asked, cluster, router).metrics()["excess"]
        label = name if name == "br-0" else "br-h, true lengths" if name == "oracle" else f"br-h, {name}"
        rows.append({"router": label, "predictor": name, "excess": excess, "score": result})
        if progress is not None:
            progress(len(rows), len(routers))
    offered = evaluation.utilization(cluster)
    return {
        "trained": len(training),
        "evaluated": len(evaluation),
        "matched": matched,
        "horizon": H,
        "utilization": offered if math.isfinite(offered) else None,
        "spaced": spaced,
        "rows": rows,
    }


def plot_calibration(judged: dict[str, Any], path: str | os.PathLike[str], force: bool = False) -> None:
    """Observed share of ends against predicted p, one line per predictor; point sizes are shares of pairs.

    Bins with less than one in a thousand of the pairs are left out.

    Parameters
    ----------
    judged : dict
        Of :func:`judge_predictors`.
    path : path-like
        Name in .png, .pdf or .svg; written completely or not at all.
    force : bool
        Replace a file that exists.

    Raises
    ------
    InputError
        If matplotlib is not installed, the name has another suffix, or the file cannot be written.
    """
    check_plot(path, force)
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    entries: list[Any] = [Line2D([], [], color="0.6", linewidth=1, linestyle="--", label="perfect")]
    scored = [row for row in judged["rows"] if row["score"] is not None]
    for row, colour, marker in zip(scored, itertools.cycle(_COLOURS), itertools.cycle("osD^v"), strict=False):
        bins = [b for b in row["score"].calibration if b.pairs * 1000 >= row["score"].pairs]
        x, y = [b.predicted for b in bins], [b.observed for b in bins]
        sizes = [12 + 300 * b.pairs / row["score"].pairs for b in bins]
        axis.plot(x, y, color=colour, linewidth=1)
        axis.scatter(x, y, s=sizes, color=colour, marker=marker, alpha=0.8, clip_on=False, zorder=3)
        entries.append(Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=1, label=row["predictor"]))
    axis.set_xlabel(f"predicted probability of ending within {judged['horizon']} steps")
    axis.set_ylabel("share that did (point size: share of pairs)")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_aspect("equal")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(handles=entries, frameon=False, loc="upper left")
    kind = os.fspath(path).rpartition(".")[2].lower()
    with atomic_write(path, force) as temporary:
        figure.savefig(temporary, format=kind, dpi=160, metadata=_NO_DATE.get(kind))


def _require_known(names: Sequence[str]) -> None:
    for name in names:
        if name not in PREDICTORS:
            raise InputError(f"unknown predictor {name!r}{nearest(name, PREDICTORS)}; known: {', '.join(PREDICTORS)}")
