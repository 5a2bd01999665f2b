"""Workbench: what one search of one problem works with: its tree, its budget, and the requests to policies and reward models that grow and judge the tree.

Which prefixes to extend and which to keep is a strategy's business. Batching across searches happens below, in the policies and models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
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
    one_a_step,
    top,
)
from stepward.core.usage import Ledger
from stepward.engine.noise import uniforms
from stepward.search.budget import NO_BUDGET, Budget
from stepward.search.draws import OBSERVING_FAILED, SAMPLING_FAILED, Draw, Drawing, all_of
from stepward.search.purse import OutOfBudget, Price, Purse, Stopped
from stepward.search.watching import announce

__all__ = ["OutOfBudget", "Stopped", "Workbench", "score_or_reason"]

_SCORING_FAILED = "scoring failed"


class Workbench:
    """The tree of one problem, and the ways to grow it. Every request is metered, kept within `budget`, and fails alone.

    `expand` and `complete` add children, `score` asks a reward model. A call does as much as the budget allows, and raises `Stopped` when that is nothing, or
    when all that it asked for failed. Nodes come into the tree in the order in which they were asked for, whatever came first; where the search is cancelled
    (by seconds, or by whoever runs it), what had arrived is in the tree. One call is made at a time (else RuntimeError). `failures` holds the reasons of
    requests that failed; `notes` is for what a strategy wants to say about this search (JSON): it goes to the result's source.

    `ledger`: an open one (see `metered`), which what is awaited here charges. `purse` and `alone` are for other ways to ask (see `search.waves`).
    """

    def __init__(
        self, problem: Problem, policy: Policy, environment: Environment, *, sampling: Sampling, budget: Budget = NO_BUDGET, ledger: Ledger | None = None
    ) -> None:
        if ledger is None and budget.counted:
            raise InputError("a workbench with a budget needs the ledger that its requests charge: with metered() as ledger: Workbench(..., ledger=ledger)")
        self.tree = Tree(problem)
        self.policy = policy
        self.environment = environment
        self.sampling = sampling
        self.budget = budget
        self.ledger = Ledger() if ledger is None else ledger
        self.failures: list[str] = []
        self.notes: dict[str, Any] = {}
        self.purse = Purse(budget.counted, self.ledger)
        self._drawn = Counter[tuple[str, str]]()
        self._n_random = 0
        self._busy = False

    # What is there

    @property
    def problem(self) -> Problem:
        return self.tree.problem

    @property
    def root(self) -> Node:
        return self.tree.root

    @property
    def calls(self) -> int:
        """Draws (steps, in an environment that answers), scores and other requests made so far."""
        return self.purse.calls

    @property
    def spent(self) -> dict[str, int]:
        """So far, in the units of a budget."""
        return self.purse.spent

    @property
    def stopped(self) -> str | None:
        """Why the budget allowed less than was asked for, if it did."""
        return str(self.purse.out()) if self.purse.short else None

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

    def portion(self, n: int) -> int:
        """How many of n solutions to draw before they are judged: fewer, but at least 1, where drawing and judging share a limit, lest drawing spend it all.

        Of calls half of those left; of FLOPs as many as half of the rest pays for; under a limit of seconds as many as there are already.
        """
        left = self.purse.left
        if "calls" in left:
            n = min(n, left["calls"] // 2)
        if "flops" in left:
            root = self.root.trajectory
            price = self.purse.of_draw(self.policy, root, until=Until.END, sampling=self.sampling, draw=0)
            n = min(n, left["flops"] // (2 * max(1, price["flops"])))
        if self.budget.seconds is not None:
            n = min(n, len(self.tree) - 1)
        return max(1, n)

    # Judging

    async def score(self, model: RewardModel, trajectories: Sequence[Trajectory], *, take: Callable[[int, StepScores], None] | None = None) -> list[StepScores]:
        """The model's scores of each trajectory; unscored with the reason where a request fails or the budget does not reach.

        `take(index, scores)` is told of every trajectory in order, also of what had been scored when the search was cancelled.
        """
        found: list[StepScores | None] = [None] * len(trajectories)

        async def one(index: int) -> None:
            self.purse.count(1)
            found[index] = await score_or_reason(model, trajectories[index], counted=True)

        def price(index: int) -> Price | None:
            try:
                return self.purse.of_score(model, trajectories[index])
            except FAILURES as error:
                found[index] = StepScores.unscored(len(trajectories[index]), f"{_SCORING_FAILED}: {error}", scale=model.scale)
                return None

        try:
            with self.alone():
                for wave, fits in self.purse.waves(len(trajectories), price):
                    if not fits:
                        break
                    await all_of(one(index) for index in wave)
            left_out = [index for index, scores in enumerate(found) if scores is None]
            if left_out:
                out = self.purse.out()
                if len(left_out) == len(found):
                    raise out
                for index in left_out:
                    found[index] = StepScores.unscored(len(trajectories[index]), f"not scored: {out}", scale=model.scale)
        finally:
            self._note(next(filter(None, scores.reasons), "") for scores in found if scores is not None)
            for index, scores in enumerate(found):
                if take is not None and scores is not None:
                    take(index, scores)
        return [scores for scores in found if scores is not None]

    async def ask(self, request: Coroutine[Any, Any, Any], *, calls: int = 1, price: Usage | None = None) -> Any:
        """Await a request that is neither a draw nor a score (a judgement of a pair, a critique), metered and counted.

        `price`: the most that it may charge. None: unknown, which a budget of reward tokens or FLOPs does not allow, and which means that it asks no policy
        directly under one of policy tokens.

        Raises: what the request raises; OutOfBudget where it does not fit.
        """
        with self.alone():
            try:
                if not self.purse.fitting([self.purse.of_request(price, calls, "a request of this strategy")]):
                    raise self.purse.out()
            except BaseException:
                request.close()
                raise
            self.purse.count(calls)
            return await request

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One call at a time: two at once would make the tree, and where a budget ends, a matter of chance."""
        if self._busy:
            raise RuntimeError("a workbench does one call at a time: give it all nodes, or all trajectories, in one call")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    # Inside

    async def _grow(self, nodes: Sequence[Node], n: int | Sequence[int], until: Until, policy: Policy, sampling: Sampling, kind: Kind) -> list[Node]:
        if isinstance(nodes, Node):
            raise InputError("expand and complete take a list of nodes: [node]")
        counts = [n] * len(nodes) if isinstance(n, int) else list(n)
        if len(counts) != len(nodes):
            raise InputError(f"{len(nodes)} nodes but {len(counts)} numbers of children")
        parents = [node for node, count in zip(nodes, counts, strict=True) for _ in range(count) if not node.ended]
        name = policy.fingerprint
        draws = [Draw(node.trajectory, self._next_draw(name, node), until, sampling, policy) for node in parents]
        grown: list[Trajectory | str | None] = [None] * len(draws)
        drawing = Drawing(self.environment, self.purse)
        try:
            with self.alone():
                await drawing.fill(draws, grown)
        finally:
            self._note(drawing.lost)
            children = self._adopt(parents, grown, kind)
        if draws and not children:
            raise self.purse.out() if None in grown else Stopped(next(found for found in grown if isinstance(found, str)))
        return children

    def _adopt(self, parents: Sequence[Node], grown: list[Trajectory | str | None], kind: Kind) -> list[Node]:
        """What came of every draw as a child of its parent; a parent of whom nothing came because requests failed is dropped."""
        children: list[Node] = []
        for index, (node, found) in enumerate(zip(parents, grown, strict=True)):
            if isinstance(found, Trajectory) and not found.ended and len(found) == len(node.trajectory):
                grown[index] = f"{SAMPLING_FAILED}: the policy neither wrote a step nor ended"  # a search would ask for ever
            elif isinstance(found, Trajectory):
                try:
                    children.append(self.tree.add(node, found, kind=kind))
                except InputError as error:
                    grown[index] = f"{SAMPLING_FAILED}: {error}"
        self._note(found for found in grown if isinstance(found, str))
        fruitful = {id(child.parent) for child in children}
        for node, reason in zip(parents, grown, strict=True):
            if isinstance(reason, str) and id(node) not in fruitful:
                node.drop(reason)
        announce(self.tree)
        return children

    def _next_draw(self, policy: str, node: Node) -> int:
        key = (policy, node.trajectory.key)
        self._drawn[key] += 1
        return self._drawn[key] - 1

    def _note(self, reasons: Iterable[str]) -> None:
        self.failures += [reason for reason in reasons if reason.startswith((SAMPLING_FAILED, OBSERVING_FAILED, _SCORING_FAILED))]


async def score_or_reason(model: RewardModel, trajectory: Trajectory, *, counted: bool = False) -> StepScores:
    """The model's scores; unscored with the reason when the request fails, or, where they are `counted`, when they are not one a step."""
    try:
        scores = await model.score(trajectory)
        return one_a_step(scores, len(trajectory), model.fingerprint) if counted else scores
    except FAILURES as error:
        return StepScores.unscored(len(trajectory), f"{_SCORING_FAILED}: {error}", scale=model.scale)
