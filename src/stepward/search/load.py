"""Strategies by the names that users type."""

from __future__ import annotations

from stepward.core import Aggregation, Environment, InputError, Policy, RewardModel, Sampling, Search
from stepward.search.beam import StepBeam
from stepward.search.sampled import BestOfN, Majority, WeightedBestOfN

STRATEGIES = ("majority", "best-of-n", "weighted", "beam")


def load_search(
    strategy: str,
    *,
    policy: Policy,
    environment: Environment,
    model: RewardModel | None = None,
    n: int = 16,
    width: int = 4,
    aggregation: Aggregation = "min",
    sampling: Sampling = Sampling(),
) -> Search:
    """The strategy with this name. `n` is the number of solutions; a beam keeps `width` prefixes and extends each n / width times.

    Raises: InputError for an unknown name, a missing reward model, or an `n` that `width` does not divide.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"unknown strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}")
    if strategy == "majority":
        return Majority(policy=policy, environment=environment, n=n, sampling=sampling)
    if model is None:
        raise InputError(f"strategy {strategy!r} needs a reward model (--model); majority needs none")
    if strategy == "beam":
        if width < 1 or n % width:
            raise InputError(f"a beam of width {width} needs n to be a multiple of {width}, got {n}")
        return StepBeam(policy=policy, environment=environment, model=model, width=width, expansions=n // width, aggregation=aggregation, sampling=sampling)
    kind = BestOfN if strategy == "best-of-n" else WeightedBestOfN
    return kind(policy=policy, environment=environment, model=model, n=n, aggregation=aggregation, sampling=sampling)
