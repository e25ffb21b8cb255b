"""What an anytime search may use, and its course: seconds or moves, and the pieces of a round [ours]."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Budget"]

_PIECES = 128  # of constant temperature in a round, at least
_PAUSE = 0.25  # seconds between two looks at the clock, at most


class Budget:
    """Limits of a search, and the way there.

    Parameters
    ----------
    limit : float
        Seconds.
    most : int or None
        Moves. If they are limited, they alone decide how far the search is.
    progress : callable or None
        Called with seconds, moves and objective whenever :meth:`note` is.

    Attributes
    ----------
    began : float
        When the seconds begin to count (:func:`time.perf_counter`).
    moves : int
        Begun so far.
    interrupted : bool
    points : list of (seconds, moves, objective)
    """

    def __init__(self, limit: float, most: int | None, progress: Callable[..., None] | None) -> None:
        self.limit, self.most, self.progress = limit, most, progress
        self.moves, self.interrupted = 0, False
        self.points: list[tuple[float, int, Any]] = []
        self.began = time.perf_counter()
        self._piece = 20_000

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def used(self) -> float:
        """Share of the budget that is spent; by moves if they are limited."""
        return self.seconds / self.limit if self.most is None else self.moves / self.most

    @property
    def over(self) -> bool:
        return self.interrupted or self.used >= 1.0 or self.seconds >= self.limit

    def note(self, objective: Any, seconds: float | None = None, moves: int | None = None) -> None:
        """Something better is known, now or at that time."""
        self.points.append(
            (self.seconds if seconds is None else seconds, self.moves if moves is None else moves, objective)
        )
        if self.progress is not None:
            self.progress(*self.points[-1])

    def round(self, longest: int) -> Iterator[tuple[float, int]]:
        """Pieces of a round of up to `longest` moves, or of what is left: (share of the round done, moves to try)."""
        first, done, share = self.used, 0, 0.0
        if self.most is not None:
            self._piece = max(1, min(longest, self.most - self.moves) // _PIECES)
        while share < 1.0 and not self.over:
            moves = self._piece if self.most is None else min(self._piece, self.most - self.moves)
            before = self.seconds
            done += moves
            self.moves += moves
            yield share, moves
            share = max((self.used - first) / (1.0 - first), done / longest)
            if self.most is None:
                pause = min(_PAUSE, self.limit / _PIECES)
                faster = pause / max(self.seconds - before, 1e-9)
                self._piece = max(1_000, min(longest // _PIECES, int(self._piece * min(2.0, max(0.5, faster)))))
