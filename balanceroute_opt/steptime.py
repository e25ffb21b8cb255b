"""Step time: seconds that one lock-step decode step takes (``docs/model.md``, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ._validate import Float64Array, frozen, integer, real, reals
from .errors import InputError

__all__ = ["STEP_TIME_PRESETS", "StepTime", "StepTimeFit", "StepTimePreset", "step_time_presets"]


@dataclass(frozen=True)
class StepTime:
    """Linear step time ``tau(k) = c + a * max_g L_g(k) + b * mean_g L_g(k)``.

    Parameters
    ----------
    fixed : float
        ``c``, seconds per step that do not depend on the load, >= 0.
    per_token : float
        ``a``, seconds per KV token on the slowest worker, >= 0.
    per_mean_token : float
        ``b``, seconds per KV token of the mean worker (work that the barrier does not amplify), >= 0.

    Raises
    ------
    InputError
        If a coefficient is negative, not finite or not a number.

    Notes
    -----
    The functional form is that of the BF-IO authors' simulator [published code, with ``b = 0``];
    ``b`` is [ours]. See :meth:`bfio` for their coefficients, :meth:`fit` for a fit to measurements
    and :meth:`preset` for named ones.
    """

    fixed: float
    per_token: float
    per_mean_token: float = 0.0

    def __post_init__(self) -> None:
        for name in ("fixed", "per_token", "per_mean_token"):
            object.__setattr__(self, name, real(getattr(self, name), f"step_time.{name}", 0.0))

    @classmethod
    def bfio(cls, slots: int) -> StepTime:
        """Coefficients of the BF-IO authors' released simulator [published code].

        ``c = (0.0006*B + 0.035)/16`` s and ``a = 1.5*2*576*61e-6/2**20`` s per token.

        Parameters
        ----------
        slots : int
            ``B``, requests per worker.
        """
        return cls(fixed=(0.0006 * slots + 0.035) / 16, per_token=1.5 * 2 * 576 * 61e-6 / 2**20)

    @classmethod
    def from_hardware(
        cls,
        kv_bytes_per_token: float,
        bandwidth: float,
        weight_bytes: float = 0.0,
        devices: int = 1,
        efficiency: float = 1.0,
    ) -> StepTime:
        """Step time of a decode that is bound by memory bandwidth: a model, not a measurement [ours].

        ``a = kv_bytes_per_token / (devices * bandwidth * efficiency)`` and
        ``c = weight_bytes / (devices * bandwidth * efficiency)``: every step reads the worker's
        weights once and its KV cache once, and nothing else takes time (no kernel launch, no
        network, no arithmetic), so that `c` in particular is optimistic.

        Parameters
        ----------
        kv_bytes_per_token : float
            KV cache of one token over all layers, bytes, > 0.
        bandwidth : float
            Memory bandwidth of one device, bytes/s, > 0.
        weight_bytes : float
            Weights that one worker reads per step, bytes, >= 0.
        devices : int
            Devices of one worker that split both evenly (tensor parallel), >= 1.
        efficiency : float
            Share of the bandwidth that is reached, in (0, 1].

        Raises
        ------
        InputError
            If an argument is out of range.

        Examples
        --------
        >>> StepTime.from_hardware(kv_bytes_per_token=327_680, bandwidth=2.048e12, devices=2).per_token
        8e-08
        """
        kv = real(kv_bytes_per_token, "kv_bytes_per_token", positive=True)
        weights = real(weight_bytes, "weight_bytes", 0.0)
        share = real(efficiency, "efficiency", positive=True)
        if share > 1:
            raise InputError(f"efficiency must be <= 1, got {share:g}")
        speed = integer(devices, "devices", 1) * real(bandwidth, "bandwidth", positive=True) * share
        return cls(fixed=weights / speed, per_token=kv / speed)

    @classmethod
    def preset(cls, name: str, slots: int | None = None) -> StepTime:
        """A named step time; :func:`step_time_presets` lists them with a line each.

        Parameters
        ----------
        name : str
            A key of `STEP_TIME_PRESETS`.
        slots : int, optional
            ``B``, used by ``"bfio"`` (which is :meth:`bfio`) and by no other.

        Raises
        ------
        InputError
            For an unknown name, or ``"bfio"`` without `slots`.
        """
        if not isinstance(name, str) or name not in STEP_TIME_PRESETS:
            raise InputError(f"unknown step time preset {name!r}; presets: {', '.join(STEP_TIME_PRESETS)}")
        known = STEP_TIME_PRESETS[name].step_time
        if known is not None:
            return known
        if slots is None:
            raise InputError(f"step time preset {name!r} needs slots (requests per worker)")
        return cls.bfio(integer(slots, "slots", 1))

    @classmethod
    def fit(cls, table: Mapping[str, ArrayLike] | ArrayLike, workers: int | None = None) -> StepTimeFit:
        """Least squares fit of ``tau = c + a*max + b*mean`` to measured steps, no coefficient below 0.

        Parameters
        ----------
        table : mapping of str to array_like, data frame, or array_like of shape (n, 2) or (n, 3)
            One row per measured step. Columns: ``tokens`` (KV tokens on the slowest worker, or on the
            only one), ``seconds``, and, to fit ``b`` too, ``mean_tokens`` (mean over the workers) or
            ``total_tokens`` (sum over them). An array has the columns (tokens, seconds) or (tokens,
            mean_tokens, seconds). Other columns are refused.
        workers : int, optional
            ``G``; needed with ``total_tokens``, otherwise used to check that no maximum exceeds the sum.

        Returns
        -------
        StepTimeFit
            The step time, and what the fit leaves unexplained.

        Raises
        ------
        InputError
            For missing, unknown or unequally long columns, entries that are negative or not finite,
            fewer rows than coefficients, a mean above the maximum, or columns that cannot tell the
            coefficients apart.

        Notes
        -----
        Exact for its three coefficients: the optimum of non-negative least squares is the plain least
        squares fit on the coefficients that are positive in it, so that all subsets are tried.

        Examples
        --------
        >>> StepTime.fit({"tokens": [0, 100, 200], "seconds": [1.0, 1.5, 2.0]}).step_time
        StepTime(fixed=1.0, per_token=0.005, per_mean_token=0.0)
        """
        tokens, mean, seconds = _measurements(table, workers)
        columns = [np.ones_like(tokens), tokens] + ([] if mean is None else [mean])
        names = ("tokens",) if mean is None else ("tokens", "mean_tokens")
        if len(tokens) < len(columns):
            raise InputError(f"a fit of {len(columns)} coefficients needs as many rows, got {len(tokens)}")
        # Columns of length 1 keep token counts of 1e6 and the constant apart from rounding.
        scale = np.array([float(np.linalg.norm(column)) or 1.0 for column in columns])
        matrix = np.column_stack(columns) / scale
        if np.linalg.matrix_rank(matrix) < len(columns):
            cause = "does not vary" if mean is None else "do not vary independently"
            raise InputError(f"cannot fit the step time: {' and '.join(names)} {cause} over {len(tokens)} rows")
        best, coefficients = float(seconds @ seconds), np.zeros(3)
        for size in range(1, len(columns) + 1):
            for chosen in map(list, combinations(range(len(columns)), size)):
                solution = np.linalg.lstsq(matrix[:, chosen], seconds, rcond=None)[0]
                rest = seconds - matrix[:, chosen] @ solution
                if (solution >= 0).all() and float(rest @ rest) < best:
                    best = float(rest @ rest)
                    coefficients[:] = 0.0
                    coefficients[chosen] = solution / scale[chosen]
        residuals = seconds - np.column_stack(columns) @ coefficients[: len(columns)]
        squares, spread = float(residuals @ residuals), seconds - seconds.mean()
        return StepTimeFit(
            step_time=cls(*coefficients.tolist()),
            r2=1.0 - squares / float(spread @ spread) if np.ptp(seconds) > 0 else float("nan"),
            rmse=(squares / len(seconds)) ** 0.5,
            max_residual=float(np.abs(residuals).max()),
            n=len(seconds),
            residuals=frozen(residuals),
        )

    def seconds(self, peak: Any, total: Any, workers: int) -> Any:
        """Seconds of steps with largest load `peak` and summed load `total` (scalars or arrays)."""
        return self.fixed + self.per_token * peak + self.per_mean_token * (total / workers)

    def seconds_of(self, steps: int, peak_sum: int, work: int, workers: int) -> float:
        """Seconds of `steps` active steps whose peaks and loads sum to `peak_sum` and `work`.

        The one formula of decode time: ``c*steps + a*peak_sum + b*work/G``, from exact integers.
        """
        return self.fixed * steps + self.per_token * peak_sum + self.per_mean_token * (work / workers)

    def exact_seconds_of(self, steps: int, peak_sum: int, work: int, workers: int) -> Fraction:
        """As :meth:`seconds_of`, not rounded."""
        c, a, b = self.exact()
        return c * steps + a * peak_sum + b * Fraction(work, workers)

    def exact(self) -> tuple[Fraction, Fraction, Fraction]:
        """``(c, a, b)`` as the exact rationals of their floats."""
        return Fraction(self.fixed), Fraction(self.per_token), Fraction(self.per_mean_token)


@dataclass(frozen=True)
class StepTimeFit:
    """A fitted step time and what it leaves unexplained; made by :meth:`StepTime.fit`.

    Attributes
    ----------
    step_time : StepTime
    r2 : float
        Share of the variance of the seconds that is explained; nan if all are equal.
    rmse : float
        Root of the mean squared residual, seconds.
    max_residual : float
        Largest absolute residual, seconds.
    n : int
        Measured steps.
    residuals : ndarray of float64, shape (n,)
        Measured minus fitted seconds, read-only; not part of equality.
    """

    step_time: StepTime
    r2: float
    rmse: float
    max_residual: float
    n: int
    residuals: Float64Array = field(repr=False, compare=False)


@dataclass(frozen=True)
class StepTimePreset:
    """A named step time.

    Attributes
    ----------
    kind : {"published code", "measured", "model"}
        Where the coefficients come from; a model is computed and was never measured.
    description : str
        One line.
    step_time : StepTime or None
        None where it depends on the slots.
    """

    kind: Literal["published code", "measured", "model"]
    description: str
    step_time: StepTime | None


def _measurements(table: Any, workers: int | None) -> tuple[Float64Array, Float64Array | None, Float64Array]:
    """The checked columns (tokens, mean tokens or None, seconds) of `table`."""
    if workers is not None:
        workers = integer(workers, "workers", 1)
    if isinstance(table, Mapping) or hasattr(table, "columns"):
        names = list(table if isinstance(table, Mapping) else table.columns)
    else:
        try:
            table = np.asarray(table)
        except ValueError as exc:
            raise InputError(f"table must be columns by name or a two-dimensional array: {exc}") from None
        names = {2: ["tokens", "seconds"], 3: ["tokens", "mean_tokens", "seconds"]}.get(
            table.shape[1] if table.ndim == 2 else 0, []
        )
        if not names:
            raise InputError(f"table must have the shape (n, 2) or (n, 3), got {table.shape}")
        table = dict(zip(names, table.T, strict=True))
    known = ("tokens", "mean_tokens", "total_tokens", "seconds")
    for name in names:
        if name not in known:
            raise InputError(f"table has an unknown column {name!r}; columns: {', '.join(known)}")
    for name in ("tokens", "seconds"):
        if name not in names:
            raise InputError(f"table lacks the column {name!r}; it has {', '.join(map(repr, names)) or 'none'}")
    if "mean_tokens" in names and "total_tokens" in names:
        raise InputError("table must have mean_tokens or total_tokens, not both")
    columns = {name: reals(table[name], name, 0.0) for name in names}
    tokens, seconds = columns["tokens"], columns["seconds"]
    for name, column in columns.items():
        if len(column) != len(tokens):
            raise InputError(f"{name} has {len(column)} entries, tokens has {len(tokens)}")
    mean = columns.get("mean_tokens")
    if "total_tokens" in columns:
        if workers is None:
            raise InputError("total_tokens needs workers, to be divided by them")
        mean = columns["total_tokens"] / workers
    if mean is None:
        return tokens, None, seconds
    # Means come with rounding errors of the measuring side, hence the tolerance.
    above = mean > tokens * (1 + 1e-9)
    if above.any():
        i = int(np.argmax(above))
        raise InputError(f"row {i}: the mean of {mean[i]:g} tokens is above the maximum, tokens = {tokens[i]:g}")
    if workers is not None and (tokens > workers * mean * (1 + 1e-9)).any():
        i = int(np.argmax(tokens > workers * mean * (1 + 1e-9)))
        raise InputError(
            f"row {i}: tokens = {tokens[i]:g} is above the sum of {workers * mean[i]:g} on {workers} workers"
        )
    return tokens, mean, seconds


# Bytes. KV per token: layers * (K and V) * KV heads * head size * 2 bytes (BF16), from the models' config.json.
_LLAMA3_8B_KV, _LLAMA3_8B_WEIGHTS = 32 * 2 * 8 * 128 * 2, 8.03e9 * 2
_LLAMA3_70B_KV, _LLAMA3_70B_WEIGHTS = 80 * 2 * 8 * 128 * 2, 70.6e9 * 2
# MLA keeps a latent of 512 and a rotary key of 64 per layer and token, whatever the number of heads.
_DEEPSEEK_V3_KV = 61 * (512 + 64) * 2
# FP8: 58 layers of 256 routed experts of 3 matrices 7168 x 2048 are spread over the devices, the rest is on each.
_DEEPSEEK_V3_EXPERTS = 58 * 256 * 3 * 7168 * 2048
_DEEPSEEK_V3_REST = 671e9 - _DEEPSEEK_V3_EXPERTS
# Bytes per second of one device. NVIDIA data sheets; Ascend: 1 229 TB/s over the 384 devices of a CloudMatrix384.
_A100, _H100, _H800, _ASCEND_910C = 2.039e12, 3.35e12, 3.35e12, 3.2e12
# Share of its data sheet that the measured A100 reaches: 2 048 bytes / 1.2544 ns = 1.633 TB/s.
_REACHED = 0.8
# One layer of the measured decode attention (docs/step_time.md), seconds and seconds per KV token; the model has 80.
_MEASURED_LAYER = (1.9995221668690884e-05, 1.2543915610762016e-09)


def _model(kv_bytes: float, bandwidth: float, weight_bytes: float, devices: int = 1) -> StepTime:
    return StepTime.from_hardware(kv_bytes, bandwidth, weight_bytes, devices, _REACHED)


STEP_TIME_PRESETS: Mapping[str, StepTimePreset] = MappingProxyType(
    {
        "bfio": StepTimePreset("published code", "the BF-IO authors' simulator; fixed part grows with the slots", None),
        "a100-llama-70b": StepTimePreset(
            "measured",
            "decode attention of a Llama-70B shape on 2 A100 (TP 2), 80 layers; attention only, no weights",
            StepTime(fixed=80 * _MEASURED_LAYER[0], per_token=80 * _MEASURED_LAYER[1]),
        ),
        "llama-3-70b-2xa100": StepTimePreset(
            "model",
            "Llama-3-70B in BF16, worker = 2 A100 80 GB (TP 2)",
            _model(_LLAMA3_70B_KV, _A100, _LLAMA3_70B_WEIGHTS, devices=2),
        ),
        "llama-3-70b-8xa100": StepTimePreset(
            "model",
            "Llama-3-70B in BF16, worker = 8 A100 80 GB (TP 8)",
            _model(_LLAMA3_70B_KV, _A100, _LLAMA3_70B_WEIGHTS, devices=8),
        ),
        "llama-3-70b-8xh100": StepTimePreset(
            "model",
            "Llama-3-70B in BF16, worker = 8 H100 SXM (TP 8)",
            _model(_LLAMA3_70B_KV, _H100, _LLAMA3_70B_WEIGHTS, devices=8),
        ),
        "llama-3-8b-h100": StepTimePreset(
            "model",
            "Llama-3-8B in BF16, worker = 1 H100 SXM",
            _model(_LLAMA3_8B_KV, _H100, _LLAMA3_8B_WEIGHTS),
        ),
        "deepseek-v3-h800": StepTimePreset(
            "model",
            "DeepSeek-V3, MLA in BF16, weights in FP8, worker = 1 H800, experts over 32 devices",
            _model(_DEEPSEEK_V3_KV, _H800, _DEEPSEEK_V3_REST + _DEEPSEEK_V3_EXPERTS / 32),
        ),
        "deepseek-v3-ascend-910c": StepTimePreset(
            "model",
            "DeepSeek-V3, MLA in BF16, weights in 8 bits, worker = 1 Ascend 910C, experts over 8 devices",
            _model(_DEEPSEEK_V3_KV, _ASCEND_910C, _DEEPSEEK_V3_REST + _DEEPSEEK_V3_EXPERTS / 8),
        ),
    }
)
"""Named step times, by name.

Models [ours] are :meth:`StepTime.from_hardware` at 0.8 of the device's memory bandwidth (what the measured A100
reaches). Sources: KV and weight sizes from the models' published configurations (DeepSeek-V3: arXiv:2412.19437,
70 272 bytes per token); A100 80 GB SXM 2 039 GB/s, H100 and H800 SXM 3.35 TB/s (NVIDIA data sheets); Ascend 910C
3.2 TB/s (1 229 TB/s over 384 devices, as reported for CloudMatrix384). The measured one is the fit of
``docs/step_time.md`` (data: microsoft/vidur, MIT licence).
"""


def step_time_presets() -> dict[str, str]:
    """One line on every preset: name -> "kind: description"."""
    return {name: f"{preset.kind}: {preset.description}" for name, preset in STEP_TIME_PRESETS.items()}
