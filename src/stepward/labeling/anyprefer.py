"""Anyprefer: pairs of next steps that a tool-informed judge ranks first and last, accepted when another reward model agrees."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

from stepward.core import FAILURES, Environment, InputError, Labeler, Policy, RewardModel, Sampling, Trajectory, Usage, canonical_json, content_hash, metered
from stepward.environments.episode import expand
from stepward.labeling.judges.asking import hear
from stepward.labeling.pairs import StepPair


@dataclass(frozen=True)
class Preferred:
    """The pair, or the reason why none was accepted; how many rounds it took."""

    pair: StepPair | None
    reason: str | None = None
    rounds: int = 0
    usage: Usage = Usage()


@dataclass(frozen=True, kw_only=True)
class Anyprefer:
    """`n` next steps by `policy`, ranked by what `tools` say of each (bad < undecided < good) and then by `judge`; best and worst are a pair if
    `scorer` prefers
    the best by at least `bar`. Else a new round with new steps, at most `rounds`. Anyprefer: An Agentic Framework for Preference Data Synthesis (2025).

    `tools`: a labeler with *local* labels (`ToolLabels`), or None. `scorer`: a reward model other than the judge, or None, in which case the judge's own
    margin must reach the bar. A candidate that cannot be scored is in no pair; equal candidates make none. Differences from the paper: candidates
    are next steps
    at one prefix rather than whole responses, and a rejected pair leads to new candidates, not to rewritten prompts.
    """

    policy: Policy
    environment: Environment
    judge: RewardModel
    tools: Labeler | None = None
    scorer: RewardModel | None = None
    n: int = 5
    bar: float = 0.0
    rounds: int = 3
    sampling: Sampling = Sampling(temperature=1.0)

    def __post_init__(self) -> None:
        if self.n < 2 or self.rounds < 1:
            raise InputError(f"Anyprefer needs n >= 2 candidates and rounds >= 1, got {self.n} and {self.rounds}")

    @property
    def fingerprint(self) -> str:
        parts: list[Any] = [part and part.fingerprint for part in (self.policy, self.environment, self.judge, self.tools, self.scorer)]
        return f"anyprefer/{content_hash(canonical_json([*parts, self.n, self.bar, self.rounds, self.sampling.to_record()]))}"

    async def pair(self, prefix: Trajectory) -> Preferred:
        """The pair of next steps after an open prefix."""
        reason = ""
        with metered() as ledger:
            for turn in range(self.rounds):
                try:
                    drawn = await expand(self.policy, self.environment, prefix, self.n, sampling=self.sampling, draw=self.n * turn)
                except FAILURES as error:
                    return Preferred(None, f"no candidates: {error}", turn + 1, ledger.usage)
                found = await self._judged(prefix, drawn)
                if isinstance(found, StepPair):
                    return Preferred(found, None, turn + 1, ledger.usage)
                reason = found
        return Preferred(None, reason, self.rounds, ledger.usage)

    async def _judged(self, prefix: Trajectory, drawn: list[Trajectory]) -> StepPair | str:
        """The pair of one round, or why there is none."""
        candidates = list({candidate.key: candidate for candidate in drawn if len(candidate) > len(prefix)}.values())
        ranks = await asyncio.gather(*(self._rank(candidate) for candidate in candidates))
        ranked = sorted(((rank, -at) for at, rank in enumerate(ranks) if rank is not None), reverse=True)
        if len(ranked) < 2 or ranked[0][0] == ranked[-1][0]:
            return "the candidates could not be told apart"
        (best, i), (worst, j) = ranked[0], ranked[-1]
        better, worse = candidates[-i], candidates[-j]
        margin = best[1] - worst[1] if self.scorer is None else await self._score(self.scorer, better) - await self._score(self.scorer, worse)
        if math.isnan(margin) or margin < self.bar:
            return f"the reward model prefers the best by {margin:.3f}, less than {self.bar}"
        source = {"method": "anyprefer", "tools": [best[0], worst[0]], "judge": [best[1], worst[1]], "margin": margin, "labeler": self.fingerprint}
        return StepPair(prefix, better.steps[len(prefix) :], worse.steps[len(prefix) :], min(1.0, max(0.0, margin)), source)

    async def _rank(self, candidate: Trajectory) -> tuple[int, float] | None:
        """(what tools say: 1 good, 0 undecided, -1 bad; the judge's score) of the last step."""
        score = await self._score(self.judge, candidate)
        if math.isnan(score):
            return None
        good = None if self.tools is None else (await self.tools.label(candidate)).hard[-1]
        return (0 if good is None else 1 if good else -1), score

    async def _score(self, model: RewardModel, candidate: Trajectory) -> float:
        return float((await hear(model, candidate)).values[-1])
