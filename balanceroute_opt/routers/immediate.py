"""Immediate baselines: rules that bind a request as soon as it is visible (``docs/model.md``, section 5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ..instance import Cluster
from .br import choice

if TYPE_CHECKING:
    from .view import Request, View

__all__ = ["JSQ", "VLLM", "PowerOfTwo", "Random", "RoundRobin"]


class _Immediate:
    """What the immediate rules share: one compiled function, told apart by `rule`."""

    mode: Literal["immediate"] = "immediate"
    loop = "immediate"
    rule: ClassVar[str]

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
        from .kernels.immediate import bind_request

        limited = view.kv_capacity is not None
        worker = bind_request(
            self.params(view.workers, limited),
            view.load,
            view.active,
            view.queued,
            view.queued_tokens,
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
