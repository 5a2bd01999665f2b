"""Uncertainty-driven labels: rollouts go first to the steps that the policy was unsure of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from stepward.core import ABSTAINED, FAILURES, Count, InputError, LogprobPolicy, Policy, Semantics
from stepward.engine.journaled import JournaledPolicy
from stepward.labeling.chain import Chain, RootedLabeler, all_good, root_drawn, write_cut
from stepward.labeling.completer import Rollout, RolloutBank
from stepward.labeling.estimators import logprob_weighted
from stepward.labeling.probing import Drawn, Located, Probe, bisect, draw, ranked, successes
from stepward.labeling.sheet import Sheet
from stepward.labeling.uncertainty import order_by_jump, order_by_uncertainty, position_entropy

RANKED = ("first_hit", "first_error", "bracket")
SEARCHES = (*RANKED, "bisect", "shifted")


@dataclass(frozen=True, kw_only=True)
class UncertaintyDriven(RootedLabeler):
    """Uncertainty-driven search for the first error (UnPRM: Uncertainty-Based Methods for Automated Process Reward Data Construction, 2025).

    1. Sizing: solutions of the problem are drawn, `multiple` at a time, until `enough` are right or `n_root` are drawn; N, the rollouts a step gets, is how
       many that took, at least `least`. With too few right ones the problem is left out ("abstained"). The root's value is that of N fresh rollouts.
    2. A solution that ended right is good throughout. In a wrong one, steps are probed in the order of `rank`: "jump", the rise of uncertainty over the
       step before (the first step is never asked), or "uncertainty" itself. A step fails if its value is below the root's. If none fails, the last
       step is the error. Steps from the error on are bad.
    3. `value`: "logprob" weighs every rollout by the exponential of its mean token log-probability; "share" weighs all alike.

    `search`: "first_hit" is the paper's and ends with the first failing step that it probes, which need not be the first that fails. "first_error"
    goes on with earlier steps, the first step included, so that the answer is the first failing step; "bracket" also lets a success clear all
    earlier steps. "bisect" halves; "shifted" halves after a first probe at a quarter of the length when the root's value is below 0.3, at three
    quarters from 0.9 on. Ranked searches need a `reader` with token log-probabilities: by default the policy.

    "Below the root's value" is decided at the level of noise: of harmless steps about half fail. Semantics: *prefix*.
    Differences: sizing stops when N is known instead of after 72 solutions and needs 10 right ones, theirs 11 of 72; "first_error" and "bracket" are ours.
    """

    rank: Literal["jump", "uncertainty"] = "jump"
    search: Literal["first_hit", "first_error", "bracket", "bisect", "shifted"] = "first_error"
    value: Literal["logprob", "share"] = "logprob"
    n_root: int = 72
    enough: int = 10
    multiple: int = 8
    least: int = 16
    reader: LogprobPolicy | None = None

    method: ClassVar[str] = "uncertainty-driven"
    semantics: ClassVar[Semantics] = "prefix"

    def __post_init__(self) -> None:
        if self.search not in SEARCHES or self.rank not in ("jump", "uncertainty") or self.value not in ("logprob", "share"):
            raise InputError(
                f"UncertaintyDriven: search is one of {', '.join(SEARCHES)}, rank 'jump' or 'uncertainty', value 'logprob' or 'share'; "
                f"got {self.search!r}, {self.rank!r}, {self.value!r}"
            )
        if min(self.n_root, self.enough, self.multiple, self.least) < 1 or self.enough > self.n_root:
            raise InputError("UncertaintyDriven needs n_root, enough, multiple and least of at least 1 and enough <= n_root")
        if self.search in RANKED and not isinstance(self.teller, LogprobPolicy):
            raise InputError(
                f"search={self.search!r} ranks steps by token log-probabilities, which policy {self.policy.fingerprint} does not tell; "
                "give a reader that does, or use search='bisect'"
            )

    @property
    def teller(self) -> Policy:
        """Whose log-probabilities rank the steps; a journal keeps samples only, so it is the policy inside."""
        policy: Policy = self.policy if self.reader is None else self.reader
        return policy.inner if isinstance(policy, JournaledPolicy) else policy

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank, root: Count | None = None) -> None:
        if root is not None and self.value == "logprob":
            raise InputError("a known count of the root has no log-probabilities; use value='share' with it")
        if chain.correct:
            return all_good(sheet, "the solution ended right")
        sizing = await root_drawn(chain, bank, self.n_root, root, stop=successes(self.enough), batch=self.multiple)
        if sizing.reason is not None:
            return sheet.miss_all(sizing.reason)
        if sizing.count.successes < self.enough:
            return sheet.miss_all(f"{ABSTAINED}: {sizing.count.successes} of {sizing.count.rollouts} solutions are right, {self.enough} are wanted")
        n = self.size(sizing)
        base = sizing if root is not None else await draw(bank, chain.trajectory.prefix(0), n)
        bar = self.worth(base)
        if math.isnan(bar):
            return sheet.miss_all(base.reason or "the policy does not tell the log-probabilities of its rollouts; use value='share'")
        drawn: dict[int, Drawn] = {}
        worths: dict[int, float] = {}

        async def probe(step: int) -> bool | None:
            drawn[step] = await draw(bank, chain.after(step), n)
            worths[step] = self.worth(drawn[step])
            return None if math.isnan(worths[step]) else worths[step] >= bar

        try:
            found = await self.find(probe, chain, bar)
        except FAILURES as error:
            return sheet.miss_all(f"uncertainty failed: {error}")
        write_cut(sheet, chain, found, drawn)
        for step, worth in worths.items():
            sheet.note(step, value=worth, root=bar)
        return None

    async def find(self, probe: Probe, chain: Chain, bar: float) -> Located:
        """The search of the settings, over the steps that can be rolled out."""
        n, fails = chain.n_open, chain.correct is False
        if self.search == "bisect" or self.search == "shifted":
            shift = n // 4 if bar < 0.3 else 3 * n // 4 if bar >= 0.9 else None
            return await bisect(probe, n, end_fails=fails, first_probe=shift if self.search == "shifted" else None)
        return await ranked(probe, await self.order(chain), n, end_fails=fails, then=self.search)

    async def order(self, chain: Chain) -> list[int]:
        """Steps in the order in which they are probed."""
        teller = self.teller
        assert isinstance(teller, LogprobPolicy)
        logprobs = await teller.logprobs(chain.trajectory)
        steps = [position_entropy(logprobs.steps[step]) for step in range(chain.n_open)]
        if self.rank == "uncertainty":
            return order_by_uncertainty(steps)
        jumps = order_by_jump(steps)
        return jumps if self.search == "first_hit" or not steps else [*jumps, 0]

    def size(self, sizing: Drawn) -> int:
        """Rollouts a step: as many as it took to see `enough` right ones, in whole multiples, at least `least` and at most `n_root`."""
        taken = len(sizing.rollouts) or math.ceil(self.enough / sizing.count.value)  # a known count does not tell its order
        return min(max(self.least, self.multiple * math.ceil(taken / self.multiple)), self.n_root)

    def worth(self, drawn: Drawn) -> float:
        """The value of a prefix; NaN when it is not known."""
        if drawn.reason is not None:
            return math.nan
        if self.value == "share":
            return drawn.count.value
        return logprob_weighted([rollout.success for rollout in drawn.rollouts], [mean_logprob(rollout) for rollout in drawn.rollouts])


def mean_logprob(rollout: Rollout) -> float | None:
    """Natural log-probability a token of what a rollout wrote; None where the policy does not tell."""
    known = [logprob for logprob in rollout.logprobs if logprob is not None]
    if len(known) < len(rollout.logprobs) or not rollout.n_tokens:
        return None
    return math.fsum(known) / rollout.n_tokens
