"""A run of searches over problems: graded, streamed to a file as they finish, under a progress bar that tells the accuracy so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stepward.cli.output import remarks, shown
from stepward.cli.session import Session, why_missing
from stepward.core import Environment, InputError, Outcome, Problem, Search, SearchResult, Trajectory, Tree, Usage, metered
from stepward.core.usage import Ledger
from stepward.data.streamed import RecordStream
from stepward.engine.concurrency import Failure, run_all
from stepward.engine.loop import run_sync
from stepward.engine.progress import progress
from stepward.environments.episode import GRADING_FAILED, grade
from stepward.evaluation.statistics import mean_estimate

_CATEGORIES = {
    "policy_tokens": "policy tokens written",
    "policy_prefill": "policy tokens read",
    "policy_cached": "policy tokens found in a cache",
    "reward_tokens": "reward tokens read",
    "reward_cached": "reward tokens found in a cache",
    "reward_written": "reward tokens written",
    "calls": "calls",
    "flops": "FLOPs",
}
_SPARED = {"policy_cached", "reward_cached"}  # more of them is less to pay


@dataclass(frozen=True)
class SearchRun:
    """Results by problem, what they cost, and how many problems failed as a whole. A chosen solution carries its outcome.

    Of many problems the results have no trees: those are in the file of results.
    """

    results: list[SearchResult]
    ledger: Ledger
    n_failed: int

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome_of(result) for result in self.results]

    def summary(self) -> dict[str, Any]:
        """Accuracy with its interval, and what is not known and why."""
        outcomes = self.outcomes
        known = [float(outcome.value) for outcome in outcomes if outcome.value is not None]
        accuracy = mean_estimate(known) if known else None
        return {
            "n_problems": len(self.results),
            "n_failed_problems": self.n_failed,
            "n_stopped": sum("stopped" in result.source for result in self.results),
            "n_graded": len(known),
            "n_unscored": len(outcomes) - len(known),
            "unscored_reasons": why_missing(outcome.reason for outcome in outcomes if not outcome.scored),
            "accuracy": None if accuracy is None else accuracy.value,
            "low": None if accuracy is None else accuracy.low,
            "high": None if accuracy is None else accuracy.high,
        }


def summary_rows(summary: Mapping[str, Any]) -> list[list[Any]]:
    """A summary for people: what the accuracy is of, which interval it has, and the reasons of what is not known."""
    of = f"{summary['n_graded']:,} graded of {summary['n_problems']:,} problems"
    words = {"accuracy": f"accuracy ({of})", "low": "accuracy, 95 % low", "high": "accuracy, 95 % high"}
    left_out = ("usage", "paid", "unscored_reasons", "n_graded")
    rows = [[words.get(name, name), value] for name, value in summary.items() if name not in left_out and value not in ("", None)]
    return [*rows, *([f"unscored: {why}", count] for why, count in summary["unscored_reasons"].items())]


def outcome_of(result: SearchResult) -> Outcome:
    """The chosen solution's outcome; unscored with the reason where there is none."""
    if result.chosen is None:
        return Outcome.unscored(result.reason or "nothing was chosen")
    return result.chosen.outcome or Outcome.unscored("not graded")


async def searched(strategy: Search, grading: Environment, problem: Problem) -> SearchResult:
    """The search's result, its chosen solution graded."""
    result = await strategy.search(problem)
    return result if result.chosen is None else replace(result, chosen=result.chosen.graded(await grade(grading, result.chosen)))


