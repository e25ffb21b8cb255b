"""The library as a whole: what is in it, whether it is true, and how it gets better."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import hashlib
import os
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import __version__
from .._validate import Int64Array
from ..certificates import read_certificate, write_certificate
from ..errors import BalanceRouteError, CertificateError, InputError, InvalidSchedule
from ..files import read_problem, read_schedule, write_schedule
from ..instance import Cluster, Instance
from ..schedule import Schedule
from .recipes import Recipe, TraceNotFound, read_recipes, starts_digest
from .registry import Problem, Row, read_registry, write_registry
from .task import Task

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Entry", "Library", "Verdict", "read_library"]

MAX_FILE = 300_000
"""Most bytes of one schedule or certificate, compressed: the library is downloaded with the code."""

_VARIABLE = "BALANCEROUTE_LIBRARY"
_REGISTRY = "registry.csv"
_SOLUTIONS = "solutions"
StrPath = str | os.PathLike[str]


class Entry:
    """One instance of the library; what is large is read when it is asked for.

    Attributes
    ----------
    name, set : str
        ``small/n030-s01`` and ``small``.
    about : str
        One sentence.
    windows : str
        Start windows of its schedule problem; empty: it has none.
    recipe : Recipe or None
        How it was made.
    path : Path or None
        Its file; None for an instance that exists as a recipe only.
    rows : tuple of Row
        Its problems.
    """

    def __init__(
        self, library: Library, name: str, about: str, windows: str, recipe: Recipe | None, path: Path | None
    ) -> None:
        self._library = library
        self.name, self.about, self.windows, self.recipe, self.path = name, about, windows, recipe, path
        self.set = name.partition("/")[0]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Its problems."""
        return tuple(row for row in self._library.rows if row.name == self.name)

    @property
    def inst(self) -> Instance:
        """The requests, on the step clock; :class:`TraceNotFound` if they need a trace that is not there."""
        return self._problem[0]

    @property
    def cluster(self) -> Cluster:
        """The cluster."""
        return self._problem[1]

    @property
    def start(self) -> Int64Array | None:
        """The given admission steps; None if the instance has none."""
        return self._problem[2]

    @cached_property
    def _problem(self) -> tuple[Instance, Cluster, Int64Array | None]:
        if self.path is not None:
            inst, cluster, start = read_problem(self.path)
            if cluster is None or inst.clock != "step":
                raise InputError(f"{self.path}: an instance of the library is on the step clock and has a cluster")
            return inst, cluster, start
        assert self.recipe is not None
        inst, cluster = self.recipe.instance(), self.recipe.cluster(0.0)
        placement = next((row for row in self.rows if row.problem == "placement" and row.schedule), None)
        if placement is None:
            return inst, cluster, None
        # The starts of a recipe are those of its placements: no simulation is needed to have them.
        return inst, cluster, read_schedule(self._library.path / placement.schedule, inst).start

    def make(self) -> tuple[Instance, Cluster, Int64Array]:
        """Instance, cluster and starts anew from the recipe, and the same as in the library.

        Raises
        ------
        InputError
            If there is no recipe, or what it makes now is not what the library holds.
        """
        if self.recipe is None:
            raise InputError(f"{self.name}: was made by hand, without a recipe")
        made = self.recipe.make()
        for row in self.rows:
            given = starts_digest(made[2]) if row.given else ""
            for what, now, then in (
                ("instance", made[0].digest(), row.instance),
                ("cluster", made[1].digest(), row.cluster),
                ("starts", given, row.given),
            ):
                if now != then:
                    raise InputError(f"{self.name}: the recipe now makes another {what} than the library's")
        if self.path is None and self._problem[2] is None:
            self._problem = made
        return made

    def row(self, problem: str | None = None) -> Row:
        """The row of a problem; without a name that of its only one, or placement."""
        rows = self.rows
        for row in rows:
            if row.problem == (problem or "placement") or (problem is None and len(rows) == 1):
                return row
        have = ", ".join(row.problem for row in rows) or "none"
        raise InputError(f"{self.name}: has no {problem or 'placement'} problem in the registry; problems: {have}")

    def schedule(self, problem: str | None = None) -> Schedule | None:
        """The best known schedule."""
        file = self.row(problem).schedule
        return read_schedule(self._library.path / file, self.inst) if file else None

    def certificate(self, problem: str | None = None) -> dict[str, Any] | None:
        """The certificate of the bound."""
        file = self.row(problem).certificate
        return read_certificate(self._library.path / file) if file else None

    def __repr__(self) -> str:
        return f"Entry({self.name!r}, {', '.join(row.label for row in self.rows) or 'no problem'})"


