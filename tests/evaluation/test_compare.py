"""Comparisons of strategies: tests against references, the hull against brute force, and what is not known."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepward.core import InputError, Outcome, Problem, SearchResult, Trajectory, Tree, Usage
from stepward.evaluation.compare import Comparison, Sizes, Trial
from stepward.evaluation.frontier import dominating, hull
from stepward.evaluation.paired import holm, paired_test, sign_flip_test
from stepward.evaluation.report import comparison_sections, plot_strategies, plot_strategies_png, render_report
from stepward.evaluation.statistics import mcnemar_exact

PROBLEMS = [Problem(f"p{number}") for number in range(60)]


def result(problem: Problem, right: float | None, *, tokens: int = 10, reward: int = 0, answered: bool = True) -> SearchResult:
    """A search that chose a solution with this outcome (None: it could not be graded), or nothing."""
    tree, usage = Tree(problem), Usage(policy_tokens=tokens, policy_prefill=5, reward_tokens=reward)
    if not answered:
        return SearchResult(None, tree, usage, "the budget is spent", {"stopped": "the budget of 5 calls is spent"})
    outcome = Outcome.unscored("the grader hung") if right is None else Outcome(right)
    chosen = tree.add(tree.root, Trajectory(problem).extend("so", finished=True)).trajectory.graded(outcome)
    return SearchResult(chosen, tree, usage)


def trial(name: str, right: Any, **cost: int) -> Trial:
    return Trial.of(name, [result(problem, float(one), **cost) for problem, one in zip(PROBLEMS, right, strict=True)])


def test_holm_agrees_with_a_worked_example() -> None:
    """p = .01, .04, .03, .005: times 3, 1, 2, 4 in rising order, made monotone."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    found = holm([math.nan, 0.01, 0.02])
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([0.02, 0.02]), "an unknown p-value is not a comparison"


def test_the_sign_flip_test_is_mcnemars_on_right_and_wrong() -> None:
    """With few and with many differing problems: exact, then within four standard errors of 10,000 flips."""
    rng = np.random.default_rng(0)
    for n, tolerance in ((12, 1e-12), (200, 4 * math.sqrt(0.25 / 10_000))):
        for shift in (0.0, 0.15):
            first, second = (rng.random(n) < 0.5 + shift).astype(float), (rng.random(n) < 0.5).astype(float)
            _, p = sign_flip_test(first - second, [str(index) for index in range(n)])
            assert p == pytest.approx(mcnemar_exact(first == 1, second == 1), abs=tolerance)


def test_the_right_test_is_chosen_for_the_data() -> None:
    keys = [str(index) for index in range(8)]
    right, wrong = np.ones(8), np.array([0.0] * 6 + [1.0, 1.0])
    assert paired_test(right, wrong, keys) == ("McNemar, exact", pytest.approx(2 / 64))
    assert paired_test(right * 0.5, wrong, keys)[0] == "permutation, exact"
    assert paired_test(right, wrong, ["same"] * 8) == ("permutation, exact", 1.0), "one problem can prove nothing, however often it is tried"
    name, p = paired_test(np.full(8, math.nan), wrong, keys)
    assert "no problem" in name
    assert math.isnan(p)


def test_equal_strategies_are_told_apart_in_at_most_five_percent_of_comparisons() -> None:
    """Family-wise: any of the 6 pairs of 4 equally good strategies; 300 comparisons, plus four standard errors."""
    rng = np.random.default_rng(1)
    false = 0
    for _ in range(300):
        columns = rng.random((4, 60)) < 0.6
        pairs = [mcnemar_exact(a, b) for a, b in combinations(columns, 2)]
        false += min(holm(pairs)) < 0.05
    assert false / 300 <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 300)


points = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12)), min_size=1, max_size=9)


@given(points)
@settings(max_examples=150, deadline=None)
def test_the_hull_is_what_no_point_and_no_mixture_of_two_beats(found: list[tuple[int, int]]) -> None:
    x, y = np.array([p[0] for p in found], dtype=float), np.array([p[1] for p in found], dtype=float)
    chain = hull(x, y)

    def beaten(place: int) -> bool:
        """By a point, or by a mixture of two that costs as much: more right for no more, or as right for less."""
        for a in range(len(x)):
            if (x[a] <= x[place] and y[a] > y[place]) or (x[a] < x[place] and y[a] >= y[place]):
                return True
            for b in range(len(x)):
                if x[a] < x[place] < x[b] and y[a] + (y[b] - y[a]) * (x[place] - x[a]) / (x[b] - x[a]) >= y[place] + 1e-12:
                    return True
        return False

    assert all(not beaten(place) for place in chain)
    corners = {(x[place], y[place]) for place in chain}
    for place in range(len(x)):
        on_an_edge = any(
            x[a] < x[place] < x[b] and math.isclose((y[b] - y[a]) * (x[place] - x[a]), (y[place] - y[a]) * (x[b] - x[a])) for a in chain for b in chain
        )
        assert beaten(place) or on_an_edge or (x[place], y[place]) in corners


