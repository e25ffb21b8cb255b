"""Fixtures shared by all tests: where the public traces and measurements lie, if they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balanceroute_opt import cli

ROOT = Path(__file__).resolve().parent.parent


def _folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / default)
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set {variable} to the folder of {default}")
    return folder


@pytest.fixture(scope="session")
def traces() -> Path:
    """Folder of the public traces (environment variable BALANCEROUTE_TRACES)."""
    return _folder("BALANCEROUTE_TRACES", "traces")


@pytest.fixture(scope="session")
def step_time_dir() -> Path:
    """Folder of the measured step times (environment variable BALANCEROUTE_STEP_TIME)."""
    return _folder("BALANCEROUTE_STEP_TIME", "step_time")


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are as wide as without a terminal; workers of pytest-xdist say 80."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def run(capsys):
    """Run a command in this process: (status, stdout, stderr)."""

    def call(*argv):
        status = cli.main([str(word) for word in argv])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def fails(run):
    """Run a command that must end with status 2, one line on stderr and nothing on stdout; the line."""

    def call(*argv):
        status, out, err = run(*argv)
        assert (status, out) == (2, "")
        assert err.startswith("balanceroute: ")
        assert err.count("\n") == 1, err
        return err.strip()

    return call
