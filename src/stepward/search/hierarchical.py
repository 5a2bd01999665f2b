"""Hierarchical search: local search with a pairwise judge, level by level from coarse to fine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from stepward.core import InputError, Node, Policy, RewardModel
from stepward.search.chain import Revisions
from stepward.search.feedback import Feedback
from stepward.search.preference import BradleyTerry, Preference, Preferred, PricedPreference, Verdict, calls_of
from stepward.search.prompts import EDIT, EDIT_OUTLINE, FILL_IN, MERGE, MERGE_OUTLINES, OUTLINE
from stepward.search.revise import PromptReviser, Reviser
from stepward.search.sampled import at_least_one
from stepward.search.strategy import Strategy
from stepward.search.waves import Request, ask_all
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of detail. `begin` writes a first draft at this level from what the level above found (an empty draft at the top), `edit` proposes one change,
    `merge` joins a draft with another one (in `Feedback.others`). Only drafts of the last level are solutions; those above it stay open."""

    begin: Reviser
    edit: Reviser
    merge: Reviser


@dataclass(frozen=True, kw_only=True)
class Hierarchical(Strategy):
    """Searches level by level from coarse to fine: each level climbs from several starts by edits that a pairwise judge calls strictly better.

    At a level, `starts` drafts are begun from each of the `width` drafts that came down. From each: propose an edit; accept it iff P(edit better) > 1/2; a
    local optimum is reached after `patience` rejections in a row or `steps` edits. Then the best optimum is merged with others, `merges` trials in turn, each
    accepted on the same condition. The `width` best go down; on the last level the best is the answer. "Best" is a champion: every challenger meets it once,
    and must be strictly better. A comparison that fails accepts nothing, and one of whom none succeeds is no champion while others can be compared; a draft
    that the reward model cannot score loses to any that it can.

    `levels`: what a level writes (none: an outline, then the solution, both asked of the policy); `preference` the judge (none: the reward model's scores by
    Bradley-Terry). Cost, with d = starts x width: at most levels x (d (1 + steps) + merges) solutions and levels x (d steps + merges + width (d - 1))
    comparisons, where none fails; one by scores counts as two calls.
    Defaults: starts 5, patience 5, steps 60, merges 5, width 1 (the authors' repository, with 5 levels for scientific hypotheses; two here).
    Differences: their judge ensembles are preferences of their own; theirs sends the merged hypothesis down whether or not it is better.
    (MOOSE-Chem2: Exploring LLM Limits in Fine-Grained Scientific Hypothesis Discovery via Hierarchical Search, 2025.)
    """

    model: RewardModel | None = None
    preference: Preference | None = None
    refiner: Policy | None = None
    levels: tuple[Level, ...] = ()
    starts: int = 5
    patience: int = 5
    steps: int = 60
    merges: int = 5
    width: int = 1

    name = "hierarchical"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, starts=self.starts, patience=self.patience, steps=self.steps, width=self.width)
        if self.merges < 0:
            raise InputError(f"Hierarchical.merges must be at least 0, got {self.merges}")
        if self.model is None and self.preference is None:
            raise InputError("strategy 'hierarchical' needs a judge of pairs: a reward model (--model), or a preference")

    async def grow(self, bench: Workbench) -> None:
        revisions, levels = Revisions(bench), self.levels or self._outline_first()
        carried = [bench.root]
        for depth, level in enumerate(levels, 1):
            begun = await revisions.of(level.begin, carried, n=self.starts)
            for node in carried:
                if node.ended:  # only the last level has answers
                    node.drop("went down to the next level")
            optima = await self._climb(bench, revisions, level, [start for made in begun for start in made])
            optima = await self._merge(bench, revisions, level, optima)
            carried = await self._best(bench, optima, self.width if depth < len(levels) else 1)

    async def _climb(self, bench: Workbench, revisions: Revisions, level: Level, drafts: list[Node]) -> list[Node]:
        """The local optimum above every draft; all climb at once."""
        rejected = [0] * len(drafts)
        for _ in range(self.steps):
            climbing = [index for index in range(len(drafts)) if rejected[index] < self.patience]
            if not climbing:
                break
            edits = await revisions.of(level.edit, [drafts[index] for index in climbing])
            pairs = {index: (edit, drafts[index]) for index, made in zip(climbing, edits, strict=True) for edit in made}
            accepted = dict(zip(pairs, await self._preferred(bench, list(pairs.values())), strict=True))
            for index in climbing:
                if accepted.get(index, False):
                    drafts[index].drop(f"node {pairs[index][0].index} was preferred")
                    drafts[index], rejected[index] = pairs[index][0], 0
                else:
                    rejected[index] += 1
                    _reject(pairs.get(index))
        return drafts

    async def _merge(self, bench: Workbench, revisions: Revisions, level: Level, optima: list[Node]) -> list[Node]:
        """The champion of the optima, improved by merging it with the others in turn, and these."""
        champions = [await self._champion(bench, optima)] if optima else []
        others = [node for node in optima if node not in champions]
        for trial in range(self.merges if others else 0):
            (merged,) = await revisions.of(level.merge, champions, Feedback(others=(others[trial % len(others)].trajectory,)))
            for node in merged:
                (better,) = await self._preferred(bench, [(node, champions[0])])
                if better:
                    champions[0].drop(f"node {node.index} was preferred")
                    champions = [node]
                else:
                    _reject((node, champions[0]))
        return [*champions, *others]

    async def _best(self, bench: Workbench, nodes: Sequence[Node], width: int) -> list[Node]:
        """The first, who is the champion already, and the champions of the others, `width` in all; the rest is dropped."""
        chosen, left = list(nodes[:1]), list(nodes[1:])
        while left and len(chosen) < width:
            chosen.append(await self._champion(bench, left))
            left.remove(chosen[-1])
        for node in left:
            node.drop(f"node {chosen[-1].index} was preferred")
        return chosen

    async def _champion(self, bench: Workbench, nodes: Sequence[Node]) -> Node:
        """Who withstands all later ones, or beat who did. One of whom no comparison succeeds is passed over while others can be compared."""
        for place, champion in enumerate(nodes):
            known = False
            for challenger in nodes[place + 1 :]:
                (verdict,) = await self._verdicts(bench, [(challenger, champion)])
                known = known or not math.isnan(verdict)
                champion = challenger if verdict > 0.5 else champion
            if known:
                return champion
        return nodes[0]

    async def _preferred(self, bench: Workbench, pairs: Sequence[tuple[Node, Node]]) -> list[bool]:
        """Whether the judge calls the first of each pair strictly better; a comparison that fails does not."""
        return [verdict > 0.5 for verdict in await self._verdicts(bench, pairs)]

    async def _verdicts(self, bench: Workbench, pairs: Sequence[tuple[Node, Node]]) -> list[float]:
        """P(the first of each pair is better); NaN where the comparison fails, unless only one of the two is unscored, which then loses."""
        judge = self._judge
        found = [math.nan] * len(pairs)

        def request(new: Node, old: Node) -> Request[Verdict]:
            asked = (bench.problem, new.trajectory, old.trajectory)
            price = judge.price(*asked) if isinstance(judge, PricedPreference) else None
            return Request(partial(judge.compare, *asked), price, calls_of(judge), f"the comparison by {judge.fingerprint}")

        def take(index: int, verdict: Verdict) -> None:
            found[index] = _chance(verdict)
            if verdict.reason is not None:
                bench.failures.append(verdict.reason)

        await ask_all(bench, [request(*pair) for pair in pairs], take)
        return found

    @property
    def _judge(self) -> Preference:
        if self.preference is not None:
            return self.preference
        assert self.model is not None
        return BradleyTerry(model=self.model)

    def _outline_first(self) -> tuple[Level, ...]:
        writer, environment = self.refiner or self.policy, self.environment

        def outline(template: str) -> Reviser:
            return PromptReviser(policy=writer, environment=environment, template=template, form="open")

        def solution(template: str) -> Reviser:
            return PromptReviser(policy=writer, environment=environment, template=template)

        return (
            Level(begin=outline(OUTLINE), edit=outline(EDIT_OUTLINE), merge=outline(MERGE_OUTLINES)),
            Level(begin=solution(FILL_IN), edit=solution(EDIT), merge=solution(MERGE)),
        )

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        """The one that was not dropped; the first of several in a search that was cut off."""
        del bench
        return next((index for index, end in enumerate(ends) if not end.dropped), None)


def _chance(verdict: Verdict) -> float:
    """P(the first is better). One that is unscored loses to one that is not."""
    unscored = verdict.unscored if isinstance(verdict, Preferred) else (False, False)
    return float(unscored[1]) if unscored[0] != unscored[1] else verdict.value


def _reject(pair: tuple[Node, Node] | None) -> None:
    if pair is not None:
        pair[0].drop(f"not preferred to node {pair[1].index}")
