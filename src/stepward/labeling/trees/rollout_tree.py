"""RolloutTree: graded completions folded into one tree of prefixes, each evidence for every prefix that it passes through. No method decides labels here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from stepward.core import Count, InputError, Node, Outcome, Problem, Step, Trajectory, Tree
from stepward.labeling.completer import Rollout, RolloutBank

Sameness = Callable[[Step], str]
_Place = tuple[int, str, bool, bool]  # parent, what its step says, and whether it is an end: finished, truncated


def exactly(step: Step) -> str:
    """Steps are the same when their content is."""
    return step.key


@dataclass
class _Evidence:
    drawn: list[Rollout] = field(default_factory=list)
    successes: int = 0
    graded: int = 0
    unscored: int = 0
    proven: bool = False  # some rollout through it or from below it ended right
    hanging: list[Rollout] = field(default_factory=list)  # rollouts that came this far and go on where there is no node yet

    def count(self, rollout: Rollout) -> None:
        self.successes += rollout.success is True
        self.graded += rollout.success is not None
        self.unscored += rollout.success is None
        self.proven |= rollout.success is True


class RolloutTree:
    """The prefixes of one problem's solutions, split at step boundaries; siblings that write the same step are one node.

    `tree`: the nodes, a `core.Tree`. A rollout adds one success, failure or unscored end to the node that it was drawn at and to every node on its way,
    those that are made later included. It makes nodes of its own when asked for them: `line` for one rollout, `unfold` for all. Ends carry their
    outcome; an end and an open prefix of the same text are different nodes.

    Two counts a node. `own`: rollouts drawn at this very prefix; a fixed number of them estimates V(prefix) without bias. `passing`: all that came
    by as well. Each of these is a fair draw of V too, unless the prefix is looked at *because* of how one of them ended: a method that picks prefixes
    out of wrong rollouts must not count those. A rollout is no draw of the prefixes before the one that it was drawn at; but a right one `proves` that
    all of these can still be finished right.

    `same` names what makes two steps the same (default: exact content); nodes that it merges keep the text that came first.
    """

    def __init__(self, start: Problem | Trajectory, bank: RolloutBank, *, same: Sameness = exactly) -> None:
        self.tree = Tree(start)
        self.bank = bank
        self.same = same
        self._evidence: dict[int, _Evidence] = {0: _Evidence()}
        self._children: dict[_Place, Node] = {}
        self._added: list[tuple[Node, Rollout]] = []

    @property
    def root(self) -> Node:
        return self.tree.root

    @property
    def problem(self) -> Problem:
        return self.tree.problem

    def __len__(self) -> int:
        return len(self.tree)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.tree)

    async def draw(self, node: Node, n: int) -> list[Rollout]:
        """The next `n` rollouts from this node's open prefix, added; none when the policy failed (see `why_none`)."""
        rollouts = await self.bank.draw(node.trajectory, n)
        for rollout in rollouts:
            self.add(rollout, at=node)
        return rollouts

    async def draw_each(self, nodes: Sequence[Node], n: int) -> None:
        """`n` further rollouts from every one of these nodes, asked for together and added in the order of the nodes."""
        drawn = await asyncio.gather(*(self.bank.draw(node.trajectory, n) for node in nodes))
        for node, rollouts in zip(nodes, drawn, strict=True):
            for rollout in rollouts:
                self.add(rollout, at=node)

    def seed(self, trajectory: Trajectory, outcome: Outcome | None = None) -> list[Node]:
        """The nodes of a given trajectory, one a prefix, the start first. It was not drawn here: it adds no evidence."""
        return self._grow(self.root, trajectory, trajectory.outcome if outcome is None else outcome)

    def add(self, rollout: Rollout, *, at: Node | None = None) -> None:
        """Count a rollout for the node that it was drawn at (`at`, else found by its text) and for all that it comes by.

        Raises: InputError when no node holds the prefix that it was drawn from.
        """
        start = self.find(Trajectory(self.problem, rollout.end.steps[: rollout.start])) if at is None else at
        if start is None:
            raise InputError(f"no node holds the first {rollout.start} steps of this rollout; seed them first")
        self._added.append((start, rollout))
        self._evidence[start.index].drawn.append(rollout)
        if rollout.success:
            for node in start.path:
                self._evidence[node.index].proven = True
        self._sink(rollout, start)

    def line(self, rollout: Rollout, *, at: Node) -> list[Node]:
        """The nodes of a rollout that was added, made where they were missing: the one that it was drawn at first, its end last."""
        return self._grow(at, rollout.end, rollout.outcome)

    def unfold(self) -> None:
        """Make the nodes of all rollouts."""
        for start, rollout in self._added:
            self._grow(start, rollout.end, rollout.outcome)

    def find(self, trajectory: Trajectory) -> Node | None:
        """The node of this prefix, None when no text went there."""
        node: Node | None = self.root
        while node is not None and (place := self._place(node, trajectory)) is not None:
            node = self._children.get(place)
        return node

    def drawn(self, node: Node) -> tuple[Rollout, ...]:
        """The rollouts drawn from exactly this prefix, in the order of their draws."""
        return tuple(self._evidence[node.index].drawn)

    def asked(self, node: Node) -> bool:
        """Whether rollouts from this prefix were asked for, in vain or not."""
        return bool(self._evidence[node.index].drawn) or node.trajectory.key in self.bank.reasons

    def own(self, node: Node, *, first: int | None = None) -> Count:
        """Successes among the rollouts drawn at this prefix, or among the `first` of them."""
        ends = [rollout.success for rollout in self._evidence[node.index].drawn[:first]]
        return Count(sum(end is True for end in ends), sum(end is not None for end in ends), sum(end is None for end in ends))

    def passing(self, node: Node) -> Count:
        """Successes among all rollouts that were drawn at this prefix or came by."""
        evidence = self._evidence[node.index]
        return Count(evidence.successes, evidence.graded, evidence.unscored)

    def proven(self, node: Node) -> bool:
        """Whether some rollout through this prefix, or from a longer one, ended right."""
        return self._evidence[node.index].proven

    def why_none(self, node: Node) -> str:
        """Why no rollout from this prefix has a grade."""
        return self.bank.why_none(node.trajectory)

    @property
    def n_rollouts(self) -> int:
        return len(self.bank.rollouts)

    def _grow(self, start: Node, trajectory: Trajectory, outcome: Outcome | None) -> list[Node]:
        nodes = [start]
        while (place := self._place(nodes[-1], trajectory)) is not None:
            nodes.append(self._children.get(place) or self._make(place, nodes[-1], trajectory, outcome))
        return nodes

    def _place(self, node: Node, trajectory: Trajectory) -> _Place | None:
        """Where a trajectory that came by this node goes next; None at its end."""
        depth, last = len(node.trajectory), len(trajectory) - 1
        if depth > last:  # nothing was left to write: the same text, ended
            return (node.index, "", trajectory.finished, trajectory.truncated) if trajectory.ended and not node.ended else None
        return (node.index, self.same(trajectory.steps[depth]), depth == last and trajectory.finished, depth == last and trajectory.truncated)

    def _make(self, place: _Place, parent: Node, trajectory: Trajectory, outcome: Outcome | None) -> Node:
        _, _, finished, truncated = place
        before = parent.trajectory
        if len(trajectory) == len(before):
            longer = Trajectory(before.problem, before.steps, finished=finished, truncated=truncated)
        else:
            longer = before.extend(trajectory.steps[len(before)], finished=finished, truncated=truncated)
        node = self._children[place] = self.tree.add(parent, longer.graded(outcome) if longer.ended and outcome is not None else longer)
        self._evidence[node.index] = _Evidence()
        waiting = self._evidence[parent.index].hanging
        coming = [rollout for rollout in waiting if self._place(parent, rollout.end) == place]
        if coming:
            waiting[:] = [rollout for rollout in waiting if self._place(parent, rollout.end) != place]
            for rollout in coming:
                self._sink(rollout, node)
        return node

    def _sink(self, rollout: Rollout, node: Node) -> None:
        """Count a rollout for this node and on, as far as nodes go."""
        self._evidence[node.index].count(rollout)
        while (place := self._place(node, rollout.end)) is not None:
            child = self._children.get(place)
            if child is None:
                self._evidence[node.index].hanging.append(rollout)
                return
            node = child
            self._evidence[node.index].count(rollout)


def outcome_reward(node: Node) -> float:
    """The outcome of an end in [0, 1]; NaN where there is none or it is unscored."""
    outcome = node.trajectory.outcome
    return float("nan") if outcome is None or outcome.value is None else outcome.value
