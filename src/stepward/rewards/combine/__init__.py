"""Combinations: reward models made of reward models, or of a policy's own probabilities. Nothing here is trained."""

from stepward.rewards.combine.bidirectional import Bidirectional, reverse
from stepward.rewards.combine.capped import Capped
from stepward.rewards.combine.confidence import AnswerConfidence, StepConfidence
from stepward.rewards.combine.ensemble import Ensemble
from stepward.rewards.combine.follow_up import FollowUpLikelihood
from stepward.rewards.combine.fuse import RULES, Rule, fuse
from stepward.rewards.combine.lifted import Lifted
from stepward.rewards.combine.load import FORMS, load_combination
from stepward.rewards.combine.members import OUTCOME_ONLY, Missing
from stepward.rewards.combine.process_and_value import ProcessAndValue
from stepward.rewards.combine.specification import COMBINATIONS, Call, Leaf, is_combination, parse
from stepward.rewards.combine.transform import LogSigmoid

__all__ = [
    "COMBINATIONS", "FORMS", "OUTCOME_ONLY", "RULES", "AnswerConfidence", "Bidirectional", "Call", "Capped", "Ensemble", "FollowUpLikelihood", "Leaf",
    "Lifted", "LogSigmoid", "Missing", "ProcessAndValue", "Rule", "StepConfidence", "fuse", "is_combination", "load_combination", "parse", "reverse",
]  # fmt: skip
