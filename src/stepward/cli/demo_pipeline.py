"""The demo's pipeline: problems, solutions, labels, a trained reward model, search, evaluation. The same parts as the other verbs, at fixed sizes."""

from __future__ import annotations

import asyncio
import math
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stepward.core import Aggregation, Example, Policy, Problem, RewardModel, Sampling, SearchResult, StepLabels, StepScores, StepwardError, Trajectory, Usage
from stepward.core.usage import metered
from stepward.engine.concurrency import Failure, run_all
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledPolicy, JournaledRewardModel
from stepward.engine.loop import run_sync
from stepward.engine.progress import progress
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.evaluation.best_of_n import Curves, ProblemSamples, best_of_n
from stepward.evaluation.calibration import Calibration, calibration
from stepward.evaluation.first_error import ScoredItem
from stepward.evaluation.labels import LabelQuality, label_quality
from stepward.evaluation.processbench import OWN, ProcessBenchResult, TunedOn, evaluate_scored
from stepward.evaluation.statistics import Estimate, difference_estimate, mean_estimate
from stepward.labeling import ExactValue, MonteCarlo, OracleLabels
from stepward.policies.load import load_policy, tiny_folder
from stepward.policies.scripted import ScriptedSolver
from stepward.rewards.convention import Convention
from stepward.rewards.load import load_reward_model
from stepward.search import StepBeam
from stepward.training.config import TrainConfig
from stepward.training.trainer import train

_ROWS = 512  # that the policy writes at once: half of what is fastest, for a laptop's memory
AGGREGATIONS: tuple[Aggregation, ...] = ("min", "last", "mean", "product")


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Sizes of the demo. The defaults take a few minutes on two cores."""

    n_train: int = 320
    n_dev: int = 50
    n_test: int = 300
    per_problem: int = 4  # solutions labelled for each training problem
    rollouts: int = 8
    n: int = 16  # solutions for each test problem
    width: int = 4
    n_exact: int = 100  # scripted solutions whose labels are compared with exact values
    epochs: int = 4
    lr: float = 3e-4
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Everything that the summary and the report show."""

    settings: DemoSettings
    curves: Curves
    beam: Estimate
    beam_tokens: tuple[float, float]  # policy and reward tokens a problem
    differences: dict[str, Estimate]
    aggregation: Aggregation
    first_errors: ProcessBenchResult
    labels: LabelQuality
    label_first_error: Estimate
    calibration: Calibration
    error_types: dict[str, int]
    examples: Sequence[tuple[Trajectory, StepScores, StepLabels]]
    provenance: dict[str, str]
    usage: dict[str, Usage]
    n_unlabelled: int
    n_beam_unscored: int
    wall_s: float
    peak_rss_mb: float

    def summary(self) -> dict[str, Any]:
        """The machine-readable summary; accuracies are shares, tokens are means a problem."""
        n = self.settings.n
        beam = {name: getattr(self.beam, name) for name in ("value", "low", "high", "n")}
        return self.curves.summary(n) | {
            f"beam_{n}": beam | dict(zip(("policy_tokens", "reward_tokens"), self.beam_tokens, strict=True)),
            "differences": {name: estimate.to_json() for name, estimate in self.differences.items()},
            "aggregation": self.aggregation,
            "first_error_f1": self.first_errors.subsets["test"].metrics.f1,
            "first_error_threshold": self.first_errors.threshold,
            "label_mean_abs_error": self.labels.mean_abs_error.value,
            "label_bias": self.labels.bias.value,
            "label_bias_se": self.labels.bias_se,
            "label_first_error_accuracy": self.label_first_error.to_json(),
            "calibration_ece": self.calibration.ece,
            "n_unlabelled_steps": self.n_unlabelled,
            "n_unscored": self.curves.n_unscored,
            "n_beam_unscored": self.n_beam_unscored,
            "first_error_types": self.error_types,
            "usage": {name: usage.to_record() for name, usage in self.usage.items()},
            "seed": self.settings.seed,
            "wall_s": round(self.wall_s, 1),
            "peak_rss_mb": round(self.peak_rss_mb),
        }


@dataclass
class _Stages:
    """Runs the stages, shows their progress, and keeps what each cost."""

    quiet: bool
    usage: dict[str, Usage] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        with metered() as ledger:
            yield
        spent = ledger.usage
        self.usage[name] = Usage(**{**spent.to_record(), "wall_s": round(time.perf_counter() - started, 2)})

    def each(self, name: str, items: Sequence[Any], fn: Callable[[Any], Any], *, limit: int = 512) -> list[Any]:
        async def run() -> list[Any]:
            with self.stage(name), progress(name, total=len(items), quiet=self.quiet) as bar:
                return await run_all(items, fn, limit=limit, on_done=lambda _, __: bar.advance())

        results = run_sync(run())
        failed = next((result for result in results if isinstance(result, Failure)), None)
        if failed is not None:
            raise StepwardError(f"the demo's stage {name!r} failed: {failed.reason}") from failed.error
        return results


