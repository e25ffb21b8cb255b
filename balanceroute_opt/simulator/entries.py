"""Python's way into the compiled state: what the driver calls around a router in Python (internal)."""

from __future__ import annotations

import numpy as np

from .._jit import compiled
from . import kernel
from .state import ACTIVE, STEP


@compiled
def next_step(s, decided):
    """See kernel.advance."""
    return kernel.advance(s, decided)


@compiled
def admit_chosen(s, wanted, number):
    """Take the requests of ``out_request[:number]``, marked in `wanted`, out of the pool and put them on workers."""
    kernel.take_requests(s, wanted)
    kernel.admit_all(s, number)


@compiled
def bind(s, i, g):
    """See kernel.enqueue."""
    kernel.enqueue(s, i, g)


@compiled
def admit_bound(s):
    """See kernel.admit_queued."""
    kernel.admit_queued(s)


@compiled
def ages(s):
    """Sequence numbers, workers, prompts and ages of the active requests, oldest sequence number first."""
    ids = np.sort(s.members[: s.counts[ACTIVE]])
    return ids, s.worker[ids], s.prompt[ids], s.counts[STEP] - s.start[ids]
