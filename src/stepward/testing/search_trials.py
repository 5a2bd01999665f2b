"""Search trials: many small random searches, each checked against its budget, its ledger and its tree. One function, for tests and benchmarks alike."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepward.core import Environment, InputError, Policy, Problem, RewardModel, Sampling, Search, SearchResult, Tree, metered
from stepward.engine.loop import run_sync
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.rewards.generative import load_judge
from stepward.rewards.generative.scripted import TellingJudge
from stepward.search.budget import Budget, costs
from stepward.search.load import STRATEGIES, load_search
from stepward.search.purse import Unpriced
from stepward.testing.conformance import expect
from stepward.testing.planted import PlantedPolicy, PlantedTree
from stepward.testing.rough import RoughModel, RoughPolicy
from stepward.testing.search import written_steps

_LIMITS: dict[str, tuple[int, int]] = {"policy_tokens": (1, 1500), "reward_tokens": (1, 4000), "calls": (1, 80), "flops": (50, 200_000)}
_JUDGE = TellingJudge(
    lambda asked: ("Hard to say.", "<answer>[[A]]</answer> \\boxed{-1}", "<answer>[[B]]</answer> \\boxed{0}")[int(3 * asked.chance("verdict"))],
    lambda _, choices: [-1.0 - index for index in range(len(choices))],
)
_DRAWN: dict[str, tuple[Any, ...]] = {
    "n": (2, 4, 8), "width": (1, 2), "expansions": (1, 3), "groups": (1, 2), "iterations": (1, 6), "trajectories": (1, 2), "sweeps": (1, 2), "n_max": (2, 8)
}  # fmt: skip
_HOW = ("prompt", "resume")
_WORDS: dict[str, tuple[str, ...]] = {"criticise_by": ("scores", "prompt"), "revise_by": _HOW, "globally": _HOW, "locally": _HOW}
_SETTINGS: dict[str, dict[str, Any]] = {  # of strategies that need some
    "adaptive-best-of-n": {"bound": "value"},
    "adaptive-beam": {"bound": "value"},
    "adaptive-width-beam": {"bound": "value"},
    "compute-optimal": {"strategies": "majority:n=3+beam:n=2:width=2+best-of-n:n=2"},
}
_PARTS: dict[str, dict[str, Any]] = {"pairwise-beam": {"judge": _JUDGE}, "meta-vote": {"meta": RoughModel(7)}}
_JUDGED = ("pairwise-beam", "meta-vote")
"""Strategies that ask a judge who cannot tell its price: their budgets of reward tokens and FLOPs are refused."""


@dataclass(frozen=True)
class Trial:
    """One random search: what it is made of, by its number."""

    number: int
    strategy: str
    problem: Problem
    policy: Policy
    environment: Environment
    model: RewardModel
    sampling: Sampling
    budget: Budget
    settings: Mapping[str, Any] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    """The parts that its strategy could do without, and has."""

    @property
    def steady(self) -> bool:
        """Whether no request of the policy fails, so that all that was paid for is there."""
        return not (isinstance(self.policy, RoughPolicy) and self.policy.failing)


def random_trial(number: int, *, seed: int = 0, strategies: Sequence[str] = tuple(STRATEGIES)) -> Trial:
    """Trial `number`: the same every time. Strategies take turns; worlds, policies, models, optional parts, limits and budgets are drawn."""
    luck = random.Random(f"{seed}/{number}")
    strategy = strategies[number % len(strategies)]
    environment, policy, problem = _world(luck)
    model = RoughModel(luck.randrange(4), failing=luck.choice((0.0, 0.0, 0.2, 1.0)), silent=luck.choice((0.0, 0.0, 0.1)))
    sampling = Sampling(
        temperature=luck.choice((0.0, 1.0)),
        max_step_tokens=luck.choice((1, 3, 8, 20, 512)),
        max_tokens=luck.choice((1, 10, 60, 300, 2048)),
        max_steps=luck.choice((1, 2, 5, 64)),
        seed=luck.randrange(1000),
    )
    units = luck.sample(sorted(_LIMITS), luck.choice((0, 1, 1, 1, 2, 4)))
    limits = {unit: _between(luck, *_LIMITS[unit]) for unit in units}
    known = {parameter.name for parameter in STRATEGIES[strategy].parameters}
    settings = {name: luck.choice(values) for name, values in _DRAWN.items() if name in known}
    rough = RoughPolicy(policy, failing=luck.choice((0.0, 0.0, 0.0, 0.1, 0.5)))
    apart = random.Random(f"{seed}/{number}/parts")
    settings |= {name: apart.choice(values) for name, values in _WORDS.items() if name in known}
    optional = sorted(part.name for part in STRATEGIES[strategy].parts.values() if not part.required and part.name not in _PARTS.get(strategy, {}))
    given = frozenset(name for name in optional if apart.random() < 0.5)
    return Trial(number, strategy, problem, rough, environment, model, sampling, Budget(**limits), settings, given)


def run_trial(trial: Trial) -> SearchResult | None:
    """Search, and check that nothing was broken; None where the budget was refused before anything was spent, as a judge did not tell its price.

    Raises: NotConformant naming what was broken.
    """
    with metered() as ledger:
        try:
            result = run_sync(search_of(trial).search(trial.problem))
        except (Unpriced, InputError) as refused:
            expect("cannot be kept" in str(refused) and trial.strategy in _JUDGED, f"{trial} was refused: {refused}")
            expect(not ledger.usage, f"{trial} was refused after it had spent {ledger.usage}: {refused}")
            return None
    _check(trial, result, ledger.usage == result.usage)
    return result


def search_of(trial: Trial) -> Search:
    """The search that a trial is about, with what its strategy needs besides."""
    own = STRATEGIES[trial.strategy].parts.values()
    parts = {part.name: trial.policy if part.kind == "policy" else trial.model for part in own if part.required or part.name in trial.given}
    return load_search(
        trial.strategy,
        policy=trial.policy,
        environment=trial.environment,
        model=load_judge("critic", _JUDGE) if trial.strategy == "meta-vote" else trial.model,
        settings={**_SETTINGS.get(trial.strategy, {}), **trial.settings},
        parts=parts | _PARTS.get(trial.strategy, {}),
        sampling=trial.sampling,
        budget=trial.budget,
    )


def run_trials(numbers: Sequence[int], *, seed: int = 0, strategies: Sequence[str] = tuple(STRATEGIES)) -> Counter[str]:
    """`run_trial` of all; counts of what happened: searches, those that chose an answer, those that a budget stopped, by strategy and in all."""
    happened: Counter[str] = Counter()
    for number in numbers:
        trial = random_trial(number, seed=seed, strategies=strategies)
        result = run_trial(trial)
        what = ["searches"]
        if result is None:
            what.append("refused")
        else:
            what += ["chose"] if result.chosen is not None else []
            what += ["stopped by the budget"] if "budget" in str(result.source.get("stopped", "")) else []
        happened.update(f"{name}: {event}" for name in ("all", trial.strategy) for event in what)
    return happened


def tokens_in(tree: Tree) -> int:
    """Tokens written for the tree's nodes, each once."""
    return sum(step.n_tokens or 0 for node in tree for step in written_steps(tree, node))


