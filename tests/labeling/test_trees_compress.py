"""Node compression: what joined steps and moved children must leave as it was."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from stepward.core import InputError, Node, Step, Trajectory, Tree
from stepward.labeling.completer import Completer
from stepward.labeling.trees.backup import leaf_mean
from stepward.labeling.trees.compress import balance, hierarchical, joined, merge, reattach
from stepward.labeling.trees.full_width import full_width
from stepward.testing.ladder import Climber, Ladder

LADDER = Ladder()


def drawn(seed: int, width: int = 4, height: int = 3, n_steps: int = 5) -> Tree:
    completer = Completer(policy=Climber(clean=0.7, slip=0.15, routes=10_000), environment=LADDER)
    return asyncio.run(full_width(completer, LADDER.problem(n_steps, str(seed)), width=width, height=height))


def ends(node: Node) -> list[Trajectory]:
    return [end for child in node.children for end in ends(child)] if node.children else [node.trajectory]


def test_joined_steps_write_the_same_text() -> None:
    one, other = Step("a", "\n", n_tokens=2, logprob=-0.5), Step("b", "", n_tokens=3, logprob=-0.25)
    step = joined(one, other)
    assert step.written == one.written + other.written
    assert (step.n_tokens, step.logprob) == (5, -0.75)
    assert joined(one, Step("b")).n_tokens is None
    for awkward in (Step("a", observation="4"), Step("a", agent="x"), Step("a", action={"tool": "x"})):
        with pytest.raises(InputError, match="cannot be joined"):
            joined(awkward, other)


def test_merging_adds_coarser_examples_and_leaves_the_originals_unchanged() -> None:
    tree = drawn(0)
    values = leaf_mean(tree.root)
    before, record = Counter(values.values()), tree.to_record()
    coarse = merge(tree.root, values)
    assert Counter(values.values()) == before
    assert tree.to_record() == record
    fine = [node for node in tree if len(node.trajectory) >= 2]
    assert len(coarse) == len(fine)
    assert sorted((trajectory.text, value) for trajectory, value in coarse) == sorted((node.trajectory.text, values[node.index]) for node in fine)
    assert sorted(len(trajectory) for trajectory, _ in coarse) == sorted(len(node.trajectory) - 1 for node in fine)


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_reattaching_keeps_the_roots_ends_and_its_share_of_right_ones(chance: float) -> None:
    shifted = 0
    for seed in range(6):
        tree = drawn(seed)
        record = tree.to_record()
        new = reattach(tree, chance=chance, seed=seed)
        assert tree.to_record() == record, "the tree that came in is not changed"
        assert len(new) == len(tree)
        old_ends, new_ends = ends(tree.root), ends(new.root)
        assert Counter(end.text for end in new_ends) == Counter(end.text for end in old_ends)
        assert leaf_mean(new.root)[0] == pytest.approx(leaf_mean(tree.root)[0], abs=1e-12)
        moved = sum(len(end) for end in old_ends) - sum(len(end) for end in new_ends)
        assert (moved > 0) == (chance > 0)
        shifted += sorted(leaf_mean(new.root).values()) != sorted(leaf_mean(tree.root).values())
    assert (shifted > 0) == (chance > 0), "the values of the nodes in between are what changes"


def test_a_moved_child_hangs_from_its_grandparent_with_its_parents_step_in_front() -> None:
    tree = drawn(1, width=4, height=2, n_steps=3)
    new = reattach(tree, chance=1.0)
    for parent in tree.root.children:
        first, *rest = parent.children
        texts = [child.trajectory.steps[0].written for child in new.root.children]
        assert parent.trajectory.steps[0].written + first.trajectory.steps[1].written in texts
        kept = next(child for child in new.root.children if child.trajectory.key == parent.trajectory.key)
        assert [child.trajectory.key for child in kept.children] == [child.trajectory.key for child in rest]
    assert len(new.root.children) == 2 * len(tree.root.children)


def test_parents_with_few_children_are_left_alone() -> None:
    tree = drawn(2, width=3)
    assert reattach(tree, chance=1.0).to_record() == tree.to_record()
    assert reattach(tree, chance=1.0, min_children=3).to_record() != tree.to_record()
    with pytest.raises(InputError, match="chance"):
        reattach(tree, chance=1.5)


def test_balancing_takes_as_many_of_each_value_as_of_the_rarest_at_every_height() -> None:
    problem = LADDER.problem(9)

    def at(length: int, number: int) -> Trajectory:
        return Trajectory(problem, tuple(Step(f"{number} {t}", "\n") for t in range(length)))

    items = [(at(2, i), 0.0) for i in range(100)] + [(at(2, i + 100), 1.0) for i in range(20)] + [(at(2, 200), 0.5)] + [(at(3, i), 1.0) for i in range(9)]
    kept = balance(items, seed=1)
    assert Counter((len(trajectory), value) for trajectory, value in kept) == {(2, 0.0): 10, (2, 1.0): 2, (2, 0.5): 1, (3, 1.0): 5}
    assert kept == balance(items, seed=1)
    assert [items.index(item) for item in kept] == sorted(items.index(item) for item in kept)
    assert kept != balance(items, seed=2)


def test_hierarchical_data_hold_steps_of_both_sizes_each_labelled_once() -> None:
    tree = drawn(3)
    fine, coarse = {node.trajectory.key: leaf_mean(node)[node.index] for node in tree}, 0
    examples = hierarchical(tree, seed=4)
    assert len(examples) > 20
    for example in examples:
        assert example.labels is not None
        assert example.labels.n_unlabelled == len(example.trajectory) - 1
        value = float(example.labels.values[-1])
        assert example.labels.hard[-1] == (value > 0)
        coarse += "\n" in example.trajectory.steps[-1].text
        if example.trajectory.key in fine and fine[example.trajectory.key] == 0.0:
            assert value == 0.0, "nothing right can come below a node by moving its children away"
    assert 0 < coarse < len(examples)
    ids = [(example.trajectory.key, float(example.labels.values[-1])) for example in examples if example.labels]
    assert len(ids) == len(set(ids))
    assert hierarchical(tree, seed=4) == examples
