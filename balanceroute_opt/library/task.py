"""What a problem of the library is: what a schedule costs in it, and what a certificate proves about it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._validate import Int64Array
from ..certificates import verify
from ..errors import CertificateError, InputError, InvalidSchedule
from ..instance import Cluster, Instance
from ..schedule import Schedule, check, decode_time, peak_sum
from .recipes import starts_digest
from .registry import Problem

__all__ = ["Task"]


class _Instance(Protocol):
    """An entry of the library, as far as a problem needs it."""

    name: str

    @property
    def inst(self) -> Instance: ...

    @property
    def cluster(self) -> Cluster: ...

    @property
    def start(self) -> Int64Array | None: ...


@dataclass(frozen=True)
class Task:
    """One problem of an entry: what it is, what a schedule costs in it, what a certificate proves about it."""

    entry: _Instance
    problem: Problem
    windows: str

    def facts(self) -> dict[str, Any]:
        """The columns of the registry that follow from the instance."""
        inst, cluster = self.entry.inst, self.entry.cluster
        given = self._given() if self.problem == "placement" or self.windows == "latest=start" else None
        return {
            "n": len(inst),
            "workers": cluster.workers,
            "slots": cluster.slots,
            "instance": inst.digest(),
            "cluster": cluster.digest(),
            "given": starts_digest(given),
        }

    def _given(self) -> Int64Array:
        start = self.entry.start
        if start is None:
            raise InputError(f"{self.entry.name}: has no starts, and its {self.problem} problem needs them")
        return start

    def _latest(self) -> Int64Array | None:
        if self.windows == "latest=start":
            return self._given()
        if self.windows == "none":
            return None
        return self.entry.inst.release.astype(np.int64) + int(self.windows.removeprefix("max_wait="))

    def price(self, sched: Schedule) -> int | float:
        """Objective of a schedule that solves this problem, or InvalidSchedule."""
        inst, cluster = self.entry.inst, self.entry.cluster
        check(inst, cluster, sched)
        if self.problem == "placement":
            _none(
                sched.start != self._given(),
                lambda i: f"request {i} starts in step {sched.start[i]}, and its given start is {self._given()[i]}",
            )
            return peak_sum(inst, cluster, sched)
        latest = self._latest()
        if latest is not None:
            _none(
                sched.start > latest,
                lambda i: f"request {i} starts in step {sched.start[i]}, later than {latest[i]} ({self.windows})",
            )
        return decode_time(inst, cluster, sched)

    def proved(self, certificate: dict[str, Any]) -> int | float:
        """The lower bound on this problem that a certificate proves, or CertificateError."""
        if certificate.get("problem") != self.problem:
            raise CertificateError(f"the certificate is about {certificate.get('problem')}, not {self.problem}")
        proved = verify(self.entry.inst, self.entry.cluster, certificate)
        if math.isinf(proved):
            raise CertificateError("the certificate is of a problem without a solution, and the library holds none")
        data = certificate["data"]
        if self.problem == "placement":
            if data["start"] != self._given().tolist():
                raise CertificateError("the certificate is for other starts than the given ones")
            return proved
        wide = self._windows_of(data)
        latest = self._latest()
        # What holds for all schedules with wider windows holds for these.
        if wide is not None and (latest is None or (wide < latest).any()):
            raise CertificateError(f"the certificate is for narrower windows than {self.windows}")
        return proved

    def _windows_of(self, data: dict[str, Any]) -> Int64Array | None:
        limits = []
        if data.get("max_wait") is not None:
            limits.append(self.entry.inst.release.astype(np.int64) + data["max_wait"])
        if data.get("latest") is not None:
            limits.append(np.array(data["latest"], np.int64))
        return np.minimum.reduce(limits) if limits else None


def _none(bad: NDArray[np.bool_], words: Callable[[int], str]) -> None:
    """Raise InvalidSchedule about the first request that is bad."""
    if bad.any():
        raise InvalidSchedule(words(int(np.argmax(bad))))
