"""Claims about the report: self-contained, well-formed, safe with any text, deterministic, and complete."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepward.core import CountMismatch, InputError, Outcome, Problem, Step, StepLabels, StepScores, Trajectory, Usage
from stepward.evaluation import Curves, Estimate, ProblemSamples, best_of_n, calibration
from stepward.evaluation.report import (
    Plot,
    Provenance,
    Table,
    Text,
    ViewedSolution,
    Viewer,
    format_cell,
    plot_curves,
    plot_curves_at_equal_compute,
    plot_label_errors,
    plot_reliability,
    plot_scores_by_position,
    render_report,
    write_report,
)
from stepward.evaluation.report.viewer import script_json, shade, viewer_data

VOID = {"meta", "link", "br", "hr", "img", "input"}
NASTY = '</script><script>alert("x")</script><!-- <b>&amp; \u2028 \ud800 ]]>'


class Checker(HTMLParser):
    """Parses a page; remembers ids, scripts and text, and refuses elements that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[str] = []
        self.targets: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "action"):
                self.targets.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.text += data


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == [], "every element is closed"
    return checker


def solution(text: str = "1 + 1 = 2.", group: str = "test") -> ViewedSolution:
    problem = Problem("What is 1 + 1?", "2")
    trajectory = Trajectory(problem, (Step(text), Step("So 3.", observation="no"), Step("3")), finished=True, outcome=Outcome(0.0, "3"))
    scores = StepScores(np.array([0.91, np.nan, 0.12]), (None, "request failed: 503", None))
    truth = StepLabels.from_hard([True, False, False], semantics="prefix", first_error=1, error_types=[None, "arithmetic_slip", None])
    return ViewedSolution(trajectory=trajectory, scores=scores, truth=truth, group=group, note="a note")


def curves() -> Curves:
    rng = np.random.default_rng(0)
    bank = [
        ProblemSamples(
            problem_id=str(index),
            answers=tuple("12"[int(bit)] for bit in right),
            correct=right.astype(float),
            scores=rng.random(4),
            policy_tokens=np.full(4, 50.0),
            reward_tokens=np.full(4, 60.0),
        )
        for index, right in enumerate(rng.random((30, 4)) < 0.5)
    ]
    return best_of_n(bank, resamples=300)


@pytest.fixture(scope="module")
def plots() -> dict[str, str]:
    rng = np.random.default_rng(1)
    return {
        "curves": plot_curves(curves()),
        "equal": plot_curves_at_equal_compute(curves()),
        "reliability": plot_reliability(calibration(rng.random(200), rng.random(200).round())),
        "position": plot_scores_by_position([StepScores(rng.random(4)) for _ in range(20)], [1] * 10 + [-1] * 9 + [None]),
        "errors": plot_label_errors(rng.normal(0.0, 0.1, size=300)),
    }


def page(plots: dict[str, str], text: str = "1 + 1 = 2.") -> str:
    estimate = Estimate(0.612, 0.58, 0.64, 300, "bootstrap")
    sections = [
        Text(title="Summary", paragraphs=["Unseen problems.", text]),
        Table(title="Accuracy", columns=["method", "accuracy", "tokens"], rows=[["best-of-16", estimate, 12345], [text, None, 7]], caption=text),
        *(Plot(title=name, svg=svg, caption=text) for name, svg in plots.items()),
        Provenance(settings={"policy": text, "seed": 3}, usage={"sampling": Usage(policy_tokens=98765)}),
        Viewer(title="Solutions", solutions=[solution(text), solution(text, group="other")]),
    ]
    return render_report(title=f"Demo {text}", sections=sections, summary=text)


def embedded(checker: Checker) -> list[dict[str, object]]:
    return json.loads(next(script for script in checker.scripts if script.startswith("[")))  # type: ignore[no-any-return]


def test_the_page_is_well_formed_and_ids_are_unique(plots: dict[str, str]) -> None:
    checker = check(page(plots))
    assert len(checker.ids) == len(set(checker.ids))
    assert {target[1:] for target in checker.targets if target.startswith("#")} <= set(checker.ids), "every inner link leads somewhere"


def test_the_page_asks_the_network_for_nothing(plots: dict[str, str]) -> None:
    text = page(plots)
    assert all(target.startswith("#") for target in check(text).targets)
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text)


def test_no_text_can_break_out_of_its_place(plots: dict[str, str]) -> None:
    plain, nasty = check(page(plots)), check(page(plots, NASTY))
    assert len(nasty.scripts) == len(plain.scripts)
    assert nasty.ids == plain.ids
    assert [record["steps"][0]["text"] for record in embedded(nasty)] == [NASTY, NASTY]  # type: ignore[index]
    assert '</script><script>alert("x")' in nasty.text, "shown as text"
    assert "innerHTML" not in page(plots)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec=None)))
