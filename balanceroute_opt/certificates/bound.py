"""A lower bound together with what it rests on."""

from __future__ import annotations

import html
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from .._validate import Int64Array
from ..errors import CertificateError
from ..instance import Cluster, Instance
from .format import largest_float_below, new_certificate
from .verifier import verify

__all__ = ["Bound"]

_UNIT = {"placement": "token-steps", "schedule": "s", "makespan": "s"}


@dataclass(frozen=True, eq=False, repr=False)
class Bound:
    """A lower bound on the optimum of a hindsight problem, or on all makespans (``docs/model.md``, sections 6-8).

    Attributes
    ----------
    value : int or float
        Placement: token-steps, an integer. Schedule and makespan: seconds, the largest float that is not above `exact`.
    method : str
        ``fluid``, ``item``, ...
    status : {"certified", "claimed"}
        *Certified*: :func:`~balanceroute_opt.verify` reproduces `value` from the certificate. *Claimed*: a
        solver says so.
    certificate : dict or None
        Plain JSON data (``docs/certificates.md``); None if the bound is only claimed.
    problem : {"placement", "schedule", "makespan"}
    exact : int or Fraction
        The bound before rounding.
    instance, cluster : str
        Digests of what the bound is for.
    start : ndarray of int64, shape (n,), or None
        Placement: the given admission steps.
    latest : ndarray of int64, shape (n,), or None
        Schedule: last step in which each request may start; None without a limit.
    windows : str
        Schedule: the limit on starts, in words.
    """

    value: int | float
    method: str
    status: Literal["certified", "claimed"]
    certificate: dict[str, Any] | None
    problem: Literal["placement", "schedule", "makespan"]
    exact: int | Fraction
    instance: str
    cluster: str
    start: Int64Array | None = None
    latest: Int64Array | None = None
    windows: str = ""

    @classmethod
    def placement(
        cls,
        inst: Instance,
        cluster: Cluster,
        start: Int64Array,
        method: str,
        value: int,
        proof: dict[str, Any] | None,
    ) -> Bound:
        """A bound for given starts; `proof` is the certificate's data beside ``start``, None: only claimed."""
        data = None if proof is None else {"start": start.tolist(), **proof}
        certificate = None if data is None else new_certificate("placement", method, inst, cluster, value, data)
        status: Literal["certified", "claimed"] = "claimed" if certificate is None else "certified"
        return cls(value, method, status, certificate, "placement", value, inst.digest(), cluster.digest(), start=start)

    @classmethod
    def schedule(
        cls,
        inst: Instance,
        cluster: Cluster,
        latest: Int64Array | None,
        windows: str,
        method: str,
        value: Fraction,
        data: dict[str, Any] | None,
        kind: str | None = None,
    ) -> Bound:
        """A bound over schedules; `data` is that of a certificate of `kind` (None: `method`), None: only claimed."""
        certificate = None if data is None else new_certificate("schedule", kind or method, inst, cluster, value, data)
        return cls(
            largest_float_below(value),
            method,
            "claimed" if certificate is None else "certified",
            certificate,
            "schedule",
            value,
            inst.digest(),
            cluster.digest(),
            latest=latest,
            windows=windows,
        )

    @classmethod
    def makespan(cls, inst: Instance, cluster: Cluster, value: Fraction, request: int | None) -> Bound:
        """A bound on the makespan of every run on the wall clock, counted on from the arrival of `request`."""
        certificate = new_certificate("makespan", "arrival", inst, cluster, value, {"request": request})
        digests = inst.digest(), cluster.digest()
        return cls(largest_float_below(value), "arrival", "certified", certificate, "makespan", value, *digests)

    def reproduced(self, inst: Instance, cluster: Cluster, who: str = "") -> int | float | None:
        """What the verifier reproduces from the certificate: the value; None if the bound is only claimed.

        Raises
        ------
        CertificateError
            If it is anything else; `who` begins the message.
        """
        if self.certificate is None:
            return None
        proved = verify(inst, cluster, self.certificate)
        if proved != self.value:
            before = f"{who}: " if who else ""
            raise CertificateError(f"{before}the bound {self.method} is {self.value}, its certificate proves {proved}")
        return proved

    def _lines(self) -> list[tuple[str, str]]:
        number = f"{self.value:,}" if isinstance(self.value, int) else f"{self.value:.12g}"
        over = {"placement": "given starts", "makespan": "every run"}.get(
            self.problem, f"start windows: {self.windows}"
        )
        return [
            ("value", f"{number} {_UNIT[self.problem]}"),
            ("method", self.method),
            ("status", self.status),
            ("problem", f"{self.problem} ({over})"),
            ("instance", self.instance[:12]),
            ("cluster", self.cluster[:12]),
        ]

    def __repr__(self) -> str:
        rows = dict(self._lines())
        return f"Bound({rows['problem']} >= {rows['value']}, {self.method}, {self.status})"

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><th style='text-align:left'>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>"
            for k, v in self._lines()
        )
        return f"<table><caption>Lower bound</caption>{body}</table>"
