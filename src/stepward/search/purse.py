"""Purse: what one search has spent of its budget, and which requests still fit. What requests may charge at most they tell themselves (core/price.py)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from stepward.core import (
    FAILURES,
    InputError,
    Policy,
    Problem,
    RewardModel,
    Sampling,
    StopRun,
    Trajectory,
    Until,
    Usage,
    price_of_sample,
    price_of_score,
)
from stepward.core.usage import Ledger
from stepward.search.budget import Budget, costs

Price = dict[str, int]  # by unit of a budget, see `costs`
_FREE = Usage()
_START = Trajectory(Problem("?"))  # what policies and models are asked about to learn whether they tell prices at all
_SOLVED = _START.extend("?", finished=True)


class Stopped(Exception):
    """Ends a search from inside; what it has found so far is its answer. Not an error: strategies let it pass."""


class OutOfBudget(Stopped):
    """The next request does not fit the budget."""


class Unpriced(StopRun):
    """A request that cannot tell its price under a budget in its unit. It would be so for every problem, hence the run ends."""


class Purse:
    """What one search may spend (`limits`, by unit), has spent by its ledger, and how many calls it has made. `within`: the purse that this is a part of."""

    def __init__(self, limits: Mapping[str, float], ledger: Ledger, *, within: Purse | None = None) -> None:
        self.limits, self.ledger, self.calls = dict(limits), ledger, 0
        self.short = False  # whether something was left out, or cut off, for the budget
        self._within = within
        self._known: set[str] = set() if within is None else within._known  # policies and models that tell their prices

    @property
    def spent(self) -> dict[str, int]:
        """So far, in the units of a budget."""
        return costs(self.ledger.usage, self.calls)

    @property
    def left(self) -> Price:
        """What each limit leaves."""
        spent = self.spent
        return {name: int(limit) - spent[name] for name, limit in self.limits.items()}

    def count(self, calls: int) -> None:
        """Calls that are being made."""
        self.calls += calls
        if self._within is not None:
            self._within.count(calls)

    def fitting(self, prices: Iterable[Price]) -> int:
        """How many of the first requests fit together, at the most that they may charge."""
        left, n = self.left, 0
        for price in prices:
            for name in left:
                left[name] -= price[name]
            if min(left.values(), default=0) < 0:
                break
            n += 1
        return n

    def waves(self, n: int, price: Callable[[int], Price | None]) -> Iterator[tuple[list[int], bool]]:
        """The indices below n in waves, each as many as fit the budget together at the most that they may charge. An index that does not fit by itself is
        a wave of its own, with False. Prices are asked for once; None passes over an index."""
        if not self.limits:
            yield list(range(n)), True
            return
        start, next_price = 0, None
        while start < n:
            left, wave = self.left, list[int]()
            while start < n:
                next_price = price(start) if next_price is None else next_price
                if next_price is not None:
                    left = {name: rest - next_price[name] for name, rest in left.items()}
                    if min(left.values()) < 0:
                        break
                    wave.append(start)
                start, next_price = start + 1, None
            if wave:
                yield wave, True
            elif start < n:
                yield [start], False
                start, next_price = start + 1, None

    def most(self, price: Callable[[int], Price], limit: int) -> int:
        """The largest number up to `limit` whose price fits, where prices grow with it; 0 where none does."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.fitting([price(middle)]):
                low = middle
            else:
                high = middle - 1
        return low

    def part(self, ledger: Ledger, price: Price | None) -> Purse:
        """A purse for one of several requests that are made at once: at most `price` (None: all that is left), metered by a ledger inside this one's."""
        left = self.left
        if min(left.values(), default=1) <= 0:
            raise self.out()
        return Purse({name: most if price is None else min(most, price[name]) for name, most in left.items()}, ledger, within=self)

    def fell_short(self) -> None:
        """Something was left out, or cut off, for the budget."""
        self.short = True
        if self._within is not None:
            self._within.fell_short()

    def out(self) -> OutOfBudget:
        """Says which limit is spent, or nearest to it."""
        self.fell_short()
        spent = self.spent
        worst = max(self.limits, key=lambda name: spent[name] / self.limits[name])
        whole = f"the budget of {self.limits[worst]:,.0f} {worst}"
        return OutOfBudget(f"{whole} is spent" if not self.left[worst] else f"{whole} has no room for the next request after {spent[worst]:,}")

    # Prices

    def of_draw(self, policy: Policy, prefix: Trajectory, *, until: Until, sampling: Sampling, draw: int) -> Price:
        """Raises: Unpriced; what the policy raises for a prefix that it cannot continue."""
        self._check(policy, _refusal_of_policy)
        return costs(price_of_sample(policy, prefix, 1, until=until, sampling=sampling, draw=draw), 1)

    def of_score(self, model: RewardModel, trajectory: Trajectory) -> Price:
        """Raises: Unpriced; what the model raises for a trajectory that it cannot read."""
        self._check(model, _refusal_of_model)
        return self.of_request(price_of_score(model, trajectory), 1, model.fingerprint)

    def of_request(self, price: Usage | None, calls: int, what: str) -> Price:
        """A price that is None is unknown: refused under a limit of reward tokens or FLOPs, and free in the others.

        Raises: Unpriced.
        """
        if price is None and not self.limits.keys() <= {"policy_tokens", "calls"}:
            raise Unpriced(_unpriced(what))
        return costs(price or _FREE, calls)

    def _check(self, part: Any, refusal: Callable[[Any, Container[str]], str | None]) -> None:
        """Once for every policy and model."""
        if "flops" in self.limits or "reward_tokens" in self.limits:
            if part.fingerprint not in self._known and (why := refusal(part, self.limits)) is not None:
                raise Unpriced(why)
            self._known.add(part.fingerprint)


