"""Feedback: what is known to be wrong with a draft, and critics, who say it. Who rewrites the draft is in revise.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol, runtime_checkable

from stepward.core import DEFAULT_SAMPLING, Policy, Sampling, StepScores, Trajectory, Until, Usage, content_hash, price_of_sample
from stepward.search.prompts import REVIEW, check_template, numbered
from stepward.search.waves import Request, ask_all
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """`critique`: text. `first_suspect`: index of the first step that may be wrong, None where none is named. `scores`: the draft's step scores.
    `others`: further solutions, to be merged with the draft."""

    critique: str = ""
    first_suspect: int | None = None
    scores: StepScores | None = None
    others: tuple[Trajectory, ...] = ()


NO_FEEDBACK = Feedback()


@runtime_checkable
class Critic(Protocol):
    """Says what may be wrong with a draft. `fingerprint` names all that it depends on; `calls`: requests that a critique counts as.

    Optional: `price(draft, scores, sampling=...)`, the most that a critique charges (None where it cannot know); without it, it is not known.
    Raises RequestFailed when nothing could be said.
    """

    @property
    def fingerprint(self) -> str: ...

    @property
    def calls(self) -> int: ...

    async def critique(self, draft: Trajectory, scores: StepScores | None, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Feedback: ...


@runtime_checkable
class PricedCritic(Critic, Protocol):
    """A critic that tells the most that a critique charges."""

    def price(self, draft: Trajectory, scores: StepScores | None, *, sampling: Sampling = DEFAULT_SAMPLING) -> Usage | None: ...


@dataclass(frozen=True, kw_only=True)
class ScoreCritic:
    """Reads the step scores aloud, and what a generative reward model wrote about the steps below `threshold` (None: the scores' own). Costs nothing.

    The first step below the threshold is the suspect; abstentions are passed over, and a step that could not be scored hides every suspect behind it.
    """

    threshold: float | None = None

    @property
    def fingerprint(self) -> str:
        return f"score-critic/{self.threshold}"

    @property
    def calls(self) -> int:
        return 0

    def price(self, draft: Trajectory, scores: StepScores | None, *, sampling: Sampling = DEFAULT_SAMPLING) -> Usage | None:
        del draft, scores, sampling
        return Usage()

    async def critique(self, draft: Trajectory, scores: StepScores | None, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Feedback:
        del draft, sampling, draw
        return self.read(scores)

    def read(self, scores: StepScores | None) -> Feedback:
        """The feedback that lies in the scores."""
        if scores is None:
            return NO_FEEDBACK
        limit = scores.threshold if self.threshold is None else self.threshold
        lines = []
        for number, (value, rationale) in enumerate(zip(scores.values, scores.rationales, strict=True), 1):
            if value < limit:  # never true of an unscored step
                lines.append(f"Step {number} looks wrong (score {value:.2g})" + (f": {rationale.strip()}" if rationale else "."))
        return Feedback(critique="\n".join(lines), first_suspect=suspect(scores, self.threshold), scores=scores)


@dataclass(frozen=True, kw_only=True)
class PromptCritic:
    """Asks a policy for a critique of the draft, whose steps are shown numbered and with their scores out of 10. Cost: one answer.

    `template` has places for {question}, {draft} and {limit}, the threshold out of 10; the default is the reviewer's of MAgICoRe (2024), without its example.
    The suspect is the first step whose score is below `threshold` (None: the scores' own), as `ScoreCritic` finds it.
    """

    policy: Policy
    template: str = REVIEW
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_template("PromptCritic.template", self.template, needs=("question", "draft"), places=("question", "draft", "limit"))

    @cached_property
    def fingerprint(self) -> str:
        return f"prompt-critic/{content_hash(self.policy.fingerprint, self.template, str(self.threshold))}"

    @property
    def calls(self) -> int:
        return 1

    def price(self, draft: Trajectory, scores: StepScores | None, *, sampling: Sampling = DEFAULT_SAMPLING) -> Usage | None:
        return price_of_sample(self.policy, self.asked(draft, scores), 1, until=Until.END, sampling=sampling)

    async def critique(self, draft: Trajectory, scores: StepScores | None, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Feedback:
        (answer,) = await self.policy.sample(self.asked(draft, scores), 1, until=Until.END, sampling=sampling, draw=draw)
        return replace(ScoreCritic(threshold=self.threshold).read(scores), critique=answer.text.strip())

    def asked(self, draft: Trajectory, scores: StepScores | None) -> Trajectory:
        """What the policy is asked: the problem with the template for its prompt."""
        limit = self.threshold if self.threshold is not None or scores is None else scores.threshold
        shown = f"{10 * (0.6 if limit is None else limit):g}"
        prompt = self.template.format(question=draft.problem.prompt, draft=numbered(draft, scores=scores), limit=shown)
        return Trajectory(replace(draft.problem, prompt=prompt, id=""))


def suspect(scores: StepScores, threshold: float | None = None) -> int | None:
    """The first step below the threshold; None where there is none or it is not known."""
    found = scores.first_error(threshold)
    return None if found is None or found < 0 else found


async def critiques(bench: Workbench, critic: Critic, drafts: Sequence[Trajectory], scores: Sequence[StepScores | None], *, draw: int = 0) -> list[Feedback]:
    """A critique of every draft, all at once as far as the budget allows; where the critic fails, the feedback that lies in the scores, without its text.

    `draw`: the first draw of every draft; another one than in earlier rounds, lest a draft that is still there gets the same critique again.
    """

    def request(draft: Trajectory, known: StepScores | None, draw: int) -> Request[Feedback]:
        price = critic.price(draft, known, sampling=bench.sampling) if isinstance(critic, PricedCritic) else None
        make = partial(critic.critique, draft, known, sampling=bench.sampling, draw=draw)
        return Request(make, price, critic.calls, f"the critique by {critic.fingerprint}")

    seen: dict[str, int] = {}
    requests = []
    for draft, known in zip(drafts, scores, strict=True):
        seen[draft.key] = seen.get(draft.key, -1) + 1  # equal drafts are criticised anew
        requests.append(request(draft, known, draw + seen[draft.key]))
    limit = critic.threshold if isinstance(critic, ScoreCritic | PromptCritic) else None
    said = [Feedback(first_suspect=None if known is None else suspect(known, limit), scores=known) for known in scores]
    await ask_all(bench, requests, said.__setitem__)
    return said
