"""Studies: a declared grid of runs that becomes a tidy table, one row per run, and survives being killed.

``docs/studies.md`` describes the files. A study is workloads x clusters x loads x staleness x routers x seeds; bounds
are columns. :func:`read_study` reads one from TOML, :func:`run_study` computes what is not yet there.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .._validate import integer, real
from ..errors import BalanceRouteError, InputError
from ..evaluation.ratios import hindsight_ratio
from ..files import atomic_write, require_writable
from ..generators import GENERATORS, generate
from ..instance import Cluster, Instance
from ..metrics import METRICS, Window, window_bounds
from ..oracles.bounds import placement_bound
from ..predictors import PREDICTORS, NoisyOracle, split
from ..schedule import check
from ..simulator import simulate
from ..steptime import StepTime
from ..traces import read_trace
from .comparison import check_bounds
from .engine import complete, require_jobs
from .specs import nearest, parse_option, router_from
from .store import RowStore
from .workload import prepare

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Study", "Task", "Workload", "read_study", "run_study", "write_table"]

_NOISE = ("fpr", "fnr")
_FORMATS = (".parquet", ".csv")


@dataclass(frozen=True)
class Workload:
    """Where the requests of a study come from.

    Parameters
    ----------
    trace : str, optional
        File, looked for beside the study and in the folder ``BALANCEROUTE_TRACES``, or the name of a fetched trace.
    generate : str, optional
        Name of a generator, which is called with the seed of the run. One of the two must be given.
    name : str
        Label in the table; by default the file's or generator's name.
    n : int, optional
        Requests of the generator.
    head : int, optional
        Keep the first requests only.
    clock : {"step", "wall"}, optional
        As in :func:`~balanceroute_opt.experiments.workload.prepare`.
    options : mapping
        Of the generator, or of :func:`~balanceroute_opt.read_trace`.
    folder : str
        Where relative trace files are looked for first.

    Raises
    ------
    InputError
        If a field is unknown, missing or of the wrong type, or the trace is not there.
    """

    trace: str | None = None
    generate: str | None = None
    name: str = ""
    n: int | None = None
    head: int | None = None
    clock: str | None = None
    options: Any = ()
    folder: str = "."

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        for field in ("trace", "generate", "name", "clock", "folder"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, str):
                raise InputError(f"{field} must be a text, got {value!r}")
        if (self.trace is None) == (self.generate is None):
            raise InputError("a workload needs either trace or generate")
        if self.clock not in (None, "step", "wall"):
            raise InputError(f'clock must be "step" or "wall", got {self.clock!r}')
        for field in ("n", "head"):
            if getattr(self, field) is not None:
                set_(self, field, integer(getattr(self, field), field, 1, 10**9))
        options = self.options
        if not isinstance(options, Mapping):
            try:
                options = dict(options)
            except (TypeError, ValueError):
                raise InputError(f"options must be a table, got {options!r}") from None
        set_(self, "options", tuple(sorted(options.items())))
        if self.generate is not None:
            if self.generate not in GENERATORS:
                close = nearest(self.generate, GENERATORS)
                raise InputError(f"unknown generator {self.generate!r}{close}; known: {', '.join(GENERATORS)}")
            known = [p for p in inspect.signature(GENERATORS[self.generate]).parameters if p not in ("n", "seed")]
            for option in options:
                if option not in known:
                    raise InputError(f"generator {self.generate} has no option {option!r}; options: {', '.join(known)}")
        elif self.n is not None:
            raise InputError("n is about generators; head keeps the first requests of a trace")
        if not self.name:
            set_(self, "name", self.generate or os.path.basename(str(self.trace)).split(".")[0])

    def path(self) -> Path | None:
        """File of the trace; None for a generator.

        Raises
        ------
        InputError
            If there is no such file, and no fetched trace of that name.
        """
        if self.trace is None:
            return None
        places = [Path(self.folder) / self.trace]
        if os.environ.get("BALANCEROUTE_TRACES"):
            places.append(Path(os.environ["BALANCEROUTE_TRACES"]) / self.trace)
        for place in places:
            if place.is_file():
                return place.absolute()
        from ..traces.fetch import cached_trace, find_entry

        found = cached_trace(self.trace) if find_entry(self.trace) is not None else None
        if found is None:
            raise InputError(
                f"no trace {self.trace!r} in {' or '.join(str(p.parent) for p in places)}, and none fetched by that "
                "name (balanceroute trace list)"
            )
        return found


@dataclass(frozen=True)
class Task:
    """One run: everything that decides its row, as plain data, and where its trace lies."""

    data: Mapping[str, Any]
    path: str | None

    @property
    def key(self) -> str:
        """Digest of :attr:`data`, 32 hexadecimal digits."""
        text = json.dumps(self.data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Study:
    """A grid of runs: workloads x clusters x loads x views x routers x seeds.

    Parameters
    ----------
    workloads : sequence of Workload
    clusters : sequence of Cluster
    routers : sequence of str
        As in :func:`~balanceroute_opt.compare`. ``predictor=NAME`` names a predictor of
        :data:`balanceroute_opt.predictors.PREDICTORS`, fitted on the training part; ``noisy-oracle`` takes ``fpr=``
        and ``fnr=`` beside it.
    seeds : int or sequence of int
        A number n stands for 0 .. n - 1. The seed is that of the generator and of the router. On a trace, a router
        that draws nothing runs with the first seed only: the others would repeat it.
    utilizations : sequence of float
        Offered loads to which arrivals are scaled; empty leaves them as they are.
    bounds : sequence of str
        Methods of :func:`~balanceroute_opt.placement_bound`, each with its own column.
    window : "all", "loaded" or (float, float)
        Of the metrics.
    staleness : sequence of float
    optimistic : sequence of bool
        As in :func:`~balanceroute_opt.simulate`.
    training : float
        Share of each workload, from its beginning, that only trains predictors; no router is judged on it.
    name : str

    Raises
    ------
    InputError
        If anything is unknown, of the wrong type, or stands there twice.
    """

    workloads: tuple[Workload, ...]
    clusters: tuple[Cluster, ...]
    routers: tuple[str, ...]
    seeds: Any = 1
    utilizations: tuple[float, ...] = ()
    bounds: tuple[str, ...] = ("item",)
    window: Window = "all"
    staleness: tuple[float, ...] = (0.0,)
    optimistic: tuple[bool, ...] = (False,)
    training: float = 0.0
    name: str = ""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        if not isinstance(self.name, str):
            raise InputError(f"name must be a text, got {self.name!r}")
        set_(self, "training", real(self.training, "training", 0.0))
        if self.training >= 1:
            raise InputError(f"training must be < 1, got {self.training:g}")
        if not isinstance(self.seeds, Sequence) or isinstance(self.seeds, str):
            set_(self, "seeds", tuple(range(integer(self.seeds, "seeds", 1, 10**6))))
        for field, kind in (("workloads", Workload), ("clusters", Cluster), ("routers", str), ("bounds", str)):
            set_(self, field, _entries(getattr(self, field), field, kind))
        if not isinstance(self.window, str):
            set_(self, "window", _entries(self.window, "window", (int, float)))
        window_bounds(self.window, 1, 0)
        set_(self, "seeds", tuple(integer(s, f"seeds[{i}]", 0, 2**62) for i, s in _numbered(self.seeds, "seeds")))
        loads = _numbered(self.utilizations, "utilizations", empty=True)
        set_(self, "utilizations", tuple(real(u, f"utilizations[{i}]", positive=True) for i, u in loads))
        set_(
            self, "staleness", tuple(real(d, f"staleness[{i}]", 0.0) for i, d in _numbered(self.staleness, "staleness"))
        )
        set_(self, "optimistic", _entries(self.optimistic, "optimistic", bool))
        for field in ("routers", "bounds", "seeds", "utilizations", "staleness", "optimistic"):
            _distinct(getattr(self, field), field)
        _distinct([w.name for w in self.workloads], "workloads")
        check_bounds(self.bounds)
        for spec in self.routers:
            _router(spec, None, 0)
            if _predictor(spec)[1] in _fitted_names() and not self.training:
                raise InputError(f"router {spec}: a fitted predictor needs training, the share that it learns from")

    def tasks(self) -> list[Task]:
        """All runs, in the order of the table.

        Raises
        ------
        InputError
            If a trace is not there.
        """
        return list(self._tasks())

    def _tasks(self) -> Iterator[Task]:
        draws = {spec: bool(getattr(_router(spec, None, 0), "random", False)) or _noisy(spec) for spec in self.routers}
        own_code = {spec: _file_digest(spec.split(":")[0]) for spec in self.routers if spec.split(":")[0][-3:] == ".py"}
        views = dict.fromkeys((d, o and d > 0) for d in self.staleness for o in self.optimistic)
        for workload in self.workloads:
            path = workload.path()
            source = {
                "name": workload.name,
                "generate": workload.generate,
                "file": None if path is None else path.name,
                "sha256": None if path is None else _file_digest(str(path)),
                "n": workload.n,
                "head": workload.head,
                "clock": workload.clock,
                "options": dict(workload.options),
                "training": self.training,
            }
            for cluster in self.clusters:
                for load in self.utilizations or (None,):
                    for staleness, optimistic in views:
                        for spec in self.routers:
                            repeated = workload.generate is not None or draws[spec]
                            for seed in self.seeds if repeated else self.seeds[:1]:
                                yield Task(
                                    {
                                        "format": 1,
                                        "version": __version__,
                                        "workload": source,
                                        "cluster": cluster.as_dict(),
                                        "utilization": load,
                                        "staleness": staleness,
                                        "optimistic": optimistic,
                                        "router": spec,
                                        "router_file": own_code.get(spec),
                                        "repeated": repeated,
                                        "seed": seed,
                                        "bounds": list(self.bounds),
                                        "window": self.window if isinstance(self.window, str) else list(self.window),
                                    },
                                    None if path is None else str(path),
                                )


def read_study(path: str | os.PathLike[str]) -> Study:
    """The study in a TOML file (``docs/studies.md``).

    Raises
    ------
    InputError
        One line with the file, the field and the value.
    """
    where = os.fspath(path)
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise InputError(f"{where}: {exc.strerror or exc}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InputError(f"{where}: not a TOML file: {exc}") from None
    try:
        _known(data, [f.name for f in fields(Study)], ("workloads", "clusters", "routers"))
        folder = str(Path(path).absolute().parent)
        own = [f.name for f in fields(Workload) if f.name != "folder"]
        workloads, clusters = [], []
        for i, table in _numbered(data["workloads"], "workloads"):
            with _inside(f"workloads[{i}]"):
                workloads.append(Workload(**_known(table, own), folder=folder))
                workloads[-1].path()
        for i, table in _numbered(data["clusters"], "clusters"):
            with _inside(f"clusters[{i}]"):
                clusters.append(_cluster(table))
        return Study(**(data | {"workloads": workloads, "clusters": clusters}))
    except InputError as exc:
        raise InputError(f"{where}: {exc}") from None


def run_study(
    study: Study,
    store: str | os.PathLike[str] | None = None,
    *,
    jobs: int = 1,
    backend: str | None = None,
    scheduler: str | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Run what is not in the store yet, and return the whole table.

    Every schedule is checked, every bound verified from its certificate, as in :func:`~balanceroute_opt.compare`.

    Parameters
    ----------
    study : Study
    store : path-like, optional
        Folder for finished rows. A row is kept as soon as its run is done, by the digest of all that decides it
        (trace bytes and package version included): a study that was killed, or grew, computes only what is missing.
    jobs : int
        Processes; -1 is one per core. The table does not depend on it.
    backend : str, optional
        Of joblib: ``loky``, ``threading``, or ``dask`` and ``ray`` where these are installed and running; None is what
        ``joblib.parallel_config`` says.
    scheduler : str, optional
        Address of a Dask scheduler or Ray head for these backends.
    force : bool
        Forget the rows of the store first.
    progress : callable, optional
        Called with the number of finished runs and of all.

    Returns
    -------
    polars.DataFrame
        One row per run, in the order of :meth:`Study.tasks`, whatever order they were computed in. Columns: what was
        run; every metric; per bound method ``bound_M`` (token-steps), ``bound_M_status`` and ``above_M``, the share by
        which ``peak_sum`` is above that bound (null with preemptions, which bounds do not model); digests, versions;
        ``seconds`` (simulation) and ``bound_seconds`` of wall time.

    Raises
    ------
    InputError
        If a run is not possible, with the run; a folder cannot be used; or the backend is not there.
    RouterError
        If a router gives an answer that the model does not allow.
    CertificateError
        If a bound is not reproduced.
    """
    require_jobs(jobs)
    tasks = study.tasks()
    work = {task.key: (task,) for task in tasks}
    kept = None if store is None else RowStore(store)
    with nullcontext() if kept is None else kept.lock():
        if kept is not None and force:
            kept.clear()
        rows = complete(_run, work, kept, jobs, backend, scheduler, progress)
    return _frame([rows[task.key] for task in tasks], study.bounds)


