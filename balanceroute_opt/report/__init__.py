"""Reports: results as one self-contained page (``docs/report.md``)."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["write_report"]


def write_report(
    source: Any, path: str | os.PathLike[str], command: str = "", made: str = "", force: bool = False
) -> None:
    """Write results as one HTML page that needs no network.

    Parameters
    ----------
    source : path-like, Run, Comparison or dict
        A saved run; a folder of runs, comparisons, or files of ``compare --certificates``; a comparison; a table of
        ``balanceroute run``. Runs and certificates are checked again.
    path : path-like
        The page; written completely or not at all.
    command, made : str
        The command and the date that the page shows, if any.
    force : bool
        Replace a file that exists.

    Raises
    ------
    InputError
        If the source is not of a known kind or damaged, or the page cannot be written.
    InvalidSchedule, CertificateError
        If a run or a certificate does not hold what it says.
    """
    from ..files import atomic_write, require_writable
    from .collect import collect
    from .page import render

    require_writable(path, force)
    text = render(collect(source), command, made)
    with atomic_write(path, force) as temporary:
        temporary.write_text(text, encoding="utf-8")
