"""Scripted policies: stochastic solvers whose exact values are known."""

from __future__ import annotations

from stepward.policies.scripted.rates import ErrorRates
from stepward.policies.scripted.solver import Move, ScriptedSolver

__all__ = ["ErrorRates", "Move", "ScriptedSolver"]
