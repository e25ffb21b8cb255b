"""Recipes: how the instances of a set came about, and how to make them again (``docs/instances.md``).

A set's ``recipes.toml`` holds tables ``[[family]]``. Each stands for one instance, or for one per seed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._validate import Int64Array, integer, real
from ..errors import InputError
from ..experiments.workload import prepare
from ..generators import GENERATORS, generate
from ..instance import Cluster, Instance
from ..steptime import StepTime

__all__ = ["Recipe", "TraceNotFound", "find_trace", "read_recipes", "starts_digest"]

_FAMILY = (
    "name", "about", "generator", "n", "seeds", "options", "trace", "sha256", "head", "utilization", "workers", "slots",
    "step_time", "starts", "windows", "stored",
)  # fmt: skip
_MICRO = 1e-6


class TraceNotFound(InputError):
    """The public trace of a recipe is not on this machine."""


@dataclass(frozen=True)
class Recipe:
    """One instance as data: where its requests come from, the cluster, and the run that gives the starts.

    Attributes
    ----------
    set, name : str
        ``small`` and ``n030-s01``.
    about : str
        One sentence on the instance.
    generator : str
        Name of a generator; empty for a trace.
    n, seed : int
        Of the generator.
    options : dict
        Of the generator.
    trace, sha256 : str
        Name of a public trace (``balanceroute trace list``), and the hash of its text; empty for a generator.
    head : int or None
        Keep the first requests only.
    utilization : float or None
        Offered load on the step clock to which releases are scaled.
    workers, slots : int
    step_time : str or tuple of float
        ``"bfio"``, ``"mean-load"`` (1 us per token, and a fixed part equal to the mean load of a step of the run), or
        (fixed, per token).
    starts : str
        Router whose run on the step clock gives the admission steps.
    windows : str
        Start windows of its schedule problem: ``latest=start``, ``max_wait=D``, ``none``; empty: it has none.
    stored : bool
        Whether the instance is a file of the set too.
    """

    set: str
    name: str
    about: str
    workers: int
    slots: int
    starts: str
    generator: str = ""
    n: int | None = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    trace: str = ""
    sha256: str = ""
    head: int | None = None
    utilization: float | None = None
    step_time: str | tuple[float, ...] = "bfio"
    windows: str = ""
    stored: bool = True

    def instance(self) -> Instance:
        """The requests on the step clock, without keys.

        Raises
        ------
        TraceNotFound
            If the trace is in none of the folders of :func:`find_trace`.
        InputError
            If the trace there is another file.
        """
        if self.trace:
            from ..traces import read_trace

            path = find_trace(self.trace)
            found = _hash_of(path)
            if found != self.sha256:
                raise InputError(f"{path}: has SHA-256 {found[:12]}..., and the recipe's is {self.sha256[:12]}...")
            inst = read_trace(path, key=None)
        else:
            inst = generate(self.generator, n=self.n, seed=self.seed, **self.options)
        cluster = Cluster(self.workers, self.slots)
        inst = prepare(inst, cluster, head=self.head, clock="step", utilization=self.utilization)
        return inst.replace(key=None, name=self.name)

    def make(self) -> tuple[Instance, Cluster, Int64Array]:
        """Instance, cluster, and the admission steps of the run (this compiles and simulates)."""
        from ..simulator import simulate

        inst = self.instance()
        run = simulate(inst, Cluster(self.workers, self.slots), self.starts, seed=0)
        mean = inst.total_work / self.workers / len(run.peak_loads)
        return inst, self.cluster(mean), run.schedule.start

    def cluster(self, mean_load: float) -> Cluster:
        """The cluster; `mean_load` is that of a worker in an active step of the run."""
        if isinstance(self.step_time, tuple):
            return Cluster(self.workers, self.slots, step_time=StepTime(*self.step_time))
        if self.step_time == "mean-load":
            time = StepTime(fixed=round(mean_load) * _MICRO, per_token=_MICRO)
            return Cluster(self.workers, self.slots, step_time=time)
        return Cluster(self.workers, self.slots)

    def lines(self) -> list[tuple[str, str]]:
        """What the recipe says, for people."""
        if self.trace:
            rows = [("trace", f"{self.trace}, SHA-256 {self.sha256}")]
        else:
            options = "".join(f", {name}={value}" for name, value in self.options.items())
            rows = [("generator", f"{self.generator}, n={self.n}, seed={self.seed}{options}")]
        if self.head is not None:
            rows.append(("head", f"first {self.head:,} requests"))
        if self.utilization is not None:
            rows.append(("utilization", f"{self.utilization:g} on the step clock"))
        return [*rows, ("starts", f"run of {self.starts}")]


def read_recipes(path: Path, set_: str) -> dict[str, Recipe]:
    """The recipes of a set by name; empty if the file is not there.

    Raises
    ------
    InputError
        With the file, the family and the field.
    """
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InputError(f"{path}: {exc}") from None
    families = data.get("family")
    if set(data) != {"family"} or not isinstance(families, list):
        raise InputError(f"{path}: must hold tables [[family]] and nothing else")
    recipes: dict[str, Recipe] = {}
    for number, family in enumerate(families, 1):
        try:
            for recipe in _expand(family, set_):
                if recipe.name in recipes:
                    raise InputError(f"a second recipe has the name {recipe.name}")
                recipes[recipe.name] = recipe
        except (InputError, TypeError) as exc:
            raise InputError(f"{path}: family {number}: {exc}") from None
    return recipes


def find_trace(name: str) -> Path:
    """The file of a public trace: in ``$BALANCEROUTE_TRACES``, compressed or not, or in the cache of fetched ones.

    Raises
    ------
    TraceNotFound
    """
    from ..traces.fetch import cached_trace

    folder = os.environ.get("BALANCEROUTE_TRACES")
    if folder:
        for path in sorted(Path(folder).glob(f"{name.replace('-', '_')}.*")):
            if path.name.removesuffix(".gz").removesuffix(".zst").endswith((".csv", ".jsonl")):
                return path
    path_or_none = cached_trace(name)
    if path_or_none is None:
        raise TraceNotFound(f"trace {name} not found (set BALANCEROUTE_TRACES)")
    return path_or_none


def _hash_of(path: Path) -> str:
    """SHA-256 of a file's text, after decompression."""
    sha = hashlib.sha256()
    with path.open("rb") as raw:
        text: Any = raw
        if path.suffix == ".gz":
            text = gzip.GzipFile(fileobj=raw)
        elif path.suffix == ".zst":
            import zstandard

            text = zstandard.ZstdDecompressor().stream_reader(raw)
        while block := text.read(2**20):
            sha.update(block)
    return sha.hexdigest()


