"""BR-H's projected loads, kept incrementally (``docs/model.md``, section 5.2; internal).

``ahead[g, m % ring]`` is what worker g is predicted to hold in step m, for the H + 1 steps from the present on. In
absolute steps a request adds the same to a column however the present moves, so that only events change the table:
an admission, an end and a changed prediction move one request's predicted end, over at most H + 1 columns; the
column that enters the horizon comes from counts of the requests without an end in sight.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._jit import compiled, inner
from .._validate import Int64Array
from ..instance import Instance
from ..predictors import CutoffTables, NoisyOracle, Oracle
from ..predictors.kernels import noisy_cutoff, true_cutoff, uniform
from ..routers.br import BRH
from ..routers.kernels.br import BRHParams
from .state import ACTIVE, GONE, SNAPSHOT, STEP, State

ORACLE, TABLE, NOISY, EXTERNAL = range(4)
NO_END = 2**62
_ABSENT = -1


class Projection(NamedTuple):
    """Predicted ends of the active requests and the loads that follow from them.

    `admitted` counts the requests admitted in the last step; `cutoff` is what an external predictor says in this
    step. Tables hold cut-offs by age: request i looks in ``table[first[i]:last[i]]`` and, beyond, in `shared`,
    whose last entry serves all higher ages.
    """

    kind: int
    refresh: int
    false_positive: float
    false_negative: float
    salt: int
    shared: Int64Array
    table: Int64Array
    first: Int64Array
    last: Int64Array
    cutoff: Int64Array
    end: Int64Array
    offset: Int64Array
    ahead: Int64Array
    seen: Int64Array
    open_count: Int64Array
    open_offset: Int64Array
    reached: Int64Array
    admitted: Int64Array


class BRHState(NamedTuple):
    """Options of the rule and the state of its projection."""

    rule: BRHParams
    projection: Projection


def brh_state(router: BRH, s: State, inst: Instance) -> BRHState:
    """The state of BR-H before the first step of a simulation."""
    n, horizon, predictor = len(inst), router.H, router.predictor
    ring = 1 << (horizon + 1).bit_length()
    kind, tables, noise = EXTERNAL, CutoffTables.empty(), (0.0, 0.0, 0)
    if isinstance(predictor, NoisyOracle):
        kind, noise = NOISY, (predictor.fpr, predictor.fnr, predictor.seed)
    elif isinstance(predictor, Oracle):
        kind = ORACLE
    elif hasattr(predictor, "tables"):
        key = np.full(n, -1, np.int64) if inst.key is None else inst.key
        kind, tables = TABLE, predictor.tables(key[s.origin], horizon)

    def zeros(*shape: int) -> Int64Array:
        return np.zeros(shape, np.int64)

    projection = Projection(
        kind=kind,
        refresh=router.refresh,
        false_positive=noise[0],
        false_negative=noise[1],
        salt=noise[2],
        shared=tables.shared,
        table=tables.table,
        first=tables.first,
        last=tables.last,
        cutoff=zeros(n if kind == EXTERNAL else 0),
        end=np.full(n, _ABSENT, np.int64),
        offset=zeros(n),
        ahead=zeros(s.workers, ring),
        seen=zeros(s.workers, horizon + 1),
        open_count=zeros(s.workers),
        open_offset=zeros(s.workers),
        reached=np.full(1, -1, np.int64),
        admitted=zeros(1),
    )
    return BRHState(router.params(s.workers, s.limited), projection)


@inner
def is_due(age, refresh):
    """Whether a request is predicted at this age: 1, 1 + q, 1 + 2q, ..."""
    return refresh == 1 or (age - 1) % refresh == 0


@compiled
def due_requests(s, q):
    """Sequence numbers of the active requests that are predicted in this step."""
    due = np.empty(s.counts[ACTIVE], np.int64)
    number = 0
    for j in range(s.counts[ACTIVE]):
        i = s.members[j]
        if is_due(s.counts[STEP] - s.start[i], q.refresh):
            due[number] = i
            number += 1
    return np.sort(due[:number])


@inner
def _predict(s, q, i, age, horizon):
    if q.kind == TABLE:
        at = q.first[i] + age
        return q.table[at] if at < q.last[i] else q.shared[min(age, len(q.shared) - 1)]
    if q.kind == EXTERNAL:
        return q.cutoff[i]
    left = s.output[i] - age
    if q.kind == ORACLE:
        return true_cutoff(left, horizon)
    u = uniform(q.salt, s.origin[i], age)
    return noisy_cutoff(left, horizon, u, q.false_positive, q.false_negative)


@inner
def _move_end(q, g, k, horizon, offset, old, new):
    """Change the last step of one request's contribution; `old` and `new` are exclusive ends, k for none."""
    mask = q.ahead.shape[1] - 1
    stop = k + horizon + 1
    a, b = min(old, stop), min(new, stop)
    for m in range(a, b):
        q.ahead[g, m & mask] += offset + m
    for m in range(b, a):
        q.ahead[g, m & mask] -= offset + m
    change = (new == NO_END) - (old == NO_END)
    q.open_count[g] += change
    q.open_offset[g] += change * offset


