"""Claims about thresholds, calibration errors and ensembles of scores that exist already, against brute force and published results."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from stepward.core import InputError, RequestFailed, StepScores, Trajectory
from stepward.engine.loop import run_sync
from stepward.evaluation import ScoredItem, first_error_metrics, read_score_rows, score_models
from stepward.evaluation.calibration_error import ece_difference, ece_estimate, ece_of_chance, log_loss
from stepward.evaluation.model_scores import ScoreTable, candidate_sets, rank_candidates
from stepward.evaluation.scores_file import ScoreRow
from stepward.evaluation.threshold import choose_threshold, criterion_at, criterion_difference, right_ranges
from stepward.rewards.calibration import fit_isotonic, fit_platt, fit_temperature
from stepward.rewards.combine import Ensemble
from stepward.training.metrics import expected_calibration_error

KNOWN = {  # published for these files at threshold 0.5: error accuracy, correct accuracy, F1 in percent
    ("gsm8k", "Qwen2.5-Math-PRM-7B"): "73.2/97.6/83.7",
    ("math", "Qwen2.5-Math-PRM-7B"): "64.0/89.0/74.5",
    ("gsm8k", "Qwen2.5-Math-7B-PRM800K"): "50.4/99.2/66.8",
    ("math", "Qwen2.5-Math-7B-PRM800K"): "48.0/87.0/61.9",
    ("gsm8k", "Skywork-o1-Open-PRM-Qwen-2.5-7B"): "61.0/78.7/68.7",
    ("math", "Skywork-o1-Open-PRM-Qwen-2.5-7B"): "36.0/66.0/46.6",
    ("gsm8k", "Llama3.1-8B-PRM-Deepseek-Data"): "19.5/100.0/32.7",
    ("math", "Llama3.1-8B-PRM-Deepseek-Data"): "20.7/83.0/33.1",
    ("gsm8k", "Llama3.1-8B-PRM-Mistral-Data"): "30.9/98.4/47.0",
    ("math", "Llama3.1-8B-PRM-Mistral-Data"): "18.7/80.0/30.3",
}


def rows_of(n: int, models: int, seed: int, *, coarse: bool = True) -> list[ScoreRow]:
    """Random solutions scored up to the first error; coarse scores make ties common."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        size = int(rng.integers(1, 6))
        label = int(rng.integers(-1, size))
        scored = size if label < 0 else label + 1
        noise = [rng.random(scored) - (np.arange(scored) == label) * 0.3 for _ in range(models)]
        scores = {f"m{m}": tuple(np.clip(np.round(row, 1) if coarse else row, 0, 1).tolist()) for m, row in enumerate(noise)}
        rows.append(ScoreRow(id=str(index), subset="toy", label=label, scores=scores))
    return rows


def table_of(n: int, models: int, seed: int, *, coarse: bool = True) -> ScoreTable:
    return ScoreTable.from_rows(rows_of(n, models, seed, coarse=coarse), [f"m{m}" for m in range(models)])


