"""Instances and clusters: the frozen, validated input of everything else (``docs/model.md``, section 1)."""

from __future__ import annotations

import hashlib
import html
import json
import math
from dataclasses import dataclass, field
from dataclasses import replace as _replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ._validate import Float64Array, Int64Array, frozen, integer, integers, real, reals
from .errors import InputError
from .steptime import StepTime

__all__ = ["MAX_STEP", "MAX_TOKENS", "Cluster", "Instance", "require_fit", "require_step_clock"]

MAX_TOKENS = 2**31 - 1
"""Most tokens of one prompt or output; keeps every product of two of them inside int64."""

MAX_STEP = 2**53
"""Last step that a release may name; exact in a JSON number of any reader."""

_MAX_WORK = 2**62


@dataclass(frozen=True, eq=False, repr=False)
class Instance:
    """Requests to be routed: one entry per request in every column.

    Parameters
    ----------
    release : array_like, shape (n,)
        ``r_i``: first step at whose start the router can see the request (``clock="step"``,
        integers) or arrival time in seconds (``clock="wall"``, floats); >= 0, in any order.
    prompt : array_like of int, shape (n,)
        ``s_i``: KV tokens that the request brings, 1 .. 2**31 - 1.
    output : array_like of int, shape (n,)
        ``o_i``: tokens that it generates = decode steps that it takes, 1 .. 2**31 - 1.
    key : array_like of int or str, shape (n,), optional
        What a predictor may recognise the request by (prompt hash, session); -1 is no key.
        Strings are mapped to 63-bit hashes, equal strings to equal keys in every process.
    name : str, optional
        Shown in tables; not part of the digest.
    clock : {"step", "wall"}
        Unit of `release`.

    Raises
    ------
    InputError
        Naming the first bad entry: not a whole number, out of range, wrong length, or a total
        work that does not fit int64.

    Notes
    -----
    Columns are read-only copies; the caller's arrays are never written to. Two instances are equal
    if their digests are.

    Examples
    --------
    >>> inst = Instance(release=[0, 0, 3], prompt=[5, 2, 4], output=[3, 2, 1])
    >>> len(inst), inst.total_work
    (3, 27)
    """

    release: Int64Array | Float64Array
    prompt: Int64Array
    output: Int64Array
    key: Int64Array | None = None
    name: str = ""
    clock: Literal["step", "wall"] = "step"

    def __init__(
        self,
        release: ArrayLike,
        prompt: ArrayLike,
        output: ArrayLike,
        key: ArrayLike | None = None,
        name: str = "",
        clock: Literal["step", "wall"] = "step",
    ) -> None:
        if clock not in ("step", "wall"):
            raise InputError(f'clock must be "step" or "wall", got {clock!r}')
        if not isinstance(name, str):
            raise InputError(f"name must be a string, got {name!r}")
        columns: dict[str, Any] = {
            "release": integers(release, "release", 0, MAX_STEP) if clock == "step" else reals(release, "release", 0.0),
            "prompt": integers(prompt, "prompt", 1, MAX_TOKENS),
            "output": integers(output, "output", 1, MAX_TOKENS),
            "key": None if key is None else _keys(key),
        }
        n = len(columns["release"])
        for column in ("prompt", "output", "key"):
            if columns[column] is not None and len(columns[column]) != n:
                raise InputError(f"{column} has {len(columns[column])} entries, release has {n}")
        s, o = columns["prompt"], columns["output"]
        # Floats decide far from the limit; near it the sum is repeated in exact integers.
        if n and float(o.astype(float) @ (s + (o - 1) / 2)) > _MAX_WORK / 2:
            work = sum(int(b) * (2 * int(a) + int(b) - 1) // 2 for a, b in zip(s, o, strict=True))
            if work > _MAX_WORK:
                raise InputError(f"total work must be <= {_MAX_WORK} token-steps to fit int64, got {work}")
        for column, values in columns.items():
            object.__setattr__(self, column, values)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "clock", clock)

    def __len__(self) -> int:
        return len(self.release)

    def __eq__(self, other: object) -> bool:
        return self.digest() == other.digest() if isinstance(other, Instance) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest())

    @property
    def work(self) -> Int64Array:
        """Work of each request, ``o_i*s_i + o_i*(o_i-1)/2`` token-steps, shape (n,)."""
        return self.output * self.prompt + self.output * (self.output - 1) // 2

    @property
    def total_work(self) -> int:
        """Token-steps of all requests, whatever the router does."""
        return int(self.work.sum())

    @property
    def rate(self) -> float:
        """Arrival rate ``(n - 1) / (last - first release)``, requests per second or step; inf at once."""
        if len(self) < 2:
            return math.inf
        span = float(self.release.max() - self.release.min())
        return (len(self) - 1) / span if span > 0 else math.inf

    def replace(self, **changes: Any) -> Instance:
        """A new instance with some columns or fields changed, validated again."""
        fields = {n: getattr(self, n) for n in ("release", "prompt", "output", "key", "name", "clock")}
        unknown = set(changes) - set(fields)
        if unknown:
            raise InputError(f"an instance has no field {sorted(unknown)[0]!r}; fields: {', '.join(fields)}")
        return Instance(**(fields | changes))

    def take(self, index: ArrayLike) -> Instance:
        """The requests `index` (integers, a mask or a slice), in that order."""
        chosen = index if isinstance(index, slice) else np.asarray(index)
        return self.replace(
            release=self.release[chosen],
            prompt=self.prompt[chosen],
            output=self.output[chosen],
            key=None if self.key is None else self.key[chosen],
        )

    def head(self, n: int) -> Instance:
        """The first `n` requests in the order of their release (ties by index)."""
        n = integer(n, "n", 0)
        return self.take(np.argsort(self.release, kind="stable")[:n])

    def utilization(self, cluster: Cluster) -> float:
        """Offered utilization ``lambda * mean(o) * tau_ref / (G*B)`` [ours].

        ``tau_ref = c + (a + b) * B * (total work / total output)`` seconds, or 1 step in the step clock.
        """
        if not len(self):
            return 0.0
        tau = 1.0
        if self.clock == "wall":
            time = cluster.step_time
            per_slot = self.total_work / int(self.output.sum())
            tau = time.fixed + (time.per_token + time.per_mean_token) * cluster.slots * per_slot
        return self.rate * float(self.output.mean()) * tau / (cluster.workers * cluster.slots)

    def scaled_to(self, cluster: Cluster, utilization: float) -> Instance:
        """All release times multiplied by the one factor that makes :meth:`utilization` equal `utilization`.

        Parameters
        ----------
        cluster : Cluster
        utilization : float
            Target, > 0; above 1 the cluster is overloaded.

        Raises
        ------
        InputError
            If `utilization` is not > 0, or all requests arrive at once, so that no factor exists.

        Notes
        -----
        In the step clock the products are rounded to the nearest step (halves up), which keeps order.
        """
        target = real(utilization, "utilization", positive=True)
        now = self.utilization(cluster)
        if not math.isfinite(now) or now <= 0:
            raise InputError("cannot scale to a utilization: the requests do not arrive over a span of time")
        first = self.release.min()
        factor = now / target
        if not math.isfinite(factor * float(self.release.max())):
            raise InputError(f"utilization {target:g} would stretch the arrivals beyond every float")
        scaled = first + (self.release - first) * factor
        if self.clock == "step":
            scaled = np.floor(scaled + 0.5).astype(np.int64)
        return self.replace(release=scaled)

    def to_step_clock(self, seconds_per_step: float) -> Instance:
        """The wall-clock instance on the step clock: ``release = ceil(seconds / seconds_per_step)`` [ours].

        A request is visible at the first step that starts at or after its arrival.
        """
        if self.clock == "step":
            return self
        seconds = real(seconds_per_step, "seconds_per_step", positive=True)
        first = self.release.min() if len(self) else 0.0
        return self.replace(release=np.ceil((self.release - first) / seconds), clock="step")

    def digest(self) -> str:
        """SHA-256 (hex) of clock, columns and keys; the same on every machine."""
        cached = self.__dict__.get("_digest")
        if cached is None:
            sha = hashlib.sha256(f"balanceroute instance 1 {self.clock} {len(self)}\n".encode())
            sha.update(self.release.astype("<i8" if self.clock == "step" else "<f8").tobytes())
            for column in (self.prompt, self.output, self.key):
                sha.update(b"-" if column is None else b"+" + column.astype("<i8").tobytes())
            cached = sha.hexdigest()
            object.__setattr__(self, "_digest", cached)
        return cached

    def __repr__(self) -> str:
        label = f"{self.name!r}, " if self.name else ""
        unit = "steps" if self.clock == "step" else "s"
        if not len(self):
            return f"Instance({label}0 requests)"
        span = self.release.max() - self.release.min()
        return (
            f"Instance({label}{len(self):,} requests over {span:,.6g} {unit}, "
            f"mean prompt {self.prompt.mean():,.1f}, mean output {self.output.mean():,.1f})"
        )

    def _repr_html_(self) -> str:
        unit = "steps" if self.clock == "step" else "s"
        rows = [("requests", f"{len(self):,}"), ("clock", self.clock)]
        if len(self):
            rows.append(("span", f"{float(self.release.max() - self.release.min()):,.6g} {unit}"))
            for column in ("prompt", "output"):
                values = getattr(self, column)
                p50, p99 = np.percentile(values, (50, 99))
                rows.append(
                    (
                        f"{column} tokens, mean / p50 / p99 / max",
                        f"{values.mean():,.1f} / {p50:,.0f} / {p99:,.0f} / {values.max():,}",
                    )
                )
        body = "".join(
            f"<tr><th style='text-align:left'>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows
        )
        return f"<table><caption>{html.escape(self.name or 'Instance')}</caption>{body}</table>"