def test_a_point_is_dominated_by_one_that_is_no_worse_in_both() -> None:
    x, y = np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.7, math.nan])
    assert [dominating(x, y, place) for place in range(4)] == [None, 0, None, None]


def test_rows_say_which_strategies_are_worth_their_compute() -> None:
    n = len(PROBLEMS)
    right = {"cheap": 20, "middling": 24, "dear": 50, "wasteful": 40}
    cost = {"cheap": 10, "middling": 30, "dear": 50, "wasteful": 90}
    comparison = Comparison(trials=[trial(name, np.arange(n) < right[name], tokens=cost[name]) for name in right])
    standing = {row.name: row.words for row in comparison.rows}
    assert standing == {"cheap": "hull", "middling": "undominated", "dear": "hull", "wasteful": "dominated by dear"}
    assert [row.cost.value for row in comparison.rows] == [10, 30, 50, 90]
    shares = {row.name: row.hull_share for row in comparison.rows}
    assert shares["cheap"] == shares["dear"] == 1.0
    assert shares["wasteful"] == 0.0


def test_strategies_at_the_same_place_share_their_standing() -> None:
    right = np.arange(len(PROBLEMS)) < 30
    rows = Comparison(trials=[trial("a", right), trial("b", right), trial("c", right, tokens=20)]).rows
    assert [row.words for row in rows] == ["hull", "hull", "dominated by a"]
    assert [row.hull_share for row in rows] == [1.0, 1.0, 0.0]


def test_pairs_are_of_the_problems_that_both_know() -> None:
    first = Trial.of("a", [result(p, 1.0) for p in PROBLEMS[:20]])
    second = Trial.of("b", [result(p, None if index < 8 else 0.0) for index, p in enumerate(PROBLEMS[:20])])
    (pair,) = Comparison(trials=[first, second]).pairs
    assert (pair.difference.value, pair.difference.n) == (1.0, 12)
    assert pair.p == pytest.approx(2 / 2**12)
    assert Comparison(trials=[first, second]).rows[1].n_unknown == 8
    assert second.failures == {"unscored: the grader hung": 8}


def test_against_a_baseline_only_those_pairs_are_corrected_for() -> None:
    n = len(PROBLEMS)
    trials = [trial(name, np.arange(n) < count) for name, count in (("a", 30), ("b", 40), ("c", 50), ("d", 60))]
    every, some = Comparison(trials=trials), Comparison(trials=trials, baseline="a")
    assert len(every.pairs) == 6
    assert [(pair.first, pair.second) for pair in some.pairs] == [("b", "a"), ("c", "a"), ("d", "a")]
    assert all(pair.p_holm <= 3 * pair.p for pair in some.pairs)


def test_a_problem_without_an_answer_is_unknown_unless_asked_to_count_as_wrong() -> None:
    results = [result(p, 1.0, answered=index >= 15) for index, p in enumerate(PROBLEMS[:20])]
    skipped, counted = (Comparison(trials=[Trial.of("a", results, unanswered=how)]).rows[0] for how in ("skip", "wrong"))  # type: ignore[arg-type]
    assert (skipped.accuracy.value, skipped.accuracy.n, skipped.n_unknown) == (1.0, 5, 15)
    assert (counted.accuracy.value, counted.accuracy.n, counted.n_unknown) == (0.25, 20, 0)
    failures = Trial.of("a", results, unanswered="wrong").failures
    assert failures["unscored: the budget is spent"] == failures["stopped: the budget of 5 calls is spent"] == 15


def cut(problem: Problem, reason: str = "cut off before a final answer") -> SearchResult:
    """A search that chose a solution which a limit cut off."""
    tree = Tree(problem)
    chosen = tree.add(tree.root, Trajectory(problem).extend("so", truncated=True)).trajectory.graded(Outcome.unscored(reason))
    return SearchResult(chosen, tree, Usage(policy_tokens=10))


def test_a_choice_that_was_cut_off_counts_as_wrong_like_no_choice_and_a_failed_grader_as_neither() -> None:
    for empty in (cut, lambda problem: cut(problem, "truncated"), lambda problem: result(problem, None, answered=False)):
        counted = Trial.of("a", [empty(PROBLEMS[0]), result(PROBLEMS[1], 1.0)], unanswered="wrong")
        assert counted.correct.tolist() == [0.0, 1.0]
        assert np.isnan(Trial.of("a", [empty(PROBLEMS[0])]).correct).all()
    for failed in (result(PROBLEMS[0], None), cut(PROBLEMS[0], "grading failed: the sandbox is gone")):
        assert np.isnan(Trial.of("a", [failed], unanswered="wrong").correct).all()


