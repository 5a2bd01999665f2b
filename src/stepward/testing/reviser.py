"""Scripted revisers: they mend and break ladder solutions with known chances, for exact tests of refinement loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from stepward.core import DEFAULT_SAMPLING, InputError, Sampling, Step, Trajectory, Usage, canonical_json, charge, content_hash
from stepward.engine.noise import uniforms
from stepward.search.feedback import NO_FEEDBACK, Feedback
from stepward.testing.ladder import SEPARATOR


@dataclass(frozen=True, kw_only=True)
class LadderReviser:
    """Rewrites solutions of a `Ladder`: a wrong one comes out right with chance `fix`, a right one wrong with chance `breaks`.

    keep "prefix": the steps before the first suspected one stay, and a slip among them cannot be mended. What is rewritten wrongly slips at its first step.
    Revision i of a draft uses noise of (seed, draft, draw + i). It writes a token a step.
    """

    fix: float = 1.0
    breaks: float = 0.0
    keep: Literal["nothing", "prefix"] = "nothing"

    def __post_init__(self) -> None:
        for name in ("fix", "breaks"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"LadderReviser.{name} must lie in [0, 1], got {getattr(self, name)!r}")

    @property
    def fingerprint(self) -> str:
        return f"ladder-reviser/{content_hash(canonical_json(asdict(self)))[:16]}"

    def keeps(self, draft: Trajectory, feedback: Feedback) -> int:
        return 0 if self.keep == "nothing" else min(feedback.first_suspect or 0, len(draft))

    def price(self, draft: Trajectory, feedback: Feedback, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """What `revise` charges."""
        del sampling, draw
        return Usage(policy_tokens=n * (int(draft.problem.metadata["steps"]) - self.keeps(draft, feedback)), policy_prefill=len(draft), calls=1)

    async def revise(
        self, draft: Trajectory, feedback: Feedback = NO_FEEDBACK, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        charge(self.price(draft, feedback, n))
        kept = draft.steps[: self.keeps(draft, feedback)]
        right = not _slipped(draft.steps) and bool(draft.steps) and draft.steps[-1].text == "yes"
        chance = 1.0 - self.breaks if right else 0.0 if _slipped(kept) else self.fix
        noise = [uniforms(sampling.seed, f"revise {draft.key}", draw + index, 0)[0] for index in range(n)]
        return [self._written(draft, kept, draw + index, mended=bool(noise[index] < chance)) for index in range(n)]

    def _written(self, draft: Trajectory, kept: tuple[Step, ...], draw: int, *, mended: bool) -> Trajectory:
        n_steps = int(draft.problem.metadata["steps"])
        steps = list(kept)
        for t in range(len(kept), n_steps - 1):
            slips = not mended and t == len(kept)
            steps.append(Step(f"slip {t}" if slips else f"rung {t} by reviser {draw}", SEPARATOR, n_tokens=1))
        return Trajectory(draft.problem, (*steps, Step("yes" if mended else "no", n_tokens=1)), finished=True)


def _slipped(steps: Sequence[Step]) -> bool:
    return any(step.text.startswith("slip") for step in steps)
