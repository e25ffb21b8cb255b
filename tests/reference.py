"""The plain, obviously right reference: a per-token simulator and the router rules of ``docs/model.md``.

Nothing here is fast and nothing is shared with the package: loads are recomputed from ``s + k - t`` in
every step, and rules are lists and dictionaries. The kernel is compared with this file.

A *rule* is a plain object with ``mode``:

* ``"pooled"``: ``route(view) -> [(request, worker), ...]``, called once a step;
* ``"immediate"``: ``bind(view, request) -> worker``, called once per request;

and, if it has state or draws random numbers, ``reset(cluster, rng)``, called at the start of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

BLOCK = 16  # tokens per KV block of dynamo and llumnix


class Stuck(Exception):
    """Nothing is active, nothing was admitted, and no arrival is left."""


@dataclass(eq=False)
class Request:
    """One request; after a preemption it is a new one with a longer prompt and a shorter output."""

    index: int
    prompt: int
    rest: int  # output that was left at the last admission
    start: int = -1  # step of the last admission
    worker: int = -1
    key: int = -1


@dataclass
class View:
    """What a rule sees. `load` .. `queue_blocks` may be a snapshot; the rest is always the truth."""

    step: int
    load: list[int]
    active: list[int]
    queued: list[int]
    queued_tokens: list[int]
    active_blocks: list[int]
    queue_blocks: list[int]
    fresh: bool  # the snapshot was taken in this step
    free: list[int]
    room: list[float]
    inflight: list[int]
    pool: list[Request]
    requests: list[Request]  # active ones


@dataclass
class ReferenceRun:
    inst: Any
    start: list[int]  # last admission
    first_start: list[int]
    worker: list[int]  # of the last admission
    release: list[int]  # in executed steps
    end: list[int]  # last step
    steps: list[int] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)
    total: list[int] = field(default_factory=list)
    least: list[int] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)
    loads: list[list[int]] = field(default_factory=list)
    tau: list[float] = field(default_factory=list)
    time: list[float] = field(default_factory=list)  # start of each step, seconds
    preemptions: int = 0


def blocks(tokens: int) -> int:
    return -(-tokens // BLOCK)


def simulate(
    inst: Any, cluster: Any, rule: Any, *, seed: int = 0, staleness: float = 0, optimistic: bool = False
) -> ReferenceRun:
    """Run `rule` token by token (section 2)."""
    G, B, C = cluster.workers, cluster.slots, cluster.kv_capacity
    a, b, c = cluster.step_time.per_token, cluster.step_time.per_mean_token, cluster.step_time.fixed
    wall = inst.clock == "wall"
    pooled = rule.mode == "pooled"
    release = inst.release.tolist()
    n = len(release)
    requests = [
        Request(i, s, o) for i, (s, o) in enumerate(zip(inst.prompt.tolist(), inst.output.tolist(), strict=True))
    ]
    if inst.key is not None:
        for r, key in zip(requests, inst.key.tolist(), strict=True):
            r.key = key
    coming = sorted(range(n), key=lambda i: (release[i], i))
    pool: list[Request] = []
    queues: list[list[Request]] = [[] for _ in range(G)]
    active: list[Request] = []
    run = ReferenceRun(inst, *([-1] * n for _ in range(5)))
    if hasattr(rule, "reset"):
        rule.reset(cluster, np.random.default_rng(seed))
    k = 0  # step
    now = 0  # the clock that releases are compared with: k, or seconds
    taken = None  # clock of the last snapshot
    snapshot: dict[str, list[int]] = {}

    def on(g: int) -> list[Request]:
        return [r for r in active if r.worker == g]

    def load(g: int) -> int:
        return sum(r.prompt + k - r.start for r in on(g))

    def admit(r: Request, g: int) -> None:
        r.start, r.worker = k, g
        active.append(r)
        run.start[r.index], run.worker[r.index] = k, g
        if run.first_start[r.index] < 0:
            run.first_start[r.index] = k
        assert len(on(g)) <= B, f"worker {g} has too many requests in step {k}"
        assert C is None or load(g) <= C, f"worker {g} has too many tokens in step {k}"

    def view(fresh: bool) -> View:
        return View(
            step=k,
            **{name: list(column) for name, column in snapshot.items()},
            fresh=fresh,
            free=[B - len(on(g)) for g in range(G)],
            room=[math.inf if C is None else C - load(g) for g in range(G)],
            inflight=[len(on(g)) + len(queues[g]) for g in range(G)],
            pool=list(pool),
            requests=list(active),
        )

    while coming or pool or any(queues) or active:
        if not active and not pool and not any(queues):
            now = max(now, release[coming[0]])
        if not wall:
            k = now
        # Preemption.
        for g in range(G):
            while C is not None and load(g) > C:
                r = max(on(g), key=lambda r: (r.start, r.index))
                active.remove(r)
                r.prompt, r.rest = r.prompt + k - r.start, r.rest - (k - r.start)
                (pool if pooled else queues[g]).insert(0, r)
                run.preemptions += 1
        # The snapshot, or the truth, which is a snapshot of this step.
        fresh = taken is None or now - taken >= staleness
        if fresh:
            taken = now
            snapshot = {
                "load": [load(g) for g in range(G)],
                "active": [len(on(g)) for g in range(G)],
                "queued": [len(queues[g]) for g in range(G)],
                "queued_tokens": [sum(r.prompt for r in queues[g]) for g in range(G)],
                "active_blocks": [sum(blocks(r.prompt + k - r.start) for r in on(g)) for g in range(G)],
                "queue_blocks": [sum(blocks(r.prompt) for r in queues[g]) for g in range(G)],
            }
        # Arrivals.
        seen = []
        while coming and release[coming[0]] <= now:
            i = coming.pop(0)
            run.release[i] = k
            seen.append(requests[i])
        # Decisions and admissions.
        increments = optimistic or staleness == 0
        if pooled:
            pool += seen
            for r, g in rule.route(view(fresh)):
                pool.remove(r)
                admit(r, g)
                if increments:
                    snapshot["load"][g] += r.prompt
                    snapshot["active"][g] += 1
        else:
            for r in seen:
                g = rule.bind(view(fresh), r)
                queues[g].append(r)
                if increments:
                    snapshot["queued"][g] += 1
                    snapshot["queued_tokens"][g] += r.prompt
                    snapshot["queue_blocks"][g] += blocks(r.prompt)
            for g in range(G):
                while queues[g] and len(on(g)) < B and (C is None or load(g) + queues[g][0].prompt <= C):
                    admit(queues[g].pop(0), g)
        # Nothing to execute: on to the next arrival.
        if not active:
            if not coming:
                raise Stuck(f"step {k}: {len(pool)} requests wait")
            now = release[coming[0]]
            continue
        # The step.
        loads = [load(g) for g in range(G)]
        tau = c + a * max(loads) + b * (sum(loads) / G)
        run.steps.append(k)
        run.peak.append(max(loads))
        run.total.append(sum(loads))
        run.least.append(min(loads))
        run.loads.append(loads)
        run.counts.append([len(on(g)) for g in range(G)])
        run.tau.append(tau)
        run.time.append(now if wall else sum(run.tau[:-1]))
        for r in [r for r in active if k - r.start + 1 == r.rest]:
            active.remove(r)
            run.end[r.index] = k
        k += 1
        now = now + tau if wall else k
    return run


# ---------------------------------------------------------------------------------------------------------------
# Metrics (section 4)


def percentile(values: list[float], p: int) -> float:
    """Linear interpolation at position ``p*(n-1)/100``; inf as soon as an inf takes part; nan of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    low, hundredths = divmod(p * (len(ordered) - 1), 100)
    if hundredths == 0 or ordered[low] == ordered[low + 1]:
        return ordered[low]
    return ordered[low] + (ordered[low + 1] - ordered[low]) * hundredths / 100


