"""The compiler of all kernels: numba with a cache that knows what a kernel is made of (internal).

Numba's own cache of a function asks only whether the function's file has changed. A kernel that inlines others would
go on running their old code after an update, so here the cache lies in a folder named after the sources of all kernels
that may call each other.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba
from numba.core.options import DefaultOptions

__all__ = ["compiled", "inner"]

_PACKAGE = Path(__file__).resolve().parent
# Kernels call kernels of their own group only (the import arrows keep it so).
_GROUPS = (("routers", "simulator", "predictors"), ("oracles",))
# Without its private switch for reference counts numba compiles the same, slower.
_COUNTING, _BORROWING = ({"_nrt": on} if hasattr(DefaultOptions, "_nrt") else {} for on in (True, False))


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`function`, compiled by numba in no-Python mode at its first call and cached on disk; with numba's `options`."""
    if function is None:
        return partial(compiled, **options)
    options = _COUNTING | options  # otherwise a function takes this over from its first caller
    folder = _cache_folder(Path(inspect.getfile(function)).resolve().relative_to(_PACKAGE).parts[0])
    if folder is None:
        return numba.njit(function, **options)
    # Numba chooses the folder when it decorates; other packages keep theirs.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = folder
    try:
        return numba.njit(cache=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = before


def inner(function: Callable[..., Any]) -> Any:
    """As :func:`compiled`, for functions that only compiled functions call.

    Without an entry for Python the simulator compiles in half the time. Without reference counts it runs about three
    times as fast: its state is some hundred arrays, each of which numba would count up and down in every call. Such a
    function uses arrays of its caller and must not make, slice or return any; called from Python it crashes.
    """
    return compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, **_BORROWING)


@cache
def _cache_folder(component: str) -> str | None:
    """Folder for the kernels of a group: below NUMBA_CACHE_DIR, beside the package, or in the user's cache."""
    group = next((g for g in _GROUPS if component in g), (component,))
    sha = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(p for name in group for p in (_PACKAGE / name).rglob("*.py")):
        source = path.read_bytes()
        if b"_jit" in source:
            sha.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + source)
    name = f"balanceroute-{group[0]}-{sha.hexdigest()[:16]}"
    places = [_PACKAGE / "__pycache__", Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")]
    if numba.config.CACHE_DIR:
        places = [Path(numba.config.CACHE_DIR)]
    for place in places:
        try:
            (place / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(place / name, os.W_OK):
            return str(place / name)
    return None
