"""Claims about the ProcessBench protocol, against brute force and against results published for real models."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stepward.core import CountMismatch, Example, FormatError, InputError, RequestFailed, StepLabels, StepScores, Trajectory, Usage, aggregate
from stepward.evaluation import (
    Fixed,
    Own,
    ScoredItem,
    TunedOn,
    choose_threshold,
    evaluate_processbench,
    evaluate_scored,
    evaluate_scores_file,
    first_error_metrics,
    mean_estimate,
    read_candidate_scores,
    read_score_rows,
    score_models,
    subset_name,
)
from stepward.search import argmax

KNOWN = {  # published for these files at threshold 0.5: error accuracy, correct accuracy, F1 in percent
    ("gsm8k", "Qwen2.5-Math-PRM-7B"): ("73.2", "97.6", "83.7"),
    ("math", "Qwen2.5-Math-PRM-7B"): ("64.0", "89.0", "74.5"),
    ("gsm8k", "Qwen2.5-Math-7B-PRM800K"): ("50.4", "99.2", "66.8"),
    ("math", "Qwen2.5-Math-7B-PRM800K"): ("48.0", "87.0", "61.9"),
    ("gsm8k", "Skywork-o1-Open-PRM-Qwen-2.5-7B"): ("61.0", "78.7", "68.7"),
    ("math", "Skywork-o1-Open-PRM-Qwen-2.5-7B"): ("36.0", "66.0", "46.6"),
    ("gsm8k", "Llama3.1-8B-PRM-Deepseek-Data"): ("19.5", "100.0", "32.7"),
    ("math", "Llama3.1-8B-PRM-Deepseek-Data"): ("20.7", "83.0", "33.1"),
    ("gsm8k", "Llama3.1-8B-PRM-Mistral-Data"): ("30.9", "98.4", "47.0"),
    ("math", "Llama3.1-8B-PRM-Mistral-Data"): ("18.7", "80.0", "30.3"),
}


class Table:
    """A reward model that looks its scores up by prompt; an exception in the table is raised."""

    fingerprint = "table"
    granularity = "step"
    scale = "probability"

    def __init__(self, table: dict[str, StepScores | Exception]) -> None:
        self.table = table

    async def score(self, trajectory: Trajectory) -> StepScores:
        entry = self.table[trajectory.problem.prompt]
        if isinstance(entry, Exception):
            raise entry
        return entry


def example(prompt: str, n_steps: int, first_error: int | None) -> Example:
    labels = None
    if first_error is not None:
        good = [first_error < 0 or step < first_error for step in range(n_steps)]
        labels = StepLabels.from_hard(good, semantics="prefix", first_error=first_error)
    return Example(Trajectory.from_texts(prompt, [f"step {i}" for i in range(n_steps)]), labels, id=prompt)


@pytest.mark.parametrize(("subset", "model"), KNOWN)
def test_published_results_are_reproduced_to_the_printed_digit(shared_data: Path, subset: str, model: str) -> None:
    metrics = evaluate_scores_file(shared_data / "prm_scores" / f"processbench_{subset}_21_models.jsonl.gz", model).subsets[subset].metrics
    assert tuple(f"{value:.1f}" for value in (metrics.error_accuracy, metrics.correct_accuracy, metrics.f1)) == KNOWN[subset, model]


def test_two_score_files_are_two_subsets_and_their_average(shared_data: Path) -> None:
    files = [shared_data / "prm_scores" / f"processbench_{subset}_21_models.jsonl.gz" for subset in ("gsm8k", "math")]
    result = evaluate_scores_file(files, "Qwen2.5-Math-PRM-7B")
    assert result.average_f1 == pytest.approx((83.65 + 74.46) / 2, abs=0.01)
    tuned = evaluate_scores_file(files, "Qwen2.5-Math-PRM-7B", TunedOn(subset="gsm8k"))
    assert tuned.tuned_on == "gsm8k"
    assert tuned.subsets["gsm8k"].metrics.f1 >= result.subsets["gsm8k"].metrics.f1
    with pytest.raises(InputError, match=r"no-such.*Qwen2\.5-Math-7B-PRM800K"):
        evaluate_scores_file(files, "no-such")
    assert len(score_models(read_score_rows(files[0]))) == 21


@pytest.mark.parametrize(("how", "percent"), [("min", "15.32"), ("product", "17.18"), ("mean", "15.11"), ("last", "18.22")])
def test_published_best_of_ten_of_math_shepherd_is_reproduced(shared_data: Path, how: str, percent: str) -> None:
    rows = read_candidate_scores(shared_data / "prm_scores" / "rewardmath_math_shepherd.jsonl.gz")
    chosen_right = [argmax([aggregate(scores.values, how) for scores in row]) == 0 for row in rows]
    assert f"{100 * np.mean(chosen_right):.2f}" == percent


def test_outcome_scores_of_candidates_are_read_as_one_step(shared_data: Path) -> None:
    rows = read_candidate_scores(shared_data / "prm_scores" / "rewardmath_skywork_llama3.jsonl.gz")
    assert (len(rows), {len(row) for row in rows}, {len(scores) for row in rows for scores in row}) == (483, {10}, {1})


def test_metrics_by_hand() -> None:
    metrics = first_error_metrics([0, 2, None, -1, -1, 3], [0, 1, 4, -1, -1, -1])
    assert (metrics.error_accuracy, metrics.correct_accuracy) == (pytest.approx(100 / 3), pytest.approx(200 / 3))
    assert metrics.f1 == pytest.approx(400 / 9)
    assert (metrics.n_error, metrics.n_correct, metrics.n_unscored) == (3, 3, 1)


def test_a_constant_no_error_scores_zero_and_missing_kinds_are_unknown() -> None:
    constant = first_error_metrics([-1, -1], [3, -1])
    assert (constant.error_accuracy, constant.correct_accuracy, constant.f1) == (0.0, 100.0, 0.0)
    only_correct = first_error_metrics([-1], [-1])
    assert math.isnan(only_correct.error_accuracy)
    assert math.isnan(only_correct.f1)
    assert only_correct.to_json()["f1"] is None


def test_duplicating_the_correct_items_changes_nothing() -> None:
    predicted, truth = [0, 1, -1, 2, -1], [0, 0, -1, -1, -1]
    doubled = [*predicted, *predicted[2:]], [*truth, *truth[2:]]
    assert first_error_metrics(*doubled).f1 == pytest.approx(first_error_metrics(predicted, truth).f1)


def test_a_model_that_is_right_with_chance_q_has_f1_near_q() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(-1, 4, size=4000)
    predicted = np.where(rng.random(4000) < 0.7, truth, truth + 1)
    assert first_error_metrics(predicted.tolist(), truth.tolist()).f1 == pytest.approx(70, abs=3)


def test_the_protocol_end_to_end_with_abstentions_failures_and_unlabelled_examples() -> None:
    table: dict[str, StepScores | Exception] = {
        "a": StepScores(np.array([0.9, 0.1, 0.9]), usage=Usage(reward_tokens=10)),
        "b": StepScores(np.array([np.nan, np.nan]), ("abstained: no claim", "abstained: no claim"), usage=Usage(reward_tokens=5)),
        "c": RequestFailed("server gone"),
    }
    progress: list[int] = []
    examples = [example("a", 3, 1), example("b", 2, -1), example("c", 2, 0), example("d", 2, None)]
    result = asyncio.run(evaluate_processbench(Table(table), {"toy": examples}, on_scored=lambda: progress.append(1)))
    toy = result.subsets["toy"]
    assert toy.predicted == (1, -1, None)
    assert (toy.metrics.error_accuracy, toy.metrics.correct_accuracy, toy.metrics.n_unscored) == (50.0, 100.0, 1)
    assert (toy.n_abstained, toy.n_unlabelled, toy.reasons) == (2, 1, {"scoring failed: server gone": 1})
    assert result.usage.reward_tokens == 15
    assert len(progress) == 3


def test_the_json_has_exactly_the_promised_keys() -> None:
    table: dict[str, StepScores | Exception] = {"a": StepScores(np.array([0.2])), "b": StepScores(np.array([0.7]))}
    result = asyncio.run(evaluate_processbench(Table(table), {"toy": [example("a", 1, 0), example("b", 1, -1)]}))
    record = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert set(record) == {"subsets", "average_f1", "threshold", "usage"}
    assert {"error_accuracy", "correct_accuracy", "f1", "n_error", "n_correct", "n_unscored"} <= set(record["subsets"]["toy"])
    assert record["subsets"]["toy"]["intervals"]["correct_accuracy"] == [0.0, 100.0], "one problem says next to nothing"
    assert (record["threshold"], record["average_f1"], record["subsets"]["toy"]["threshold_tuned_here"]) == (0.5, 100.0, False)


def test_a_model_that_returns_too_few_scores_is_refused() -> None:
    with pytest.raises(CountMismatch, match=r"2 steps but table returned 1"):
        asyncio.run(evaluate_processbench(Table({"a": StepScores(np.array([0.2]))}), {"toy": [example("a", 2, 0)]}))


def items(seed: int, n: int) -> list[ScoredItem]:
    """Random solutions with coarse scores, so that ties are common; some steps abstained, some failed."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(n):
        size = int(rng.integers(1, 5))
        values = np.round(rng.random(size), 1)
        fate = rng.random(size)
        reasons = tuple("abstained: no claim" if f < 0.15 else "failed" if f < 0.2 else None for f in fate)
        values[[reason is not None for reason in reasons]] = math.nan
        made.append(ScoredItem(id=str(index), problem=str(index // 2), truth=int(rng.integers(-1, size)), scores=StepScores(values, reasons)))
    return made


def test_without_a_threshold_scores_are_judged_at_their_own() -> None:
    sample = [replace(item, scores=replace(item.scores, threshold=0.3)) for item in items(4, 40)]
    own = evaluate_scored({"s": sample})
    assert own.threshold == 0.3
    assert own.subsets["s"].predicted == evaluate_scored({"s": sample}, threshold=Fixed(value=0.3)).subsets["s"].predicted
    assert own.subsets["s"].predicted != evaluate_scored({"s": sample}, threshold=Fixed()).subsets["s"].predicted
    mixed = evaluate_scored({"s": sample, "other": items(5, 10)}, threshold=Own())
    assert math.isnan(mixed.threshold)
    assert mixed.to_json()["threshold"] is None
    assert mixed.subsets["s"].predicted == own.subsets["s"].predicted


def test_the_threshold_is_tuned_on_the_named_subset_only_and_the_result_says_so() -> None:
    subsets = {"a": items(1, 30), "b": items(2, 30)}
    result = evaluate_scored(subsets, threshold=TunedOn(subset="b"))
    assert result.threshold == choose_threshold(subsets["b"]).threshold
    record = result.to_json()
    assert [record["subsets"][name]["threshold_tuned_here"] for name in ("a", "b")] == [False, True]
    assert evaluate_scored(subsets, threshold=Fixed(value=result.threshold)).average_f1 == result.average_f1
    with pytest.raises(InputError, match="'c'; the subsets are a, b"):
        evaluate_scored(subsets, threshold=TunedOn(subset="c"))
    with pytest.raises(InputError, match="'empty'"):
        evaluate_scored({"empty": []})


def test_intervals_resample_problems_not_solutions() -> None:
    sample = items(3, 40)
    copies = [ScoredItem(id=f"{item.id}-{copy}", problem=item.problem, truth=item.truth, scores=item.scores) for copy in range(5) for item in sample]
    once, often = (evaluate_scored({"s": group}).subsets["s"].intervals["f1"] for group in (sample, copies))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    accuracy = evaluate_scored({"s": sample}).subsets["s"]
    right = [float(p == t) for p, t in zip(accuracy.predicted, accuracy.truth, strict=True) if t >= 0]
    assert accuracy.intervals["error_accuracy"].value == pytest.approx(100 * mean_estimate(right).value)


def test_subsets_are_named_after_their_files() -> None:
    assert subset_name("x/processbench_gsm8k_dev.jsonl.gz") == "gsm8k_dev"
    assert subset_name("gsm8k.json") == "gsm8k"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 7}, "rows.jsonl.gz:1: field 'label'"),
        ({"scored_steps": 1}, "field 'scored_steps'"),
        ({"scores": {"m": [0.1, "x"]}}, "number or null"),
        ({"scores": {"m": [0.1]}}, "expected 2 scores, got 1"),
        ({"id": None}, "field 'id'"),
    ],
)
def test_malformed_score_rows_are_refused_by_line_and_field(tmp_path: Path, change: dict[str, object], message: str) -> None:
    row = {"id": "gsm8k-1", "split": "gsm8k", "label": 1, "n_steps": 2, "scored_steps": 2, "scores": {"m": [0.9, None]}}
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress(json.dumps(row | change).encode()))
    with pytest.raises(FormatError, match=message.replace(".", r"\.")):
        read_score_rows(file)
    file.write_bytes(gzip.compress(json.dumps(row).encode()))
    result = evaluate_scores_file(file, "m")
    assert result.subsets["gsm8k"].metrics.n_unscored == 1