def check_prices(strategy: Any) -> None:
    """That the policies and reward models among a strategy's parts tell what its budget has to know of them.

    Raises: InputError naming the one that does not, and which budget can be kept.
    """
    budget: Budget = strategy.budget
    if budget.reward_tokens is None and budget.flops is None:
        return
    for part in _parts(strategy):
        why = _refusal_of_policy(part, budget.counted) if isinstance(part, Policy) else _refusal_of_model(part, budget.counted)
        if why is not None:
            raise InputError(why)


def check_price(strategy: Any, what: str, ask: Callable[[Trajectory], Usage | None]) -> None:
    """The same for a part that is asked in another way, by the price that it tells of a solution of one step.

    Raises: InputError where that is None and the budget has to know it.
    """
    budget: Budget = strategy.budget
    if (budget.reward_tokens is not None or budget.flops is not None) and _told(lambda: ask(_SOLVED)) is None:
        raise InputError(_unpriced(what))


def _parts(value: Any) -> Iterator[Any]:
    """The policies and reward models in the fields of a dataclass, however deep."""
    if isinstance(value, Policy | RewardModel):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part)


def _refusal_of_policy(policy: Policy, limits: Container[str]) -> str | None:
    """Why a budget with such limits cannot be kept with this policy; None where it can."""
    return None if "flops" not in limits or _told(lambda: price_of_sample(policy, _START).flops) else _uncounted("policy", policy.fingerprint)


def _refusal_of_model(model: RewardModel, limits: Container[str]) -> str | None:
    if "reward_tokens" not in limits and "flops" not in limits:
        return None
    price = _told(lambda: price_of_score(model, _SOLVED))
    if price is None:
        return _unpriced(model.fingerprint)
    if "flops" in limits and isinstance(price, Usage) and price.reward_tokens + price.reward_written and not price.flops:
        return _uncounted("reward model", model.fingerprint)
    return None


def _told(ask: Callable[[], Usage | int | None]) -> Usage | int | None:
    """What it tells; a policy or model that refuses what it is asked about has said nothing against itself."""
    try:
        return ask()
    except FAILURES:
        return 1


def _uncounted(what: str, fingerprint: str) -> str:
    return f"{what} {fingerprint} does not count FLOPs, so a budget of FLOPs cannot be kept; give policy_tokens, reward_tokens or calls instead"


def _unpriced(what: str) -> str:
    return f"{what} cannot tell its price before it is asked, so a budget of reward tokens or FLOPs cannot be kept; give policy_tokens or calls instead"
