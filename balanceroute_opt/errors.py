"""The exception types of the package. Every message says what, where and which value."""

from __future__ import annotations

__all__ = [
    "BalanceRouteError",
    "CertificateError",
    "InputError",
    "InvalidSchedule",
    "RouterError",
    "SolverError",
]


class BalanceRouteError(Exception):
    """Base of all errors that this package raises on purpose."""


class InputError(BalanceRouteError, ValueError):
    """Bad input: a file, an argument, an instance or a cluster that breaks its definition."""


class InvalidSchedule(BalanceRouteError, ValueError):
    """A schedule breaks a rule of the model; the message names the first one with its numbers."""


class RouterError(BalanceRouteError, RuntimeError):
    """A router gave an answer that the model does not allow, or the run cannot go on."""


class CertificateError(BalanceRouteError, ValueError):
    """A certificate does not prove its claim for this instance and cluster."""


class SolverError(BalanceRouteError, RuntimeError):
    """A solver is not installed, not known, or returned something that its own answer contradicts."""
