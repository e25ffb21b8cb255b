"""Random bytes and mutated files into every reader: an instance or a typed error, in bounded memory."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_traces import AZURE, AZURE_2024, BURSTGPT_1, BURSTGPT_3, LENGTHS, MOONCAKE, QWEN, VIDUR

from balanceroute_opt.errors import InputError
from balanceroute_opt.instance import Instance
from balanceroute_opt.traces import FORMATS, read_trace

GENERIC = 'release,prompt,output,key\n0,1,1,a\n0.5,"2",3,"b, ""c"""\n1e1,4,5,\n'
SEEDS = [s.encode() for s in (AZURE, AZURE_2024, BURSTGPT_1, BURSTGPT_3, LENGTHS, MOONCAKE, QWEN, VIDUR, GENERIC)]
SEEDS += [gzip.compress(s, mtime=0) for s in SEEDS[:2]] + [zstandard.compress(s) for s in SEEDS[:2]]
MAGIC = [b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"{", b'{"', b"\xef\xbb\xbf", b"release,prompt,output\n"]
TOKENS = [
    b"\n",
    b"\r\n",
    b"\n\n",
    b",",
    b'"',
    b'""',
    b"-",
    b"+",
    b".",
    b"e9",
    b"NaN",
    b"null",
    b"true",
    b"[",
    b"]",
    b"{",
    b"}",
]
TOKENS += [b"\0", b"\xff", b"9" * 20, b"0", b" ", b"\xc3\xa9", b"+00:00", b"Z", b"T", b":", b"1e400", b"2024-05-12"]

SHORT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LONG = settings(SHORT, max_examples=5000)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A small good file with a few pieces replaced, inserted, doubled or cut off."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.integers(0, 6)))
        piece = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=4), st.just(data[at : at + 30])))
        data = draw(st.sampled_from([data[:at] + piece + data[to:], data[:at], data[at:]]))
    return data


junk = st.builds(lambda magic, rest: magic + rest, st.sampled_from(MAGIC), st.binary(max_size=300))
named = st.sampled_from([None, *FORMATS])


def attempt(path: Path, data: bytes, **options: object) -> None:
    path.write_bytes(data)
    inst = message = None
    try:
        inst = read_trace(path, **options)
    except InputError as exc:
        message = str(exc)
    if inst is None:
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
    else:
        assert isinstance(inst, Instance)
        assert inst.release[0] == inst.release.min() == 0


@SHORT
@given(data=junk, form=named)
def test_random_bytes(tmp_path: Path, data: bytes, form: str | None) -> None:
    attempt(tmp_path / "f", data, format=form)


@SHORT
@given(data=mutated(), form=named, order=st.sampled_from(["error", "sort"]))
def test_mutated_files(tmp_path: Path, data: bytes, form: str | None, order: str) -> None:
    attempt(tmp_path / "f", data, format=form, order=order)


@pytest.mark.slow
@LONG
@given(data=junk, form=named)
def test_random_bytes_long(tmp_path: Path, data: bytes, form: str | None) -> None:
    attempt(tmp_path / "f", data, format=form)


@pytest.mark.slow
@LONG
@given(data=mutated(), form=named, order=st.sampled_from(["error", "sort"]))
def test_mutated_files_long(tmp_path: Path, data: bytes, form: str | None, order: str) -> None:
    attempt(tmp_path / "f", data, format=form, order=order)


def parquet(tmp_path: Path) -> bytes:
    frame = pl.DataFrame({"release": [0.5 * i for i in range(99)], "prompt": [7] * 99, "output": [3] * 99})
    frame.write_parquet(tmp_path / "good.parquet")
    return (tmp_path / "good.parquet").read_bytes()


def _mutate_parquet(tmp_path: Path, positions: list[int], values: list[int]) -> None:
    data = bytearray(parquet(tmp_path))
    for at, value in zip(positions, values, strict=True):
        data[at % (len(data) - 8) + 4] = value
    attempt(tmp_path / "f", bytes(data))