def _expand(family: Any, set_: str) -> list[Recipe]:
    for name in family:
        if name not in _FAMILY:
            raise InputError(f"unknown field {name!r}; fields: {', '.join(_FAMILY)}")
    for name in ("name", "about", "workers", "slots", "starts"):
        if name not in family:
            raise InputError(f"lacks the field {name}")
    if ("trace" in family) == ("generator" in family) or ("trace" in family) != ("sha256" in family):
        raise InputError("needs either a generator, or a trace and its sha256")
    if "generator" in family and family["generator"] not in GENERATORS:
        raise InputError(f"unknown generator {family['generator']!r}; known: {', '.join(GENERATORS)}")
    values = dict(family)
    seeds = values.pop("seeds", [0])
    integer(values["workers"], "workers", 1)
    integer(values["slots"], "slots", 1)
    if "utilization" in values:
        values["utilization"] = real(values["utilization"], "utilization", positive=True)
    time = values.get("step_time", "bfio")
    if isinstance(time, list):
        values["step_time"] = tuple(real(x, "step_time", 0.0) for x in time)
    elif time not in ("bfio", "mean-load"):
        raise InputError(f"step_time must be bfio, mean-load or [fixed, per_token], got {time!r}")
    pattern = values.pop("name")
    return [Recipe(set=set_, name=pattern.format(seed=s), seed=integer(s, "seeds", 0), **values) for s in seeds]


def starts_digest(start: Int64Array | None) -> str:
    """SHA-256 (hex) of admission steps as little-endian int64; empty for None."""
    return "" if start is None else hashlib.sha256(start.astype("<i8").tobytes()).hexdigest()
