"""Routers: the view they see, the protocol of a user's own, and every built-in rule (``docs/model.md``, section 5).

``ROUTERS`` maps names to factories; :func:`make` turns a name or an object into a router.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import InputError
from .bfio import BFIO, BFIOHeuristic
from .br import BR0, BRH
from .deferral import Deferral
from .immediate import (
    JSQ,
    VLLM,
    VLLMKV,
    Dynamo,
    Llumnix,
    PowerOfTwo,
    Random,
    RoundRobin,
    SGLangTokens,
    TPUMinMax,
)
from .pooled import LPT, TRTLLM, LeastKV
from .view import ActiveView, ImmediateRouter, PooledRouter, PoolView, Request, View

__all__ = [
    "BFIO",
    "BR0",
    "BRH",
    "JSQ",
    "LPT",
    "ROUTERS",
    "TRTLLM",
    "VLLM",
    "VLLMKV",
    "ActiveView",
    "BFIOHeuristic",
    "Deferral",
    "Dynamo",
    "ImmediateRouter",
    "LeastKV",
    "Llumnix",
    "PoolView",
    "PooledRouter",
    "PowerOfTwo",
    "Random",
    "Request",
    "RoundRobin",
    "SGLangTokens",
    "TPUMinMax",
    "View",
    "make",
]


def _br0_least_load(**options: Any) -> BR0:
    """BR-0 whose stage 1 takes the least loaded worker [ours]."""
    return BR0(**({"greedy_worker": "least-load"} | options))


ROUTERS: dict[str, Callable[..., Any]] = {
    "br-0": BR0,
    "br-0-least-load": _br0_least_load,
    "br-h": BRH,
    "bf-io": BFIO,
    "bf-io-heuristic": BFIOHeuristic,
    "least-kv": LeastKV,
    "lpt": LPT,
    "deferral": Deferral,
    "jsq": JSQ,
    "po2": PowerOfTwo,
    "round-robin": RoundRobin,
    "random": Random,
    "vllm": VLLM,
    "vllm-kv": VLLMKV,
    "sglang-tokens": SGLangTokens,
    "dynamo": Dynamo,
    "llumnix": Llumnix,
    "trtllm-adp": TRTLLM,
    "tpu-minmax": TPUMinMax,
}
"""Name -> factory of every built-in router; called with the router's own options."""


def make(router: Any) -> tuple[str, Any]:
    """Name and object of a router given by name or as an object of the protocol.

    Raises
    ------
    InputError
        If the name is unknown, or the object lacks ``mode`` or its method.
    """
    if isinstance(router, str):
        if router not in ROUTERS:
            raise InputError(f"unknown router {router!r}; known: {', '.join(ROUTERS)}")
        return router, ROUTERS[router]()
    mode = getattr(router, "mode", None)
    if mode not in ("pooled", "immediate"):
        raise InputError(f'a router needs mode = "pooled" or "immediate", {type(router).__name__} has {mode!r}')
    method = "route" if mode == "pooled" else "bind"
    if not callable(getattr(router, method, None)):
        raise InputError(f"a {mode} router needs the method {method}, {type(router).__name__} has none")
    return getattr(router, "name", None) or type(router).__name__, router
