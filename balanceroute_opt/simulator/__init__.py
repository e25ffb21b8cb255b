"""The simulator: one step loop for every router (``docs/model.md``, section 2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .._validate import frozen, integer, real
from ..errors import InputError, RouterError
from ..instance import Cluster, Instance, require_fit
from ..metrics import StepSeries
from ..routers import make
from ..routers.view import ActiveView, PoolView, Request, View
from ..schedule import Schedule
from .run import Run

__all__ = ["Run", "simulate"]

Progress = Callable[[int, int], None]


def simulate(
    inst: Instance,
    cluster: Cluster,
    router: Any,
    seed: int | np.random.Generator | None = 0,
    *,
    staleness: float = 0.0,
    optimistic: bool = False,
    live: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Run a router over an instance.

    Parameters
    ----------
    inst : Instance
        On the step clock or the wall clock.
    cluster : Cluster
    router : str or router
        A name of ``bro.ROUTERS``, a built-in router object, or any object of the protocol: ``mode`` and
        ``route(view)`` (pooled) or ``bind(view, request)`` (immediate). If it has ``reset(cluster, rng)``, that is
        called first, so that one object can be used for several runs.
    seed : int, Generator or None
        Of the generator that random rules draw from.
    staleness : float
        ``d``: loads and counts that the router sees are a snapshot that is renewed when it is d steps (step clock) or
        d seconds (wall clock) old; 0 is always fresh. Free slots and room are always true.
    optimistic : bool
        Whether the router's own decisions since the snapshot are added to it.
    live : bool
        Drive a built-in router through ``route(view)`` / ``bind(view, request)`` as a dispatcher would, and time every
        call. The decisions are the same. Python routers always run so.
    progress : callable, optional
        Called now and then with the number of requests that arrived and the number of all.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        If a request does not fit the cluster, an option is out of range, or the router is unknown.
    RouterError
        If the router's answer is not allowed, with the step and the value; or if it leaves requests waiting while
        nothing is active and no arrival is left.

    Examples
    --------
    >>> inst = Instance(release=[0, 0, 1], prompt=[5, 2, 4], output=[3, 2, 1])
    >>> run = simulate(inst, Cluster(workers=2, slots=2), "least-kv")
    >>> run.schedule.worker.tolist(), run.peak_loads.tolist()
    ([0, 1, 1], [5, 7, 7])
    """
    from .entries import next_step
    from .kernel import DECIDE, DONE, LOG_FULL, STUCK
    from .loops import LOOPS, PREDICTED
    from .state import NEXT, WAITING, StepLog, make_state

    staleness = real(staleness, "staleness", 0.0)
    require_fit(inst, cluster)
    name, rule = make(router)
    if seed is not None and not isinstance(seed, np.random.Generator):
        seed = integer(seed, "seed", 0)
    rng = np.random.default_rng(seed)
    compiled = getattr(rule, "loop", None) in LOOPS
    if live and staleness > 0 and getattr(rule, "loop", None) in PREDICTED:
        raise InputError(f"live=True shows {name} the true ages, so it cannot be combined with staleness > 0")
    if hasattr(rule, "attach"):
        rule.attach(inst)
    longest, window = rule.pool(cluster) if compiled and rule.mode == "pooled" and not live else (False, 1)
    s = make_state(
        inst,
        cluster,
        immediate=rule.mode == "immediate",
        staleness=staleness,
        optimistic=bool(optimistic),
        longest=longest,
        window=window,
    )
    chunks: list[StepLog] = []
    calls: list[float] | None = None
    if compiled and not live:
        if rule.loop in PREDICTED:
            from .projection import EXTERNAL, brh_state

            params = brh_state(rule, s, inst)
            loop = _predicted(rule, inst) if params.projection.kind == EXTERNAL else LOOPS[rule.loop]
        else:
            params, loop = rule.params(cluster.workers, s.limited), LOOPS[rule.loop]
        status = LOG_FULL
        while status == LOG_FULL:
            status = loop(s, params, rng)
            _drain(s, chunks)
            if progress is not None:
                progress(int(s.counts[NEXT]), len(inst))
    else:
        if callable(getattr(rule, "reset", None)):
            rule.reset(cluster, rng)
        calls = []
        decide = _Immediate(s, inst, cluster, rule, calls) if s.immediate else _Pooled(s, inst, cluster, rule, calls)
        status = next_step(s, False)
        while status in (DECIDE, LOG_FULL):
            if status == DECIDE:
                decide.step()
            else:
                _drain(s, chunks)
                if progress is not None:
                    progress(int(s.counts[NEXT]), len(inst))
            status = next_step(s, status == DECIDE)
        _drain(s, chunks)
    if status == STUCK:
        raise RouterError(
            f"router {name!r} left {int(s.counts[WAITING])} requests waiting in step {int(s.counts[0])} "
            "while nothing was active and no arrival was left"
        )
    if status != DONE:
        raise AssertionError(f"step loop ended with status {status}")
    unproved = rule.unproved if hasattr(rule, "unproved") else None
    return _finished(s, chunks, inst, cluster, name, seed, staleness, bool(optimistic), calls, unproved)


