"""A folder of finished rows, one small file each: what lets a killed study go on where it was."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .._validate import Int64Array
from ..errors import InputError
from ..files import atomic_write

__all__ = ["RowStore", "packed", "unpacked"]

_SCHEMA, _VERSION = "balanceroute/row", 1
_ROW = re.compile(r"[0-9a-f]{32}\.json")
_PARTIAL = re.compile(r"\.[0-9a-f]{12}-[0-9a-f]{32}\.json")


class RowStore:
    """Rows by the digest of their task.

    A row is written to a temporary file that then takes its name in one step, so that a file under that name is always
    complete, whatever happened to the process.

    Parameters
    ----------
    folder : path-like
        Made when it is locked, if missing; its parent must exist.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one process; leftovers of killed ones are removed.

        Raises
        ------
        InputError
            If another process holds it, or it cannot be made.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            handle = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as exc:
            raise InputError(f"{self.folder}: cannot be used for finished rows: {exc.strerror or exc}") from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when the process dies
            except OSError:
                raise InputError(f"{self.folder}: another run of this study is at work") from None
            self._remove(_PARTIAL)
            yield
        finally:
            os.close(handle)

    def get(self, key: str) -> dict[str, Any] | None:
        """The row of a task; None if it is not finished.

        Raises
        ------
        InputError
            If the file is not what this class writes.
        """
        path = self.folder / f"{key}.json"
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise InputError(f"{path}: {exc.strerror or exc}") from None
        except ValueError:
            data = None
        wanted = {"schema": _SCHEMA, "version": _VERSION, "task": key}
        if (
            not isinstance(data, dict)
            or {name: data.get(name) for name in wanted} != wanted
            or not isinstance(data.get("row"), dict)
        ):
            raise InputError(f"{path}: not a finished row of this version; remove the file to compute it again")
        row: dict[str, Any] = data["row"]
        return row

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Keep the row of a finished task."""
        with atomic_write(self.folder / f"{key}.json", force=True) as temporary:
            temporary.write_text(json.dumps({"schema": _SCHEMA, "version": _VERSION, "task": key, "row": row}))

    def clear(self) -> None:
        """Remove all rows, and nothing else that lies in the folder."""
        self._remove(_ROW)

    def _remove(self, pattern: re.Pattern[str]) -> None:
        for path in self.folder.iterdir():
            if pattern.fullmatch(path.name):
                path.unlink(missing_ok=True)


def packed(values: Int64Array) -> str:
    """An array of integers as text for a row."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values, np.int64).tobytes(), 1)).decode()


def unpacked(text: str) -> Int64Array:
    """The array that :func:`packed` wrote."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.int64)
