"""Calibration, thresholds and ensembles of 21 reward models, fitted on gsm8k and reported on math: python benchmarks/calibration.py [--data DIR] [--json].

The scores are of ProcessBench solutions, each up to and including its first error (see `stepward.evaluation.model_scores`). Everything is fitted and chosen
on gsm8k: calibrations, thresholds, the single model, the ensembles. What is labelled "within math" tells whether a method or the move from one set to the
other is at fault: it is fitted and chosen on four fifths of math and predicts the last fifth, in turn. What is labelled "peeking" is not attainable.
Ensembles are chosen among all pairs and triples under mean, min, median and lcb (k = 1), by F1 on gsm8k: cross-validated with a chosen threshold, or at 0.5.
Intervals are 95 %, from resampling solutions (10,000 times); differences are paired. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepward.core import Floats
from stepward.evaluation.calibration_error import ece_difference, ece_estimate, ece_of_chance, log_loss
from stepward.evaluation.first_error import f1_of_totals
from stepward.evaluation.model_scores import Candidate, ScoreTable, candidate_sets, rank_candidates
from stepward.evaluation.scores_file import read_score_rows, score_models
from stepward.evaluation.statistics import Estimate, bootstrap, difference_estimate, mean_estimate, paired_bootstrap
from stepward.evaluation.threshold import choose_threshold, criterion_at, criterion_difference
from stepward.rewards.calibration import FITS, cross_calibrated
from stepward.training.metrics import auroc

METHODS = ("temperature", "platt", "isotonic")
FOLDS = 5
FITTED_ON, REPORTED_ON = "gsm8k", "math"
Map = Callable[[Floats], Floats]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("STEPWARD_DATA", "../shared/data")), help="folder of the public data sets")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()
    files = {name: options.data / "prm_scores" / f"processbench_{name}_21_models.jsonl.gz" for name in (FITTED_ON, REPORTED_ON)}
    rows = {name: read_score_rows(file) for name, file in files.items()}
    models = score_models(rows[FITTED_ON])
    fitted, reported = (ScoreTable.from_rows(rows[name], models) for name in (FITTED_ON, REPORTED_ON))
    maps = {method: {model: fitted_map(fitted, model, method) for model in models} for method in METHODS}
    figures = {
        "data": {name: describe(table) for name, table in ((FITTED_ON, fitted), (REPORTED_ON, reported))},
        "calibration": {model: calibration_row(reported, model, maps) for model in models},
        "threshold": {model: threshold_row(fitted, reported, model) for model in models},
        "ensembles": ensembles(fitted, reported, maps),
    }
    summary = summarise(figures)
    result = {"benchmark": "calibration", "machine": f"{platform.machine()}, Python {platform.python_version()}", "figures": figures, "ratios": summary}
    if options.json:
        print(json.dumps(result))
    else:
        show(figures, summary)


def fitted_map(table: ScoreTable, model: str, method: str) -> Map:
    scores, targets, _ = table.step_pairs(table.of(model))
    return FITS[method](scores, targets)


def describe(table: ScoreTable) -> dict[str, Any]:
    _, targets, _ = table.step_pairs(table.of(table.models[0]))
    return {
        "n_solutions": len(table.ids),
        "n_with_error": int((table.truth >= 0).sum()),
        "n_steps": len(targets),
        "share_of_right_steps": float(targets.mean()),
    }


def calibration_row(table: ScoreTable, model: str, maps: dict[str, dict[str, Map]]) -> dict[str, Any]:
    """Calibration on the reported set before and after each method; differences are after minus before, so that negative is better."""
    scores, targets, clusters = table.step_pairs(table.of(model))
    row: dict[str, Any] = {}
    for method in METHODS:
        p = cross_calibrated(method, scores, targets, clusters, folds=FOLDS)
        row[f"{method} within"] = {"ece": estimate(ece_estimate(p, targets, clusters)), "brier": estimate(mean_estimate((p - targets) ** 2, clusters))}
    for method in ("none", *METHODS):
        p = scores if method == "none" else maps[method][model](scores)
        row[method] = {
            "ece": estimate(ece_estimate(p, targets, clusters)),
            "ece_of_chance": ece_of_chance(p),
            "brier": estimate(mean_estimate((p - targets) ** 2, clusters)),
            "log_loss": estimate(mean_estimate(log_loss(p, targets), clusters)),
            "mean": float(p.mean()),
            "auroc": auroc(p, targets == 1.0),
        }
        if method != "none":
            row[method]["ece_change"] = estimate(ece_difference(p, scores, targets, clusters))
            row[method]["brier_change"] = estimate(difference_estimate((p - targets) ** 2, (scores - targets) ** 2, clusters))
    return row


def threshold_row(fitted: ScoreTable, reported: ScoreTable, model: str) -> dict[str, Any]:
    """F1 on both sets at 0.5 and at the threshold chosen on the fitted one; on the reported one also at its own best, which is peeking."""
    here, there = fitted.items(fitted.of(model)), reported.items(reported.of(model))
    chosen, peeked = choose_threshold(here), choose_threshold(there)
    return {
        "threshold": chosen.threshold,
        "fitted": {"at_one_half": estimate(criterion_at(here, 0.5)), "chosen": estimate(criterion_at(here, chosen.threshold))},
        "at_one_half": estimate(criterion_at(there, 0.5)),
        "transferred": estimate(criterion_at(there, chosen.threshold)),
        "gain": estimate(criterion_difference((there, chosen.threshold), (there, 0.5))),
        "within": f1_of_matches(within(reported, lambda part: (reported.of(model), choose_threshold(part.items(part.of(model))).threshold))),
        "peeking": {"threshold": peeked.threshold, "f1": peeked.value},
        "mean_score_of_right_steps": [right_steps(table, model) for table in (fitted, reported)],
    }


def right_steps(table: ScoreTable, model: str) -> float:
    scores, targets, _ = table.step_pairs(table.of(model))
    return float(scores[targets == 1.0].mean())


def within(table: ScoreTable, choose: Callable[[ScoreTable], tuple[Floats, float]]) -> Floats:
    """[n, 4] counts of right predictions as F1 takes them: `choose` gets four fifths of the solutions and says by which values and threshold to judge."""
    fold = np.random.default_rng(0).permutation(len(table.ids)) % FOLDS
    counts = np.zeros((len(table.ids), 4))
    for held_out in range(FOLDS):
        here = fold == held_out
        values, threshold = choose(table.rows(~here))
        wrong, low, high = table.right_ranges(values)
        right = (low < threshold) & (threshold <= high)
        counts[here] = np.stack([right & wrong, wrong, right & ~wrong, ~wrong], axis=1)[here]
    return counts


def f1(totals: Floats) -> Floats:
    return f1_of_totals(totals)[..., 2]


def f1_of_matches(counts: Floats) -> dict[str, float]:
    return estimate(bootstrap(counts, f1))


def ensembles(fitted: ScoreTable, reported: ScoreTable, maps: dict[str, dict[str, Map]]) -> dict[str, Any]:
    """The best single model and ensembles of raw and of Platt-calibrated scores, all chosen on the fitted set, on the reported one."""
    calibrated = fitted.mapped(maps["platt"]), reported.mapped(maps["platt"])
    singles = rank_candidates(fitted, sizes=(1,), folds=FOLDS)
    best = singles[0].models[0]
    base = reported.items(reported.of(best)), choose_threshold(fitted.items(fitted.of(best))).threshold
    entries: dict[str, tuple[Candidate, ScoreTable, ScoreTable, float | None]] = {
        "best single": (singles[0], fitted, reported, None),
        "best single at 0.5": (at_one_half(fitted, (1,)), fitted, reported, 0.5),
    }
    for name, (here, there) in (("raw", (fitted, reported)), ("calibrated", calibrated)):
        ranked = rank_candidates(here, sizes=(2, 3), folds=FOLDS)
        entries[f"best pair or triple, {name}"] = (ranked[0], here, there, None)
        entries[f"best pair, {name}"] = (next(candidate for candidate in ranked if len(candidate.models) == 2), here, there, None)
        entries[f"best pair or triple at 0.5, {name}"] = (at_one_half(here, (2, 3)), here, there, 0.5)
        for n in (3, 5, len(fitted.models)):
            entries[f"mean of the {n} best singles, {name}"] = (given([candidate.models[0] for candidate in singles[:n]]), here, there, None)
    results = {}
    for name, (candidate, here, there, fixed) in entries.items():
        threshold = choose_threshold(here.items(values_of(here, candidate))).threshold if fixed is None else fixed
        items = there.items(values_of(there, candidate))
        results[name] = {
            "models": list(candidate.models),
            "rule": candidate.rule,
            "selection_f1": None if math.isnan(candidate.selection_f1) else candidate.selection_f1,
            "threshold": threshold,
            "f1": estimate(criterion_at(items, threshold)),
            "minus_single": estimate(criterion_difference((items, threshold), base)),
            "peeking_threshold_f1": choose_threshold(items).value,
        }
    return results | {"within": ensembles_within(reported)}


def ensembles_within(table: ScoreTable) -> dict[str, Any]:
    """The same choice inside the reported set, nested: models, rule and threshold chosen on four fifths, the last fifth predicted."""
    chosen: dict[str, list[str]] = {"single": [], "pair or triple": []}
    counts = {}
    for name, sizes in (("single", (1,)), ("pair or triple", (2, 3))):

        def choose(part: ScoreTable, name: str = name, sizes: tuple[int, ...] = sizes) -> tuple[Floats, float]:
            candidate = rank_candidates(part, sizes=sizes, folds=FOLDS)[0]
            chosen[name].append(f"{candidate.rule}({', '.join(map(short, candidate.models))})")
            return values_of(table, candidate), choose_threshold(part.items(values_of(part, candidate))).threshold

        counts[name] = within(table, choose)
    return {
        "chosen": chosen,
        **{name: f1_of_matches(matches) for name, matches in counts.items()},
        "difference": estimate(paired_bootstrap(counts["pair or triple"], counts["single"], f1)),
    }


def values_of(table: ScoreTable, candidate: Candidate) -> Floats:
    return table.of(candidate.models[0]) if candidate.rule == "single" else table.fused(candidate.models, candidate.rule)


def at_one_half(table: ScoreTable, sizes: Sequence[int]) -> Candidate:
    """The candidate with the best F1 at 0.5, no threshold being chosen; ties as in `rank_candidates`."""
    best: Candidate | None = None
    for models, rule in candidate_sets(table.models, sizes):
        candidate = Candidate(models=models, rule=rule, selection_f1=0.0)
        wrong, low, high = table.right_ranges(values_of(table, candidate))
        right = (low < 0.5) & (high >= 0.5)
        value = float(f1(np.array([(right & wrong).sum(), wrong.sum(), (right & ~wrong).sum(), (~wrong).sum()], dtype=np.float64)))
        if best is None or value > best.selection_f1 + 1e-9:
            best = Candidate(models=models, rule=rule, selection_f1=value)
    assert best is not None
    return best


def given(models: Sequence[str]) -> Candidate:
    return Candidate(models=tuple(models), rule="mean", selection_f1=float("nan"))


def estimate(value: Estimate) -> dict[str, float]:
    return {"value": value.value, "low": value.low, "high": value.high}


def summarise(figures: dict[str, Any]) -> dict[str, Any]:
    """How many of the models gained, lost, or show no difference."""
    calibration, threshold = figures["calibration"], figures["threshold"]
    summary: dict[str, Any] = {}
    for method in METHODS:
        for noun in ("ece_change", "brier_change"):
            changes = [row[method][noun] for row in calibration.values()]
            summary[f"{method}: {noun}"] = sides(changes, better=-1) | {"mean": float(np.mean([change["value"] for change in changes]))}
        summary[f"{method}: mean ece"] = float(np.mean([row[method]["ece"]["value"] for row in calibration.values()]))
        summary[f"{method}: mean ece within"] = float(np.mean([row[f"{method} within"]["ece"]["value"] for row in calibration.values()]))
    summary["none: mean ece"] = float(np.mean([row["none"]["ece"]["value"] for row in calibration.values()]))
    gains = [row["gain"] for row in threshold.values()]
    summary["threshold: gain over 0.5"] = sides(gains, better=1) | {"mean": float(np.mean([gain["value"] for gain in gains]))}
    for name in ("at_one_half", "transferred", "within"):
        summary[f"threshold: mean F1 {name}"] = float(np.mean([row[name]["value"] for row in threshold.values()]))
    summary["threshold: lost against peeking"] = float(np.mean([row["peeking"]["f1"] - row["transferred"]["value"] for row in threshold.values()]))
    return summary


def sides(changes: Sequence[dict[str, float]], *, better: int) -> dict[str, int]:
    up, down = sum(change["low"] > 0.0 for change in changes), sum(change["high"] < 0.0 for change in changes)
    return {"better": up if better > 0 else down, "worse": down if better > 0 else up, "no difference shown": len(changes) - up - down}


def show(figures: dict[str, Any], summary: dict[str, Any]) -> None:
    def interval(entry: dict[str, float], digits: int = 1) -> str:
        return f"{entry['value']:.{digits}f} [{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]"

    print("data:", figures["data"])
    print(f"\ncalibration error (ECE, 10 equal-mass bins) on {REPORTED_ON}, fitted on {FITTED_ON}; what chance gives after Platt; AUROC")
    for model, row in figures["calibration"].items():
        cells = "  ".join(f"{method} {interval(row[method]['ece'], 3)}" for method in ("none", *METHODS))
        print(f"{short(model):50} {cells}  chance {row['platt']['ece_of_chance']:.3f}  AUROC {row['none']['auroc']:.3f}")
    print(f"\nF1 on {REPORTED_ON}: at 0.5, at the threshold chosen on {FITTED_ON}, their difference, and (peeking) the best of {REPORTED_ON}")
    for model, row in sorted(figures["threshold"].items(), key=lambda entry: -entry[1]["transferred"]["value"]):
        cells = f"{interval(row['at_one_half'])}  {interval(row['transferred'])} at {row['threshold']:.3f}  {interval(row['gain'])}"
        print(f"{short(model):50} {cells}  within {interval(row['within'])}  best {row['peeking']['f1']:.1f} at {row['peeking']['threshold']:.3f}")
    print(f"\nmean score of right steps on {FITTED_ON} and on {REPORTED_ON}; ECE on {REPORTED_ON} when fitted within it")
    for model, row in figures["threshold"].items():
        inside = "  ".join(f"{method} {figures['calibration'][model][f'{method} within']['ece']['value']:.3f}" for method in METHODS)
        print(f"{short(model):50} {row['mean_score_of_right_steps'][0]:.3f} {row['mean_score_of_right_steps'][1]:.3f}  {inside}")
    print(f"\nensembles chosen on {FITTED_ON} (cross-validated F1 there), F1 on {REPORTED_ON}, difference from the best single")
    for name, row in figures["ensembles"].items():
        if name == "within":
            for kind in ("single", "pair or triple"):
                print(f"within {REPORTED_ON}, nested, best {kind}: {interval(row[kind])}, chosen: {'; '.join(row['chosen'][kind])}")
            print(f"their difference: {interval(row['difference'])}")
            continue
        selected = "-" if row["selection_f1"] is None else f"{row['selection_f1']:.1f}"
        print(f"{name:40} {row['rule']:6} {selected}  {interval(row['f1'])} at {row['threshold']:.3f}  {interval(row['minus_single'])}")
        if len(row["models"]) <= 3:
            print("    " + ", ".join(map(short, row["models"])))
    print("\nsummary")
    for name, value in summary.items():
        print(f"{name}: {value}")


def short(model: str) -> str:
    """The published models by name; the fine-tuned critics by base model, training data and size."""
    return model.replace("-Instruct_", " + ").replace("_multi_turn", "").replace("balanced_last_step_", "balanced ").replace("symbol-isabelle_all", "both")[:50]


if __name__ == "__main__":
    main()
