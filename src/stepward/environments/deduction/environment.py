"""Deduction: multi-step logical reasoning in plain English whose truth is exactly computable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from random import Random

from stepward.core.errors import InputError
from stepward.core.labels import Semantics, StepLabels
from stepward.core.outcome import Outcome
from stepward.core.problem import Problem
from stepward.core.trajectory import Trajectory
from stepward.environments.deduction import lexicon
from stepward.environments.deduction.claims import read_claims
from stepward.environments.deduction.generator import draw_world
from stepward.environments.deduction.judgement import StepJudgement
from stepward.environments.deduction.oracle import oracle_of
from stepward.environments.deduction.wording import problem_text
from stepward.environments.deduction.world import SPLITS, World
from stepward.environments.judgement import Judgement

NAME = "deduction"
TRUE, FALSE = "true", "false"
_MOST_STEPS = 12


@dataclass(frozen=True, kw_only=True)
class Deduction:
    """True-or-false questions about an individual over facts and rules; the defaults are the medium range.

    min_steps, max_steps: derivations that settle the question (1 to 12), which is the number of gold steps before the verdict.
    min_distractors, max_distractors: rules that lead away from a line of reasoning or onto it. individuals: most individuals with facts.
    conjunction: rules with two conditions. disjunction: rules with alternatives, settled by cases or by elimination. negation: chance that a
    quality is negative. contraposition: chance that a derivation from something negative uses a rule backwards. plain: fewer sentence patterns.
    as_steps: one pattern a kind of rule, the one that steps use, so that a rule has to be found but not reworded.

    Every problem also holds a second line of reasoning of the same form that would give the other answer, if only its first fact were there.
    """

    min_steps: int = 3
    max_steps: int = 6
    min_distractors: int = 1
    max_distractors: int = 4
    individuals: int = 2
    conjunction: bool = True
    disjunction: bool = True
    negation: float = 0.25
    contraposition: float = 0.5
    plain: bool = False
    as_steps: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.min_steps <= self.max_steps <= _MOST_STEPS:
            raise InputError(f"steps must satisfy 1 <= min <= max <= {_MOST_STEPS}, got {self.min_steps} and {self.max_steps}")
        if not 0 <= self.min_distractors <= self.max_distractors <= 8:
            raise InputError(f"distractors must satisfy 0 <= min <= max <= 8, got {self.min_distractors} and {self.max_distractors}")
        if not 1 <= self.individuals <= len(lexicon.NAMES):
            raise InputError(f"individuals must lie in 1..{len(lexicon.NAMES)}, got {self.individuals}")
        if not (0.0 <= self.negation <= 1.0 and 0.0 <= self.contraposition <= 1.0):
            raise InputError(f"negation and contraposition are chances in [0, 1], got {self.negation} and {self.contraposition}")

    @classmethod
    def easy(cls) -> Deduction:
        """1 to 3 derivations by single conditions, some negative; one individual, few distractors, few sentence patterns."""
        return cls(
            min_steps=1,
            max_steps=3,
            min_distractors=0,
            max_distractors=1,
            individuals=1,
            conjunction=False,
            disjunction=False,
            negation=0.15,
            contraposition=0.0,
            plain=True,
        )

    @classmethod
    def simple(cls) -> Deduction:
        """The easy range with every rule in the words that steps use."""
        return replace(cls.easy(), as_steps=True)

    @classmethod
    def medium(cls) -> Deduction:
        """3 to 6 derivations with conjunctions, cases and eliminations, up to 4 distracting rules, up to two individuals."""
        return cls()

    @classmethod
    def hard(cls) -> Deduction:
        """6 to 10 derivations, up to 6 distracting rules, up to three individuals."""
        return cls(min_steps=6, max_steps=10, min_distractors=2, max_distractors=6, individuals=3)

    def problem(self, seed: int, index: int, split: str = "train") -> Problem:
        """Problem `index` of the endless sequence of a seed; the same in every process.

        A world belongs to one split by its content (see `World.split`), whatever the seed or configuration, so that no problem of one
        split is ever met in another.
        """
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        digest = blake2b(f"{NAME}|{seed}|{split}|{index}".encode(), digest_size=8).digest()
        rng = Random(int.from_bytes(digest, "little"))
        while True:
            world = draw_world(rng, self)
            if world.split == split:
                return self.pose(world, rng)

    def pose(self, world: World, rng: Random) -> Problem:
        """The problem that asks a world's question, in one of its wordings."""
        return Problem(
            prompt=problem_text(world, rng, plain=self.plain, as_steps=self.as_steps),
            answer=TRUE if world.answer else FALSE,
            reference_steps=world.gold_steps(),
            environment=NAME,
            metadata={"world": world.to_json(), "steps": len(world.plan)},
        )

    def problems(self, seed: int, n: int, *, split: str = "train", start: int = 0) -> Iterator[Problem]:
        """Problems start..start+n-1 of a seed."""
        return (self.problem(seed, index, split) for index in range(start, start + n))

    @property
    def fingerprint(self) -> str:
        """Grading does not depend on the configuration, so all share one."""
        return f"{NAME}/1"

    @property
    def interactive(self) -> bool:
        """Nothing answers a step: a policy may write to the end at once."""
        return False

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        """Nothing answers: the trajectory itself."""
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        """The trajectory has ended, or its last step gives the verdict."""
        return trajectory.ended or (len(trajectory) > 0 and _verdict_in(trajectory.steps[-1].text) is not None)

    def answer(self, trajectory: Trajectory) -> str | None:
        """The last verdict that a step gives, "true" or "false"; None when none does."""
        verdict = next((found for step in reversed(trajectory.steps) if (found := _verdict_in(step.text)) is not None), None)
        return None if verdict is None else TRUE if verdict else FALSE

    async def grade(self, trajectory: Trajectory) -> Outcome:
        """1 when the last verdict is the world's, 0 when it is not or a finished solution gives none.

        Unscored: a trajectory that was cut off before a verdict, or that has not ended.
        """
        answer = self.answer(trajectory)
        if answer is not None:
            return Outcome(float((answer == TRUE) == oracle_of(trajectory.problem).world.answer), answer)
        if trajectory.truncated:
            return Outcome.unscored("cut off before a verdict")
        if not trajectory.finished:
            return Outcome.unscored("not finished: no verdict yet")
        return Outcome(0.0)

    def judge(self, trajectory: Trajectory) -> Judgement[StepJudgement]:
        """The exact correctness and error type of every step; see `oracle` for the rules."""
        return oracle_of(trajectory.problem).judge(step.text for step in trajectory.steps)

    def labels(self, trajectory: Trajectory, semantics: Semantics = "prefix") -> StepLabels:
        """Exact step labels, *prefix* (no error so far) or *local* (the step follows from what it cites, which was stated before).

        Raises: InputError for *value* labels, which belong to a policy.
        """
        if semantics == "value":
            raise InputError("value labels depend on a policy; use the exact values of a scripted policy")
        return self.judge(trajectory).labels(semantics)


def _verdict_in(text: str) -> bool | None:
    """The last verdict that a step gives."""
    lowered = text.lower()
    if TRUE not in lowered and FALSE not in lowered:
        return None
    claims = read_claims(text)
    return next((claim.verdict for claim in reversed(claims or ()) if claim.verdict is not None), None)


def vocabulary() -> list[str]:
    """Every word (see `lexicon.words`) that a problem or solution can contain, corrections and errors included; sorted.

    One closed vocabulary serves all configurations, so that a model can move from easy problems to harder ones.
    """
    return lexicon.every_word()
