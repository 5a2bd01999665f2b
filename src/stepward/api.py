"""The synchronous face: lists in, lists out, a progress bar. For scripts and notebooks; it also works where an event loop is running."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from stepward.core import (
    Aggregation,
    Environment,
    InputError,
    Labeler,
    Policy,
    Problem,
    RewardModel,
    Sampling,
    Search,
    SearchResult,
    StepLabels,
    StepScores,
    Trajectory,
    Tree,
)
from stepward.engine.concurrency import Failure, run_all
from stepward.engine.loop import run_sync
from stepward.engine.progress import progress

# Here and not inside `search`: the first import of the room binds its name in the package, so it must come before the function of that name does.
from stepward.search.budget import NO_BUDGET, Budget
from stepward.search.load import load_search

logger = logging.getLogger("stepward")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Scorer:
    """A reward model behind plain calls; `model` is the asynchronous one."""

    model: RewardModel
    concurrency: int = 256

    def score(self, problem: Problem | str, solution: str | Sequence[str] | Trajectory) -> StepScores:
        """Scores of every step of one solution: a raw text (split by `stepward.data.segment`), a list of step texts, or a trajectory."""
        return self.score_many([as_trajectory(problem, solution)], quiet=True)[0]

    def score_many(self, trajectories: Sequence[Trajectory], *, quiet: bool = False) -> list[StepScores]:
        """Scores of many trajectories, in order. A request that fails gives unscored steps with the reason."""
        scale = self.model.scale
        return _each(
            trajectories,
            self.model.score,
            lambda t, why: StepScores.unscored(len(t), why, scale=scale),
            title="score",
            concurrency=self.concurrency,
            quiet=quiet,
        )


def load(spec: str | RewardModel, **options: Any) -> Scorer:
    """A reward model from a specification: `prm:FOLDER_OR_ID` (or the bare folder or hub id), `tools:arithmetic`, ..., ready to score.

    Raises: InputError listing the known forms.
    """
    if not isinstance(spec, str):
        return Scorer(spec)
    from stepward.rewards.load import load_reward_model

    return Scorer(load_reward_model(spec, **options))


def sample(
    problems: Sequence[Problem],
    *,
    policy: Policy | str,
    environment: Environment | str,
    n: int = 1,
    sampling: Sampling = Sampling(),
    concurrency: int = 256,
    quiet: bool = False,
) -> list[list[Trajectory]]:
    """`n` graded solutions of every problem; an empty list where sampling failed, with a warning in the log "stepward" that says how often and why."""
    from stepward.environments.episode import solve

    writer, world = _policy(policy), _environment(environment)
    return _each(
        problems,
        lambda problem: solve(writer, world, problem, n, sampling=sampling),
        lambda _, __: [],
        title="sample",
        concurrency=concurrency,
        quiet=quiet,
    )


def label(
    trajectories: Sequence[Trajectory],
    *,
    policy: Policy | str | None = None,
    environment: Environment | str | None = None,
    method: str | Labeler = "monte-carlo",
    n: int | None = None,
    threshold: float | None = None,
    sampling: Sampling = Sampling(),
    concurrency: int = 64,
    quiet: bool = False,
    **settings: Any,
) -> list[StepLabels]:
    """Step labels of every trajectory, in order; `method` is a name (see `stepward label --help`) or a labeler.

    Monte-Carlo labels take `n` rollouts a step (8 unless told) and call it good when more than the share `threshold` (0) of them ends right. `settings`: other
    parameters of the method. Rollouts have noise of their own: those of a problem are not the solutions that `sample` wrote with the same `sampling`.
    A trajectory that cannot be labelled gives unlabelled steps with the reason.
    """
    from stepward.labeling.completer import apart
    from stepward.labeling.load import failed_labels, load_labeler

    if isinstance(method, str):
        world = _environment(environment if environment is not None else "maths")
        writer = None if policy is None else _policy(policy)
        labeler = load_labeler(method, policy=writer, environment=world, sampling=apart(sampling), n=n, threshold=threshold, **settings)
    else:
        labeler = method
    return _each(
        trajectories,
        labeler.label,
        lambda t, why: failed_labels(labeler, t, why),
        title="label",
        concurrency=concurrency,
        quiet=quiet,
    )


def search(
    problems: Sequence[Problem],
    *,
    policy: Policy | str | None = None,
    environment: Environment | str | None = None,
    model: RewardModel | Scorer | str | None = None,
    strategy: str | Search = "best-of-n",
    n: int | None = None,
    width: int | None = None,
    aggregation: Aggregation | None = None,
    parts: Mapping[str, Policy | RewardModel] | None = None,
    sampling: Sampling = Sampling(),
    budget: Budget = NO_BUDGET,
    concurrency: int = 64,
    quiet: bool = False,
    **settings: Any,
) -> list[SearchResult]:
    """The search's result for every problem, in order; `strategy` is a name (see `stepward search --help`) or a search.

    `n` solutions a problem; a beam keeps `width` prefixes and extends each n / width times; None: the strategy's own default. `settings`: its other parameters.
    `parts`: policies and reward models beside the main ones, by the strategy's name for them (prover, helper, ...). `budget`: what each search may spend.
    A problem that cannot be searched gives a result without a chosen trajectory, with the reason.
    """
    if isinstance(strategy, str):
        if policy is None or environment is None:
            raise InputError("search needs a policy and an environment, e.g. policy='tiny', environment='grade-school:easy'")
        scorer = model.model if isinstance(model, Scorer) else load(model).model if model is not None else None
        strategy = load_search(
            strategy,
            policy=_policy(policy),
            environment=_environment(environment),
            model=scorer,
            n=n,
            width=width,
            aggregation=aggregation,
            settings=settings,
            parts=parts,
            sampling=sampling,
            budget=budget,
        )
    elif settings or parts or budget.limits or n is not None or width is not None or aggregation is not None:
        raise InputError("a search that is made already has its settings; give them when you make it")
    return _each(problems, strategy.search, lambda p, why: SearchResult(None, Tree(p), reason=why), title="search", concurrency=concurrency, quiet=quiet)


def as_trajectory(problem: Problem | str, solution: str | Sequence[str] | Trajectory) -> Trajectory:
    """A trajectory from a raw text, a list of step texts, or a trajectory (returned as it is)."""
    if isinstance(solution, Trajectory):
        return solution
    if isinstance(solution, str):
        from stepward.data.segment import segment

        return Trajectory(problem if isinstance(problem, Problem) else Problem(problem), segment(solution), finished=True)
    return Trajectory.from_texts(problem, solution)


def _each(
    items: Sequence[Item],
    fn: Callable[[Item], Awaitable[Result]],
    failed: Callable[[Item, str], Result],
    *,
    title: str,
    concurrency: int,
    quiet: bool,
) -> list[Result]:
    with progress(title, total=len(items), quiet=quiet) as bar:
        results = run_sync(run_all(items, fn, limit=concurrency, on_done=lambda _, __: bar.advance()))
    reasons = [result.reason for result in results if isinstance(result, Failure)]
    if reasons:
        logger.warning("%s: %d of %d failed; the first: %s", title, len(reasons), len(items), reasons[0])
    return [failed(item, result.reason) if isinstance(result, Failure) else result for item, result in zip(items, results, strict=True)]


def _policy(policy: Policy | str) -> Policy:
    if not isinstance(policy, str):
        return policy
    from stepward.policies.load import load_policy

    return load_policy(policy)


def _environment(environment: Environment | str) -> Environment:
    if not isinstance(environment, str):
        return environment
    from stepward.environments.load import load_environment

    return load_environment(environment)
