"""Backups against values worked out by hand and against independent recursions."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from stepward.core import InputError, Node, Outcome, Problem, Step, Trajectory, Tree
from stepward.labeling.trees.backup import (
    add_discounted,
    ascending,
    descending,
    distance_to_success,
    leaf_any,
    leaf_max,
    leaf_mean,
    min_max,
    pseudo_depth,
    quality_values,
    return_bound,
    simulation_return,
    soft,
    visit_mean,
)

PROBLEM = Problem("toy")


def grown(shape: object, parent: Node | None = None, tree: Tree | None = None) -> Tree:
    """A tree from nested lists whose numbers are the ends' outcomes (None: unscored)."""
    tree = tree or Tree(PROBLEM)
    parent = parent or tree.root
    for place, child in enumerate(shape):  # type: ignore[var-annotated,arg-type]
        step = Step(f"step {len(parent.trajectory)} way {place}", "\n")
        if isinstance(child, list):
            grown(child, tree.add(parent, parent.trajectory.extend(step)), tree)
        else:
            outcome = Outcome.unscored("cut off") if child is None else Outcome(float(child))
            tree.add(parent, parent.trajectory.extend(step, finished=True).graded(outcome))
    return tree


def random_tree(seed: int, depth: int = 5) -> Tree:
    rng = random.Random(seed)

    def shape(left: int) -> object:
        if left == 0 or (left < depth and rng.random() < 0.3):
            return rng.choice([0, 1, 0, 1, 0.5])
        return [shape(left - 1) for _ in range(rng.randint(1, 3))]

    return grown([shape(depth - 1) for _ in range(2)])


def leaves(node: Node) -> list[float]:
    if not node.children:
        outcome = node.trajectory.outcome
        return [] if outcome is None or outcome.value is None else [outcome.value]
    return [value for child in node.children for value in leaves(child)]


HAND = grown([[1, 0], [[0, 0, 1], 0], 1])
#              ^1      ^4 ^5         and 10: root 0, children 1 (ends 2, 3), 4 (5 (ends 6, 7, 8), end 9), 10


def test_means_and_maxima_of_ends_are_what_a_direct_count_gives() -> None:
    for seed in range(30):
        tree = random_tree(seed)
        means, any_right, best = leaf_mean(tree.root), leaf_any(tree.root), leaf_max(tree.root, discount=1.0)
        for node in tree:
            below = leaves(node)
            assert means[node.index] == pytest.approx(np.mean(below), abs=1e-12)
            assert any_right[node.index] == float(max(below) >= 1.0)
            assert best[node.index] == max(below), "at discount 1 the Q-value is the best end below"


def test_parents_come_before_children_one_way_and_after_them_the_other() -> None:
    tree = random_tree(1)
    down, up = [node.index for node in descending(tree.root)], [node.index for node in ascending(tree.root)]
    assert sorted(down) == list(range(len(tree)))
    assert all(down.index(node.parent.index) < down.index(node.index) for node in tree if node.parent)
    assert all(up.index(node.parent.index) > up.index(node.index) for node in tree if node.parent)


def test_ungraded_ends_are_left_out_of_every_rule() -> None:
    tree = grown([[None, 1], [None, None]])
    assert leaf_mean(tree.root)[0] == 1.0
    assert math.isnan(leaf_mean(tree.root)[4])
    assert math.isnan(leaf_max(tree.root)[4])
    assert leaf_max(tree.root, discount=1.0)[0] == 1.0
    assert math.isnan(soft(tree.root, 1.0)[4])
    assert distance_to_success(tree.root)[4] is None


def test_discounted_maxima_by_hand() -> None:
    q = leaf_max(HAND.root, discount=0.9)
    assert [q[index] for index in (10, 1, 8, 5, 4, 0)] == pytest.approx([1.0, 0.9, 1.0, 0.9, 0.81, 0.9])


