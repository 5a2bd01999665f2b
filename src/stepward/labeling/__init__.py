"""Where step labels come from. `load.METHODS` lists every method by the name that users type."""

from stepward.labeling.adaptive import Adaptive, fit_prior
from stepward.labeling.completer import Completer, RolloutBank
from stepward.labeling.consensus import Consensus
from stepward.labeling.load import METHODS, load_labeler
from stepward.labeling.monte_carlo import MonteCarlo
from stepward.labeling.oracle import ExactValue, OracleLabels
from stepward.labeling.pairs import StepPair
from stepward.labeling.tools import ToolLabels

__all__ = [
    "METHODS", "Adaptive", "Completer", "Consensus", "ExactValue", "MonteCarlo", "OracleLabels", "RolloutBank", "StepPair", "ToolLabels", "fit_prior",
    "load_labeler",
]  # fmt: skip
