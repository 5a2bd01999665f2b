"""GroundedPRM: verdicts of a tool or judge on every step, kept where the outcomes of a tree of simulations agree with them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from stepward.core import ABSTAINED, FAILURES, InputError, Node, Problem, RewardModel, Semantics, Trajectory, Tree
from stepward.environments.episode import expand
from stepward.labeling.chain import Chain
from stepward.labeling.completer import Completer, RolloutBank
from stepward.labeling.sheet import Sheet
from stepward.labeling.trees.backup import add_discounted, return_bound, simulation_return
from stepward.labeling.trees.harvest import NodeLabel, write
from stepward.labeling.trees.labeler import Found, TreeLabeler
from stepward.labeling.trees.selection import first_best, uct

Verdicts = Sequence[int]
"""One a step: +1 right, -1 wrong, 0 undecided."""


@dataclass(frozen=True, kw_only=True)
class StepJudge:
    """Who says whether each step is right: any reward model, read at its threshold; an unscored step is undecided, never wrong."""

    model: RewardModel

    @property
    def fingerprint(self) -> str:
        return self.model.fingerprint

    async def __call__(self, trajectory: Trajectory) -> Verdicts:
        """Raises what the model raises."""
        scores = await self.model.score(trajectory)
        return [0 if math.isnan(value) else 1 if value >= scores.threshold else -1 for value in scores.values.tolist()]


@dataclass(frozen=True, kw_only=True)
class GroundedPRM(TreeLabeler):
    """A step is what the judge says of it, where the sign of its node's return in a tree of simulations says the same.

    A simulation goes from a node to an end. With verdicts v_i in {-1, 0, 1} of its N steps before the last and F = +-1 for the end,
    R = sum over i < N of (1/N) v_i (N - i)/N + (1/N) F (F alone when N = 0). It adds R to its node and discount^d R to the ancestor at distance d. A node is
    good when its sum is above 0, bad otherwise.

    `label` simulates `simulations` times from every open prefix of a given trajectory and sums these: what follows in the trajectory was not drawn, so
    later returns do not flow back to earlier steps there. `grow` searches from the problem for `rounds` rounds, or until
    `wanted` right and as many wrong solutions were found: go down by UCT (towards right ends until enough were found, then towards wrong ones), give the node
    `children` next steps, simulate from the first of them that was not simulated; every solution found is an example, whose steps after the simulated
    node carry their verdicts alone.

    judge: verdicts of all steps of a trajectory, or a reward model (a tool verifier, a generative judge), which `StepJudge` reads.
    consensus: "solution" drops a solution in which some step's sign and verdict disagree (the paper); "step" drops such steps only.
    undecided: what a verdict of 0 means there: "keep" takes the sign alone, "drop" counts it as disagreement.
    On wrong solutions steps are dropped from the first that is not bad after a bad one. What is dropped is abstained on; `evidence` holds both opinions.

    Values lie in [0, 1]: (1 + sum / largest possible sum)/2. Semantics: *local*, the judge's. An unscored end gives no return.
    (GroundedPRM: Tree-Guided and Fidelity-Aware Process Reward Modeling for Step-Level Reasoning, 2025.) Differences from the paper: its judge is a computer
    algebra system whose answer a language model compares with the step; selection is the UCT of the paper, where the released code chooses at random
    (and its filter lets a verdict of right on a node below 0 pass). A judge that calls what follows from an earlier error right disagrees with the
    outcome of almost every wrong solution: judge against the truth, or use consensus = "step".
    """

    judge: Callable[[Trajectory], Awaitable[Verdicts]] | RewardModel
    simulations: int = 3
    discount: float = 0.9
    consensus: Literal["solution", "step"] = "solution"
    undecided: Literal["keep", "drop"] = "keep"
    children: int = 3
    rounds: int = 10
    wanted: int = 3
    c: float = 1.414

    method: ClassVar[str] = "grounded-prm"
    semantics: ClassVar[Semantics] = "local"

    def __post_init__(self) -> None:
        if isinstance(self.judge, RewardModel):
            object.__setattr__(self, "judge", StepJudge(model=self.judge))
        if min(self.simulations, self.children, self.rounds, self.wanted) < 1:
            raise InputError(
                f"GroundedPRM needs simulations, children, rounds and wanted >= 1, got {self.simulations}, {self.children}, {self.rounds}, {self.wanted}"
            )
        if not 0.0 <= self.discount <= 1.0 or not self.c >= 0.0:
            raise InputError(f"GroundedPRM.discount must lie in [0, 1] and c be >= 0, got {self.discount} and {self.c}")
        if self.consensus not in ("solution", "step") or self.undecided not in ("keep", "drop"):
            raise InputError(f"GroundedPRM: consensus is solution or step, undecided keep or drop; got {self.consensus!r} and {self.undecided!r}")
        if not hasattr(self.judge, "fingerprint"):
            raise InputError("GroundedPRM.judge needs a fingerprint, so that its labels can name it; wrap a reward model with StepJudge(model=...)")

    # one trajectory

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        try:
            verdicts = await self._verdicts(chain.trajectory)
        except FAILURES as error:
            sheet.miss_all(f"the judge failed: {error}")
            return
        pools = await asyncio.gather(*(bank.draw(prefix, self.simulations) for prefix in chain.open_prefixes))
        for step, pool in enumerate(pools):
            returns = await asyncio.gather(*(self._return(step + 1, rollout.end, rollout.outcome.value) for rollout in pool))
            made = [item for item in returns if not isinstance(item, str)]
            if made:
                total, largest = (sum(item[part] for item in made) for part in (0, 1))
                write(sheet, step, _fused(total, largest, verdicts[step]))
            else:
                sheet.miss(step, next((item for item in returns if isinstance(item, str)), bank.why_none(chain.after(step))))
        if chain.outcome is not None:
            last = await self._return(len(chain), chain.trajectory, chain.outcome.value)
            if isinstance(last, str):
                sheet.miss(len(chain) - 1, chain.outcome.reason or last)
            else:
                write(sheet, len(chain) - 1, _fused(*last, verdicts[-1]))
        self._filter(sheet, verdicts, wrong=chain.correct is False)

    async def _verdicts(self, trajectory: Trajectory) -> Verdicts:
        assert not isinstance(self.judge, RewardModel)
        verdicts = await self.judge(trajectory)
        if len(verdicts) != len(trajectory) or not set(verdicts) <= {-1, 0, 1}:
            raise InputError(f"the judge must give one of -1, 0, 1 a step; got {list(verdicts)} for {len(trajectory)} steps")
        return verdicts

    async def _return(self, start: int, end: Trajectory, value: float | None) -> tuple[float, float] | str:
        """R of a simulation from the prefix of `start` steps and the largest |R| that it could have had; why not, where there is no grade or verdict."""
        if value is None:
            return "the simulation's end could not be graded"
        n_inner = max(0, len(end) - start - 1)
        try:
            verdicts = (await self._verdicts(end))[start : start + n_inner] if n_inner else []
        except FAILURES as error:
            return f"the judge failed: {error}"
        return simulation_return(verdicts, 1.0 if value >= 1.0 else -1.0), return_bound(n_inner)

    def _agree(self, good: bool | None, verdict: int) -> bool:
        return self.undecided == "keep" if verdict == 0 else good is (verdict > 0)

    def _filter(self, sheet: Sheet, verdicts: Verdicts, *, wrong: bool) -> None:
        """The consensus of returns and verdicts, and the cut of wrong solutions behind their first run of errors."""
        against = [step for step, good in enumerate(sheet.hard) if good is not None and not self._agree(good, verdicts[step])]
        cut = recovery(sheet.hard) if wrong else None
        for step in [step for step, good in enumerate(sheet.hard) if good is not None]:  # what failed keeps its reason
            if against and (self.consensus == "solution" or step in against):
                sheet.miss(step, f"{ABSTAINED}: verdict and return disagree on step {step if step in against else against[0]}")
            elif cut is not None and step >= cut:
                sheet.miss(step, f"{ABSTAINED}: after the first run of errors of a wrong solution")

    # the search

    async def search(self, problem: Problem, bank: RolloutBank) -> Found:
        grown = _Search(self, Trajectory(problem), bank)
        for _ in range(self.rounds):
            if min(grown.found.values()) >= self.wanted or not await grown.round():
                break
        labels: dict[int, NodeLabel] = {}
        for end in grown.ends:
            labels |= self._path_labels(end, grown)
        return Found(grown.tree, labels, grown.reason or "no solution passed the consensus of verdicts and returns")

    def _path_labels(self, end: Node, grown: _Search) -> dict[int, NodeLabel]:
        """Labels of one solution's nodes; none when it is dropped."""
        path, verdicts = end.path[1:], grown.verdicts[end.index]
        sheet = Sheet(len(path))
        for step, node in enumerate(path):
            own = grown.scale.get(node.index, 0.0)
            verdict = verdicts[step]
            if own > 0.0:
                write(sheet, step, _fused(node.value_sum, own, verdict))
            elif verdict:
                write(sheet, step, NodeLabel((1.0 + verdict) / 2.0, verdict > 0, evidence=({"verdict": verdict, "return": None},)))
        self._filter(sheet, verdicts, wrong=end.trajectory.outcome is not None and end.trajectory.outcome.correct is False)
        return {
            node.index: NodeLabel(float(sheet.values[step]), sheet.hard[step], evidence=sheet.evidence[step])
            for step, node in enumerate(path)
            if sheet.hard[step] is not None
        }