def _check(trial: Trial, result: SearchResult, metered_alike: bool) -> None:
    what = f"trial {trial.number} ({trial.strategy}, {dict(trial.settings)}, {sorted(trial.given)}, {trial.budget.to_record()}, {trial.sampling.to_record()})"
    spent = costs(result.usage, result.source["calls"])
    broken = trial.budget.exceeded(spent)
    expect(broken is None, f"{what} spent {spent}, over its limit of {broken}")
    expect("exceeded" not in result.source, f"{what}: {result.source.get('exceeded')}")
    expect(metered_alike, f"{what}: the result's usage is not what was charged")
    expect(tokens_in(result.tree) <= result.usage.policy_tokens, f"{what}: {tokens_in(result.tree)} tokens in the tree, {result.usage.policy_tokens} charged")
    if trial.steady and STRATEGIES[trial.strategy].name in WRITES_ONLY_ITS_TREE:
        expect(tokens_in(result.tree) == result.usage.policy_tokens, f"{what}: tokens charged that are not in the tree")
    if result.chosen is not None:
        chosen = result.tree.nodes[result.source["chosen_node"]]
        expect(chosen.ended and chosen.trajectory == result.chosen, f"{what}: the chosen trajectory is no end of the tree")


WRITES_ONLY_ITS_TREE = frozenset({"majority", "best-of-n", "weighted", "hybrid-vote", "frequency-reward", "beam", "diverse-beam"})
"""Strategies all of whose policy tokens are in nodes of the tree."""


def _world(luck: random.Random) -> tuple[Environment, Policy, Problem]:
    if luck.random() < 0.4:
        world = GradeSchool()
        rates = ErrorRates.scaled(luck.choice((0.0, 1.0, 2.0)))
        return world, ScriptedSolver(rates=rates, notice=0.2, lucky=0.0), next(iter(world.problems(luck.randrange(20), 1, split="dev")))
    interactive = luck.random() < 0.5
    tree = PlantedTree(interactive=interactive)
    policy = PlantedPolicy(n_words=luck.choice((2, 3, 7)), skew=luck.choice((0.0, 2.0)), interactive=interactive)
    return tree, policy, tree.random(luck.randrange(50), depth=luck.choice((1, 2, 4)), branching=luck.choice((2, 3)))


def _between(luck: random.Random, low: int, high: int) -> int:
    """Log-uniform, so that small budgets are as common as large ones."""
    return int(low * (high / low) ** luck.random())