@dataclass(frozen=True)
class Cluster:
    """A decode cluster of data-parallel workers that advance in lock step.

    Parameters
    ----------
    workers : int
        ``G`` >= 1.
    slots : int
        ``B`` >= 1: most requests that one worker decodes at once.
    kv_capacity : int, optional
        ``C`` >= 1: most KV tokens on one worker; None is no limit.
    step_time : StepTime, optional
        Seconds per step; by default :meth:`StepTime.bfio` of `slots`.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    workers: int
    slots: int
    kv_capacity: int | None = None
    step_time: StepTime = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "workers", integer(self.workers, "workers", 1, 2**20))
        set_(self, "slots", integer(self.slots, "slots", 1, 2**31 - 1))
        if self.kv_capacity is not None:
            set_(self, "kv_capacity", integer(self.kv_capacity, "kv_capacity", 1, 2**53))
        if self.step_time is None:
            set_(self, "step_time", StepTime.bfio(self.slots))
        elif not isinstance(self.step_time, StepTime):
            raise InputError(f"step_time must be a StepTime, got {self.step_time!r}")

    def replace(self, **changes: Any) -> Cluster:
        """A new cluster with some fields changed, validated again."""
        unknown = set(changes) - {"workers", "slots", "kv_capacity", "step_time"}
        if unknown:
            raise InputError(
                f"a cluster has no field {sorted(unknown)[0]!r}; fields: workers, slots, kv_capacity, step_time"
            )
        return _replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data; the inverse is :meth:`from_dict`."""
        time = self.step_time
        return {
            "workers": self.workers,
            "slots": self.slots,
            "kv_capacity": self.kv_capacity,
            "step_time": {"fixed": time.fixed, "per_token": time.per_token, "per_mean_token": time.per_mean_token},
        }

    @classmethod
    def from_dict(cls, data: Any) -> Cluster:
        """A cluster from :meth:`as_dict`; unknown fields are refused by name."""
        if not isinstance(data, dict):
            raise InputError(f"cluster must be an object, got {type(data).__name__}")
        data = dict(data)
        time = data.pop("step_time", None)
        if time is not None:
            _only(time, ("fixed", "per_token", "per_mean_token"), ("fixed", "per_token"), "cluster.step_time")
            time = StepTime(**time)
        _only(data, ("workers", "slots", "kv_capacity"), ("workers", "slots"), "cluster")
        return cls(step_time=time, **data)

    def digest(self) -> str:
        """SHA-256 (hex) of all fields; floats enter by their exact hexadecimal form."""
        time = self.step_time
        fields = [
            self.workers,
            self.slots,
            self.kv_capacity,
            time.fixed.hex(),
            time.per_token.hex(),
            time.per_mean_token.hex(),
        ]
        return hashlib.sha256(json.dumps(["balanceroute cluster 1", *fields]).encode()).hexdigest()


