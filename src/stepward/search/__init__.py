"""Test-time strategies, each for one problem."""

from stepward.search.beam import StepBeam
from stepward.search.choose import argmax, majority_vote, weighted_vote
from stepward.search.sampled import BestOfN, Majority, WeightedBestOfN

__all__ = ["BestOfN", "Majority", "StepBeam", "WeightedBestOfN", "argmax", "majority_vote", "weighted_vote"]