def metrics(run: ReferenceRun, cluster: Any, window: Any) -> dict[str, Any]:
    """The flat mapping of section 4 from the per-step vectors, without the wall times of the router."""
    G = cluster.workers
    K = len(run.steps)
    if window == "all":
        inside = list(range(K))
    elif window == "loaded":
        inside = [j for j in range(K) if run.steps[j] <= max(run.start)]
    else:
        inside = list(range(math.floor(window[0] * K), math.ceil(window[1] * K)))
    wall = run.inst.clock == "wall"
    position = {step: j for j, step in enumerate(run.steps)}
    peak = [run.peak[j] for j in inside]
    mean = [run.total[j] / G for j in inside]
    decode_time = sum(run.tau[j] for j in inside)
    elapsed = run.time[inside[-1]] + run.tau[inside[-1]] - run.time[inside[0]] if wall else decode_time
    tokens = sum(sum(run.counts[j]) for j in inside)
    load_ratio, request_ratio, energy = [], [], 0.0
    for j in inside:
        least = min(run.loads[j])
        load_ratio.append(max(run.loads[j]) / least if least else math.inf)
        least = min(run.counts[j])
        request_ratio.append(max(run.counts[j]) / least if least else math.inf)
        for g in range(G):
            energy += (100 + 300 * (run.loads[j][g] / max(run.loads[j])) ** 0.7) * run.tau[j]
    wait: list[float] = []
    ttft: list[float] = []
    tpot: list[float] = []
    inside_set = set(inside)
    for i, output in enumerate(run.inst.output.tolist()):
        first = position[run.first_start[i]]
        if first not in inside_set:
            continue
        last = position[run.end[i]]
        tpot.append((run.time[last] + run.tau[last] - run.time[first]) / output)
        if wall:
            wait.append(run.time[first] - float(run.inst.release[i]))
            ttft.append(wait[-1] + run.tau[first])
        else:
            wait.append(run.first_start[i] - int(run.inst.release[i]))
            ttft.append(sum(run.tau[j] for j in range(first + 1) if run.steps[j] >= run.inst.release[i]))
    return {
        "imbalance_sum": average([G * max(run.loads[j]) - sum(run.loads[j]) for j in inside]),
        "imbalance_range": average([max(run.loads[j]) - min(run.loads[j]) for j in inside]),
        "imbalance_gap": average([max(run.loads[j]) - sum(run.loads[j]) / G for j in inside]),
        "excess": sum(peak) / sum(mean) - 1,
        "idle": average([1 - m / p for m, p in zip(mean, peak, strict=True)]),
        "max_over_min_load_p50": percentile(load_ratio, 50),
        "max_over_min_load_p90": percentile(load_ratio, 90),
        "max_over_min_load_p95": percentile(load_ratio, 95),
        "max_over_min_requests_p50": percentile(request_ratio, 50),
        "max_over_min_requests_p90": percentile(request_ratio, 90),
        "max_over_min_requests_p95": percentile(request_ratio, 95),
        "throughput": tokens / elapsed if elapsed else math.inf,
        "decode_time": decode_time,
        "steps": len(inside),
        "peak_sum": sum(peak),
        "tpot_p50": percentile(tpot, 50),
        "tpot_p95": percentile(tpot, 95),
        "tpot_p99": percentile(tpot, 99),
        "wait_p50": percentile(wait, 50),
        "wait_p99": percentile(wait, 99),
        "wait_max": max(wait, default=math.nan),
        "wait_unit": "s" if wall else "steps",
        "ttft_p50": percentile(ttft, 50),
        "ttft_p99": percentile(ttft, 99),
        "energy": energy,
        "preemptions": run.preemptions,
        "window": window,
    }


