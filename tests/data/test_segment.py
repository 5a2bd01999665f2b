"""Segmentation: the spans are the text, and each rule cuts where it says."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepward.core import InputError, Problem, Trajectory
from stepward.data import choose_rule, segment, spans
from stepward.data.protected import protected
from stepward.data.segment import RULES

PIECES = (
    "\n", "\n\n", "\r\n", " ", "\t", "\u2028", "\x0b", "Step 1: a", "**Step 2:** b", "### Step 3\n", "1. x", "  2) y", "2. z", "```", "~~~~", "\\[", "\\]",
    "$$", "\\begin{align}", "\\end{align}", "<think>", "</think>", "Wait, no.", "Alternatively,", "Hmm", "Let me check that.", "Okay, so", "x = 1.",
    "é𝔘", "\ud800",
)  # fmt: skip
structured = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
any_text = st.one_of(structured, st.text(max_size=40))


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=60, deadline=None)
@given(text=any_text)
def test_spans_follow_one_another_and_cover_the_text(rule: str, text: str) -> None:
    found = spans(text, rule)
    assert [start for start, _ in found] == [0, *[end for _, end in found[:-1]]][: len(found)]
    assert (found[-1][1] if found else 0) == len(text)
    assert all(start < end for start, end in found)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=60, deadline=None)
@given(text=any_text)
def test_steps_concatenated_are_the_text(rule: str, text: str) -> None:
    steps = segment(text, rule)
    assert Trajectory(Problem("p"), steps).text == text
    assert all(not step.separator.strip() for step in steps)
    if text.strip():
        assert all(step.text.strip() for step in steps), "no step is white space alone"
        assert all(step.text == step.text.rstrip() for step in steps)


@settings(max_examples=100, deadline=None)
@given(any_text)
def test_auto_is_the_rule_that_it_names(text: str) -> None:
    assert spans(text) == spans(text, choose_rule(text))


@settings(max_examples=100, deadline=None)
@given(any_text)
def test_no_step_begins_inside_a_protected_region(text: str) -> None:
    regions = protected(text)
    assert all(end <= start for (_, end), (start, _) in pairwise(regions))
    for rule in RULES:
        assert not [(a, b, start) for start, _ in spans(text, rule) for a, b in regions if a < start < b]


def texts(text: str, rule: str = "auto") -> list[str]:
    return [step.text for step in segment(text, rule)]


def test_the_empty_text_has_no_steps_and_white_space_is_one() -> None:
    assert segment("") == ()
    assert texts(" \n\n ") == [" \n\n "]


def test_leading_white_space_belongs_to_the_first_step_and_trailing_to_the_last_separator() -> None:
    (first, last) = segment("\n\n  a\n\nb \n")
    assert (first.text, first.separator, last.text, last.separator) == ("\n\n  a", "\n\n", "b", " \n")


@pytest.mark.parametrize("gap", ["\n\n", "\n \t\n", "\r\n\r\n", "\n\n\n\n"])
def test_blank_lines(gap: str) -> None:
    assert texts(f"a\nb{gap}c", "blank_lines") == ["a\nb", "c"]
    assert segment(f"a{gap}b")[0].separator == gap


def test_lines() -> None:
    assert texts("a\nb\r\n\nc", "lines") == ["a", "b", "c"]


@pytest.mark.parametrize(
    "block",
    ["```python\nx\n\ny\n```", "````\n```\n\n```\n````", "~~~\na\n\nb\n~~~", "\\[\n1\n\n2\n\\]", "$$\n1\n\n2\n$$", "\\begin{align*}\na\n\nb\n\\end{align*}"],
)
def test_blocks_stay_whole(block: str) -> None:
    assert texts(f"before\n\n{block}\n\nafter", "blank_lines") == ["before", block, "after"]


def test_an_unclosed_display_protects_nothing_and_an_unclosed_code_block_the_rest() -> None:
    assert texts("\\[ a\n\nb", "blank_lines") == ["\\[ a", "b"]
    assert texts("$$ a\n\nb", "blank_lines") == ["$$ a", "b"]
    assert texts("```\na\n\nb", "blank_lines") == ["```\na\n\nb"]
    assert texts("a \\\\[2pt] b\n\nc \\]", "blank_lines") == ["a \\\\[2pt] b", "c \\]"], "a line break with a distance is no display"


@pytest.mark.parametrize(
    "marker", ["Step {}: ", "step {}. ", "**Step {}:** ", "**Step {}**: ", "### Step {}\n", "## Step {}: ", "- Step {}: ", "Step {}\n", "Step {} - "]
)
def test_step_markers(marker: str) -> None:
    text = "Plan.\n" + "".join(f"{marker.format(k)}do {k}\n\nand more\n" for k in (1, 2, 3))
    assert choose_rule(text) == "step_markers"
    assert len(texts(text)) == 4
    assert texts(text)[1].startswith(marker.format(1).strip())


def test_step_markers_within_a_line_need_a_sentence_end_and_a_colon() -> None:
    assert texts("Step 1: a. Step 2: b, as step 1: says.") == ["Step 1: a.", "Step 2: b, as step 1: says."]
    assert texts("Step 2 is wrong because\nStep 1 was.", "step_markers") == ["Step 2 is wrong because\nStep 1 was."]


def test_numbered_items_count_up_and_inner_lists_stay_inside() -> None:
    text = "Let us see:\n1. a\n   1. inner\n   2. inner\n2. b\n1. again\n2. again\n"
    assert texts(text) == ["Let us see:", "1. a\n   1. inner\n   2. inner", "2. b\n1. again\n2. again"]
    assert texts("1) a\n2) b\n3) c") == ["1) a", "2) b", "3) c"]
    assert texts("0. a\n1. b", "numbered") == ["0. a", "1. b"]
    assert texts("7. a\n9. b", "numbered") == ["7. a\n9. b"], "a list begins with 0 or 1"
    assert texts("1. a\n3. b", "numbered") == ["1. a\n3. b"], "3 does not follow 1"
    assert texts("3.5 + 1. is\n1.5", "numbered") == ["3.5 + 1. is\n1.5"]
    assert texts("**1.** a\n**2.** b", "numbered") == ["**1.** a", "**2.** b"]


def test_long_thoughts_turn_at_their_markers() -> None:
    text = (
        "<think>\nOkay, so I need to find x here. Hmm. Wait, maybe x is two after all. Let me check that: 2 + 2 = 4, fine.\n"
        "Alternatively, use the formula.\n\nIt gives the same.\n</think>\n\nThe answer is 2."
    )
    assert choose_rule(text) == "long_cot"
    assert texts(text) == [
        "<think>\nOkay, so I need to find x here.",
        "Hmm. Wait, maybe x is two after all.",
        "Let me check that: 2 + 2 = 4, fine.",
        "Alternatively, use the formula.\n\nIt gives the same.\n</think>",
        "The answer is 2.",
    ]
    assert texts("I will wait, alternatively go. He said wait a moment.", "long_cot") == ["I will wait, alternatively go. He said wait a moment."]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("48 / 2 = 24.\n\n24 + 3 = 28.\n\nThe answer is 28.", "blank_lines"),
        ("48 / 2 = 24.\n24 + 3 = 27.", "lines"),
        ("one line", "lines"),
        ("Wait, once.\n\nThen on.", "blank_lines"),
        ("a\n\n1. b\n2. c", "numbered"),
        ("a\n\n1. b\n\nc", "blank_lines"),
        ("\n\nStep 1: a\nStep 2: b", "step_markers"),
    ],
)
def test_auto_chooses(text: str, rule: str) -> None:
    assert choose_rule(text) == rule


def test_an_unknown_rule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown segmentation rule 'words'; choose one of auto, blank_lines"):
        segment("a", "words")


@pytest.mark.parametrize(
    "unit", ["\\[ ", "$$ a ", "\\begin{align} ", "```\n", "\n ", " ", "**", "Step ", "1. \n", "Wait, Hmm. ", "Hmm", "\\begin{array}\\begin{cases}"]
)
def test_hostile_texts_are_split_too(unit: str) -> None:
    """A quadratic scan of these would not end within a test run."""
    text = unit * (100_000 // len(unit))
    for rule in RULES:
        assert spans(text, rule)[-1][1] == len(text)
