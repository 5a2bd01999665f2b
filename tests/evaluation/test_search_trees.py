"""Search trees on a page: complete, open along the chosen path, safe with any text, and usable when large."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, settings
from tests import strategies
from tests.evaluation.test_report import NASTY, check

from stepward.core import Outcome, Problem, SearchResult, Step, StepScores, Trajectory, Tree, Usage
from stepward.evaluation.report import SearchTrees, render_report
from stepward.evaluation.report.tree import chosen_node, trees_html


def searched(text: str = "so 7.", why: str = "not among the 1 best") -> SearchResult:
    """A beam of width 1 with expansion 2, and a refinement of its answer."""
    tree = Tree(Problem(f"What is 3 + 4? {text}", "7"))
    kept = tree.add(tree.root, Trajectory(tree.problem).extend(f"3 + 4 {text}"))
    other = tree.add(tree.root, Trajectory(tree.problem).extend(f"3 * 4 {text}"))
    kept.value, other.value = 0.75, 0.25
    other.drop(why)
    end = tree.add(kept, kept.trajectory.extend(f"is 7 {text}", finished=True))
    end.value, end.scores = 0.875, StepScores([0.9, 0.875])
    unscored = tree.add(kept, kept.trajectory.extend(Step(f"is 8 {text}", observation=f"no, {text}"), truncated=True))
    unscored.reason = f"scoring failed: {text}"
    again = tree.add(tree.root, Trajectory(tree.problem, (Step(f"again {text}"), Step("7")), finished=True), kind="refine", revises=end)
    again.group = 3
    again.backup(0.5)
    chosen = end.trajectory.graded(Outcome(1.0, "7"))
    return SearchResult(chosen, tree, Usage(policy_tokens=12), None, {"chosen_node": end.index, "stopped": f"spent {text}"})


def test_every_node_is_shown_with_what_is_known_of_it() -> None:
    page = check(render_report(title="t", sections=[SearchTrees(title="Trees", results=[searched()])]))
    for words in (
        "3 + 4 so 7.", "0.75", "0.875", "dropped: not among the 1 best", "scoring failed: so 7.", "observed: no, so 7.", "refine of ", "group 3", "×1 q 0.5",
        "cut off", "✓ correct", "spent so 7.", "6, 3 of them ends, 1 dropped",
    ):  # fmt: skip
        assert words in page.text, words
    (own,) = [identifier for identifier in page.ids if identifier.endswith("-n3")]
    assert f"#{own}" in page.targets, "a refinement leads to its draft"


def test_only_the_chosen_path_is_open() -> None:
    html = trees_html([searched()], "s")
    assert re.findall(r'<details class="([^"]*)" open><summary id="s-1-n(\d+)"', html) == [("node chosen-path", "1")]
    assert re.findall(r'<div class="([^"]*) leaf" id="s-1-n(\d+)"', html) == [("node chosen-path", "3"), ("node dropped", "2")]
    assert re.findall(r'<details class="([^"]*)"><summary id="s-1-n(\d+)"', html) == [("node", "4"), ("node", "5")]


def test_a_choice_without_a_number_is_found_by_its_text() -> None:
    known = searched()
    for source in ({}, {"chosen_node": 99}, {"chosen_node": 5}, {"chosen_node": "3"}):
        node = chosen_node(SearchResult(known.chosen, known.tree, source=source))
        assert node is known.tree.nodes[3]
    assert chosen_node(SearchResult(None, known.tree, reason="none")) is None


def test_no_text_can_break_out() -> None:
    plain = check(render_report(title="t", sections=[SearchTrees(title="Trees", results=[searched("x", "y")])]))
    nasty = check(render_report(title="t", sections=[SearchTrees(title="Trees", results=[searched(NASTY, NASTY)])]))
    assert nasty.scripts == plain.scripts
    assert nasty.ids == plain.ids
    assert nasty.text.count('alert("x")') >= 8, "it is shown as text, everywhere"


@given(result=strategies.search_results())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_result_makes_a_well_formed_page_and_survives_being_read_back(result: SearchResult) -> None:
    html = trees_html([result], "s")
    check(html)
    assert trees_html([SearchResult.from_record(result.to_record())], "s") == html


def test_wide_and_deep_trees_stay_small_and_say_what_they_leave_out() -> None:
    tree = Tree(Problem("p"))
    node = tree.root
    for depth in range(1200):  # deeper than Python's recursion
        node = tree.add(node, node.trajectory.extend(f"{depth}. ", finished=depth == 1199))
    for number in range(2000):
        tree.add(tree.root, Trajectory(tree.problem).extend(f"{number}"))
    result = SearchResult(node.trajectory, tree, source={"chosen_node": node.index})
    html = trees_html([result], "s", most_nodes=1500)
    check(html)
    shown = len(re.findall(r'id="s-1-n\d+"', html))
    assert shown == 1499, "all but the root, which is the problem"
    assert f"{3200 - shown:,} more, in the file of results" in html
    assert "283 more" in html, "beyond the first siblings, the others are folded"
    assert len(html) < 1_000_000
