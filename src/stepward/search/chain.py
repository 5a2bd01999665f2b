"""Chains: what strategies share that follow one line of drafts: revisions in the tree, and which end stands."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from stepward.core import Environment, InputError, Node, Policy, Trajectory, Until
from stepward.search.choose import argmax
from stepward.search.draws import Drawing
from stepward.search.feedback import NO_FEEDBACK, Critic, Feedback, PromptCritic, ScoreCritic
from stepward.search.revise import PolicyReviser, PricedReviser, PromptReviser, Resume, Reviser
from stepward.search.waves import Request, ask_all
from stepward.search.workbench import Workbench

Say = Literal["scores", "prompt"]  # who criticises where no critic is given: the step scores, or a policy that is asked
How = Literal["prompt", "resume"]  # who revises where no reviser is given: the policy, told what is wrong, or going back to before it


class Revisions:
    """Revisions of drafts of one search, as nodes of its tree: kind "refine", `revises` the draft, under the deepest node on the draft's path that they
    continue (often the root). Revisions from the same kept steps take different draws, so they are independent."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._drawn = Counter[tuple[str, str]]()

    async def of(
        self, reviser: Reviser, drafts: Sequence[Node], feedback: Sequence[Feedback] | Feedback = NO_FEEDBACK, n: int = 1, *, draw: int | None = None
    ) -> list[list[Node]]:
        """`n` revisions of every draft, all requests at once as far as the budget allows; none for a draft whose request failed.

        `draw` fixes the first draw, which makes the reviser a function of draft and feedback.
        """
        given = [feedback] * len(drafts) if isinstance(feedback, Feedback) else list(feedback)
        made: list[list[Node]] = [[] for _ in drafts]
        first = [self._first(reviser, node.trajectory, told, n) if draw is None else draw for node, told in zip(drafts, given, strict=True)]

        def take(index: int, revisions: Sequence[Trajectory]) -> None:
            made[index] += [self._add(drafts[index], revision) for revision in revisions]

        if isinstance(reviser, PolicyReviser):
            await self._written(reviser, [node.trajectory for node in drafts], given, n, first, take)
        else:
            requests = [self._request(reviser, node.trajectory, told, n, at) for node, told, at in zip(drafts, given, first, strict=True)]
            await ask_all(self.bench, requests, take)
        return made

    def _first(self, reviser: Reviser, draft: Trajectory, feedback: Feedback, n: int) -> int:
        """The first of the next n draws."""
        stream = (reviser.fingerprint, draft.keys[reviser.keeps(draft, feedback)])
        self._drawn[stream] += n
        return self._drawn[stream] - n

    async def _written(
        self,
        reviser: PolicyReviser,
        drafts: Sequence[Trajectory],
        feedback: Sequence[Feedback],
        n: int,
        first: Sequence[int],
        take: Callable[[int, Sequence[Trajectory]], None],
    ) -> None:
        """Revisions that a policy writes, as draws of this search."""
        sampling = self.bench.sampling
        of = [index for index in range(len(drafts)) for _ in range(n)]
        draws = [draw for at, draft, told in zip(first, drafts, feedback, strict=True) for draw in reviser.draws(draft, told, n, sampling=sampling, draw=at)]
        grown: list[Trajectory | str | None] = [None] * len(draws)
        bench, drawing = self.bench, Drawing(reviser.world(self.bench.problem), self.bench.purse)
        try:
            with bench.alone():
                await drawing.fill(draws, grown)
        finally:
            bench.failures += [*drawing.lost, *(found for found in grown if isinstance(found, str))]
            for index, found in zip(of, grown, strict=True):
                if isinstance(found, Trajectory):
                    take(index, [reviser.adopted(drafts[index], found)])
        if draws and all(found is None for found in grown):
            raise bench.purse.out()

    def _request(self, reviser: Reviser, draft: Trajectory, feedback: Feedback, n: int, draw: int) -> Request[list[Trajectory]]:
        sampling = self.bench.sampling
        price = reviser.price(draft, feedback, n, sampling=sampling, draw=draw) if isinstance(reviser, PricedReviser) else None
        return Request(partial(reviser.revise, draft, feedback, n, sampling=sampling, draw=draw), price, n, f"the revision by {reviser.fingerprint}")

    def _add(self, draft: Node, revision: Trajectory) -> Node:
        above = (node for node in reversed(draft.path) if not node.ended and _continues(revision, node.trajectory))
        return self.bench.add(next(above, self.bench.root), revision, kind="refine", revises=draft)


def reviser_of(how: How, policy: Policy, environment: Environment, *, until: Until = Until.END, local: bool = False) -> Reviser:
    """The reviser that a name stands for; `local`: it keeps the steps before the suspected one (to resume always does)."""
    if how == "resume":
        return Resume(policy=policy, environment=environment, until=until)
    return PromptReviser(policy=policy, environment=environment, keep="prefix" if local else "nothing", until=until)


def critic_of(say: Say, policy: Policy, threshold: float | None) -> Critic:
    """The critic that a name stands for."""
    return PromptCritic(policy=policy, threshold=threshold) if say == "prompt" else ScoreCritic(threshold=threshold)


def check_say(strategy: object, say: str) -> None:
    """Raises: InputError for a name of no critic."""
    if say not in ("scores", "prompt"):
        raise InputError(f"{type(strategy).__name__}.criticise_by must be 'scores' (the step scores) or 'prompt' (ask the refiner), got {say!r}")


def check_how(strategy: object, **names: str) -> None:
    """Raises: InputError for a name of no reviser."""
    for name, how in names.items():
        if how not in ("prompt", "resume"):
            raise InputError(f"{type(strategy).__name__}.{name} must be 'prompt' (show the draft) or 'resume' (go back to before the error), got {how!r}")


def standing(ends: Sequence[Node]) -> int | None:
    """The end of largest value among those that were not dropped, before any of these that a limit cut off; among all where none of them has a value (a search
    that ended early)."""
    for weights in (
        [math.nan if end.dropped else usable(end) for end in ends],
        [math.nan if end.dropped else end.value for end in ends],
        [end.value for end in ends],
    ):
        if (kept := argmax(weights)) is not None:
            return kept
    return None


def usable(node: Node) -> float:
    """The node's value; unknown where a limit cut the step off, after which nothing comes."""
    return math.nan if node.trajectory.truncated else node.value


def better(new: float, old: float) -> bool:
    """Strictly better; anything known is better than the unknown, and the unknown than nothing."""
    return not math.isnan(new) and (math.isnan(old) or new > old)


def _continues(longer: Trajectory, prefix: Trajectory) -> bool:
    return len(longer) > len(prefix) and longer.keys[len(prefix)] == prefix.key
