"""Grade-school word problems over a graph of quantities, with exact truth."""

from __future__ import annotations

from stepward.environments.grade_school.environment import GradeSchool, vocabulary
from stepward.environments.grade_school.lexicon import words
from stepward.environments.grade_school.world import Quantity, World

__all__ = ["GradeSchool", "Quantity", "World", "vocabulary", "words"]