def test_pseudo_depth_is_the_released_recursion() -> None:
    """`update_rewards` and `update_depth_q_values` of QLASS, written again as they stand there."""

    def rewards(node: Node, found: dict[int, float]) -> list[float]:
        below = leaves(node) if not node.children else [value for child in node.children for value in rewards(child, found)]
        found[node.index] = sum(below) / len(below)
        return below

    def q_values(node: Node, height: int, own: dict[int, float], found: dict[int, float]) -> None:
        if not node.children:
            found[node.index] = own[node.index]
            if height > 1:
                for i in range(1, height):
                    found[node.index] += 0.9**i * own[node.index]
            return
        for child in node.children:
            q_values(child, height - 1, own, found)
        found[node.index] = own[node.index] + 0.9 * max(found[child.index] for child in node.children)

    for seed in range(10):
        tree, own, expected = random_tree(seed), dict[int, float](), dict[int, float]()
        rewards(tree.root, own)
        q_values(tree.root, 5, own, expected)
        assert pseudo_depth(tree.root, height=5) == pytest.approx(expected)


def test_min_max_keeps_the_order_and_leaves_equal_values_unknown() -> None:
    values = {0: 0.3, 1: math.nan, 2: -1.0, 3: 0.7}
    scaled = min_max(values)
    assert (scaled[2], scaled[3]) == (0.0, 1.0)
    assert scaled[2] < scaled[0] < scaled[3]
    assert math.isnan(scaled[1])
    assert all(math.isnan(value) for value in min_max({0: 0.4, 1: 0.4}).values())


@pytest.mark.parametrize("eta", [-3.0, 0.5, 2.0])
def test_soft_values_satisfy_their_bellman_equation(eta: float) -> None:
    """exp(eta v(s)) is the mean of exp(eta v) over children, each weighed by its ends."""
    for seed in range(8):
        tree = random_tree(seed)
        v = soft(tree.root, eta)
        for node in tree:
            if node.children:
                weights = [len(leaves(child)) for child in node.children]
                expected = np.average([math.exp(eta * v[child.index]) for child in node.children], weights=weights)
                assert v[node.index] == pytest.approx(math.log(expected) / eta, abs=1e-9)


def test_soft_values_have_the_mean_the_best_and_the_worst_end_as_limits() -> None:
    tree = random_tree(3)
    mean = leaf_mean(tree.root)
    for node in tree:
        below = leaves(node)
        assert soft(tree.root, 1e-6)[node.index] == pytest.approx(mean[node.index], abs=1e-5)
        assert soft(tree.root, 5000.0)[node.index] == pytest.approx(max(below), abs=2e-3)
        assert soft(tree.root, -5000.0)[node.index] == pytest.approx(min(below), abs=2e-3)
    with pytest.raises(InputError, match="leaf_mean"):
        soft(tree.root, 0.0)


def test_for_binary_outcomes_the_soft_value_is_a_function_of_the_share() -> None:
    """f(V) = ln(1 + V (e^eta - 1))/eta."""
    tree, eta = grown([[1, 0, 0], [1, 1, 0]]), 1.5
    share, v = leaf_mean(tree.root), soft(tree.root, eta)
    for node in tree:
        assert v[node.index] == pytest.approx(math.log1p(share[node.index] * math.expm1(eta)) / eta, abs=1e-12)


def test_discounted_returns_add_up_on_the_way_to_the_root() -> None:
    tree = grown([[1, 0]])
    node = tree.nodes[2]
    add_discounted(node, 1.0)
    add_discounted(tree.nodes[1], -0.5)
    assert [item.value_sum for item in tree.nodes[:3]] == pytest.approx([0.81 - 0.45, 0.9 - 0.5, 1.0])
    assert [item.visits for item in tree.nodes[:4]] == [2, 2, 1, 0]
    assert visit_mean(tree.root)[0] == pytest.approx(0.18)
    assert math.isnan(visit_mean(tree.root)[3])


# GroundedPRM's return


@pytest.mark.parametrize("n", range(1, 9))
def test_simulation_returns_are_bounded_and_move_by_two_over_n_with_the_outcome(n: int) -> None:
    rng = random.Random(n)
    bound = return_bound(n)
    assert bound == pytest.approx((n + 1) / (2 * n) + 1 / n)
    assert simulation_return([1] * n, 1.0) == pytest.approx(bound)
    assert simulation_return([-1] * n, -1.0) == pytest.approx(-bound)
    for _ in range(50):
        verdicts = [rng.choice([-1, 0, 1]) for _ in range(n)]
        right, wrong = simulation_return(verdicts, 1.0), simulation_return(verdicts, -1.0)
        assert right - wrong == pytest.approx(2 / n)
        assert -bound - 1e-12 <= wrong
        assert right <= bound + 1e-12


