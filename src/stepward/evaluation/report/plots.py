"""Plots as SVG text: deterministic, readable in light and dark pages (axes take the page's colour), told apart by shape as well as colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import InputError, StepScores
from stepward.evaluation.best_of_n import USES_REWARD, CurvePoint, Curves, Method
from stepward.evaluation.calibration import Calibration
from stepward.evaluation.report.canvas import BLUE, GREEN, GREY, ORANGE, PINK, svg
from stepward.evaluation.statistics import mean_estimate

_LOOK: dict[Method, tuple[str, str, str, str]] = {
    "oracle_pass": ("oracle pass@k (ceiling)", GREY, "^", ":"),
    "weighted": ("weighted best-of-k", BLUE, "o", "-"),
    "best_of": ("best-of-k", GREEN, "s", "--"),
    "majority": ("majority@k", ORANGE, "D", "-."),
}


def plot_curves(curves: Curves) -> str:
    """Accuracy with 95 % bands against mean policy tokens a problem, for majority, best-of, weighted and the oracle ceiling."""
    return svg(lambda axes: _curves(axes, curves, "policy tokens a problem (mean)", lambda point: point.policy_tokens))


def plot_curves_at_equal_compute(curves: Curves) -> str:
    """The same against all compute: policy tokens plus what the reward model's tokens cost in policy tokens."""

    def cost(point: CurvePoint) -> float:
        return point.policy_tokens + curves.reward_cost * point.reward_tokens

    return svg(lambda axes: _curves(axes, curves, "policy and reward compute a problem, in policy tokens", cost))


def plot_reliability(calibration: Calibration) -> str:
    """Observed against predicted, one point a bin with its size, beside the diagonal of perfect calibration."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="perfect")
        sizes = np.array([row.n for row in calibration.bins], dtype=np.float64)
        x, y = [row.predicted for row in calibration.bins], [row.observed for row in calibration.bins]
        axes.plot(x, y, color=BLUE, linewidth=1.2)
        axes.scatter(x, y, s=20 + 80 * sizes / sizes.max(initial=1.0), color=BLUE, label=_bin_sizes(calibration))
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted", ylabel="observed")
        axes.set_title(f"ECE {calibration.ece:.3f}, Brier {calibration.brier.value:.3f}", fontsize=10, loc="left")
        axes.legend(loc="upper left", frameon=False)

    return svg(draw, size=(4.6, 4.2))


def plot_scores_by_position(scores: Sequence[StepScores], first_errors: Sequence[int | None], *, max_position: int = 12) -> str:
    """Mean score by step position, for steps before the first error, the first wrong steps, and steps after it, with 95 % bars.

    Unscored steps and solutions whose first error is unknown are left out, and the title says how many steps that were.
    """
    if len(scores) != len(first_errors):
        raise InputError(f"one first error a solution is needed: {len(scores)} solutions but {len(first_errors)} first errors")
    kinds: dict[str, dict[int, list[float]]] = {"before any error": {}, "first wrong step": {}, "after it": {}}
    skipped = 0
    for solution, first in zip(scores, first_errors, strict=True):
        for position, value in enumerate(solution.values):
            if first is None or np.isnan(value):
                skipped += 1
                continue
            kind = "before any error" if first < 0 or position < first else "first wrong step" if position == first else "after it"
            kinds[kind].setdefault(min(position, max_position - 1), []).append(float(value))

    def draw(axes: Any) -> None:
        for offset, (kind, colour, marker) in zip((-0.12, 0.0, 0.12), zip(kinds, (BLUE, ORANGE, GREY), "oDs", strict=True), strict=True):
            rows = sorted((position, mean_estimate(values, resamples=2000)) for position, values in kinds[kind].items() if len(values) >= 5)
            if not rows:
                continue
            centre = np.array([estimate.value for _, estimate in rows])
            reach = np.array([[e.value - e.low, e.high - e.value] for _, e in rows]).T
            x = [position + 1 + offset for position, _ in rows]
            axes.errorbar(x, centre, yerr=np.maximum(reach, 0.0), color=colour, marker=marker, markersize=5, linewidth=1.2, capsize=2, label=kind)
        axes.set(xlabel="step", ylabel="mean score")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if skipped:
            axes.set_title(f"{skipped:,} unscored or unlabelled steps left out", fontsize=10, loc="left")
        if axes.lines:
            axes.legend(frameon=False)

    return svg(draw)


def plot_label_errors(errors: ArrayLike, *, bins: int = 41) -> str:
    """Histogram of label minus exact value, with its mean."""
    values = np.asarray(errors, dtype=np.float64)
    known = values[~np.isnan(values)]

    def draw(axes: Any) -> None:
        axes.hist(known, bins=np.linspace(-1.0, 1.0, bins + 1), color=BLUE, alpha=0.75)
        axes.axvline(0.0, color=GREY, linestyle=":", linewidth=1.2, label="no error")
        if known.size:
            axes.axvline(float(known.mean()), color=ORANGE, linestyle="--", linewidth=1.5, label=f"mean {known.mean():+.4f}")
        axes.set(xlabel="label minus exact value", ylabel="steps", xlim=(-1, 1))
        axes.legend(frameon=False)

    return svg(draw)


def _bin_sizes(calibration: Calibration) -> str:
    sizes = [row.n for row in calibration.bins]
    return "no bins" if not sizes else f"bins of {min(sizes)}" if min(sizes) == max(sizes) else f"bins of {min(sizes)} to {max(sizes)}"


def _curves(axes: Any, curves: Curves, label: str, cost: Callable[[CurvePoint], float]) -> None:
    single = curves.point("single", 1).estimate
    axes.axhline(single.value, color=PINK, linewidth=1.2, label="pass@1")
    axes.axhspan(single.low, single.high, color=PINK, alpha=0.10, linewidth=0)
    for method, (name, colour, marker, line) in _LOOK.items():
        points = [point for point in curves.points[method] if np.isfinite(point.estimate.value)]
        x = [cost(point) for point in points]
        axes.fill_between(x, [p.estimate.low for p in points], [p.estimate.high for p in points], color=colour, alpha=0.13, linewidth=0)
        title = name if method not in USES_REWARD else f"{name} (reward model)"
        axes.plot(x, [p.estimate.value for p in points], color=colour, marker=marker, markersize=4, linestyle=line, linewidth=1.4, label=title)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set(xlabel=label, ylabel="correct")
    axes.legend(frameon=False, fontsize=9, loc="best")
