"""Step choice: strategies that walk one path, at every step choosing among a few candidates, as agents do that cannot go back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stepward.core import FAILURES, InputError, Node, Policy, Problem, Trajectory, Until, price_of_sample
from stepward.environments.episode import grade
from stepward.search.chain import standing
from stepward.search.evaluator import Evaluator, set_value
from stepward.search.guided_tree import GuidedTree, cut_off
from stepward.search.hinted import Hinted
from stepward.search.sampled import at_least_one
from stepward.search.select import epsilon_greedy
from stepward.search.workbench import OutOfBudget, Stopped, Workbench

_NOT_TAKEN = "another candidate was taken"


@dataclass(frozen=True, kw_only=True)
class QGuided(GuidedTree):
    """At every step draw `n` candidates, take the one of largest Q, or with chance `epsilon` any; `trajectories` walks, of which the best end answers.

    Q(s, a) is the model's score of the step, read where the step stands. n = 1 is the policy itself. With exact Q and all actions among the candidates
    the walk is optimal.
    final: what a candidate that ends the episode counts as: its "q", or the environment's "reward". The authors' code takes the reward; that tells the
    search the outcome, so it is off here, and only an upper bound where outcomes are not known at test time.
    Cost for T steps of l tokens: trajectories x T x n x l policy tokens, trajectories x T x n scores.
    Defaults: n = 2 and epsilon 0.1 are those of the authors' scripts, which walk 3 times. (QLASS: Boosting Language Agent Inference via Q-Guided Stepwise
    Search, 2025.) Differences: candidates are independent draws instead of being asked for something else than the ones before; turn limits are
    `sampling.max_steps`. Ties go to the first.
    """

    n: int = 2
    epsilon: float = 0.1
    trajectories: int = 1
    final: Literal["q", "reward"] = "q"

    name = "q-guided"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, n=self.n, trajectories=self.trajectories)
        epsilon_greedy([], epsilon=self.epsilon, uniforms=(0.0, 0.0))
        if self.final not in ("q", "reward"):
            raise InputError(f"QGuided.final must be 'q' or 'reward', got {self.final!r}")

    async def explore(self, bench: Workbench) -> None:
        await self.walk(bench, [bench.root] * self.trajectories)

    async def walk(self, bench: Workbench, starts: Sequence[Node], *, policy: Policy | None = None) -> list[Node]:
        """One path from every start; the ends that were reached."""
        places, ends = list(starts), list[Node]()
        while places:
            try:
                children = await bench.expand(places, self.n, policy=policy)
            except OutOfBudget:
                raise
            except Stopped:  # no request came to anything; another attempt may
                break
            await self.rate(bench, children)
            taken = [self.take(bench, candidates) for candidates in self.by_path(children, places)]
            ends += [child for child in taken if child is not None and child.ended]
            places = [child for child in taken if child is not None and not child.ended]
        return ends

    def by_path(self, children: Sequence[Node], places: Sequence[Node]) -> list[list[Node]]:
        """The candidates of every path; paths that are still at one node take its children in turn."""
        waiting = {place.index: [child for child in children if child.parent is place] for place in places}
        return [[line.pop(0) for _ in range(min(self.n, len(line)))] for line in (waiting[place.index] for place in places)]

    async def rate(self, bench: Workbench, children: Sequence[Node]) -> None:
        """Set the candidates' values; those without one, and those cut off, are dropped."""
        for child in children:
            if child.trajectory.truncated:
                cut_off(child)
        usable = [child for child in children if not child.closed]
        rewarded = [child for child in usable if child.ended and self.final == "reward"]
        await self.value(bench, [child for child in usable if child not in rewarded])
        for child in rewarded:
            outcome = await grade(bench.environment, child.trajectory)
            set_value(child, math.nan if outcome.value is None else outcome.value, outcome.reason or "ungraded")

    def take(self, bench: Workbench, candidates: Sequence[Node]) -> Node | None:
        """The candidate that the path goes on with; the others are dropped. None where none has a value."""
        usable = [child for child in candidates if not child.closed]
        uniforms = bench.random(2) if self.epsilon and len(usable) > 1 else (1.0, 0.0)
        place = epsilon_greedy([child.value for child in usable], epsilon=self.epsilon, uniforms=uniforms)
        for index, child in enumerate(usable):
            if index != place:
                child.drop(_NOT_TAKEN)
        return None if place is None else usable[place]

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        del bench
        return standing(ends)


@dataclass(frozen=True, kw_only=True)
class StepSelection(QGuided):
    """Take the best of `n` candidates at every step; when the finished episode looks failed, begin again, at most `retries` times, with a lesson learned.

    An episode has failed when `judge` (by default the same values as for steps) gives its end less than `accept`. `reflector` writes what went wrong,
    reading the problem, the attempt and `question`; later attempts read it after the problem's prompt. Without one the attempts are independent: with
    chance p of success each and a judge that knows, some attempt succeeds with chance 1 - (1 - p)^(retries + 1). The end of largest value answers.
    Cost for T steps of l tokens: at most (retries + 1) T n l policy tokens and as many scores, a judgement an attempt and a reflection a retry.
    (Guiding VLM Agents with Process Rewards at Inference Time for GUI Navigation, 2025; Reflexion, 2023.) No public code: n = 4, retries = 1 and
    accept = 0.5 are ours. Difference: the summary of the history is what the policy makes of its prompt.
    """

    n: int = 4
    epsilon: float = 0.0
    retries: int = 1
    accept: float = 0.5
    judge: Evaluator | None = None
    reflector: Policy | None = None
    question: str = "This attempt failed. In one or two sentences: what went wrong, and what should be done differently?"

    name = "step-selection"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retries < 0 or math.isnan(self.accept):
            raise InputError(f"StepSelection needs retries >= 0 and accept a number, got {self.retries} and {self.accept}")

    async def explore(self, bench: Workbench) -> None:
        lessons: list[str] = []
        for attempt in range(self.retries + 1):
            policy = Hinted(self.policy, "\n\n".join(lessons)) if lessons else self.policy
            ends = await self.walk(bench, [bench.root] * self.trajectories, policy=policy)
            if self.judge is not None and ends:
                await self.judge.evaluate(bench, ends)
            if any(end.value >= self.accept for end in ends):
                return
            if self.reflector is not None and ends and attempt < self.retries:
                lessons += await self.reflect(bench, self.reflector, ends[0])
                bench.notes["lessons"] = list(lessons)

    async def reflect(self, bench: Workbench, reflector: Policy, failed: Node) -> list[str]:
        """What the reflector says of a failed episode; nothing where it cannot be asked."""
        asked = Trajectory(Problem(f"{failed.trajectory.problem.prompt}\n\nAn attempt:\n{told(failed.trajectory)}\n\n{self.question}"))
        try:
            said: list[Trajectory] = await bench.ask(
                reflector.sample(asked, 1, sampling=self.sampling), price=price_of_sample(reflector, asked, 1, until=Until.STEP, sampling=self.sampling)
            )
        except OutOfBudget:
            raise
        except FAILURES as error:
            bench.failures.append(f"reflection failed: {error}")
            return []
        return [text for trajectory in said if (text := trajectory.text.strip())]


def told(episode: Trajectory) -> str:
    """An episode as text: what was done, and what the environment answered."""
    return "\n".join(text for step in episode.steps for text in (step.text, step.observation) if text)