def test_without_any_known_outcome_the_page_says_so_and_why() -> None:
    trials = [Trial.of(name, [*[result(p, None) for p in PROBLEMS[:5]], cut(PROBLEMS[5])]) for name in "ab"]
    comparison = Comparison(trials=trials)
    told = "No outcome is known for any strategy: the grader hung (10 times); cut off before a final answer (2 times)."
    assert comparison.nothing_known == comparison.to_json()["nothing_known"] == told
    page = render_report(title="t", sections=comparison_sections(comparison))
    assert told in page
    assert "<svg" not in page.partition("Accuracy against compute")[2].partition("Paired differences")[0]
    assert plot_strategies(comparison).startswith("<svg")
    assert plot_strategies_png(comparison).startswith(b"\x89PNG")
    assert Comparison(trials=[*trials, trial_of_six("c")]).nothing_known is None


def trial_of_six(name: str) -> Trial:
    return Trial.of(name, [result(p, 1.0) for p in PROBLEMS[:6]])


def test_the_same_reason_for_many_problems_is_counted_as_one() -> None:
    results = [cut(p, f"grading failed: problem {p.id!r} has no world") for p in PROBLEMS[:6]]
    assert Trial.of("a", results).failures == {"unscored: grading failed: the problem has no world": 6}


def test_a_difference_on_one_problem_has_no_interval() -> None:
    first, second = trial_of_six("a"), Trial.of("b", [result(p, None if index else 0.0) for index, p in enumerate(PROBLEMS[:6])])
    comparison = Comparison(trials=[first, second])
    difference = comparison.pairs[0].difference
    assert (difference.value, difference.n) == (1.0, 1)
    assert math.isnan(difference.low)
    assert "fewer than 2" in difference.method
    assert "1.000 (no interval)" in render_report(title="t", sections=comparison_sections(comparison))


def test_a_cost_of_nothing_is_no_proportion() -> None:
    (cost,) = Comparison(trials=[trial_of_six("a")]).mean_costs("reward_tokens")
    assert (cost.value, cost.low, cost.high) == (0.0, 0.0, 0.0)
    ones = Comparison(trials=[Trial.of("a", [result(p, 1.0, reward=1) for p in PROBLEMS[:6]])])
    assert (ones.mean_costs("reward_tokens")[0].low, ones.mean_costs("reward_tokens")[0].high) == (1.0, 1.0)
    assert ones.rows[0].accuracy.method == "rule of three", "an accuracy is one"


def test_flops_come_from_sizes_where_nobody_counts_them() -> None:
    results = [result(p, 1.0, tokens=10, reward=7) for p in PROBLEMS[:3]]
    trials = [Trial.of("a", results, sizes=Sizes(policy=100.0, reward=1000.0))]
    assert trials[0].costs["flops"].tolist() == [2 * (100 * 15 + 1000 * 7)] * 3
    assert Comparison(trials=trials, x="flops").rows[0].cost.value == 2 * (100 * 15 + 1000 * 7)
    with pytest.raises(InputError, match="--policy-parameters"):
        Comparison(trials=[Trial.of("a", results)], x="flops")


def test_a_comparison_of_different_problems_is_refused() -> None:
    here, there = Trial.of("a", [result(p, 1.0) for p in PROBLEMS[:5]]), Trial.of("b", [result(p, 1.0) for p in PROBLEMS[1:6]])
    for trials, baseline, message in (
        ([here, there], None, "same problems in the same order: 5 and 5 results of 5 and 5 problems, 4 of them in both"),
        ([here, here], None, "twice"),
        ([here], "z", "'z'"),
        ([], None, "at least one"),
    ):
        with pytest.raises(InputError, match=message):
            Comparison(trials=trials, baseline=baseline)


def test_the_plot_and_the_page_show_every_strategy_and_are_the_same_every_time() -> None:
    n = len(PROBLEMS)
    trials = [trial("a<b>", np.arange(n) < 30, tokens=20), trial("b", np.arange(n) < 40, tokens=100), Trial.of("c", [result(p, None) for p in PROBLEMS])]
    comparison = Comparison(trials=trials)
    assert comparison.rows[2].standing == "unknown"
    page = render_report(title="t", sections=comparison_sections(comparison))
    assert page == render_report(title="t", sections=comparison_sections(Comparison(trials=trials)))
    assert "a&lt;b&gt;" in page
    assert "the grader hung" in page
    assert "a<b>" not in page
    assert plot_strategies(comparison).startswith("<svg")
    assert plot_strategies_png(comparison).startswith(b"\x89PNG")
    assert comparison.to_json()["strategies"][2]["accuracy"]["value"] is None
