"""Step time: seconds that one lock-step decode step takes (``docs/model.md``, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ._validate import real

__all__ = ["StepTime"]


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
    ``b`` is [ours]. See :meth:`bfio` for their coefficients.
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

    def seconds(self, peak: Any, total: Any, workers: int) -> Any:
        """Seconds of steps with largest load `peak` and summed load `total` (scalars or arrays)."""
        return self.fixed + self.per_token * peak + self.per_mean_token * (total / workers)

    def seconds_of(self, steps: int, peak_sum: int, work: int, workers: int) -> float:
        """Seconds of `steps` active steps whose peaks and loads sum to `peak_sum` and `work`.

        The one formula of decode time: ``c*steps + a*peak_sum + b*work/G``, from exact integers.
        """
        return self.fixed * steps + self.per_token * peak_sum + self.per_mean_token * (work / workers)

    def exact(self) -> tuple[Fraction, Fraction, Fraction]:
        """``(c, a, b)`` as the exact rationals of their floats."""
        return Fraction(self.fixed), Fraction(self.per_token), Fraction(self.per_mean_token)
