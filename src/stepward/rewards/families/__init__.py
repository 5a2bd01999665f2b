"""The registry of published checkpoint families: how each is read, and how its checkpoints are recognised."""

from stepward.rewards.families.family import Family
from stepward.rewards.families.registry import FAMILIES, convention_from, family_named, reading_of, recognise

__all__ = ["FAMILIES", "Family", "convention_from", "family_named", "reading_of", "recognise"]
