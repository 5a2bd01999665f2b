"""tools:logic, a verifier of deductions: sentences of controlled English and formulas become first-order logic that z3 decides in a killable worker."""

from stepward.rewards.logic.verifier import LOGIC_LIMITS, Logic

__all__ = ["LOGIC_LIMITS", "Logic"]