@dataclass(frozen=True)
class Verdict:
    """What :meth:`Library.verify` found about a row.

    Attributes
    ----------
    row : Row
    outcome : {"verified", "skipped", "failed"}
        *skipped*: the instance needs a trace that is not on this machine; nothing was checked.
    words : str
        What was verified, or what is wrong, in one line.
    seconds : float
    """

    row: Row
    outcome: Literal["verified", "skipped", "failed"]
    words: str
    seconds: float


class Library:
    """Instances by name, and the rows of the registry; see :func:`read_library`.

    Attributes
    ----------
    path : Path
        Folder.
    rows : tuple of Row
    sets : tuple of str
        Every folder with instances or recipes is a set.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        registry = self.path / _REGISTRY
        if not registry.is_file():
            raise InputError(f"{self.path}: is no library of instances: it has no file {_REGISTRY}")
        self._entries: dict[str, Entry] = {}
        sets = []
        for folder in sorted(p for p in self.path.iterdir() if p.is_dir() and p.name != _SOLUTIONS):
            found = self._read_set(folder)
            if found:
                sets.append(folder.name)
                self._entries |= found
        order = ("tiny", "small", "medium", "trace")
        self.sets = tuple(sorted(sets, key=lambda s: (order.index(s) if s in order else len(order), s)))
        self._entries = {
            name: entry for s in self.sets for name, entry in sorted(self._entries.items()) if entry.set == s
        }
        self.rows = read_registry(registry)
        for row in self.rows:
            if row.name not in self._entries:
                raise InputError(f"{registry}: {row.name} is neither a file nor a recipe")

    def _read_set(self, folder: Path) -> dict[str, Entry]:
        recipes = read_recipes(folder / "recipes.toml", folder.name)
        about = _read_about(folder / "about.toml")
        files = {}
        for path in sorted(folder.iterdir()):
            if path.name.endswith((".json", ".json.gz")) and not path.name.startswith("."):
                stem = path.name.removesuffix(".gz").removesuffix(".json")
                if stem in files:
                    raise InputError(f"{path}: the set has two files of this name")
                files[stem] = path
        for name, recipe in recipes.items():
            if recipe.stored and name not in files:
                raise InputError(
                    f"{folder}: the recipe {name} says that it is stored, and there is no file {name}.json"
                )
        return {
            f"{folder.name}/{stem}": Entry(
                self,
                f"{folder.name}/{stem}",
                *((r.about, r.windows) if (r := recipes.get(stem)) is not None else about.get(stem, ("", ""))),
                recipes.get(stem),
                files.get(stem),
            )
            for stem in sorted(files | recipes)
        }

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            close = difflib.get_close_matches(str(name), self._entries, n=1, cutoff=0.6)
            hint = f"; did you mean {close[0]}?" if close else f"; sets: {', '.join(self.sets)}"
            raise InputError(f"no instance {name!r} in the library{hint}") from None

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Library({len(self)} instances, {len(self.rows)} problems; sets: {', '.join(self.sets)})"

    def _repr_html_(self) -> str:
        return str(self.to_polars()._repr_html_())

    def to_polars(self) -> pl.DataFrame:
        """The rows as a table, one column per column of the registry; numbers are floats, and a gap is added."""
        import polars as pl

        numbers = ("best", "bound", "claimed")
        data = [row.as_dict() | {"gap": row.gap} for row in self.rows]
        rows = [d | {x: None if d[x] is None else float(d[x] or 0) for x in numbers} for d in data]
        return pl.DataFrame(rows, infer_schema_length=None)

    def stray_files(self) -> list[str]:
        """Instances without a row, and solution files that no row names; relative paths."""
        named = {file for row in self.rows for file in (row.schedule, row.certificate)}
        rows = {row.name for row in self.rows}
        return [name for name in self._entries if name not in rows] + sorted(self._solution_files() - named)

    def verify(self, rows: Iterable[Row] | None = None) -> Iterator[Verdict]:
        """Recompute what the rows say, in exact arithmetic, without a solver; one verdict per row.

        Digests of the instance, the cluster and the given starts; the schedule, checked against every rule and priced
        again; the certificate, verified. Claimed bounds are a solver's word, and are not part of it.
        """
        for row in self.rows if rows is None else rows:
            began = time.perf_counter()
            outcome: Literal["verified", "skipped", "failed"]
            try:
                outcome, words = "verified", self._verify(row)
            except TraceNotFound as exc:
                outcome, words = "skipped", str(exc)
            except BalanceRouteError as exc:
                outcome, words = "failed", " ".join(str(exc).split())
            yield Verdict(row, outcome, words, time.perf_counter() - began)

    def _verify(self, row: Row) -> str:
        entry = self[row.name]
        task = Task(entry, row.problem, row.windows)
        facts = task.facts()
        for name, value in facts.items():
            if getattr(row, name) != value:
                raise InputError(f"{name} is {getattr(row, name)} in the registry, and {value} in the instance")
        words = []
        if row.schedule:
            price = task.price(read_schedule(self.path / row.schedule, entry.inst))
            if price != row.best:
                raise InvalidSchedule(f"{row.schedule}: costs {price}, and the registry says {row.best}")
            words.append("schedule checked")
        if row.certificate:
            certificate = read_certificate(self.path / row.certificate)
            proved = task.proved(certificate)
            if proved != row.bound or certificate["kind"] != row.proof:
                raise CertificateError(
                    f"{row.certificate}: proves {proved} ({certificate['kind']}), and the registry says "
                    f"{row.bound} ({row.proof})"
                )
            words.append(f"bound certified ({row.proof})")
        if row.best is not None and row.bound is not None and row.bound > row.best * (1 + 1e-9):
            raise CertificateError(f"the bound {row.bound} lies above the schedule's {row.best}")
        return ", ".join(words) or "nothing is claimed"

    def add(self, name: str, problem: Problem, windows: str = "") -> Row:
        """A new row without schedule and bound for an instance of the library.

        Raises
        ------
        InputError
            If there is one already, or the windows do not fit.
        """
        entry = self[name]
        row = Row(
            name=name, set=entry.set, problem=problem, windows=windows, best=None, bound=None, claimed=None,
            claimed_by="", method="", proof="", version=__version__, date=_today(), schedule="", certificate="",
            **Task(entry, problem, windows).facts(),
        )  # fmt: skip
        with self._changing() as rows:
            if any(other.name == name and other.problem == problem for other in rows):
                raise InputError(f"{name}: has a row of its {problem} problem already")
            rows.append(row)
        return row

    def improve(
        self,
        name: str,
        problem: str | None = None,
        *,
        schedule: Schedule | StrPath | None = None,
        certificate: dict[str, Any] | StrPath | None = None,
        method: str = "",
        claimed: tuple[int | float, str] | None = None,
    ) -> Row:
        """Take a better schedule, a better certificate, or both, into the library.

        Parameters
        ----------
        name : str
            ``small/n030-s01``.
        problem : {"placement", "schedule"}, optional
            By default the certificate's, or the only one, or placement.
        schedule : Schedule or path, optional
            Must obey every rule of the problem and cost less than the best known one.
        certificate : dict or path, optional
            Must be verified and prove more than the bound.
        method : str
            How the schedule was found, in a few words.
        claimed : (value, solver), optional
            A lower bound without a certificate; it is dropped where it is not above the certified one.

        Returns
        -------
        Row
            The new row.

        Raises
        ------
        InputError, InvalidSchedule, CertificateError
            Saying why something is refused. The library is then as it was.
        """
        entry = self[name]
        proof = read_certificate(certificate) if isinstance(certificate, str | os.PathLike) else certificate
        if schedule is None and proof is None and claimed is None:
            raise InputError("nothing to improve with: give a schedule, a certificate, or both")
        if problem is None and proof is not None:
            problem = str(proof.get("problem"))
        row = entry.row(problem)
        task = Task(entry, row.problem, row.windows)
        sched = read_schedule(schedule, entry.inst) if isinstance(schedule, str | os.PathLike) else schedule
        with self._changing() as rows:
            at = next((i for i, r in enumerate(rows) if (r.name, r.problem) == (row.name, row.problem)), None)
            if at is None:
                raise InputError(f"{name}: its row has left the registry in the meantime")
            row = rows[at]
            new: dict[str, Any] = {}
            if sched is not None:
                new["best"], new["method"] = task.price(sched), " ".join(method.split()) or "unknown"
                if row.best is not None and new["best"] >= row.best:
                    raise InvalidSchedule(f"the schedule costs {new['best']}, and the best known one {row.best}")
            if proof is not None:
                new["bound"], new["proof"] = task.proved(proof), proof["kind"]
                if row.bound is not None and new["bound"] <= row.bound:
                    raise CertificateError(f"the certificate proves {new['bound']}, and the bound is {row.bound}")
            if claimed is not None:
                new["claimed"], new["claimed_by"] = claimed
            row = _consistent(replace(row, **new, version=__version__, date=_today()))
            rows[at] = replace(row, **self._write_files(row, entry, sched, proof))
        return self[name].row(row.problem)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Row]]:
        """The rows as the file has them now, to be changed; written if the block ends well. One writer at a time.

        Files that no row names before or after are removed, whatever happens.
        """
        with _locked(self.path):
            before = read_registry(self.path / _REGISTRY)
            there = self._solution_files()
            try:
                changed = list(before)
                yield changed
                order = {name: i for i, name in enumerate(self._entries)}
                # Another writer may have added instances since this library was read.
                changed.sort(key=lambda row: (order.get(row.name, len(order)), row.name, row.problem))
                write_registry(changed, self.path / _REGISTRY)
            finally:
                self.rows = read_registry(self.path / _REGISTRY)
                kept = {file for row in self.rows for file in (row.schedule, row.certificate)}
                dropped = {file for row in before for file in (row.schedule, row.certificate)}
                for file in ((self._solution_files() - there) | dropped) - kept - {""}:
                    with contextlib.suppress(OSError):
                        (self.path / file).unlink()

    def _solution_files(self) -> set[str]:
        folder = self.path / _SOLUTIONS
        return {p.relative_to(self.path).as_posix() for p in folder.rglob("*") if p.is_file()}

    def _write_files(
        self, row: Row, entry: Entry, sched: Schedule | None, proof: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Write a row's new files under names of their own; their paths."""
        folder = self.path / _SOLUTIONS / row.set
        stem = f"{row.name.partition('/')[2]}.{'p1' if row.problem == 'placement' else 'p2'}"
        files: dict[str, Any] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for kind, value in (("schedule", sched), ("certificate", proof)):
                if value is None:
                    continue
                draft = folder / f".{stem}.{kind}.json.gz"
                if isinstance(value, Schedule):
                    write_schedule(value, draft, entry.inst, force=True)
                else:
                    write_certificate(value, draft, force=True)
                content = draft.read_bytes()
                if len(content) > MAX_FILE:
                    raise InputError(
                        f"the {kind} has {len(content):,} bytes, compressed, and the library takes at most {MAX_FILE:,}"
                    )
                # Named by content: a file is never written over, so that the registry is right at every moment.
                target = folder / f"{stem}.{hashlib.sha256(content).hexdigest()[:8]}.{kind}.json.gz"
                os.replace(draft, target)
                files[kind] = target.relative_to(self.path).as_posix()
        except OSError as exc:
            raise InputError(f"{folder}: cannot be written: {exc.strerror or exc}") from None
        return files