def average(values: list[float]) -> float:
    return sum(values) / len(values)


# ---------------------------------------------------------------------------------------------------------------
# Immediate rules (section 5.5): every one is "the worker with the lowest key"


class LowestKey:
    mode = "immediate"

    def reset(self, cluster: Any, rng: Any) -> None:
        self.workers = range(cluster.workers)
        self.slots = cluster.slots
        self.capacity = cluster.kv_capacity
        self.rng = rng
        self.bound = 0

    def bind(self, view: View, request: Request) -> int:
        return min(self.workers, key=lambda g: (*self.key(view, request, g), view.load[g], g))

    def key(self, view: View, request: Request, g: int) -> tuple[float, ...]:
        raise NotImplementedError


class RandomWorker(LowestKey):
    def bind(self, view: View, request: Request) -> int:
        return int(self.rng.random() * len(self.workers))


class RoundRobin(LowestKey):
    def bind(self, view: View, request: Request) -> int:
        self.bound += 1
        return (self.bound - 1) % len(self.workers)


class PowerOfTwo(LowestKey):
    def __init__(self, by: str = "requests") -> None:
        self.by = by

    def bind(self, view: View, request: Request) -> int:
        G = len(self.workers)
        if G == 1:
            return 0
        u1, u2 = self.rng.random(), self.rng.random()
        first, second = int(u1 * G), int(u2 * (G - 1))
        if second >= first:
            second += 1

        def key(g: int) -> tuple[int, int, int]:
            requests = view.active[g] + view.queued[g]
            if self.by == "tokens":
                return view.load[g] + view.queued_tokens[g], requests, g
            return requests, view.load[g], g

        return min(first, second, key=key)


