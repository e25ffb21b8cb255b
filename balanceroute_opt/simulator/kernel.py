"""The one step loop, compiled (``docs/model.md``, section 2; internal).

A run asks for a decision whenever :func:`advance` returns DECIDE. Compiled routers wrap this loop around their
decision; for routers in Python :mod:`balanceroute_opt.simulator` does the same through :mod:`.entries`.
"""

from __future__ import annotations

from .._jit import inner
from ..routers.kernels.pool import pool_push, pool_size
from .state import ACTIVE, BOUND, GONE, LOGGED, NEXT, PREEMPTED, SNAPSHOT, SNAPSHOT_TIME, STEP, TIME, WAITING

DECIDE, DONE, LOG_FULL, STUCK = range(4)
BLOCK = 16


@inner
def advance(s, decided):
    """Execute the step at hand, if it is decided, and begin the next; returns what the driver has to do."""
    status = finish_step(s) if decided else DECIDE
    return begin_step(s) if status == DECIDE else status


@inner
def begin_step(s):
    """Ends, preemptions and arrivals of the next step; returns what the driver has to do.

    DECIDE: ask the router. DONE: all requests ended. LOG_FULL: drain the log and call again.
    """
    count = s.counts
    if count[LOGGED] == len(s.log.step):
        return LOG_FULL
    count[GONE] = 0
    _end_requests(s)
    if s.limited:
        _preempt(s)
    if count[ACTIVE] == 0 and count[WAITING] == 0:
        if count[NEXT] == len(s.prompt):
            return DONE
        _jump(s)
    _arrive(s)
    if s.staleness > 0:
        _refresh(s)
    return DECIDE


@inner
def finish_step(s):
    """Execute the step after the router's admissions, or jump to the next arrival if nothing is active."""
    count, log = s.counts, s.log
    if count[ACTIVE] == 0:
        if count[NEXT] == len(s.prompt):
            return STUCK
        _jump(s)
        return DECIDE
    peak, least, total = s.load[0], s.load[0], 0
    most, fewest = s.active[0], s.active[0]
    for g in range(s.workers):
        load, active = s.load[g], s.active[g]
        total += load
        peak = max(peak, load)
        least = min(least, load)
        most = max(most, active)
        fewest = min(fewest, active)
    seconds = s.fixed + s.per_token * peak + s.per_mean_token * (total / s.workers)
    watts = 0.0
    for g in range(s.workers):
        watts += 100.0 + 300.0 * (s.load[g] / peak) ** 0.7
    at = count[LOGGED]
    log.step[at] = count[STEP]
    log.time[at] = s.clock[TIME]
    log.peak[at] = peak
    log.total[at] = total
    log.least[at] = least
    log.active[at] = count[ACTIVE]
    log.most_active[at] = most
    log.least_active[at] = fewest
    log.energy[at] = watts * seconds
    count[LOGGED] = at + 1
    # A block of 16 tokens opens for the requests whose next load is 1 modulo 16.
    opens = -count[STEP] % BLOCK
    for g in range(s.workers):
        s.load[g] += s.active[g]
        s.blocks[g] += s.phase[g * BLOCK + opens]
    count[STEP] += 1
    s.clock[TIME] += seconds
    return DECIDE


@inner
def admit(s, i, g):
    """Put request i (sequence number) on worker g in the current step."""
    count = s.counts
    k = count[STEP]
    s.start[i] = k
    if s.first[i] < 0:
        s.first[i] = k
    s.worker[i] = g
    s.load[g] += s.prompt[i]
    s.active[g] += 1
    if s.staleness > 0 and s.optimistic and not s.immediate:
        s.seen_load[g] += s.prompt[i]
        s.seen_active[g] += 1
    s.phase[g * BLOCK + (s.prompt[i] - k) % BLOCK] += 1
    s.blocks[g] += (s.prompt[i] + BLOCK - 1) // BLOCK
    slot = (k + s.output[i]) & (len(s.ring) - 1)
    following = s.ring[slot]
    s.ring[slot] = i
    s.ring_next[i] = following
    if s.limited:
        s.ring_prev[i] = -1
        if following >= 0:
            s.ring_prev[following] = i
        s.older[i] = s.youngest[g]
        s.newer[i] = -1
        if s.youngest[g] >= 0:
            s.newer[s.youngest[g]] = i
        s.youngest[g] = i
    s.members[count[ACTIVE]] = i
    s.member_at[i] = count[ACTIVE]
    count[ACTIVE] += 1
    count[WAITING] -= 1


@inner
def admit_all(s, number):
    """Apply the pooled decision ``out_request[:number]``, ``out_worker[:number]``."""
    for j in range(number):
        admit(s, s.out_request[j], s.out_worker[j])


@inner
def copy_view(s):
    """Loads as the router may see them, free slots and room, into the decision's own arrays."""
    stale = s.staleness > 0
    for g in range(s.workers):
        s.work_load[g] = s.seen_load[g] if stale else s.load[g]
        s.work_active[g] = s.seen_active[g] if stale else s.active[g]
        s.work_free[g] = s.slots - s.active[g]
        s.work_room[g] = s.capacity - s.load[g]


@inner
def enqueue(s, i, g):
    """Bind request i to the end of worker g's queue."""
    s.queue_next[i] = -1
    if s.queue_head[g] < 0:
        s.queue_head[g] = i
    else:
        s.queue_next[s.queue_tail[g]] = i
    s.queue_tail[g] = i
    s.queued[g] += 1
    s.queued_tokens[g] += s.prompt[i]
    s.queued_blocks[g] += (s.prompt[i] + BLOCK - 1) // BLOCK
    s.counts[BOUND] += 1
    if s.staleness > 0 and s.optimistic:
        s.seen_queued[g] += 1
        s.seen_tokens[g] += s.prompt[i]
        s.seen_queued_blocks[g] += (s.prompt[i] + BLOCK - 1) // BLOCK