def test_embedded_json_survives_any_text_and_never_ends_its_script(text: str) -> None:
    data = script_json([text])
    assert json.loads(data) == [text]
    assert not set("<>&") & set(data)
    assert data.isascii()


def test_equal_content_gives_equal_bytes_and_lone_surrogates_are_written(plots: dict[str, str], tmp_path: Path) -> None:
    first, second = page(plots, NASTY), page(plots, NASTY)
    assert first == second
    assert plot_curves(curves()) == plots["curves"], "plots carry no dates and no random ids"
    path = write_report(tmp_path / "deep" / "report.html", title="x", sections=[Text(title=NASTY, paragraphs=[NASTY])])
    check(path.read_text(encoding="utf-8"))


def test_every_number_is_on_the_page(plots: dict[str, str]) -> None:
    checker = check(page(plots))
    for number in ("0.612 [0.580, 0.640]", "12,345", "98,765", "–"):
        assert number in checker.text
    steps = embedded(checker)[0]["steps"]
    assert [step["score"] for step in steps] == [0.91, None, 0.12]  # type: ignore[index, attr-defined]


def test_plots_are_named_drawn_in_the_page_colour_and_hold_readable_text(plots: dict[str, str]) -> None:
    assert check(page(plots)).text.count("pass@1") >= 2
    for name, svg in plots.items():
        assert "currentColor" in svg, name
        assert "<text" in svg, name
    assert "4 unscored or unlabelled steps left out" in plots["position"]
    assert page(plots).count('role="img"') == len(plots)


def test_an_unscored_step_is_never_given_a_colour() -> None:
    record = viewer_data([solution()])[0]
    scored, unscored, low = record["steps"]
    assert (unscored["score"], unscored["shade"], unscored["reason"]) == (None, None, "request failed: 503")
    assert (scored["shade"] > 0.5, low["shade"] < 0.5, low["below"]) == (True, True, True)
    bare = viewer_data([ViewedSolution(trajectory=solution().trajectory)])[0]
    assert {(step["score"], step["reason"]) for step in bare["steps"]} == {(None, "no model was run")}


def test_the_filters_know_wrong_unscored_and_disagreeing_solutions() -> None:
    record = viewer_data([solution()])[0]
    assert (record["correct"], record["unscored"]) == (False, True)
    assert record["predicted"] is None
    assert record["disagree"] is False, "an unknown prediction does not disagree"
    given = solution()
    known = ViewedSolution(trajectory=given.trajectory, scores=StepScores(np.array([0.9, 0.8, 0.1])), truth=given.truth)
    assert viewer_data([known])[0]["disagree"] is True


@pytest.mark.parametrize(("scale", "threshold"), [("probability", 0.5), ("probability", 0.2), ("logit", 0.0), ("logratio", 1.5)])
def test_the_colour_turns_at_the_threshold_and_grows_with_the_score(scale: str, threshold: float) -> None:
    scores = StepScores(np.array([threshold]), scale=scale, threshold=threshold)  # type: ignore[arg-type]
    assert shade(threshold, scores) == pytest.approx(0.5)
    shades = [shade(value, scores) for value in np.linspace(0.0, 1.0, 21)]
    assert shades == sorted(shades)
    assert all(0.0 <= value <= 1.0 for value in shades)


def test_every_promised_key_and_role_is_in_the_script(plots: dict[str, str]) -> None:
    text = page(plots)
    keys = ("ArrowDown", "ArrowRight", "j:", "k:", "n:", "p:", '"?"', '"/"')
    for piece in (*keys, "aria-live", "aria-current", "aria-pressed", "prefers-color-scheme", "focus-visible"):
        assert piece in text, piece


def test_five_hundred_solutions_stay_small() -> None:
    text = render_report(title="many", sections=[Viewer(title="Solutions", solutions=[solution()] * 500)])
    assert len(text) < 1_000_000


@pytest.mark.parametrize(
    ("cell", "shown"),
    [(None, "–"), (math.nan, "–"), (True, "yes"), (1234567, "1,234,567"), (0.5, "0.500"), (56.78, "56.78"), (1e-5, "1e-05"), (2.5e12, "2.5e+12")],
)
def test_cells_are_written_for_people(cell: object, shown: str) -> None:
    assert format_cell(cell) == shown  # type: ignore[arg-type]


def test_misfits_are_refused() -> None:
    with pytest.raises(CountMismatch, match="row 0 has 1 cells for 2 columns"):
        Table(title="t", columns=["a", "b"], rows=[["x"]])
    with pytest.raises(InputError, match="needs SVG"):
        Plot(title="p", svg="no")
    with pytest.raises(CountMismatch, match="3 steps but 1 scores"):
        ViewedSolution(trajectory=solution().trajectory, scores=StepScores(np.array([0.5])))
    with pytest.raises(InputError, match="got str"):
        render_report(title="t", sections=["x"])  # type: ignore[list-item]
