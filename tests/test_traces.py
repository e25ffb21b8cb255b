"""Readers of trace files: every format, exact times, every bad input, and what describe says."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard

import balanceroute_opt as bro
from balanceroute_opt.errors import InputError
from balanceroute_opt.traces import FORMATS, describe_trace, read_trace, read_trace_report
from balanceroute_opt.traces import stream as stream_module

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:17:03.9799600,4808,10\r\n"
    "2023-11-16 18:17:04.0319600,3180,8\r\n"
    "2023-11-16 18:17:04.0319601,110,27"
)
AZURE_2024 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-12 00:00:00+00:00,1452,3\n"
    "2024-05-12 00:00:00.041683+00:00,584,3\n"
    "2024-05-12 00:00:02+00:00,862,38\n"
)
MOONCAKE = (
    '{"timestamp": 0, "input_length": 1700, "output_length": 500, "hash_ids": [0, 1, 2, 3]}\n'
    '{"timestamp": 0, "input_length": 1100, "output_length": 490, "hash_ids": [0, 14, 15]}\n'
    '{"timestamp": 3001, "input_length": 1200, "output_length": 7, "hash_ids": [0, 1, 9]}\n'
    '{"timestamp": 3001, "input_length": 12, "output_length": 7, "hash_ids": [0]}\n'
)
BURSTGPT_1 = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45,ChatGPT,0,0,0,Conversation log\n"
    "118,GPT-4,1087,230,1317,API log\n"
)
BURSTGPT_3 = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "19440110.0,1722ac82-0a46,43,GPT-4,906,446,1352,Conversation log\n"
    "19440110.3,,2,ChatGPT,36,29,65,API log\n"
    "19440161.1,1722ac82-0a46,2,ChatGPT,36,29,65,Conversation log\n"
)
QWEN = (
    '{"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 80, "output_length": 132, '
    '"type": "text", "turn": 1, "hash_ids": [1089, 1090, 1091, 6326, 13148]}\n'
    '{"chat_id": 160, "parent_chat_id": 159, "timestamp": 61.125, "input_length": 70, "output_length": 1, '
    '"type": "text", "turn": 2, "hash_ids": [1089, 1090, 1091, 6326, 7]}\n'
)
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n4.314579,396,109\n9.999999983634211,879,55\n"
LENGTHS = (
    "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio,num_predicted_decode_tokens\r\n"
    "25,3,28,0.12,1\r\n71,692,763,9.7,702\r\n0,5,5,0,1\r\n"
)


@pytest.fixture
def write(tmp_path: Path):
    def _write(content: str | bytes, name: str = "t.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


# --- formats -----------------------------------------------------------------------------------


def test_azure_2023_has_exact_ticks(write) -> None:
    inst = read_trace(write(AZURE, "azure.csv"))
    # 18:17:04.0319600 - 18:17:03.9799600 = 0.052 s; the last request is one tick of 100 ns later.
    assert inst.release.tolist() == [0.0, 0.052, 0.0520001]
    assert inst.prompt.tolist() == [4808, 3180, 110]
    assert inst.output.tolist() == [10, 8, 27]
    assert (inst.clock, inst.name, inst.key) == ("wall", "azure", None)


def test_azure_2024_mixes_times_with_and_without_fraction(write) -> None:
    inst, report = read_trace_report(write(AZURE_2024))
    assert inst.release.tolist() == [0.0, 0.041683, 2.0]
    assert (report.zone, report.format) == ("+00:00", "azure")


def test_zone_z_and_separator_t(write) -> None:
    text = AZURE_2024.replace("+00:00", "Z").replace("2024-05-12 ", "2024-05-12T")
    assert read_trace(write(text)).release.tolist() == [0.0, 0.041683, 2.0]


def test_mooncake_milliseconds_and_prefix_keys(write) -> None:
    inst, report = read_trace_report(write(MOONCAKE, "m.jsonl"))
    assert inst.release.tolist() == [0.0, 0.0, 3.001, 3.001]
    # Requests 0 and 2 share blocks 0 and 1; request 3 has one block only, and so no key.
    assert inst.key[0] == inst.key[2] != inst.key[1]
    assert inst.key[3] == -1
    assert report.keys == 3
    deeper = read_trace(write(MOONCAKE, "m.jsonl"), key_blocks=3)
    assert len(set(deeper.key[:3].tolist())) == 3


def test_prefix_keys_are_the_same_on_every_machine(write) -> None:
    # Golden: a change of the hash would break saved predictors.
    assert read_trace(write(MOONCAKE, "m.jsonl")).key.tolist()[:2] == [313702574736366215, 7290628964186480824]


def test_mooncake_csv_takes_its_hash_ids_from_beside(write) -> None:
    main = write(
        "timestamp,input_length,output_length,num_hash_ids\n0,1700,500,4\n0,1100,490,3\n3001,1200,7,3\n3001,12,7,1\n"
    )
    assert read_trace(main).key is None
    write("row,hash_ids\n0,0 1 2 3\n1,0 14 15\n2,0 1 9\n3,0\n", "t_hash_ids.csv")
    inst = read_trace(main)
    assert inst.key.tolist() == read_trace(write(MOONCAKE, "m.jsonl")).key.tolist()
    assert inst.name == "t"
    assert read_trace(main, key=None).key is None
    other = write("row,hash_ids\n0,0 1 2 3\n1,0 14 15\n2,0 1 9\n3,0\n", "other.csv")
    assert read_trace(main, hash_ids=other) == inst
    assert read_trace(main, limit=2).key.tolist() == inst.key.tolist()[:2]


def test_hash_ids_that_do_not_fit(write) -> None:
    main = write("timestamp,input_length,output_length\n0,1,1\n5,2,2\n")
    for ids, words in (
        ("row,hash_ids\n0,0 1\n", "1 rows, the trace has 2"),
        ("row,hash_ids\n0,0 1\n2,0 1\n", "line 3, column 'row': must be 1"),
        ("row,hash_ids\n0,0 1\n1,0 x\n", "line 3, column 'hash_ids': 'x' is no block id"),
        ("row,ids\n0,0 1\n", "no column 'hash_ids'"),
    ):
        with pytest.raises(InputError, match=words):
            read_trace(main, hash_ids=write(ids, "ids.csv"))


def test_burstgpt_1_drops_failures_and_counts_them(write) -> None:
    inst, report = read_trace_report(write(BURSTGPT_1))
    assert inst.release.tolist() == [0.0, 113.0]
    assert (report.rows, report.requests, report.dropped) == (3, 2, 1)
    assert (report.zero_prompt, report.zero_output) == (1, 1)
    assert inst.key is None
    assert "1 rows dropped for 0 tokens" in str(report)


def test_burstgpt_3_selects_by_name_and_keys_by_session(write) -> None:
    inst, report = read_trace_report(write(BURSTGPT_3))
    assert inst.release.tolist() == [0.0, 0.3, 51.1]  # exact decimals although the times are large
    assert inst.key[0] == inst.key[2] >= 0
    assert inst.key[1] == -1
    assert report.keys == 2
    assert inst.key[0] == bro.Instance([0], [1], [1], key=["1722ac82-0a46"]).key[0]


def test_release_starts_at_the_first_request_kept(write) -> None:
    text = BURSTGPT_1.replace("5,ChatGPT,472,18", "5,ChatGPT,0,0")
    assert read_trace(write(text)).release.tolist() == [0.0]


def test_qwen_seconds_and_four_block_keys(write) -> None:
    inst, report = read_trace_report(write(QWEN, "q.jsonl"))
    assert report.format == "qwen"
    assert inst.release.tolist() == [0.0, 0.011]
    assert inst.key[0] == inst.key[1]
    assert len(set(read_trace(write(QWEN, "q.jsonl"), key_blocks=5).key.tolist())) == 2


def test_vidur_and_lengths(write) -> None:
    assert read_trace(write(VIDUR)).release.tolist() == [0.0, 4.314579, 9.999999984]
    inst, report = read_trace_report(write(LENGTHS))
    assert report.format == "lengths"
    assert inst.release.tolist() == [0.0, 0.0]
    assert inst.prompt.tolist() == [25, 71]
    assert report.dropped == 1


def test_generic_csv_with_units(write) -> None:
    text = "when;in;out;who\n1700000000123;5;1;a\n1700000000125;6;2;b\n1700000000125;7;3;a\n"
    options = {"release": "when", "prompt": "in", "output": "out", "key": "who", "delimiter": ";"}
    inst = read_trace(write(text), unit="ms", **options)
    assert inst.release.tolist() == [0.0, 0.002, 0.002]
    assert inst.key[0] == inst.key[2] != inst.key[1]
    assert read_trace(write(text), unit="us", **options).release.tolist() == [0.0, 2e-6, 2e-6]
    assert read_trace(write(text), unit="ns", **options).release.tolist() == [0.0, 2e-9, 2e-9]
    dates = "release,prompt,output\n2024-01-01T00:00:00,1,1\n2024-01-02T00:00:00.5,1,1\n"
    assert read_trace(write(dates), unit="datetime").release.tolist() == [0.0, 86400.5]


def test_generic_takes_its_own_names_by_default_and_whole_floats(write) -> None:
    inst = read_trace(write("release,prompt,output,extra\n0.5,12.0,3,x\n1.25,7,4.0,y\n"))
    assert inst.release.tolist() == [0.0, 0.75]
    assert inst.prompt.tolist() == [12, 7]
    assert inst.output.tolist() == [3, 4]


def test_generic_jsonl(write) -> None:
    inst = read_trace(
        write('{"t": 1, "a": 2, "b": 3}\n\n{"t": 1.5, "a": 4, "b": 5}\n', "x.jsonl"),
        release="t",
        prompt="a",
        output="b",
    )
    assert (inst.release.tolist(), inst.prompt.tolist(), inst.output.tolist()) == ([0.0, 0.5], [2, 4], [3, 5])


def test_generic_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    frame = pl.DataFrame({"release": [0.25, 1.5], "prompt": [3, 4], "output": [5, 6], "key": ["a", None]})
    frame.write_parquet(path)
    inst = read_trace(path)
    assert inst.release.tolist() == [0.0, 1.25]
    assert inst.key[1] == -1
    times = pl.Series([1_715_472_000_000_001, 1_715_472_000_500_001]).cast(pl.Datetime("us", "UTC"))
    frame.with_columns(release=times).write_parquet(path)
    assert read_trace(path, unit="datetime").release.tolist() == [0.0, 0.5]
    with pytest.raises(InputError, match=r'must hold numbers, got Datetime.*unit="datetime"'):
        read_trace(path)
    frame.with_columns(prompt=pl.Series([3, -4])).write_parquet(path)
    with pytest.raises(InputError, match="row 2, column 'prompt': -4 is negative"):
        read_trace(path)
    frame.with_columns(prompt=pl.Series([3.0, 4.5])).write_parquet(path)
    with pytest.raises(InputError, match=r"row 2, column 'prompt': 4\.5 is not a whole number"):
        read_trace(path)
    frame.with_columns(prompt=pl.Series([True, False])).write_parquet(path)
    with pytest.raises(InputError, match="must hold whole numbers, got Boolean"):
        read_trace(path)


def test_parquet_that_claims_too_much_or_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"release": [0] * 5000, "prompt": [1] * 5000, "output": [1] * 5000}).write_parquet(path)
    assert len(read_trace(path)) == 5000
    with pytest.raises(InputError, match=r"claims 5,000 rows .* max_bytes="):
        read_trace(path, max_bytes=1000)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match="cut off"):
        read_trace(path)
    path.write_bytes(b"PAR1" + b"\xff" * 60 + b"PAR1")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_trace(path)


@pytest.mark.parametrize("kind", ["plain", "gzip", "members", "zstd", "frames"])
def test_compression_is_told_by_content(write, kind: str) -> None:
    raw = AZURE_2024.encode()
    packed = {
        "plain": raw,
        "gzip": gzip.compress(raw),
        "members": gzip.compress(raw[:60]) + gzip.compress(raw[60:]) + b"\0" * 20,
        "zstd": zstandard.compress(raw),
        "frames": zstandard.compress(raw[:60]) + zstandard.compress(raw[60:]),
    }[kind]
    assert read_trace(write(packed, "no-ending")).release.tolist() == [0.0, 0.041683, 2.0]


def test_blocks_do_not_change_the_result(write, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f'{i // 3},"a ""b"",\n {i}",{i % 7 + 1},{i % 5}' for i in range(400)]
    path = write("release,text,prompt,output\n" + "\n".join(lines) + "\n", "q.csv")
    whole = read_trace(path)
    monkeypatch.setattr(stream_module, "BLOCK", 700)
    monkeypatch.setattr(stream_module, "_READ", 64)
    assert read_trace(path) == whole
    assert len(whole) == 320
    bad = write(path.read_text().replace('300",7,0', '300",x,0'), "b.csv")
    # Every row takes two lines, the header one: row 300 (0-based) ends on line 1 + 2*301.
    with pytest.raises(InputError, match="line 603, column 'prompt': 'x' is not a number"):
        read_trace(bad)


def test_limit_reads_the_first_rows(write) -> None:
    inst, report = read_trace_report(write(AZURE_2024), limit=2)
    assert (len(inst), report.rows) == (2, 2)


def test_order_sort_is_stable(write) -> None:
    text = "release,prompt,output\n5,1,1\n3,2,1\n5,3,1\n3,4,1\n"
    inst, report = read_trace_report(write(text), order="sort")
    assert inst.prompt.tolist() == [2, 4, 1, 3]
    assert inst.release.tolist() == [0.0, 0.0, 2.0, 2.0]
    assert report.out_of_order == 2


def test_byte_order_mark_and_blank_lines(write) -> None:
    text = "\ufeff\n\r\n" + AZURE_2024.replace("\n", "\n\n")
    assert read_trace(write(text)).release.tolist() == [0.0, 0.041683, 2.0]
    with pytest.raises(InputError, match="line 7, column 'GeneratedTokens'"):
        read_trace(write(text.replace("584,3", "584,-3")))


def test_every_format_has_a_test_file(write) -> None:
    made = {read_trace_report(write(t, "x"))[1].format for t in (AZURE, MOONCAKE, BURSTGPT_1, QWEN, VIDUR, LENGTHS)}
    assert made == set(FORMATS) - {"generic"}


# --- bad input: one line with file, line, column, value, and what would be right ----------------


def bad(path: Path, words: str, **options: object) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_trace(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def test_missing_file(tmp_path: Path) -> None:
    bad(tmp_path / "none.csv", "no such file")


def test_directory(tmp_path: Path) -> None:
    bad(tmp_path, "is a directory")


def test_special_file() -> None:
    bad(Path(os.devnull), "is not a regular file")


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_empty_file(write, content: str) -> None:
    bad(write(content), "the file is empty")


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_header_only(write, end: str) -> None:
    bad(write("TIMESTAMP,ContextTokens,GeneratedTokens" + end), "header and no rows")


def test_no_header(write) -> None:
    bad(write("0,1,2\n3,4,5\n"), "line 1: numbers where the column names should be")


@pytest.mark.parametrize("junk", [b"\x7fELF\x00\x01", bytes(range(128, 256)) * 9, b"\x00" * 50])
def test_binary_junk(write, junk: bytes) -> None:
    bad(write(junk), "is not (UTF-8 )?text")


@pytest.mark.parametrize(
    ("junk", "kind"), [(b"BZh9" + b"x" * 9, "bzip2"), (b"PK\x03\x04xx", "zip"), (b"\xff\xfea\0", "UTF-16")]
)
def test_other_containers_are_named(write, junk: bytes, kind: str) -> None:
    bad(write(junk), f"is a {kind} file")


def test_junk_after_good_rows(write) -> None:
    bad(write(AZURE_2024.encode() + b"2024-05-12 00:00:03+00:00,1\xff,2\n"), "line 5: byte 0xff is not UTF-8 text")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_truncated_compression(write, pack) -> None:
    packed = pack((AZURE_2024 + AZURE_2024.partition("\n")[2] * 50).encode())
    for cut in (len(packed) - 1, len(packed) // 2, 5):
        bad(write(packed[:cut]), "(cut off|damaged)")


def test_damaged_gzip(write) -> None:
    packed = bytearray(gzip.compress(AZURE_2024.encode()))
    packed[-6] ^= 1
    bad(write(bytes(packed)), "damaged")
    bad(write(gzip.compress(AZURE_2024.encode()) + b"tail"), "damaged")


def test_wrong_format_named(write) -> None:
    bad(write(AZURE), "no column 'timestamp' .format mooncake.*TIMESTAMP.*looks like format azure", format="mooncake")


def test_unknown_format(write) -> None:
    bad(write(AZURE), "format must be one of azure,", format="azur")


def test_missing_column(write) -> None:
    bad(write("TIMESTAMP,ContextTokens\n2024-05-12 00:00:00,1\n"), "no known trace format has these columns")
    bad(write("a,b\n1,2\n"), "no column 'release'.*columns: a, b", prompt="a", output="b")


def test_column_named_twice(write) -> None:
    bad(write("release,prompt,prompt,output\n1,2,3,4\n"), "'prompt' is named twice")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("-3", "'-3' is negative"),
        ("1.5", "'1.5' is not a whole number"),
        ("NaN", "'NaN' is not a number"),
        ("inf", "'inf' is too large"),
        ("abc", "'abc' is not a number"),
        ("2147483648", "'2147483648' is too large"),
        ("99999999999999999999", "is too large"),
        ("1e30", "is too large"),
        ("", "nothing is missing"),
        (" 7", "' 7' is not"),
    ],
)
@pytest.mark.parametrize("column", ["ContextTokens", "GeneratedTokens"])
def test_bad_tokens(write, value: str, why: str, column: str) -> None:
    row = f"{value},5" if column == "ContextTokens" else f"5,{value}"
    text = f"{AZURE_2024}2024-05-12 00:00:03+00:00,{row}\n"
    bad(write(text), f"line 5, column '{column}': .*{why}.*whole numbers from 0 to 2147483647")


def test_zero_tokens_as_an_error(write) -> None:
    bad(write(BURSTGPT_1), "column 'Request tokens': 0 prompt tokens, must be >= 1", zero="error")
    text = BURSTGPT_1.replace("45,ChatGPT,0,0", "45,ChatGPT,5,0")
    bad(write(text), "request 2 .* column 'Response tokens': 0 output tokens", zero="error")


def test_nothing_left(write) -> None:
    bad(write("release,prompt,output\n0,0,1\n1,1,0\n"), "all 2 rows have 0")


@pytest.mark.parametrize(
    "value", ["yesterday", "2024-13-01 00:00:00+00:00", "2024-05-12 25:00:00+00:00", "2024-05-12 00:00:00.+00:00", "",
              "12",
              "2024-05-12 00:00:00.1234567890+00:00", "9999-05-12 00:00:00+00:00", "1500-05-12 00:00:00+00:00",
              "2024-05-12 00:00:00.-12345+00:00", "2024-05-12T00:00:09+00:00"],
)  # fmt: skip
def test_unparseable_dates(write, value: str) -> None:
    bad(write(f"{AZURE_2024}{value},5,5\n"), "line 5, column 'TIMESTAMP': .*YYYY-MM-DD HH:MM:SS")
    head = AZURE_2024.partition("\n")[0]
    if "T00" not in value and "9999" not in value and "1500" not in value:
        bad(write(f"{head}\n{value},5,5\n"), "line 2, column 'TIMESTAMP'")


@pytest.mark.parametrize("zone", ["", "+02:00", "Z", "-00:30"])
def test_mixed_zones(write, zone: str) -> None:
    text = f"{AZURE_2024}2024-05-12 00:00:03{zone},5,5\n"
    bad(write(text), "line 5, column 'TIMESTAMP': .*mixes zones: it has .*, the rows before have [+]00:00")


def test_zone_after_rows_without(write) -> None:
    text = AZURE.replace("\r\n", "\n") + "\n2023-11-16 18:17:05+00:00,5,5\n"
    bad(write(text), "mixes zones: it has [+]00:00, the rows before have none")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("x", "is not a time"),
        ("nan", "is not a time"),
        ("inf", "is not a time"),
        ("", "is missing"),
        ("1e12", "is out of range"),
        ("9" * 25, "is out of range"),
        ("2024-05-12 00:00:00", 'is a date.*unit="datetime"'),
    ],
)
def test_bad_numeric_times(write, value: str, why: str) -> None:
    bad(write(f"release,prompt,output\n0,1,1\n{value},1,1\n"), f"line 3, column 'release': .*{why}")


def test_decreasing_times(write) -> None:
    text = f"{AZURE_2024}2024-05-12 00:00:01+00:00,5,5\n"
    bad(write(text), "line 5, column 'TIMESTAMP': '2024-05-12 00:00:01.00:00' is earlier .*order=\"sort\"")


@pytest.mark.parametrize(("row", "fields"), [("1,2,3,4", 4), ("1,2,3,4,5", 5)])
def test_too_many_fields(write, row: str, fields: int) -> None:
    bad(write(f"release,prompt,output\n0,1,1\n{row}\n"), f"line 3: {fields} fields, the header has 3")


def test_too_few_fields(write) -> None:
    bad(write("release,prompt,output\n0,1,1\n1,2\n"), "line 3, column 'output': nothing is missing")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 5: not JSON"),
        ("[1]", "(line 5: must hold one JSON object|line 5, column 'timestamp': nothing is missing)"),
        ('{"timestamp": NaN, "input_length": 1, "output_length": 1}', "line 5: not JSON"),
        ('{"timestamp": 4000, "input_length": -1, "output_length": 1}', "line 5, column 'input_length': .*negative"),
        ('{"timestamp": 4000, "input_length": true, "output_length": 1}', "line 5, column 'input_length'"),
        ('{"timestamp": 4000, "input_length": 1}', "line 5, column 'output_length': nothing is missing"),
        ('{"timestamp": 4000, "input_length": 1, "output_length": 1, "hash_ids": ["a"]}', "line 5"),
    ],
)
def test_bad_json_lines(write, line: str, words: str) -> None:
    bad(write(MOONCAKE + line + "\n", "m.jsonl"), words)


def test_json_that_is_not_lines(write) -> None:
    bad(write('{\n "timestamp": 0\n}\n', "m.json"), "line 1: not JSON.*one object per line")


def test_servegen_and_hash_id_files_say_what_to_do(write) -> None:
    bad(write("client_id,timestamp,rate,cv,pat_name,pat_arg1,pat_arg2\n0,0,0,0,,0,0\n"), 'generate."servegen"')
    bad(write("client_id,timestamp,field,value,probability\n0,0,input_tokens,45,0.1\n"), 'generate."servegen"')
    bad(write("row,hash_ids\n0,1 2\n"), "read the main file")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"zero": "keep"}, "zero must be"),
        ({"order": "no"}, "order must be"),
        ({"limit": 0}, "limit must be >= 1"),
        ({"max_bytes": 0}, "max_bytes must be >= 1"),
        ({"key_blocks": 0}, "key_blocks must be >= 1"),
        ({"delimiter": ",,"}, "delimiter must be one"),
        ({"key": "nope"}, "no column 'nope' for key="),
        ({"format": "azure", "unit": "s"}, "format azure has fixed columns and unit"),
        (
            {"release": "TIMESTAMP", "prompt": "ContextTokens", "output": "GeneratedTokens", "unit": "h"},
            "unit must be one",
        ),
    ],
)
def test_bad_options(write, options: dict[str, object], words: str) -> None:
    bad(write(AZURE), words, **options)


def test_size_limits(write) -> None:
    text = "release,prompt,output\n" + "0,1,1\n" * 5000
    bad(write(gzip.compress(text.encode())), r"unfolds from .* to more than 10,000 bytes.*max_bytes=", max_bytes=10_000)
    bad(write(text), "is longer than 10,000 bytes", max_bytes=10_000)
    assert len(read_trace(write(gzip.compress(text.encode())), max_bytes=len(text))) == 5000


def test_a_line_without_end(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "BLOCK", 1000)
    monkeypatch.setattr(stream_module, "_READ", 64)
    bad(write("release,prompt,output\n0,1,1\n" + "1" * 5000), "line 3 is longer than 1,000 bytes")


# --- the public traces, and what describe says ---------------------------------------------------

# rows, span, rate, CV, prompt and output (mean, median, p90, p99, max), zero outputs: traces README, section 1
SUMMARY = {
    "azure_2023_code": (8819, "3435.9", "2.566", "13.15", (2048, 1469, 5188, 7436, 7437), (28, 13, 55, 251.5, 1899), 0),
    "azure_2023_conv": (
        19366, "3501.7", "5.530", "1.09", (1155, 1020, 2734, 4142, 14050), (211, 129, 424, 601, 1000), 0,
    ),
    "mooncake_conversation": (
        12031, "3537.0", "3.401", "3.03", (12035, 6909, 27367, 85400, 126195), (343, 350, 597, 1118.5, 2000), 0,
    ),
    "burstgpt_1_first400": (
        400, "37269.0", "0.011", "4.56", (520.5, 314, 1418, 1958, 2126), (276.5, 229.5, 570.7, 1421, 2019), 17,
    ),
    "burstgpt_3_first400": (
        400, "41453.0", "0.010", "2.87", (617.4, 308.5, 1134, 5929, 25085), (170.9, 101, 421.5, 862.2, 1101), 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SUMMARY)
def test_describe_agrees_with_the_published_table(traces: Path, name: str) -> None:
    rows, span, rate, cv, prompt, output, zeros = SUMMARY[name]
    got = describe_trace(traces / f"{name}.csv.gz")
    assert got.rows == rows
    assert (f"{got.span:.1f}", f"{got.rate:.3f}", f"{got.cv:.2f}") == (span, rate, cv)
    for stats, expected in ((got.prompt, prompt), (got.output, output)):
        assert list(vars(stats).values()) == pytest.approx(expected, abs=0.51)
    assert got.zero_output == zeros


def test_describe_without_arrivals(traces: Path) -> None:
    got = describe_trace(traces / "lengths_sharegpt_predicted.csv.gz")
    assert (got.rows, got.zero_output, got.zero_prompt, got.dropped) == (40_000, 1, 12, 13)
    assert got.span is got.rate is got.cv is None
    assert list(vars(got.output).values()) == pytest.approx([323.1, 282, 680, 1000, 2383], abs=0.51)


def test_public_traces_read_exactly(traces: Path) -> None:
    with gzip.open(traces / "azure_2023_code.csv.gz", "rt", newline="") as file:
        lines = file.read().split("\r\n")[1:]
    ticks = [int(t[11:13]) * 36000000000 + int(t[14:16]) * 600000000 + int(t[17:19] + t[20:27]) for t in lines]
    inst = read_trace(traces / "azure_2023_code.csv.gz")
    assert inst.release.tolist() == [(t - ticks[0]) / 10**7 for t in ticks]
    mooncake = read_trace(traces / "mooncake_conversation.csv.gz")
    assert len(np.unique(mooncake.key)) == 7373
    with pytest.raises(InputError, match="servegen"):
        read_trace(traces / "servegen_deepseek_r1_arrivals.csv.gz")


# --- the command ---------------------------------------------------------------------------------

CLI = """
import argparse, sys
from balanceroute_opt.cli import trace
from balanceroute_opt.errors import InputError
parser = argparse.ArgumentParser(); trace.add(parser.add_subparsers())
args = parser.parse_args(sys.argv[1:])
try:
    sys.exit(args.run(args))
