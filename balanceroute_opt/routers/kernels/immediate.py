"""Decisions of the immediate rules, compiled (``docs/model.md``, section 5.5; internal)."""

from __future__ import annotations

from typing import NamedTuple

from numba import njit

RANDOM, ROUND_ROBIN, JSQ, PO2, PO2_TOKENS, VLLM = range(6)


class ImmediateParams(NamedTuple):
    """Which rule."""

    rule: int


@njit(cache=True)
def bind_request(p, load, active, queued, queued_tokens, bound, rng):
    """Worker of the next request; `bound` counts the requests bound before it."""
    workers = len(load)
    rule = p.rule
    if rule == RANDOM:
        return int(rng.random() * workers)
    if rule == ROUND_ROBIN:
        return bound % workers
    if rule in (PO2, PO2_TOKENS):
        if workers == 1:
            return 0
        a = int(rng.random() * workers)
        b = int(rng.random() * (workers - 1))
        b += b >= a
        if a > b:
            a, b = b, a
        requests = active[b] + queued[b] - active[a] - queued[a]
        if rule == PO2:
            return b if requests < 0 or (requests == 0 and load[b] < load[a]) else a
        tokens = load[b] + queued_tokens[b] - load[a] - queued_tokens[a]
        return b if tokens < 0 or (tokens == 0 and requests < 0) else a
    weight = 4 if rule == VLLM else 1
    best = 0
    least = weight * queued[0] + active[0]
    for g in range(1, workers):
        value = weight * queued[g] + active[g]
        if value < least or (value == least and load[g] < load[best]):
            best, least = g, value
    return best
