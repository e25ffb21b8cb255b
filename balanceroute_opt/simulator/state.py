"""State of a running simulation: plain arrays that every compiled function and every view share (internal).

Requests are numbered by their sequence: by release, then by index. All loads are kept incrementally:
a step adds to each worker the number of its requests, a calendar of ends takes finished requests off,
so that a step costs O(workers) and a request O(1), however many tokens it has.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._validate import Float64Array, Int64Array
from ..errors import InputError
from ..instance import Cluster, Instance
from ..routers.kernels.pool import Pool, make_pool

NO_CAPACITY = 2**62
LOG_CHUNK = 1 << 14
_MAX_OUTPUT = 10**8

# Positions in State.counts
STEP, NEXT, BOUND, ACTIVE, WAITING, LOGGED, PREEMPTED, SNAPSHOT, GONE, COUNTS = range(10)
# Positions in State.clock
TIME, SNAPSHOT_TIME = range(2)


class StepLog(NamedTuple):
    """One entry per executed step; filled in chunks and drained by the driver."""

    step: Int64Array
    time: Float64Array
    peak: Int64Array
    total: Int64Array
    least: Int64Array
    active: Int64Array
    most_active: Int64Array
    least_active: Int64Array
    energy: Float64Array


class State(NamedTuple):
    """Everything that the step loop knows; request columns are in sequence order."""

    workers: int
    slots: int
    capacity: int
    limited: bool
    wall: bool
    immediate: bool
    staleness: float
    optimistic: bool
    fixed: float
    per_token: float
    per_mean_token: float
    # requests
    arrive_step: Int64Array
    arrive_time: Float64Array
    prompt: Int64Array
    output: Int64Array
    origin: Int64Array
    start: Int64Array
    first: Int64Array
    worker: Int64Array
    seen: Int64Array
    # workers
    load: Int64Array
    active: Int64Array
    queued: Int64Array
    queued_tokens: Int64Array
    seen_load: Int64Array
    seen_active: Int64Array
    seen_queued: Int64Array
    seen_tokens: Int64Array
    seen_blocks: Int64Array
    seen_queued_blocks: Int64Array
    # sub-block phases of the requests on each worker, for rules that count KV blocks of 16 tokens
    phase: Int64Array
    blocks: Int64Array
    queued_blocks: Int64Array
    # calendar of ends: doubly linked lists, one per step modulo a power of two
    ring: Int64Array
    ring_next: Int64Array
    ring_prev: Int64Array
    # per worker, its requests in order of admission (only with a capacity)
    youngest: Int64Array
    older: Int64Array
    newer: Int64Array
    # queues of immediate routers
    queue_head: Int64Array
    queue_tail: Int64Array
    queue_next: Int64Array
    # active requests without order: members[0 .. ACTIVE)
    members: Int64Array
    member_at: Int64Array
    gone: Int64Array
    # decision of the current step; work_active is also what an immediate router knows that it has in flight
    out_request: Int64Array
    out_worker: Int64Array
    work_load: Int64Array
    work_active: Int64Array
    work_free: Int64Array
    work_room: Int64Array
    pool: Pool
    log: StepLog
    counts: Int64Array
    clock: Float64Array


def make_state(
    inst: Instance,
    cluster: Cluster,
    *,
    immediate: bool,
    staleness: float,
    optimistic: bool,
    longest: bool,
    window: int,
) -> State:
    """The state before the first step."""
    n, workers = len(inst), cluster.workers
    if n and int(inst.output.max()) > _MAX_OUTPUT:
        i = int(np.argmax(inst.output))
        raise InputError(f"output[{i}] must be <= {_MAX_OUTPUT} to be simulated step by step, got {inst.output[i]}")
    order = np.argsort(inst.release, kind="stable")
    wall, limited = inst.clock == "wall", cluster.kv_capacity is not None
    time = cluster.step_time
    most_active = min(n, workers * cluster.slots)
    ring = 1 << (int(inst.output.max()) if n else 1).bit_length()

    def none(size: int) -> Int64Array:
        return np.full(size, -1, np.int64)

    def zeros(size: int) -> Int64Array:
        return np.zeros(size, np.int64)

    log = StepLog(*(np.zeros(LOG_CHUNK, float if f in ("time", "energy") else np.int64) for f in StepLog._fields))
    return State(
        workers=workers,
        slots=cluster.slots,
        capacity=cluster.kv_capacity if cluster.kv_capacity is not None else NO_CAPACITY,
        limited=limited,
        wall=wall,
        immediate=immediate,
        staleness=float(staleness),
        optimistic=optimistic,
        fixed=time.fixed,
        per_token=time.per_token,
        per_mean_token=time.per_mean_token,
        arrive_step=zeros(0) if wall else inst.release[order].astype(np.int64),
        arrive_time=inst.release[order].astype(np.float64) if wall else np.zeros(0),
        prompt=inst.prompt[order],
        output=inst.output[order],
        origin=order.astype(np.int64),
        start=none(n),
        first=none(n),
        worker=none(n),
        seen=none(n),
        load=zeros(workers),
        active=zeros(workers),
        queued=zeros(workers),
        queued_tokens=zeros(workers),
        seen_load=zeros(workers),
        seen_active=zeros(workers),
        seen_queued=zeros(workers),
        seen_tokens=zeros(workers),
        seen_blocks=zeros(workers),
        seen_queued_blocks=zeros(workers),
        phase=zeros(16 * workers),
        blocks=zeros(workers),
        queued_blocks=zeros(workers),
        ring=none(ring),
        ring_next=none(n),
        ring_prev=none(n if limited else 0),
        youngest=none(workers if limited else 0),
        older=none(n if limited else 0),
        newer=none(n if limited else 0),
        queue_head=none(workers),
        queue_tail=none(workers),
        queue_next=none(n if immediate else 0),
        members=none(most_active),
        member_at=none(n),
        gone=none(most_active),
        out_request=none(most_active),
        out_worker=none(most_active),
        work_load=zeros(workers),
        work_active=zeros(workers),
        work_free=zeros(workers),
        work_room=zeros(workers),
        pool=make_pool(0 if immediate else n, longest, window),
        log=log,
        counts=zeros(COUNTS),
        clock=np.zeros(2),
    )
