"""The certificate format: building, reading and writing it (``docs/certificates.md``)."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CertificateError, InputError
from ..instance import Cluster, Instance

__all__ = ["SCHEMA", "VERSION", "fields", "new_certificate", "read_certificate", "show", "write_certificate"]

SCHEMA = "balanceroute-certificate"
VERSION = 1

_FIELDS = ("schema", "version", "problem", "kind", "instance", "cluster", "claim", "data")
_MAX_BYTES = 2**29  # of a file, decompressed
_MAX_DEPTH = 32


def new_certificate(
    problem: str, kind: str, inst: Instance, cluster: Cluster, claim: int | Fraction, data: dict[str, Any]
) -> dict[str, Any]:
    """A certificate as a plain dict: integers stay integers, a Fraction becomes ``"num/den"``."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "problem": problem,
        "kind": kind,
        "instance": inst.digest(),
        "cluster": cluster.digest(),
        "claim": claim if isinstance(claim, int) else f"{claim.numerator}/{claim.denominator}",
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
