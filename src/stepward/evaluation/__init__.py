"""Benchmarks, metrics and statistics: arrays and results in, numbers with intervals out. The report and its plots are in `evaluation.report`."""

from stepward.evaluation.best_of_n import METHODS, CurvePoint, Curves, ProblemSamples, best_of_n, summary_entry
from stepward.evaluation.calibration import Calibration, ReliabilityBin, calibration, reliability
from stepward.evaluation.first_error import FirstErrorMetrics, ScoredItem, first_error_metrics
from stepward.evaluation.labels import LabelQuality, PositionQuality, label_quality
from stepward.evaluation.processbench import Fixed, Own, ProcessBenchResult, SubsetResult, TunedOn, evaluate_processbench, evaluate_scored, subset_name
from stepward.evaluation.scores_file import evaluate_scores_file, read_candidate_scores, read_score_rows, score_models
from stepward.evaluation.selection import bon_curve, bon_exact, majority_at_n, pass_at_k
from stepward.evaluation.statistics import (
    Estimate,
    bootstrap,
    bootstrap_many,
    cluster_standard_error,
    difference_estimate,
    mcnemar_exact,
    mean_estimate,
    mean_estimates,
    paired_bootstrap,
    wilson,
)
from stepward.evaluation.threshold import ThresholdChoice, choose_threshold

__all__ = [
    "METHODS", "Calibration", "CurvePoint", "Curves", "Estimate", "FirstErrorMetrics", "Fixed", "LabelQuality", "Own", "PositionQuality", "ProblemSamples",
    "ProcessBenchResult", "ReliabilityBin", "ScoredItem", "SubsetResult", "ThresholdChoice", "TunedOn", "best_of_n", "bon_curve", "bon_exact", "bootstrap",
    "bootstrap_many", "calibration", "choose_threshold", "cluster_standard_error", "difference_estimate", "evaluate_processbench", "evaluate_scored",
    "evaluate_scores_file", "first_error_metrics", "label_quality", "majority_at_n", "mcnemar_exact", "mean_estimate", "mean_estimates", "paired_bootstrap",
    "pass_at_k", "read_candidate_scores", "read_score_rows", "reliability", "score_models", "subset_name", "summary_entry", "wilson",
]  # fmt: skip