@settings(SHORT, max_examples=4)
@given(
    positions=st.lists(st.integers(0, 5000), min_size=3, max_size=3),
    values=st.lists(st.integers(0, 255), min_size=3, max_size=3),
)
def test_mutated_parquet(tmp_path: Path, positions: list[int], values: list[int]) -> None:
    _mutate_parquet(tmp_path, positions, values)


@pytest.mark.slow
@settings(SHORT, max_examples=300)
@given(
    positions=st.lists(st.integers(0, 5000), min_size=3, max_size=3),
    values=st.lists(st.integers(0, 255), min_size=3, max_size=3),
)
def test_mutated_parquet_long(tmp_path: Path, positions: list[int], values: list[int]) -> None:
    _mutate_parquet(tmp_path, positions, values)


PEAK = """
import resource, sys
from balanceroute_opt.errors import InputError
from balanceroute_opt.traces import read_trace
import polars
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_trace(sys.argv[1])
except InputError as exc:
    print(exc, file=sys.stderr)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def peak(path: Path) -> tuple[int, str]:
    """MiB that reading `path` adds to the peak of a fresh process, and what it says."""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout), done.stderr


def bomb(path: Path, head: bytes, unit: bytes, megabytes: int) -> None:
    """A gzip file of `head` and then `megabytes` MiB of `unit`, written piece by piece."""
    piece = unit * (2**20 // len(unit))
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(megabytes):
            file.write(piece)


@pytest.mark.parametrize(
    ("head", "unit", "words"),
    [
        (b"release,prompt,output\n", b" " * 64, "line 2 is longer than"),
        (b"release,prompt,output\n0,1,", b"1" * 64, "line 2 is longer than"),
        (b'{"release": 0, "prompt": 1, "output": 1, "x": "', b"y" * 64, "line 1 is longer than"),
        (b"release,prompt,output\n", b'"\n\n' * 64, "unbalanced quote|fields|column"),
    ],
)
def test_gzip_bomb_of_one_line(tmp_path: Path, head: bytes, unit: bytes, words: str) -> None:
    import re

    bomb(tmp_path / "bomb.gz", head, unit, 96)
    added, said = peak(tmp_path / "bomb.gz")
    assert re.search(words, said), said
    assert added < 400


def test_gzip_bomb_of_blank_lines(tmp_path: Path) -> None:
    bomb(tmp_path / "bomb.gz", b"release,prompt,output\n", b"\n" * 64, 300)
    added, said = peak(tmp_path / "bomb.gz")
    assert "unfolds from" in said
    assert added < 500


def test_zstd_bomb(tmp_path: Path) -> None:
    chunk = zstandard.ZstdCompressor().compressobj()
    with (tmp_path / "bomb.zst").open("wb") as file:
        file.write(chunk.compress(b"release,prompt,output\n"))
        for _ in range(96):
            file.write(chunk.compress(b"1" * 2**20))
        file.write(chunk.flush())
    added, said = peak(tmp_path / "bomb.zst")
    assert "line 2 is longer than" in said
    assert added < 400


@pytest.mark.slow
def test_gzip_bomb_of_rows(tmp_path: Path) -> None:
    bomb(tmp_path / "bomb.gz", b"release,prompt,output\n", b"0,1,1\n", 1000)
    added, said = peak(tmp_path / "bomb.gz")
    assert "unfolds from" in said
    assert added < 2000


def test_gzip_of_endless_empty_members(tmp_path: Path) -> None:
    empty = gzip.compress(b"")
    (tmp_path / "f").write_bytes(empty * 5000)
    with pytest.raises(InputError, match="the file is empty"):
        read_trace(tmp_path / "f")


def test_deep_json_and_long_digits(tmp_path: Path) -> None:
    for text in (b"[" * 100_000, b'{"a":' * 100_000, b'{"timestamp": ' + b"9" * 50_000 + b"}"):
        attempt(tmp_path / "f", b'{"timestamp": 0, "input_length": 1, "output_length": 1}\n' + text + b"\n")
        attempt(tmp_path / "f", text)


def test_raw_deflate_is_no_gzip(tmp_path: Path) -> None:
    attempt(tmp_path / "f", b"\x1f\x8b" + zlib.compress(AZURE.encode()))
