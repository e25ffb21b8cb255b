"""The certificate format: building, reading and writing it (``docs/certificates.md``)."""

from __future__ import annotations

import base64
import gzip
import json
import math
import os
import re
import sys
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .._validate import Int64Array
from ..errors import CertificateError, InputError
from ..instance import Cluster, Instance

__all__ = [
    "INFEASIBLE",
    "LAST_STEP",
    "SCHEMA",
    "VERSION",
    "bytes_of",
    "fields",
    "header",
    "integer",
    "integers",
    "items",
    "largest_float_below",
    "new_certificate",
    "rational",
    "read_certificate",
    "show",
    "table",
    "write_certificate",
]

SCHEMA = "balanceroute-certificate"
VERSION = 1
INFEASIBLE = "infeasible"  # the claim that there is no solution

LAST_STEP = 2**62

_FIELDS = ("schema", "version", "problem", "kind", "instance", "cluster", "claim", "data")
_MAX_BYTES = 2**29  # of a file, decompressed
_MAX_DEPTH = 32


def new_certificate(
    problem: str, kind: str, inst: Instance, cluster: Cluster, claim: int | float | Fraction, data: dict[str, Any]
) -> dict[str, Any]:
    """A certificate as a plain dict: integers stay integers, a Fraction becomes ``"num/den"``, inf ``"infeasible"``."""
    if isinstance(claim, float):
        if claim != math.inf:
            raise CertificateError(f"claim must be an integer, a fraction or inf, got {show(claim)}")
        text: int | str = INFEASIBLE
    else:
        text = claim if isinstance(claim, int) else f"{claim.numerator}/{claim.denominator}"
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "problem": problem,
        "kind": kind,
        "instance": inst.digest(),
        "cluster": cluster.digest(),
        "claim": text,
        "data": data,
    }


def show(value: Any) -> str:
    """A short text for an error message, whatever `value` is (long integers and nested lists included)."""
    if isinstance(value, (list, tuple, dict)):
        return f"a {type(value).__name__} of {len(value)} entries"
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def largest_float_below(value: Fraction) -> float:
    """The largest float that is not above `value`."""
    try:
        nearest = float(value)
    except OverflowError:
        return sys.float_info.max
    return nearest if nearest <= value else math.nextafter(nearest, -math.inf)


def fields(value: Any, names: tuple[str, ...], where: str) -> list[Any]:
    """The values of exactly these fields of an object, in this order."""
    if not isinstance(value, dict):
        raise CertificateError(f"{where} must be an object, got {show(value)}")
    for name in value:
        if name not in names:
            raise CertificateError(f"{where} has an unknown field {show(name)}; fields: {', '.join(names)}")
    for name in names:
        if name not in value:
            raise CertificateError(f"{where} lacks the field {name!r}")
    return [value[name] for name in names]


def integer(value: Any, where: str, low: int, high: int | None = None) -> int:
    """An integer from `low` to `high`."""
    if type(value) is not int:  # a bool or a float is none
        raise CertificateError(f"{where} must be an integer, got {show(value)}")
    if value < low or (high is not None and value > high):
        raise CertificateError(f"{where} must be in {low} .. {'' if high is None else show(high)}, got {show(value)}")
    return value


def items(value: Any, where: str) -> list[Any]:
    """A list of anything."""
    if not isinstance(value, list):
        raise CertificateError(f"{where} must be a list, got {show(value)}")
    return value


def integers(value: Any, where: str, low: int, high: int, count: int | None = None) -> list[int]:
    """A list of `count` integers (None: of any number) from `low` to `high`."""
    if not isinstance(value, list) or (count is not None and len(value) != count):
        number = "" if count is None else f"{count} "
        raise CertificateError(f"{where} must be a list of {number}integers, got {show(value)}")
    for index, entry in enumerate(value):
        if type(entry) is not int or not low <= entry <= high:
            integer(entry, f"{where}[{index}]", low, high)
    return value


def table(value: Any, where: str, columns: int, high: int) -> list[list[int]]:
    """A list of rows of `columns` integers from 0 to `high`, no two of which agree in all but the last."""
    seen = set()
    for index, row in enumerate(items(value, where)):
        key = tuple(integers(row, f"{where}[{index}]", 0, high, columns)[:-1])
        if key in seen:
            raise CertificateError(f"{where}[{index}] names {', '.join(map(show, key))} a second time")
        seen.add(key)
    return value


def bytes_of(value: Any, where: str, rows: int, columns: int) -> Int64Array:
    """A table of integers from 0 to 255 that is written row by row as base64."""
    try:
        found = np.frombuffer(base64.b64decode(value, validate=True), np.uint8)
    except (TypeError, ValueError):
        raise CertificateError(f"{where} must be base64, got {show(value)}") from None
    if len(found) != rows * columns:
        raise CertificateError(f"{where} must hold {rows} * {columns} bytes, got {len(found)}")
    return found.astype(np.int64).reshape(rows, columns)


