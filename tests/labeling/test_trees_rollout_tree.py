"""The rollout tree: what counts as evidence for which prefix, against the rollout bank's own counting."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from stepward.core import Count, InputError, Node, Outcome, Problem, Sampling, Step, Trajectory
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.completer import Completer, Rollout, RolloutBank
from stepward.labeling.trees.backup import leaf_mean
from stepward.labeling.trees.rollout_tree import RolloutTree
from stepward.policies.scripted import ErrorRates, ScriptedSolver

WORLD = GradeSchool(max_operations=5)
SOLVER = ScriptedSolver(rates=ErrorRates.scaled(2.0), notice=0.2, lucky=0.05)
COMPLETER = Completer(policy=SOLVER, environment=WORLD, sampling=Sampling(seed=3))
PROBLEM = Problem("toy")


def rollout(*texts: str, start: int = 0, value: float | None = 1.0, draw: int = 0) -> Rollout:
    outcome = Outcome.unscored("cut off") if value is None else Outcome(value)
    return Rollout(Trajectory.from_texts(PROBLEM, list(texts), separator="\n"), outcome, start, draw)


def empty() -> RolloutTree:
    return RolloutTree(PROBLEM, RolloutBank(COMPLETER))


def drawn_tree(index: int, *, unfolded: bool = True) -> RolloutTree:
    async def run() -> RolloutTree:
        tree = RolloutTree(WORLD.problem(7, index), RolloutBank(COMPLETER))
        for rollout in await tree.draw(tree.root, 12):
            await tree.draw_each([node for node in tree.line(rollout, at=tree.root)[1:3] if not node.ended], 3)
        if unfolded:
            tree.unfold()
        return tree

    return asyncio.run(run())


def test_a_rollout_is_evidence_for_every_prefix_that_it_passes_through() -> None:
    """Own and passing counts of every node equal those that the bank finds by comparing the text of all its rollouts with the prefix."""
    for index in range(12):
        tree = drawn_tree(index // 2, unfolded=index % 2 == 0)
        nodes = [node for node in tree if not node.ended]
        assert len(nodes) > 5
        for node in nodes:
            assert tree.own(node) == tree.bank.count(node.trajectory)
            assert tree.passing(node) == tree.bank.count(node.trajectory, passing=True)
            assert tree.find(node.trajectory) is node


def test_with_all_rollouts_from_the_root_the_mean_of_ends_is_the_passing_share() -> None:
    """Merged ends weighed by how often they came give S/N of every prefix; counted once each they do not."""

    async def run(index: int) -> RolloutTree:
        tree = RolloutTree(WORLD.problem(1, index), RolloutBank(COMPLETER))
        await tree.draw(tree.root, 40)
        tree.unfold()
        return tree

    unweighted = 0
    for index in range(5):
        tree = asyncio.run(run(index))
        means = leaf_mean(tree.root, weight=lambda node: tree.passing(node).rollouts)  # noqa: B023
        for node in tree:
            assert means[node.index] == pytest.approx(tree.passing(node).value, abs=1e-12)
        unweighted += leaf_mean(tree.root)[0] != pytest.approx(tree.passing(tree.root).value, abs=1e-12)
    assert unweighted >= 3


def test_equal_prefixes_are_one_node_and_a_seeded_trajectory_adds_no_evidence() -> None:
    tree = empty()
    line = tree.seed(Trajectory.from_texts(PROBLEM, ["a", "b", "c"], separator="\n", outcome=Outcome(0.0)))
    assert [len(node.trajectory) for node in line] == [0, 1, 2, 3]
    assert tree.passing(tree.root) == Count(0, 0)
    new = rollout("a", "b", "d", value=1.0)
    tree.add(new)
    assert len(tree) == 4
    assert tree.passing(line[2]) == Count(1, 1)
    way = tree.line(new, at=tree.root)
    assert way[:3] == line[:3]
    assert len(tree) == 5
    assert tree.passing(line[2]) == Count(1, 1)
    assert tree.own(line[2]) == Count(0, 0), "the rollout was drawn at the root"
    assert tree.own(line[0]) == Count(1, 1)
    assert line[3].trajectory.outcome == Outcome(0.0)


def test_a_rollout_from_a_longer_prefix_is_no_draw_of_the_shorter_ones_but_its_success_proves_them() -> None:
    tree = empty()
    line = tree.seed(Trajectory.from_texts(PROBLEM, ["a", "b", "c"], separator="\n"))
    tree.add(rollout("a", "b", "x", start=2, value=0.0))
    assert [tree.proven(node) for node in line] == [False] * 4
    tree.add(rollout("a", "b", "y", start=2, value=1.0, draw=1))
    assert [tree.passing(node).rollouts for node in line] == [0, 0, 2, 0]
    assert [tree.proven(node) for node in line] == [True, True, True, False]


def test_ungraded_rollouts_count_as_neither() -> None:
    tree = empty()
    tree.add(rollout("a", "b", value=None))
    tree.add(rollout("a", "c", value=1.0, draw=1))
    assert tree.own(tree.root) == Count(1, 1, 1)
    assert tree.own(tree.root, first=1) == Count(0, 0, 1)


def test_an_end_and_an_open_prefix_of_the_same_text_are_different_nodes() -> None:
    tree = empty()

    def added(item: Rollout) -> list[Node]:
        start = tree.find(Trajectory(PROBLEM, item.end.steps[: item.start]))
        tree.add(item)
        assert start is not None
        return tree.line(item, at=start)

    cut = Rollout(replace(Trajectory(PROBLEM, (Step("a", "\n"),)), truncated=True), Outcome.unscored("cut off"), 0, 0)
    end, node = added(cut)[-1], tree.seed(Trajectory(PROBLEM, (Step("a", "\n"),)))[-1]
    assert end is not node
    assert end.ended
    assert not node.ended
    finished = added(Rollout(Trajectory(PROBLEM, (Step("a", "\n"),), finished=True), Outcome(1.0), 1, 0))
    assert [item.ended for item in finished] == [False, True], "a policy that had nothing left to write ends the prefix itself"


def test_steps_may_be_merged_by_any_sameness() -> None:
    tree = RolloutTree(PROBLEM, RolloutBank(COMPLETER), same=lambda step: " ".join(step.text.lower().split()))
    tree.add(rollout("A  step", "right", value=1.0))
    tree.add(rollout("a step", "wrong", value=0.0, draw=1))
    tree.unfold()
    assert len(tree.root.children) == 1
    assert tree.passing(tree.root.children[0]) == Count(1, 2)
    assert tree.root.children[0].trajectory.steps[0].text == "A  step"


def test_a_rollout_from_an_unknown_prefix_is_refused() -> None:
    with pytest.raises(InputError, match="seed them first"):
        empty().add(rollout("a", "b", start=1))


def test_the_order_of_nodes_does_not_depend_on_what_ended_first() -> None:
    def shape(tree: RolloutTree) -> list[tuple[int, str]]:
        return [(node.parent.index if node.parent else -1, node.trajectory.key) for node in tree]

    assert shape(drawn_tree(2)) == shape(drawn_tree(2))


def test_values_of_nodes_without_rollouts_are_unknown() -> None:
    tree = empty()
    node: Node = tree.seed(Trajectory(PROBLEM, (Step("a", "\n"),)))[-1]
    assert math.isnan(tree.own(node).value)
    assert not tree.asked(node)
