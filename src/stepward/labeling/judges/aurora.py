"""Aurora: a vote of several views of a solution, checked by one who knows the answer. Prompts are in `tasks`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from stepward.core import ABSTAINED, Environment, InputError, Trajectory
from stepward.environments.episode import grade
from stepward.labeling.judges.asking import drawn, hear_all, with_task
from stepward.labeling.judges.labels import check_scale
from stepward.labeling.judges.sheet import Finding, JudgeLabeler, JudgeSheet, Meaning
from stepward.labeling.judges.tasks import VIEWS, Reverse, View
from stepward.labeling.judges.votes import Tally, tallies, verdicts_of
from stepward.rewards.generative.task import check_choice

TIED = f"{ABSTAINED}: the votes are tied"
DISAGREE = f"{ABSTAINED}: the vote and the judge who knows the answer disagree"


@dataclass(frozen=True, kw_only=True)
class Aurora(JudgeLabeler):
    """The majority of `n` answers to each of `views`, confirmed by reverse verification. AURORA: Automated Training Framework of Universal Process Reward
    Models via Ensemble Prompting and Reverse Verification (2025).

    1. Vote: each step's majority over all answers; a tie is none.
    2. Reverse: a judge who sees the reference answer judges the steps. Where it contradicts the vote the step is unlabelled ("abstained: ...").
    3. Projection on the outcome. The solution ends wrong: at least one step must be bad; where none is, the step with the smallest share of "right" becomes
       bad (the earliest of several). It ends right: a step that only the vote or only the reverse judge calls bad is good. An unknown outcome projects nothing.

    The value is the share of all answers (views and reverse) that call the step right, or the label itself where 3 overrules them; `confidence`
    (m + 1) / (v + 2) of the v votes, `evidence` the votes. Problems without an answer skip 2. `judge` gives the policy and its sampling, each view one
    answer in its own words; its own prompt is not used. Semantics: *local* or *prefix*. The paper's wording and thresholds are not public; this is a
    reconstruction from its description.
    """

    environment: Environment
    views: tuple[str, ...] = tuple(VIEWS)
    n: int = 1
    semantics: Meaning = "local"

    method: ClassVar[str] = "aurora"

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", tuple(self.views))
        check_choice("Aurora", "semantics", self.semantics, ("prefix", "local"))
        unknown = [view for view in self.views if view not in VIEWS]
        if unknown or not self.views:
            raise InputError(f"Aurora.views must be some of {', '.join(VIEWS)}, got {', '.join(unknown) or 'none'}")
        check_scale(self.judge)
        drawn(with_task(self.judge, View()), self.n)

    async def fill(self, sheet: JudgeSheet, trajectory: Trajectory) -> None:
        asked = [with_task(self.judge, View(view=view)) for view in self.views]
        judges = [judge for view in asked for judge in drawn(view, self.n)]
        knowing = [with_task(self.judge, Reverse())] if trajectory.problem.answer is not None else []
        heard, outcome = await asyncio.gather(hear_all([*judges, *knowing], trajectory), grade(self.environment, trajectory))
        correct = (trajectory.outcome or outcome).correct if trajectory.ended else None
        verdicts = [verdicts_of(scores) for scores in heard]
        votes = tallies(verdicts[: len(judges)])
        reverse = verdicts[-1] if knowing else None
        sheet.rationales = _joined([scores.rationales for scores in heard])
        sheet.write(project(confirmed(votes, reverse, correct), correct), self.semantics)


def confirmed(votes: Sequence[Tally], reverse: Sequence[bool | None] | None, correct: bool | None) -> list[Finding]:
    """Steps 1 and 2: the vote on every step, where the judge who knows the answer does not contradict it; the value is the share of "right"."""
    found = []
    for step, vote in enumerate(votes):
        knowing = None if reverse is None else reverse[step]
        every = Tally(vote.right + (knowing is True), vote.wrong + (knowing is False))
        evidence = {"right": vote.right, "wrong": vote.wrong, "reverse": knowing}
        good = vote.majority
        if every.n == 0:
            found.append(Finding(math.nan, None, "no judge gave a verdict", evidence=evidence))
        elif knowing is not None and good is not None and knowing != good and correct is not True:
            found.append(Finding(math.nan, None, DISAGREE, evidence={**evidence, "share": every.share}))
        else:
            overruled = knowing is not None and good is not None and knowing != good  # it ends right, and only one of the two objects
            value = math.nan if good is None else 1.0 if overruled else every.share
            sure = math.nan if overruled or good is not every.majority else every.confidence
            found.append(Finding(value, None if good is None else overruled or good, TIED if good is None else None, sure, {**evidence, "share": every.share}))
    return found


def project(found: Sequence[Finding], correct: bool | None) -> list[Finding]:
    """Step 3: a solution that ends wrong has an error: where no step is bad, the one with the smallest share of "right" is."""
    changed = list(found)
    if correct is not False or any(finding.good is False for finding in found):
        return changed
    shares = [((finding.evidence or {}).get("share", math.nan), step) for step, finding in enumerate(found)]
    known = [(share, step) for share, step in shares if not math.isnan(share)]
    if known:
        step = min(known)[1]
        changed[step] = replace(found[step], value=0.0, good=False, reason=None, confidence=math.nan)
    return changed


def _joined(texts: Sequence[Sequence[str | None]]) -> list[str | None]:
    """The words of several judges on each step."""
    return ["\n\n".join(filter(None, of_step)) or None for of_step in zip(*texts, strict=True)]
