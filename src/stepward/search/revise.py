"""Revisers: who rewrites a draft. How a search asks them, and how their revisions enter its tree, is in chain.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

from stepward.core import DEFAULT_SAMPLING, Environment, InputError, Outcome, Policy, Problem, Sampling, Step, Trajectory, Until, Usage, content_hash
from stepward.environments.episode import complete, expand
from stepward.labeling.completer import apart
from stepward.search.draws import Draw
from stepward.search.feedback import NO_FEEDBACK, Feedback
from stepward.search.prompts import CONTINUE, REFINE, check_template, listed, numbered

Keep = Literal["nothing", "prefix"]


@runtime_checkable
class Reviser(Protocol):
    """Who rewrites a draft: `revise` gives n trajectories of the draft's own problem. `fingerprint` names all that they depend on.

    Revision i uses noise draw + i. `keeps`: how many of the draft's first steps every revision repeats verbatim. An empty draft is a request for a first one.
    Optional: `price(draft, feedback, n, sampling=...)`, the most that the request charges (None where it cannot know); without it, it is not known.
    Raises RequestFailed when nothing could be written.
    """

    @property
    def fingerprint(self) -> str: ...

    def keeps(self, draft: Trajectory, feedback: Feedback) -> int: ...

    async def revise(
        self, draft: Trajectory, feedback: Feedback = NO_FEEDBACK, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]: ...


@runtime_checkable
class PricedReviser(Reviser, Protocol):
    """A reviser that tells the most that a request charges."""

    def price(self, draft: Trajectory, feedback: Feedback, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage | None: ...


@dataclass(frozen=True, kw_only=True)
class PolicyReviser(ABC):
    """A reviser whose revisions a policy writes: as continuations of what `asked` shows it. A search makes these draws itself, so that they end with its
    budget to the token; `revise` makes them without one."""

    policy: Policy
    environment: Environment
    until: Until = Until.END

    @property
    @abstractmethod
    def fingerprint(self) -> str: ...

    @abstractmethod
    def asked(self, draft: Trajectory, feedback: Feedback) -> Trajectory:
        """What the policy continues: a problem of its own wording, and the steps of the draft that are kept."""

    def keeps(self, draft: Trajectory, feedback: Feedback) -> int:
        return len(self.asked(draft, feedback))

    def noise(self, sampling: Sampling) -> Sampling:
        """The sampling of revisions in a search with the given one."""
        return sampling

    def adopted(self, draft: Trajectory, written: Trajectory) -> Trajectory:
        """What was written, as a trajectory of the draft's problem."""
        return _of(draft.problem, written)

    def draws(self, draft: Trajectory, feedback: Feedback, n: int, *, sampling: Sampling, draw: int) -> list[Draw]:
        """The n draws of a request, for `adopted`; in an environment like `world`."""
        asked, noise = self.asked(draft, feedback), self.noise(sampling)
        return [Draw(asked, draw + index, self.until, noise, self.policy) for index in range(n)]

    def world(self, problem: Problem) -> Environment:
        """The environment, which sees the original problem whatever the policy reads."""
        return Reworded(self.environment, problem)

    async def revise(
        self, draft: Trajectory, feedback: Feedback = NO_FEEDBACK, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        write = expand if self.until is Until.STEP else complete
        asked, world = self.asked(draft, feedback), self.world(draft.problem)
        made = await write(self.policy, world, asked, n, sampling=self.noise(sampling), draw=draw)
        return [self.adopted(draft, trajectory) for trajectory in made]


@dataclass(frozen=True, kw_only=True)
class PromptReviser(PolicyReviser):
    """Asks a policy for a better solution: `template` shows it the question, the draft with numbered steps and scores, and the critique.

    keep "nothing": the policy writes a whole solution. "prefix": the steps before the first suspected one are its own words already, and it writes on from
    there; the draft shows a mark before the suspected step. Without a suspect nothing is kept. `until` STEP writes one step instead of a solution; `form`
    "open" gives back a solution that does not count as ended (an outline, to be filled in). Cost: one solution a revision.

    `template` may use {question}, {draft}, {critique} and {others}; the default is the refiner's of MAgICoRe (2024) without its example, or, for "prefix",
    this project's.

    Raises: InputError for a template without {question} and {draft}, or with places that do not exist.
    """

    template: str | None = None
    keep: Keep = "nothing"
    form: Literal["ended", "open"] = "ended"

    def __post_init__(self) -> None:
        if self.keep not in ("nothing", "prefix") or self.form not in ("ended", "open"):
            raise InputError(f"PromptReviser: keep is 'nothing' or 'prefix' and form 'ended' or 'open', got {self.keep!r}, {self.form!r}")
        check_template("PromptReviser.template", self.words, needs=("question", "draft"))

    @property
    def words(self) -> str:
        """The template in use."""
        return self.template if self.template is not None else CONTINUE if self.keep == "prefix" else REFINE

    @cached_property
    def fingerprint(self) -> str:
        return f"prompt-reviser/{content_hash(self.policy.fingerprint, self.environment.fingerprint, self.words, self.keep, self.until, self.form)}"

    def asked(self, draft: Trajectory, feedback: Feedback) -> Trajectory:
        local = self.keep == "prefix"
        shown = {
            "question": draft.problem.prompt,
            "draft": numbered(draft, scores=feedback.scores, suspect=feedback.first_suspect if local else None),
            "critique": feedback.critique or "None",
            "others": listed(feedback.others),
        }
        problem = replace(draft.problem, prompt=self.words.format(**shown), id="")  # the same task under another prompt
        return Trajectory(problem, _before(draft, feedback) if local else ())

    def adopted(self, draft: Trajectory, written: Trajectory) -> Trajectory:
        revision = super().adopted(draft, written)
        return replace(revision, finished=False, truncated=False) if self.form == "open" else revision


@dataclass(frozen=True, kw_only=True)
class Resume(PolicyReviser):
    """Goes back to before the first suspected step, keeps what was written up to there, and lets the policy write on; without a suspect, from the start.

    Works with any policy: the prompt is the problem's own, and nobody is told what was wrong. Its noise is apart from that of the search, whose first
    draws from the bare problem are the drafts themselves. Cost: the steps from the suspected one on.
    """

    @cached_property
    def fingerprint(self) -> str:
        return f"resume/{content_hash(self.policy.fingerprint, self.environment.fingerprint, self.until)}"

    def asked(self, draft: Trajectory, feedback: Feedback) -> Trajectory:
        return Trajectory(draft.problem, _before(draft, feedback))

    def noise(self, sampling: Sampling) -> Sampling:
        return apart(sampling)


@dataclass(frozen=True)
class Reworded:
    """An environment for a policy that reads another wording of `problem`: it is shown every trajectory as one of the original problem."""

    environment: Environment
    problem: Problem

    @property
    def fingerprint(self) -> str:
        return self.environment.fingerprint

    @property
    def interactive(self) -> bool:
        return self.environment.interactive

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return _of(trajectory.problem, await self.environment.observe(_of(self.problem, trajectory)))

    def is_finished(self, trajectory: Trajectory) -> bool:
        return self.environment.is_finished(_of(self.problem, trajectory))

    async def grade(self, trajectory: Trajectory) -> Outcome:
        return await self.environment.grade(_of(self.problem, trajectory))

    def answer(self, trajectory: Trajectory) -> str | None:
        return self.environment.answer(_of(self.problem, trajectory))


def _of(problem: Problem, trajectory: Trajectory) -> Trajectory:
    return trajectory if trajectory.problem is problem else replace(trajectory, problem=problem)


def _before(draft: Trajectory, feedback: Feedback) -> tuple[Step, ...]:
    """The steps before the first suspected one; none without a suspect."""
    return draft.steps[: feedback.first_suspect or 0]
