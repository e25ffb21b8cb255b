"""Synthetic workloads by name, each a pure function of its options and its seed (``docs/generators.md``)."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ._servegen import DAY, WINDOW, bridges, read_servegen
from ._validate import Float64Array, integer, integers, real
from .errors import InputError
from .instance import MAX_TOKENS, Instance

__all__ = [
    "GENERATORS",
    "adversarial_unit",
    "azure_2024_long",
    "bfio",
    "bursty",
    "generate",
    "heavy_tail",
    "poisson_lognormal",
    "servegen",
]

Clock = Literal["step", "wall"]
Seed = int | np.random.Generator


def generate(name: str, n: int | None = None, seed: Seed = 0, **options: Any) -> Instance:
    """A synthetic instance by the name of its generator.

    Parameters
    ----------
    name : str
        A key of `GENERATORS`.
    n : int, optional
        Requests, >= 1; by default the generator's own number (1000, or one round of the adversary).
    seed : int or numpy.random.Generator
        Same seed, same instance. A generator is advanced, so that a second call gives another instance.
    **options
        Of that generator: see its docstring.

    Returns
    -------
    Instance
        Ascending releases. Offered load is set by ``rate``, or afterwards by :meth:`Instance.scaled_to`.

    Raises
    ------
    InputError
        For an unknown name or option (listing those that exist), or a value out of range.

    Examples
    --------
    >>> generate("bfio", n=8000, seed=0).name
    'bfio'
    """
    if not isinstance(name, str) or name not in GENERATORS:
        raise InputError(f"unknown generator {name!r}; generators: {', '.join(GENERATORS)}")
    make = GENERATORS[name]
    known = [p for p in inspect.signature(make).parameters if p not in ("n", "seed")]
    for option in options:
        if option not in known:
            raise InputError(f"generator {name!r} has no option {option!r}; options: {', '.join(known)}")
    if n is not None:
        options["n"] = n
    return make(seed=seed, **options)


def poisson_lognormal(
    n: int = 1000,
    seed: Seed = 0,
    *,
    rate: float = 1.0,
    prompt_mu: float = 6.8,
    prompt_sigma: float = 0.7,
    output_mu: float = 4.86,
    output_sigma: float = 0.99,
    clock: Clock = "wall",
) -> Instance:
    """Poisson arrivals with independent log-normal prompts and outputs [ours].

    ``s = max(1, round(exp(N(prompt_mu, prompt_sigma))))``, outputs likewise.

    Parameters
    ----------
    n, seed
        See :func:`generate`.
    rate : float
        Arrivals per second (per step on the step clock), > 0. On the step clock releases are rounded
        down to steps; to reach a utilization, draw at a small rate and scale once (``docs/generators.md``).
    prompt_mu, prompt_sigma, output_mu, output_sigma : float
        Of the logarithms; sigma >= 0. The defaults have the means of the Azure 2023 conversation
        trace, about 1 150 and 211 tokens, and its medians within 20 %.
    clock : {"wall", "step"}
    """
    count = _count(n)
    arrivals, prompts, outputs = _streams(seed, 3)
    return Instance(
        release=_poisson(arrivals, count, rate, clock),
        prompt=_lognormal(prompts, count, prompt_mu, prompt_sigma, "prompt"),
        output=_lognormal(outputs, count, output_mu, output_sigma, "output"),
        name="poisson-lognormal",
        clock=clock,
    )


def bfio(
    n: int = 1000,
    seed: Seed = 0,
    *,
    rate: float = 1.0,
    prompt_mean: float = 3200.0,
    prompt_std: float = 2600.0,
    output_mean: float = 1200.0,
    output_std: float = 700.0,
    correlation: float = -0.1,
    truncation: Literal["redraw", "clip"] = "redraw",
    clock: Clock = "wall",
) -> Instance:
    """The BF-IO authors' stand-in for the proprietary trace: correlated normal lengths, truncated to positive.

    Parameters of the normal distribution as published (model page, section 9) [published code];
    Poisson arrivals and rounding to the nearest token [ours].

    Parameters
    ----------
    n, seed, rate, clock
        See :func:`poisson_lognormal`.
    prompt_mean, prompt_std, output_mean, output_std, correlation : float
        Of the normal distribution before truncation; ``|correlation| < 1``.
    truncation : {"redraw", "clip"}
        ``"redraw"`` [reading] draws pairs anew until both round to at least 1 token, which is the
        truncated normal distribution; with the defaults its means are about 3 730 and 1 255 tokens.
        ``"clip"`` raises what is below 1 to 1 token: about 3 340 and 1 210, nearer to the means of
        the trace itself, 3 197 and 1 185 [published].
    """
    count = _count(n)
    if truncation not in ("redraw", "clip"):
        raise InputError(f'truncation must be "redraw" or "clip", got {truncation!r}')
    rho = real(correlation, "correlation")
    if not abs(rho) < 1:
        raise InputError(f"correlation must be between -1 and 1, got {rho:g}")
    means = np.array([real(prompt_mean, "prompt_mean"), real(output_mean, "output_mean")])
    stds = np.array([real(prompt_std, "prompt_std", 0.0), real(output_std, "output_std", 0.0)])
    if truncation == "redraw" and (means + 3 * stds < 1).any():
        raise InputError("prompt_mean and output_mean leave next to nothing above 0 to redraw from")
    arrivals, lengths = _streams(seed, 2)
    pairs = np.empty((0, 2))
    while len(pairs) < count:
        normal = lengths.standard_normal((count - len(pairs) + 64, 2))
        normal[:, 1] = rho * normal[:, 0] + np.sqrt(1 - rho**2) * normal[:, 1]
        drawn = means + stds * normal
        pairs = np.concatenate((pairs, drawn[(drawn >= 0.5).all(axis=1)] if truncation == "redraw" else drawn))
    return Instance(
        release=_poisson(arrivals, count, rate, clock),
        prompt=_tokens(pairs[:count, 0]),
        output=_tokens(pairs[:count, 1]),
        name="bfio",
        clock=clock,
    )


def azure_2024_long(
    n: int = 1000,
    seed: Seed = 0,
    *,
    rate: float = 1.0,
    prompt_mean: float = 4652.0,
    output_above: int = 1000,
    output_mean: float = 1052.0,
    clock: Clock = "wall",
) -> Instance:
    """Proxy of the Azure-2024 conversation requests with more than 1 000 output tokens [ours].

    Only two moments of that subset are public: mean prompt 4 652 and mean output 1 052 [published]
    (model page, section 9). Prompts are geometric with that mean, and outputs ``1000 + geometric`` with
    mean 1 052: of all integer distributions with that support and mean these have the largest entropy,
    so that nothing else is assumed. Lengths are independent, arrivals Poisson.

    Parameters
    ----------
    n, seed, rate, clock
        See :func:`poisson_lognormal`.
    prompt_mean : float
        Tokens, >= 1.
    output_above : int
        Every output is larger than this, >= 0.
    output_mean : float
        Tokens, >= ``output_above + 1``.

    Notes
    -----
    A check of the prompts' spread [ours]: with balanced counts of B = 72 on G = 8 workers the mean range of
    eight independent sums is about ``2.85*sqrt(72)*sd``; the published `imbalance_range` of JSQ, 104 737,
    gives sd = 4 330, a coefficient of variation of 0.93; the geometric distribution has 1.00.
    """
    count, above = _count(n), integer(output_above, "output_above", 0, MAX_TOKENS - 1)
    arrivals, prompts, outputs = _streams(seed, 3)
    prompt = prompts.geometric(1 / real(prompt_mean, "prompt_mean", 1.0), count)
    output = above + outputs.geometric(1 / (real(output_mean, "output_mean", above + 1.0) - above), count)
    return Instance(
        release=_poisson(arrivals, count, rate, clock),
        prompt=prompt,
        output=output,
        name="azure-2024-long",
        clock=clock,
    )


def heavy_tail(
    n: int = 1000,
    seed: Seed = 0,
    *,
    rate: float = 1.0,
    alpha: float = 1.5,
    output_min: int = 64,
    output_max: int = 32768,
    prompt_mu: float = 6.8,
    prompt_sigma: float = 0.7,
    clock: Clock = "wall",
) -> Instance:
    """Poisson arrivals with Pareto outputs: few requests hold most of the work [ours].

    Outputs follow the bounded Pareto distribution on ``output_min .. output_max`` by inversion,
    ``P(o > x) ~ x**-alpha``, rounded to the nearest token; prompts as in :func:`poisson_lognormal`.

    Parameters
    ----------
    n, seed, rate, prompt_mu, prompt_sigma, clock
        See :func:`poisson_lognormal`.
    alpha : float
        Tail index, > 0; smaller is heavier.
    output_min, output_max : int
        Tokens, ``1 <= output_min <= output_max``.
    """
    count, shape = _count(n), real(alpha, "alpha", positive=True)
    low = integer(output_min, "output_min", 1, MAX_TOKENS)
    high = integer(output_max, "output_max", low, MAX_TOKENS)
    arrivals, prompts, outputs = _streams(seed, 3)
    tail = 1 - outputs.random(count) * (1 - (low / high) ** shape)
    return Instance(
        release=_poisson(arrivals, count, rate, clock),
        prompt=_lognormal(prompts, count, prompt_mu, prompt_sigma, "prompt"),
        output=np.minimum(_tokens(low * tail ** (-1 / shape)), high),
        name="heavy-tail",
        clock=clock,
    )


def bursty(
    n: int = 1000,
    seed: Seed = 0,
    *,
    rate: float = 1.0,
    ratio: float = 10.0,
    busy: float = 0.1,
    period: float = 100.0,
    prompt_mu: float = 6.8,
    prompt_sigma: float = 0.7,
    output_mu: float = 4.86,
    output_sigma: float = 0.99,
    clock: Clock = "wall",
) -> Instance:
    """Markov-modulated Poisson arrivals: calm and busy phases of random length [ours].

    Phases alternate, beginning with a calm one; their lengths are exponential with means
    ``(1 - busy)*period`` and ``busy*period``. The rate in a busy phase is `ratio` times that in a calm
    one, and the two are such that the long-run mean rate is `rate`. Lengths as in :func:`poisson_lognormal`.

    Parameters
    ----------
    n, seed, prompt_mu, prompt_sigma, output_mu, output_sigma, clock
        See :func:`poisson_lognormal`.
    rate : float
        Long-run mean arrivals per second (per step), > 0.
    ratio : float
        Busy over calm rate, >= 1; 1 is a Poisson process.
    busy : float
        Share of time in busy phases, in (0, 1).
    period : float
        Mean length of a calm and a busy phase together, seconds (steps), > 0.

    Notes
    -----
    By time change: the i-th arrival is where the integral of the rate reaches the i-th arrival of a
    Poisson process of rate 1.
    """
    count, mean_rate = _count(n), real(rate, "rate", positive=True)
    factor, share = real(ratio, "ratio", 1.0), real(busy, "busy", positive=True)
    if share >= 1:
        raise InputError(f"busy must be < 1, got {share:g}")
    cycle = real(period, "period", positive=True)
    arrivals, phases, prompts, outputs = _streams(seed, 4)
    targets = np.cumsum(arrivals.exponential(size=count))
    calm = mean_rate / (1 - share + share * factor)
    means = np.array([(1 - share) * cycle, share * cycle])
    # A cycle holds rate*period arrivals on average; without a cap a tiny product would ask for too many phases.
    cycles_needed = targets[-1] / (mean_rate * cycle)
    if cycles_needed > 1e7:
        raise InputError(f"rate * period must not be so small: {cycles_needed:.3g} phases for {count} requests")
    block = int(1.1 * cycles_needed) + 16
    lengths = np.empty((0, 2))
    while True:
        lengths = np.concatenate((lengths, means * phases.exponential(size=(block, 2))))
        passed = np.cumsum((lengths * (calm, calm * factor)).ravel())
        if passed[-1] >= targets[-1]:
            break
    times = np.interp(targets, np.concatenate(([0.0], passed)), np.concatenate(([0.0], np.cumsum(lengths.ravel()))))
    return Instance(
        release=_on_clock(times, clock),
        prompt=_lognormal(prompts, count, prompt_mu, prompt_sigma, "prompt"),
        output=_lognormal(outputs, count, output_mu, output_sigma, "output"),
        name="bursty",
        clock=clock,
    )


def servegen(
    n: int = 1000,
    seed: Seed = 0,
    *,
    folder: str | os.PathLike[str] | None = None,
    rate: float | None = None,
    start: float = 0.0,
) -> Instance:
    """Requests drawn from ServeGen's production statistics of a reasoning model (DeepSeek-R1).

    Per client and 600 s window: the observed number of requests, at times whose gaps have the fitted
    Gamma or Weibull shape; lengths are drawn from the client's histograms of that 6-hour window, prompt and
    output independently. Statistics: Y. Xiang et al., arXiv:2505.09999, ``alibaba/ServeGen``,
    Apache-2.0 [published]. That the count is kept and the gaps are scaled to fill the window exactly is
    [ours]: observed rate times mean fitted gap lies between 0.0002 and 3 in place of 1, and gaps with a
    coefficient of variation of up to 20 would make the counts a matter of luck.

    Parameters
    ----------
    n, seed
        See :func:`generate`: the first `n` requests from `start` on.
    folder : path, optional
        Folder with ``servegen_deepseek_r1_arrivals.csv.gz`` (client_id, timestamp, rate, cv, pat_name,
        pat_arg1, pat_arg2) and ``servegen_deepseek_r1_lengths.csv.gz`` (client_id, timestamp, field,
        value, probability); by default the environment variable ``BALANCEROUTE_TRACES``.
    rate : float, optional
        Mean requests per second over the day, > 0: all client rates are multiplied by one factor
        (counts rounded up or down at random, so that their mean is exact). By default the data's own, 16.0.
    start : float
        Time of day, seconds in 0 .. 86 400, at which the instance begins; after 24 h the day repeats.

    Returns
    -------
    Instance
        Wall clock, time 0 at `start`. `key` is the client, so that a predictor may learn clients.

    Raises
    ------
    InputError
        Also if the folder or a file is missing or does not hold the columns above.
    """
    count, begin = _count(n), real(start, "start", 0.0)
    if begin >= DAY:
        raise InputError(f"start must be < {DAY} seconds, got {begin:g}")
    data = read_servegen(folder)
    factor = 1.0
    if rate is not None:
        wanted = real(rate, "rate", positive=True)
        # Windows are drawn whole, so that the rate bounds memory and the number of windows bounds time.
        if wanted > 1e4 or count / wanted > 1e6 * WINDOW:
            raise InputError(f"rate must be in {count / (1e6 * WINDOW):.3g} .. 10000 requests/s, got {wanted:g}")
        factor = wanted * DAY / data.count.sum()
    arrivals, prompts, outputs = _streams(seed, 3)
    slot, have = int(begin // WINDOW), 0
    times, rows = [], []
    while have < count:
        row = data.rows_of_slot[slot % len(data.rows_of_slot)]
        number = np.floor(factor * data.count[row] + arrivals.random(len(row))).astype(np.int64)
        position = bridges(arrivals, number, data.shape[row], data.weibull[row])
        moment, owner = slot * WINDOW + WINDOW * position - begin, np.repeat(row, number)
        order = np.argsort(moment, kind="stable")
        order = order[np.searchsorted(moment[order], 0.0) :]
        times.append(moment[order])
        rows.append(owner[order])
        have += len(order)
        slot += 1
    owner = np.concatenate(rows)[:count]
    return Instance(
        release=np.concatenate(times)[:count],
        prompt=data.prompts.draw(prompts, data.group[owner]),
        output=data.outputs.draw(outputs, data.group[owner]),
        key=data.client[owner],
        name="servegen",
        clock="wall",
    )


def adversarial_unit(
    n: int | None = None,
    seed: Seed = 0,
    *,
    workers: int = 8,
    long: int | None = None,
    assignment: ArrayLike | None = None,
) -> Instance:
    """The adversary of the model page, section 8, as a fixed instance on the step clock [ours].

    One round is ``G*G`` requests with prompt 1, all released in one step. The router that the instance
    is made against is known to put request i on worker ``assignment[i]``; it cannot see outputs, so it
    does so whatever they are. The first G requests of the worker that got most (ties: lowest worker)
    have the output `long`, all others 1. In the first step every balanced router has load G on each
    worker; afterwards this router has G requests on one worker and none elsewhere, while the optimum
    has one on each::

        router  G + G*(2 + 3 + ... + long)        optimum  G + (2 + 3 + ... + long)

    so that the ratio of `peak_sum` tends to G as `long` grows (B >= G slots are needed).

    Parameters
    ----------
    n : int, optional
        A multiple of ``workers**2``, one round each; by default one round. Round j is released in step
        ``j*long``, when all of round j - 1 has ended.
    seed
        Taken and not used: nothing is random.
    workers : int
        ``G`` >= 2.
    long : int, optional
        Output of the survivors, >= 1; by default ``8*G``, where the ratio is 7.97 of 8 for G = 8.
    assignment : array_like of int, shape (G*G,), optional
        Worker of every request of the one round, from a run of the router under attack on the same
        instance with ``long=1``. By default ``i mod G``, which is where `round-robin` puts them, and
        every deterministic rule that fills equal workers in index order, one request after the other.

    Raises
    ------
    InputError
        If `n` is no multiple of ``G*G``, or `assignment` has another shape, names another worker or
        comes with more than one round.
    """
    size = integer(workers, "workers", 2, 2**15)
    last = 8 * size if long is None else integer(long, "long", 1, MAX_TOKENS)
    count = size**2 if n is None else _count(n)
    if count % size**2:
        raise InputError(f"n must be a multiple of workers**2 = {size**2}, got {count}")
    placed = np.arange(size**2) % size
    if assignment is not None:
        placed = integers(assignment, "assignment", 0, size - 1)
        if len(placed) != count:
            raise InputError(
                f"assignment must have n = workers**2 = {size**2} entries, got {len(placed)} for n = {count}"
            )
    survivors = np.flatnonzero(placed == np.argmax(np.bincount(placed)))[:size]
    output = np.ones(size**2, np.int64)
    output[survivors] = last
    rounds = count // size**2
    return Instance(
        release=np.repeat(np.arange(rounds) * last, size**2),
        prompt=np.ones(count, np.int64),
        output=np.tile(output, rounds),
        name="adversarial-unit",
        clock="step",
    )


GENERATORS: Mapping[str, Callable[..., Instance]] = MappingProxyType(
    {
        "poisson-lognormal": poisson_lognormal,
        "bfio": bfio,
        "azure-2024-long": azure_2024_long,
        "servegen": servegen,
        "heavy-tail": heavy_tail,
        "bursty": bursty,
        "adversarial-unit": adversarial_unit,
    }
)
"""Every generator by name; each is called as ``f(n, seed, **options)``."""


def _count(n: int) -> int:
    return integer(n, "n", 1, 10**9)


def _streams(seed: Seed, number: int) -> list[np.random.Generator]:
    """Independent streams, so that an option of the arrivals leaves the lengths as they are."""
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(integer(seed, "seed", 0))
    return rng.spawn(number)


def _poisson(rng: np.random.Generator, n: int, rate: float, clock: Clock) -> Float64Array:
    return _on_clock(np.cumsum(rng.exponential(1 / real(rate, "rate", positive=True), n)), clock)


def _on_clock(times: Float64Array, clock: Clock) -> Float64Array:
    """Times as they are, or rounded down to whole steps (still floats: the instance checks their range)."""
    if clock not in ("step", "wall"):
        raise InputError(f'clock must be "step" or "wall", got {clock!r}')
    return np.floor(times) if clock == "step" else times


def _tokens(values: Float64Array) -> Float64Array:
    """Rounded to the nearest token, halves up, at least 1."""
    return np.maximum(np.floor(values + 0.5), 1.0)


def _lognormal(rng: np.random.Generator, n: int, mu: float, sigma: float, what: str) -> Float64Array:
    normal = rng.normal(real(mu, f"{what}_mu"), real(sigma, f"{what}_sigma", 0.0), n)
    with np.errstate(over="ignore"):
        return _tokens(np.exp(normal))
