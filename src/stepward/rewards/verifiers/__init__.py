"""Verifiers: steps checked by tools. Three-valued, with evidence, sound before complete; each kind of claim has its own package beside this one."""

from stepward.rewards.verifiers.load import installed, load_tools, load_verifier
from stepward.rewards.verifiers.model import ToolVerifier
from stepward.rewards.verifiers.router import Router
from stepward.rewards.verifiers.verdict import State, StepVerdict, Verdict, combine
from stepward.rewards.verifiers.verifier import StepContext, Verifier

__all__ = ["Router", "State", "StepContext", "StepVerdict", "ToolVerifier", "Verdict", "Verifier", "combine", "installed", "load_tools", "load_verifier"]
