"""Immediate baselines: rules that bind a request as soon as it is visible (``docs/model.md``, section 5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ..errors import InputError
from ..instance import Cluster
from .br import choice

if TYPE_CHECKING:
    from .view import Request, View

__all__ = [
    "JSQ",
    "VLLM",
    "VLLMKV",
    "Dynamo",
    "Llumnix",
    "PowerOfTwo",
    "Random",
    "RoundRobin",
    "SGLangTokens",
    "TPUMinMax",
]


class _Immediate:
    """What the immediate rules share: one compiled function, told apart by `rule`."""

    mode: Literal["immediate"] = "immediate"
    loop = "immediate"
    rule: ClassVar[str]
    random: ClassVar[bool] = False

    def __init__(self) -> None:
        self._bound = 0
        self._rng = np.random.default_rng(0)

    def params(self, workers: int, limited: bool) -> Any:
        """Which rule, for the compiled function."""
        from .kernels import immediate as kernel

        return kernel.ImmediateParams(getattr(kernel, self.rule))

    def reset(self, cluster: Cluster | None = None, rng: np.random.Generator | None = None) -> None:
        """Start anew: forget the requests bound so far; draw from `rng` (default: seed 0)."""
        self._bound = 0
        self._rng = np.random.default_rng(0) if rng is None else rng

    def bind(self, view: View, request: Request) -> int:
        """Worker of `request`, by the same compiled rule as a simulation."""
        from .kernels.live import bind_one

        worker = bind_one(
            self.params(view.workers, view.kv_capacity is not None),
            view.load,
            view.active,
            view.queued,
            view.queued_tokens,
            view.blocks,
            view.queued_blocks,
            view.own,
            2**62 if view.kv_capacity is None else view.kv_capacity,
            self._bound,
            self._rng,
        )
        self._bound += 1
        return int(worker)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Random(_Immediate):
    """A uniformly random worker, ``floor(u * G)`` with one draw per request."""

    rule = "RANDOM"
    random = True
    random = True


class RoundRobin(_Immediate):
    """The i-th bound request to worker ``i mod G``."""

    rule = "ROUND_ROBIN"


class JSQ(_Immediate):
    """Join the shortest queue: fewest active + queued requests. Ties: lower load, lower index."""

    rule = "JSQ"


class PowerOfTwo(_Immediate):
    """The better of two distinct random workers (power of two choices).

    Parameters
    ----------
    by : {"requests", "tokens"}
        Fewer active + queued requests (ties: load, index), or fewer load + queued prompt tokens (ties: requests,
        index).

    References
    ----------
    Mitzenmacher, IEEE TPDS 12(10), 2001.
    """

    rule = "PO2"
    random = True

    def __init__(self, by: Literal["requests", "tokens"] = "requests") -> None:
        super().__init__()
        self.by = choice(by, "by", ("requests", "tokens"))
        if self.by == "tokens":
            self.rule = "PO2_TOKENS"  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"PowerOfTwo(by={self.by!r})"


class VLLM(_Immediate):
    """Least ``4*waiting + running`` requests, the rule of vLLM's data-parallel coordinator client up to v0.26.

    Ties: lower load, lower index (vLLM itself rotates among its engines).
    """

    rule = "VLLM"


class VLLMKV(_Immediate):
    """vLLM's KV-aware rule: least ``max(own, waiting + running) + waiting * 6 * max(0, kv_use - 0.5)``.

    ``own`` counts the requests that this router has in flight on the worker, ``kv_use = load / C`` (0 without a
    capacity). Ties: load, index. Source: vLLM, data-parallel load balancing, rule merged in July 2026.
    """

    rule = "VLLM_KV"


class SGLangTokens(_Immediate):
    """SGLang's token balance: least (load + prompt tokens of the queue, active + queued requests).

    Ties: load, index. Source: SGLang data-parallel controller, load-balance method "minimum tokens".
    """

    rule = "SGLANG_TOKENS"


class Dynamo(_Immediate):
    """NVIDIA Dynamo's KV router without cache overlap: fewest active decode blocks + prompt blocks of the queue.

    Blocks of 16 tokens, ``ceil((s + age)/16)`` per active request; the request's own prompt blocks are the same on
    every worker. Ties are broken at random. Limit: Dynamo adds a temperature and the overlap with cached prefixes,
    which this model does not have. Source: NVIDIA Dynamo, kv_router scheduler.
    """

    rule = "DYNAMO"
    random = True


class Llumnix(_Immediate):
    """Llumnix' dispatch by freeness: largest ``(free_blocks - waiting_blocks) / max(1, running + waiting)``.

    Blocks of 16 tokens; needs a KV capacity. Ties: load, index. Limit: Llumnix also migrates running requests, which
    sticky routing excludes. Source: Sun et al., "Llumnix", OSDI 2024.

    Raises
    ------
    InputError
        When it meets a cluster without a KV capacity.
    """

    rule = "LLUMNIX"

    def params(self, workers: int, limited: bool) -> Any:
        """Which rule, for the compiled function."""
        if not limited:
            raise InputError("llumnix needs a KV capacity: give the cluster kv_capacity (tokens per worker)")
        return super().params(workers, limited)


class TPUMinMax(_Immediate):
    """Least (queued prompt tokens + load + own prompt), then fewest requests [reading].

    Ties: load, index. Merged into a TPU serving back end in August 2026; the third criterion there, least remaining
    output where known, needs lengths that a router does not see.
    """

    rule = "TPU_MINMAX"
