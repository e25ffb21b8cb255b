"""What the clairvoyant predictors compute, compiled (internal)."""

from __future__ import annotations

import numpy as np

from .._jit import compiled, inner


@inner
def uniform(salt, index, age):
    """A number in [0, 1) that depends on its arguments alone (splitmix64)."""
    z = np.uint64(salt) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(index)
    for word in (np.uint64(age), np.uint64(0x632BE59BD9B4E019)):
        z = z + word + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@inner
def true_cutoff(left, horizon):
    """Cut-off of a request that is known to end in `left` steps."""
    return left if left <= horizon else horizon + 1


@inner
def noisy_cutoff(left, horizon, u, false_positive, false_negative):
    """Cut-off under stated error rates; a false alarm puts the end in the middle of the horizon."""
    if left <= horizon:
        return horizon + 1 if u < false_negative else left
    return max(1, (horizon + 1) // 2) if u < false_positive else horizon + 1


@compiled
def noisy_cutoffs(left, index, age, horizon, false_positive, false_negative, salt):
    """noisy_cutoff of several requests."""
    result = np.empty(len(left), np.int64)
    for j in range(len(left)):
        u = uniform(salt, index[j], age[j])
        result[j] = noisy_cutoff(left[j], horizon, u, false_positive, false_negative)
    return result
