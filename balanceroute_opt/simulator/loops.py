"""The step loop around each compiled router family (internal)."""

from __future__ import annotations

from .._jit import compiled, inner
from ..routers.kernels.bfio import bfio_decide
from ..routers.kernels.bfio_heuristic import heuristic_decide
from ..routers.kernels.br import br0_decide, brh_decide
from ..routers.kernels.deferral import deferral_decide
from ..routers.kernels.immediate import bind_request
from ..routers.kernels.pooled import least_kv_decide, trtllm_decide
from .kernel import DECIDE, admit_all, admit_queued, advance, copy_view, enqueue, waiting
from .projection import add_admissions, advance_projection, show_projection
from .state import BOUND, NEXT, STEP


@compiled
def run_br0(s, p, rng):
    """Run until the driver is needed; returns the status of advance."""
    status = advance(s, False)
    while status == DECIDE:
        if waiting(s):
            copy_view(s)
            admit_all(s, br0_decide(s.work_load, s.work_free, s.work_room, s.pool, p, s.out_request, s.out_worker))
        status = advance(s, True)
    return status


@inner
def decide_brh(s, p):
    """One step's admissions by BR-H."""
    advance_projection(s, p.projection, p.rule.horizon)
    number = 0
    if waiting(s):
        copy_view(s)
        show_projection(s, p.projection, p.rule.projected)
        number = brh_decide(s.work_free, s.work_room, s.pool, p.rule, s.out_request, s.out_worker)
    add_admissions(s, p.projection, number)
    admit_all(s, number)


@compiled
def run_brh(s, p, rng):
    """As run_br0, with projected loads; for predictors that are compiled."""
    status = advance(s, False)
    while status == DECIDE:
        decide_brh(s, p)
        status = advance(s, True)
    return status


@inner
def decide_bfio(s, p):
    """As decide_brh, by BF-IO."""
    advance_projection(s, p.projection, p.rule.horizon)
    number = 0
    if waiting(s):
        copy_view(s)
        show_projection(s, p.projection, p.rule.projected)
        number = bfio_decide(s.work_free, s.work_room, s.pool, p.rule, s.out_request, s.out_worker)
    add_admissions(s, p.projection, number)
    admit_all(s, number)


@compiled
def run_bfio(s, p, rng):
    """As run_brh, with the step problem solved exactly."""
    status = advance(s, False)
    while status == DECIDE:
        decide_bfio(s, p)
        status = advance(s, True)
    return status


@inner
def decide_heuristic(s, p):
    """As decide_brh, by the released BF-IO heuristic."""
    advance_projection(s, p.projection, p.rule.horizon)
    number = 0
    if waiting(s):
        copy_view(s)
        show_projection(s, p.projection, p.rule.projected)
        number = heuristic_decide(s.work_free, s.work_room, s.pool, p.rule, s.out_request, s.out_worker)
    add_admissions(s, p.projection, number)
    admit_all(s, number)


@compiled
def run_heuristic(s, p, rng):
    """As run_brh, for the released BF-IO heuristic."""
    status = advance(s, False)
    while status == DECIDE:
        decide_heuristic(s, p)
        status = advance(s, True)
    return status


@compiled
def run_least_kv(s, p, rng):
    """As run_br0, for the rules that serve the pool in order."""
    status = advance(s, False)
    while status == DECIDE:
        if waiting(s):
            copy_view(s)
            number = least_kv_decide(
                s.work_load, s.work_free, s.work_room, s.pool, s.limited, s.out_request, s.out_worker
            )
            admit_all(s, number)
        status = advance(s, True)
    return status


@compiled
def run_deferral(s, p, rng):
    """As run_br0, for the rule that lets requests wait for a margin."""
    status = advance(s, False)
    while status == DECIDE:
        if waiting(s):
            copy_view(s)
            number = deferral_decide(
                s.work_load,
                s.work_free,
                s.work_room,
                s.slots,
                s.pool,
                p,
                s.counts[STEP],
                s.out_request,
                s.out_worker,
            )
            admit_all(s, number)
        status = advance(s, True)
    return status


@compiled
def run_trtllm(s, p, rng):
    """As run_br0, for TensorRT-LLM's balance."""
    status = advance(s, False)
    while status == DECIDE:
        if waiting(s):
            copy_view(s)
            number = trtllm_decide(
                s.work_load, s.work_active, s.work_free, s.work_room, s.pool, s.out_request, s.out_worker
            )
            admit_all(s, number)
        status = advance(s, True)
    return status


@compiled
def run_immediate(s, p, rng):
    """As run_br0, for the rules that bind every request when it becomes visible."""
    stale = s.staleness > 0
    load = s.seen_load if stale else s.load
    active = s.seen_active if stale else s.active
    queued = s.seen_queued if stale else s.queued
    tokens = s.seen_tokens if stale else s.queued_tokens
    blocks = s.seen_blocks if stale else s.blocks
    queued_blocks = s.seen_queued_blocks if stale else s.queued_blocks
    own = s.work_active
    status = advance(s, False)
    while status == DECIDE:
        for g in range(s.workers):
            own[g] = s.active[g] + s.queued[g]
        for i in range(s.counts[BOUND], s.counts[NEXT]):
            bound = s.counts[BOUND]
            g = bind_request(p, load, active, queued, tokens, blocks, queued_blocks, own, s.capacity, bound, rng)
            own[g] += 1
            enqueue(s, i, g)
        admit_queued(s)
        status = advance(s, True)
    return status


@compiled
def step_brh(s, p):
    """decide_brh, for a loop in Python."""
    decide_brh(s, p)


@compiled
def step_bfio(s, p):
    """decide_bfio, for a loop in Python."""
    decide_bfio(s, p)


@compiled
def step_heuristic(s, p):
    """decide_heuristic, for a loop in Python."""
    decide_heuristic(s, p)


# One step of the rules that predict, for predictors that are Python objects.
PREDICTED = {"br-h": step_brh, "bf-io": step_bfio, "bf-io-heuristic": step_heuristic}

LOOPS = {
    "br-0": run_br0,
    "br-h": run_brh,
    "bf-io": run_bfio,
    "bf-io-heuristic": run_heuristic,
    "least-kv": run_least_kv,
    "deferral": run_deferral,
    "trtllm-adp": run_trtllm,
    "immediate": run_immediate,
}