def test_earlier_verdicts_weigh_more_and_a_simulation_without_inner_steps_is_its_outcome() -> None:
    for n in range(2, 7):
        drops = [simulation_return([1] * n, 1.0) - simulation_return([-1 if i == at else 1 for i in range(n)], 1.0) for at in range(n)]
        assert drops == sorted(drops, reverse=True)
        assert drops[0] > drops[-1]
    assert simulation_return([1, -1], 1.0) == pytest.approx(0.5 * 1 - 0.5 * 0.5 + 0.5)
    assert (simulation_return([], 1.0), simulation_return([], -1.0), return_bound(0)) == (1.0, -1.0, 1.0)


# ReST-MCTS*


def test_quality_values_by_hand() -> None:
    """Node 10 is right after one step: v = 1. Node 1 is one step from right: v = 1/2, its right end 1, its wrong end 1/2 - (1/2)/2 = 1/4.

    Nodes 4 and 5 are two and one steps away: 1/3, then 1/3 + (2/3)/2 = 2/3; wrong ends below 5 lose (1/3)/2; end 9, below 4 with m = 2, loses (2/3)/3.
    """
    v = quality_values(HAND.root)
    expected = {0: 0.0, 1: 1 / 2, 2: 1.0, 3: 1 / 4, 4: 1 / 3, 5: 2 / 3, 6: 1 / 2, 7: 1 / 2, 8: 1.0, 9: 1 / 9, 10: 1.0}
    assert v == pytest.approx(expected)


def test_a_straight_right_chain_of_n_steps_has_values_k_over_n() -> None:
    for n in range(1, 12):
        shape: object = 1
        for _ in range(n - 1):
            shape = [shape]
        v = quality_values(grown([shape]).root)
        assert [v[k] for k in range(n + 1)] == pytest.approx([k / n for k in range(n + 1)])


def test_quality_values_are_progress_between_0_and_1() -> None:
    """v in [0, 1]; 1 exactly at right ends; it rises exactly where a right end lies below."""
    known = 0
    for seed in range(60):
        tree = random_tree(seed)
        far, v = distance_to_success(tree.root), quality_values(tree.root)
        if far[0] is None:
            assert all(math.isnan(value) for value in v.values())
            continue
        for node in tree:
            known += 1
            assert 0.0 <= v[node.index] <= 1.0
            right_end = not node.children and leaves(node)[0] >= 1.0
            assert (abs(v[node.index] - 1.0) < 1e-12) == right_end
            if node.parent is not None:
                before = v[node.parent.index]
                assert (v[node.index] > before) == (far[node.index] is not None)
    assert known > 200


def test_steps_nearer_to_the_answer_move_the_quality_value_more() -> None:
    """|w| = (1 - v)/(m + 1) grows as m falls, for one value before the step, right or wrong."""
    near, middle, far = (grown([[shape]]) for shape in (1, [1], [[1]]))
    steps = [quality_values(tree.root)[1] for tree in (near, middle, far)]
    assert steps == sorted(steps, reverse=True)
    losses = []
    for ahead in ([1, 0], [[1], 0], [[[1]], 0]):
        tree = grown([ahead])
        v = quality_values(tree.root)
        wrong = next(node for node in tree if not node.children and leaves(node) == [0.0])
        losses.append((v[1] - v[wrong.index]) / (1 - v[1]))
    assert losses == sorted(losses, reverse=True)


def test_an_edge_of_several_steps_counts_each_of_them() -> None:
    fine = grown([[[[1]]]])
    coarse = Tree(PROBLEM)
    middle = coarse.add(coarse.root, fine.nodes[2].trajectory)
    coarse.add(middle, fine.nodes[4].trajectory)
    v, w = quality_values(fine.root), quality_values(coarse.root)
    assert [w[1], w[2]] == pytest.approx([v[2], v[4]])
    assert distance_to_success(coarse.root)[0] == 4


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="discount"):
        leaf_max(HAND.root, discount=1.5)
    with pytest.raises(InputError, match="discount"):
        add_discounted(HAND.root, 1.0, discount=-0.1)
    assert isinstance(HAND.root.trajectory, Trajectory)
