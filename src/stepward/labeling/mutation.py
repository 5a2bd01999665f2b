"""PRLCoder: a line's label from what its mutations and refactorings do to the tests. Which edits there are is in `program_edits`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from stepward.core import (
    FAILURES,
    Environment,
    Example,
    InputError,
    Outcome,
    Policy,
    Problem,
    Sampling,
    Semantics,
    StepLabels,
    Trajectory,
    Until,
    canonical_json,
    content_hash,
    metered,
)
from stepward.environments.code.program import program_of
from stepward.environments.episode import grade
from stepward.labeling.program_edits import Edit, Intent, choose, mutations, refactorings

_PROMPT = {
    "mutation": "Below is a Python program. Rewrite line {number} so that the program becomes wrong: change its meaning, keep it valid Python.",
    "refactoring": "Below is a Python program. Rewrite line {number} so that the program does exactly the same: change its form, keep its meaning.",
}
_REST = " Answer with the new line only.\n\n{program}\n\nLine {number}: {line}\nNew line:"
_QUOTED = re.compile(r"`{1,3}(?:python)?\s*\n?(.*?)`{1,3}", re.DOTALL)


@dataclass(frozen=True)
class Variant:
    """The program with step `index` edited, and what its tests said: `passed` is None where they could not tell."""

    index: int
    edit: Edit
    trajectory: Trajectory
    passed: bool | None

    def to_record(self) -> dict[str, Any]:
        return {"intent": self.edit.intent, "operator": self.edit.operator, "step": self.trajectory.steps[self.index].text, "passed": self.passed}


@dataclass(frozen=True, kw_only=True)
class MutationLabels:
    """Each step (line) of a program that passes its tests is right; edits of it are labelled by execution (Process-Supervised Reinforcement Learning for Code
    Generation, 2025: PRLCoder).

    `label`: a step is good when at least one of its mutations fails the tests, so that they depend on it. A step on which every mutation passes, blank
    lines and comments are abstained from: the tests say nothing about them. A program that fails is unlabelled: one outcome does not say which step is wrong.
    `examples`: the edited programs, with *prefix* labels: a variant that fails is right before the edit and wrong from it on; one that passes is right
    throughout, whatever was intended, where the tests depend on that step, and is left out elsewhere.

    Edits are rule-based, `per_step` mutations and `refactorings` a step, the same for the same seed; with a `writer` a model writes one more of each kind
    for every step. The environment runs the tests (environments.code).

    Differs from the paper: edits by rules beside a teacher model's, and passing variants where no mutation is caught are dropped.
    """

    semantics: ClassVar[Semantics] = "prefix"
    environment: Environment
    per_step: int = 3
    refactorings: int = 1
    seed: int = 0
    writer: Policy | None = None
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=128, max_step_tokens=128)

    def __post_init__(self) -> None:
        if self.per_step < 1 or self.refactorings < 0:
            raise InputError(f"MutationLabels needs per_step >= 1 and refactorings >= 0, got {self.per_step} and {self.refactorings}")

    @property
    def fingerprint(self) -> str:
        return f"mutation/{content_hash(canonical_json(self.describe()))}"

    def describe(self) -> dict[str, object]:
        return {
            "method": "mutation",
            "environment": self.environment.fingerprint,
            "per_step": self.per_step,
            "refactorings": self.refactorings,
            "seed": self.seed,
            "writer": None if self.writer is None else self.writer.fingerprint,
            "sampling": None if self.writer is None else self.sampling.to_record(),
        }

    async def label(self, trajectory: Trajectory) -> StepLabels:
        """Labels of the program's own steps, with the variants as evidence."""
        with metered() as ledger:
            reason, variants = await self._study(trajectory)
        if reason:
            return StepLabels.unlabelled(len(trajectory), reason, semantics="prefix", source=self.describe(), usage=ledger.usage)
        by_step = [[variant for variant in variants if variant.index == index] for index in range(len(trajectory))]
        return StepLabels.from_hard(
            [True if _caught(made) else None for made in by_step],
            semantics="prefix",
            reason="abstained: no edit of this step fails a test",
            first_error=-1,
            evidence=tuple(tuple(variant.to_record() for variant in made) for made in by_step),
            source=self.describe(),
            usage=ledger.usage,
        )

    async def examples(self, trajectory: Trajectory) -> list[Example]:
        """The variants of a program that passes, as labelled examples; none where it does not pass."""
        reason, variants = await self._study(trajectory)
        found = []
        for variant in variants:
            covered = _caught([other for other in variants if other.index == variant.index])
            if reason or variant.passed is None or (variant.passed and not covered):
                continue
            n_steps = len(trajectory)
            hard = [variant.passed or index < variant.index for index in range(n_steps)]
            labels = StepLabels(
                np.array(hard, dtype=np.float64),
                "prefix",
                tuple(hard),
                -1 if variant.passed else variant.index,
                error_types=tuple(variant.edit.operator if index == variant.index and not variant.passed else None for index in range(n_steps)),
                evidence=tuple((variant.to_record(),) if index == variant.index else () for index in range(n_steps)),
                source=self.describe(),
            )
            found.append(Example(variant.trajectory, labels, source="mutation", metadata={"index": variant.index, **variant.to_record()}))
        return found

    async def _study(self, trajectory: Trajectory) -> tuple[str, list[Variant]]:
        """Why there is nothing to say ("" otherwise), and every variant with what the tests said."""
        outcome = await grade(self.environment, trajectory)
        if not outcome.scored:
            return f"the program could not be tested: {outcome.reason}", []
        if not outcome.correct:
            return "the program fails its tests, which does not say at which step", []
        try:
            made = await self._edits(trajectory)
        except SyntaxError as error:
            return f"the program could not be edited: {error}", []
        outcomes = await asyncio.gather(*(grade(self.environment, changed) for _, _, changed in made))
        return "", [Variant(index, edit, changed, _passed(found)) for (index, edit, changed), found in zip(made, outcomes, strict=True)]

    async def _edits(self, trajectory: Trajectory) -> list[tuple[int, Edit, Trajectory]]:
        """The chosen edits with their steps and the edited trajectories."""
        program = program_of(trajectory.problem.prompt, trajectory.text)
        offset = program.rfind(trajectory.text)
        if offset < 0:
            raise SyntaxError("its steps are not the lines of a program (fenced code, say); make one step a line first")
        every = [*mutations(program), *refactorings(program)]
        chosen: list[tuple[int, Edit]] = []
        for index, (start, end) in enumerate(trajectory.spans):
            inside = [edit for edit in every if start + offset <= edit.start and edit.end <= end + offset]
            for intent, number in (("mutation", self.per_step), ("refactoring", self.refactorings)):
                chosen += [(index, edit) for edit in choose([e for e in inside if e.intent == intent], number, f"{self.seed}:{trajectory.key}:{index}")]
            if self.writer is not None and trajectory.steps[index].text.strip():
                written = await asyncio.gather(*(self._write(self.writer, intent, program, start + offset, end + offset) for intent in _intents()))
                chosen += [(index, edit) for edit in written if edit is not None]
        return [(index, edit, _edited(trajectory, index, edit, offset)) for index, edit in chosen]

    async def _write(self, writer: Policy, intent: Intent, program: str, start: int, end: int) -> Edit | None:
        """A model's edit of one line; None where it failed, wrote none or wrote the line that was there."""
        line = program[start:end]
        if "\n" in line:
            return None
        number = program.count("\n", 0, start) + 1
        prompt = (_PROMPT[intent] + _REST).format(number=number, program=program, line=line)
        try:
            (drawn,) = await writer.sample(Trajectory(Problem(prompt)), 1, until=Until.END, sampling=self.sampling)
        except FAILURES:
            return None
        quoted = _QUOTED.search(drawn.text)
        said = next((part for part in (quoted[1] if quoted else drawn.text).split("\n") if part.strip()), "")
        text = line[: len(line) - len(line.lstrip())] + said.strip()
        return None if not said.strip() or text == line else Edit(intent, "model", start, end, text)


def _intents() -> tuple[Intent, Intent]:
    return "mutation", "refactoring"


def _passed(outcome: Outcome) -> bool | None:
    return outcome.correct


def _caught(variants: Sequence[Variant]) -> bool:
    """Whether a test fails for one of them: the tests depend on the step."""
    return any(variant.passed is False for variant in variants)


def _edited(trajectory: Trajectory, index: int, edit: Edit, offset: int) -> Trajectory:
    start = trajectory.spans[index][0] + offset
    step = trajectory.steps[index]
    text = step.text[: edit.start - start] + edit.text + step.text[edit.end - start :]
    steps = (*trajectory.steps[:index], replace(step, text=text), *trajectory.steps[index + 1 :])
    return replace(trajectory, steps=steps, outcome=None)