def read_library(path: StrPath | None = None) -> Library:
    """The library of instances.

    Parameters
    ----------
    path : path-like, optional
        Its folder. By default that of the environment variable ``BALANCEROUTE_LIBRARY``, else ``instances/`` in the
        working directory, else that of the checkout in which the package lies.

    Raises
    ------
    InputError
        If it is not there, or not a library.

    Examples
    --------
    >>> library = read_library()  # doctest: +SKIP
    >>> entry = library["small/n030-s01"]  # doctest: +SKIP
    >>> entry.inst, entry.cluster, entry.start, entry.row("placement").best  # doctest: +SKIP
    """
    given = path if path is not None else os.environ.get(_VARIABLE) or None
    if given is not None:
        return Library(given)
    for root in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (root / "instances" / _REGISTRY).is_file():
            return Library(root / "instances")
    raise InputError(
        "no library of instances here: run in a checkout of the repository, or name its folder instances/ with "
        f"--library or {_VARIABLE}"
    )


def _consistent(row: Row) -> Row:
    """`row` without a claim that is refuted or certified by now; a contradiction is an error."""
    if row.bound is not None and row.best is not None and row.bound > row.best and row.status != "optimal":
        raise CertificateError(f"the certificate proves {row.bound}, above a schedule that costs {row.best}")
    claim = row.claimed
    if claim is not None and (
        (row.bound is not None and claim <= row.bound)
        or (row.best is not None and claim > row.best * (1 + 1e-9))
        or row.status == "optimal"
    ):
        return replace(row, claimed=None, claimed_by="")
    return row


def _read_about(path: Path) -> dict[str, tuple[str, str]]:
    """What is said of the instances made by hand: (one sentence, start windows)."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise InputError(f"{path}: {exc}") from None
    for name, entry in data.items():
        if not isinstance(entry, dict) or not {"about"} <= set(entry) <= {"about", "windows"}:
            raise InputError(f"{path}: {name} must have the fields about and, if need be, windows")
    return {name: (entry["about"], entry.get("windows", "")) for name, entry in data.items()}


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock where the system has one."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as exc:
        raise InputError(f"{folder}: {exc.strerror or exc}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
