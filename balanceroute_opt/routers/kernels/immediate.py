"""Decisions of the immediate rules, compiled (``docs/model.md``, section 5.5; internal)."""

from __future__ import annotations

from typing import NamedTuple

from ..._jit import compiled

RANDOM, ROUND_ROBIN, JSQ, PO2, PO2_TOKENS, VLLM, VLLM_KV, SGLANG_TOKENS, DYNAMO, LLUMNIX, TPU_MINMAX = range(11)
BLOCK = 16


class ImmediateParams(NamedTuple):
    """Which rule."""

    rule: int


@compiled
def bind_request(p, load, active, queued, queued_tokens, blocks, queued_blocks, own, capacity, bound, rng):
    """Worker of the next request.

    `own` counts the requests of this router on each worker that did not end; `bound` those bound before this one.
    """
    workers = len(load)
    rule = p.rule
    if rule == RANDOM:
        return int(rng.random() * workers)
    if rule == ROUND_ROBIN:
        return bound % workers
    if rule in (PO2, PO2_TOKENS):
        return _two_choices(rule, load, active, queued, queued_tokens, rng)
    if rule == DYNAMO:
        return _least_blocks(blocks, queued_blocks, rng)
    best = 0
    first, second = _score(rule, 0, load, active, queued, queued_tokens, blocks, queued_blocks, own, capacity)
    for g in range(1, workers):
        a, b = _score(rule, g, load, active, queued, queued_tokens, blocks, queued_blocks, own, capacity)
        if a < first or (a == first and (b < second or (b == second and load[g] < load[best]))):
            best, first, second = g, a, b
    return best


@compiled
def _score(rule, g, load, active, queued, queued_tokens, blocks, queued_blocks, own, capacity):
    """What the rule minimises, and what decides its ties before load and index do.

    Integers stay below 2**53, so that float64 holds them exactly.
    """
    requests = active[g] + queued[g]
    if rule == JSQ:
        return float(requests), 0
    if rule == VLLM:
        return float(4 * queued[g] + active[g]), 0
    if rule == VLLM_KV:
        return max(own[g], requests) + (6 * queued[g]) * max(0.0, load[g] / capacity - 0.5), 0
    if rule == LLUMNIX:
        free = capacity // BLOCK - blocks[g] - queued_blocks[g]
        return -(free / max(1, requests)), 0
    # SGLANG_TOKENS and TPU_MINMAX: the request's own prompt, which the latter adds, is the same on every worker.
    return float(load[g] + queued_tokens[g]), requests


@compiled
def _two_choices(rule, load, active, queued, queued_tokens, rng):
    workers = len(load)
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


@compiled
def _least_blocks(blocks, queued_blocks, rng):
    """Fewest KV blocks; a random one of those that tie."""
    least, ties = blocks[0] + queued_blocks[0], 0
    for g in range(len(blocks)):
        value = blocks[g] + queued_blocks[g]
        if value < least:
            least, ties = value, 1
        elif value == least:
            ties += 1
    chosen = int(rng.random() * ties) if ties > 1 else 0
    for g in range(len(blocks)):
        if blocks[g] + queued_blocks[g] == least:
            if chosen == 0:
                return g
            chosen -= 1
    return 0
