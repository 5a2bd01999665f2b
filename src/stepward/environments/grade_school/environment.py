"""GradeSchool: multi-step word problems in plain English whose truth is exactly computable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from random import Random

from stepward.core.errors import InputError
from stepward.core.labels import Semantics, StepLabels
from stepward.core.outcome import Outcome
from stepward.core.problem import Problem
from stepward.core.trajectory import Trajectory
from stepward.environments.grade_school import lexicon
from stepward.environments.grade_school.expressions import show
from stepward.environments.grade_school.generator import draw_world
from stepward.environments.grade_school.judgement import StepJudgement
from stepward.environments.grade_school.operations import OPERATIONS
from stepward.environments.grade_school.oracle import oracle_of
from stepward.environments.grade_school.wording import problem_text
from stepward.environments.grade_school.world import SPLITS, World
from stepward.environments.judgement import Judgement

NAME = "grade-school"
_ANSWER = re.compile(r"The answer is ([0-9]{1,15})\.")
SIMPLE_OPERATIONS = ("pack", "sum", "difference", "plus", "minus", "times", "share", "fraction")
ALL_OPERATIONS = tuple(name for name in OPERATIONS if name != "given")
ALL_FRACTIONS = ((1, 2), (1, 3), (1, 4), (1, 5), (2, 3), (3, 4), (2, 5), (3, 5), (4, 5))


@dataclass(frozen=True, kw_only=True)
class GradeSchool:
    """Word problems over a graph of quantities, each a positive integer of at most `max_value`; the defaults are the full range.

    min_operations, max_operations: derived quantities that the answer needs (1 to 12), which is the number of gold steps before the answer.
    max_given: largest number that a fact states; max_factor: largest multiplier or number of shares; max_terms: most terms of a sum (2 or 3).
    distractors: most facts that the answer does not need. n_objects: kinds of things in one problem. shuffle: chance that facts come in any order.
    plain: the first sentence patterns only. fractions (p, q) and percents: those that facts use.
    """

    min_operations: int = 2
    max_operations: int = 12
    max_value: int = 3000
    max_given: int = 200
    max_factor: int = 9
    max_terms: int = 3
    distractors: int = 3
    n_objects: int = 3
    shuffle: float = 0.5
    plain: bool = False
    operations: tuple[str, ...] = ALL_OPERATIONS
    fractions: tuple[tuple[int, int], ...] = ALL_FRACTIONS
    percents: tuple[int, ...] = (5, 10, 20, 25, 40, 50, 60, 75, 80, 150, 200)

    def __post_init__(self) -> None:
        if not 1 <= self.min_operations <= self.max_operations <= 12:
            raise InputError(f"operations must satisfy 1 <= min <= max <= 12, got {self.min_operations} and {self.max_operations}")
        if not 10 <= self.max_given <= self.max_value:
            raise InputError(f"need 10 <= max_given <= max_value, got {self.max_given} and {self.max_value}")
        if not 2 <= self.max_factor <= 12 or self.max_terms not in (2, 3):
            raise InputError(f"max_factor must lie in 2..12 and max_terms be 2 or 3, got {self.max_factor} and {self.max_terms}")
        if self.distractors < 0 or not 1 <= self.n_objects <= len(lexicon.OBJECTS) or not 0.0 <= self.shuffle <= 1.0:
            raise InputError(f"distractors, n_objects or shuffle out of range: {self.distractors}, {self.n_objects}, {self.shuffle}")
        unknown = set(self.operations) - set(ALL_OPERATIONS)
        if unknown or not {"plus", "minus"} & set(self.operations):
            raise InputError(f"operations must be some of {', '.join(ALL_OPERATIONS)}, with plus or minus among them; got {self.operations}")
        if any(q not in lexicon.PARTS or not 0 < p < q or (p > 1 and p not in lexicon.COUNTS) for p, q in self.fractions):
            raise InputError(f"fractions must have denominators among {tuple(lexicon.PARTS)}, got {self.fractions}")
        if any(not 0 < p <= 200 for p in self.percents):
            raise InputError(f"percents must lie in 1..200, got {self.percents}")

    @classmethod
    def easy(cls, *, min_operations: int = 1, max_operations: int = 4, max_value: int = 50, max_given: int = 20, distractors: int = 1) -> GradeSchool:
        """The demo's part of the range: small numbers, halves and thirds, plain wording."""
        return cls(
            min_operations=min_operations,
            max_operations=max_operations,
            max_value=max_value,
            max_given=max_given,
            max_factor=5,
            max_terms=2,
            distractors=distractors,
            n_objects=1,
            shuffle=0.1,
            plain=True,
            operations=SIMPLE_OPERATIONS,
            fractions=((1, 2), (1, 3)),
            percents=(),
        )

    @classmethod
    def full(cls) -> GradeSchool:
        """Everything: 2 to 12 operations, values up to a few thousand, fractions, percentages, compound comparisons, several distractors."""
        return cls()

    def problem(self, seed: int, index: int, split: str = "train") -> Problem:
        """Problem `index` of the endless sequence of a seed; the same in every process.

        A world belongs to one split by its content (see `World.split`), whatever the seed or configuration, so that no problem of one
        split is ever met in another. Worlds whose answer does not change with some quantity on the way to it are not used.
        """
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        digest = blake2b(f"{NAME}|{seed}|{split}|{index}".encode(), digest_size=8).digest()
        rng = Random(int.from_bytes(digest, "little"))
        while True:
            world = draw_world(rng, self)
            if world.split == split and not world.cancels:
                return self.pose(world, rng)

    def pose(self, world: World, rng: Random) -> Problem:
        """The problem that asks for a world's quantity, in one of its wordings."""
        return Problem(
            prompt=problem_text(world, rng, plain=self.plain, shuffle=self.shuffle),
            answer=str(world.answer),
            reference_steps=world.gold_steps(),
            environment=NAME,
            metadata={"world": world.to_json(), "operations": len(world.plan)},
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
        """The trajectory has ended, or its last step states a final answer."""
        return trajectory.ended or (len(trajectory) > 0 and _answer_in(trajectory, len(trajectory) - 1) is not None)

    def answer(self, trajectory: Trajectory) -> str | None:
        """The last final answer that a step states, e.g. "7"; None when none does."""
        return next((found for index in reversed(range(len(trajectory))) if (found := _answer_in(trajectory, index)) is not None), None)

    async def grade(self, trajectory: Trajectory) -> Outcome:
        """1 when the last stated answer equals the world's, 0 when it differs or a finished solution states none.

        Unscored: a trajectory that was cut off before it stated an answer, or that has not ended.
        """
        answer = self.answer(trajectory)
        if answer is not None:
            return Outcome(float(answer == str(oracle_of(trajectory.problem).world.answer)), answer)
        if trajectory.truncated:
            return Outcome.unscored("cut off before a final answer")
        if not trajectory.finished:
            return Outcome.unscored("not finished: no final answer yet")
        return Outcome(0.0)

    def judge(self, trajectory: Trajectory) -> Judgement[StepJudgement]:
        """The exact correctness and error type of every step; see `oracle` for the rules."""
        return oracle_of(trajectory.problem).judge(step.text for step in trajectory.steps)

    def labels(self, trajectory: Trajectory, semantics: Semantics = "prefix") -> StepLabels:
        """Exact step labels, *prefix* (no error so far) or *local* (the step follows from what was stated).

        Raises: InputError for *value* labels, which belong to a policy.
        """
        if semantics == "value":
            raise InputError("value labels depend on a policy; use the exact values of a scripted policy")
        return self.judge(trajectory).labels(semantics)


def _answer_in(trajectory: Trajectory, index: int) -> str | None:
    """The final answer that a step states, values of quantities taken as the steps up to it state them."""
    text = trajectory.steps[index].text
    usual = _ANSWER.fullmatch(text)
    if usual is not None:
        return str(int(usual[1]))
    if "answer" not in text.lower():
        return None
    oracle = oracle_of(trajectory.problem)
    state = oracle.read(step.text for step in trajectory.steps[:index])
    after = oracle.step(replace(state, answer=None), text)[1]
    return None if after.answer is None else show(after.answer)


def vocabulary() -> list[str]:
    """Every word (see `lexicon.words`) that a problem or solution can contain, corrections and errors included; sorted.

    One closed vocabulary serves all configurations, so that a model can move from easy problems to the full range.
    """
    return lexicon.every_word()
