"""JSON files of instances, placement problems and schedules (``docs/files.md``), and atomic writing for all files."""

from __future__ import annotations

import gzip
import json
import os
import re
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ._validate import INT64_MAX, Int64Array, integers
from .errors import BalanceRouteError, InputError
from .instance import Cluster, Instance
from .schedule import Schedule

__all__ = [
    "atomic_write",
    "read_instance",
    "read_json",
    "read_problem",
    "read_schedule",
    "require_writable",
    "write_instance",
    "write_json",
    "write_schedule",
]

MAX_JSON_BYTES = 64 * 2**20
"""Largest JSON text that is read or written, after decompression (about two million requests)."""

_VERSION = 1
_INSTANCE = "balanceroute/instance"
_SCHEDULE = "balanceroute/schedule"
_MAX_START = 2**62
_STRING_OR_PART = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{:]')

StrPath = str | os.PathLike[str]


def read_instance(path: StrPath) -> Instance:
    """The instance in a JSON file (plain or gzip, told by content).

    Parameters
    ----------
    path : path-like
        A file of schema ``balanceroute/instance``; see ``docs/files.md``.

    Raises
    ------
    InputError
        One line with the file, the field and the value: missing file, directory, not JSON, unknown,
        missing or repeated field, newer version, wrong type, number out of range.
    """
    return read_problem(path)[0]


def read_problem(path: StrPath) -> tuple[Instance, Cluster | None, Int64Array | None]:
    """Instance, cluster and admission steps of a JSON file; what the file lacks is None.

    Parameters
    ----------
    path : path-like
        A file of schema ``balanceroute/instance``.

    Returns
    -------
    inst : Instance
    cluster : Cluster or None
    start : read-only ndarray of int64, shape (n,), or None
        Admission steps ``t_i``: with them the file is a placement problem (``docs/model.md``, section 6, P1).

    Raises
    ------
    InputError
        As :func:`read_instance`.
    """
    required, optional = ("clock", "release", "prompt", "output"), ("name", "key", "cluster", "start")
    with _named(path):
        data = _document(read_json(path), _INSTANCE, required, optional)
        clock = data["clock"]
        if clock not in ("step", "wall"):
            raise InputError(f'clock must be "step" or "wall", got {_short(clock)}')
        name = data.get("name", "")
        if not isinstance(name, str):
            raise InputError(f"name must be a string, got {_short(name)}")
        release = _column(data, "release", (int,) if clock == "step" else (int, float))
        prompt, output = _column(data, "prompt", (int,)), _column(data, "output", (int,))
        key = _key_column(data) if "key" in data else None
        inst = Instance(release, prompt, output, key=key, name=name, clock=clock)
        cluster = Cluster.from_dict(data["cluster"]) if "cluster" in data else None
        start = _starts(_column(data, "start", (int,)), inst) if "start" in data else None
    return inst, cluster, start


def write_instance(
    inst: Instance,
    path: StrPath,
    force: bool = False,
    cluster: Cluster | None = None,
    start: Any = None,
) -> None:
    """Write `inst`, and with it a cluster and admission steps where given, as a JSON file.

    Parameters
    ----------
    inst : Instance
    path : path-like
        Compressed if the name ends in ``.gz``.
    force : bool
        Replace a file that exists.
    cluster : Cluster, optional
    start : array_like of int, shape (n,), optional
        Admission steps; only on the step clock.

    Raises
    ------
    InputError
        If the file exists and `force` is false, the place cannot be written, or `start` does not fit.
    """
    data: dict[str, Any] = {"schema": _INSTANCE, "version": _VERSION, "name": inst.name, "clock": inst.clock}
    data |= {"release": inst.release.tolist(), "prompt": inst.prompt.tolist(), "output": inst.output.tolist()}
    if inst.key is not None:
        data["key"] = inst.key.tolist()
    if cluster is not None:
        data["cluster"] = cluster.as_dict()
    if start is not None:
        data["start"] = _starts(start, inst).tolist()
    write_json(data, path, force)


def read_schedule(path: StrPath, inst: Instance | None = None) -> Schedule:
    """The schedule in a JSON file of schema ``balanceroute/schedule``.

    Parameters
    ----------
    path : path-like
    inst : Instance, optional
        If given, the schedule must be one for this instance: as many entries, and the same digest
        where the file states one. (Whether it obeys the model is a question for ``check``.)

    Raises
    ------
    InputError
        As :func:`read_instance`, or if the schedule belongs to another instance.
    """
    with _named(path):
        data = _document(read_json(path), _SCHEDULE, ("start", "worker"), ("instance",))
        sched = Schedule(_column(data, "start", (int,)), _column(data, "worker", (int,)))
        digest = data.get("instance")
        if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
            raise InputError(f"instance must be a digest of 64 hexadecimal digits, got {_short(digest)}")
        if inst is not None and digest not in (None, inst.digest()):
            raise InputError(f"instance is {digest[:12]}..., and the instance at hand is {inst.digest()[:12]}...")
        if inst is not None and len(sched) != len(inst):
            raise InputError(f"start has {len(sched)} entries, the instance {len(inst)} requests")
    return sched


