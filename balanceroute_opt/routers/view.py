"""What a router sees: a read-only view of the present (``docs/model.md``, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from .._validate import INT64_MAX, Float64Array, Int64Array, frozen, integer, integers, real, reals
from ..errors import InputError

__all__ = ["ActiveView", "ImmediateRouter", "PoolView", "PooledRouter", "Request", "View"]


@dataclass(frozen=True, slots=True)
class Request:
    """The request to be bound (immediate routers): its index, prompt in tokens, and key (-1: none)."""

    index: int
    prompt: int
    key: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class PoolView:
    """Waiting requests, oldest first.

    Attributes
    ----------
    index : ndarray of int64, shape (n,)
        What :meth:`PooledRouter.route` answers with.
    prompt : ndarray of int64, shape (n,), tokens
    wait : ndarray, shape (n,)
        Since the request became visible: steps (step clock, int64) or seconds (wall clock, float64).
    key : ndarray of int64, shape (n,)
        -1 where there is none.
    """

    index: Int64Array
    prompt: Int64Array
    wait: Int64Array | Float64Array
    key: Int64Array

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True, eq=False)
class ActiveView:
    """Active requests, one entry each, by sequence of arrival.

    Attributes
    ----------
    index, worker, prompt, age, key : ndarray of int64, shape (n,)
        ``age`` is the number of tokens generated so far; ``prompt + age`` is the load of the request.
    """

    index: Int64Array
    worker: Int64Array
    prompt: Int64Array
    age: Int64Array
    key: Int64Array

    def __len__(self) -> int:
        return len(self.index)


_EMPTY = frozen(np.empty(0, np.int64))


class View:
    """The present of a cluster, read-only; built by the simulator, or by hand from a system's counters.

    Parameters
    ----------
    load : array_like of int, shape (G,), tokens
        ``L_g``: KV tokens of the requests that go on in this step, before any admission.
    active : array_like of int, shape (G,)
        Requests that are being decoded.
    slots : int
        ``B``: most requests per worker; ``free = slots - active``.
    pool : sequence of int or PoolView, optional
        Prompts of the waiting requests, oldest first (pooled routers); their index is their position.
    queued, queued_tokens : array_like of int, shape (G,), optional
        Requests bound to each worker that wait there, and the sum of their prompts (immediate routers).
    blocks, queued_blocks : array_like of int, shape (G,), optional
        KV blocks of 16 tokens of the active and of the queued requests; by default those of one request each,
        ``ceil(load / 16)`` and ``ceil(queued_tokens / 16)``.
    own : array_like of int, shape (G,), optional
        Requests that this router has sent to each worker and that did not end; by default ``active + queued``.
    requests : ActiveView, optional
        The active requests; needed by BR-H only.
    kv_capacity : int, optional
        ``C``, tokens per worker; ``room = kv_capacity - load``.
    step : int, optional
    time : float, optional
        Seconds.

    Attributes
    ----------
    free, room : ndarray of int64, shape (G,)
        Free slots; free KV tokens (2**62 minus the load without a capacity).

    Raises
    ------
    InputError
        Naming the first entry that is negative, not whole, of another length, or a pool with one index twice.

    Examples
    --------
    >>> view = View(load=[900, 400], active=[3, 2], slots=4, pool=[250, 700])
    >>> view.free.tolist()
    [1, 2]
    """

    __slots__ = (
        "_details",
        "active",
        "blocks",
        "free",
        "kv_capacity",
        "load",
        "own",
        "pool",
        "queued",
        "queued_blocks",
        "queued_tokens",
        "room",
        "slots",
        "step",
        "time",
    )

    load: Int64Array
    active: Int64Array
    free: Int64Array
    room: Int64Array
    queued: Int64Array
    queued_tokens: Int64Array
    blocks: Int64Array
    queued_blocks: Int64Array
    own: Int64Array
    pool: PoolView

    def __init__(
        self,
        load: ArrayLike,
        active: ArrayLike,
        slots: int,
        pool: Sequence[int] | PoolView = (),
        *,
        queued: ArrayLike | None = None,
        queued_tokens: ArrayLike | None = None,
        blocks: ArrayLike | None = None,
        queued_blocks: ArrayLike | None = None,
        own: ArrayLike | None = None,
        requests: ActiveView | None = None,
        kv_capacity: int | None = None,
        step: int = 0,
        time: float = 0.0,
    ) -> None:
        self.load = integers(load, "load", 0, 2**61)
        workers = len(self.load)
        if workers == 0:
            raise InputError("load must have one entry per worker, got none")
        self.slots = integer(slots, "slots", 1)
        zero = np.zeros(workers, np.int64)
        self.active = integers(active, "active", 0, self.slots)
        if len(self.active) != workers:
            raise InputError(f"active has {len(self.active)} entries, load has {workers}")
        self.queued = integers(zero if queued is None else queued, "queued", 0, 2**61)
        self.queued_tokens = integers(zero if queued_tokens is None else queued_tokens, "queued_tokens", 0, 2**61)
        self.blocks = integers(-(-self.load // 16) if blocks is None else blocks, "blocks", 0, 2**61)
        self.queued_blocks = integers(
            -(-self.queued_tokens // 16) if queued_blocks is None else queued_blocks, "queued_blocks", 0, 2**61
        )
        self.own = integers(self.active + self.queued if own is None else own, "own", 0, 2**61)
        for name in ("active", "queued", "queued_tokens", "blocks", "queued_blocks", "own"):
            if len(getattr(self, name)) != workers:
                raise InputError(f"{name} has {len(getattr(self, name))} entries, load has {workers}")
        self.kv_capacity = None if kv_capacity is None else integer(kv_capacity, "kv_capacity", 1, 2**53)
        self.free = frozen(self.slots - self.active)
        self.room = frozen((2**62 if kv_capacity is None else int(kv_capacity)) - self.load)
        self.pool = checked_pool(pool) if isinstance(pool, PoolView) else _pool_of(pool)
        self.step = integer(step, "step", 0)
        self.time = real(time, "time")
        self._details = None if requests is None else checked_active(requests, workers)

    @property
    def workers(self) -> int:
        """``G``."""
        return len(self.load)

    @property
    def requests(self) -> ActiveView:
        """The active requests, made when asked for (empty if the view was built without them)."""
        if self._details is None:
            self._details = ActiveView(_EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY)
        elif not isinstance(self._details, ActiveView):
            self._details = self._details()
        return self._details

    @classmethod
    def _of(cls, **fields: Any) -> View:
        """A view over arrays that the simulator vouches for."""
        view = cls.__new__(cls)
        for name, value in fields.items():
            setattr(view, name, value)
        return view

    def __repr__(self) -> str:
        return (
            f"View(step {self.step}: {self.workers} workers, {int(self.active.sum())} active, "
            f"{int(self.free.sum())} free slots, {len(self.pool) + int(self.queued.sum())} waiting)"
        )


class PooledRouter(Protocol):
    """A router that is called once a step and admits waiting requests to free slots."""

    mode: Literal["pooled"]

    def route(self, view: View) -> tuple[ArrayLike, ArrayLike]:
        """Requests (entries of ``view.pool.index``) and their workers; what is not named goes on waiting."""


class ImmediateRouter(Protocol):
    """A router that binds every request as soon as it is visible."""

    mode: Literal["immediate"]

    def bind(self, view: View, request: Request) -> int:
        """The worker of `request`."""


def _pool_of(prompts: Sequence[int]) -> PoolView:
    prompt = integers(prompts, "pool", 1, 2**31 - 1)
    n = len(prompt)
    return PoolView(frozen(np.arange(n)), prompt, frozen(np.zeros(n, np.int64)), frozen(np.full(n, -1)))


def checked_pool(pool: PoolView) -> PoolView:
    """The pool with its columns as arrays; InputError unless they fit together and no index stands twice."""
    checked = PoolView(
        index=integers(pool.index, "pool.index", 0, 2**62),
        prompt=integers(pool.prompt, "pool.prompt", 1, 2**32),
        wait=reals(pool.wait, "pool.wait", 0.0),
        key=integers(pool.key, "pool.key", -1, INT64_MAX),
    )
    _require_table(checked, "pool", ("prompt", "wait", "key"))
    return checked


def checked_active(requests: ActiveView, workers: int) -> ActiveView:
    """The active requests with their columns as arrays; InputError as for the pool."""
    checked = ActiveView(
        index=integers(requests.index, "requests.index", 0, 2**62),
        worker=integers(requests.worker, "requests.worker", 0, workers - 1),
        prompt=integers(requests.prompt, "requests.prompt", 1, 2**32),
        age=integers(requests.age, "requests.age", 0, 2**31),
        key=integers(requests.key, "requests.key", -1, INT64_MAX),
    )
    _require_table(checked, "requests", ("worker", "prompt", "age", "key"))
    return checked


def _require_table(table: PoolView | ActiveView, what: str, columns: tuple[str, ...]) -> None:
    index = table.index
    for name in columns:
        if len(getattr(table, name)) != len(index):
            raise InputError(f"{what}.{name} has {len(getattr(table, name))} entries, {what}.index has {len(index)}")
    if not (index[1:] > index[:-1]).all():
        values, counts = np.unique(index, return_counts=True)
        if len(values) < len(index):
            raise InputError(f"{what}.index has request {values[np.argmax(counts > 1)]} twice")
