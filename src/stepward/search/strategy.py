"""Strategy: what all test-time searches share. A subclass grows a tree on a workbench and chooses one of its ends."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

from stepward.core import Environment, Node, Policy, Problem, Sampling, SearchResult, canonical_json, content_hash, metered
from stepward.search.budget import NO_BUDGET, Budget
from stepward.search.choose import argmax
from stepward.search.purse import Stopped, check_prices
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """A search of one problem by `policy` in `environment` within `budget`. The fingerprint names the strategy and all its parts and parameters.

    Subclasses write `grow`, which may simply be cut off by the budget or by failures (`Stopped`), and may replace `choose`.
    """

    policy: Policy
    environment: Environment
    sampling: Sampling = Sampling()
    budget: Budget = NO_BUDGET

    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Raises: InputError for a budget that cannot be kept because one of the parts does not tell its price. Subclasses that check more call it too."""
        check_prices(self)

    @abstractmethod
    async def grow(self, bench: Workbench) -> None:
        """Grow the tree until the strategy is done."""

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        """Which of the ends answers the problem: the one of largest value; unscored ones never win, and the first of equals does."""
        del bench
        return argmax([end.value for end in ends])

    def _answer(self, bench: Workbench, ends: list[Node]) -> int | None:
        """What is chosen among the ends that were not cut off, or state an answer all the same; where nothing is, among all: the best so far."""
        answering = [place for place, end in enumerate(ends) if not end.trajectory.truncated or bench.environment.answer(end.trajectory) is not None]
        chosen = self.choose(bench, [ends[place] for place in answering]) if answering else None
        if chosen is None and len(answering) < len(ends):
            return self.choose(bench, ends)
        return None if chosen is None else answering[chosen]

    @property
    def fingerprint(self) -> str:
        return f"{self.name}/{content_hash(canonical_json({field.name: plain(getattr(self, field.name)) for field in fields(self)}))}"

    async def search(self, problem: Problem) -> SearchResult:
        """The chosen solution, or the reason why there is none, with the tree and what it cost."""
        stopped = None
        with metered() as ledger:
            bench = Workbench(problem, self.policy, self.environment, sampling=self.sampling, budget=self.budget, ledger=ledger)
            try:
                async with asyncio.timeout(self.budget.seconds) as clock:
                    await self.grow(bench)
            except Stopped as reason:
                stopped = str(reason)
            except TimeoutError:
                if not clock.expired():
                    raise
                stopped = f"the budget of {self.budget.seconds:g} seconds is spent"
            ends = bench.tree.ends
            chosen = self._answer(bench, ends)
        return conclude(bench, self, ends, chosen, stopped)


def conclude(bench: Workbench, strategy: Strategy, ends: list[Node], chosen: int | None, stopped: str | None) -> SearchResult:
    """The result with end number `chosen`, or with the reason why there is none."""
    source: dict[str, Any] = {
        "search": strategy.fingerprint,
        "n_candidates": len(ends),
        "n_unscored": sum(end.reason is not None for end in ends),
        "calls": bench.calls,
    }
    if strategy.budget.limits:
        source["budget"] = strategy.budget.to_record()
    if (stopped := stopped or bench.stopped) is not None:
        source["stopped"] = stopped
    if (exceeded := strategy.budget.exceeded(bench.spent)) is not None:
        source["exceeded"] = f"a policy or reward model charged more than its price: {bench.spent[exceeded]:,} {exceeded}"
    if bench.failures:
        source |= {"failure": bench.failures[0], "n_failed_requests": len(bench.failures)}
    if bench.notes:
        source["notes"] = dict(bench.notes)
    usage, paid = bench.ledger.usage, bench.ledger.paid
    if chosen is None:
        return SearchResult(None, bench.tree, usage, _why_none(bench, ends, stopped), source, paid)
    return SearchResult(ends[chosen].trajectory, bench.tree, usage, None, source | {"chosen_node": ends[chosen].index}, paid)


def _why_none(bench: Workbench, ends: list[Node], stopped: str | None) -> str:
    unscored = next((f"no candidate could be scored: {end.reason}" for end in ends if end.reason), None)
    if ends:
        return unscored or stopped or "no candidate states an answer"
    return stopped or (bench.failures[0] if bench.failures else "there is no candidate")


def plain(value: Any) -> Any:
    """A part of a strategy as JSON for its fingerprint: models and policies by their own fingerprints, settings by value."""
    if hasattr(value, "fingerprint"):
        return value.fingerprint
    if hasattr(value, "to_record"):
        return value.to_record()
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, {field.name: plain(getattr(value, field.name)) for field in fields(value)}]
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value
