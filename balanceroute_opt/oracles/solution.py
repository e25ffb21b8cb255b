"""What a solver's answer may say, and the one place in which it is checked before anybody sees it."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InvalidSchedule, SolverError
from ..instance import Cluster, Instance
from ..schedule import Schedule, check, peak_sum

if TYPE_CHECKING:
    from .model import LinearModel

__all__ = ["STATUS", "Answer", "Outcome", "Solution", "answer_of", "conclude_placement", "known_status", "relative_gap"]

Status = Literal["optimal", "feasible", "no_solution", "infeasible"]

STATUS: dict[str, dict[str, str]] = {
    # What each solver may end with: "optimal" and "infeasible" are claims of a proof, "limit" is none.
    # A status that is not here is an error of the solver, never a result.
    "highs": {
        "kOptimal": "optimal",
        "kInfeasible": "infeasible",
        "kTimeLimit": "limit",
        "kIterationLimit": "limit",
        "kSolutionLimit": "limit",  # also its limit on nodes
        "kObjectiveBound": "limit",
        "kObjectiveTarget": "limit",
        "kMemoryLimit": "limit",
        "kInterrupt": "limit",
        "kHighsInterrupt": "limit",
    },
    "cpsat": {"OPTIMAL": "optimal", "FEASIBLE": "limit", "INFEASIBLE": "infeasible", "UNKNOWN": "limit"},
    "mathopt": {
        "optimal": "optimal",
        "infeasible": "infeasible",
        "feasible": "limit",
        "no_solution_found": "limit",
    },
    "own": {"optimal": "optimal", "limit": "limit", "infeasible": "infeasible"},
}


@dataclass
class Outcome:
    """How a library's run on a model ended.

    Attributes
    ----------
    status : {"optimal", "infeasible", "limit"}
        After :data:`STATUS`.
    lower_bound : float
        The dual bound that it claims, in units of the model times the caller's scale.
    nodes : int
    values : list of float, or None
        Of the variables, if there is a solution.
    trajectory : list of (seconds, objective, lower bound)
    """

    status: str
    lower_bound: float
    nodes: int
    values: list[float] | None
    trajectory: list[tuple[float, float, float]]


@dataclass
class Answer:
    """What a back end says, before it is checked.

    Attributes
    ----------
    status : {"optimal", "infeasible", "limit"}
        After :data:`STATUS`.
    worker : sequence of int, or None
        A placement, if there is one.
    lower_bound : float
        The dual bound that it claims; -inf if none.
    objective : int or None
        Its own word on the placement, if it gives one.
    nodes : int
        Nodes of its search tree.
    trajectory : list of (seconds, objective, lower bound)
    certificate : dict or None
        See :class:`Solution`.
    tree : dict or None
        Evidence for one part: an exhausted search tree, as a part of a certificate.
    solver : str
        What found it, where that is more than the name of the back end.
    """

    status: str
    worker: Any = None
    lower_bound: float = -math.inf
    objective: int | None = None
    nodes: int = 0
    trajectory: list[tuple[float, float, float]] = field(default_factory=list)
    certificate: dict[str, Any] | None = None
    tree: dict[str, Any] | None = None
    solver: str = ""


def relative_gap(objective: float, lower_bound: float) -> float:
    """Share of the objective by which a bound lies below it; inf if either is missing."""
    if not (math.isfinite(objective) and math.isfinite(lower_bound)):
        return math.inf
    return (objective - lower_bound) / objective if objective else 0.0


def known_status(solver: str, name: str, status: str) -> str:
    """What a solver's status means, after :data:`STATUS`.

    Raises
    ------
    SolverError
        If it is no result.
    """
    if status not in STATUS[solver]:
        raise SolverError(f"{name} ended with the status {status}, which is no result")
    return STATUS[solver][status]


def answer_of(model: LinearModel, outcome: Outcome, gap: float) -> Answer:
    """The answer to P1 that an outcome stands for; a relative gap that was asked for and reached is no proof."""
    answer = Answer(outcome.status, lower_bound=outcome.lower_bound, nodes=outcome.nodes, trajectory=outcome.trajectory)
    if outcome.status == "infeasible":
        return answer
    if outcome.values is not None:
        answer.worker = model.workers(outcome.values)
    if outcome.status == "optimal" and gap > 0:
        answer.status = "limit"
    return answer


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    """A checked schedule and a bound on the optimum (``docs/model.md``, sections 6 and 8).

    Attributes
    ----------
    schedule : Schedule or None
        Checked against every rule of the model; None if none was found.
    objective : int or float
        Recomputed from the schedule: token-steps (placement) or seconds (schedule); inf without one.
    lower_bound : int or float
        On the optimum; -inf if none is known, inf if the problem is infeasible.
    status : {"optimal", "feasible", "no_solution", "infeasible"}
        *optimal*: objective and bound meet. *feasible*, *no_solution*: a limit was reached, with a schedule and
        without. *infeasible*: proved to have no solution.
    seconds : float
        Wall time.
    solver : str
        What found the schedule and the bound.
    certificate : dict or None
        Of `lower_bound`, of a kind that :func:`~balanceroute_opt.verify` reproduces; None: the bound is *claimed*.
    problem : {"placement", "schedule"}
    nodes : int
        Nodes of the search tree.
    trajectory : tuple of (seconds, objective, lower bound)
        The course of the search; inf and -inf where there was none yet.
    message : str
        Why there is no solution, where that is known.
    """

    schedule: Schedule | None
    objective: int | float
    lower_bound: int | float
    status: Status
    seconds: float
    solver: str
    certificate: dict[str, Any] | None = None
    problem: Literal["placement", "schedule"] = "placement"
    nodes: int = 0
    trajectory: tuple[tuple[float, float, float], ...] = ()
    message: str = ""

    @property
    def gap(self) -> float:
        """``(objective - lower_bound) / objective``: 0 if proved optimal, inf if either is missing."""
        return relative_gap(self.objective, self.lower_bound)

    @property
    def bound_status(self) -> Literal["certified", "claimed"]:
        """Whether `lower_bound` comes with a certificate."""
        return "claimed" if self.certificate is None else "certified"

    def _lines(self) -> list[tuple[str, str]]:
        unit = "token-steps" if self.problem == "placement" else "s"
        gap = f"{100 * self.gap:.3g} %" if math.isfinite(self.gap) else "none"
        return [
            ("status", self.status),
            ("objective", f"{self.objective:,.12g} {unit}" if self.schedule else "none"),
            ("lower bound", f"{self.lower_bound:,.12g} {unit} ({self.bound_status})"),
            ("gap", gap),
            ("solver", self.solver),
            ("nodes", f"{self.nodes:,}"),
            ("seconds", f"{self.seconds:.3g}"),
        ]

    def __repr__(self) -> str:
        rows = dict(self._lines())
        return (
            f"Solution({self.problem}, {self.status}: {rows['objective']}, bound {rows['lower bound']}, "
            f"gap {rows['gap']}, {self.solver}, {rows['seconds']} s)"
        )

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><th style='text-align:left'>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>"
            for k, v in self._lines()
        )
        return f"<table><caption>Solution ({self.problem})</caption>{body}</table>"


def conclude_placement(
    inst: Instance, cluster: Cluster, start: Any, answer: Answer, known_bound: int, seconds: float, solver: str
) -> Solution:
    """The solution that `answer` amounts to, after its schedule is checked and priced again.

    Parameters
    ----------
    known_bound : int
        A lower bound that does not come from the solver.

    Raises
    ------
    SolverError
        If the answer contradicts itself: a schedule that breaks a rule, an objective that is not that of
        its schedule, a bound above its own schedule, an optimum that its bound does not meet, or a proof
        of infeasibility beside a schedule.
    """
    schedule, objective = None, math.inf
    if answer.worker is not None:
        schedule = Schedule(start, answer.worker)
        try:
            check(inst, cluster, schedule)
        except InvalidSchedule as exc:
            raise SolverError(f"{solver} returned a placement that is none: {exc}") from None
        objective = peak_sum(inst, cluster, schedule)
        if answer.objective is not None and answer.objective != objective:
            raise SolverError(f"{solver} says that its placement costs {answer.objective}, and it costs {objective}")
    if answer.status == "infeasible":
        if schedule is not None:
            raise SolverError(f"{solver} says that there is no placement, and returned one")
        if cluster.kv_capacity is None:  # as many intervals as slots at any time can always be coloured
            raise SolverError(f"{solver} says that there is no placement, and there is one: no step is overfull")
        return Solution(None, math.inf, math.inf, "infeasible", seconds, solver, nodes=answer.nodes)
    # A dual bound is a float: a relative 1e-9 below it is what its digits are good for.
    claimed = answer.lower_bound
    if math.isfinite(claimed) and not isinstance(claimed, int):
        claimed = math.ceil(claimed - 1e-6 - 1e-9 * abs(claimed))
    bound = max(claimed, known_bound)
    if bound > objective:
        raise SolverError(f"{solver} claims that no placement costs less than {bound}, and returned one of {objective}")
    if answer.status == "optimal" and bound < objective:
        raise SolverError(f"{solver} calls {objective} optimal, and its bound is {bound}")
    status: Status = "no_solution" if schedule is None else "optimal" if bound == objective else "feasible"
    certificate = answer.certificate
    if certificate is not None and certificate["claim"] < bound:
        certificate = None
    return Solution(
        schedule,
        objective,
        bound,
        status,
        seconds,
        solver,
        certificate,
        nodes=answer.nodes,
        trajectory=tuple(answer.trajectory),
    )
