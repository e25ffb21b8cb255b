"""Fixtures shared by all tests: where the public traces and measurements lie, if they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
