"""A run of searches over problems: graded, streamed to a file as they finish, under a progress bar that tells the accuracy so far."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stepward.cli.output import remarks, shown
from stepward.cli.session import Session, why_missing
from stepward.core import Environment, Outcome, Problem, Search, SearchResult, Tree, Usage, metered
from stepward.core.usage import Ledger
from stepward.data.streamed import RecordStream
from stepward.engine.concurrency import Failure, run_all
from stepward.engine.loop import run_sync
from stepward.engine.progress import progress
from stepward.environments.episode import grade
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
            "n_unscored": len(outcomes) - len(known),
            "unscored_reasons": why_missing(outcome.reason for outcome in outcomes if not outcome.scored),
            "accuracy": None if accuracy is None else accuracy.value,
            "low": None if accuracy is None else accuracy.low,
            "high": None if accuracy is None else accuracy.high,
        }


def outcome_of(result: SearchResult) -> Outcome:
    """The chosen solution's outcome; unscored with the reason where there is none."""
    if result.chosen is None:
        return Outcome.unscored(result.reason or "nothing was chosen")
    return result.chosen.outcome or Outcome.unscored("not graded")


async def searched(strategy: Search, grading: Environment, problem: Problem) -> SearchResult:
    """The search's result, its chosen solution graded."""
    result = await strategy.search(problem)
    return result if result.chosen is None else replace(result, chosen=result.chosen.graded(await grade(grading, result.chosen)))


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
