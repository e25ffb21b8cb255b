"""What the hindsight problems are given, validated: starts or start windows, and the axis of active steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._validate import Int64Array, frozen, integer, integers
from ..errors import InputError
from ..instance import MAX_STEP, Cluster, Instance, require_fit, require_step_clock
from ..schedule import active_steps

__all__ = ["active_axis", "given_starts", "least_steps", "start_windows", "window_data"]


def given_starts(inst: Instance, cluster: Cluster, start: ArrayLike) -> Int64Array:
    """Validated admission steps of P1: whole numbers, one per request, none before its release."""
    require_step_clock(inst, "a placement bound")
    require_fit(inst, cluster)
    t = integers(start, "start", 0, 2**62)
    if len(t) != len(inst):
        raise InputError(f"start has {len(t)} entries, the instance {len(inst)} requests")
    early = t < inst.release
    if early.any():
        i = int(np.argmax(early))
        raise InputError(f"request {i} starts in step {t[i]}, before its release {inst.release[i]}")
    return t


def start_windows(
    inst: Instance, cluster: Cluster, max_wait: int | None, latest: ArrayLike | None
) -> tuple[Int64Array | None, str]:
    """Last start ``d_i`` of each request of P2 (None: no limit), and the windows in words."""
    require_step_clock(inst, "a schedule bound")
    require_fit(inst, cluster)
    last: Int64Array | None = None
    words = []
    if max_wait is not None:
        wait = integer(max_wait, "max_wait", 0, MAX_STEP)
        last = frozen(inst.release + wait)
        words.append(f"max_wait = {wait}")
    if latest is not None:
        given = integers(latest, "latest", 0, 2**62)
        if len(given) != len(inst):
            raise InputError(f"latest has {len(given)} entries, the instance {len(inst)} requests")
        early = given < inst.release
        if early.any():
            i = int(np.argmax(early))
            raise InputError(f"latest[{i}] = {given[i]} lies before the release {inst.release[i]} of request {i}")
        last = given if last is None else frozen(np.minimum(last, given))
        words.append("latest")
    return last, " and ".join(words) or "no limit"


def least_steps(inst: Instance, cluster: Cluster, last: Int64Array | None) -> int:
    """``K_min``: active steps that no schedule with these windows goes below."""
    if not len(inst):
        return 0
    least = max(int(inst.output.max()), -(int(inst.output.sum()) // -(cluster.workers * cluster.slots)))
    if last is None:
        return least
    end = inst.release + inst.output
    must = np.flatnonzero(last < end)
    if not len(must):
        return least
    order = must[np.argsort(last[must], kind="stable")]
    first, reach = last[order], np.maximum.accumulate(end[order])
    before = np.concatenate((first[:1], reach[:-1]))
    return max(least, int(np.maximum(reach - np.maximum(first, before), 0).sum()))


def window_data(max_wait: int | None, latest: ArrayLike | None) -> dict[str, Any]:
    """Windows as they stand in every certificate of a schedule problem."""
    return {
        "max_wait": None if max_wait is None else int(max_wait),
        "latest": None if latest is None else integers(latest, "latest", 0, 2**62).tolist(),
    }


def active_axis(inst: Instance, cluster: Cluster, start: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """The active steps, each request's position on their axis, and the total load of each step."""
    position, steps = active_steps(start, inst.output)
    count = len(steps)
    begin, end = position, position + inst.output
    number, offset = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    np.add.at(number, begin, 1)
    np.subtract.at(number, end, 1)
    np.add.at(offset, begin, inst.prompt - begin)
    np.subtract.at(offset, end, inst.prompt - begin)
    active = np.cumsum(number[:-1])
    over = active > cluster.workers * cluster.slots
    if over.any():
        p = int(np.argmax(over))
        raise InputError(
            f"step {steps[p]} has {active[p]} active requests, more than workers * slots = "
            f"{cluster.workers * cluster.slots}: no placement exists for these starts"
        )
    return steps, position, np.cumsum(offset[:-1]) + active * np.arange(count)
