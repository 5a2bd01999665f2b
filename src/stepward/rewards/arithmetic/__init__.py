"""tools:arithmetic, a weight-free step verifier: finds arithmetic claims in a step's text and decides them exactly, or abstains."""

from stepward.rewards.arithmetic.claim import Claim, extract
from stepward.rewards.arithmetic.verdict import ClaimVerdict, check, verify
from stepward.rewards.arithmetic.verifier import Arithmetic, ArithmeticVerifier
from stepward.rewards.verifiers.verdict import State

__all__ = ["Arithmetic", "ArithmeticVerifier", "Claim", "ClaimVerdict", "State", "check", "extract", "verify"]
