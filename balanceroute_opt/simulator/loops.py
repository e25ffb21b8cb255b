"""The step loop around each compiled router family (internal)."""

from __future__ import annotations

from numba import njit

from ..routers.kernels.br import br0_decide
from ..routers.kernels.immediate import bind_request
from ..routers.kernels.pooled import least_kv_decide
from .kernel import DECIDE, admit_all, admit_queued, begin_step, copy_view, enqueue, finish_step, waiting
from .state import BOUND, NEXT


@njit(cache=True)
def run_br0(s, p, rng):
    """Run until the driver is needed; returns begin_step's or finish_step's status."""
    status = begin_step(s)
    while status == DECIDE:
        if waiting(s):
            copy_view(s)
            admit_all(s, br0_decide(s.work_load, s.work_free, s.work_room, s.pool, p, s.out_request, s.out_worker))
        status = finish_step(s)
        if status == DECIDE:
            status = begin_step(s)
    return status


@njit(cache=True)
def run_least_kv(s, p, rng):
    """As run_br0, for the rules that serve the pool in order."""
    status = begin_step(s)
    while status == DECIDE:
        if waiting(s):
            copy_view(s)
            number = least_kv_decide(
                s.work_load, s.work_free, s.work_room, s.pool, s.limited, s.out_request, s.out_worker
            )
            admit_all(s, number)
        status = finish_step(s)
        if status == DECIDE:
            status = begin_step(s)
    return status


@njit(cache=True)
def run_immediate(s, p, rng):
    """As run_br0, for the rules that bind every request when it becomes visible."""
    status = begin_step(s)
    while status == DECIDE:
        stale = s.staleness > 0
        load = s.seen_load if stale else s.load
        active = s.seen_active if stale else s.active
        queued = s.seen_queued if stale else s.queued
        tokens = s.seen_tokens if stale else s.queued_tokens
        for i in range(s.counts[BOUND], s.counts[NEXT]):
            enqueue(s, i, bind_request(p, load, active, queued, tokens, s.counts[BOUND], rng))
        admit_queued(s)
        status = finish_step(s)
        if status == DECIDE:
            status = begin_step(s)
    return status


LOOPS = {"br-0": run_br0, "least-kv": run_least_kv, "immediate": run_immediate}
