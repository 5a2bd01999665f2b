"""tools:algebra: formulas, equations and statements about whole numbers, checked by sympy in killable workers and by exact integers."""

from stepward.rewards.algebra.claim import Claim, extract
from stepward.rewards.algebra.verifier import Algebra

__all__ = ["Algebra", "Claim", "extract"]