def recovery(hard: Sequence[bool | None]) -> int | None:
    """The first step that is not bad after a bad one; None when errors last to the end."""
    first = next((step for step, good in enumerate(hard) if good is False), None)
    return None if first is None else next((step for step in range(first + 1, len(hard)) if hard[step] is not False), None)


def _fused(total: float, largest: float, verdict: int) -> NodeLabel:
    return NodeLabel((1.0 + total / largest) / 2.0, total > 0.0, evidence=({"verdict": verdict, "return": total},))


class _Search:
    """GroundedPRM's tree while it grows. Nodes from expansions share a tree with those from simulations, which are never selected."""

    def __init__(self, labeler: GroundedPRM, start: Trajectory, bank: RolloutBank) -> None:
        self.labeler, self.bank, self.tree = labeler, bank, Tree(start)
        self.completer: Completer = bank.completer
        self.found = {True: 0, False: 0}
        self.ends: list[Node] = []
        self.scale: dict[int, float] = {}
        self.verdicts: dict[int, Verdicts] = {}
        self.reason: str | None = None
        self._options: dict[int, list[Node]] = {}  # the expanded nodes' own children
        self._simulated: set[int] = set()

    async def round(self) -> bool:
        """Select, expand, simulate, back up; False when nothing is left or something failed."""
        node = self._select()
        if node is None:
            self.reason = "nothing is left to simulate"
            return False
        try:
            if node.index not in self._options:
                await self._expand(node)
            child = next(option for option in self._options[node.index] if option.index not in self._simulated)
            await self._simulate(child)
        except FAILURES as error:
            self.reason = f"the search stopped: {error}"
            return False
        return True

    def _select(self) -> Node | None:
        """The first node on the way down that still has something to simulate, branches that have nothing left shut on the way."""
        sign = 1.0 if self.found[True] < self.labeler.wanted else -1.0
        node = self.tree.root
        while True:
            options = self._options.get(node.index)
            if options is None or any(option.index not in self._simulated for option in options):
                return node
            alive = [option for option in options if not option.ended and not option.closed]
            if not alive:
                node.closed = True
                if node.parent is None:
                    return None
                node = self.tree.root
                continue
            node = alive[first_best([uct(sign * option.q, option.visits, node.visits, c=self.labeler.c) for option in alive])]

    async def _expand(self, node: Node) -> None:
        drawn = await expand(self.completer.policy, self.completer.environment, node.trajectory, self.labeler.children, sampling=self.completer.sampling)
        distinct = list({(step.key, step.finished, step.truncated): step for step in drawn}.values())
        self._options[node.index] = [self.tree.add(node, child) for child in distinct]

    async def _simulate(self, node: Node) -> None:
        self._simulated.add(node.index)
        if node.trajectory.ended:
            end, outcome = node.trajectory, await self.completer.grade(node.trajectory)
        else:
            drawn = await self.bank.draw(node.trajectory, 1)
            if not drawn:
                raise InputError(self.bank.why_none(node.trajectory))
            end, outcome = drawn[0].end, drawn[0].outcome
        made = await self.labeler._return(len(node.trajectory), end, outcome.value)
        if isinstance(made, str):
            node.closed = node.ended
            return
        add_discounted(node, made[0], discount=self.labeler.discount)
        for distance, ancestor in enumerate(reversed(node.path)):
            self.scale[ancestor.index] = self.scale.get(ancestor.index, 0.0) + self.labeler.discount**distance * made[1]
        last = node
        for k in range(len(node.trajectory) + 1, len(end) + 1):
            last = self.tree.add(last, end.prefix(k) if k < len(end) else end.graded(outcome))
        if last is node and node.ended:
            node.trajectory = end.graded(outcome)
        self.verdicts[last.index] = await self.labeler._verdicts(end)
        self.ends.append(last)
        self.found[bool(outcome.correct)] += 1
