"""What the figures' generating halves share: sizes, workloads, and a resumable loop."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import balanceroute_opt as bro
from balanceroute_opt.experiments.engine import complete
from balanceroute_opt.experiments.store import RowStore
from balanceroute_opt.experiments.study import Study, Workload, run_study
from balanceroute_opt.files import atomic_write

TRACES = {
    "azure-2023-conv": "azure_2023_conv.csv.gz",
    "azure-2023-code": "azure_2023_code.csv.gz",
    "mooncake-conversation": "mooncake_conversation.csv.gz",
}
"""Catalog name -> file in the folder BALANCEROUTE_TRACES."""


@dataclass(frozen=True)
class Size:
    """How large, how many processes, and where finished rows are kept."""

    smoke: bool
    jobs: int
    store: Path
    progress: Callable[[int, int], None] | None

    def of(self, full: Any, smoke: Any) -> Any:
        """The value for this size."""
        return smoke if self.smoke else full

    def study(self, **what: Any) -> Any:
        """The table of a study; rows that are finished are not computed again."""
        return run_study(Study(**what), self.store, jobs=self.jobs, progress=self.progress)

    def rows(self, function: Callable[..., dict[str, Any]], tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """``function(**task) -> row`` for every task, in order, resumable as a study is."""
        keyed = {task_key(function, task): task for task in tasks}
        store = RowStore(self.store)
        with store.lock():
            work = {key: (function, task) for key, task in keyed.items()}
            found = complete(_row, work, store, self.jobs, progress=self.progress)
        return [found[key] for key in keyed]


def task_key(function: Callable[..., Any], task: dict[str, Any]) -> str:
    """Digest of what decides a row."""
    what = [function.__module__, function.__name__, bro.__version__, task]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


def _row(function: Callable[..., dict[str, Any]], task: dict[str, Any]) -> dict[str, Any]:
    return function(**task)


def trace_file(name: str) -> str:
    """The file of a public trace in BALANCEROUTE_TRACES, or the catalog name of a fetched one."""
    folder = os.environ.get("BALANCEROUTE_TRACES")
    if folder and (Path(folder) / TRACES[name]).is_file():
        return str(Path(folder) / TRACES[name])
    from balanceroute_opt.traces.fetch import cached_trace

    if cached_trace(name) is None:
        raise bro.InputError(
            f"the trace {name} is not there: set BALANCEROUTE_TRACES to a folder with {TRACES[name]}, or run "
            f"`balanceroute trace fetch {name}`; --smoke needs no trace"
        )
    return name


def workload(name: str, smoke: bool, n: int = 8000) -> Workload:
    """A trace, or a generator with `n` requests; in smoke size always a small generated stand-in of that name."""
    if smoke:
        stand_in = name if name in bro.GENERATORS else "poisson-lognormal"
        return Workload(generate=stand_in, name=name, n=300)
    if name in TRACES:
        return Workload(trace=trace_file(name), name=name)
    return Workload(generate=name, name=name, n=n)


def instance(name: str, smoke: bool, n: int = 8000, seed: int = 0) -> bro.Instance:
    """The requests of :func:`workload`."""
    source = workload(name, smoke, n)
    if source.generate is not None:
        return bro.generate(source.generate, n=source.n, seed=seed)
    return bro.read_trace(source.trace)


def cluster(smoke: bool, workers: int = 8) -> bro.Cluster:
    """BF-IO's 72 slots and step time."""
    return bro.Cluster(min(workers, 4), 12) if smoke else bro.Cluster(workers, 72)


def tidy(table: Any) -> Any:
    """Floats to six digits: what a picture shows, in a small file."""
    import polars as pl

    floats = [name for name, kind in table.schema.items() if kind == pl.Float64]
    return table.with_columns(pl.col(name).round_sig_figs(6) for name in floats)


def fill(page: Path, figure: str, parts: dict[str, list[str]]) -> Path:
    """Write lines into a page, each part between its marks."""
    text = page.read_text(encoding="utf-8")
    for what, lines in parts.items():
        begin, end = f"<!-- {what}: balanceroute figures {figure} -->", f"<!-- end of {what} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise bro.InputError(f"{page}: the marks {begin} and {end} are not there")
        text = "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])
    with atomic_write(page, force=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return page