def items_with_gaps(seed: int, n: int = 25) -> list[ScoredItem]:
    """Solutions with abstentions and failures, ties, and steps after the first error."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(n):
        size = int(rng.integers(1, 5))
        values, fate = np.round(rng.random(size), 1), rng.random(size)
        reasons = tuple("abstained: no claim" if f < 0.15 else "failed" if f < 0.2 else None for f in fate)
        values[[reason is not None for reason in reasons]] = math.nan
        made.append(ScoredItem(id=str(index), problem=str(index // 2), truth=int(rng.integers(-1, size)), scores=StepScores(values, reasons)))
    return made


def brute(items: list[ScoredItem], threshold: float, criterion: str) -> float:
    if criterion == "f1":
        return first_error_metrics([item.scores.first_error(threshold) for item in items], [item.truth for item in items]).f1
    right: dict[bool, list[bool]] = {True: [], False: []}
    for item in items:
        for step in range(len(item.scores) if item.truth < 0 else item.truth + 1):
            value, reason = item.scores.values[step], item.scores.reasons[step]
            wrong = step == item.truth
            if reason is not None:
                right[wrong].append(reason.startswith("abstained") and not wrong)
            else:
                right[wrong].append(bool(value < threshold) is wrong)
    return 50 * (float(np.mean(right[True])) + float(np.mean(right[False])))


# --- thresholds


@pytest.mark.parametrize("criterion", ["f1", "balanced_accuracy"])
@pytest.mark.parametrize("seed", range(8))
def test_the_chosen_threshold_is_the_best_of_all_and_so_is_its_whole_range(seed: int, criterion: str) -> None:
    items = items_with_gaps(seed)
    chosen = choose_threshold(items, criterion)  # type: ignore[arg-type]
    known = {float(value) for item in items for value in item.scores.values if not math.isnan(value)}
    edges = sorted({0.0, 1.0} | known)
    ranges = [(edges[0], edges[0], brute(items, edges[0], criterion))]
    ranges += [(low, high, brute(items, (low + high) / 2, criterion)) for low, high in pairwise(edges)]
    best = max(value for *_, value in ranges)
    assert chosen.value == pytest.approx(best)
    joined: list[list[float]] = []
    for low, high, value in ranges:
        if value < best - 1e-9:
            continue
        if joined and joined[-1][1] == low:
            joined[-1][1] = high
        else:
            joined.append([low, high])
    widest = max(joined, key=lambda run: (round(run[1] - run[0], 9), -run[0]))
    assert [chosen.low, chosen.high] == widest
    assert brute(items, chosen.threshold, criterion) == pytest.approx(best)
    assert chosen.threshold == pytest.approx(sum(widest) / 2)


@pytest.mark.parametrize("criterion", ["f1", "balanced_accuracy"])
def test_the_criterion_at_a_threshold_equals_brute_force_with_an_interval_around_it(criterion: str) -> None:
    items = items_with_gaps(3, 120)
    for threshold in (0.2, 0.5, 0.75):
        estimate = criterion_at(items, threshold, criterion, resamples=500)  # type: ignore[arg-type]
        assert estimate.value == pytest.approx(brute(items, threshold, criterion))
        assert estimate.low < estimate.value < estimate.high


def test_the_threshold_is_the_middle_of_the_gap_and_a_wider_gap_wins() -> None:
    def item(name: str, values: list[float], truth: int) -> ScoredItem:
        return ScoredItem(id=name, problem=name, truth=truth, scores=StepScores(np.array(values)))

    simple = [item("a", [0.9, 0.8], -1), item("b", [0.9, 0.2], 1)]
    chosen = choose_threshold(simple)
    assert (chosen.low, chosen.high, chosen.threshold, chosen.value) == (0.2, 0.8, 0.5, 100.0)
    # right in (0.1, 0.2] and in (0.5, 0.9]: one error is missed below 0.5, one solution without error is spoilt above 0.2
    two = [item("a", [0.2], -1), item("b", [0.9], -1), item("c", [0.1], 0), item("d", [0.5], 0)]
    chosen = choose_threshold(two)
    assert (chosen.low, chosen.high) == (0.5, 0.9)
    assert choose_threshold(two).threshold == pytest.approx(0.7)


def test_ranges_that_meet_are_joined_and_the_outer_ones_end_at_0_and_1() -> None:
    def item(name: str, values: list[float], truth: int) -> ScoredItem:
        return ScoredItem(id=name, problem=name, truth=truth, scores=StepScores(np.array(values)))

    items = [item("a", [0.6], -1), item("b", [0.3, 0.1], 1), item("c", [0.9, 0.2], -1), item("d", [0.7, 0.95], 1)]
    chosen = choose_threshold(items)
    assert brute(items, chosen.threshold, "f1") == chosen.value
    lost = [item("a", [1.0], -1), item("b", [1.0], 0)]
    assert 0.0 <= choose_threshold(lost).threshold <= 1.0


def test_thresholds_need_both_kinds_and_a_known_criterion() -> None:
    items = items_with_gaps(1)
    with pytest.raises(InputError, match="with an error and without"):
        choose_threshold([item for item in items if item.truth >= 0])
    with pytest.raises(InputError, match="unknown criterion 'accuracy'"):
        choose_threshold(items, "accuracy")  # type: ignore[arg-type]


def test_scores_on_another_scale_have_thresholds_too() -> None:
    values = {"a": ([3.0, 2.0], -1), "b": ([2.5, -4.0], 1), "c": ([-1.0], 0)}
    items = [ScoredItem(id=k, problem=k, truth=t, scores=StepScores(np.array(v), scale="logit")) for k, (v, t) in values.items()]
    chosen = choose_threshold(items)
    assert (chosen.low, chosen.high, chosen.threshold) == (-1.0, 2.0, 0.5)


def test_paired_differences_cancel_what_is_shared() -> None:
    items = items_with_gaps(5, 100)
    assert criterion_difference((items, 0.5), (items, 0.5), resamples=200).high == 0.0
    plain = criterion_difference((items, 0.6), (items, 0.4), resamples=2000)
    assert plain.value == pytest.approx(brute(items, 0.6, "f1") - brute(items, 0.4, "f1"))
    with pytest.raises(InputError, match="same solutions"):
        criterion_difference((items, 0.5), (items[1:], 0.5))


# --- calibration error


def test_the_error_and_its_difference_by_hand() -> None:
    p, y = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0.0, 1.0, 1.0, 1.0])
    assert ece_estimate(p, y, bins=2).value == pytest.approx((0.8 + 0.2) / 4)
    assert ece_estimate(p, y, bins=2).value == pytest.approx(expected_calibration_error(p, y, n_bins=2))
    assert ece_difference(p, np.array([0.5, 0.5, 1.0, 1.0]), y, bins=2).value == pytest.approx(0.25)
    assert ece_difference(p, p, y).high == 0.0
    assert log_loss(np.array([0.5, 0.0]), np.array([1.0, 1.0])) == pytest.approx([math.log(2), -math.log(1e-4)])


def test_calibrated_predictions_are_as_far_off_as_chance_and_the_interval_says_so() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(2000)
    y = (rng.random(2000) < p).astype(float)
    estimate, chance = ece_estimate(p, y, resamples=500), ece_of_chance(p)
    assert estimate.value == pytest.approx(chance, abs=0.012)
    assert estimate.high < 0.06
    assert ece_estimate(np.clip(p + 0.2, 0, 1), y, resamples=500).low > 3 * chance
    worse = ece_difference(np.clip(p + 0.2, 0, 1), p, y, resamples=500)
    assert worse.above_zero


# --- tables


def test_a_table_says_the_same_as_the_scored_solutions_it_makes() -> None:
    table = table_of(80, 3, 0)
    for model in table.models:
        items = table.items(table.of(model))
        for expected, found in zip(right_ranges(items, "f1"), table.right_ranges(table.of(model)), strict=True):
            np.testing.assert_array_equal(found, expected)
        assert [item.truth for item in items] == table.truth.tolist()


def test_unknown_scores_count_as_wrong_in_both() -> None:
    rows = [ScoreRow(id="a", subset="toy", label=1, scores={"m": (math.nan, 0.2)}), ScoreRow(id="b", subset="toy", label=-1, scores={"m": (0.9, 0.8)})]
    rows += [ScoreRow(id="c", subset="toy", label=1, scores={"m": (0.7, math.nan)}), ScoreRow(id="d", subset="toy", label=0, scores={"m": (0.3, math.nan)})]
    table = ScoreTable.from_rows(rows, ["m"])
    wrong, low, high = table.right_ranges(table.of("m"))
    np.testing.assert_array_equal(low, [np.nan, -np.inf, np.nan, -np.inf if not wrong[3] else 0.3])
    for found, expected in zip((wrong, low, high), right_ranges(table.items(table.of("m")), "f1"), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_pairs_end_at_the_first_error() -> None:
    rows = [ScoreRow(id="a", subset="toy", label=1, scores={"m": (0.9, 0.2, 0.8)}), ScoreRow(id="b", subset="toy", label=-1, scores={"m": (0.7, 0.6)})]
    table = ScoreTable.from_rows(rows, ["m"])
    scores, targets, solutions = table.step_pairs(table.of("m"))
    assert (scores.tolist(), targets.tolist(), solutions) == ([0.9, 0.2, 0.7, 0.6], [1.0, 0.0, 1.0, 1.0], ("a", "a", "b", "b"))


def test_fused_tables_equal_the_ensemble_of_models() -> None:
    table = table_of(30, 3, 1, coarse=False)

    class Column:
        granularity, scale = "step", "probability"

        def __init__(self, model: str) -> None:
            self.fingerprint = model

        async def score(self, trajectory: Trajectory) -> StepScores:
            row = table.ids.index(trajectory.problem.prompt)
            if row == 7:
                raise RequestFailed("not today")
            return StepScores(table.of(self.fingerprint)[row, : table.n_scored[row]])

    for rule in ("mean", "min", "median", "lcb"):
        fused = table.fused(table.models, rule)
        ensemble = Ensemble([Column(model) for model in table.models], rule)
        for row, identity in enumerate(table.ids):
            if row != 7:
                scores = run_sync(ensemble.score(Trajectory.from_texts(identity, ["x"] * int(table.n_scored[row]))))
                np.testing.assert_allclose(scores.values, fused[row, : table.n_scored[row]], atol=1e-15)


def test_an_increasing_map_moves_the_threshold_and_nothing_else() -> None:
    table = table_of(150, 1, 2, coarse=False)
    scores, targets, _ = table.step_pairs(table.of("m0"))
    mapped = table.mapped({"m0": fit_platt(scores, targets)})
    assert choose_threshold(mapped.items(mapped.of("m0"))).value == choose_threshold(table.items(table.of("m0"))).value


def test_candidates_are_all_sets_and_rules_that_differ() -> None:
    sets = list(candidate_sets("abcd", (1, 2, 3)))
    assert len(sets) == 4 + 2 * 6 + 4 * 4
    table = table_of(60, 3, 3)
    for size, rule, twin in [(2, "mean", "median"), (2, "min", "lcb")]:
        np.testing.assert_allclose(table.fused(table.models[:size], rule), table.fused(table.models[:size], twin), atol=1e-15)


def test_the_ranking_finds_the_planted_ensemble_and_is_the_same_in_every_run() -> None:
    """Two models that each see half of the errors: only their minimum sees all."""
    rng = np.random.default_rng(5)
    rows = []
    for index in range(120):
        label = int(rng.integers(-1, 3))
        scored = 3 if label < 0 else label + 1
        values = {name: rng.uniform(0.4, 1.0, size=scored) for name in ("left", "right", "blind")}
        if label >= 0:
            values["left" if index % 2 else "right"][label] = 0.1
        rows.append(ScoreRow(id=str(index), subset="toy", label=label, scores={name: tuple(row.tolist()) for name, row in values.items()}))
    table = ScoreTable.from_rows(rows, ("blind", "left", "right"))
    ranked = rank_candidates(table)
    assert (ranked[0].models, ranked[0].rule) == (("left", "right"), "min")
    assert ranked[0].selection_f1 > 99
    assert ranked == rank_candidates(table)
    assert rank_candidates(table, sizes=(1,))[0].selection_f1 < 80


def test_tables_refuse_what_they_cannot_hold() -> None:
    with pytest.raises(InputError, match="'x' has no scores in row '0'"):
        ScoreTable.from_rows(rows_of(3, 1, 0), ["x"])
    with pytest.raises(InputError, match="probabilities"):
        ScoreTable.from_rows([ScoreRow(id="a", subset="toy", label=-1, scores={"m": (2.0,)})], ["m"])


# --- real scores of 21 models


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, ScoreTable]:
    rows = {name: read_score_rows(shared_data / "prm_scores" / f"processbench_{name}_21_models.jsonl.gz") for name in ("gsm8k", "math")}
    return {name: ScoreTable.from_rows(given, score_models(given)) for name, given in rows.items()}


@pytest.mark.parametrize(("subset", "model"), KNOWN)
def test_published_results_come_out_of_tables_and_of_single_model_ensembles(real: dict[str, ScoreTable], subset: str, model: str) -> None:
    table = real[subset]
    for values in (table.of(model), table.fused([model], "mean"), table.fused([model] * 3, "median")):
        items = table.items(values)
        metrics = first_error_metrics([item.scores.first_error(0.5) for item in items], table.truth.tolist())
        assert f"{metrics.error_accuracy:.1f}/{metrics.correct_accuracy:.1f}/{metrics.f1:.1f}" == KNOWN[subset, model]
        assert f"{criterion_at(items, 0.5, resamples=10).value:.1f}" == KNOWN[subset, model].split("/")[2]


def test_what_the_study_reports(real: dict[str, ScoreTable]) -> None:
    """The headline figures of docs/methods.md, without their intervals: benchmarks/calibration.py computes both."""
    gsm8k, maths = real["gsm8k"], real["math"]
    errors: dict[str, list[float]] = {"none": [], "temperature": [], "platt": [], "isotonic": []}
    f1: dict[str, list[float]] = {"half": [], "transferred": [], "peeking": []}
    for model in maths.models:
        fitted = gsm8k.step_pairs(gsm8k.of(model))
        scores, targets, _ = maths.step_pairs(maths.of(model))
        errors["none"].append(expected_calibration_error(scores, targets))
        for name, method in (("temperature", fit_temperature), ("platt", fit_platt), ("isotonic", fit_isotonic)):
            errors[name].append(expected_calibration_error(method(*fitted[:2])(scores), targets))
        threshold = choose_threshold(gsm8k.items(gsm8k.of(model))).threshold
        items = maths.items(maths.of(model))
        f1["half"].append(brute(items, 0.5, "f1"))
        f1["transferred"].append(brute(items, threshold, "f1"))
        f1["peeking"].append(choose_threshold(items).value)
    assert {name: f"{np.mean(values):.3f}" for name, values in errors.items()} == {
        "none": "0.116",
        "temperature": "0.116",
        "platt": "0.120",
        "isotonic": "0.126",
    }
    assert {name: f"{np.mean(values):.1f}" for name, values in f1.items()} == {"half": "41.2", "transferred": "37.2", "peeking": "50.6"}
    single, *_ = rank_candidates(gsm8k, sizes=(1,))
    pair = rank_candidates(gsm8k, sizes=(2,))[0]
    assert single.models == ("Qwen2.5-Math-PRM-7B",)
    assert (set(pair.models), pair.rule) == ({"Llama-3.1-70B-Instruct", "Qwen2.5-Math-PRM-7B"}, "mean")
    best = maths.items(maths.of(single.models[0]))
    assert brute(best, choose_threshold(gsm8k.items(gsm8k.of(single.models[0]))).threshold, "f1") == pytest.approx(76.5, abs=0.05)
    fused = maths.items(maths.fused(pair.models, pair.rule))
    assert brute(fused, choose_threshold(gsm8k.items(gsm8k.fused(pair.models, pair.rule))).threshold, "f1") == pytest.approx(74.7, abs=0.05)
