"""Strategies on a page: a comparison as tables, and its plot of accuracy against compute. The numbers are made in evaluation/compare.py."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from stepward.evaluation.compare import COSTS, Comparison
from stepward.evaluation.frontier import hull
from stepward.evaluation.report.canvas import BLUE, GREEN, GREY, INK, ORANGE, PINK, Draw, png, svg
from stepward.evaluation.report.sections import Cell, Plot, Section, Table, Text
from stepward.evaluation.statistics import Estimate

_SIZE = (7.6, 4.8)
_COLOURS = (BLUE, ORANGE, GREEN, PINK, "#7a5cc0", "#b08a00", GREY)
_MARKERS = "osD^vPX*<>"


def comparison_sections(comparison: Comparison) -> list[Section]:
    """How to read it, the strategies, the plot, the pairs and the failures."""
    pairs = comparison.pairs
    against = "all pairs" if comparison.baseline is None else f"the pairs with {comparison.baseline}"
    sections: list[Section] = [
        Text(
            title="How to read this",
            paragraphs=[
                f"{len(comparison.problems):,} problems, the same for every strategy. Accuracy is over the problems whose outcome is known; compute is the "
                "mean over all problems, each result's as if it were computed alone. Intervals are 95 %, by resampling problems.",
                "On the hull: no other strategy, and no random mixture of two others, is as right for as little compute. The share beside it says on how many "
                "of 1,000 resampled sets of problems that holds: it is what the choice of problems leaves uncertain.",
                f"Paired tests are two-sided; their p-values are corrected for {len(pairs)} comparisons ({against}) by Holm's method, their intervals are not.",
            ],
        ),
        Table(title="Strategies", columns=STRATEGY_COLUMNS, rows=strategy_rows(comparison), caption=f"Compute: {COSTS[comparison.x]}."),
        _plot_section(comparison),
    ]
    if pairs:
        sections.append(Table(title="Paired differences", columns=PAIR_COLUMNS, rows=pair_rows(comparison)))
    failures = failure_rows(comparison)
    if failures:
        sections.append(Table(title="Failures", columns=FAILURE_COLUMNS, rows=failures))
    return sections


STRATEGY_COLUMNS = ("strategy", "accuracy", "compute", "unknown", "standing", "on the hull in")
PAIR_COLUMNS = ("first", "second", "first minus second", "problems", "test", "p", "p, corrected")
FAILURE_COLUMNS = ("strategy", "what", "times")


def strategy_rows(comparison: Comparison) -> list[list[Cell]]:
    """A row a strategy; see STRATEGY_COLUMNS."""
    return [
        [
            row.name,
            row.accuracy,
            row.cost,
            row.n_unknown,
            row.words,
            "" if np.isnan(row.hull_share) else f"{row.hull_share:.0%}",
        ]
        for row in comparison.rows
    ]


def pair_rows(comparison: Comparison) -> list[list[Cell]]:
    """A row a pair; see PAIR_COLUMNS."""
    return [[pair.first, pair.second, _difference(pair.difference), pair.difference.n, pair.test, pair.p, pair.p_holm] for pair in comparison.pairs]


def _difference(estimate: Estimate) -> Cell:
    return f"{estimate.value:.3f} (no interval)" if not np.isnan(estimate.value) and np.isnan(estimate.low) else estimate


def _plot_section(comparison: Comparison) -> Section:
    """The plot, or the sentence that there is nothing to be drawn."""
    if comparison.nothing_known is not None:
        return Text(title="Accuracy against compute", paragraphs=[comparison.nothing_known])
    return Plot(title="Accuracy against compute", svg=plot_strategies(comparison), caption="Bars: 95 % intervals. Dotted: the compute-optimal hull.")


def failure_rows(comparison: Comparison) -> list[list[Cell]]:
    """A row for everything that went wrong, by strategy; see FAILURE_COLUMNS."""
    return [[trial.name, what, count] for trial in comparison.trials for what, count in trial.failures.items()]


def plot_strategies(comparison: Comparison) -> str:
    """Accuracy against compute as SVG: a point with bars a strategy, a line a family (the same strategy at several sizes), the hull dotted.

    Where no outcome is known, it says so and shows no point.
    """
    return svg(_drawing(comparison), _SIZE)


def plot_strategies_png(comparison: Comparison) -> bytes:
    """The same as PNG."""
    return png(_drawing(comparison), _SIZE)


def _drawing(comparison: Comparison) -> Draw:
    rows = comparison.rows
    x, y = np.array([row.cost.value for row in rows]), np.array([row.accuracy.value for row in rows])
    families: dict[str, list[int]] = {}
    for place, trial in enumerate(comparison.trials):
        if not np.isnan(y[place]):
            families.setdefault(trial.family, []).append(place)

    def draw(axes: Any) -> None:
        axes.set(xlabel=COSTS[comparison.x], ylabel="correct")
        if not families:
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "no outcome is known", transform=axes.transAxes, ha="center", va="center", color=INK)
            return
        chain = hull(x, y)
        along = np.unique(np.concatenate([np.geomspace(max(x[a], 1e-9), x[b], 40) for a, b in pairwise(chain)])) if len(chain) > 1 else x[chain]
        axes.plot(along, np.interp(along, x[chain], y[chain]), color=INK, linestyle=":", linewidth=1.4, label="compute-optimal hull", zorder=1)
        for number, (family, places) in enumerate(families.items()):
            places = sorted(places, key=lambda place: x[place])
            colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
            accuracy = [rows[place].accuracy for place in places]
            costs = [rows[place].cost for place in places]
            axes.errorbar(
                x[places],
                y[places],
                yerr=_reach([(one.value - one.low, one.high - one.value) for one in accuracy]),
                xerr=_reach([(one.value - one.low, one.high - one.value) for one in costs]),
                color=colour,
                marker=marker,
                markersize=6,
                linewidth=1.3,
                elinewidth=0.9,
                capsize=2,
                label=family,
                zorder=2,
            )
        for place in chain:
            axes.annotate(_short(rows[place].name), (x[place], y[place]), textcoords="offset points", xytext=(5, -11), fontsize=8, color=INK)
        if (x[~np.isnan(y)] > 0).all() and len(x) > 1:
            axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.2g}" if comparison.x == "flops" else f"{value:,.0f}")
        axes.xaxis.set_minor_formatter(lambda *_: "")
        axes.legend(frameon=False, fontsize=8, loc="best")

    return draw


def _reach(bars: list[tuple[float, float]]) -> Any:
    """Error bars as matplotlib takes them; none where the interval is unknown."""
    return np.nan_to_num(np.maximum(np.array(bars, dtype=np.float64).T, 0.0))


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"
