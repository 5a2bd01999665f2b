"""Workbench: what one search of one problem works with: its tree, its budget, and the requests to policies and reward models that grow and judge the tree.

Which prefixes to extend and which to keep is a strategy's business. Batching across searches happens below, in the policies and models.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stepward.core import (
    FAILURES,
    Environment,
    InputError,
    Kind,
    Node,
    Policy,
    Problem,
    RewardModel,
    Sampling,
    StepScores,
    Trajectory,
    Tree,
    Until,
    Usage,
    price_of_sample,
    price_of_score,
    top,
)
from stepward.core.usage import NO_USAGE, Ledger
from stepward.engine.noise import row_key, uniforms
from stepward.environments.episode import settle
from stepward.search.budget import NO_BUDGET, Budget, costs
from stepward.search.watching import announce

_FAILED = "scoring failed"
Priced = tuple[Usage, int]  # the most that a request may charge, and the calls that it counts as


class Stopped(Exception):
    """Ends a search from inside; what it has found so far is its answer. Not an error: strategies let it pass."""


class OutOfBudget(Stopped):
    """The next request does not fit the budget."""


@dataclass(frozen=True)
class _Draw:
    """One continuation that was asked for: number `draw` of `prefix`."""

    prefix: Trajectory
    draw: int
    until: Until
    sampling: Sampling
    policy: Policy


class Workbench:
    """The tree of one problem, and the ways to grow it. Every request is metered, kept within `budget`, and fails alone.

    `expand` and `complete` add children, `score` asks a reward model; all of them raise `Stopped` when the budget is spent (after adding what it
    allowed) or when every request of a call failed. `failures` holds the reasons of requests that failed.
    """

    def __init__(
        self, problem: Problem, policy: Policy, environment: Environment, *, sampling: Sampling, budget: Budget = NO_BUDGET, ledger: Ledger | None = None
    ) -> None:
        self.tree = Tree(problem)
        self.policy = policy
        self.environment = environment
        self.sampling = sampling
        self.budget = budget
        self.ledger = Ledger() if ledger is None else ledger  # an open one (see `metered`): what is awaited charges it
        self.failures: list[str] = []
        self.stopped: str | None = None
        self.calls = 0
        self._drawn = Counter[tuple[str, str, Until]]()
        self._n_random = 0
        self._one_at_a_time = asyncio.Lock()

    # What is there

    @property
    def problem(self) -> Problem:
        return self.tree.problem

    @property
    def root(self) -> Node:
        return self.tree.root

    @property
    def spent(self) -> dict[str, float]:
        """So far, in the units of a budget."""
        return costs(self.ledger.usage, self.calls)

    def answers(self, nodes: Sequence[Node]) -> list[str | None]:
        """The canonical answer of each node's trajectory; None where it states none."""
        return [self.environment.answer(node.trajectory) for node in nodes]

    def random(self, n: int = 1) -> list[float]:
        """The search's next n random numbers in (0, 1): a function of the sampling seed, the problem and how many were taken before."""
        found = uniforms(self.sampling.seed, f"search {self.root.trajectory.key}", self._n_random, 0, n)
        self._n_random += 1
        return [float(number) for number in found]

    # Growing

    async def expand(
        self,
        nodes: Sequence[Node],
        n: int | Sequence[int] = 1,
        *,
        policy: Policy | None = None,
        sampling: Sampling | None = None,
        kind: Kind = "sample",
    ) -> list[Node]:
        """`n` children of every open node (or n[i] of node i), one step further, with the environment's observation; ordered by parent.

        Equal prefixes take different draws, so their children are independent. A node at `max_steps` gets one child with the same steps, truncated.
        """
        return await self._grow(nodes, n, Until.STEP, policy or self.policy, sampling or self.sampling, kind)

    async def complete(
        self,
        nodes: Sequence[Node],
        n: int | Sequence[int] = 1,
        *,
        policy: Policy | None = None,
        sampling: Sampling | None = None,
        kind: Kind = "sample",
    ) -> list[Node]:
        """`n` whole solutions from every open node (or n[i] of node i), each added as one child, whatever number of steps it has; ordered by parent."""
        return await self._grow(nodes, n, Until.END, policy or self.policy, sampling or self.sampling, kind)

    def add(self, parent: Node, trajectory: Trajectory, *, kind: Kind = "sample", revises: Node | None = None) -> Node:
        """A child that came about in another way."""
        node = self.tree.add(parent, trajectory, kind=kind, revises=revises)
        announce(self.tree)
        return node

    def keep(self, nodes: Sequence[Node], k: int, *, key: Callable[[Node], float] = lambda node: node.value, why: str | None = None) -> list[Node]:
        """The k best of `nodes` (see `top`); the others are dropped, with the reason."""
        kept = top(nodes, k, key=key)
        chosen = set(map(id, kept))
        for node in nodes:
            if id(node) not in chosen:
                node.drop(why or (f"not among the {k} best" if node.reason is None else f"unscored: {node.reason}"))
        return kept

    # Judging

    async def score(self, model: RewardModel, trajectories: Sequence[Trajectory]) -> list[StepScores]:
        """The model's scores of each trajectory; unscored with the reason where a request fails."""

        async def one(trajectory: Trajectory) -> StepScores:
            self.calls += 1
            scores = await score_or_reason(model, trajectory)
            self.failures += [reason for reason in scores.reasons if reason and reason.startswith(_FAILED)][:1]
            return scores

        if not self.budget.counted:
            return list(await asyncio.gather(*(one(trajectory) for trajectory in trajectories)))
        found: list[StepScores] = []
        async with self._one_at_a_time:
            while len(found) < len(trajectories):
                waiting = trajectories[len(found) :]
                fitting = self._fitting([self._price_of_score(model, trajectory) for trajectory in waiting])
                if not fitting:
                    raise self._out()
                found += await asyncio.gather(*(one(trajectory) for trajectory in waiting[:fitting]))
        return found

    async def ask(self, request: Any, *, calls: int = 1, price: Usage | None = None) -> Any:
        """Await a request that is neither a draw nor a score (a judgement of a pair, a critique), metered and counted.

        Under a budget it needs its price, the most that it may charge. Raises: what the request raises; OutOfBudget where it does not fit.
        """
        if not self.budget.counted:
            self.calls += calls
            return await request
        async with self._one_at_a_time:
            if not self._fitting([(price or NO_USAGE, calls)]):
                if asyncio.iscoroutine(request):
                    request.close()
                raise self._out()
            self.calls += calls
            return await request

    # Inside

    async def _grow(self, nodes: Sequence[Node], n: int | Sequence[int], until: Until, policy: Policy, sampling: Sampling, kind: Kind) -> list[Node]:
        counts = [n] * len(nodes) if isinstance(n, int) else list(n)
        if len(counts) != len(nodes):
            raise InputError(f"{len(nodes)} nodes but {len(counts)} numbers of children")
        wanted = [(node, self._next_draw(policy, node, until, sampling)) for node, count in zip(nodes, counts, strict=True) for _ in range(count)]
        added: list[Node | None] = [None] * len(wanted)
        n_failed = len(self.failures)

        def take(positions: Sequence[int], grown: Sequence[Trajectory] | str) -> None:
            for place, position in enumerate(positions):
                node = wanted[position][0]
                if isinstance(grown, str):
                    node.drop(grown)
                else:
                    added[position] = self.tree.add(node, grown[place], kind=kind)
            announce(self.tree)

        await self._draw([draw for _, draw in wanted], take)
        children = [node for node in added if node is not None]
        if wanted and not children:
            raise Stopped(self.failures[n_failed] if len(self.failures) > n_failed else "nothing could be sampled")
        return children

    def _next_draw(self, policy: Policy, node: Node, until: Until, sampling: Sampling) -> _Draw:
        key = (policy.fingerprint, node.trajectory.key, until)
        self._drawn[key] += 1
        return _Draw(node.trajectory, self._drawn[key] - 1, until, sampling, policy)

    async def _draw(self, draws: Sequence[_Draw], take: Callable[[Sequence[int], Sequence[Trajectory] | str], None]) -> None:
        """Draw them all, and hand over the results (or the reason of a failure) by position as soon as a wave of them is done."""
        if not self.budget.counted:
            await self._wave(draws, range(len(draws)), take)
            return
        async with self._one_at_a_time:
            start = 0
            while start < len(draws):
                if draws[start].until is Until.END and self.environment.interactive:
                    take([start], [await self._chain(draws[start])])
                    start += 1
                    continue
                fitting = self._fitting([self._price_of_draw(draw) for draw in draws[start:]])
                if fitting:
                    await self._wave(draws, range(start, start + fitting), take)
                else:
                    cut = self._cut(draws[start])
                    await self._wave([*draws[:start], cut], range(start, start + 1), take)
                    fitting = 1
                start += fitting

    async def _wave(self, draws: Sequence[_Draw], positions: Sequence[int], take: Callable[[Sequence[int], Sequence[Trajectory] | str], None]) -> None:
        """Those draws at once; neighbouring draws of one prefix share a request."""
        runs: list[list[int]] = []
        for position in positions:
            last = draws[runs[-1][-1]] if runs else None
            same = last is not None and replace(last, draw=last.draw + 1) == draws[position]
            if same:
                runs[-1].append(position)
            else:
                runs.append([position])

        async def one(run: list[int]) -> None:
            first = draws[run[0]]
            self.calls += len(run)
            try:
                take(run, await self._sample(first, len(run)))
            except FAILURES as error:
                self.failures.append(f"sampling failed: {error}")
                take(run, f"sampling failed: {error}")

        await asyncio.gather(*(one(run) for run in runs))

    async def _sample(self, draw: _Draw, n: int) -> list[Trajectory]:
        if draw.until is Until.END and self.environment.interactive:
            return list(await asyncio.gather(*(self._steps(replace(draw, draw=draw.draw + place)) for place in range(n))))
        drawn = await draw.policy.sample(draw.prefix, n, until=draw.until, sampling=draw.sampling, draw=draw.draw)
        if draw.until is Until.END:
            return drawn
        return list(await asyncio.gather(*(settle(self.environment, trajectory) for trajectory in drawn)))

    async def _steps(self, draw: _Draw) -> Trajectory:
        """A whole solution in an environment that answers every step (see `environments.episode.complete`)."""
        own, trajectory = _own_noise(draw), draw.prefix
        while not trajectory.ended:
            if len(trajectory) >= draw.sampling.max_steps:
                return replace(trajectory, truncated=True)
            (trajectory,) = await self._sample(replace(draw, prefix=trajectory, until=Until.STEP, sampling=own), 1)
        return trajectory

    async def _chain(self, draw: _Draw) -> Trajectory:
        """The same under a budget, step by step; cut off where the budget ends."""
        own, trajectory = _own_noise(draw), draw.prefix
        while not trajectory.ended:
            if len(trajectory) >= draw.sampling.max_steps:
                return replace(trajectory, truncated=True)
            step = replace(draw, prefix=trajectory, until=Until.STEP, sampling=own)
            try:
                fitting = step if self._fitting([self._price_of_draw(step)]) else self._cut(step)
            except OutOfBudget:
                if trajectory is draw.prefix:
                    raise
                return replace(trajectory, truncated=True)
            self.calls += 1
            try:
                (trajectory,) = await self._sample(fitting, 1)
            except FAILURES as error:
                self.failures.append(f"sampling failed: {error}")
                return replace(trajectory, truncated=True)
        return trajectory

    # Prices

    def _fitting(self, prices: Sequence[Priced]) -> int:
        """How many of the first requests fit the budget together, at the most that they may charge."""
        usage, calls = self.ledger.usage, self.calls
        for index, (price, n_calls) in enumerate(prices):
            usage, calls = usage + price, calls + n_calls
            if self.budget.exceeded(costs(usage, calls)) is not None:
                return index
        return len(prices)

    def _cut(self, draw: _Draw) -> _Draw:
        """The draw with the most tokens that the budget still allows. Raises: OutOfBudget when that is none."""
        low, high = 0, min(draw.sampling.max_step_tokens, draw.sampling.max_tokens) if draw.until is Until.STEP else draw.sampling.max_tokens
        while low < high:  # the largest limit whose price fits; prices grow with the limit
            middle = (low + high + 1) // 2
            if self._fitting([self._price_of_draw(_limited(draw, middle))]):
                low = middle
            else:
                high = middle - 1
        cut = _limited(draw, low) if low else None
        if cut is None or not self._price_of_draw(cut)[0].policy_tokens:
            raise self._out()
        return cut

    def _price_of_draw(self, draw: _Draw) -> Priced:
        price = price_of_sample(draw.policy, draw.prefix, 1, until=draw.until, sampling=draw.sampling, draw=draw.draw)
        if self.budget.flops is not None and not price.flops:
            raise InputError(f"policy {draw.policy.fingerprint} does not tell its FLOPs, so a budget of FLOPs cannot be kept; give policy_tokens instead")
        return price, 1

    def _price_of_score(self, model: RewardModel, trajectory: Trajectory) -> Priced:
        price = price_of_score(model, trajectory)
        if price is None and (self.budget.reward_tokens is not None or self.budget.flops is not None):
            raise InputError(
                f"reward model {model.fingerprint} cannot tell its price before it scores, so a budget of reward tokens or FLOPs cannot be kept; "
                "give policy_tokens or calls instead"
            )
        return price or NO_USAGE, 1

    def _out(self) -> OutOfBudget:
        spent = self.spent
        worst = max(self.budget.counted, key=lambda name: spent[name] / self.budget.counted[name])
        return OutOfBudget(f"the budget of {self.budget.counted[worst]:,.0f} {worst} is spent ({spent[worst]:,.0f})")


async def score_or_reason(model: RewardModel, trajectory: Trajectory) -> StepScores:
    """The model's scores; unscored with the reason when the request fails."""
    try:
        return await model.score(trajectory)
    except FAILURES as error:
        return StepScores.unscored(len(trajectory), f"{_FAILED}: {error}", scale=model.scale)


def _limited(draw: _Draw, limit: int) -> _Draw:
    if draw.until is Until.STEP:
        return replace(draw, sampling=replace(draw.sampling, max_step_tokens=min(limit, draw.sampling.max_step_tokens)))
    return replace(draw, sampling=replace(draw.sampling, max_tokens=min(limit, draw.sampling.max_tokens)))


def _own_noise(draw: _Draw) -> Sampling:
    return replace(draw.sampling, seed=row_key(draw.sampling.seed, draw.prefix.key, 0)[0] >> 34)
