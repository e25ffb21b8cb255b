"""Downloads of public traces into the user's cache: resumed, and checked against a pinned hash."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import math
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._validate import real
from ..errors import InputError
from ..files import atomic_write
from .catalog import CATALOG, CatalogEntry

__all__ = ["cache_dir", "cached_trace", "fetch_trace", "find_entry", "pinned_hash"]

_CHUNK = 256 * 1024
Progress = Callable[[int, int | None], None]


def cache_dir() -> Path:
    """Folder of fetched traces: ``$BALANCEROUTE_CACHE``, or ``balanceroute`` in the platform's cache folder."""
    own = os.environ.get("BALANCEROUTE_CACHE")
    if own:
        return Path(own) / "traces"
    home = Path.home()
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "balanceroute" / "traces"


def find_entry(name: str) -> CatalogEntry | None:
    """The catalog's entry of that name, ``_`` and ``-`` alike; None if there is none."""
    return CATALOG.get(name.replace("_", "-").lower())


def cached_trace(name: str) -> Path | None:
    """The file of a trace that was fetched before, or None."""
    entry = _entry(name)
    path = cache_dir() / entry.file
    return path if path.is_file() else None


def pinned_hash(entry: CatalogEntry) -> str | None:
    """The SHA-256 that the file of `entry` must have: the catalog's, or that of the first download."""
    if entry.sha256 is not None:
        return entry.sha256
    with contextlib.suppress(OSError, UnicodeDecodeError):
        recorded = (cache_dir() / f"{entry.file}.sha256").read_text().split()
        if recorded and len(recorded[0]) == 64:
            return recorded[0]
    return None


def fetch_trace(
    name: str,
    *,
    base_url: str | None = None,
    timeout: float = 30.0,
    retries: int = 3,
    progress: Progress | None = None,
) -> Path:
    """The file of a public trace in the cache, downloaded if it is not there.

    Parameters
    ----------
    name : str
        A name of the catalog.
    base_url : str, optional
        Take the file from ``base_url/<last part of the source's path>`` instead (a mirror).
    timeout : float
        Seconds without any byte after which the download fails.
    retries : int
        How often a broken connection is resumed.
    progress : callable, optional
        Called with the bytes that are there and the total (None if unknown).

    Returns
    -------
    Path

    Raises
    ------
    InputError
        Unknown name, 404, time-out, broken connection (what arrived is kept and the next call resumes it),
        or a wrong hash (what arrived is removed).

    Notes
    -----
    A file without a pinned hash has the hash of its first download recorded beside it, and must have it again.
    """
    entry = _entry(name)
    timeout = real(timeout, "timeout", positive=True)
    target = cache_dir() / entry.file
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"{target.parent}: cannot be used as the cache: {exc.strerror or exc}") from None
    if target.is_file():
        _check_hash(entry, target)
        return target
    url = entry.url if base_url is None else f"{base_url.rstrip('/')}/{entry.url.rpartition('/')[2]}"
    part = target.with_name(target.name + ".part")
    for attempt in range(retries + 1):
        try:
            _download(url, part, pinned_hash(entry) is not None, timeout, progress)
            break
        except _BrokenError as exc:
            if attempt == retries:
                raise InputError(f"{url}: {exc}; what arrived is kept: fetch again to go on") from None
    _check_hash(entry, part)
    if entry.sha256 is None:
        with atomic_write(target.with_name(target.name + ".sha256"), force=True) as temporary:
            temporary.write_text(f"{_sha256(part)}  {target.name}\n")
    os.replace(part, target)
    _state_file(part).unlink(missing_ok=True)
    return target


class _BrokenError(Exception):
    """The connection ended before the file did."""


def _download(url: str, part: Path, pinned: bool, timeout: float, progress: Progress | None) -> None:
    """Append what is missing to `part`."""
    have = part.stat().st_size if part.is_file() else 0
    state = _read_state(part)
    validator = state.get("validator") if state.get("url") == url else None
    # Without a hash to check or a validator, the rest of another version could be glued on unnoticed.
    if have and not (pinned or validator):
        have = 0
    headers = {"User-Agent": "balanceroute", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
            resumed = answer.status == 206 and _range_start(answer.headers.get("Content-Range")) == have
            if answer.status == 206 and not resumed:
                raise InputError(f"{url}: the server answered another range than {have}-")
            if not resumed:
                have = 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length and length.isdigit() else None
            tag = answer.headers.get("ETag") or ""
            _write_state(part, url, tag if tag.startswith('"') else answer.headers.get("Last-Modified"))
            with part.open("ab" if resumed else "wb") as file:
                while chunk := answer.read1(_CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    if progress is not None:
                        progress(have, total)
    except urllib.error.HTTPError as exc:
        exc.close()
        if exc.code == 416 and have:  # everything was there already, or the file became shorter
            size = (exc.headers.get("Content-Range") or "").rpartition("/")[2]
            if size == str(have):
                return
            part.unlink()
            raise _BrokenError(f"{have} bytes were there, the server's file has {size or 'another number'}") from None
        raise InputError(f"{url}: the server answers {exc.code} {exc.reason}") from None
    except TimeoutError:
        raise InputError(f"{url}: no byte for {timeout:g} s; what arrived is kept: fetch again to go on") from None
    except urllib.error.URLError as exc:
        if isinstance(exc.reason, TimeoutError):
            raise InputError(f"{url}: no answer for {timeout:g} s") from None
        raise InputError(f"{url}: {exc.reason}") from None
    except http.client.IncompleteRead:
        raise _BrokenError(f"the connection broke off after {have} bytes") from None
    except (http.client.HTTPException, ConnectionError) as exc:
        raise _BrokenError(f"the connection broke off after {have} bytes: {exc or type(exc).__name__}") from None
    except ValueError as exc:
        raise InputError(f"{url}: not a URL: {exc}") from None
    except OSError as exc:
        raise InputError(f"{part}: cannot be written: {exc.strerror or exc}") from None
    if total is not None and have < total:
        raise _BrokenError(f"the connection broke off after {have} of {total} bytes")


def _range_start(text: str | None) -> float:
    start = (text or "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdigit() else math.nan


def _check_hash(entry: CatalogEntry, path: Path) -> None:
    expected = pinned_hash(entry)
    if expected is None:
        return
    found = _sha256(path)
    if found != expected:
        path.unlink()
        _state_file(path).unlink(missing_ok=True)
        kind = "pinned" if entry.sha256 else "recorded"
        raise InputError(f"{path}: SHA-256 is {found}, the {kind} one is {expected}; the file was removed")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_state(part: Path) -> dict[str, Any]:
    try:
        data = json.loads(_state_file(part).read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _write_state(part: Path, url: str, validator: str | None) -> None:
    with atomic_write(_state_file(part), force=True) as temporary:
        temporary.write_text(json.dumps({"url": url, "validator": validator}))


def _entry(name: str) -> CatalogEntry:
    entry = find_entry(name) if isinstance(name, str) else None
    if entry is None:
        raise InputError(f"no public trace is called {name!r}; names: {', '.join(CATALOG)}")
    return entry
