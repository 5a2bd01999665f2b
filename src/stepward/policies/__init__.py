"""Policies: who writes steps. Scripted solvers, local transformers, HTTP servers, the shipped tiny model."""

from __future__ import annotations