@inner
def admit_queued(s):
    """Every worker admits from the head of its queue while it has a free slot and room."""
    for g in range(s.workers):
        while s.queue_head[g] >= 0 and s.active[g] < s.slots:
            i = s.queue_head[g]
            if s.load[g] + s.prompt[i] > s.capacity:
                break
            s.queue_head[g] = s.queue_next[i]
            s.queued[g] -= 1
            s.queued_tokens[g] -= s.prompt[i]
            s.queued_blocks[g] -= (s.prompt[i] + BLOCK - 1) // BLOCK
            admit(s, i, g)


@inner
def _leave(s, i, g, load):
    """Take request i, whose load is `load` now, off worker g."""
    count = s.counts
    s.load[g] -= load
    s.active[g] -= 1
    s.phase[g * BLOCK + (s.prompt[i] - s.start[i]) % BLOCK] -= 1
    s.blocks[g] -= (load + BLOCK - 1) // BLOCK
    last = count[ACTIVE] - 1
    count[ACTIVE] = last
    at, moved = s.member_at[i], s.members[last]
    s.members[at] = moved
    s.member_at[moved] = at
    s.member_at[i] = -1
    s.gone[count[GONE]] = i
    count[GONE] += 1
    if s.limited:
        older, newer = s.older[i], s.newer[i]
        if newer >= 0:
            s.older[newer] = older
        else:
            s.youngest[g] = older
        if older >= 0:
            s.newer[older] = newer


@inner
def _end_requests(s):
    slot = s.counts[STEP] & (len(s.ring) - 1)
    i = s.ring[slot]
    s.ring[slot] = -1
    while i >= 0:
        _leave(s, i, s.worker[i], s.prompt[i] + s.output[i])
        i = s.ring_next[i]


@inner
def _preempt(s):
    k = s.counts[STEP]
    for g in range(s.workers):
        while s.load[g] > s.capacity:
            i = s.youngest[g]
            other = s.older[i]
            while other >= 0 and s.start[other] == s.start[s.youngest[g]]:
                if s.origin[other] > s.origin[i]:
                    i = other
                other = s.older[other]
            generated = k - s.start[i]
            _leave(s, i, g, s.prompt[i] + generated)
            before, after = s.ring_prev[i], s.ring_next[i]
            if before >= 0:
                s.ring_next[before] = after
            else:
                s.ring[(s.start[i] + s.output[i]) & (len(s.ring) - 1)] = after
            if after >= 0:
                s.ring_prev[after] = before
            s.prompt[i] += generated
            s.output[i] -= generated
            s.counts[PREEMPTED] += 1
            s.counts[WAITING] += 1
            if s.immediate:
                s.queue_next[i] = s.queue_head[g]
                if s.queue_head[g] < 0:
                    s.queue_tail[g] = i
                s.queue_head[g] = i
                s.queued[g] += 1
                s.queued_tokens[g] += s.prompt[i]
                s.queued_blocks[g] += (s.prompt[i] + BLOCK - 1) // BLOCK
            else:
                pool_push(s.pool, i, s.prompt[i], True)


@inner
def _jump(s):
    """Move the clock over idle time to the next arrival."""
    i = s.counts[NEXT]
    if s.wall:
        s.clock[TIME] = max(s.clock[TIME], s.arrive_time[i])
    else:
        s.counts[STEP] = max(s.counts[STEP], s.arrive_step[i])


@inner
def _arrive(s):
    """Make requests visible; an immediate router still has to bind those from ``counts[BOUND]`` on."""
    count, n = s.counts, len(s.prompt)
    i = count[NEXT]
    while i < n and (s.arrive_time[i] <= s.clock[TIME] if s.wall else s.arrive_step[i] <= count[STEP]):
        s.seen[i] = count[STEP]
        if not s.immediate:
            pool_push(s.pool, i, s.prompt[i], False)
        i += 1
    count[WAITING] += i - count[NEXT]
    count[NEXT] = i


@inner
def _refresh(s):
    """Take a new snapshot of the workers when the old one has reached its age."""
    count, clock = s.counts, s.clock
    if count[SNAPSHOT] > 0:
        age = clock[TIME] - clock[SNAPSHOT_TIME] if s.wall else count[STEP] - (count[SNAPSHOT] - 1)
        if age < s.staleness:
            return
    count[SNAPSHOT] = count[STEP] + 1  # 0 says that there is none yet
    clock[SNAPSHOT_TIME] = clock[TIME]
    for g in range(s.workers):
        s.seen_load[g] = s.load[g]
        s.seen_active[g] = s.active[g]
        s.seen_queued[g] = s.queued[g]
        s.seen_tokens[g] = s.queued_tokens[g]
        s.seen_blocks[g] = s.blocks[g]
        s.seen_queued_blocks[g] = s.queued_blocks[g]


@inner
def take_requests(s, wanted):
    """Take the sequence numbers ``wanted`` (a mask over sequence numbers) out of an arrival-ordered pool."""
    pool = s.pool
    head, tail = pool.counts[0], pool.counts[1]
    keep = tail
    for at in range(tail - 1, head - 1, -1):
        if not wanted[pool.request[at]]:
            keep -= 1
            pool.request[keep] = pool.request[at]
            pool.prompt[keep] = pool.prompt[at]
    pool.counts[0] = keep


@inner
def waiting(s):
    """Requests in the pool (pooled routers)."""
    return pool_size(s.pool)
