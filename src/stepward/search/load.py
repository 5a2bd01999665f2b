"""Strategies, and the evaluators, critics and other components that they are composed of, by the names that users type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from stepward.core import Aggregation, Environment, InputError, Policy, RewardModel, Sampling, Search, check_aggregation
from stepward.search.budget import NO_BUDGET, Budget
from stepward.search.entry import Component, Entry, EvaluatorEntry, Services

_STRATEGIES = (
    Entry(name="majority", target="sampled:Majority", about="n solutions; what most of them answer (Self-Consistency, 2022)"),
    Entry(name="best-of-n", target="sampled:BestOfN", about="n solutions; the one that the reward model likes best (Training Verifiers, 2021)"),
    Entry(name="weighted", target="sampled:WeightedBestOfN", about="n solutions; the answer with the largest sum of scores (DIVERSE, 2022)"),
    Entry(name="hybrid-vote", target="sampled:HybridVote", about="the majority where it is large enough, else the best-scored (2025)"),
    Entry(name="frequency-reward", target="sampled:FrequencyRewardVote", about="mean score and share of an answer, mixed (2025)"),
    Entry(name="beam", target="beam:StepBeam", about="the best prefixes of every step go on (Scaling LLM Test-Time Compute Optimally, 2024)"),
    Entry(name="dvts", target="dvts:DVTS", about="independent subtrees, each keeps its best step (Scaling Test-Time Compute with Open Models, 2024)"),
    Entry(name="diverse-beam", target="diverse:DiverseBeam", about="beams that pay for repeating what earlier ones chose (Diverse Beam Search, 2016)"),
    Entry(name="lookahead", target="lookahead:LookaheadBeam", about="a beam that judges by where a few greedy steps lead (2024; ReARTeR, 2025)"),
    Entry(name="progress-beam", target="progress:ProgressBeam", about="value plus progress under a prover (PAV: Rewarding Progress, 2024)"),
    Entry(name="birm", target="mixture:BidirectionalBeam", about="a value model ahead and a process model behind (BiRM, 2025)"),
    Entry(name="pairwise-beam", target="pairwise:PairwiseBeam", about="a beam whose finalists are compared in pairs (BPP-Search, 2024)"),
    Entry(name="staged-beam", target="stages:StagedBeam", about="a judge a stage, and a check of what has ended (Thinking Longer, Not Larger, 2025)"),
    Entry(name="mcts", target="mcts:MCTS", about="tree search by UCT or PUCT, values backed up (AlphaZero, 2018; OpenR, 2024)"),
    Entry(name="mcts-star", target="mcts_star:MCTSStar", about="tree search with a look-ahead and a gate (ReST-MCTS*, 2024)"),
    Entry(name="self-guided-mcts", target="self_guided:SelfGuidedMCTS", about="tree search with reflections among its steps (Think&Cite, 2024)"),
    Entry(name="retrieval-mcts", target="retrieval:RetrievalMCTS", about="tree search that shows steps of similar solutions (R2-LLMs, 2025)"),
    Entry(name="q-guided", target="step_choice:QGuided", about="one walk, at every step the best of n candidates (QLASS, 2025)"),
    Entry(
        name="step-selection", target="step_choice:StepSelection", about="the same, begun again after a failure (Guiding VLM Agents with Process Rewards, 2025)"
    ),
    Entry(name="particles", target="particles:ParticleFilter", about="prefixes copied in proportion to their worth (Particle-Based Monte Carlo, 2025)"),
    Entry(name="particle-gibbs", target="gibbs:ParticleGibbs", about="particle filters in a row that keep a solution (Particle-Based Monte Carlo, 2025)"),
    Entry(name="early-rejection", target="early_rejection:EarlyRejection", about="a beam that judges steps by their first tokens (Early Rejection, 2025)"),
    Entry(name="adaptive-best-of-n", target="adaptive_scaling:AdaptiveBestOfN", about="as many solutions as a problem needs (Know What You Don't Know, 2025)"),
    Entry(name="adaptive-beam", target="adaptive_scaling:AdaptiveBeam", about="as many children as the weakest prefix needs (Know What You Don't Know, 2025)"),
    Entry(name="adaptive-width-beam", target="adaptive_scaling:AdaptiveWidthBeam", about="as few prefixes as are needed (Know What You Don't Know, 2025)"),
    Entry(name="compute-optimal", target="compute_optimal:ComputeOptimal", about="the strategy that suits the problem's difficulty (2024)"),
    Entry(name="adaptive-majority", target="adaptive_votes:AdaptiveMajority", about="votes until the majority is settled (Adaptive-Consistency, 2023)"),
    Entry(name="self-rerank", target="judged_votes:SelfRerank", about="the majority of the solutions that a judge accepts (Self-PRM, 2025)"),
    Entry(name="meta-vote", target="judged_votes:MetaVote", about="sums of judgements that a meta-judge trusts (Generalist Reward Modeling, 2025)"),
    Entry(name="glore", target="glore:GLoRe", about="a doubted draft rewritten as a whole and from its first wrong step (GLoRe, 2024)"),
    Entry(name="magicore", target="magicore:MAgICoRe", about="votes on easy problems, all samples reviewed and rewritten on hard ones (MAgICoRe, 2024)"),
    Entry(name="critique-refine", target="critique:CritiqueRefine", about="criticise and rewrite, keep the better (Self-Refine, 2023)"),
    Entry(name="refine-steps", target="stepwise:RefineSteps", about="a doubted step is explained and written anew (ReARTeR, 2025)"),
    Entry(name="equilibrium", target="equilibrium:Equilibrium", about="rewritten until nothing changes, then told how it went (Equilibrium, 2024)"),
    Entry(name="backtracking", target="backtracking:Backtracking", about="the first good step, back where all are bad (Let's Reward Step by Step, 2023)"),
    Entry(name="helper", target="helper:HelperUnderBudget", about="another policy is asked for single steps (Requesting Interventions, 2025)"),
    Entry(name="hierarchical", target="hierarchical:Hierarchical", about="edits that a judge prefers, from coarse to fine (MOOSE-Chem2, 2025)"),
)
_EVALUATORS = (
    EvaluatorEntry(name="scored", target="evaluator:Scored", about="the reward model's step scores, aggregated"),
    EvaluatorEntry(name="graded", target="evaluator:Graded", about="the environment's own outcome: for tests and upper bounds"),
    EvaluatorEntry(name="lookahead", target="lookahead:Lookahead", about="another evaluator's value after a few more steps"),
    EvaluatorEntry(name="progress", target="progress:Progress", about="value plus progress under a prover"),
    EvaluatorEntry(name="progress-ratio", target="self_guided:ProgressReward", about="how much more a tuned policy believes in the text than its reference"),
)
_COMPONENTS = (
    *_EVALUATORS,
    Component(what="critic", name="scores", target="feedback:ScoreCritic", about="the steps that the reward model scores low"),
    Component(what="critic", name="prompt", target="feedback:PromptCritic", about="the policy is asked what is wrong"),
    Component(what="reviser", name="prompt", target="revise:PromptReviser", about="the policy is asked to write it anew"),
    Component(what="reviser", name="resume", target="revise:Resume", about="sampled anew from the step before the mistake"),
    Component(what="preference", name="scores", target="preference:BradleyTerry", about="the reward model's scores as strengths"),
    Component(what="reporter", name="scores", target="equilibrium:ScoreReporter", about="the reward model's step scores"),
    Component(what="index", name="file", target="retrieval:IndexFile", about="steps of the right solutions in a file"),
    Component(what="rule", name="random", target="helper:HelpAtRandom", about="help at random steps: the baseline"),
)
STRATEGIES: dict[str, Entry] = {entry.name: entry for entry in _STRATEGIES}
EVALUATORS: dict[str, EvaluatorEntry] = {entry.name: entry for entry in _EVALUATORS}
COMPONENTS: dict[tuple[str, str], Component] = {(entry.what, entry.name): entry for entry in _COMPONENTS}


def strategy_named(name: str) -> Entry:
    """The strategy of this name. Raises: InputError listing the known ones."""
    if name not in STRATEGIES:
        raise InputError(f"unknown strategy {name!r}; choose one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def component_named(what: str, name: str) -> Component:
    """The evaluator, critic, ... of this name. Raises: InputError listing the known ones."""
    if (what, name) not in COMPONENTS:
        raise InputError(f"unknown {what} {name!r}; choose one of {', '.join(names_of(what))}")
    return COMPONENTS[what, name]


def names_of(what: str) -> tuple[str, ...]:
    """The names of all strategies, evaluators, critics, ..."""
    return tuple(STRATEGIES) if what == "strategy" else tuple(name for noun, name in COMPONENTS if noun == what)


def load_search(
    strategy: str,
    *,
    policy: Policy,
    environment: Environment,
    model: RewardModel | None = None,
    n: int | None = None,
    width: int | None = None,
    aggregation: Aggregation | None = None,
    settings: Mapping[str, Any] | None = None,
    parts: Mapping[str, Any] | None = None,
    sampling: Sampling = Sampling(),
    budget: Budget = NO_BUDGET,
) -> Search:
    """The strategy with this name and these `settings` (texts or values; see `STRATEGIES[name].parameters`).

    `n`, `width` and `aggregation` are settings of these names, for the strategies that have them; a beam keeps `width` prefixes and extends each n / width
    times. `parts`: policies and reward models beside the main ones, by the name of the strategy's field (prover, helper, ...).

    Raises: InputError for an unknown name, setting or part, a missing reward model, or an `n` that `width` does not divide.
    """
    entry = strategy_named(strategy)
    if aggregation is not None:
        check_aggregation(aggregation)
    short = {name: value for name, value in (("n", n), ("width", width), ("aggregation", aggregation)) if value is not None and name in entry.names}
    given = short | dict(settings or {})
    usable = entry.all_parts(given)
    for name in parts or {}:
        if name not in usable:
            raise InputError(f"{entry.label} has no part {name!r}; it has: {', '.join(usable) or 'none'}")
    services = Services(policy=policy, environment=environment, model=model, sampling=sampling, budget=budget, parts=parts or {})
    return cast(Search, entry.make(services, given))