class Jsq(LowestKey):
    def key(self, view: View, request: Request, g: int) -> tuple[float, ...]:
        return (view.active[g] + view.queued[g],)


class Vllm(LowestKey):
    def key(self, view: View, request: Request, g: int) -> tuple[float, ...]:
        return (4 * view.queued[g] + view.active[g],)


class VllmKv(LowestKey):
    def key(self, view: View, request: Request, g: int) -> tuple[float, ...]:
        waiting, running = view.queued[g], view.active[g]
        use = view.load[g] / self.capacity if self.capacity is not None else 0.0
        return (max(view.inflight[g], waiting + running) + waiting * 6 * max(0.0, use - 0.5),)


class SglangTokens(LowestKey):
    def key(self, view: View, request: Request, g: int) -> tuple[float, ...]:
        return view.load[g] + view.queued_tokens[g], view.active[g] + view.queued[g]


class TpuMinmax(LowestKey):
    def key(self, view: View, request: Request, g: int) -> tuple[float, ...]:
        return view.load[g] + view.queued_tokens[g] + request.prompt, view.active[g] + view.queued[g]


class Dynamo(LowestKey):
    def bind(self, view: View, request: Request) -> int:
        total = [view.active_blocks[g] + view.queue_blocks[g] + blocks(request.prompt) for g in self.workers]
        ties = [g for g in self.workers if total[g] == min(total)]
        return ties[int(self.rng.random() * len(ties))] if len(ties) > 1 else ties[0]


class Llumnix(LowestKey):
    def key(self, view: View, request: Request, g: int) -> tuple[float, ...]:
        free_blocks = self.capacity // BLOCK - view.active_blocks[g]
        return (-((free_blocks - view.queue_blocks[g]) / max(1, view.active[g] + view.queued[g])),)


# ---------------------------------------------------------------------------------------------------------------
# Pooled rules (sections 5.1, 5.2, 5.5)


class LeastKv:
    """Each request in turn to the least loaded worker that has a free slot and room for it."""

    mode = "pooled"

    def order(self, pool: list[Request]) -> list[Request]:
        return pool

    def route(self, view: View) -> list[tuple[Request, int]]:
        load, free, room = view.load, view.free, view.room
        chosen = []
        for r in self.order(view.pool):
            fits = [g for g in range(len(load)) if free[g] > 0 and r.prompt <= room[g]]
            if not fits:
                continue
            g = min(fits, key=lambda g: (load[g], g))
            chosen.append((r, g))
            load[g] += r.prompt
            free[g] -= 1
            room[g] -= r.prompt
        return chosen


