"""Worst cases: bad instances, whole families, and the online game (``docs/worst_cases.md``)."""
