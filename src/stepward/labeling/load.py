"""Labelers by the names that users type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepward.core import Environment, InputError, Labeler, Policy, RewardModel, Sampling, Semantics, StepLabels, Trajectory
from stepward.labeling.methods import Method, Services

_EVERY = (
    Method(name="monte-carlo", target="monte_carlo:MonteCarlo", about="share of rollouts from each prefix that end right, soft and hard (Math-Shepherd, 2023)"),
    Method(name="tools", target="tools:ToolLabels", about="what exact verifiers refute or support: arithmetic, algebra, quantities, logic, code, SQL"),
    Method(name="oracle", target="oracle:OracleLabels", fixed=(("semantics", "prefix"),), about="the environment's own truth: no error so far"),
    Method(name="oracle-local", target="oracle:OracleLabels", fixed=(("semantics", "local"),), about="the environment's own truth: each step by itself"),
    Method(name="exact-value", target="oracle:ExactValue", about="the exact chance of success of a scripted policy"),
)
METHODS: dict[str, Method] = {method.name: method for method in _EVERY}


def method_named(name: str) -> Method:
    """The method of this name. Raises: InputError listing the known ones."""
    if name not in METHODS:
        raise InputError(f"unknown labeling method {name!r}; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def load_labeler(
    method: str,
    *,
    environment: Environment,
    policy: Policy | None = None,
    prover: Policy | None = None,
    judge: RewardModel | None = None,
    tools: str = "all",
    sampling: Sampling = Sampling(),
    **settings: Any,
) -> Labeler:
    """The labeler with this name and these settings (see `METHODS[name].parameters`); None stands for a setting's default.

    Raises: InputError for an unknown name or setting, or when the policy or environment cannot do what the method needs.
    """
    found = method_named(method)
    services = Services(environment=environment, policy=policy, prover=prover, judge=judge, tools=tools, sampling=sampling)
    given: Mapping[str, Any] = {name: value for name, value in settings.items() if value is not None}
    return found.make(services, given)


def failed_labels(labeler: Labeler, trajectory: Trajectory, reason: str) -> StepLabels:
    """What stands in for a trajectory's labels when labelling failed: every step unlabelled for this reason, with the labeler's own semantics."""
    semantics: Semantics = getattr(labeler, "semantics", "value")
    return StepLabels.unlabelled(len(trajectory), reason, semantics=semantics, source={"method": labeler.fingerprint})
