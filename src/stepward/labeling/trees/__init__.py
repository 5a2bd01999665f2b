"""Labels from trees of rollouts: completions that share prefixes, searched, backed up and harvested."""

from stepward.labeling.trees.compress import hierarchical
from stepward.labeling.trees.full_width import FullWidth, sibling_pairs
from stepward.labeling.trees.grounded import GroundedPRM, StepJudge
from stepward.labeling.trees.harvest import Growth
from stepward.labeling.trees.labeler import TreeLabeler
from stepward.labeling.trees.masprm import MASPRM
from stepward.labeling.trees.omega import CurtailedOmegaPRM, OmegaPRM
from stepward.labeling.trees.qlass import QLASS
from stepward.labeling.trees.rest import ReSTMCTS
from stepward.labeling.trees.rollout_tree import RolloutTree

__all__ = [
    "MASPRM", "QLASS", "CurtailedOmegaPRM", "FullWidth", "GroundedPRM", "Growth", "OmegaPRM", "ReSTMCTS", "RolloutTree", "StepJudge", "TreeLabeler",
    "hierarchical", "sibling_pairs",
]  # fmt: skip
