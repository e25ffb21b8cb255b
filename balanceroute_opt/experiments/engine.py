"""Many tasks through joblib, on one machine or on an engine that is there (Dask, Ray); nothing finished is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

from ..errors import InputError
from .store import RowStore

__all__ = ["complete", "require_jobs"]


def require_jobs(jobs: Any) -> int:
    """`jobs`, if it is a number of processes.

    Raises
    ------
    InputError
        Unless it is >= 1, or -1 for one per core.
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or not (jobs >= 1 or jobs == -1):
        raise InputError(f"jobs must be >= 1, or -1 for one per core, got {jobs!r}")
    return jobs


def complete(
    function: Callable[..., Any],
    tasks: Mapping[str, tuple[Any, ...]],
    store: RowStore | None = None,
    jobs: int = 1,
    backend: str | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Results of all tasks by key: what the store holds, and the rest, computed and kept one by one.

    Parameters
    ----------
    function : callable
        Pure: a task that an engine runs again after a lost worker gives the same result.
    tasks : mapping of str to tuple
        Arguments by key, run in this order as far as there are processes.
    store : RowStore, optional
        Locked by the caller; keys are then digests of all that decides a result.
    jobs : int
        Processes; -1 is one per core.
    backend : str, optional
        Of joblib: ``loky``, ``threading``, ``dask``, ``ray``; None is what ``joblib.parallel_config`` says.
    scheduler : str, optional
        Address of a Dask scheduler or a Ray head; without one ``dask`` needs a client that is already there, and
        ``ray`` starts on this machine.
    progress : callable, optional
        Called with the number of finished tasks, and of all.

    Raises
    ------
    InputError
        If the backend cannot be used, or a file of the store is not a finished row.
    """
    results: dict[str, Any] = {}
    if store is not None:
        results = {key: row for key in tasks if (row := store.get(key)) is not None}
    missing = {key: arguments for key, arguments in tasks.items() if key not in results}
    if progress is not None:
        progress(len(results), len(tasks))
    for key, result in _computed(function, missing, jobs, backend, scheduler):
        if store is not None:
            store.put(key, result)
        results[key] = result
        if progress is not None:
            progress(len(results), len(tasks))
    return results


def _computed(
    function: Callable[..., Any],
    tasks: Mapping[str, tuple[Any, ...]],
    jobs: int,
    backend: str | None,
    scheduler: str | None,
) -> Iterator[tuple[str, Any]]:
    """(key, result) of every task, each as soon as it is there."""
    import joblib

    if not tasks:
        return
    with _engine(backend, scheduler), ExitStack() as stack:
        try:
            if backend is not None:
                stack.enter_context(joblib.parallel_config(backend))
            # One task per message: a batch would hold finished ones back.
            calls = [joblib.delayed(_call)(key, function, arguments) for key, arguments in tasks.items()]
            results: Iterable[tuple[str, Any]]
            if backend == "ray":  # gives results as a list only
                parallel = joblib.Parallel(n_jobs=jobs, batch_size=1)
                size = 4 * max(1, jobs)
                results = chain.from_iterable(parallel(calls[j : j + size]) for j in range(0, len(calls), size))
            else:
                results = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(calls)
        except (ValueError, ImportError) as exc:
            raise InputError(f"backend {backend!r} cannot be used: {' '.join(str(exc).split())}") from None
        yield from results


def _call(key: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
    return key, function(*arguments)


@contextmanager
def _engine(backend: str | None, scheduler: str | None) -> Iterator[None]:
    """Connect to Dask or Ray, and leave afterwards."""
    if scheduler is not None and backend not in ("dask", "ray"):
        raise InputError(f"a scheduler belongs to the backends dask and ray, got backend {backend!r}")
    if backend == "dask" and scheduler is not None:
        try:
            from distributed import Client
        except ImportError:
            raise InputError('backend dask needs the package distributed (pip install "dask[distributed]")') from None
        try:
            client = Client(scheduler, timeout="10s", set_as_default=True)
        except (OSError, ValueError, TimeoutError) as exc:
            raise InputError(f"no Dask scheduler at {scheduler}: {' '.join(str(exc).split())}") from None
        with client:
            yield
    elif backend == "ray":
        try:
            import ray
            from ray.util.joblib import register_ray
        except ImportError:
            raise InputError("backend ray needs the package ray") from None
        if not ray.is_initialized():
            try:
                ray.init(address=scheduler, log_to_driver=False, **({} if scheduler else {"include_dashboard": False}))
            except (ConnectionError, ValueError) as exc:
                raise InputError(f"no Ray at {scheduler}: {' '.join(str(exc).split())}") from None
        register_ray()
        yield
    else:
        yield
