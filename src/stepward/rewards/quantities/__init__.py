"""tools:quantities: consistency of a step with the quantities of the problem and of earlier steps."""

from stepward.rewards.quantities.verifier import Quantities

__all__ = ["Quantities"]
