"""Scripted policies: stochastic solvers whose exact values are known."""

from __future__ import annotations

from stepward.policies.scripted.policy import ScriptedPolicy
from stepward.policies.scripted.rates import ErrorRates, InferenceRates
from stepward.policies.scripted.reasoner import Inference, ScriptedReasoner
from stepward.policies.scripted.solver import Move, ScriptedSolver

__all__ = ["ErrorRates", "Inference", "InferenceRates", "Move", "ScriptedPolicy", "ScriptedReasoner", "ScriptedSolver"]
