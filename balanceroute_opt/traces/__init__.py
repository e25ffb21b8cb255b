"""Public request traces: readers, a description, a catalog and downloads (``docs/traces.md``).

Names are loaded on first use, so that importing this package does not import polars.
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "CATALOG": "catalog",
    "CatalogEntry": "catalog",
    "FORMATS": "formats",
    "TraceFormat": "formats",
    "TraceReport": "reader",
    "TraceSummary": "describe",
    "cached_trace": "fetch",
    "describe_trace": "describe",
    "fetch_trace": "fetch",
    "plot_trace": "describe",
    "read_trace": "reader",
    "read_trace_report": "reader",
}
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
