"""Majority votes that stop sampling when they are settled. The stopping rules are in consensus.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stepward.core import InputError
from stepward.search.consensus import BetaMajority, Certain, VoteStop, Window
from stepward.search.sampled import Majority, at_least_one, solutions
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class AdaptiveMajority(Majority):
    """A majority vote of at most `n` solutions, drawn `wave` at a time until a rule says that the vote is settled.

    `rule`: "beta" P(leader beats runner-up) >= `confidence` under a uniform prior (Adaptive-Consistency, 2023); "window" the last `window` answers agree
    (Early-Stopping Self-Consistency, 2024; waves are windows); "certain" no votes still to come could change the winner: the answer of all n votes, always.
    All that is drawn votes; a draw that failed is a vote for nothing, and is not asked for again. `source["notes"]`: n_samples and whether the vote was
    settled.

    Cost: between one wave and n solutions, no scores. Defaults: confidence 0.95 and window 5 from the papers, 40 solutions as in both; one wave of 4 is ours
    (the paper draws one at a time, which keeps batches small).
    """

    n: int = 40
    rule: Literal["beta", "window", "certain"] = "beta"
    confidence: float = 0.95
    window: int = 5
    wave: int = 4

    name = "adaptive-majority"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, wave=self.wave)
        if self.rule not in ("beta", "window", "certain"):
            raise InputError(f"AdaptiveMajority.rule must be one of beta, window, certain, got {self.rule!r}")
        _ = self.stop

    @property
    def stop(self) -> VoteStop:
        """The rule."""
        if self.rule == "window":
            return Window(self.window)
        return Certain(self.n) if self.rule == "certain" else BetaMajority(self.confidence)

    async def grow(self, bench: Workbench) -> None:
        wave = self.window if self.rule == "window" else self.wave
        answers: list[str | None] = []
        n_samples, settled = 0, False
        while len(answers) < self.n and not settled:
            asked = min(wave, self.n - len(answers))
            drawn = bench.answers(await solutions(bench, asked))
            answers += [*drawn, *[None] * (asked - len(drawn))]
            n_samples += len(drawn)
            settled = self.stop.settled(answers)
            bench.notes.update(n_samples=n_samples, settled=settled)