def write_table(table: pl.DataFrame, path: str | os.PathLike[str], force: bool = False) -> None:
    """Write a table as Parquet or CSV, by the file's name, completely or not at all.

    Raises
    ------
    InputError
        If the name ends otherwise, or the file exists and `force` is false.
    """
    require_table_name(path)
    with atomic_write(path, force) as temporary:
        if os.fspath(path).endswith(".csv"):
            table.write_csv(temporary)
        else:
            table.write_parquet(temporary)


def require_table_name(path: str | os.PathLike[str], force: bool = True) -> None:
    """Raise InputError unless a table may be written there; asked before long work."""
    if not os.fspath(path).endswith(_FORMATS):
        raise InputError(f"{os.fspath(path)}: a table's name must end in {' or '.join(_FORMATS)}")
    require_writable(path, force)


def _run(task: Task) -> dict[str, Any]:
    """The row of one run."""
    data = task.data
    try:
        return _row(data, task.path)
    except BalanceRouteError as exc:
        run = f"{data['workload']['name']}, {data['cluster']['workers']} workers, {data['router']}, seed {data['seed']}"
        raise type(exc)(f"run ({run}): {exc}") from None


def _row(data: Mapping[str, Any], path: str | None) -> dict[str, Any]:
    import numba
    import numpy

    source, cluster = data["workload"], Cluster.from_dict(data["cluster"])
    inst = _requests(json.dumps(source, sort_keys=True), path, data["seed"] if path is None else None)
    training = None
    if source["training"]:
        training, inst = split(inst, source["training"])
    inst = prepare(inst, cluster, head=source["head"], clock=source["clock"], utilization=data["utilization"])
    router = _router(data["router"], training, data["seed"])
    begin = time.perf_counter()
    run = simulate(inst, cluster, router, data["seed"], staleness=data["staleness"], optimistic=data["optimistic"])
    seconds = time.perf_counter() - begin
    window = data["window"]
    metrics = run.metrics(window if isinstance(window, str) else tuple(window))
    begin = time.perf_counter()
    bounds: dict[str, Any] = {}
    for method in data["bounds"]:
        bounds |= _bound(run, method)
    offered = inst.utilization(cluster)
    return (
        {
            "workload": source["name"],
            "requests": len(inst),
            "clock": inst.clock,
            "utilization": offered if offered < float("inf") else None,
            "offered": data["utilization"],
            "training": source["training"],
            "workers": cluster.workers,
            "slots": cluster.slots,
            "kv_capacity": cluster.kv_capacity,
            "step_fixed": cluster.step_time.fixed,
            "step_per_token": cluster.step_time.per_token,
            "step_per_mean_token": cluster.step_time.per_mean_token,
            "staleness": data["staleness"],
            "optimistic": data["optimistic"],
            "router": data["router"],
            "mode": router.mode,
            "clairvoyant": bool(getattr(router, "clairvoyant", False)),
            "repeated": data["repeated"],
            "seed": data["seed"],
            "window": window if isinstance(window, str) else f"{window[0]:g}-{window[1]:g}",
        }
        | {name: metrics[name] for name in METRICS}
        | {"wait_unit": metrics["wait_unit"]}
        | bounds
        | {
            "trace_sha256": source["sha256"],
            "instance": inst.digest(),
            "task": Task(data, path).key,
            "version": data["version"],
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "numba": numba.__version__,
            "seconds": seconds,
            "bound_seconds": time.perf_counter() - begin,
        }
    )


