"""Text of a plain, gzip or zstd file in bounded memory, cut into blocks of whole lines."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import InputError

__all__ = ["BLOCK", "MIN_LIMIT", "RATIO_LIMIT", "blocks", "chunks", "default_limit"]

BLOCK = 4 * 2**20
"""Bytes of text that are parsed at once; no line may be longer."""

MIN_LIMIT = 256 * 2**20
RATIO_LIMIT = 100
"""By default a compressed file may unfold to ``max(MIN_LIMIT, RATIO_LIMIT * its size)`` bytes."""

_READ = 256 * 1024
# A zstd block of 4 bytes may stand for 128 KiB, and the library cannot cap its output: small bites do.
_ZSTD_READ = 1024
_ZSTD_WINDOW = 2**27

_OTHER = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def default_limit(size: int) -> int:
    """Most bytes that a compressed file of `size` bytes may unfold to, unless the caller says otherwise."""
    return max(MIN_LIMIT, RATIO_LIMIT * size)


def chunks(file: BinaryIO, max_bytes: int | None = None) -> Iterator[bytes]:
    """The text in `file`, unfolded if it is gzip or zstd (told by content), in pieces of at most 32 MiB.

    Raises
    ------
    InputError
        If the stream is cut off or damaged, compressed in another way, or longer than `max_bytes`
        (by default :func:`default_limit` for compressed files, no limit for plain ones).
    """
    magic = file.peek(8)[:8] if hasattr(file, "peek") else b""
    for start, kind in _OTHER.items():
        if magic.startswith(start):
            raise InputError(f"is a {kind} file; plain UTF-8 text, gzip, zstd and Parquet can be read")
    if magic.startswith(b"\x1f\x8b"):
        source, kind = _gunzip(file), "gzip"
    elif magic.startswith(b"\x28\xb5\x2f\xfd"):
        source, kind = _unzstd(file), "zstd"
    else:
        source, kind = iter(lambda: file.read(_READ), b""), ""
    size = os.fstat(file.fileno()).st_size
    limit = max_bytes if max_bytes is not None else default_limit(size) if kind else None
    total = 0
    for chunk in source:
        total += len(chunk)
        if limit is not None and total > limit:
            what = f"unfolds from {size:,} to more than" if kind else "is longer than"
            raise InputError(f"{what} {limit:,} bytes; if that is right, allow more with max_bytes=")
        yield chunk


def blocks(pieces: Iterator[bytes], quoted: bool) -> Iterator[tuple[int, bytes]]:
    """Join `pieces` and cut them after line ends into blocks of about `BLOCK` bytes.

    Yields the number of lines before a block, and the block.

    With `quoted`, line ends between an odd number of double quotes are not cut (CSV).

    Raises
    ------
    InputError
        If a line is longer than `BLOCK`.
    """
    parts: list[bytes] = []
    size = lines = 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size >= BLOCK:
            text = b"".join(parts)
            cut = text.rfind(b"\n") + 1
            if quoted and text.count(b'"', 0, cut) % 2:
                cut = text.rfind(b"\n", 0, text.rfind(b'"', 0, cut)) + 1
            if cut == 0:
                raise InputError(f"line {lines + 1} is longer than {BLOCK:,} bytes, or has an unbalanced quote")
            block = text[:cut]
            parts, size = [text[cut:]], len(text) - cut
            del text
            yield lines, block
            lines += block.count(b"\n")
    if size:
        yield lines, b"".join(parts)


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    member = None
    try:
        while raw := file.read(_READ):
            while raw:
                if member is None:
                    raw = raw.lstrip(b"\0")  # padding between members, as of tape archives
                    if not raw:
                        break
                    member = zlib.decompressobj(31)
                yield member.decompress(raw, BLOCK)
                raw, member = (member.unused_data, None) if member.eof else (member.unconsumed_tail, member)
        while member is not None and not member.eof:
            rest = member.decompress(b"", BLOCK)
            if not rest:
                raise InputError("the gzip stream is cut off: its end is missing")
            yield rest
    except zlib.error as exc:
        raise InputError(f"the gzip stream is damaged: {exc}") from None


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    import zstandard

    frame = None
    try:
        while raw := file.read(_READ):
            while raw:
                if frame is None:
                    frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
                yield frame.decompress(raw[:_ZSTD_READ])
                raw = (frame.unused_data if frame.eof else b"") + raw[_ZSTD_READ:]
                if frame.eof:
                    frame = None
    except zstandard.ZstdError as exc:
        raise InputError(f"the zstd stream is damaged: {exc}") from None
    if frame is not None:
        raise InputError("the zstd stream is cut off: its end is missing")