def graded(work: Session, grading: Environment, results: Sequence[SearchResult], *, title: str, concurrency: int) -> list[SearchResult]:
    """The results, with an outcome for those chosen solutions that have none yet."""

    async def one(place: int) -> SearchResult:
        result = results[place]
        return result if result.chosen is None else replace(result, chosen=result.chosen.graded(await grade(grading, result.chosen)))

    def failed(place: int, reason: str) -> SearchResult:
        chosen = results[place].chosen
        return results[place] if chosen is None else replace(results[place], chosen=chosen.graded(Outcome.unscored(f"{GRADING_FAILED}: {reason}")))

    bare = [place for place, result in enumerate(results) if result.chosen is not None and result.chosen.outcome is None]
    if not bare:
        return list(results)
    done, _, _ = work.each(f"grade {title}", bare, one, failed, concurrency=concurrency)
    found = dict(zip(bare, done, strict=True))
    return [found.get(place, result) for place, result in enumerate(results)]


def why_unjudged(world: Environment, spec: str, problem: Problem) -> str | None:
    """Why an environment that judges only the problems that it makes cannot judge this one, with the remedy; None for any other environment or problem."""
    judge = getattr(world, "judge", None)
    if judge is None:
        return None
    try:
        judge(Trajectory(problem))
    except InputError as error:
        return f"--environment {spec} cannot judge this problem ({error}); --environment maths judges it by its answer"
    return None


def remark_unjudged(world: Environment, spec: str, problems: Sequence[Problem]) -> None:
    """Say of the first of them that the environment cannot judge why it cannot."""
    why = next((found for problem in problems if (found := why_unjudged(world, spec, problem)) is not None), None)
    if why is not None:
        remarks.print(why, markup=False)


def run_searches(
    work: Session,
    strategy: Search,
    grading: Environment,
    problems: Sequence[Problem],
    *,
    title: str = "search",
    concurrency: int,
    out: Path | None = None,
) -> SearchRun:
    """`strategy` on every problem. With `out`, each result is written there as soon as it is there, with its tree (see `RecordStream`)."""

    async def one(item: tuple[int, Problem]) -> SearchResult:
        index, problem = item
        result = await searched(strategy, grading, problem)
        if writer is not None:
            writer.add(index, result)
        return without_tree(result)

    async def run() -> tuple[list[SearchResult | Failure], Ledger]:
        with metered() as ledger, progress(title, total=len(problems), quiet=work.quiet) as bar:
            total, n_known = 0.0, 0

            def done(index: int, found: SearchResult | Failure) -> None:
                nonlocal total, n_known
                result = _result(problems[index], found)
                if writer is not None and isinstance(found, Failure):
                    writer.add(index, result)
                value = outcome_of(result).value
                if value is not None:
                    total, n_known = total + value, n_known + 1
                bar.advance()
                bar.note(f"accuracy {total / n_known:.1%} of {n_known}" if n_known else "")

            found = await run_all(list(enumerate(problems)), one, limit=concurrency, on_done=done)
        return found, ledger

    with nullcontext() if out is None else RecordStream(out) as writer:
        found, ledger = run_sync(run())
    reasons = [result.reason for result in found if isinstance(result, Failure)]
    if reasons:
        remarks.print(f"{title}: {len(reasons)} of {len(found)} failed; the first: {reasons[0]}", markup=False)
    return SearchRun([_result(problem, result) for problem, result in zip(problems, found, strict=True)], ledger, len(reasons))


def without_tree(result: SearchResult) -> SearchResult:
    """The same with the root of its tree only: thousands of trees need not be held at once."""
    return replace(result, tree=Tree(result.tree.root.trajectory))


def cost_rows(usage: Usage, paid: Usage) -> list[list[str]]:
    """A row a category: what the results cost when each is computed alone, what this run paid, and the share that journal and caches saved."""
    rows = []
    for name, words in _CATEGORIES.items():
        cost, now = getattr(usage, name), getattr(paid, name)
        if cost or now:
            saved = "" if name in _SPARED or not cost else f"{(cost - now) / cost:.0%}"
            rows.append([words, shown(float(cost)) if name == "flops" else shown(cost), shown(float(now)) if name == "flops" else shown(now), saved])
    return rows


def _result(problem: Problem, found: SearchResult | Failure) -> SearchResult:
    return SearchResult(None, Tree(problem), reason=found.reason) if isinstance(found, Failure) else found
