"""Where step labels come from."""

from stepward.labeling.monte_carlo import MonteCarlo
from stepward.labeling.oracle import ExactValue, OracleLabels

__all__ = ["ExactValue", "MonteCarlo", "OracleLabels"]