def longest_first(pool: list[Request]) -> list[Request]:
    return sorted(pool, key=lambda r: -r.prompt)  # stable: ties stay older first


class Lpt(LeastKv):
    def order(self, pool: list[Request]) -> list[Request]:
        return longest_first(pool)


class TrtllmAdp:
    mode = "pooled"

    def route(self, view: View) -> list[tuple[Request, int]]:
        load, free, room, active = view.load, view.free, view.room, view.active
        G = len(load)
        new = view.pool[: sum(free)]
        cap = max(-(-(sum(active) + len(new)) // G), max(active))
        chosen = []
        for r in longest_first(new):
            fits = [g for g in range(G) if free[g] > 0 and active[g] < cap and r.prompt <= room[g]]
            if not fits:
                continue
            g = min(fits, key=lambda g: (load[g], active[g], g))
            chosen.append((r, g))
            load[g] += r.prompt
            active[g] += 1
            free[g] -= 1
            room[g] -= r.prompt
        return chosen


class Br0:
    """Section 5.1. The score and what an admission does to it are methods, which BR-H replaces."""

    mode = "pooled"

    def __init__(
        self,
        greedy_slots: int | None = None,
        subset_window: int = 4,
        pool_window: int = 1024,
        pool_order: str = "arrival",
        greedy_worker: str = "free-slots",
    ) -> None:
        self.greedy_slots = greedy_slots
        self.subset_window = subset_window
        self.pool_window = pool_window
        self.pool_order = pool_order
        self.greedy_worker = greedy_worker

    def begin(self, view: View) -> None:
        self.load = view.load

    def present(self, g: int) -> int:
        return self.load[g]

    def score(self, g: int, chosen: list[Request]) -> float:
        S = sum(r.prompt for r in chosen)
        margin = max(self.load) - self.load[g]
        return S - len(self.load) * max(S - margin, 0)

    def add(self, g: int, r: Request) -> None:
        self.load[g] += r.prompt

    def route(self, view: View) -> list[tuple[Request, int]]:
        self.begin(view)
        G = len(view.free)
        greedy_slots = G if self.greedy_slots is None else self.greedy_slots
        free, room = view.free, view.room
        pool = longest_first(view.pool) if self.pool_order == "longest" else view.pool
        closed: set[int] = set()
        admitted = []
        while pool:
            open_ = [g for g in range(G) if free[g] > 0 and g not in closed]
            if not open_:
                break
            greedy = sum(free) > greedy_slots
            if greedy and self.greedy_worker == "least-load":
                g = min(open_, key=lambda g: (self.present(g), g))
            else:
                g = min(open_, key=lambda g: (-free[g], self.present(g), g))
            window = pool[: self.pool_window] if greedy else pool[: self.subset_window]
            singles = [r for r in window if r.prompt <= room[g]]
            if not singles:
                closed.add(g)
                continue
            best = [max(singles, key=lambda r: self.score(g, [r]))]  # max returns the first of equals
            if not greedy:
                best_score: float = 0
                for mask in range(1, 2 ** len(window)):
                    subset = [r for j, r in enumerate(window) if mask >> j & 1]
                    if len(subset) > free[g] or sum(r.prompt for r in subset) > room[g]:
                        continue
                    if self.score(g, subset) > best_score:
                        best, best_score = subset, self.score(g, subset)
            for r in best:
                pool.remove(r)
                admitted.append((r, g))
                self.add(g, r)
                free[g] -= 1
                room[g] -= r.prompt
        return admitted


class Deferral:
    """docs/deferral.md. `since` is the step in which a request was first seen waiting."""

    mode = "pooled"

    def __init__(self, max_wait: int = 8, price: float = 0.4, window: int = 8) -> None:
        self.max_wait, self.price, self.window = max_wait, price, window

    def reset(self, cluster: Any, rng: Any) -> None:
        self.since: dict[int, int] = {}

    def route(self, view: View) -> list[tuple[Request, int]]:
        self.since = {r.index: self.since.get(r.index, view.step) for r in view.pool}
        load, G = view.load, len(view.load)
        first = view.pool[: sum(view.free)]
        level = max(max(load), math.ceil((sum(load) + sum(r.prompt for r in first)) / G))
        step = self.fill if len(view.pool) > sum(view.free) else self.plan
        chosen = step(view, level)
        for r, _ in chosen:
            del self.since[r.index]
        return chosen

    def plan(self, view: View, level: int) -> list[tuple[Request, int]]:
        load, free, room = view.load, view.free, view.room
        mean = sum(load) / max(1, len(view.requests))
        chosen = []
        for r in longest_first(view.pool):
            fits = [g for g in range(len(load)) if free[g] > 0 and r.prompt <= room[g]]
            if not fits:
                continue
            g = min(fits, key=lambda g: (load[g], g))
            load[g] += r.prompt  # also if it waits
            waited = view.step - self.since[r.index]
            bold = not view.requests or waited >= self.max_wait
            if bold or load[g] <= level or load[g] - level <= self.price * waited / self.max_wait * mean:
                chosen.append((r, g))
                free[g] -= 1
                room[g] -= r.prompt
                level = max(level, load[g])
        return chosen

    def fill(self, view: View, level: int) -> list[tuple[Request, int]]:
        load, free, room, pool = view.load, view.free, view.room, list(view.pool)
        G = len(load)
        closed: set[int] = set()
        chosen = []
        while pool:
            open_ = [g for g in range(G) if free[g] > 0 and g not in closed]
            if not open_:
                break
            g = min(open_, key=lambda g: (load[g], g))
            window = pool[: self.window]
            waits = [view.step - self.since[r.index] for r in window]
            fits = [r for r in window if r.prompt <= room[g]]
            if not fits:
                closed.add(g)
                continue
            best = max(fits, key=lambda r: r.prompt - G * max(r.prompt - (level - load[g]), 0))
            if waits[0] > 2 * waits[-1] + self.max_wait and pool[0] in fits:
                best = pool[0]
            pool.remove(best)
            chosen.append((best, g))
            load[g] += best.prompt
            free[g] -= 1
            room[g] -= best.prompt
            level = max(level, load[g])
        return chosen


class Brh(Br0):
    """Section 5.2. ``cutoff(request, age) -> C_i`` in ``1 .. H + 1``."""

    def __init__(
        self,
        H: int,
        cutoff: Callable[[Request, int], int],
        gamma: float = 0.9,
        alpha: float = 1.0,
        beta: float | None = None,
        refresh: int = 1,
        grow: bool = False,
        **two_stages: Any,
    ) -> None:
        super().__init__(**two_stages)
        self.H, self.cutoff, self.gamma, self.alpha, self.beta = H, cutoff, gamma, alpha, beta
        self.refresh, self.grow = refresh, grow
        self.weights = [math.floor(gamma**h * 2**20 + 0.5) for h in range(H + 1)]

    def reset(self, cluster: Any, rng: Any) -> None:
        self.C: dict[int, int] = {}  # by index
        self.seen: list[list[int]] = []  # the projection when the snapshot was taken

    def begin(self, view: View) -> None:
        for r in view.requests:
            age = view.step - r.start
            if (age - 1) % self.refresh == 0:
                self.C[r.index] = self.cutoff(r, age)
            elif self.C[r.index] <= self.H:
                self.C[r.index] = max(1, self.C[r.index] - 1)
        if view.fresh:
            self.seen = [[0] * (self.H + 1) for _ in view.load]
            for r in view.requests:
                for h in range(min(self.C[r.index] - 1, self.H) + 1):
                    self.seen[r.worker][h] += r.prompt + view.step - r.start + h
        # What the view's load has gained since the snapshot are optimistic increments, alike for every h.
        self.P = [[p + view.load[g] - row[0] for p in row] for g, row in enumerate(self.seen)]

    def present(self, g: int) -> int:
        return self.P[g][0]

    def score(self, g: int, chosen: list[Request]) -> float:
        G = len(self.P)
        i1 = i2 = 0
        for h in range(self.H + 1):
            S = sum(r.prompt + (h if self.grow else 0) for r in chosen)
            margin = max(self.P[w][h] for w in range(G)) - self.P[g][h]
            i1 += self.weights[h] * S
            i2 += self.weights[h] * max(S - margin, 0)
        return float(self.alpha) * float(i1) - float(G if self.beta is None else self.beta) * float(i2)

    def add(self, g: int, r: Request) -> None:
        for h in range(self.H + 1):
            self.P[g][h] += r.prompt


class BfioHeuristic(Brh):
    """BF-IO's released heuristic (docs/bfio.md): sets of reachable sums are sets of Python integers."""

    def __init__(self, H: int, cutoff: Callable[[Request, int], int], mix: float = 1.0, **options: Any) -> None:
        super().__init__(H, cutoff, **({"gamma": 0.86, "beta": 43.0, "greedy_slots": 7} | options))
        self.mix = mix

    def route(self, view: View) -> list[tuple[Request, int]]:
        self.begin(view)
        free, room, pool, closed = view.free, view.room, view.pool, set()
        admitted = []
        while pool:
            open_ = [g for g in range(len(free)) if free[g] > 0 and g not in closed]
            if not open_:
                break
            window = pool[: self.pool_window]
            best: list[Request] = []
            if sum(free) > self.greedy_slots:
                g = min(open_, key=lambda g: (-free[g], self.present(g), g))
            else:
                g = min(open_, key=lambda g: ((1.0 - self.mix) * self.P[g][0] + self.mix * self.P[g][-1], g))
                best = self.subset(g, window, free[g], room[g])
            if not best:
                singles = [r for r in window if r.prompt <= room[g]]
                if not singles:
                    closed.add(g)
                    continue
                best = [max(singles, key=lambda r: self.score(g, [r]))]
            for r in best:
                pool.remove(r)
                admitted.append((r, g))
                self.add(g, r)
                free[g] -= 1
                room[g] -= r.prompt
        return admitted

    def subset(self, g: int, window: list[Request], free: int, room: float) -> list[Request]:
        margin = min(max(self.P[w][h] for w in range(len(self.P))) - self.P[g][h] for h in range(self.H + 1))
        best: list[Request] = []
        best_score: float = 0
        for k in range(min(free, len(window)), 0, -1):
            # before[i][j]: sums of j of the first i requests
            before = [[{0}] + [set() for _ in range(k)]]
            for r in window:
                last = before[-1]
                before.append([last[0]] + [last[j] | {S + r.prompt for S in last[j - 1]} for j in range(1, k + 1)])
            sums = [total for total in before[-1][k] if total <= room]
            if not sums:
                continue
            safe = [total for total in sums if total <= margin]
            left, j, chosen = max(safe) if safe else min(sums), k, []
            for i in reversed(range(len(window))):
                if j > 0 and left - window[i].prompt in before[i][j - 1]:
                    chosen.insert(0, window[i])
                    left, j = left - window[i].prompt, j - 1
            if self.score(g, chosen) > best_score:
                best, best_score = chosen, self.score(g, chosen)
                if safe:
                    break
        return best


def true_cutoff(H: int) -> Callable[[Request, int], int]:
    """What the oracle predicts: ``R`` if that is at most H, else ``H + 1``."""
    return lambda request, age: min(request.rest - age, H + 1)


def cutoff_of(predictor: Any, H: int) -> Callable[[Request, int], int]:
    """Ask a predictor (section 5.3) about one request at a time."""

    def cutoff(request: Request, age: int) -> int:
        p, mu = predictor.predict(np.array([age]), np.array([request.prompt]), np.array([request.key]), H)
        return predicted_cutoff(H, float(p[0]), float(mu[0]))

    return cutoff


def predicted_cutoff(H: int, p: float, mu: float) -> int:
    """``C_i`` from a prediction (section 5.2)."""
    return max(1, math.floor((1 - p) * (H + 1) + p * mu + 0.5))
