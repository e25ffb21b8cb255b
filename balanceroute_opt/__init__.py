"""Sticky data-parallel routing of LLM requests as online optimization, with certified hindsight bounds.

Everything public is here and loaded on first use, so that ``import balanceroute_opt`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# name -> module that defines it
_PUBLIC = {
    "BalanceRouteError": "errors",
    "CertificateError": "errors",
    "InputError": "errors",
    "InvalidSchedule": "errors",
    "RouterError": "errors",
    "SolverError": "errors",
    "StepTime": "steptime",
    "StepTimeFit": "steptime",
    "STEP_TIME_PRESETS": "steptime",
    "step_time_presets": "steptime",
    "generate": "generators",
    "GENERATORS": "generators",
    "Library": "library",
    "read_library": "library",
    "Cluster": "instance",
    "Instance": "instance",
    "Run": "simulator",
    "simulate": "simulator",
    "read_run": "simulator.files",
    "write_run": "simulator.files",
    "ROUTERS": "routers",
    "View": "routers",
    "METRICS": "metrics",
    "Schedule": "schedule",
    "check": "schedule",
    "decode_time": "schedule",
    "peak_loads": "schedule",
    "peak_sum": "schedule",
    "worker_loads": "schedule",
    "Bound": "certificates",
    "read_certificate": "certificates",
    "verify": "certificates",
    "write_certificate": "certificates",
    "Solution": "oracles.solution",
    "polish_placement": "oracles.neighbourhood",
    "search_placement": "oracles.anytime",
    "search_schedule": "oracles.anytime_schedule",
    "solve_placement": "oracles.placement",
    "LeastWait": "oracles.schedule",
    "ScheduleSolution": "oracles.schedule",
    "least_wait": "oracles.schedule",
    "solve_schedule": "oracles.schedule",
    "ModelSummary": "oracles.model_files",
    "read_model_solution": "oracles.model_files",
    "write_model": "oracles.model_files",
    "Prices": "oracles.price_tables",
    "prices": "oracles.prices",
    "relaxation": "oracles.relaxation",
    "placement_bound": "oracles.bounds",
    "schedule_bound": "oracles.bounds",
    "makespan_bound": "oracles.makespan",
    "HindsightRatio": "evaluation.ratios",
    "hindsight_ratio": "evaluation.ratios",
    "Comparison": "experiments.comparison",
    "Study": "experiments.study",
    "Workload": "experiments.study",
    "read_study": "experiments.study",
    "run_study": "experiments.study",
    "judge_predictors": "experiments.prediction",
    "PREDICTORS": "predictors",
    "predicted_routers": "experiments.prediction",
    "StepRegret": "experiments.regret",
    "step_regret": "experiments.regret",
    "compare": "experiments.comparison",
    "Bracket": "experiments.bracket",
    "bracket": "experiments.bracket",
    "BadInstance": "worstcase.found",
    "Family": "worstcase.families",
    "adversary": "worstcase.search",
    "game_value": "worstcase.game",
    "randomized_value": "worstcase.randomized",
    "worst_case": "worstcase.exhaustive",
    "TraceReport": "traces",
    "read_trace": "traces",
    "read_trace_report": "traces",
    "diagnose": "logs",
    "read_log": "logs",
    "write_log": "logs",
    "read_instance": "files",
    "read_problem": "files",
    "read_schedule": "files",
    "write_instance": "files",
    "write_schedule": "files",
}
_MODULES: tuple[str, ...] = ("predictors", "routers")

__all__ = ["__version__", *_PUBLIC, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    elif name in _MODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
