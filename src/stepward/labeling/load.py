"""Labelers by the names that users type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepward.core import Environment, InputError, Labeler, Policy, RewardModel, Sampling, Semantics, StepLabels, Trajectory
from stepward.labeling.methods import Method, Services

_FIRST_ERROR_ONLY = ("prior", "error", "least_gain", "batch", "max_rollouts", "witnesses", "pools")  # of adaptive labeling
_GROWING = ("alpha", "beta", "scale", "unit", "c_puct", "searches", "max_rollouts", "fallback")  # of OmegaPRM's search from a problem, not of labels
_EVERY = (
    Method(name="monte-carlo", target="monte_carlo:MonteCarlo", about="share of rollouts from each prefix that end right, soft and hard (Math-Shepherd, 2023)"),
    Method(
        name="math-shepherd-hard",
        target="monte_carlo:MonteCarlo",
        fixed=(("estimate", "hard"), ("batch", 1), ("stop_after", None)),
        about="whether any rollout ends right, drawn one at a time until one does: the same labels for fewer tokens",
    ),
    Method(
        name="adaptive",
        target="adaptive:Adaptive",
        fixed=(("target", "first_error"),),
        about="our own: rollouts where they tell most about the first error",
    ),
    Method(
        name="adaptive-value",
        target="adaptive:Adaptive",
        fixed=(("target", "value"),),
        out=_FIRST_ERROR_ONLY,
        about="our own: values to a stated width, with exact intervals",
    ),
    Method(name="omega-prm", target="trees.omega:OmegaPRM", out=_GROWING, about="binary search for the first error inside a tree search (OmegaPRM, 2024)"),
    Method(
        name="omega-prm-curtailed",
        target="trees.omega:CurtailedOmegaPRM",
        out=(*_GROWING, "relative", "threshold"),
        about="the search alone, each probe until its first success",
    ),
    Method(name="rest-mcts", target="trees.rest:ReSTMCTS", about="inferred process rewards (ReST-MCTS*, 2024)"),
    Method(name="qlass", target="trees.qlass:QLASS", about="step Q-values on an exploration tree (QLASS, 2025)"),
    Method(name="masprm", target="trees.masprm:MASPRM", about="returns of agents' turns in a tree search (MASPRM, 2025)"),
    Method(
        name="full-width",
        target="trees.full_width:FullWidth",
        about="leaves below each node of a full-width tree (hierarchical reward models, 2025; BPP-Search)",
    ),
    Method(name="scan", target="scan:Scan", about="self-denoising annotation (SCAN, 2025)"),
    Method(name="entropy-regularised", target="entropy_regularised:EntropyRegularised", about="entropy-regularised values (ER-PRM, 2024)"),
    Method(name="relative-progress", target="relative_progress:RelativeProgress", about="each value relative to the one before it (GenPRM, 2025)"),
    Method(name="prover-progress", target="prover_progress:ProverProgress", about="progress under a separate prover policy (PAV, 2024)"),
    Method(name="stepwise-outcome", target="stepwise_outcome:StepwiseOutcome", about="stepwise outcome labels (SORM in GLoRe, 2024)"),
    Method(name="uncertainty-driven", target="uncertainty_driven:UncertaintyDriven", about="probes steps where the policy is unsure (UnPRM, 2025)"),
    Method(name="solvable-outcome", target="solvability:SolvableOutcome", about="the outcome, weighted by whether the problem can be solved at all"),
    Method(name="code-lines", target="code_lines:CodeLines", about="first line after which no completion passes the tests (code PRM by binary search)"),
    Method(name="mutation", target="mutation:MutationLabels", about="mutated and refactored lines of a program, judged by its tests (PRLCoder, 2025)"),
    Method(name="judge", target="judges:JudgeLabels", about="a generative judge's verdicts on every step"),
    Method(name="spare", target="judges:Spare", about="one pass that aligns steps with a reference solution (SPARE, 2025)"),
    Method(name="aurora", target="judges:Aurora", about="several prompts vote, then a check against the reference answer (AURORA, 2025)"),
    Method(name="spark", target="judges:Spark", about="self-consistency and meta-critique without a reference (SPARK, 2025)"),
    Method(name="versa", target="judges:Versa", about="the first bad step, named by a judge that knows the answer (VersaPRM, 2025)"),
    Method(
        name="pathfinder", target="judges:PathFinderLabels", about="a judge's verdicts on three axes: mathematics, consistency, worth (PathFinder-PRM, 2025)"
    ),
    Method(name="verifiagent", target="judges:VerifiAgent", about="a judge's view of the whole, then the tool that fits each step (VerifiAgent, 2025)"),
    Method(
        name="consensus-monte-carlo",
        target="judges:JudgedMonteCarlo",
        about="Monte-Carlo and a judge: keep, drop or soften where they differ (Lessons of Developing Process Reward Models, 2025)",
    ),
    Method(name="distilled", target="distil:Distilled", about="pseudo-references from a teacher's majority answers"),
    Method(name="pseudo-labels", target="selftrain:PseudoLabels", about="a model's own confident scores as labels (SSRM, 2024)"),
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
