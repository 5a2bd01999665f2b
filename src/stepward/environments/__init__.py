"""Environments: problems to solve, what answers an action, graders, exact oracles."""

from __future__ import annotations
