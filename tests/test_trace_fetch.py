"""Downloads against a local server: resume, wrong hash, 404, time-out, broken connections; and the list."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from balanceroute_opt.errors import InputError
from balanceroute_opt.traces import CATALOG, read_trace
from balanceroute_opt.traces import catalog as catalog_module
from balanceroute_opt.traces.fetch import cache_dir, cached_trace, fetch_trace, find_entry, pinned_hash

BODY = b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + b"2024-05-12 00:00:00+00:00,1452,3\n" * 20_000


class Server(ThreadingHTTPServer):
    """Serves BODY under every name; what goes wrong is set by the test."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.etag: str | None = '"v1"'
        self.ranges = True
        self.status = 200
        self.cut: list[int] = []  # bytes after which each of the next connections breaks off
        self.stall = 0.0
        self.requests: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/mirror"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") in (None, server.etag):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(server.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(server.body) - start))
        self.end_headers()
        stop = server.cut.pop(0) if server.cut else len(server.body)
        self.wfile.write(server.body[start : start + stop])
        self.wfile.flush()
        time.sleep(server.stall)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("BALANCEROUTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    pinned = replace(CATALOG["azure-2024-conv"], sha256=hashlib.sha256(BODY).hexdigest())
    monkeypatch.setitem(catalog_module.CATALOG, "azure-2024-conv", pinned)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server: Server, name: str = "azure-2024-conv", **options: object) -> Path:
    return fetch_trace(name, base_url=server.url, **{"timeout": 5.0, "retries": 0} | options)


def left() -> list[str]:
    return sorted(p.name for p in cache_dir().iterdir())


def test_fetch_checks_the_hash_and_then_needs_no_network(server: Server) -> None:
    seen: list[tuple[int, int | None]] = []
    path = get(server, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == BODY
    assert path == cached_trace("azure_2024_conv")
    assert server.requests == [("/mirror/AzureLLMInferenceTrace_conv_1week.csv", None)]
    assert seen[-1] == (len(BODY), len(BODY))
    assert left() == ["azure-2024-conv.csv"]
    assert get(server) == path
    assert len(server.requests) == 1
    assert len(read_trace("azure-2024-conv")) == 20_000


def test_resume_by_range(server: Server) -> None:
    server.cut = [100_000]
    with pytest.raises(InputError, match=r"broke off after 100000 of \d+ bytes; what arrived is kept"):
        get(server)
    assert left() == ["azure-2024-conv.csv.part", "azure-2024-conv.csv.part.json"]
    assert get(server).read_bytes() == BODY
    assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-"]
    assert left() == ["azure-2024-conv.csv"]


def test_broken_connections_are_resumed_by_themselves(server: Server) -> None:
    server.cut = [1000, 2000, 3000]
    assert get(server, retries=3).read_bytes() == BODY
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000-", "bytes=3000-", "bytes=6000-"]


def test_resume_starts_again_if_the_server_cannot(server: Server) -> None:
    server.cut, server.ranges = [1000], False
    assert get(server, retries=1).read_bytes() == BODY


def test_resume_starts_again_if_the_file_changed(server: Server) -> None:
    server.cut, server.body = [1000], b"x" * 5000
    with pytest.raises(InputError, match="broke off"):
        get(server)
    server.body, server.etag = BODY, '"v2"'
    assert get(server).read_bytes() == BODY


def test_a_part_that_is_complete_or_too_long(server: Server) -> None:
    part = cache_dir() / "azure-2024-conv.csv.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY)
    assert get(server).read_bytes() == BODY
    cached_trace("azure-2024-conv").unlink()
    part.write_bytes(BODY + b"more")
    assert get(server, retries=1).read_bytes() == BODY


def test_wrong_hash_removes_the_file(server: Server) -> None:
    server.body = BODY[:-1] + b"x"
    with pytest.raises(InputError, match=r"SHA-256 is [0-9a-f]{64}, the pinned one is .*; the file was removed"):
        get(server)
    assert left() == []


def test_a_cached_file_that_rotted_is_noticed(server: Server) -> None:
    path = get(server)
    path.write_bytes(b"rot")
    with pytest.raises(InputError, match="the file was removed"):
        get(server)
    assert get(server).read_bytes() == BODY


def test_unpinned_records_the_first_hash(server: Server) -> None:
    entry = CATALOG["splitwise-conv"]
    assert pinned_hash(entry) is None
    path = get(server, "splitwise-conv")
    assert pinned_hash(entry) == hashlib.sha256(BODY).hexdigest()
    assert left() == ["splitwise-conv.csv", "splitwise-conv.csv.sha256"]
    path.unlink()
    server.body = b"another"
    with pytest.raises(InputError, match="the recorded one is"):
        get(server, "splitwise-conv")


def test_unpinned_is_not_resumed_without_a_validator(server: Server) -> None:
    server.cut, server.etag = [1000], None
    assert get(server, "splitwise-conv", retries=1).read_bytes() == BODY
    assert [wanted for _, wanted in server.requests] == [None, None]


def test_404_and_500(server: Server) -> None:
    for status in (404, 500):
        server.status = status
        with pytest.raises(InputError, match=rf"http://.*AzureLLM.*: the server answers {status}"):
            get(server)
    assert left() == []


def test_time_out(server: Server) -> None:
    server.cut, server.stall = [1000], 1.5
    with pytest.raises(InputError, match=r"no byte for 0\.2 s; what arrived is kept"):
        get(server, timeout=0.2)
    server.stall = 0.0
    assert get(server).read_bytes() == BODY
    assert server.requests[-1][1] == "bytes=1000-"


def test_nobody_listens_and_no_url(server: Server) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"http://127.*refused"):
        get(server)
    with pytest.raises(InputError, match="unknown url type"):
        fetch_trace("azure-2024-conv", base_url="nonsense")


