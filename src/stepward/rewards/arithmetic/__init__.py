"""tools:arithmetic, a weight-free step verifier: finds arithmetic claims in a step's text and decides them exactly, or abstains."""

from stepward.rewards.arithmetic.claim import Claim, extract
from stepward.rewards.arithmetic.model import ArithmeticVerifier
from stepward.rewards.arithmetic.verdict import State, StepVerdict, Verdict, check, verify

__all__ = ["ArithmeticVerifier", "Claim", "State", "StepVerdict", "Verdict", "check", "extract", "verify"]
