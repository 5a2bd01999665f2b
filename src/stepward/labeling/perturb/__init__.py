"""Constructed errors: right solutions with one typed thing changed, by rule or by a model, and controls."""

from stepward.labeling.perturb.inject import ERRORS, OPERATORS, Injected, confirmed, inject, perturb
from stepward.labeling.perturb.perturbation import Edit, Operator, Perturbation

__all__ = ["ERRORS", "OPERATORS", "Edit", "Injected", "Operator", "Perturbation", "confirmed", "inject", "perturb"]
