"""A schedule as text: who is where, or how loads run over the steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..instance import Cluster, Instance
from ..schedule import Schedule, active_steps, peak_loads

__all__ = ["picture"]

_BARS = " ▁▂▃▄▅▆▇█"
_SIGNS = "0123456789abcdefghijklmnopqrstuvwxyz"


def picture(inst: Instance, cluster: Cluster, sched: Schedule, width: int = 80) -> list[str]:
    """Lines of text: for small schedules one line per slot, for others largest and mean load over the active steps.

    Parameters
    ----------
    width : int
        Columns, at least 40.
    """
    if not len(inst):
        return []
    position, steps = active_steps(sched.start, inst.output)
    room = max(40, width) - 16
    if len(inst) <= len(_SIGNS) and len(steps) <= room:
        return _slots(inst, sched, position, steps)
    change = np.zeros(len(steps) + 1, np.int64)
    np.add.at(change, position, 1)
    np.subtract.at(change, position + inst.output, 1)
    load = np.zeros(len(steps) + 1, np.int64)
    np.add.at(load, position, inst.prompt - position)
    np.subtract.at(load, position + inst.output, inst.prompt - position)
    active = np.cumsum(change[:-1])
    mean = (np.cumsum(load[:-1]) + active * np.arange(len(steps))) / cluster.workers
    peak = peak_loads(inst, cluster, sched).astype(float)
    top = float(peak.max())
    return [
        f"largest load   {_bars(peak, top, room)}",
        f"mean load      {_bars(mean, top, room)}  of {top:,.0f} tokens",
        f"active         {_bars(active.astype(float), cluster.workers * cluster.slots, room)}  "
        f"of {cluster.workers * cluster.slots:,} slots",
        f"{'':14} {len(steps):,} active steps, {steps[0]:,} .. {steps[-1]:,}",
    ]


def _bars(values: NDArray[np.float64], top: float, room: int) -> str:
    """Means of equal stretches, as bars of an eighth of a line."""
    cells = np.array_split(values, min(room, len(values)))
    heights = [round(8 * float(cell.mean()) / top) if top else 0 for cell in cells]
    return "".join(_BARS[min(8, h)] for h in heights)


def _slots(inst: Instance, sched: Schedule, position: NDArray[np.int64], steps: NDArray[np.int64]) -> list[str]:
    """One line per slot that is used; every request by its own sign. A gap in the steps is a bar."""
    lines = []
    breaks = set((np.flatnonzero(np.diff(steps) > 1) + 1).tolist())
    for g in np.unique(sched.worker).tolist():
        slots: list[list[str]] = []
        for i in sorted(np.flatnonzero(sched.worker == g).tolist(), key=lambda i: (position[i], i)):
            begin, end = int(position[i]), int(position[i] + inst.output[i])
            slot = next((s for s in slots if set(s[begin:end]) == {"."}), None)
            if slot is None:
                slot = ["."] * len(steps)
                slots.append(slot)
            slot[begin:end] = _SIGNS[i] * (end - begin)
        for number, slot in enumerate(slots):
            text = "".join(("|" if k in breaks else "") + sign for k, sign in enumerate(slot))
            lines.append(f"{f'worker {g}' if number == 0 else '':14} {text}")
    axis = f"steps {steps[0]:,} .. {steps[-1]:,}" + (", | idle steps left out" if breaks else "")
    return [*lines, f"{'':14} {axis}; one sign per request"]