def require_fit(inst: Instance, cluster: Cluster) -> None:
    """Raise InputError if a request can never run on `cluster`, or sums could leave int64.

    A request with ``s_i + o_i > C`` is rejected by name (``docs/model.md``, section 2).
    """
    size = inst.prompt + inst.output
    if cluster.kv_capacity is not None:
        bad = size > cluster.kv_capacity
        if bad.any():
            i = int(np.argmax(bad))
            raise InputError(
                f"request {i} needs {size[i]} KV tokens (prompt {inst.prompt[i]} + output {inst.output[i]}), "
                f"more than kv_capacity = {cluster.kv_capacity}"
            )
    if len(inst) and int(size.sum()) * cluster.workers > _MAX_WORK:
        raise InputError(
            f"workers * total tokens must be <= {_MAX_WORK} to fit int64, got {int(size.sum()) * cluster.workers}"
        )


def require_step_clock(inst: Instance, what: str) -> None:
    """Raise InputError if `inst` is not on the step clock."""
    if inst.clock != "step":
        raise InputError(
            f"{what} works on the step clock, and the instance is on the wall clock; "
            "use the step-clock instance of a run (run.instance) or Instance.to_step_clock()"
        )


def _keys(values: ArrayLike) -> Int64Array:
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"key must have one dimension, got shape {array.shape}")
    if array.dtype.kind in "US" or (array.dtype.kind == "O" and all(isinstance(v, str) for v in array.tolist())):
        digests = {
            v: int.from_bytes(hashlib.blake2b(v.encode(), digest_size=8).digest(), "little") >> 1
            for v in set(array.tolist())
        }
        return frozen(np.array([digests[v] for v in array.tolist()], np.int64))
    return integers(array, "key", -1, 2**63 - 1)


def _only(data: Any, known: tuple[str, ...], needed: tuple[str, ...], where: str) -> None:
    if not isinstance(data, dict):
        raise InputError(f"{where} must be an object, got {type(data).__name__}")
    for name in data:
        if name not in known:
            raise InputError(f"{where} has an unknown field {name!r}; fields: {', '.join(known)}")
    for name in needed:
        if name not in data:
            raise InputError(f"{where} lacks the field {name!r}")
