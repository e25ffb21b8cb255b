"""From an instance as it was read or generated to the one that is simulated."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from .._validate import integer, real
from ..errors import InputError
from ..instance import Cluster, Instance

__all__ = ["describe", "plain", "prepare", "seconds_per_step", "shuffled_blocks"]


def prepare(
    inst: Instance,
    cluster: Cluster,
    *,
    head: int | None = None,
    clock: Literal["step", "wall"] | None = None,
    utilization: float | None = None,
) -> Instance:
    """The first requests of an instance, on the wanted clock, at the wanted offered load.

    Parameters
    ----------
    inst : Instance
    cluster : Cluster
    head : int, optional
        Keep the first requests only, >= 1.
    clock : {"step", "wall"}, optional
        None keeps the instance's own. From seconds to steps: :func:`seconds_per_step`.
    utilization : float, optional
        Offered utilization (``docs/model.md``, section 3), > 0, reached by one factor on all arrivals;
        None keeps the arrivals as they are.

    Returns
    -------
    Instance

    Raises
    ------
    InputError
        If an option is out of range, steps are asked to become seconds, or the arrivals have no rate.
    """
    if head is not None:
        if head < 1:
            raise InputError(f"head must be >= 1, got {head}")
        inst = inst.head(head)
    if utilization is not None:
        utilization = real(utilization, "utilization", positive=True)
    if clock == "wall" and inst.clock == "step":
        raise InputError("the requests arrive at steps, not seconds: clock must be step")
    if clock == "step" and inst.clock == "wall":
        return inst.to_step_clock(seconds_per_step(inst, cluster, utilization))
    return inst if utilization is None else inst.scaled_to(cluster, utilization)


def seconds_per_step(inst: Instance, cluster: Cluster, utilization: float | None = None) -> float:
    """Seconds that one step stands for when a wall-clock instance is put on the step clock [ours].

    With a `utilization` u, the number for which the step-clock utilization ``lambda * mean(o) / (G*B)`` is u;
    without one ``tau_ref = c + (a + b) * B * (total work / total output)``, which keeps the offered load.

    Raises
    ------
    InputError
        If the arrivals have no rate, or a step would take no time.
    """
    if not len(inst) or math.isinf(inst.rate):
        raise InputError("cannot go from seconds to steps: the requests do not arrive over a span of time")
    if utilization is not None:
        slots = cluster.workers * cluster.slots
        return real(utilization, "utilization", positive=True) * slots / (float(inst.output.mean()) * inst.rate)
    time = cluster.step_time
    per_slot = inst.total_work / int(inst.output.sum())
    tau = time.fixed + (time.per_token + time.per_mean_token) * cluster.slots * per_slot
    if tau <= 0:
        raise InputError("cannot go from seconds to steps: by this step time a step takes 0 s; give a utilization")
    return tau


def shuffled_blocks(inst: Instance, seed: int, blocks: int = 20) -> Instance:
    """A second sample of a trace: its blocks of consecutive requests in a random order [ours].

    A request keeps its lengths, its key and the gap before it, so that load, lengths and what neighbours have in common
    stay. Samples of one trace hold the same requests: they tell the luck of the order, not that of another day.

    Parameters
    ----------
    inst : Instance
    seed : int
        >= 0.
    blocks : int
        Blocks of nearly equal size in the order of release, >= 1; with fewer requests than blocks some are empty.

    Returns
    -------
    Instance
        In the order of release. The first release is the gap before the request that comes first now.

    Raises
    ------
    InputError
        If an option is out of range.

    Examples
    --------
    >>> inst = Instance(release=[10, 12, 15, 19], prompt=[1, 2, 3, 4], output=[1, 1, 1, 1])
    >>> other = shuffled_blocks(inst, seed=3, blocks=2)
    >>> other.prompt.tolist(), other.release.tolist()
    ([3, 4, 1, 2], [3, 7, 7, 9])
    """
    ordered = inst.take(np.argsort(inst.release, kind="stable"))
    parts = np.array_split(np.arange(len(inst)), integer(blocks, "blocks", 1))
    order = np.random.default_rng(integer(seed, "seed", 0)).permutation(len(parts))
    chosen = np.concatenate([parts[b] for b in order])
    gaps = np.diff(ordered.release, prepend=ordered.release[:1])
    return ordered.take(chosen).replace(release=np.cumsum(gaps[chosen]))


def describe(inst: Instance, cluster: Cluster) -> dict[str, Any]:
    """What a table says about its workload: plain data, None where there is no number."""
    utilization = inst.utilization(cluster)
    return {
        "name": inst.name or "instance",
        "requests": len(inst),
        "clock": inst.clock,
        "utilization": utilization if math.isfinite(utilization) else None,
        "mean_prompt": float(inst.prompt.mean()) if len(inst) else None,
        "mean_output": float(inst.output.mean()) if len(inst) else None,
        "digest": inst.digest(),
    }


def plain(value: Any) -> Any:
    """`value` for JSON: lists for tuples, and None for every float that is not finite."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