def _predicted(rule: Any, inst: Instance) -> Callable[[Any, Any, Any], int]:
    """The loop of BR-H with a predictor that is a Python object: asked once a step for all requests that are due."""
    from .entries import next_step
    from .kernel import DECIDE
    from .loops import PREDICTED
    from .projection import due_requests
    from .state import STEP

    keys = np.full(len(inst), -1, np.int64) if inst.key is None else inst.key
    decide = PREDICTED[rule.loop]

    def loop(s: Any, params: Any, rng: Any) -> int:
        status = next_step(s, False)
        while status == DECIDE:
            due = due_requests(s, params.projection)
            if len(due):
                age, index = s.counts[STEP] - s.start[due], s.origin[due]
                params.projection.cutoff[due] = rule.cutoffs(index, age, s.prompt[due], keys[index])
            decide(s, params)
            status = next_step(s, True)
        return int(status)

    return loop


def _drain(s: Any, chunks: list[Any]) -> None:
    """Copy the filled part of the step log away and empty it."""
    from .state import LOGGED

    filled = int(s.counts[LOGGED])
    if filled:
        chunks.append(type(s.log)(*(column[:filled].copy() for column in s.log)))
        s.counts[LOGGED] = 0


def _finished(
    s: Any,
    chunks: list[Any],
    inst: Instance,
    cluster: Cluster,
    name: str,
    seed: Any,
    staleness: float,
    optimistic: bool,
    calls: list[float] | None,
    unproved: int | None,
) -> Run:
    from .state import PREEMPTED

    in_order = bool((s.origin[1:] > s.origin[:-1]).all())

    def by_request(column: Any) -> Any:
        if in_order:
            return frozen(column)
        result = np.empty_like(column)
        result[s.origin] = column
        return frozen(result)

    empty = {"time": np.float64, "energy": np.float64}
    columns = {
        field: frozen(
            np.concatenate([getattr(c, field) for c in chunks]) if chunks else np.empty(0, empty.get(field, np.int64))
        )
        for field in StepSeries.__dataclass_fields__
    }
    return Run(
        instance=inst.replace(release=by_request(s.seen), clock="step") if s.wall else inst,
        cluster=cluster,
        router=name,
        schedule=Schedule(by_request(s.start), by_request(s.worker)),
        first_start=by_request(s.first),
        steps=StepSeries(**columns),
        remaining=by_request(s.output) if s.counts[PREEMPTED] else None,
        preemptions=int(s.counts[PREEMPTED]),
        arrival=inst.release.astype(np.float64) if s.wall else None,
        dispatch=None if calls is None else frozen(np.array(calls)),
        seed=seed if isinstance(seed, int) else None,
        staleness=staleness,
        optimistic=optimistic,
        source=inst.digest(),
        unproved=unproved,
    )


class _Driver:
    """Builds the view of a step from the state's arrays and times the router's calls."""

    def __init__(self, s: Any, inst: Instance, cluster: Cluster, rule: Any, calls: list[float]) -> None:
        self.s, self.rule, self.calls = s, rule, calls
        self.capacity = cluster.kv_capacity
        self.key = np.full(len(inst), -1, np.int64) if inst.key is None else inst.key
        stale = s.staleness > 0
        self.load, self.active = (
            _locked(s.seen_load if stale else s.load),
            _locked(s.seen_active if stale else s.active),
        )
        self.queued = _locked(s.seen_queued if stale else s.queued)
        self.queued_tokens = _locked(s.seen_tokens if stale else s.queued_tokens)
        self.blocks = _locked(s.seen_blocks if stale else s.blocks)
        self.queued_blocks = _locked(s.seen_queued_blocks if stale else s.queued_blocks)
        self.own = _locked(s.work_active)
        self.wanted = np.zeros(len(inst), np.bool_)

    def view(self, pool: PoolView) -> View:
        from .state import STEP, TIME

        s = self.s
        step = int(s.counts[STEP])
        return View._of(
            step=step,
            time=float(s.clock[TIME]),
            load=self.load,
            active=self.active,
            free=frozen(s.slots - s.active),
            room=frozen(s.capacity - s.load),
            queued=self.queued,
            queued_tokens=self.queued_tokens,
            blocks=self.blocks,
            queued_blocks=self.queued_blocks,
            own=self.own,
            pool=pool,
            slots=s.slots,
            kv_capacity=self.capacity,
            _details=self.requests,
        )

    def requests(self) -> ActiveView:
        from .entries import ages

        ids, worker, prompt, age = ages(self.s)
        index = self.s.origin[ids]
        return ActiveView(*(frozen(c) for c in (index, worker, prompt, age, self.key[index])))


