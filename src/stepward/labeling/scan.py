"""SCAN: self-denoising annotation. A policy that is sure of a problem finds its own errors; targets near the error it found are softened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from stepward.core import ABSTAINED, NO_ERROR, Count, InputError, Semantics
from stepward.labeling.chain import Chain, RootedLabeler, all_good, root_drawn
from stepward.labeling.completer import RolloutBank
from stepward.labeling.maps import soften
from stepward.labeling.probing import Drawn, draw, forward
from stepward.labeling.sheet import AFTER_ERROR, Sheet


@dataclass(frozen=True, kw_only=True)
class Scan(RootedLabeler):
    """Self-denoising Monte-Carlo annotation (SCAN: Self-Denoising Monte Carlo Annotation for Robust Process Reward Learning, 2025).

    1. Self-confidence: the share of right ones among `n_root` solutions of the problem. Below `min_confidence` the policy's failures say more about
       the policy than about the step: every step is left out ("abstained").
    2. A solution that ended right is good throughout and costs nothing. In a wrong one, `n` rollouts a step, from the first step on; the first step
       after which none is right is the error. If none is, the error is the last step.
    3. Noise-tolerant targets: 1 before the error, 0 at it, and min(1, share / confidence) for the `depth` steps before it, because a policy that can
       repair errors finds them a little late. Steps after the error are left out.

    Cost: n times the sum of the completions' lengths from the first step to the error. Semantics: *prefix*, softened.
    Differences: the confidence is of graded solutions, theirs counts those without an answer as wrong; the last step is graded, theirs is rolled out
    and a solution without a failing step is dropped. Balancing right and wrong solutions is left to the data set.
    """

    n: int = 8
    n_root: int = 128
    min_confidence: float = 0.75
    depth: int = 2

    method: ClassVar[str] = "scan"
    semantics: ClassVar[Semantics] = "prefix"

    def __post_init__(self) -> None:
        if self.n < 1 or self.n_root < 1 or self.depth < 0:
            raise InputError(f"Scan needs n >= 1, n_root >= 1 and depth >= 0, got n={self.n}, n_root={self.n_root}, depth={self.depth}")
        if not 0.0 < self.min_confidence <= 1.0:
            raise InputError(f"Scan.min_confidence must lie in (0, 1], got {self.min_confidence!r}")

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank, root: Count | None = None) -> None:
        whole = await root_drawn(chain, bank, self.n_root, root)
        confidence = whole.count.value
        if whole.reason is not None:
            return sheet.miss_all(whole.reason)
        if confidence < self.min_confidence:
            return sheet.miss_all(f"{ABSTAINED}: self-confidence {confidence:.3g} is below {self.min_confidence:g}")
        if chain.correct:
            return all_good(sheet, "the solution ended right")
        drawn: dict[int, Drawn] = {}

        async def probe(step: int) -> bool | None:
            drawn[step] = await draw(bank, chain.after(step), self.n)
            return drawn[step].any

        found = await forward(probe, chain.n_open, end_fails=chain.correct is False)
        if found.first is None:  # which steps to soften depends on where the error is
            return sheet.miss_all(next(probed.reason for probed in drawn.values() if probed.reason) or "")
        return self.write(sheet, chain, found.first, drawn, confidence)

    def write(self, sheet: Sheet, chain: Chain, first_error: int, drawn: dict[int, Drawn], confidence: float) -> None:
        """Targets up to the error; what comes after it is left out."""
        shares = [drawn[step].count.value if step in drawn else math.nan for step in range(len(chain))]
        targets = soften(first_error, shares, confidence, self.depth) if first_error != NO_ERROR else [1.0] * chain.n_open
        for step in range(len(chain)):
            if step < len(targets):
                count = drawn[step].count if step in drawn else None
                sheet.value(step, float(targets[step]), step != first_error, count=count, self_confidence=confidence)
            elif first_error == NO_ERROR and chain.outcome is not None:
                sheet.graded(step, chain.outcome)
            else:
                sheet.miss(step, AFTER_ERROR)
