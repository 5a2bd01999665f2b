"""OmegaPRM: the first error of wrong solutions by halving, inside a tree search over prefixes. Also ReARTeR's settings of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from stepward.core import Count, InputError, Node, Policy, Problem, Semantics, Usage
from stepward.labeling.chain import Chain
from stepward.labeling.completer import Rollout, RolloutBank
from stepward.labeling.sheet import Sheet
from stepward.labeling.trees.harvest import NOT_PROBED, Growth, NodeLabel
from stepward.labeling.trees.labeler import Found, TreeLabeler
from stepward.labeling.trees.locate import Bracket, locate
from stepward.labeling.trees.rollout_tree import RolloutTree
from stepward.labeling.trees.selection import first_best, omega_exploration, omega_quality

UNSOLVED = "abstained: no rollout from the problem itself ended right, so failures say nothing about the steps"


@dataclass(frozen=True, kw_only=True)
class OmegaPRM(TreeLabeler):
    """Find the first error of a wrong solution by halving: a prefix is good while one of `rollouts` completions from it ends right.

    `label` halves one given trajectory, in at most ceil(log2 S) probes of `rollouts` completions: steps before the first bad prefix are good, the rest
    are bad (`hard`), and probed prefixes carry MC(s) = successes / rollouts, which is unbiased for V(s). Right solutions are all good, for nothing.
    Where no success was seen at all, the problem itself is probed too: if that fails, zeros mean nothing and no step is labelled.

    `grow` searches from the problem. A pool holds the pairs of a prefix s with 0 < MC(s) < 1 and a wrong rollout r from it, each taken once: up to
    `searches` times the pair with the largest Q(s, r) + U(s) (see `selection`) is halved, and every probed prefix with 0 < MC < 1 adds its own
    wrong rollouts to the pool. All probed prefixes become labels; the tree holds them and the rollouts that were halved.

    alpha, beta, scale, unit, c_puct, searches, max_rollouts: of `grow` alone; `scale` is L in `unit`s. `label` is one halving, whatever they are.
    evidence: "own" decides a probe by its own rollouts; "passing" also by right ones that came by from earlier prefixes or started later.
    confirm: further rollouts at the place where the search ends; one success among them sends it on to the right. A zero of chance (1 - V)^rollouts
    otherwise moves the cut left for good; with it (1 - V)^(rollouts + confirm).
    relative: a prefix is good while MC(s) >= relative * MC(problem), instead of MC(s) > 0, for policies that repair errors.
    threshold: the share above which a node that `grow` probed is good, where it is not 0.
    fallback: a stronger policy for problems that `policy` never solves (in `grow`).

    Semantics: *value* under `policy`.
    (Improve Mathematical Reasoning in Language Models by Automated Process Supervision, 2024.) Differences from the paper: prefixes end at steps, not
    anywhere in the text; len(r) counts the policy's tokens, words where it counts none; `confirm`, `relative` and `evidence` are ours.
    """

    rollouts: int = 8
    alpha: float = 0.5
    beta: float = 0.9
    scale: float = 500.0
    unit: Literal["tokens", "steps"] = "tokens"
    c_puct: float = 0.125
    searches: int = 100
    max_rollouts: int | None = None
    evidence: Literal["own", "passing"] = "own"
    confirm: int = 0
    relative: float = 0.0
    threshold: float = 0.0
    fallback: Policy | None = None

    method: ClassVar[str] = "omega-prm"
    semantics: ClassVar[Semantics] = "value"

    def __post_init__(self) -> None:
        if self.rollouts < 1 or self.searches < 0 or self.confirm < 0:
            raise InputError(f"OmegaPRM needs rollouts >= 1, searches >= 0 and confirm >= 0, got {self.rollouts}, {self.searches}, {self.confirm}")
        if not (0.0 < self.alpha <= 1.0 and 0.0 < self.beta <= 1.0 and self.scale > 0.0 and self.c_puct >= 0.0):
            raise InputError(f"OmegaPRM needs alpha and beta in (0, 1], scale > 0 and c_puct >= 0, got {self.alpha}, {self.beta}, {self.scale}, {self.c_puct}")
        if not 0.0 <= self.relative < 1.0 or not 0.0 <= self.threshold < 1.0:
            raise InputError(f"OmegaPRM.relative and .threshold must lie in [0, 1), got {self.relative} and {self.threshold}")
        if self.unit not in ("tokens", "steps") or self.evidence not in ("own", "passing"):
            raise InputError(f"OmegaPRM: unit is tokens or steps, evidence own or passing; got {self.unit!r} and {self.evidence!r}")
        if self.relative > 0.0 and self.evidence == "passing":
            raise InputError("OmegaPRM.relative compares shares of a prefix's own rollouts: use it with evidence='own'")

    @classmethod
    def rearter(cls, *, stronger: Policy | None = None, **settings: Any) -> OmegaPRM:
        """The settings of ReARTeR (2025): 5 rollouts, 20 searches, lengths in steps with L = 6, MC > 0.5 is good, hard problems by a stronger policy.

        Differences from its code: bad prefixes are recorded as themselves, not as their search's starting point, and a prefix with MC = 1 does
        not end the halving, since the error lies to its right.
        """
        preset: dict[str, Any] = {"rollouts": 5, "searches": 20, "unit": "steps", "scale": 6.0, "threshold": 0.5, "fallback": stronger}
        return cls(**(preset | settings))

    async def grow(self, problem: Problem) -> Growth:
        """Search from the problem; again with `fallback` where no rollout solved it. The source of the labels names the policy that they are about."""
        first = await super().grow(problem)
        if self.fallback is None or first.examples or first.tree.root.value != 0.0:
            return first
        second = await replace(self, policy=self.fallback, fallback=None).grow(problem)
        return replace(second, usage=Usage.total([first.usage, second.usage]))

    # one trajectory

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        tree, line = self.planted(chain, bank)
        found = await self._first_error(tree, line, chain)
        solvable = found.low > 0 or found.failed or found.high >= len(chain) or tree.proven(tree.root) or await self._good(tree, tree.root)
        for step, node in enumerate(line[1:]):
            good = True if step < found.low else False if step + 1 >= found.high else None
            self._write(sheet, step, tree, node, good if solvable else None, NOT_PROBED if solvable else UNSOLVED)
        if chain.outcome is not None:
            sheet.graded(len(chain) - 1, chain.outcome)

    async def _first_error(self, tree: RolloutTree, line: list[Node], chain: Chain) -> Bracket:
        """Between which prefixes of a given trajectory the first error lies; high = S + 1 when none was found."""
        n_steps = len(chain)
        if chain.correct:
            return Bracket(n_steps, n_steps + 1)
        if self.relative > 0.0 and chain.n_open:
            await self._estimate(tree, tree.root)
        if chain.correct is False:
            return await self._locate(tree, line, 0, n_steps)
        last = chain.n_open  # the end says nothing: the last open prefix does
        good = await self._good(tree, line[last]) if last else None
        if good is False:
            return await self._locate(tree, line, 0, last)
        return Bracket(last if good else 0, n_steps + 1, failed=good is None)

    def _write(self, sheet: Sheet, step: int, tree: RolloutTree, node: Node, good: bool | None, otherwise: str) -> None:
        """What is known of an open prefix: its value where it was probed, and whether it lies before the first error."""
        count = self._count(tree, node)
        if count.rollouts:
            sheet.value(step, count.value, good, count=count)
        else:
            sheet.miss(step, tree.why_none(node) if tree.asked(node) else otherwise)
            sheet.hard[step] = good

    # the search

    async def search(self, problem: Problem, bank: RolloutBank) -> Found:
        tree = RolloutTree(problem, bank)
        pool: list[tuple[Node, Rollout]] = []
        await self._estimate(tree, tree.root)
        self._offer(tree, tree.root, pool)
        for _ in range(self.searches):
            if not pool or (self.max_rollouts is not None and tree.n_rollouts >= self.max_rollouts):
                break
            total = sum(node.visits for node in tree)
            node, rollout = pool.pop(first_best([self._score(*pair, total) for pair in pool]))
            line = tree.line(rollout, at=node)
            estimated = {node.index for node in line if tree.drawn(node)}
            found = await self._locate(tree, line, 0, len(line) - 1)
            node.visits += 1
            for place in dict.fromkeys(found.probed):
                if line[place].index not in estimated:
                    self._offer(tree, line[place], pool)
        return Found(tree.tree, {node.index: self._node_label(tree, node) for node in tree if self._count(tree, node).rollouts}, self._why_nothing(tree))

    def _offer(self, tree: RolloutTree, node: Node, pool: list[tuple[Node, Rollout]]) -> None:
        node.value = self._count(tree, node).value
        if 0.0 < node.value < 1.0:
            pool += [(node, rollout) for rollout in tree.drawn(node) if rollout.success is False]

    def _score(self, node: Node, rollout: Rollout, total_visits: int) -> float:
        written = rollout.end.steps[rollout.start :]
        words = sum(step.n_tokens if step.n_tokens is not None else len(step.text.split()) for step in written)
        length = len(written) if self.unit == "steps" else words
        quality = omega_quality(node.value, length, alpha=self.alpha, beta=self.beta, scale=self.scale)
        return quality + omega_exploration(node.visits, total_visits, c_puct=self.c_puct)

    def _node_label(self, tree: RolloutTree, node: Node) -> NodeLabel:
        count = self._count(tree, node)
        good = count.value > self.threshold if self.threshold else self._passes(tree, node)
        return NodeLabel(count.value, good, count)

    def _why_nothing(self, tree: RolloutTree) -> str:
        count = tree.own(tree.root)
        if count.rollouts == 0:
            return tree.why_none(tree.root)
        return f"{count.successes} of {count.rollouts} rollouts from the problem ended right: there is no wrong one of a solvable problem to look into"

    # probes

    async def _locate(self, tree: RolloutTree, line: list[Node], low: int, high: int) -> Bracket:
        async def probe(place: int) -> bool | None:
            return await self._good(tree, line[place])

        async def confirm(place: int) -> bool | None:
            await self._estimate(tree, line[place], extra=self.confirm)
            return self._passes(tree, line[place])

        return await locate(probe, low, high, confirm=confirm if self.confirm else None)

    async def _good(self, tree: RolloutTree, node: Node) -> bool | None:
        """Whether this prefix can still be finished right, as far as rollouts tell; None when none could be graded."""
        await self._estimate(tree, node)
        return True if self._passes(tree, node) else False if tree.own(node).rollouts else None

    def _passes(self, tree: RolloutTree, node: Node) -> bool:
        own = tree.own(node)
        if self.relative > 0.0 and node is not tree.root:
            return own.successes > 0 and own.value >= self.relative * tree.own(tree.root).value
        return own.successes > 0 or (self.evidence == "passing" and tree.proven(node))

    def _count(self, tree: RolloutTree, node: Node) -> Count:
        """What a value rests on: the rollouts of the probe itself. Those of `confirm` come only after failures, so they would bias it upward."""
        return tree.own(node, first=self.rollouts)

    async def _estimate(self, tree: RolloutTree, node: Node, *, extra: int = 0) -> None:
        """Draw what this prefix still lacks of its rollouts."""
        missing = self.rollouts + extra - len(tree.drawn(node))
        if missing > 0:
            await tree.draw(node, missing)


@dataclass(frozen=True, kw_only=True)
class CurtailedOmegaPRM(OmegaPRM):
    """OmegaPRM's search (2024) with probes that stop at their first success: the same hard labels on the same draws, for fewer of them.

    A probe costs (1 - (1 - V)^n)/V instead of n expected rollouts: 2.0 instead of 8 at V = 0.5. Only whether a success came is left, which is biased
    as a share, so every label is hard, 1 or 0. With evidence = "passing" a prefix that a right rollout went through or started after costs nothing.
    `relative` needs shares and is refused.

    Semantics: *prefix*, as far as `policy` tells: no error so far.
    """

    method: ClassVar[str] = "omega-prm-curtailed"
    semantics: ClassVar[Semantics] = "prefix"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relative > 0.0 or self.threshold > 0.0:
            raise InputError("CurtailedOmegaPRM keeps no shares to compare: leave relative and threshold at 0, or use OmegaPRM")

    def _write(self, sheet: Sheet, step: int, tree: RolloutTree, node: Node, good: bool | None, otherwise: str) -> None:
        if good is None:
            count = tree.own(node)
            sheet.miss(step, tree.why_none(node) if tree.asked(node) and not count.rollouts else otherwise, count=count if tree.drawn(node) else None)
        else:
            sheet.good_or_bad(step, good, count=tree.own(node) if tree.drawn(node) else None)

    def _node_label(self, tree: RolloutTree, node: Node) -> NodeLabel:
        good = self._passes(tree, node)
        return NodeLabel(float(good), good, tree.own(node))

    async def _estimate(self, tree: RolloutTree, node: Node, *, extra: int = 0) -> None:
        """Draw one by one until the first success, at most what this prefix lacks of its rollouts."""
        while not self._passes(tree, node) and len(tree.drawn(node)) < self.rollouts + extra:
            if not await tree.draw(node, 1):
                return
