"""label_values: every step's value to a stated precision, by stopped counts. No model of the chain, no prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stepward.core import Count, StepLabels, Trajectory
from stepward.core.labels import first_bad
from stepward.labeling.adaptive.beta import beta_cdf
from stepward.labeling.adaptive.confidence import Interval
from stepward.labeling.adaptive.stopped import StoppedBinomial, stopped_by
from stepward.labeling.adaptive.stopping import Decision, StopRule
from stepward.labeling.completer import Completer, RolloutBank


@dataclass(frozen=True)
class Counted:
    """What the rollouts through one prefix came to; `reason` when they never reached an end of the rule. `beyond`: more that came by after the end."""

    successes: int
    n: int
    decision: Decision
    beyond: int = 0
    reason: str | None = None


async def label_values(completer: Completer, trajectory: Trajectory, *, rule: StopRule, level: float = 0.95, threshold: float = 0.5) -> StepLabels:
    """Value labels, from the first step to the last, so that the dear rollouts of early prefixes serve the later ones that they pass through.

    Given that a rollout passes through a prefix, how it ends is one more fair draw from there, whatever was drawn before: the outcomes of those that pass, in
    the order of drawing, are independent with chance V, and the rule reads them one by one. What comes by after its end is not used, so that the law of
    the count is the rule's alone.
    """
    law = stopped_by(rule)
    bank, n = RolloutBank(completer), len(trajectory)
    outcome = await completer.grade(trajectory) if n and trajectory.ended else None
    n_open = n - 1 if outcome is not None else n
    counted = [await count_through(bank, trajectory.prefix(t), law) for t in range(1, n_open + 1)]
    values: list[float] = []
    bounds: list[Interval | None] = []
    chances: list[float] = []
    reasons: list[str | None] = []
    hard: list[bool | None] = []
    for found in counted:
        value = math.nan if found.reason else law.estimate(found.successes, found.n)
        good, bar = (None, math.nan) if found.reason else _verdict(found, value, rule, threshold)
        values.append(value)
        bounds.append(None if found.reason else law.interval(found.successes, found.n, level))
        chances.append(math.nan if good is None else _chance(found, good, bar))
        reasons.append(found.reason)
        hard.append(good)
    if outcome is not None:
        known = outcome.value
        values.append(math.nan if known is None else known)
        bounds.append(None if known is None else (known, known))
        chances.append(math.nan if known is None else 1.0)
        reasons.append(outcome.reason if known is None else None)
        hard.append(None if known is None else known > threshold)
    evidence = [({"kind": "stopped count", "rule": found.decision.value, "passed_later": found.beyond},) for found in counted]
    return StepLabels(
        np.array(values, dtype=np.float64),
        "value",
        tuple(hard),
        first_bad(hard),
        tuple(reasons),
        counts=(*(Count(found.successes, found.n) if found.n else None for found in counted), *([None] if outcome is not None else [])),
        confidence=np.array(chances, dtype=np.float64),
        bounds=tuple(bounds),
        evidence=(*evidence, *([()] if outcome is not None else [])),
        source={"rollouts": len(bank.rollouts)},
    )


async def count_through(bank: RolloutBank, prefix: Trajectory, law: StoppedBinomial) -> Counted:
    """Read the rollouts through a prefix until the rule ends, drawing as many more at a time as it is bound to need.

    Rollouts without a grade drop out; it gives up when a request failed, or brought no grade and most of what came by has none.
    """
    if prefix.ended:
        return Counted(0, 0, Decision.GO_ON, reason="cut off: nothing can follow it")
    while True:
        passing = bank.through(prefix)
        outcomes = [rollout.success for rollout in passing if rollout.success is not None]
        successes = 0
        for n, success in enumerate(outcomes, 1):
            successes += success
            decision = law.rule.decide(successes, n)
            if decision is not Decision.GO_ON:
                return Counted(successes, n, decision, len(outcomes) - n)
        made = await bank.draw(prefix, law.fewest(successes, len(outcomes)))
        lost = sum(rollout.success is None for rollout in (*passing, *made))
        if not made or (lost > len(outcomes) and all(rollout.success is None for rollout in made)):
            return Counted(successes, len(outcomes), Decision.GO_ON, reason=bank.why_none(prefix))


def _verdict(found: Counted, value: float, rule: StopRule, threshold: float) -> tuple[bool, float]:
    """Whether a step is good, and the threshold that this is about: the rule's own where it has decided, NaN where the rule has none."""
    if found.decision in (Decision.GOOD, Decision.BAD):
        return found.decision is Decision.GOOD, float(getattr(rule, "threshold", math.nan))
    return value > threshold, threshold


def _chance(found: Counted, good: bool, threshold: float) -> float:
    """P(V > threshold) or its complement under Beta(1/2, 1/2); at threshold 0 a success is proof and its absence proves nothing."""
    if math.isnan(threshold):
        return math.nan
    if threshold <= 0.0:
        return 1.0 if good else math.nan
    below = beta_cdf(threshold, 0.5 + found.successes, 0.5 + found.n - found.successes)
    return min(1.0, max(0.0, 1.0 - below if good else below))
