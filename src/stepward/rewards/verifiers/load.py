"""Verifiers by the names that users type behind `tools:`."""

from __future__ import annotations

from importlib import import_module

from stepward.core.errors import InputError, MissingExtra
from stepward.rewards.verifiers.model import ToolVerifier
from stepward.rewards.verifiers.verifier import Verifier

PREFIX = "tools:"
VERIFIERS = {  # name: module:class, made without arguments
    "arithmetic": "stepward.rewards.arithmetic:Arithmetic",
    "algebra": "stepward.rewards.algebra:Algebra",
    "quantities": "stepward.rewards.quantities:Quantities",
    "words": "stepward.rewards.words:Words",
    "code": "stepward.rewards.code:CodeVerifier",
    "logic": "stepward.rewards.logic:Logic",
    "proofs": "stepward.rewards.proofs:Proofs",
    "sql": "stepward.rewards.sql:SqlVerifier",
    "tables": "stepward.rewards.tables:TableVerifier",
}


def load_verifier(name: str) -> Verifier:
    """The verifier of this name.

    Raises: InputError for an unknown name; MissingExtra when its package is not installed.
    """
    if name not in VERIFIERS:
        raise InputError(f"unknown verifier {name!r}; choose among {', '.join(VERIFIERS)}, or all")
    module, _, attribute = VERIFIERS[name].partition(":")
    verifier: Verifier = getattr(import_module(module), attribute)()
    return verifier


def load_tools(spec: str) -> ToolVerifier:
    """The model that `tools:NAME`, `tools:NAME+NAME` or `tools:all` names; *all*: every verifier whose package is installed.

    Raises: InputError for an unknown or repeated name; MissingExtra when a verifier that is named needs a package that is not installed.
    """
    names = spec.removeprefix(PREFIX).split("+")
    return ToolVerifier(installed() if names == ["all"] else [load_verifier(name.strip()) for name in names])


def installed() -> list[Verifier]:
    """Every verifier that can be made here."""
    found = []
    for name in VERIFIERS:
        try:
            found.append(load_verifier(name))
        except MissingExtra:
            continue
    return found
