"""The verifier: what a certificate proves, in integers and rationals, with no solver and no compiled code.

It shares no code with the bounds that it checks. Section numbers are those of ``docs/model.md``; format and
proofs are in ``docs/certificates.md``. To check it, read this file, ``_placement.py``, ``_tree.py`` and
``_schedule.py``; ``format.py`` reads a certificate and compares its digests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

from ..errors import CertificateError
from ..instance import Cluster, Instance, require_fit
from . import _placement, _schedule, _tree
from .format import about, largest_float_below, show

__all__ = ["verify"]

_PROOFS: dict[tuple[str, str], Callable[[Instance, Cluster, Any], int | float | Fraction]] = {
    **{("placement", kind): partial(_placement.per_step, kind) for kind in _placement.PER_STEP},
    **{("placement", kind): _tree.tree for kind in ("window", "tree")},
    ("placement", "enumeration"): _tree.enumeration,
    ("placement", "infeasible"): _placement.infeasible,
    **{("schedule", kind): getattr(_schedule, kind) for kind in ("fluid", "lagrangian", "forced", "infeasible")},
    ("schedule", "placement"): lambda inst, cluster, data: _placed(inst, cluster, data),
    ("makespan", "arrival"): _schedule.arrival,
}


def _placed(inst: Instance, cluster: Cluster, data: Any) -> Fraction:
    """Forced starts, and what a proof of the placement problem says about them."""

    def placement(start: list[int], kind: Any, proof: Any) -> Any:
        rule = _PROOFS.get(("placement", str(kind)))
        if rule is None or not isinstance(proof, dict) or proof.get("start") != start:
            raise CertificateError(f"data.proof is no placement proof of kind {show(kind)} for the last starts")
        return rule(inst, cluster, proof)

    return _schedule.forced(inst, cluster, data, placement)


def verify(inst: Instance, cluster: Cluster, certificate: dict[str, Any] | str | os.PathLike[str]) -> int | float:
    """What `certificate` proves about `inst` on `cluster`.

    Parameters
    ----------
    inst : Instance
        On the step clock; for makespans on the wall clock.
    cluster : Cluster
    certificate : dict or path
        The certificate, or a ``.json`` or ``.json.gz`` file that holds it.

    Returns
    -------
    int or float
        The certified lower bound: token-steps (placement), or seconds (schedule, makespan; the largest
        float that is not above the exact rational). ``math.inf``: there is no solution at all.

    Raises
    ------
    CertificateError
        If the certificate is malformed, of a newer schema, for another instance or cluster, or proves
        less than it claims.
    InputError
        If the file cannot be read, or the instance is on the other clock.
    """
    require_fit(inst, cluster)
    problem, kind, claim, data = about(certificate, inst, cluster)
    proof = _PROOFS.get((problem, kind))
    if proof is None:
        known = ", ".join(f"{p} {k}" for p, k in _PROOFS)
        raise CertificateError(f"no proof is known of kind {show(f'{problem} {kind}')}; kinds: {known}")
    proved = proof(inst, cluster, data)
    if claim > proved:
        raise CertificateError(f"the certificate claims {show(claim)} and proves {show(proved)}")
    return largest_float_below(proved) if isinstance(proved, Fraction) else proved
