"""Decisions of the immediate rules, compiled (``docs/model.md``, section 5.5; internal)."""

from __future__ import annotations

from typing import NamedTuple

from ..._jit import inner

RANDOM, ROUND_ROBIN, JSQ, PO2, PO2_TOKENS, VLLM, VLLM_KV, SGLANG_TOKENS, DYNAMO, LLUMNIX, TPU_MINMAX = range(11)
BLOCK = 16


class ImmediateParams(NamedTuple):
    """Which rule."""

    rule: int


@inner
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
    if rule in (JSQ, VLLM):
        return _least_count(4 if rule == VLLM else 1, load, active, queued)
    if rule in (VLLM_KV, LLUMNIX):
        return _least_score(rule, load, active, queued, blocks, queued_blocks, own, capacity)
    # SGLANG_TOKENS and TPU_MINMAX: the request's own prompt, which the latter adds, is the same on every worker.
    return _least_tokens(load, active, queued, queued_tokens)


@inner
def _least_count(weight, load, active, queued):
    """Least ``weight*queued + active``, then load, then index."""
    best = 0
    least = weight * queued[0] + active[0]
    for g in range(1, len(load)):
        value = weight * queued[g] + active[g]
        if value < least or (value == least and load[g] < load[best]):
            best, least = g, value
    return best


@inner
def _least_tokens(load, active, queued, queued_tokens):
    """Least ``load + queued tokens``, then requests, then load, then index."""
    best = 0
    least, requests = load[0] + queued_tokens[0], active[0] + queued[0]
    for g in range(1, len(load)):
        value = load[g] + queued_tokens[g]
        if value > least:
            continue
        number = active[g] + queued[g]
        if value < least or number < requests or (number == requests and load[g] < load[best]):
            best, least, requests = g, value, number
    return best


@inner
def _least_score(rule, load, active, queued, blocks, queued_blocks, own, capacity):
    """The rules that divide: least score, then load, then index."""
    best, least = 0, 0.0
    for g in range(len(load)):
        requests = active[g] + queued[g]
        if rule == VLLM_KV:
            value = max(own[g], requests) + (6 * queued[g]) * max(0.0, load[g] / capacity - 0.5)
        else:
            value = -((capacity // BLOCK - blocks[g] - queued_blocks[g]) / max(1, requests))
        if g == 0 or value < least or (value == least and load[g] < load[best]):
            best, least = g, value
    return best


@inner
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


@inner
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
