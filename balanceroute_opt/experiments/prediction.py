"""Predictors on one trace: fitted on the first part, judged on the rest, and what they do to BR-H."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..instance import Cluster, Instance
from ..predictors import PREDICTORS, score, split
from ..routers import BRH
from ..simulator import simulate
from .specs import nearest

__all__ = ["PUBLISHED", "judge_predictors", "predicted_routers", "with_keys"]

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
    fraction : float
        Share of the requests, the earliest ones, that is trained on.
    names : sequence of str
        Of :data:`~balanceroute_opt.predictors.PREDICTORS`.
    H : int
        Horizon of BR-H, steps.

    Returns
    -------
    evaluation : Instance
        The later part.
    routers : dict of str to BRH
        ``br-h-survival`` and so on.

    Raises
    ------
    InputError
        If a part is empty or a predictor is unknown.
    """
    keyed, _ = with_keys(inst)
    training, evaluation = split(keyed, fraction)
    routers = {}
    for name in names:
        router = BRH(H=H, predictor=_fitted(name, training, H))
        router.name = f"br-h-{name}"  # type: ignore[attr-defined]
        routers[router.name] = router  # type: ignore[attr-defined]
    return evaluation, routers


def judge_predictors(
    inst: Instance,
    cluster: Cluster,
    fraction: float = 0.5,
    H: int = 80,
    names: Sequence[str] = ("survival", "exact-match"),
) -> dict[str, Any]:
    """Scores on the later part of a trace, and the excess of BR-H with each predictor there.

    Parameters
    ----------
    inst : Instance
        As it is to be simulated; its later part is, with its releases.
    cluster : Cluster
    fraction, H, names
        As in :func:`predicted_routers`, H >= 1.

    Returns
    -------
    dict
        ``trained``, ``evaluated`` (requests), ``matched`` (what exact match goes by), ``horizon``, and ``rows``: one
        dict per router with ``router``, ``predictor``, ``excess`` and ``score``, the
        :class:`~balanceroute_opt.predictors.Score` of a predictor (None for the others).
    """
    if H < 1:
        raise InputError(f"H must be >= 1 to judge predictors, got {H}")
    keyed, matched = with_keys(inst)
    training, evaluation = split(keyed, fraction)
    rows: list[dict[str, Any]] = []
    for name in ("br-0", "oracle", *names):
        result = None
        router: Any = "br-0"
        if name != "br-0":
            predictor = _fitted(name, training, H)
            router = BRH(H=H, predictor=predictor)
            if name != "oracle":
                result = score(predictor, evaluation, H, training=training)
        excess = simulate(evaluation, cluster, router).metrics()["excess"]
        label = name if name == "br-0" else "br-h, true lengths" if name == "oracle" else f"br-h, {name}"
        rows.append({"router": label, "predictor": name, "excess": excess, "score": result})
    return {
        "trained": len(training),
        "evaluated": len(evaluation),
        "matched": matched,
        "horizon": H,
        "rows": rows,
    }


def plot_calibration(judged: dict[str, Any], path: Any) -> None:
    """Observed share of ends against predicted p, one line per predictor; point sizes are shares of pairs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axis = plt.subplots(figsize=(4.2, 4.0), layout="constrained")
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="perfect")
    colours, markers = ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), "osD^"
    scored = [row for row in judged["rows"] if row["score"] is not None]
    for position, row in enumerate(scored):
        bins = [b for b in row["score"].calibration if b.pairs]
        size = np.array([b.pairs for b in bins]) / row["score"].pairs
        x, y = [b.predicted for b in bins], [b.observed for b in bins]
        colour = colours[position % len(colours)]
        axis.plot(x, y, color=colour, linewidth=1)
        axis.scatter(
            x, y, s=12 + 300 * size, color=colour, marker=markers[position % 4], label=row["predictor"], alpha=0.8
        )
    axis.set_xlabel(f"predicted probability of ending within {judged['horizon']} steps")
    axis.set_ylabel("share that did")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_aspect("equal")
    legend = axis.legend(frameon=False, loc="upper left")
    for handle in legend.legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([30])
    fig.savefig(path, dpi=160)
    plt.close(fig)


def _fitted(name: str, training: Instance, horizon: int) -> Any:
    if name not in PREDICTORS:
        raise InputError(f"unknown predictor {name!r}{nearest(name, PREDICTORS)}; known: {', '.join(PREDICTORS)}")
    return PREDICTORS[name](training, horizon)
