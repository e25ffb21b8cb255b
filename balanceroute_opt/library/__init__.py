"""The library of instances: problems, best known values, bounds, and what proves them (``docs/instances.md``)."""

from __future__ import annotations

from .catalogue import Entry, Library, Verdict, read_library
from .recipes import Recipe, TraceNotFound
from .registry import COLUMNS, Row

__all__ = ["COLUMNS", "Entry", "Library", "Recipe", "Row", "TraceNotFound", "Verdict", "read_library"]