def _bound(run: Any, method: str) -> dict[str, Any]:
    names = (f"bound_{method}", f"bound_{method}_status", f"above_{method}")
    if run.preemptions:
        return dict.fromkeys(names)
    check(run.instance, run.cluster, run.schedule)
    bound = placement_bound(run.instance, run.cluster, run.schedule.start, method)  # type: ignore[arg-type]
    bound.reproduced(run.instance, run.cluster)
    above = hindsight_ratio(run, bound).upper - 1
    return dict(zip(names, (bound.value, bound.status, above), strict=True))


@lru_cache(maxsize=4)
def _requests(source: str, path: str | None, seed: int | None) -> Instance:
    """The requests of a workload, before anything is done to them; a worker process reads a trace once."""
    data = json.loads(source)
    if path is None:
        return generate(data["generate"], n=data["n"], seed=0 if seed is None else seed, **data["options"])
    return read_trace(path, **data["options"])


def _frame(rows: list[dict[str, Any]], bounds: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    types: dict[str, Any] = dict.fromkeys(METRICS, pl.Float64)
    types |= dict.fromkeys(("steps", "peak_sum", "preemptions", "kv_capacity", "requests", "workers"), pl.Int64)
    types |= dict.fromkeys(("slots", "seed"), pl.Int64)
    types |= dict.fromkeys(("utilization", "offered", "training", "staleness"), pl.Float64)
    types |= dict.fromkeys(("step_fixed", "step_per_token", "step_per_mean_token"), pl.Float64)
    types |= dict.fromkeys(("seconds", "bound_seconds"), pl.Float64)
    types |= dict.fromkeys(("optimistic", "clairvoyant", "repeated"), pl.Boolean)
    for method in bounds:
        types |= {f"bound_{method}": pl.Int64, f"above_{method}": pl.Float64}
    return pl.DataFrame(
        {name: pl.Series([row[name] for row in rows], dtype=types.get(name, pl.String)) for name in rows[0]}
    )


def _router(spec: str, training: Instance | None, seed: int) -> Any:
    """A fresh router; without a training part a fitted predictor is left out (enough to check the rest)."""
    plain, name, noise = _predictor(spec)
    router = router_from(plain)[1]
    if name is None or name == "oracle":
        return router
    if name not in PREDICTORS:
        raise InputError(
            f"router {spec}: unknown predictor {name!r}{nearest(name, PREDICTORS)}; known: {', '.join(PREDICTORS)}"
        )
    if not hasattr(router, "predictor"):
        raise InputError(f"router {spec.split(':')[0]} has no option 'predictor'")
    if name == "noisy-oracle":
        router.predictor = NoisyOracle(**noise, seed=seed)
    elif training is not None:
        router.predictor = PREDICTORS[name](training, router.H)
    return router


def _predictor(spec: str) -> tuple[str, str | None, dict[str, Any]]:
    """The spec without its predictor, the predictor's name, and the error rates of a noisy one."""
    name, noise, rest = None, {}, []
    words = spec.split(":")
    if any(word == "predictor=noisy-oracle" for word in words):
        noise = dict(parse_option(spec, word) for word in words if word.partition("=")[0] in _NOISE)
        words = [word for word in words if word.partition("=")[0] not in _NOISE]
    for word in words:
        if word.startswith("predictor="):
            name = word.partition("=")[2]
        else:
            rest.append(word)
    return ":".join(rest), name, noise


def _fitted_names() -> list[str]:
    return [name for name in PREDICTORS if name not in ("oracle", "noisy-oracle")]


def _noisy(spec: str) -> bool:
    return _predictor(spec)[1] == "noisy-oracle"


@lru_cache(maxsize=64)
def _digest_of(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_digest(path: str) -> str:
    try:
        found = os.stat(path)
        return _digest_of(path, found.st_size, found.st_mtime_ns)
    except OSError as exc:
        raise InputError(f"{path}: {exc.strerror or exc}") from None


def _cluster(table: Any) -> Cluster:
    data = dict(_known(table, ("workers", "slots", "kv_capacity", "step_time"), ("workers", "slots")))
    time = data.get("step_time")
    if isinstance(time, str):
        slots = integer(data["slots"], "slots", 1)
        preset = StepTime.preset(time, slots)
        data["step_time"] = {f.name: getattr(preset, f.name) for f in fields(StepTime)}
    elif time is not None and not isinstance(time, dict):
        raise InputError(f"step_time must be a preset or a table, got {time!r}")
    return Cluster.from_dict(data)


def _known(table: Any, names: Sequence[str], needed: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise InputError(f"must be a table, got {table!r}")
    for name in table:
        if name not in names:
            raise InputError(f"unknown field {name!r}{nearest(name, names)}; fields: {', '.join(names)}")
    for name in needed:
        if name not in table:
            raise InputError(f"field {name!r} is missing")
    return table


@contextmanager
def _inside(where: str) -> Iterator[None]:
    try:
        yield
    except InputError as exc:
        raise InputError(f"{where}: {exc}") from None


def _numbered(values: Any, what: str, empty: bool = False) -> Iterator[tuple[int, Any]]:
    if isinstance(values, str | dict) or not isinstance(values, Sequence):
        raise InputError(f"{what} must be a list, got {values!r}")
    if not values and not empty:
        raise InputError(f"{what} must not be empty")
    return enumerate(values)


def _entries(values: Any, what: str, kind: Any) -> tuple[Any, ...]:
    words = {str: "texts", bool: "true or false"}.get(kind, "tables" if isinstance(kind, type) else "numbers")
    for i, value in _numbered(values, what):
        if not isinstance(value, kind):
            raise InputError(f"{what} must hold {words}, got {what}[{i}] = {value!r}")
    return tuple(values)


def _distinct(values: Sequence[Any], what: str) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise InputError(f"{what}: {value!r} stands there twice")
