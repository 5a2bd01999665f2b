"""Deduction: multi-step logical reasoning in English over facts and rules, with exact truth."""

from __future__ import annotations

from stepward.environments.deduction.corruption import Corrupted, corrupt
from stepward.environments.deduction.environment import Deduction, vocabulary
from stepward.environments.deduction.judgement import ErrorType
from stepward.environments.deduction.lexicon import words
from stepward.environments.deduction.statement import Statement
from stepward.environments.deduction.world import Node, Rule, World

__all__ = ["Corrupted", "Deduction", "ErrorType", "Node", "Rule", "Statement", "World", "corrupt", "vocabulary", "words"]