def run_demo(settings: DemoSettings, out: Path, *, quiet: bool = False) -> DemoResult:
    """Run all stages; what was paid for is kept in the journal in `out`, so that a killed demo goes on where it was."""
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out / "journal.sqlite")
    try:
        return _run(settings, out, journal, _Stages(quiet), started)
    finally:
        journal.close()


def _run(settings: DemoSettings, out: Path, journal: Journal, stages: _Stages, started: float) -> DemoResult:
    world, sampling = GradeSchool.easy(), Sampling(seed=settings.seed)
    policy: Policy = JournaledPolicy(load_policy("tiny", max_rows=_ROWS), journal)
    oracle = OracleLabels(world)

    async def solutions(problem: Problem, n: int) -> list[Trajectory]:
        return await solve(policy, world, problem, n, sampling=sampling)

    problems = {
        split: list(world.problems(settings.seed, n, split=split))
        for split, n in (("train", settings.n_train), ("dev", settings.n_dev), ("test", settings.n_test))
    }

    # Labels: solutions of training problems, each step completed `rollouts` times.
    written = {split: stages.each(f"sample {split}", problems[split], lambda p: solutions(p, settings.per_problem)) for split in ("train", "dev")}
    labeler = MonteCarlo(policy=policy, environment=world, n=settings.rollouts, sampling=sampling)
    labelled: dict[str, list[Example]] = {}
    for split, pools in written.items():
        trajectories = list({t.key: t for pool in pools for t in pool}.values())  # equal solutions are labelled once
        labels = stages.each(f"label {split}", trajectories, labeler.label)
        labelled[split] = [Example(t, given, source=f"tiny {split}") for t, given in zip(trajectories, labels, strict=True)]

    # The reward model: the policy's own backbone with a two-class head, trained on the soft labels.
    config = TrainConfig(
        backbone=str(tiny_folder()),
        convention=Convention(),
        epochs=settings.epochs,
        lr=settings.lr,
        batch_tokens=1024,
        eval_every=100,
        save_every=100,
        seed=settings.seed,
    )
    # In a thread of its own: OpenMP keeps a team of threads for every thread that ever computed, and slows all of them down when the teams
    # outnumber the cores. The team of this one goes with it.
    with stages.stage("train"), progress("train", quiet=stages.quiet) as bar, ThreadPoolExecutor(1) as alone:
        alone.submit(train, labelled["train"], labelled["dev"], config, out / "prm", on_step=lambda step: bar.reach(step.step, step.n_steps)).result()
    model: RewardModel = JournaledRewardModel(load_reward_model(f"prm:{out / 'prm'}"), journal)

    # Search on problems that training never saw. The aggregation is chosen on the dev problems.
    banks: dict[str, list[list[Trajectory]]] = {"dev": written["dev"], "test": stages.each("sample test", problems["test"], lambda p: solutions(p, settings.n))}
    scores = {split: stages.each(f"score {split}", banks[split], lambda pool: _score_all(model, pool)) for split in banks}
    aggregation = max(AGGREGATIONS, key=lambda how: _dev_accuracy(banks["dev"], scores["dev"], how))
    bank = [ProblemSamples.from_trajectories(pool, given, how=aggregation) for pool, given in zip(banks["test"], scores["test"], strict=True)]
    curves = best_of_n(bank, max_k=settings.n, reward_cost=1.0, seed=settings.seed)
    beam = StepBeam(
        policy=policy,
        environment=world,
        model=model,
        width=settings.width,
        expansions=settings.n // settings.width,
        aggregation=aggregation,
        answer_by="vote",
        sampling=sampling,
    )
    beams: list[SearchResult] = stages.each("beam search", problems["test"], beam.search)
    beam_right = np.array([math.nan if r.chosen is None else (await_grade(world, r.chosen)) for r in beams])

    # Evaluation against the oracle.
    truths = {split: [[run_label(oracle, t) for t in pool] for pool in banks[split]] for split in banks}
    items = {split: _items(banks[split], scores[split], truths[split]) for split in banks}
    both_kinds = len({item.truth >= 0 for item in items["dev"]}) == 2  # a very small --limit may leave nothing to tune on
    first_errors = evaluate_scored(items, threshold=TunedOn(subset="dev") if both_kinds else OWN, model=model.fingerprint, seed=settings.seed)
    quality = _exact_quality(settings, stages)
    given_first = [
        (e.labels.first_error if e.labels else None, run_label(oracle, e.trajectory).first_error, e.trajectory.problem.key) for e in labelled["train"]
    ]
    flat = [row for rows in zip(banks["test"], scores["test"], truths["test"], strict=True) for row in zip(*rows, strict=True)]
    outcomes = np.concatenate([np.full(len(t), math.nan if t.outcome is None or t.outcome.value is None else t.outcome.value) for t, _, _ in flat])
    predicted = np.concatenate([s.values for _, s, _ in flat])
    clusters = [t.problem.key for t, _, _ in flat for _ in t.steps]
    kinds = Counter(truth.error_types[truth.first_error] or "" for _, _, truth in flat if truth.first_error is not None and truth.first_error >= 0)
    ids = curves.problem_ids
    single, majority = curves.per_problem["single"][:, -1], curves.per_problem["majority"][:, -1]
    n = settings.n
    return DemoResult(
        settings=settings,
        curves=curves,
        beam=mean_estimate(beam_right, ids, seed=settings.seed),
        beam_tokens=(float(np.mean([r.usage.policy_tokens for r in beams])), float(np.mean([r.usage.reward_tokens for r in beams]))),
        differences={
            f"majority@{n} - pass@1": difference_estimate(majority, single, ids, seed=settings.seed),
            f"best_of_{n} - majority@{n}": curves.difference("best_of", "majority", n),
            f"weighted_{n} - majority@{n}": curves.difference("weighted", "majority", n),
            f"beam_{n} - majority@{n}": difference_estimate(beam_right, majority, ids, seed=settings.seed),
            f"weighted_{n // 4} - majority at equal compute": curves.difference_at_equal_compute("weighted", "majority", n // 4),
        },
        aggregation=aggregation,
        first_errors=first_errors,
        labels=quality,
        label_first_error=mean_estimate([float(given is not None and given == truth) for given, truth, _ in given_first], [key for *_, key in given_first]),
        calibration=calibration(predicted, outcomes, clusters, seed=settings.seed),
        error_types=dict(kinds.most_common()),
        examples=flat,
        provenance={"policy": policy.fingerprint, "model": model.fingerprint, "labels": labeler.fingerprint, "beam": beam.fingerprint},
        usage=stages.usage,
        n_unlabelled=sum(e.labels.n_unlabelled for split in labelled.values() for e in split if e.labels is not None),
        n_beam_unscored=int(np.isnan(beam_right).sum()),
        wall_s=time.perf_counter() - started,
        peak_rss_mb=peak_rss_mb(),
    )


async def _score_all(model: RewardModel, pool: Sequence[Trajectory]) -> list[StepScores]:
    return list(await asyncio.gather(*(model.score(trajectory) for trajectory in pool)))


def _dev_accuracy(pools: Sequence[Sequence[Trajectory]], scores: Sequence[Sequence[StepScores]], how: Aggregation) -> float:
    bank = [ProblemSamples.from_trajectories(pool, given, how=how) for pool, given in zip(pools, scores, strict=True)]
    curves = best_of_n(bank, resamples=100)
    return sum(curves.point(method, curves.max_k).estimate.value for method in ("best_of", "weighted"))


def _items(pools: Sequence[Sequence[Trajectory]], scores: Sequence[Sequence[StepScores]], truths: Sequence[Sequence[StepLabels]]) -> list[ScoredItem]:
    rows = (row for rows in zip(pools, scores, truths, strict=True) for row in zip(*rows, strict=True))
    return [
        ScoredItem(id=f"{trajectory.key}-{index}", problem=trajectory.problem.key, truth=truth.first_error, scores=given)
        for index, (trajectory, given, truth) in enumerate(rows)
        if truth.first_error is not None
    ]


def _exact_quality(settings: DemoSettings, stages: _Stages) -> LabelQuality:
    """Monte-Carlo labels of scripted solutions against exact values: the one place where the true value of a step is known."""
    world, solver, sampling = GradeSchool(), ScriptedSolver(), Sampling(seed=settings.seed)
    problems = list(world.problems(settings.seed, settings.n_exact, split="dev"))
    pools = stages.each("sample scripted", problems, lambda p: solve(solver, world, p, 1, sampling=sampling))
    trajectories = [pool[0] for pool in pools]
    monte_carlo = MonteCarlo(policy=solver, environment=world, n=settings.rollouts, sampling=sampling)
    given = stages.each("label scripted", trajectories, monte_carlo.label)
    exact = stages.each("exact values", trajectories, ExactValue(solver).label)
    truths = [run_label(OracleLabels(world), trajectory).first_error for trajectory in trajectories]
    return label_quality(given, exact, [t.problem.key for t in trajectories], first_errors=truths, seed=settings.seed)


def run_label(labeler: OracleLabels, trajectory: Trajectory) -> StepLabels:
    return labeler.environment.labels(trajectory, labeler.semantics)


def await_grade(world: GradeSchool, trajectory: Trajectory) -> float:
    outcome = trajectory.outcome or run_sync(world.grade(trajectory))
    return math.nan if outcome.value is None else outcome.value


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
