"""Instance-adaptive scaling: as many samples as a problem needs, from a calibrated chance of success. Fitting it is `rewards.calibration`'s business."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from stepward.core import Aggregation, InputError, Node, RewardModel, StepScores, check_aggregation
from stepward.search.beam import StepBeam
from stepward.search.evaluator import Evaluator, Scored
from stepward.search.sampled import at_least_one, judged_solutions, solutions
from stepward.search.strategy import Strategy
from stepward.search.workbench import Workbench

Bound = Literal["low", "value", "high"]
_LEAST, _MOST = 1e-4, 1.0 - 1e-4


def samples_needed(p: float, confidence: float = 0.99) -> int:
    """N = ceil(ln(1 - C) / ln(1 - p)): with N independent tries of chance p, P(at least one success) >= C. p is clipped to [1e-4, 1 - 1e-4].

    Never increasing in p: 1 from p = C on, 44 at p = 0.1 and C = 0.99, 46,050 at the lower clip. Too high a p breaks the guarantee, too low a p only costs.

    Raises: InputError for a confidence outside (0, 1) or an unknown p.
    """
    check_confidence(confidence)
    if math.isnan(p):
        raise InputError("samples_needed takes a known chance, got NaN")
    clipped = min(max(p, _LEAST), _MOST)
    return max(1, math.ceil(math.log1p(-confidence) / math.log1p(-clipped) - 1e-12))


def chance(scores: StepScores, at: int = -1, *, bound: Bound = "low") -> float:
    """The chance of success that the model gives the prefix which ends with step `at`: its lower or upper quantile or its value; NaN where unscored.

    Raises: InputError for a model without quantiles.
    """
    if scores.n_unscored == len(scores):  # a failed request has no quantiles either
        return math.nan
    if bound != "value" and bound not in scores.aspects:
        raise InputError(
            f"the reward model gives no {bound!r} quantile; calibrate it with quantiles (stepward calibrate --method quantile), or take bound='value' "
            "where its values are exact"
        )
    return float((scores.values if bound == "value" else scores.aspects[bound])[at])


@dataclass(frozen=True, kw_only=True)
class AdaptiveBestOfN(Strategy):
    """Best-of-n with as many solutions as the problem seems to need: N = min(n_max, samples_needed(p, confidence)), p being the model's chance on the problem.

    p is the mean, over the first `probes` solutions, of the `bound` of the value after their first step: V(problem) = E[V(first step)], and reward models
    score steps, not bare problems. The probes are candidates like all others, so that nothing is drawn in vain; where none can be scored, N = n_max.
    The ranking uses the value (the median of a quantile calibration), the number its 0.1 quantile: where a calibrated median would stop too early on half of
    the problems, the low quantile does on a tenth. Reports `source["notes"]`: chance and n_samples.

    Cost: N solutions and N scores, between `probes` and n_max. Defaults: confidence 0.99 and the 0.1 quantile from the paper's code; n_max and probes are ours.
    Know What You Don't Know: Uncertainty Calibration of Process Reward Models (2025). Difference: there the model scores the bare question.
    """

    model: RewardModel
    n_max: int = 64
    probes: int = 4
    confidence: float = 0.99
    bound: Bound = "low"
    aggregation: Aggregation = "last"

    name = "adaptive-best-of-n"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, n_max=self.n_max, probes=self.probes)
        check_aggregation(self.aggregation)
        _check_chances(self, self.model, self.confidence)

    @property
    def evaluator(self) -> Evaluator:
        """What a solution is worth."""
        return Scored(model=self.model, aggregation=self.aggregation)

    async def grow(self, bench: Workbench) -> None:
        scored = self.evaluator
        probes = await solutions(bench, min(self.probes, self.n_max))
        await scored.evaluate(bench, probes)
        chances = [chance(node.scores, 0, bound=self.bound) for node in probes if node.scores is not None and len(node.scores)]
        known = [p for p in chances if not math.isnan(p)]
        p = sum(known) / len(known) if known else None
        n = self.n_max if p is None else max(len(probes), min(self.n_max, samples_needed(p, self.confidence)))
        bench.notes.update(chance=p, n_samples=n)
        if n > len(probes):
            await judged_solutions(bench, n - len(probes), scored)


@dataclass(frozen=True, kw_only=True)
class AdaptiveBeam(StepBeam):
    """A step beam that draws as many children as its weakest prefix seems to need: per prefix M = min(expansions, ceil(samples_needed(min_k p_k) / width)).

    p_k is the `bound` of the chance of kept prefix k (unscored ones need the most). First steps: width x expansions, as nothing is known before them.
    `source["notes"]["children"]` lists M level by level. (IASoM.)

    Cost for T steps of l tokens: sum over levels of width x M_t x l policy tokens, at most that of the beam. Defaults: confidence 0.99, 0.1 quantile (its
    code). Know What You Don't Know: Uncertainty Calibration of Process Reward Models (2025).
    """

    confidence: float = 0.99
    bound: Bound = "low"
    aggregation: Aggregation = "last"

    name = "adaptive-beam"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_chances(self, self.model, self.confidence)

    async def grow(self, bench: Workbench) -> None:
        bench.notes["children"] = [self.n_first]
        await super().grow(bench)

    def n_children(self, bench: Workbench, frontier: list[Node]) -> int:
        children = min(self.expansions, math.ceil(samples_needed(min(map(self.chance, frontier)), self.confidence) / self.width))
        bench.notes["children"].append(children)
        return children

    def chance(self, node: Node) -> float:
        """Of the prefix; 0 where it is not known."""
        found = math.nan if node.scores is None else chance(node.scores, bound=self.bound)
        return 0.0 if math.isnan(found) else found


@dataclass(frozen=True, kw_only=True)
class AdaptiveWidthBeam(AdaptiveBeam):
    """A step beam that keeps as few prefixes as seem to be needed: the smallest k with k x expansions >= samples_needed(p_(k)), at most `width`.

    p_(k) is the k-th largest `bound` among the candidates; kept are the k of largest value. `source["notes"]["widths"]` lists k level by level. (IASoK.)

    Cost for T steps of l tokens: sum over levels of k_t x expansions x l policy tokens, at most that of the beam. Defaults as AdaptiveBeam.
    Know What You Don't Know: Uncertainty Calibration of Process Reward Models (2025).
    """

    name = "adaptive-width-beam"

    async def grow(self, bench: Workbench) -> None:
        bench.notes["widths"] = []
        await StepBeam.grow(self, bench)

    def n_children(self, bench: Workbench, frontier: list[Node]) -> int:
        return StepBeam.n_children(self, bench, frontier)

    def select(self, bench: Workbench, candidates: list[Node]) -> list[Node]:
        chances = sorted(map(self.chance, candidates), reverse=True)[: self.width]
        enough = (k for k, p in enumerate(chances, 1) if k * self.expansions >= samples_needed(p, self.confidence))
        k = next(enough, self.width)
        bench.notes["widths"].append(k)
        return bench.keep(candidates, k)


def _check_chances(strategy: Strategy, model: RewardModel, confidence: float) -> None:
    check_confidence(confidence)
    if model.scale != "probability":
        raise InputError(f"{type(strategy).__name__} needs chances, but {model.fingerprint} gives {model.scale} scores; calibrate it (stepward calibrate)")


def check_confidence(confidence: float) -> None:
    """Raises: InputError for a confidence outside (0, 1)."""
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence!r}")
