"""Small checks shared by the frozen value classes (internal)."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BalanceRouteError, InputError

Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]

INT64_MAX = int(np.iinfo(np.int64).max)


def integer(value: Any, what: str, low: int, high: int = INT64_MAX, error: type[BalanceRouteError] = InputError) -> int:
    """One integer in ``low .. high``; bools and fractions are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise error(f"{what} must be an integer, got {value!r}")
    if not isinstance(value, numbers.Integral) and not float(value).is_integer():
        raise error(f"{what} must be an integer, got {value!r}")
    number = int(value)  # type: ignore[call-overload]
    if not low <= number <= high:
        bound = f">= {low}" if number < low else f"<= {high}"
        raise error(f"{what} must be {bound}, got {number}")
    return number


def real(value: Any, what: str, low: float = -math.inf, *, positive: bool = False) -> float:
    """One finite float, ``>= low`` (``> 0`` with ``positive``)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise InputError(f"{what} must be a number, got {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise InputError(f"{what} must be finite, got {number}")
    if positive and number <= 0:
        raise InputError(f"{what} must be > 0, got {number:g}")
    if number < low:
        raise InputError(f"{what} must be >= {low:g}, got {number:g}")
    return number


def integers(
    values: ArrayLike | Sequence[int],
    what: str,
    low: int,
    high: int,
    error: type[BalanceRouteError] = InputError,
) -> Int64Array:
    """A new read-only int64 vector with every entry in ``low .. high``.

    Floats are taken only where they are whole; the first bad entry is named with its index.
    """
    try:
        array = np.asarray(values)
    except (OverflowError, ValueError) as exc:
        raise error(f"{what} must be a flat list of integers: {exc}") from None
    if array.ndim != 1:
        raise error(f"{what} must have one dimension, got shape {array.shape}")
    if array.size == 0:
        return frozen(np.empty(0, np.int64))
    kind = array.dtype.kind
    if kind == "O":
        for index, value in enumerate(array.tolist()):
            integer(value, f"{what}[{index}]", low, high, error)
        return frozen(array.astype(np.int64))
    if kind not in "iuf":
        raise error(f"{what} must hold integers, got {what}[0] = {array.tolist()[0]!r}")
    if kind == "f":
        with np.errstate(invalid="ignore"):
            bad = ~np.isfinite(array) | (array != np.trunc(array))
        if bad.any():
            index = int(np.argmax(bad))
            raise error(f"{what}[{index}] must be an integer, got {float(array[index])!r}")
    # Comparing in the array's own type first keeps 2**63 .. 2**64 and 1e30 from wrapping round; a float cannot tell
    # 2**63 from the largest int64.
    bad = (array < low) | (array > high) | ((array >= 2.0**63) if kind == "f" else False)
    if bad.any():
        index = int(np.argmax(bad))
        value = int(array[index])
        bound = f">= {low}" if value < low else f"<= {high}"
        raise error(f"{what}[{index}] must be {bound}, got {value}")
    return frozen(array.astype(np.int64))


def reals(values: ArrayLike | Sequence[float], what: str, low: float) -> Float64Array:
    """A new read-only float64 vector of finite entries ``>= low``."""
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "iuf" and array.size:
            raise InputError(f"{what} must hold numbers, got {what}[0] = {array.ravel().tolist()[0]!r}")
        array = array.astype(np.float64)
    except (TypeError, OverflowError) as exc:
        raise InputError(f"{what} must be a flat list of numbers: {exc}") from None
    if array.ndim != 1:
        raise InputError(f"{what} must have one dimension, got shape {array.shape}")
    bad = ~np.isfinite(array) | (array < low)
    if bad.any():
        index = int(np.argmax(bad))
        raise InputError(f"{what}[{index}] must be finite and >= {low:g}, got {float(array[index])!r}")
    return frozen(array)


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, marked read-only."""
    array.setflags(write=False)
    return array
