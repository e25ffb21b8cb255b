"""Lower bounds on the largest load of each step by itself: the terms of the bounds on placements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .._validate import Int64Array, frozen, integer
from ..errors import InputError
from ..instance import Cluster, Instance
from .given import active_axis

__all__ = ["PlacementMethod", "StepBounds", "step_bounds"]

PlacementMethod = Literal["fluid", "item", "pigeonhole", "migration", "window"]

_PLACEMENT = ("fluid", "item", "pigeonhole", "migration", "window")
_VERIFIED_NODES = 10**6  # of all searches that one certificate asks the verifier to repeat


@dataclass(frozen=True)
class StepBounds:
    """Lower bounds on ``max_g L_g(k)`` of every active step.

    Attributes
    ----------
    step : ndarray of int64, shape (K,)
        The active steps.
    peak : ndarray of int64, shape (K,), tokens
    proof : ndarray of int64, shape (K,)
        Nodes of the search that proves a value above ``pigeonhole``; 0 where none is needed.
    closed : ndarray of bool, shape (K,)
        The value is known to be the optimum of the step alone (``migration`` only; elsewhere False).
    """

    step: Int64Array
    peak: Int64Array
    proof: Int64Array
    closed: NDArray[np.bool_]


def step_bounds(
    inst: Instance, cluster: Cluster, start: Int64Array, method: PlacementMethod, node_limit: int = 20_000
) -> StepBounds:
    """The terms of :func:`~balanceroute_opt.placement_bound`, step by step; `start` is validated (``given.py``)."""
    if method not in _PLACEMENT or method == "window":
        raise InputError(f"unknown method {method!r}; methods: {', '.join(_PLACEMENT)}")
    nodes = integer(node_limit, "node_limit", 1)
    steps, position, total = active_axis(inst, cluster, start)
    peak = -(total // -cluster.workers)
    proof, closed = np.zeros(len(steps), np.int64), np.zeros(len(steps), np.bool_)
    if method != "fluid" and len(steps):
        from . import _kernels

        offset, end = inst.prompt - position, position + inst.output
        order = np.argsort(-offset, kind="stable")
        largest = _kernels.largest_offset(order, position, end, offset, len(steps))
        np.maximum(peak, largest + np.arange(len(steps)), out=peak)
        if method != "item":
            by_start, by_end = np.argsort(position, kind="stable"), np.argsort(end, kind="stable")
            axis = (by_start, by_end, position, end, offset, cluster.workers, cluster.slots)
            _kernels.pigeonhole(*axis, peak)
            if method == "migration":
                before = peak.copy()
                proof, closed = _kernels.migration(*axis, peak, nodes)
                _drop_dear_proofs(before, peak, proof, closed)
    return StepBounds(steps, frozen(peak), frozen(proof), frozen(closed))


def _drop_dear_proofs(before: Int64Array, peak: Int64Array, proof: Int64Array, closed: NDArray[np.bool_]) -> None:
    """Undo, in place, the proofs that gain least per node beyond the verifier's budget."""
    raised = np.flatnonzero(proof)
    order = raised[np.argsort((before[raised] - peak[raised]) / proof[raised], kind="stable")]
    dear = order[np.cumsum(proof[order]) > _VERIFIED_NODES]
    peak[dear], proof[dear], closed[dear] = before[dear], 0, False