def rational(value: Any, where: str) -> Fraction:
    """A rational ``"num/den"`` >= 0."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,4000}/[1-9][0-9]{0,3999}", value, re.ASCII):
        raise CertificateError(f'{where} must be a rational "num/den" >= 0, got {show(value)}')
    numerator, denominator = value.split("/")
    return Fraction(int(numerator), int(denominator))


def header(certificate: Any) -> tuple[str, str, str, str, Any, Any]:
    """``(problem, kind, instance, cluster, claim, data)`` of a certificate of a schema that is known here."""
    if not isinstance(certificate, dict):
        raise CertificateError(f"a certificate must be an object, got {show(certificate)}")
    if certificate.get("schema") != SCHEMA:
        raise CertificateError(f'schema must be "{SCHEMA}", got {show(certificate.get("schema"))}')
    version = certificate.get("version")
    if type(version) is not int or version < 1:
        raise CertificateError(f"version must be an integer >= 1, got {show(version)}")
    if version > VERSION:
        raise CertificateError(f"version {show(version)} of the schema is newer than {VERSION}, the newest known here")
    problem, kind, instance, cluster, claim, data = fields(certificate, _FIELDS, "the certificate")[2:]
    for name, text in (("problem", problem), ("kind", kind), ("instance", instance), ("cluster", cluster)):
        if not isinstance(text, str):
            raise CertificateError(f"{name} must be a string, got {show(text)}")
    return problem, kind, instance, cluster, claim, data


def about(certificate: Any, inst: Instance, cluster: Cluster) -> tuple[str, str, int | float | Fraction, Any]:
    """``(problem, kind, claim, data)`` of a certificate, or of the file of one, about this instance and cluster.

    Raises
    ------
    CertificateError
        If it is malformed, a digest is another one, or the claim is not a number of the problem.
    InputError
        If the file cannot be read, or the instance is on the other clock.
    """
    if isinstance(certificate, (str, os.PathLike)):
        certificate = read_certificate(certificate)
    problem, kind, instance, machine, claim, data = header(certificate)
    clock = "wall" if problem == "makespan" else "step"
    if inst.clock != clock:
        raise InputError(f"{show(problem)} certificates are about the {clock} clock; the instance is on the other one")
    for name, given, own in (("instance", instance, inst.digest()), ("cluster", machine, cluster.digest())):
        if given != own:
            raise CertificateError(f"the certificate is for {name} {show(given[:12])}, not {own[:12]!r}")
    if claim == INFEASIBLE:
        return problem, kind, math.inf, data
    return problem, kind, integer(claim, "claim", 0) if problem == "placement" else rational(claim, "claim"), data


def read_certificate(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a certificate from a ``.json`` or ``.json.gz`` file.

    Raises
    ------
    InputError
        If the file is missing or cannot be read.
    CertificateError
        If it is not JSON, larger than 512 MiB, nested deeper than 32, has a key twice, a number
        that is not an integer, or is not a certificate of a known schema version.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            certificate = _parse(file, str(path))
    except OSError as exc:
        if isinstance(exc, gzip.BadGzipFile):
            raise CertificateError(f"{path}: not a gzip file: {exc}") from None
        raise InputError(f"cannot read {path}: {exc.strerror or exc}") from None
    except (EOFError, zlib.error) as exc:
        raise CertificateError(f"{path}: broken gzip file: {exc}") from None
    header(certificate)
    return certificate


def _parse(file: Any, where: str) -> Any:
    chunks: list[bytes] = []
    size = depth = 0
    while chunk := file.read(2**20):
        chunks.append(chunk)
        size += len(chunk)
        if size > _MAX_BYTES:
            raise CertificateError(f"{where}: larger than {_MAX_BYTES} bytes")
        # Brackets inside strings count too: the format has none there.
        codes = np.frombuffer(chunk, np.uint8) | 0x20  # "[" and "{", "]" and "}" differ in this bit only
        level = depth + np.cumsum((codes == ord("{")).astype(np.int64) - (codes == ord("}")))
        if level.max() > _MAX_DEPTH:
            raise CertificateError(f"{where}: nested deeper than {_MAX_DEPTH}")
        depth = int(level[-1])

    def refuse(text: str) -> Any:
        raise CertificateError(f"{where}: numbers must be integers, got {show(text)}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for j, (key, _) in enumerate(pairs) if key in dict(pairs[:j]))
            raise CertificateError(f"{where}: the key {show(twice)} appears twice in one object")
        return found

    try:
        text = b"".join(chunks).decode("utf-8")
        return json.loads(text, parse_float=refuse, parse_constant=refuse, object_pairs_hook=unique)
    except RecursionError:
        raise CertificateError(f"{where}: nested deeper than {_MAX_DEPTH}") from None
    except ValueError as exc:  # not UTF-8, not JSON, an integer of more digits than Python reads
        if isinstance(exc, CertificateError):
            raise
        raise CertificateError(f"{where}: not a JSON file: {exc}") from None


def write_certificate(certificate: dict[str, Any], path: str | os.PathLike[str], force: bool = False) -> None:
    """Write a certificate to a ``.json`` or ``.json.gz`` file: all of it or nothing.

    Raises
    ------
    InputError
        If the file exists and `force` is not set, or cannot be written.
    CertificateError
        If `certificate` is not a certificate of a known schema version.
    """
    header(certificate)
    path = Path(path)
    if path.exists() and not force:
        raise InputError(f"{path} exists; use force to overwrite it")
    try:
        body = json.dumps(certificate, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as exc:
        raise CertificateError(f"the certificate cannot be written as JSON: {exc}") from None
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(gzip.compress(body, 6, mtime=0) if path.suffix == ".gz" else body)
        os.replace(temporary, path)
    except OSError as exc:
        raise InputError(f"cannot write {path}: {exc.strerror or exc}") from None
    finally:
        temporary.unlink(missing_ok=True)
