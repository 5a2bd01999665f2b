"""MASPRM: values of agents' turns by a tree search with rewards of plus and minus one."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

from stepward.core import FAILURES, InputError, Node, Problem, Semantics, Trajectory, Tree
from stepward.environments.episode import expand
from stepward.labeling.chain import Chain
from stepward.labeling.completer import Completer, RolloutBank
from stepward.labeling.sheet import Sheet
from stepward.labeling.trees.harvest import NodeLabel, write
from stepward.labeling.trees.labeler import Found, TreeLabeler
from stepward.labeling.trees.rollout_tree import outcome_reward
from stepward.labeling.trees.selection import first_best, uct


@dataclass(frozen=True, kw_only=True)
class MASPRM(TreeLabeler):
    """A turn's value is the mean of +1 (right) and -1 (wrong) over the ends that a UCT search visits below it, mapped to (q + 1)/2 in [0, 1].

    A level of the tree is one agent's turn: consecutive steps of one `Step.agent`; steps without an agent are turns by themselves. A node is expanded
    by `candidates` turns; ends among them are all graded and backed up at once; otherwise the search goes on below. Selection: q + c sqrt(ln N / n).
    Stops after `rollouts` simulations, or when the root's mean moved by no more than `tolerance`, or stood within 0.05 of an end of [-1, 1], for
    `patience` of them.

    `label` searches from the end of every turn of the given trajectory; all steps of a turn share its value. `grow` searches from the problem and labels
    every visited turn at its last step, if the root's mean lies within +-`root_window`. Hard: q > 0.

    Semantics: *value* of the search's own choices, not of the policy: q lies above 2 V - 1, the more so the smaller c. With c -> infinity candidates are
    visited evenly; then E[q] = 2 V - 1 after full rounds where all solutions have equally many turns (within a round ties go to the better one).
    Cut-off and ungraded ends are left out; the released code counts them as -1.
    (MASPRM: Multi-Agent System Process Reward Model, 2025.) Other differences: candidates that read the same stay separate draws; as many candidates in
    the last turn as in others; the first of the new candidates is followed instead of a random one, which is as good since they are exchangeable.
    Where agents are named, the end of a turn is seen by looking one step ahead; what was seen is used when that node is expanded.
    """

    c: float = 2.0
    candidates: int = 4
    rollouts: int = 32
    patience: int = 24
    tolerance: float = 0.01
    root_window: float = 0.7

    method: ClassVar[str] = "masprm"
    semantics: ClassVar[Semantics] = "value"

    def __post_init__(self) -> None:
        if self.candidates < 1 or self.rollouts < 1 or self.patience < 1:
            raise InputError(f"MASPRM needs candidates, rollouts and patience >= 1, got {self.candidates}, {self.rollouts}, {self.patience}")
        if not 0.0 <= self.c < math.inf or not self.tolerance >= 0.0 or not 0.0 < self.root_window <= 1.0:
            raise InputError(f"MASPRM needs a finite c >= 0, tolerance >= 0 and root_window in (0, 1], got {self.c}, {self.tolerance}, {self.root_window}")

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        ends = [step for step in turn_ends(chain.trajectory) if step < chain.n_open]
        grown = dict(zip(ends, await asyncio.gather(*(self._mcts(chain.after(step), bank.completer) for step in ends)), strict=True))
        first = 0
        for last in turn_ends(chain.trajectory):
            for step in range(first, last + 1):
                if last not in grown:
                    assert chain.outcome is not None
                    sheet.graded(step, chain.outcome)
                elif grown[last].tree.root.visits:
                    write(sheet, step, _turn_label(grown[last].tree.root))
                else:
                    sheet.miss(step, grown[last].reason or "no end that the search reached has a grade")
            first = last + 1

    async def search(self, problem: Problem, bank: RolloutBank) -> Found:
        grown = await self._mcts(Trajectory(problem), bank.completer)
        root = grown.tree.root
        if not root.visits:
            return Found(grown.tree, {}, grown.reason or "no end that the search reached has a grade")
        if abs(root.q) > self.root_window:
            return Found(grown.tree, {}, f"the root's mean {root.q:.3g} lies outside +-{self.root_window}: too easy or too hard")
        return Found(grown.tree, {node.index: _turn_label(node) for node in grown.tree if node.visits})

    async def _mcts(self, start: Trajectory, completer: Completer) -> _Search:
        search = _Search(start, completer, self.candidates, self.c)
        last, stale = math.inf, 0
        for _ in range(self.rollouts):
            if not await search.simulate():
                break
            q = search.tree.root.q
            moved = math.isinf(last) or abs(q - last) > self.tolerance
            stale = stale + 1 if not moved or abs(q) >= 0.95 else 0
            last = q if moved else last
            if stale >= self.patience:
                break
        return search


def turn_ends(trajectory: Trajectory) -> list[int]:
    """The last step (0-based) of every agent's turn: before another agent's step, and after every step without an agent."""
    steps = trajectory.steps
    return [t for t, step in enumerate(steps) if not step.agent or t + 1 == len(steps) or steps[t + 1].agent != step.agent]


def _turn_label(node: Node) -> NodeLabel:
    return NodeLabel((node.q + 1.0) / 2.0, node.q > 0.0, evidence=({"q": node.q, "visits": node.visits},))


class _Search:
    """One tree search over turns. `closed` nodes have nothing left that could be graded."""

    def __init__(self, start: Trajectory, completer: Completer, candidates: int, c: float) -> None:
        self.tree, self.completer, self.candidates, self.c = Tree(start), completer, candidates, c
        self.reason: str | None = None
        self._expanded = Counter[str]()
        self._ahead: dict[str, Trajectory] = {}  # prefix key: draw 0 of its next step, seen before the prefix was expanded

    async def simulate(self) -> bool:
        """From the root down to graded ends; False when nothing is left to visit or the policy failed."""
        node = self.tree.root
        while True:
            if node.ended:
                return self._back_up([node])
            if not node.children:
                try:
                    await self._expand(node)
                except FAILURES as error:
                    self.reason = f"sampling failed: {error}"
                    return False
                ends = [child for child in node.children if child.ended]
                if self._back_up(ends):
                    return True
            alive = [child for child in node.children if not child.closed]
            if not alive:
                node.closed = True
                if node.parent is None:
                    return False
                node = self.tree.root
                continue
            node = alive[first_best([uct(child.q, child.visits, max(node.visits, 1), c=self.c) for child in alive])]

    def _back_up(self, ends: list[Node]) -> bool:
        """Whether some of these ends has a grade; the others are closed."""
        for end in ends:
            reward = outcome_reward(end)
            if math.isnan(reward):
                end.closed = True
            else:
                end.backup(1.0 if reward >= 1.0 else -1.0)
        return any(not end.closed for end in ends)

    async def _expand(self, node: Node) -> None:
        key = node.trajectory.key
        draw = self.candidates * self._expanded[key]  # equal prefixes take different draws, or their children would be equal too
        self._expanded[key] += 1
        turns = await self._turns(node.trajectory, draw)
        ended = [turn for turn in turns if turn.ended]
        graded = {id(turn): turn.graded(outcome) for turn, outcome in zip(ended, await asyncio.gather(*map(self.completer.grade, ended)), strict=True)}
        for turn in turns:
            self.tree.add(node, graded.get(id(turn), turn))

    async def _turns(self, prefix: Trajectory, draw: int) -> list[Trajectory]:
        seen = [self._ahead[prefix.key]] if draw == 0 and prefix.key in self._ahead else []
        drawn = [*seen, *await self._next(prefix, self.candidates - len(seen), draw + len(seen))] if self.candidates > len(seen) else seen
        return await self._whole(drawn)

    async def _whole(self, turns: list[Trajectory]) -> list[Trajectory]:
        """Each of these to the end of its turn, step by step while the same named agent goes on."""
        while True:
            going = [turn for turn in turns if not turn.ended and turn.steps[-1].agent]
            unseen = {turn.key: turn for turn in going if turn.key not in self._ahead}
            for key, (step,) in zip(unseen, await asyncio.gather(*(self._next(turn, 1, 0) for turn in unseen.values())), strict=True):
                self._ahead[key] = step
            longer = {turn.key: self._ahead[turn.key] for turn in going if self._ahead[turn.key].steps[-1].agent == turn.steps[-1].agent}
            if not longer:
                return turns
            turns = [longer.get(turn.key, turn) if not turn.ended else turn for turn in turns]

    async def _next(self, prefix: Trajectory, n: int, draw: int) -> list[Trajectory]:
        completer = self.completer
        if len(prefix) >= completer.sampling.max_steps:
            return [replace(prefix, truncated=True)] * n
        return await expand(completer.policy, completer.environment, prefix, n, sampling=completer.sampling, draw=draw)
