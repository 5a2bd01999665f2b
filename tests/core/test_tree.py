"""Trees: shared prefixes, visits that add up, and choices that are stable."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from tests.strategies import trees

from stepward.core import FormatError, InputError, Problem, SearchResult, Step, Trajectory, Tree, top


def grown() -> Tree:
    tree = Tree(Problem("p"))
    a = tree.add(tree.root, tree.root.trajectory.extend("a"))
    tree.add(tree.root, tree.root.trajectory.extend("b"))
    tree.add(a, a.trajectory.extend("c", finished=True))
    return tree


def test_nodes_know_their_place() -> None:
    tree = grown()
    assert [node.index for node in tree] == [0, 1, 2, 3]
    assert [node.depth for node in tree] == [0, 1, 1, 2]
    assert tree.nodes[3].path == [tree.root, tree.nodes[1], tree.nodes[3]]
    assert tree.ends == [tree.nodes[3]]
    assert tree.problem == Problem("p")
    assert "Node(3, steps=2" in repr(tree.nodes[3])


def test_a_child_must_continue_its_parent() -> None:
    tree = grown()
    with pytest.raises(InputError, match="does not continue node 1"):
        tree.add(tree.nodes[1], Trajectory(Problem("p"), (Step("other"), Step("c"))))
    with pytest.raises(InputError, match="does not continue node 3"):
        tree.add(tree.nodes[3], Trajectory(Problem("p")))


def test_equal_siblings_stay_separate_draws() -> None:
    tree = Tree(Problem("p"))
    first, second = (tree.add(tree.root, tree.root.trajectory.extend("same")) for _ in range(2))
    assert first is not second
    assert len(tree.root.children) == 2


def test_backup_adds_one_visit_on_the_whole_path() -> None:
    tree = grown()
    tree.nodes[3].backup(1.0)
    tree.nodes[2].backup(0.0)
    assert [node.visits for node in tree] == [2, 1, 1, 1]
    assert [node.q for node in tree] == [0.5, 1.0, 0.0, 1.0]


def test_q_before_any_visit_is_the_nodes_own_value() -> None:
    tree = grown()
    assert math.isnan(tree.root.q)
    tree.root.value = 0.25
    assert tree.root.q == 0.25


def test_a_search_may_start_from_a_prefix() -> None:
    start = Trajectory(Problem("p"), (Step("given"),))
    tree = Tree(start)
    tree.add(tree.root, start.extend("next"))
    again = Tree.from_record(tree.to_record())
    assert again.nodes[1].trajectory == tree.nodes[1].trajectory


@settings(deadline=None, max_examples=50)
@given(trees())
def test_a_tree_read_back_has_the_same_nodes(tree: Tree) -> None:
    again = Tree.from_record(tree.to_record())
    assert [node.trajectory for node in again] == [node.trajectory for node in tree]
    assert [[child.index for child in node.children] for node in again] == [[child.index for child in node.children] for node in tree]
    assert [(node.visits, node.value_sum, node.closed, node.reason) for node in again] == [
        (node.visits, node.value_sum, node.closed, node.reason) for node in tree
    ]


def test_a_record_whose_node_comes_before_its_parent_is_refused() -> None:
    record = grown().to_record()
    record["nodes"][1]["parent"] = 3
    with pytest.raises(FormatError, match="node 1 names node 3"):
        Tree.from_record(record)


def test_finished_and_cut_off_exclude_each_other() -> None:
    with pytest.raises(InputError, match="not both"):
        Trajectory(Problem("p"), finished=True, truncated=True)


def test_top_keeps_ties_in_order_and_unknown_values_last() -> None:
    tree = grown()
    for node, value in zip(tree, [0.5, math.nan, 0.5, 0.9], strict=True):
        node.value = value
    assert [node.index for node in top(tree, 4)] == [3, 0, 2, 1]
    assert top(tree, 0) == []
    assert [node.index for node in top(tree, 1, key=lambda node: -node.index)] == [0]


def test_a_result_has_a_choice_or_a_reason_but_not_both() -> None:
    tree = grown()
    assert SearchResult(tree.ends[0].trajectory, tree).reason is None
    assert SearchResult(None, tree, reason="nothing finished").chosen is None
    for arguments in ({"chosen": None}, {"chosen": tree.ends[0].trajectory, "reason": "x"}):
        with pytest.raises(ValueError, match="either a chosen trajectory or a reason"):
            SearchResult(tree=tree, **arguments)  # type: ignore[arg-type]