class _Pooled(_Driver):
    def step(self) -> None:
        from .entries import admit_chosen
        from .state import ACTIVE, STEP, TIME

        s = self.s
        head, tail = int(s.pool.counts[0]), int(s.pool.counts[1])
        if head == tail and s.counts[ACTIVE] == 0:
            return
        ids = s.pool.request[head:tail].copy()
        index = s.origin[ids]
        if s.wall:
            wait = s.clock[TIME] - s.arrive_time[ids]
        else:
            wait = s.counts[STEP] - s.arrive_step[ids]
        s.work_active[:] = s.active
        columns = (index, s.pool.prompt[head:tail].copy(), wait, self.key[index])
        view = self.view(PoolView(*(frozen(c) for c in columns)))
        begin = time.perf_counter()
        answer = self.rule.route(view)
        self.calls.append(time.perf_counter() - begin)
        number = self.check(answer, ids, index, int(s.counts[STEP]))
        if number:
            self.wanted[s.out_request[:number]] = True
            admit_chosen(s, self.wanted, number)
            self.wanted[s.out_request[:number]] = False

    def check(self, answer: Any, ids: Any, index: Any, step: int) -> int:
        """Write a valid answer to the state's decision; raise RouterError otherwise."""
        s = self.s
        name = type(self.rule).__name__
        try:
            requests, workers = answer
        except (TypeError, ValueError):
            raise RouterError(
                f"step {step}: {name}.route must return (requests, workers), got {_short(answer)}"
            ) from None
        requests = _whole(requests, f"step {step}: requests of {name}.route")
        workers = _whole(workers, f"step {step}: workers of {name}.route")
        if len(requests) != len(workers):
            raise RouterError(f"step {step}: {name}.route returned {len(requests)} requests and {len(workers)} workers")
        at = {int(i): int(j) for i, j in zip(index, ids, strict=True)}
        free, room = s.slots - s.active, s.capacity - s.load
        seen: set[int] = set()
        for position, (i, g) in enumerate(zip(requests.tolist(), workers.tolist(), strict=True)):
            if i in seen:
                raise RouterError(f"step {step}: {name}.route admits request {i} twice")
            if i not in at:
                raise RouterError(f"step {step}: {name}.route admits request {i}, which is not in the pool")
            if not 0 <= g < s.workers:
                raise RouterError(
                    f"step {step}: {name}.route puts request {i} on worker {g}; workers are 0 .. {s.workers - 1}"
                )
            if free[g] == 0:
                raise RouterError(f"step {step}: {name}.route puts request {i} on worker {g}, which has no free slot")
            prompt = int(s.prompt[at[i]])
            if prompt > room[g]:
                raise RouterError(
                    f"step {step}: {name}.route puts request {i} ({prompt} tokens) on worker {g}, "
                    f"which has room for {room[g]}"
                )
            seen.add(i)
            free[g] -= 1
            room[g] -= prompt
            s.out_request[position] = at[i]
            s.out_worker[position] = g
        return len(requests)


class _Immediate(_Driver):
    def step(self) -> None:
        from .entries import admit_bound, bind
        from .state import BOUND, NEXT, STEP

        s, rule = self.s, self.rule
        if s.counts[BOUND] < s.counts[NEXT]:
            s.work_active[:] = s.active + s.queued
            view = self.view(PoolView(*(frozen(np.empty(0, np.int64)) for _ in range(4))))
            for i in range(int(s.counts[BOUND]), int(s.counts[NEXT])):
                index = int(s.origin[i])
                request = Request(index, int(s.prompt[i]), int(self.key[index]))
                begin = time.perf_counter()
                answer = rule.bind(view, request)
                self.calls.append(time.perf_counter() - begin)
                worker = self.check(answer, index, int(s.counts[STEP]))
                s.work_active[worker] += 1
                bind(s, i, worker)
        admit_bound(s)

    def check(self, answer: Any, index: int, step: int) -> int:
        """The worker of a valid answer; raise RouterError otherwise."""
        where = f"step {step}: {type(self.rule).__name__}.bind"
        if isinstance(answer, (bool, np.bool_)) or not isinstance(answer, (int, np.integer)):
            raise RouterError(f"{where} must return a worker index (int) for request {index}, got {_short(answer)}")
        if not 0 <= answer < self.s.workers:
            raise RouterError(f"{where} puts request {index} on worker {answer}; workers are 0 .. {self.s.workers - 1}")
        return int(answer)


def _locked(array: Any) -> Any:
    """A read-only view of an array that the simulator goes on writing to."""
    return frozen(array.view())


def _whole(values: Any, what: str) -> Any:
    """A flat integer array, or RouterError; an empty list is fine whatever its type."""
    try:
        array = np.asarray(values)
    except ValueError as exc:
        raise RouterError(f"{what} must be a flat integer array: {exc}") from None
    if array.ndim != 1:
        raise RouterError(f"{what} must be a flat integer array, got shape {array.shape}")
    if len(array) and array.dtype.kind not in "iu":
        raise RouterError(f"{what} must be integers, got {_short(array.tolist()[0])} ({array.dtype})")
    return array.astype(np.int64)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
