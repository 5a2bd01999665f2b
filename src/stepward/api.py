"""The synchronous face: lists in, lists out, a progress bar. For scripts and notebooks; it also works where an event loop is running."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
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
    one_a_step,
)
from stepward.data.streamed import RecordStream
from stepward.engine.concurrency import Failure, run_all
from stepward.engine.loop import run_sync
from stepward.engine.progress import progress
from stepward.environments.episode import grade

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

        async def one(trajectory: Trajectory) -> StepScores:
            return one_a_step(await self.model.score(trajectory), len(trajectory), self.model.fingerprint)

        return _each(
            trajectories,
            one,
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
    out: str | Path | None = None,
    journal: str | Path | None = None,
    concurrency: int = 64,
    quiet: bool = False,
    **settings: Any,
) -> list[SearchResult]:
    """The search's result for every problem, in order, its chosen solution graded; `strategy` is a name (see `stepward search --help`) or a search of your own.

    `n` solutions a problem; a beam keeps `width` prefixes and extends each n / width times; None: the strategy's own default. `settings`: its other parameters.
    `parts`: policies and reward models beside the main ones, by the strategy's name for them (prover, helper, ...). `budget`: what each search may spend.
    A problem that cannot be searched gives a result without a chosen trajectory, with the reason.

    `out`: a .jsonl, .jsonl.gz or .parquet file to which results are written as they finish; `stepward compare --results NAME=FILE` and `stepward report`
    read it. `journal`: a file that keeps what was paid for, so that a killed script goes on from there; for strategies by name (a search that you make takes
    `JournaledPolicy` and `JournaledRewardModel` as its parts).
    """
    if not isinstance(budget, Budget):
        raise InputError(f"budget must be a stepward.search.budget.Budget, e.g. Budget(calls=64), got {budget!r}")
    for problem in problems:
        if not isinstance(problem, Problem):
            raise InputError(f"search takes Problems, e.g. Problem('What is 3 + 4?', answer='7'), got {problem!r}")
    if isinstance(strategy, str):
        if policy is None or environment is None:
            raise InputError("search needs a policy and an environment, e.g. policy='tiny', environment='grade-school:easy'")
        scorer = model.model if isinstance(model, Scorer) else load(model).model if model is not None else None
        with _kept(journal) as keep:
            named = load_search(
                strategy,
                policy=keep(_policy(policy)),
                environment=keep(_environment(environment)),
                model=None if scorer is None else keep(scorer),
                n=n,
                width=width,
                aggregation=aggregation,
                settings=settings,
                parts={name: keep(part) for name, part in (parts or {}).items()},
                sampling=sampling,
                budget=budget,
            )
            return _searched(named, problems, out, concurrency=concurrency, quiet=quiet)
    if isinstance(strategy, type) or not isinstance(strategy, Search):
        raise InputError(f"strategy must be a name or a search that is made, e.g. Majority(policy=..., environment=...), got {strategy!r}")
    if settings or parts or budget.limits or n is not None or width is not None or aggregation is not None or journal is not None:
        raise InputError("a search that is made already has its settings; give them when you make it")
    return _searched(strategy, problems, out, concurrency=concurrency, quiet=quiet)


def _searched(strategy: Search, problems: Sequence[Problem], out: str | Path | None, *, concurrency: int, quiet: bool) -> list[SearchResult]:
    """Results with their chosen solutions graded by the strategy's environment, written to `out` as they finish."""
    world = getattr(strategy, "environment", None)

    async def one(item: tuple[int, Problem]) -> SearchResult:
        index, problem = item
        result = await strategy.search(problem)
        if result.chosen is not None and world is not None:
            result = replace(result, chosen=result.chosen.graded(await grade(world, result.chosen)))
        if stream is not None:
            stream.add(index, result)
        return result

    def failed(item: tuple[int, Problem], why: str) -> SearchResult:
        result = SearchResult(None, Tree(item[1]), reason=why)
        if stream is not None:
            stream.add(item[0], result)
        return result

    with nullcontext() if out is None else RecordStream(out) as stream:
        return _each(list(enumerate(problems)), one, failed, title="search", concurrency=concurrency, quiet=quiet)


@contextmanager
def _kept(path: str | Path | None) -> Iterator[Callable[[Any], Any]]:
    """Puts policies, reward models and environments behind the journal at this path; None: leaves them as they are."""
    if path is None:
        yield lambda part: part
        return
    from stepward.engine.journal import Journal
    from stepward.engine.journaled import JournaledEnvironment, JournaledPolicy, JournaledRewardModel

    journal = Journal(Path(path))

    def keep(part: Any) -> Any:
        if isinstance(part, Policy):
            return JournaledPolicy(part, journal)
        return JournaledRewardModel(part, journal) if isinstance(part, RewardModel) else JournaledEnvironment(part, journal)

    try:
        yield keep
    finally:
        journal.close()


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
