"""Labelers by the names that users type."""

from __future__ import annotations

from typing import cast

from stepward.core import Environment, InputError, Labeler, Policy, Sampling, Semantics, StepLabels, Trajectory
from stepward.labeling.monte_carlo import MonteCarlo
from stepward.labeling.oracle import ExactValue, Oracle, OracleLabels, ValuedPolicy

METHODS = ("monte-carlo", "oracle", "oracle-local", "exact-value")


def load_labeler(
    method: str, *, environment: Environment, policy: Policy | None = None, n: int = 8, threshold: float = 0.0, sampling: Sampling = Sampling()
) -> Labeler:
    """The labeler with this name.

    monte-carlo: `n` rollouts a step by the policy. oracle, oracle-local: the environment's own truth (prefix or local semantics).
    exact-value: the exact chance of success of a scripted policy.

    Raises: InputError for an unknown name, or when the policy or environment cannot do what the method needs.
    """
    if method not in METHODS:
        raise InputError(f"unknown labeling method {method!r}; choose one of {', '.join(METHODS)}")
    if method.startswith("oracle"):
        if not hasattr(environment, "labels"):
            raise InputError(f"environment {environment.fingerprint} has no oracle; use --method monte-carlo")
        return OracleLabels(cast(Oracle, environment), "local" if method == "oracle-local" else "prefix")
    if policy is None:
        raise InputError(f"method {method!r} needs a policy (--policy)")
    if method == "exact-value":
        if not hasattr(policy, "value"):
            raise InputError(f"policy {policy.fingerprint} has no exact values; use a scripted policy or --method monte-carlo")
        return ExactValue(cast(ValuedPolicy, policy))
    return MonteCarlo(policy=policy, environment=environment, n=n, threshold=threshold, sampling=sampling)


def failed_labels(labeler: Labeler, trajectory: Trajectory, reason: str) -> StepLabels:
    """What stands in for a trajectory's labels when labelling failed: every step unlabelled for this reason, with the labeler's own semantics."""
    semantics: Semantics = getattr(labeler, "semantics", "value")
    return StepLabels.unlabelled(len(trajectory), reason, semantics=semantics, source={"method": labeler.fingerprint})