except InputError as exc:
    print(exc, file=sys.stderr); sys.exit(2)
"""


def command(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CLI, "trace", *map(str, args)],
        capture_output=True,
        text=True,
        env=os.environ | env,
        check=False,
    )


def test_command_describe(write, tmp_path: Path) -> None:
    path = write(BURSTGPT_1)
    out = tmp_path / "p.png"
    shown = command("describe", path, "--plot", out)
    assert shown.returncode == 0, shown.stderr
    assert "dropped by readers" in shown.stdout
    assert max(map(len, shown.stdout.splitlines()[:-1])) <= 100
    assert out.read_bytes().startswith(b"\x89PNG")
    again = command("describe", path, "--plot", out)
    assert (again.returncode, again.stdout) == (2, "")
    assert "exists already" in again.stderr
    data = json.loads(command("describe", path, "--json").stdout)
    assert (data["rows"], data["dropped"], data["prompt"]["max"]) == (3, 1, 1087)
    wrong = command("describe", path, "--format", "azure", "--plot", tmp_path / "q.pdf")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert not (tmp_path / "q.pdf").exists()


def test_plot_without_arrivals_is_a_pdf_of_the_same_bytes(write, tmp_path: Path) -> None:
    from balanceroute_opt.traces.describe import plot_trace
    from balanceroute_opt.traces.reader import read_raw

    raw = read_raw(write(LENGTHS))
    for name in ("a.pdf", "b.pdf"):
        plot_trace(raw, tmp_path / name, "lengths")
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    with pytest.raises(InputError, match=r"a plot is a \.png"):
        plot_trace(raw, tmp_path / "a.txt", "lengths")


def test_reading_needs_no_plotting_and_import_is_cheap() -> None:
    code = "import balanceroute_opt.traces, balanceroute_opt.cli.trace, sys; print('polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
