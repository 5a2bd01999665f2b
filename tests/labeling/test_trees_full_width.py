"""Full-width trees: values of enumerated trees against exact ones, and pairs of siblings."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from stepward.core import InputError, Outcome, Problem, Sampling, Step, Trajectory, Tree
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.completer import Completer
from stepward.labeling.trees import FullWidth, sibling_pairs
from stepward.labeling.trees.backup import leaf_any, leaf_mean
from stepward.labeling.trees.full_width import full_width
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.testing import check_labeler
from stepward.testing.ladder import Climber, Ladder

LADDER = Ladder()
MIXED = Climber(clean=0.7, slip=0.15, repair=0.1, routes=1)


def drawn(policy: Climber, n_steps: int, width: int, height: int, name: str = "") -> Tree:
    return asyncio.run(full_width(Completer(policy=policy, environment=LADDER), LADDER.problem(n_steps, name), width=width, height=height))


def test_every_node_has_the_same_number_of_children_down_to_the_height() -> None:
    tree = drawn(MIXED, 6, 3, 2)
    assert [sum(len(node.trajectory) == depth for node in tree) for depth in (0, 1, 2, 6)] == [1, 3, 9, 9]
    assert all(node.trajectory.outcome is not None for node in tree.ends)
    whole = drawn(MIXED, 3, 2, 3)
    assert len(whole.ends) == 8


def test_the_share_of_right_ends_is_unbiased_although_siblings_read_the_same() -> None:
    """One way to write a rung: equal siblings must have different draws below, or the tree would be four copies of one."""
    trees = [drawn(MIXED, 4, 2, 3, str(i)) for i in range(160)]
    shares = np.array([leaf_mean(tree.root)[0] for tree in trees])
    exact = MIXED.value(Trajectory(LADDER.problem(4)))
    assert abs(shares.mean() - exact) < 3 * shares.std() / math.sqrt(len(shares))
    independent = math.sqrt(exact * (1 - exact) / 8)
    assert shares.std() < 1.6 * independent, "eight ends must say clearly more than one"


def test_labels_of_a_chain_are_shares_or_any_of_the_ends_below() -> None:
    case = LADDER.wrong_solution(LADDER.problem(5), 2)
    sure = Climber(clean=1.0)
    for inner in ("mean", "any"):
        labels = asyncio.run(FullWidth(policy=sure, environment=LADDER, inner=inner).label(case))  # type: ignore[arg-type]
        assert labels.values.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
        assert labels.first_error == 2
    half = Climber(clean=0.5, routes=3)
    mean, some = (asyncio.run(FullWidth(policy=half, environment=LADDER, inner=inner).label(case)) for inner in ("mean", "any"))  # type: ignore[arg-type]
    assert 0.0 < mean.values[0] < 1.0
    assert some.values[0] == 1.0
    assert mean.hard == some.hard


def test_inner_labels_of_a_grown_tree_are_those_of_its_leaves() -> None:
    for inner, rule in (("mean", leaf_mean), ("any", leaf_any)):
        growth = asyncio.run(FullWidth(policy=MIXED, environment=LADDER, inner=inner, width=3).grow(LADDER.problem(5)))  # type: ignore[arg-type]
        values = rule(growth.tree.root)  # type: ignore[operator]
        n_labels = 0
        for example in growth.examples:
            assert example.labels is not None
            path = growth.tree.nodes[example.metadata["node"]].path[1:]
            for node in path:
                value = example.labels.values[len(node.trajectory) - 1]
                n_labels += not math.isnan(value)
                assert math.isnan(value) or value == values[node.index]
        assert n_labels == len(growth.tree) - 1, "every node once"


def toy() -> Tree:
    tree = Tree(Problem("toy"))
    for a, shares in enumerate(([1, 1], [1, 0], [0, 0])):
        node = tree.add(tree.root, tree.root.trajectory.extend(Step(f"way {a}", "\n")))
        for b, value in enumerate(shares):
            tree.add(node, node.trajectory.extend(Step(f"end {b}"), finished=True).graded(Outcome(float(value))))
    return tree


def test_pairs_prefer_the_sibling_with_the_larger_value_by_more_than_the_margin() -> None:
    tree = toy()
    values = leaf_mean(tree.root)
    pairs = sibling_pairs(tree.root, values)
    found = {(pair.chosen[0].text, pair.rejected[0].text, pair.margin) for pair in pairs if not len(pair.prefix)}
    assert found == {("way 0", "way 1", 0.5), ("way 0", "way 2", 1.0), ("way 1", "way 2", 0.5)}
    inner = [pair for pair in pairs if len(pair.prefix)]
    assert [(pair.prefix.steps[0].text, pair.chosen[0].text, pair.rejected[0].text) for pair in inner] == [("way 1", "end 0", "end 1")]
    assert len(sibling_pairs(tree.root, values, margin=0.5)) == 2


def test_equal_texts_make_no_pair_whatever_their_values() -> None:
    tree = Tree(Problem("toy"))
    for value in (1.0, 0.0):
        tree.add(tree.root, tree.root.trajectory.extend(Step("same"), finished=True).graded(Outcome(value)))
    assert sibling_pairs(tree.root, leaf_mean(tree.root)) == []


def test_trees_too_large_and_policies_that_fail_are_told() -> None:
    with pytest.raises(InputError, match="most_ends"):
        FullWidth(policy=MIXED, environment=LADDER, width=5, height=9)
    with pytest.raises(InputError, match="inner"):
        FullWidth(policy=MIXED, environment=LADDER, inner="max")  # type: ignore[arg-type]
    world, solver = GradeSchool(min_operations=6), ScriptedSolver(rates=ErrorRates.scaled(0.0))
    (solution,) = asyncio.run(solve(solver, world, world.problem(0, 0), 1))
    labels = asyncio.run(FullWidth(policy=solver, environment=world, sampling=Sampling(max_steps=3), width=1).label(solution.prefix(1)))
    assert labels.n_unlabelled == 1, "what a limit cut off is not wrong"


def test_the_labeler_keeps_its_promises() -> None:
    world, solver = GradeSchool(), ScriptedSolver(rates=ErrorRates.scaled(2.0))
    cases = [asyncio.run(solve(solver, world, problem, 1))[0] for problem in world.problems(5, 2)]
    check_labeler(FullWidth(policy=solver, environment=world, height=2), cases)
    check_labeler(FullWidth(policy=solver, environment=world, height=1, inner="any"), cases)
