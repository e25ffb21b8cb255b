"""Routers by text: a name, a name with options, or a class in the user's own file."""

from __future__ import annotations

import ast
import copy
import inspect
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..routers import ROUTERS, make

__all__ = ["nearest", "options_of", "parse_option", "resolve", "router_from"]


def router_from(spec: Any) -> tuple[str, Any]:
    """Label and a fresh router of a spec.

    Parameters
    ----------
    spec : str or router
        ``"br-0"``, ``"br-0:subset_window=6:pool_order=longest"``, ``"mine.py:Lightest"`` (a class of the protocol
        in a Python file, which is executed), or a router object, which is copied.

    Returns
    -------
    label : str
    router : object

    Raises
    ------
    InputError
        For an unknown router or option, a file that cannot be executed, or an object that is no router.
    """
    if not isinstance(spec, str):
        try:
            copied = copy.deepcopy(spec)
        except Exception as exc:
            raise InputError(f"router {type(spec).__name__} cannot be copied: {exc}") from None
        return make(copied)
    head, *rest = spec.split(":")
    if head.endswith(".py"):
        if not rest:
            raise InputError(f"router {spec}: name a class of the file, as in {head}:ClassName")
        factory, rest = _from_file(Path(head), rest[0]), rest[1:]
    elif head in ROUTERS:
        factory = ROUTERS[head]
    else:
        raise InputError(f"unknown router {head!r}{nearest(head, ROUTERS)}; known: {', '.join(ROUTERS)}")
    options = dict(parse_option(spec, text) for text in rest)
    if options:
        known = options_of(factory())
        for name in options:
            if name not in known:
                raise InputError(f"router {head} has no option {name!r}; options: {', '.join(known) or 'none'}")
    try:
        router = factory(**options)
    except TypeError as exc:
        raise InputError(f"router {spec}: {exc}") from None
    make(router)  # refuses what is no router
    return spec, router


def resolve(routers: Any) -> list[Any]:
    """The specs behind ``"all"``, one spec, a comma-separated text or a list; checked, none twice.

    Raises
    ------
    InputError
        If there is none, one stands there twice, or one is not a router.
    """
    if isinstance(routers, str):
        specs: list[Any] = list(ROUTERS) if routers == "all" else [part.strip() for part in routers.split(",")]
    elif hasattr(routers, "mode"):
        specs = [routers]
    else:
        specs = list(routers)
    if not specs or "" in specs:
        raise InputError(f"routers must be all or names separated by commas, got {routers!r}")
    labels = [router_from(spec)[0] for spec in specs]
    for position, label in enumerate(labels):
        if label in labels[:position]:
            raise InputError(
                f"router {label} is given twice; give objects of one class different names (attribute name)"
            )
    return specs


def options_of(router: Any) -> dict[str, Any]:
    """The options of a router object by the names of its constructor, as plain data."""
    try:
        names = inspect.signature(type(router)).parameters
    except (TypeError, ValueError):
        return {}
    found = {name: getattr(router, name) for name in names if hasattr(router, name)}
    return {k: v if isinstance(v, str | int | float | None) else repr(v) for k, v in found.items()}


def nearest(word: str, known: Any) -> str:
    """``"; did you mean X?"`` if something known is near `word`, else nothing."""
    import difflib

    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def parse_option(spec: str, text: str) -> tuple[str, Any]:
    """Name and value of ``name=value``: a Python literal, or a word as it stands."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise InputError(f"router {spec}: options are written name=value, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # a word


def _from_file(path: Path, name: str) -> Any:
    try:
        source = path.read_bytes()
    except OSError as exc:
        raise InputError(f"{path}: {exc.strerror or exc}") from None
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(source, str(path), "exec"), namespace)
    except Exception as exc:
        raise InputError(f"{path}: cannot be executed: {type(exc).__name__}: {exc}") from None
    if not callable(namespace.get(name)):
        classes = [k for k, v in namespace.items() if isinstance(v, type) and hasattr(v, "mode")]
        raise InputError(
            f"{path}: no class {name!r}{nearest(name, classes)}; routers in it: {', '.join(classes) or 'none'}"
        )
    return namespace[name]
