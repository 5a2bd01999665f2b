"""QLASS: Q-values of explored trees against the ends that were found."""

from __future__ import annotations

import asyncio
import math

import pytest

from stepward.core import InputError, Node, Sampling, Trajectory
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.trees import QLASS
from stepward.labeling.trees.backup import leaf_max
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.testing import check_labeler
from stepward.testing.ladder import Climber, Ladder

LADDER = Ladder()
MIXED = Climber(clean=0.6, slip=0.1, repair=0.1, routes=3)


def test_at_discount_one_a_step_is_worth_the_best_end_below_it() -> None:
    seen = set()
    for i in range(12):
        growth = asyncio.run(QLASS(policy=MIXED, environment=LADDER, discount=1.0).grow(LADDER.problem(6, str(i))))
        best = leaf_max(growth.tree.root, discount=1.0)
        by_key = {(node.trajectory.key, node.ended): node for node in growth.tree}
        for example in growth.examples:
            assert example.labels is not None
            for t, value in enumerate(example.labels.values.tolist()):
                if not math.isnan(value):
                    prefix = example.trajectory.prefix(t + 1)
                    node = by_key[prefix.key, prefix.ended]
                    assert value == best[node.index], "rewards are 0 and 1, so min-max changes nothing"
                    seen.add(value)
    assert seen == {0.0, 1.0}


def test_values_keep_the_order_of_q_and_span_the_scale() -> None:
    for backup in ("vanilla", "pseudo_depth"):
        growth = asyncio.run(QLASS(policy=MIXED, environment=LADDER, backup=backup).grow(LADDER.problem(6, "order")))  # type: ignore[arg-type]
        rows = [
            (items[0]["q"], value)
            for example in growth.examples
            if example.labels
            for items, value in zip(example.labels.evidence, example.labels.values.tolist(), strict=True)
            if items
        ]
        assert len(rows) > 20
        rows.sort()
        values = [value for _, value in rows]
        assert values == sorted(values)
        assert (values[0], values[-1]) == (0.0, 1.0)


def test_later_steps_towards_a_right_end_are_worth_more_by_the_discount() -> None:
    """Every rung right, one way to write it: Q at depth t is 0.9^(n - t) along the ladder, and 0 at its wrong end."""
    n_steps = 5
    labels = asyncio.run(QLASS(policy=Climber(clean=1.0), environment=LADDER).label(LADDER.wrong_solution(LADDER.problem(n_steps), n_steps - 1, route=0)))
    assert [items[0]["q"] for items in labels.evidence] == pytest.approx([0.9 ** (n_steps - t) for t in range(1, n_steps)] + [0.0])
    assert labels.values.tolist() == pytest.approx([0.9 ** (n_steps - t) for t in range(1, n_steps)] + [0.0]), "from 0 to 1 already"
    assert labels.first_error == n_steps - 1


def test_the_maximum_lies_above_the_policys_own_value_and_grows_with_the_width() -> None:
    problem_values, found = [], {2: [], 6: []}  # type: dict[int, list[float]]
    policy = Climber(clean=0.3, routes=5)
    for i in range(80):
        problem = LADDER.problem(4, f"bias/{i}")
        problem_values.append(policy.value(Trajectory(problem)))
        for samples in found:
            growth = asyncio.run(QLASS(policy=policy, environment=LADDER, samples=samples, depth=1, discount=1.0).grow(problem))
            found[samples].append(leaf_max(growth.tree.root, discount=1.0)[0])
    mean = {samples: sum(values) / len(values) for samples, values in found.items()}
    exact = sum(problem_values) / len(problem_values)
    assert mean[6] > mean[2] + 0.15 > exact + 0.15


def test_a_tree_whose_values_are_all_equal_is_abstained_on() -> None:
    labels = asyncio.run(QLASS(policy=Climber(clean=0.0), environment=LADDER).label(LADDER.wrong_solution(LADDER.problem(4), 1)))
    assert labels.n_unlabelled == 4
    assert all((reason or "").startswith("abstained") for reason in labels.reasons)


def test_exploration_keeps_to_its_limits() -> None:
    def rollouts(**settings: object) -> tuple[int, list[Node]]:
        policy = Climber(clean=0.4, routes=1_000_000)  # no two rollouts write the same step
        labeler = QLASS(policy=policy, environment=LADDER, sampling=Sampling(seed=1), **settings)  # type: ignore[arg-type]
        growth = asyncio.run(labeler.grow(LADDER.problem(8, "limits")))
        return growth.usage.policy_tokens, list(growth.tree)

    few, _ = rollouts(max_rollouts=5)
    assert few <= 5 * 8
    shallow, nodes = rollouts(depth=2, max_rollouts=500)
    assert all(len(node.children) <= 1 for node in nodes if len(node.trajectory) >= 2), "nothing branches beyond the depth"
    _, deep = rollouts(depth=8, max_rollouts=500)
    assert any(len(node.children) > 1 for node in deep if len(node.trajectory) >= 4)
    assert max(len(node.children) for node in deep) <= 2
    best = leaf_max(deep[0], discount=1.0)
    assert all(best[node.index] > 0.01 for node in deep if len(node.trajectory) > 3 and len(node.children) > 1)
    assert shallow < rollouts(depth=8, max_rollouts=500)[0]


def test_the_labeler_keeps_its_promises() -> None:
    world, solver = GradeSchool(), ScriptedSolver(rates=ErrorRates.scaled(2.0))
    cases = [asyncio.run(solve(solver, world, problem, 1))[0] for problem in world.problems(5, 3)]
    check_labeler(QLASS(policy=solver, environment=world, max_rollouts=12), cases)
    check_labeler(QLASS(policy=solver, environment=world, max_rollouts=12, backup="pseudo_depth"), cases)
    for settings in ({"samples": 0}, {"discount": 0.0}, {"backup": "mean"}, {"floor": 1.0}):
        with pytest.raises(InputError):
            QLASS(policy=solver, environment=world, **settings)  # type: ignore[arg-type]
