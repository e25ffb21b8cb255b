"""HiGHS as a back end: a translation of :class:`~balanceroute_opt.oracles.model.LinearModel`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import SolverError
from .model import LinearModel
from .solution import Answer, Outcome, answer_of, known_status

__all__ = ["new_highs", "run_highs", "solve_highs"]


def _highspy() -> Any:
    try:
        import highspy
    except ImportError:
        raise SolverError(
            'the solver "highs" is not installed; install the extra "solvers" (pip install highspy)'
        ) from None
    return highspy


def new_highs() -> Any:
    """A Highs object that prints nothing, and may use any number of threads."""
    highspy = _highspy()

    class Quiet(highspy.Highs):  # type: ignore[name-defined]
        # The constructor calls this, and its first message, on stdout, comes from here.
        def enableCallbacks(self) -> None:
            self.setOptionValue("output_flag", False)
            super().enableCallbacks()

    # Threads are shared by the process: after a run with another number of them, any other run would fail.
    highspy.Highs.resetGlobalScheduler(True)
    highs = Quiet()
    highs.setOptionValue("output_flag", False)
    return highs


def _load(model: LinearModel) -> Any:
    """A Highs object that holds `model`."""
    highspy = _highspy()
    highs = new_highs()
    lp = highspy.HighsLp()
    lp.model_name_ = model.name.replace(" ", "_")
    lp.num_col_, lp.num_row_ = len(model.variables), len(model.rows)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = model.cost, model.lower, model.upper
    lp.row_lower_, lp.row_upper_ = model.row_lower, model.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = model.first.astype(np.int32), model.column.astype(np.int32)
    lp.a_matrix_.value_ = model.value
    kind = highspy.HighsVarType
    lp.integrality_ = [kind.kInteger if whole else kind.kContinuous for whole in model.integer]
    lp.col_names_, lp.row_names_ = list(model.variables), list(model.rows)
    if highs.passModel(lp) == highspy.HighsStatus.kError:
        raise SolverError(f"HiGHS refused the model ({model.name})")
    return highs


def run_highs(
    model: LinearModel,
    time_limit: float,
    seed: int = 0,
    node_limit: int | None = None,
    gap: float = 0.0,
    absolute_gap: float = 0.0,
    threads: int = 1,
    warm: np.ndarray | None = None,
    progress: Callable[[float, float, float], None] | None = None,
    scale: float = 1.0,
) -> Outcome:
    """Run HiGHS on `model`; costs are reported times `scale`.

    Raises
    ------
    SolverError
        If HiGHS is not installed, refuses the model or an option, or ends with a status that is no result.
    """
    highspy = _highspy()
    highs = _load(model)
    options: dict[str, Any] = {
        "threads": threads,
        "time_limit": float(time_limit),
        "random_seed": seed % 2**31,
        "mip_rel_gap": float(gap),
        "mip_abs_gap": absolute_gap,
    }
    if node_limit is not None:
        options["mip_max_nodes"] = node_limit
    for name, value in options.items():
        if highs.setOptionValue(name, value) == highspy.HighsStatus.kError:
            raise SolverError(f"HiGHS refused the option {name} = {value!r}")
    if warm is not None:
        start = highspy.HighsSolution()
        start.col_value = warm.tolist()
        highs.setSolution(start)
    began, trajectory = time.perf_counter(), []

    def report(event: Any) -> None:
        data = event.data_out
        point = (time.perf_counter() - began, scale * data.mip_primal_bound, scale * data.mip_dual_bound)
        trajectory.append(point)
        if progress is not None:
            progress(*point)

    highs.cbMipImprovingSolution.subscribe(report)
    highs.run()
    status = known_status("highs", "HiGHS", highs.getModelStatus().name)
    info = highs.getInfo()
    values = None
    if info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible):
        values = list(highs.getSolution().col_value)
    bound = scale * float(info.mip_dual_bound)
    return Outcome(status, bound, max(0, int(info.mip_node_count)), values, trajectory)


def solve_highs(
    model: LinearModel,
    time_limit: float,
    seed: int = 0,
    node_limit: int | None = None,
    gap: float = 0.0,
    threads: int = 1,
    warm: np.ndarray | None = None,
    progress: Callable[[float, float, float], None] | None = None,
) -> Answer:
    """Solve `model`; its objective is an integer, so that an absolute gap below 1 is a proof.

    Parameters
    ----------
    gap : float
        Relative gap at which the search may stop; 0 (the default) asks for a proof.
    warm : ndarray, optional
        A solution to start from.
    progress : callable, optional
        Called with (seconds, objective, bound).
    """
    outcome = run_highs(model, time_limit, seed, node_limit, gap, 0.999, threads, warm, progress)
    return answer_of(model, outcome, gap)
