"""MCTS*: the tree search of ReST-MCTS*, guided by a value model. The labels that it infers from a finished tree are in `labeling.trees.rest`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from stepward.core import InputError, Node, Policy
from stepward.search.guided_tree import GuidedTree, cut_off, drawn
from stepward.search.priority import close_upward, open_children, uct2
from stepward.search.sampled import at_least_one
from stepward.search.workbench import Workbench

_ROLLED = "a step of a rollout"


@dataclass(frozen=True, kw_only=True)
class MCTSStar(GuidedTree):
    """Expand the leaf that V + c sqrt(2 ln N_p / N) leads to, look ahead from its best child, and let visited children say what their parents are worth.

    An iteration: 1. descend; an unvisited child has the key V + `unvisited`; ties are broken at random. 2. An end with V >= `gate` there is the answer.
    3. Else draw `expansions` next steps; a step that its prefix has already is refused and drawn again, at most `attempts` times in all. 4. From the best new
    child roll on `roll_steps` steps, `roll_branch` draws each of which the best goes on; V <- (1 - alpha) V + alpha max V of these steps, N <- 1. 5. Up the
    path: N <- N + 1, V <- sum N_c V_c / sum N_c over the children. V of an expanded node lies within the range of its visited children.
    Without an end beyond the gate the prefix of largest V (of equals the last) is completed, if it has not ended, and the end of largest value answers.

    reflector: a policy that writes a remark before a prefix is expanded (a "reflect" node); one with `end_mark` says that nothing is left to do, which
    closes the prefix and completes it once. None: a policy that ends its solutions needs none.

    Cost for I iterations and steps of l tokens: at most I (expansions + roll_steps roll_branch) l policy tokens and that many scores, plus a remark each.
    Defaults: the authors' code (branch 3, c 0.7, gate 0.9, alpha 0.5, one rollout of 3 steps, unvisited 1; its temperature is 0.7); it has none for
    `iterations`, 50 is ours. (ReST-MCTS*: LLM Self-Training via Process Reward Guided Tree Search, 2024.)
    Differences from the code: the gate asks only ends, since a reward model other than theirs may be sure long before; an end below the gate is closed after
    its visit; a rollout that comes to nothing leaves V as it is, instead of mixing in 0; ends of rollouts may answer; a remark does not go into the prompt.
    """

    expansions: int = 3
    c: float = 0.7
    gate: float = 0.9
    alpha: float = 0.5
    roll_steps: int = 3
    roll_branch: int = 1
    unvisited: float = 1.0
    iterations: int = 50
    attempts: int = 3
    repeated: Literal["refuse", "keep"] = "refuse"
    reflector: Policy | None = None
    end_mark: str = "<end>"

    name = "mcts-star"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, expansions=self.expansions, iterations=self.iterations, attempts=self.attempts, roll_branch=self.roll_branch)
        if not (self.c >= 0.0 and 0.0 <= self.alpha <= 1.0 and self.roll_steps >= 0):
            raise InputError(f"MCTSStar needs c >= 0, alpha in [0, 1] and roll_steps >= 0, got {self.c}, {self.alpha} and {self.roll_steps}")
        if self.repeated not in ("refuse", "keep"):
            raise InputError(f"MCTSStar.repeated must be 'refuse' or 'keep', got {self.repeated!r}")

    async def explore(self, bench: Workbench) -> None:
        for _ in range(self.iterations):
            if bench.root.closed:
                break
            node = self.descend(bench)
            if node.ended and node.q >= self.gate:
                return
            if node.ended or await self.solved(bench, node):
                node.closed = True
                close_upward(node.parent or node)
            elif await self.expand(bench, node, self.expansions):
                await self.look_ahead(bench, max(open_children(node), key=lambda child: child.value))
            visit(node)
        known = [node for node in bench.tree if node.dropped is None and not math.isnan(node.q)]
        best = max(reversed(known), key=lambda node: node.q, default=bench.root)
        if not best.ended:
            await self.rollout(bench, best)

    def descend(self, bench: Workbench) -> Node:
        """The leaf that the keys lead to."""
        node = bench.root
        while children := open_children(node):
            keys = [self.key(child, node.visits) for child in children]
            tied = [child for child, key in zip(children, keys, strict=True) if key == max(keys)]
            node = tied[int(bench.random()[0] * len(tied))] if len(tied) > 1 else tied[0]
        return node

    def key(self, child: Node, parent_visits: int) -> float:
        return uct2(child.q, child.visits, parent_visits, c=self.c) if child.visits else child.value + self.unvisited

    async def propose(self, bench: Workbench, node: Node, n: int) -> list[Node]:
        """n children whose step the prefix does not have yet, as far as `attempts` go."""
        if self.repeated == "keep":
            return await super().propose(bench, node, n)
        written = {step.text.strip() for step in node.trajectory.steps}
        kept: list[Node] = []
        for _ in range(self.attempts):
            made = await super().propose(bench, node, n - len(kept))
            for child in made:
                if not child.trajectory.truncated and child.trajectory.steps[-1].text.strip() in written:
                    child.drop("repeats a step of its prefix")
            kept += [child for child in made if not child.closed]
            if len(kept) == n or not made:
                break
        return kept

    async def solved(self, bench: Workbench, node: Node) -> bool:
        """Whether a remark says that nothing is left to do; the prefix is then completed once. No remark counts as saying so, as in the authors' code."""
        if self.reflector is None or node.parent is None:
            return False
        remarks = await drawn(bench, node, 1, policy=self.reflector, kind="reflect")
        for remark in remarks:
            remark.drop("a remark")
        if remarks and self.end_mark not in remarks[0].trajectory.steps[-1].text:
            return False
        await self.rollout(bench, node)
        return True

    async def look_ahead(self, bench: Workbench, child: Node) -> None:
        """Mix the best value of a rollout into the child's, and count its first visit."""
        worth, node, seen = child.value, child, list[float]()
        for _ in range(self.roll_steps):
            if node.ended:
                break
            steps = await drawn(bench, node, self.roll_branch)
            await self.value(bench, [step for step in steps if not step.trajectory.truncated])
            for step in steps:
                step.closed = True
                if step.trajectory.truncated:
                    cut_off(step)
                elif not step.ended:
                    step.drop(_ROLLED)
            known = [step for step in steps if not math.isnan(step.value)]
            if not known:
                break
            node = max(known, key=lambda step: step.value)
            seen.append(node.value)
        child.visits = 1
        child.value_sum = (1.0 - self.alpha) * worth + self.alpha * max(seen) if seen else worth


def visit(node: Node) -> None:
    """N + 1 for the node and all above it, V = sum N_c V_c / sum N_c where a child was visited."""
    for place in reversed(node.path):
        visits = sum(child.visits for child in place.children)
        worth = sum(child.value_sum for child in place.children) / visits if visits else place.q
        if not math.isnan(worth):  # the root, before any child of it was visited
            place.visits += 1
            place.value_sum = worth * place.visits