def write_schedule(sched: Schedule, path: StrPath, inst: Instance | None = None, force: bool = False) -> None:
    """Write `sched` as a JSON file; with `inst` its digest too, so that readers notice a mix-up.

    Parameters
    ----------
    sched : Schedule
    path : path-like
        Compressed if the name ends in ``.gz``.
    inst : Instance, optional
        The instance that `sched` is for.
    force : bool
        Replace a file that exists.

    Raises
    ------
    InputError
        If the file exists and `force` is false, or the place cannot be written.
    """
    data: dict[str, Any] = {"schema": _SCHEDULE, "version": _VERSION}
    if inst is not None:
        data["instance"] = inst.digest()
    write_json(data | {"start": sched.start.tolist(), "worker": sched.worker.tolist()}, path, force)


def read_json(path: StrPath, max_parts: int = 1000, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The JSON object in a file, strictly: UTF-8, no NaN or Infinity, no repeated field.

    Parameters
    ----------
    path : path-like
        Plain or gzip, told by content.
    max_parts : int
        Most lists, objects and fields in it; with `max_bytes` it bounds memory, whatever the file holds.
    max_bytes : int
        Most bytes of text, after decompression.

    Raises
    ------
    InputError
        One line that begins with the file.
    """
    with _named(path):
        raw = _read_bytes(path, max_bytes)
        if not raw.strip():
            raise InputError("the file is empty")
        try:
            text = raw.decode()
        except UnicodeDecodeError as exc:
            raise InputError(f"not JSON: byte {exc.start} ({raw[exc.start]:#04x}) is not UTF-8") from None
        del raw
        # Counting without strings costs a scan of the text, and nearly no file needs it.
        if sum(map(text.count, "[{:")) > max_parts:
            parts = sum(not match.group().startswith('"') for match in _STRING_OR_PART.finditer(text))
            if parts > max_parts:
                raise InputError(f"holds {parts} lists, objects and fields, more than {max_parts}")
        try:
            data = json.loads(text, object_pairs_hook=_pairs, parse_constant=_no_constant)
        except json.JSONDecodeError as exc:
            raise InputError(f"not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}") from None
        except RecursionError:
            raise InputError("lists and objects are nested too deep") from None
        except BalanceRouteError:
            raise
        except ValueError as exc:  # Python's limit on the digits of an integer
            raise InputError(f"not readable: {exc}") from None
        if not isinstance(data, dict):
            raise InputError(f"must hold one JSON object, got {_short(data)}")
    return data


def write_json(data: dict[str, Any], path: StrPath, force: bool = False, max_bytes: int = MAX_JSON_BYTES) -> None:
    """Write `data` as JSON, one field per line; the same bytes for the same data.

    Parameters
    ----------
    data : dict
        Plain Python values without NaN or infinity.
    path : path-like
        Compressed if the name ends in ``.gz``.
    force : bool
        Replace a file that exists.
    max_bytes : int
        Longer texts are refused, because :func:`read_json` would refuse them.

    Raises
    ------
    InputError
        If the file exists and `force` is false, the place cannot be written, or the text is too long.
    """
    with atomic_write(path, force) as temporary:
        fields = (f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in data.items())
        text = ("{\n" + ",\n".join(fields) + "\n}\n").encode()
        if len(text) > max_bytes:
            raise InputError(f"{os.fspath(path)}: {len(text)} bytes of JSON, more than {max_bytes}")
        # No time stamp inside: equal data, equal bytes.
        temporary.write_bytes(gzip.compress(text, mtime=0) if _is_gz(path) else text)


def require_writable(path: StrPath, force: bool = False) -> None:
    """Raise InputError unless a file may be written at `path`; to be asked before long work.

    Parameters
    ----------
    path : path-like
    force : bool
        Allow a regular file that exists.
    """
    with _named(path):
        target = Path(path)
        if target.is_dir():
            raise InputError("is a directory, not a file to write")
        if target.exists() and not target.is_file():
            raise InputError("is not a regular file")
        if target.exists() and not force:
            raise InputError("exists already; use force=True (--force) to replace it")
        if not target.resolve().parent.is_dir():
            raise InputError(f"cannot be written: {target.resolve().parent} is not a folder")


@contextmanager
def atomic_write(path: StrPath, force: bool = False) -> Iterator[Path]:
    """Write a file completely or not at all.

    Yields the path of an empty temporary file in the same folder with the same suffix. When the block
    ends it takes the place of `path` in one step; if the block raises, Ctrl-C included, it is removed
    and `path` is as before.

    Parameters
    ----------
    path : path-like
        A symbolic link is followed.
    force : bool
        Replace a regular file that exists.

    Raises
    ------
    InputError
        If `path` exists and `force` is false, is a directory, or cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "table.csv"
    >>> with atomic_write(path) as temporary:
    ...     _ = temporary.write_text("a,b\\n")
    >>> path.read_text()
    'a,b\\n'
    """
    require_writable(path, force)
    target = Path(path).resolve()
    temporary = target.with_name(f".{secrets.token_hex(6)}-{target.name[-64:]}")
    with _named(path):
        # os.open obeys the umask; the tempfile module would make a private file.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        with _named(path):
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            require_writable(path, force)  # it may have appeared in the meantime
            os.replace(temporary, target)
    except OSError as exc:
        # The disk is full, say; errors about other files are not ours.
        if exc.filename is not None and os.fspath(exc.filename) != str(temporary):
            raise
        raise InputError(f"{os.fspath(path)}: cannot be written: {exc.strerror or exc}") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _named(path: StrPath) -> Iterator[None]:
    """Put the file's name before the message of every error that lacks it, and type system errors."""
    try:
        name = os.fspath(path)
    except TypeError:
        raise InputError(f"a path must be a string or path-like, got {_short(path)}") from None
    try:
        yield
    except BalanceRouteError as exc:
        message = str(exc)
        if message.startswith((f"{name}: ", f"{name!r}: ")):
            raise
        raise type(exc)(f"{name}: {message}") from None
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a directory, not a file") from None
    except OSError as exc:
        raise InputError(f"{name}: {exc.strerror or exc}") from None
    except ValueError as exc:
        if "null" not in str(exc):  # only of paths: embedded null byte
            raise
        raise InputError(f"{name!r}: {exc}") from None


def _is_gz(path: StrPath) -> bool:
    return os.fspath(path).endswith(".gz")


def _read_bytes(path: StrPath, limit: int) -> bytes:
    with Path(path).open("rb") as file:
        magic = file.peek(2)[:2]
        source: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=file) if magic == b"\x1f\x8b" else file
        try:
            raw = source.read(limit + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
            raise InputError(f"not a complete gzip file: {exc}") from None
    if len(raw) > limit:
        raise InputError(f"more than {limit} bytes of JSON text")
    return raw


def _document(
    data: dict[str, Any], schema: str, required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    """Check schema, version and the names of the fields, in that order."""
    for name in ("schema", "version"):
        if name not in data:
            raise InputError(f'lacks the field "{name}"; a file of this kind has "schema": "{schema}"')
    if data["schema"] != schema:
        raise InputError(f'schema must be "{schema}", got {_short(data["schema"])}')
    version = data["version"]
    if type(version) is not int or version < 1:
        raise InputError(f"version must be an integer >= 1, got {_short(version)}")
    if version > _VERSION:
        raise InputError(f"version {version} is newer than this release reads ({_VERSION})")
    known = ("schema", "version", *required, *optional)
    for name in data:
        if name not in known:
            raise InputError(f"unknown field {_short(name)}; fields: {', '.join(known)}")
    for name in required:
        if name not in data:
            raise InputError(f'lacks the field "{name}"')
    return data


def _column(data: dict[str, Any], name: str, types: tuple[type, ...]) -> list[Any]:
    values = data[name]
    kind = "an integer" if types == (int,) else "a number"
    if not isinstance(values, list):
        raise InputError(f"{name} must be a list with {kind} per request, got {_short(values)}")
    # bool is a type of its own here, so that true is no number.
    if not set(map(type, values)) <= set(types):
        i = next(i for i, value in enumerate(values) if type(value) not in types)
        raise InputError(f"{name}[{i}] must be {kind}, got {_short(values[i])}")
    if values and not -INT64_MAX <= min(values) <= max(values) <= INT64_MAX:
        for i, value in enumerate(values):
            if isinstance(value, int) and abs(value) > INT64_MAX:
                raise InputError(f"{name}[{i}] does not fit 64 bits, got {_short(value)}")
    return values


def _key_column(data: dict[str, Any]) -> list[Any]:
    values = data["key"]
    if not (isinstance(values, list) and values and isinstance(values[0], str)):
        return _column(data, "key", (int,))
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise InputError(f"key[{i}] must be a string as key[0] is, got {_short(value)}")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InputError(f"key[{i}] holds half a surrogate pair: {_short(value)}")
    return values


def _starts(start: Any, inst: Instance) -> Int64Array:
    steps = integers(start, "start", 0, _MAX_START)
    if inst.clock != "step":
        raise InputError('start counts steps and needs clock "step", got "wall"')
    if len(steps) != len(inst):
        raise InputError(f"start has {len(steps)} entries, release has {len(inst)}")
    return steps


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        for name, _ in pairs:
            if name not in data:
                raise InputError(f"field {_short(name)} is given twice")
            del data[name]
    return data


def _no_constant(text: str) -> NoReturn:
    raise InputError(f"not JSON: the number {text} is not allowed")


def _short(value: Any) -> str:
    """`value` as JSON where it is, in at most 60 characters."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else "null" if value is None else ""
    if not text:
        text = json.dumps(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