def test_bad_arguments(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no public trace is called 'azure'; names: azure-2023-code,"):
        get(server, "azure")
    with pytest.raises(InputError, match="timeout must be > 0"):
        get(server, timeout=0)
    with pytest.raises(InputError, match="get it with balanceroute trace fetch qwen-a"):
        read_trace("qwen-a")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BALANCEROUTE_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be used as the cache"):
        get(server)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BALANCEROUTE_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path / "traces"
    monkeypatch.delenv("BALANCEROUTE_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "balanceroute" / "traces"


def test_catalog_is_consistent() -> None:
    for name, entry in CATALOG.items():
        assert find_entry(name) is entry
        assert entry.url.startswith("https://")
        assert entry.sha256 is None or (len(entry.sha256) == 64 and entry.pin)
        assert entry.licence
        assert entry.source
    assert len({entry.file for entry in CATALOG.values()}) == len(CATALOG)


def test_pins_of_shared_files(traces: Path) -> None:
    import gzip

    for file, name in (
        ("azure_2023_code", "azure-2023-code"),
        ("azure_2023_conv", "azure-2023-conv"),
        ("lengths_sharegpt_predicted", "sharegpt-lengths"),
    ):
        raw = gzip.decompress((traces / f"{file}.csv.gz").read_bytes())
        assert hashlib.sha256(raw).hexdigest() == CATALOG[name].sha256


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


def test_commands(server: Server) -> None:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", CLI, "trace", *args],
            capture_output=True,
            text=True,
            check=False,
            env=dict(os.environ),
        )

    done = run("fetch", "splitwise-code", "--base-url", server.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(cache_dir() / "splitwise-code.csv")
    assert "licence MIT" in done.stderr
    assert "unpinned" in done.stderr
    again = json.loads(run("fetch", "splitwise-code", "--base-url", server.url, "--json").stdout)
    assert (again["downloaded"], again["licence"]) == (False, "MIT")
    server.status = 404
    wrong = run("fetch", "splitwise-conv", "--base-url", server.url, "--json")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    listed = run("list").stdout.splitlines()
    assert max(map(len, listed[:-1])) <= 100
    assert any(line.startswith("splitwise-code") and "recorded yes" in line for line in listed)
    data = json.loads(run("list", "--json").stdout)
    assert [t["name"] for t in data["traces"] if t["cached"]] == ["splitwise-code"]
