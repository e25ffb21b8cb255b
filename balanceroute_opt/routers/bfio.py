"""BF-IO: the step problem solved exactly (``docs/model.md``, section 5.4; ``docs/bfio.md``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._validate import Int64Array, integer
from ..instance import Cluster
from .br import BRH

if TYPE_CHECKING:
    from .view import View

__all__ = ["BFIO"]


class BFIO(BRH):
    """BF-IO(H): every step, the admissions that minimise the projected imbalance, exactly [published model].

    Among the first `pool_window` waiting requests (all free slots' worth of them, if that is more) choose who goes
    where, so that

        ``sum_h D_h * (G*M_h - sum_g L_g(h))``,  ``M_h = max_g L_g(h)``,

    is least, with as many admissions as fit: a request adds its prompt at every h, weights and projected loads are
    those of :class:`BRH`. Branch and bound, slot by slot; a step that needs more than `node_limit` nodes takes the best
    admissions found, and :attr:`unproved` counts it. BR-0 and BR-H approximate this problem.

    Parameters
    ----------
    H : int
        Horizon in steps, >= 0; 0 uses no predictions.
    gamma : float
        Discount in (0, 1].
    predictor, refresh
        As in :class:`BRH`.
    pool_window : int
        Waiting requests that are considered, >= 1 [ours: 64; more changes excess little and costs time].
    node_limit : int
        Nodes of the search per step, >= 1.

    Raises
    ------
    InputError
        If an option is out of range or `predictor` cannot predict.

    References
    ----------
    Chen et al., arXiv:2601.17855.
    """

    loop = "bf-io"

    def __init__(
        self,
        H: int = 0,
        gamma: float = 0.9,
        predictor: Any = "oracle",
        refresh: int = 1,
        pool_window: int = 64,
        node_limit: int = 20_000,
    ) -> None:
        super().__init__(H=H, gamma=gamma, predictor=predictor, refresh=refresh, pool_window=pool_window)
        self.node_limit = integer(node_limit, "node_limit", 1)
        self._counts: Any = None

    def pool(self, cluster: Cluster) -> tuple[bool, int]:
        """Order of the pool, and how much of its front the rule looks at."""
        return False, self.pool_window

    def reset(self, cluster: Cluster | None = None, rng: Any = None) -> None:
        """Start counting steps anew."""
        self._live = (0, None)

    def params(self, workers: int, limited: bool) -> Any:
        """Options and scratch space of the compiled rule."""
        from .kernels.bfio import bfio_params

        params = bfio_params(workers, self.H, self.gamma, self.pool_window, self.node_limit)
        self._counts = params.counts
        return params

    @property
    def steps(self) -> int:
        """Steps decided since the last run began."""
        return 0 if self._counts is None else int(self._counts[0])

    @property
    def unproved(self) -> int:
        """Steps among them whose admissions were not proved optimal."""
        return 0 if self._counts is None else int(self._counts[0] - self._counts[1])

    def route(self, view: View) -> tuple[Int64Array, Int64Array]:
        """Decide on a view by the same compiled rule as a simulation; see :meth:`BRH.route`."""
        from .kernels.bfio import bfio_decide

        params = self._scratch(view)
        self._project(view, params.projected)
        free, room = view.free.copy(), view.room.copy()
        return self._admissions(view, lambda pool, i, g: bfio_decide(free, room, pool, params, i, g))