@inner
def _renew(s, q, i, k, horizon):
    """Move request i's predicted end to what is predicted now, or let its cut-off fall by one."""
    age = k - s.start[i]
    old = q.end[i]
    if is_due(age, q.refresh):
        cutoff = _predict(s, q, i, age, horizon)
        new = NO_END if cutoff > horizon else k + cutoff
    else:
        new = max(old, k + 1)
    if old == _ABSENT:
        q.offset[i] = s.prompt[i] - s.start[i]
        old = k
    if new != old:
        _move_end(q, s.worker[i], k, horizon, q.offset[i], old, new)
    q.end[i] = new


@inner
def _follow_truth(s, q, k, horizon):
    """Renewal under the truth: only the last step's admissions, and requests that end in H steps, change."""
    for j in range(q.admitted[0]):
        i = s.out_request[j]
        if s.member_at[i] >= 0:
            _renew(s, q, i, k, horizon)
    if horizon < len(s.ring):
        i = s.ring[(k + horizon) & (len(s.ring) - 1)]
        while i >= 0:
            if q.end[i] == NO_END:
                _renew(s, q, i, k, horizon)
            i = s.ring_next[i]


@inner
def advance_projection(s, q, horizon):
    """Bring the projection to the present step; call once in every step, before the decision."""
    k = s.counts[STEP]
    workers, mask = s.workers, q.ahead.shape[1] - 1
    for m in range(max(k, q.reached[0] + 1), k + horizon + 1):
        for g in range(workers):
            q.ahead[g, m & mask] = q.open_offset[g] + q.open_count[g] * m
    q.reached[0] = k + horizon
    for j in range(s.counts[GONE]):
        i = s.gone[j]
        if q.end[i] != _ABSENT:
            # An end that lies behind (the clock may have jumped) has left no columns to clear.
            _move_end(q, s.worker[i], k, horizon, q.offset[i], max(q.end[i], k), k)
            q.end[i] = _ABSENT
    if q.kind == ORACLE and q.refresh == 1:
        _follow_truth(s, q, k, horizon)
    else:
        for j in range(s.counts[ACTIVE]):
            _renew(s, q, s.members[j], k, horizon)
    if s.staleness > 0 and s.counts[SNAPSHOT] == k + 1:
        _copy_ahead(q, k, horizon, q.seen)


@inner
def _copy_ahead(q, k, horizon, projected):
    mask = q.ahead.shape[1] - 1
    for g in range(projected.shape[0]):
        for h in range(horizon + 1):
            projected[g, h] = q.ahead[g, (k + h) & mask]


@inner
def show_projection(s, q, projected):
    """Write the projected loads that the router may see."""
    horizon = projected.shape[1] - 1
    if s.staleness > 0:
        for g in range(s.workers):
            for h in range(horizon + 1):
                projected[g, h] = q.seen[g, h]
    else:
        _copy_ahead(q, s.counts[STEP], horizon, projected)


@inner
def add_admissions(s, q, number):
    """Remember how many requests this step admits; optimistic increments add them to the snapshot."""
    q.admitted[0] = number
    if s.staleness > 0 and s.optimistic:
        for j in range(number):
            for h in range(q.seen.shape[1]):
                q.seen[s.out_worker[j], h] += s.prompt[s.out_request[j]]
