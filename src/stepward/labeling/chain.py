"""Chain: a trajectory whose prefixes are completed by a policy, and what all labelers of single chains share. Trees are elsewhere."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from stepward.core import NO_ERROR, Count, Environment, Outcome, Policy, Sampling, Semantics, StepLabels, Trajectory, canonical_json, content_hash, metered
from stepward.labeling.binomial import LEVEL
from stepward.labeling.completer import Completer, RolloutBank
from stepward.labeling.probing import Drawn, Located, Stop, draw
from stepward.labeling.sheet import Sheet


@dataclass(frozen=True)
class Chain:
    """A trajectory to label. `outcome`: the grade of its last step when it has ended, None while it is open."""

    trajectory: Trajectory
    outcome: Outcome | None

    def __len__(self) -> int:
        return len(self.trajectory)

    @property
    def n_open(self) -> int:
        """Steps after which there is something to complete: all, or all but the last of an ended trajectory, which is graded instead."""
        return len(self) - (self.outcome is not None)

    @property
    def correct(self) -> bool | None:
        """Whether it ended right; None when it is open, cut off or ungraded."""
        return None if self.outcome is None else self.outcome.correct

    def after(self, step: int) -> Trajectory:
        """The open prefix that ends with this step (0-based)."""
        return self.trajectory.prefix(step + 1)

    @property
    def open_prefixes(self) -> list[Trajectory]:
        return [self.after(step) for step in range(self.n_open)]


@dataclass(frozen=True, kw_only=True)
class ChainLabeler(ABC):
    """A labeler that completes prefixes of one trajectory with `policy` in `environment`. Subclasses fill in a sheet.

    The fingerprint names the method and all its parameters. A trajectory without steps costs nothing.
    """

    policy: Policy
    environment: Environment
    sampling: Sampling = Sampling(temperature=1.0)

    method: ClassVar[str]
    semantics: ClassVar[Semantics]

    @abstractmethod
    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        """Label every step of the chain on the sheet; what is left blank stays unlabelled."""

    @property
    def completer(self) -> Completer:
        return Completer(policy=self.policy, environment=self.environment, sampling=self.sampling)

    @property
    def settings(self) -> dict[str, Any]:
        """The method's own parameters, as JSON."""
        own = [field.name for field in fields(self) if field.name not in ("policy", "environment", "sampling")]
        return {name: _plain(getattr(self, name)) for name in own}

    @property
    def fingerprint(self) -> str:
        return f"{self.method}/{content_hash(canonical_json([*self.completer.parts, self.settings]))}"

    def describe(self) -> dict[str, Any]:
        return {"method": self.method, **self.completer.describe(), **self.settings, "level": LEVEL}

    async def label(self, trajectory: Trajectory) -> StepLabels:
        """One label a step."""
        return await self._label(trajectory)

    async def _label(self, trajectory: Trajectory, **known: Any) -> StepLabels:
        sheet = Sheet(len(trajectory))
        with metered() as ledger:
            if len(trajectory):
                bank = RolloutBank(self.completer)
                outcome = await bank.completer.grade(trajectory) if trajectory.ended else None
                await self.fill(sheet, Chain(trajectory, outcome), bank, **known)
        return sheet.labels(self.semantics, self.describe(), ledger.usage)


@dataclass(frozen=True, kw_only=True)
class RootedLabeler(ChainLabeler):
    """A labeler that also needs the value of the problem itself: rollouts from the empty prefix, or a count of them that the caller has."""

    async def label(self, trajectory: Trajectory, *, root: Count | None = None) -> StepLabels:
        """One label a step. `root`: successes of solutions of this problem that are known already; without it the policy writes them.

        A journal names labels by the trajectory alone, so a known root is for a labeler outside one.
        """
        return await self._label(trajectory, root=root)

    @abstractmethod
    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank, root: Count | None = None) -> None: ...


async def root_drawn(chain: Chain, bank: RolloutBank, n: int, root: Count | None, *, stop: Stop | None = None, batch: int | None = None) -> Drawn:
    """Rollouts from before the first step, or the known count of them."""
    if root is not None:
        return Drawn((), root, root.rollouts, None if root.rollouts else "the known count of the problem's solutions is empty")
    return await draw(bank, chain.trajectory.prefix(0), n, stop=stop, batch=batch)


def write_cut(sheet: Sheet, chain: Chain, found: Located, drawn: Mapping[int, Drawn]) -> None:
    """Labels "no error so far" from a search for the first failing step, with the counts of the steps that were probed.

    Where the search broke off, steps up to a probed success are good, steps from a probed failure on are bad, and those between are unlabelled. The
    last step of a trajectory that was cut off or not graded is unlabelled unless an earlier one is bad.
    """
    first = min((step for step, good in found.verdicts.items() if good is False), default=len(chain)) if found.first is None else found.first
    cut = len(chain) if first == NO_ERROR else first
    cleared = max((step for step, good in found.verdicts.items() if good and step < cut), default=-1) if found.first is None else cut - 1
    lost = next((reason for probed in drawn.values() if (reason := probed.reason)), "the search did not end")
    for step in range(len(chain)):
        count = drawn[step].count if step in drawn else None
        if cleared < step < cut:
            sheet.miss(step, lost, count=count)
        else:
            sheet.good_or_bad(step, step < cut, count=count)
    if chain.outcome is not None and cut == len(chain) and chain.correct is None:
        sheet.miss(len(chain) - 1, chain.outcome.reason or "the outcome is not known")
    if chain.correct is False:
        sheet.good_or_bad(len(chain) - 1, False)
        sheet.confidence[-1] = 1.0


def all_good(sheet: Sheet, why: str) -> None:
    """Every step is taken to be good, without a probe."""
    for step in range(len(sheet)):
        sheet.good_or_bad(step, True, because=why)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    fingerprint = getattr(value, "fingerprint", None)
    return value if fingerprint is None else fingerprint
