"""Public conformance suites: run them on your own policies, reward models, labelers, searches and environments."""

from stepward.testing.conformance import NotConformant
from stepward.testing.environment import check_environment
from stepward.testing.labeler import check_labeler
from stepward.testing.policy import check_policy
from stepward.testing.reward_model import check_reward_model
from stepward.testing.search import check_search

__all__ = ["NotConformant", "check_environment", "check_labeler", "check_policy", "check_reward_model", "check_search"]
