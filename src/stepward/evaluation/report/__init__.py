"""The report: one self-contained HTML file with tables, plots and a viewer of solutions."""

from stepward.evaluation.report.page import format_cell, render_report, write_report
from stepward.evaluation.report.plots import (
    plot_curves,
    plot_curves_at_equal_compute,
    plot_label_errors,
    plot_reliability,
    plot_scores_by_position,
)
from stepward.evaluation.report.sections import Cell, Plot, Provenance, SearchTrees, Section, Table, Text, ViewedSolution, Viewer
from stepward.evaluation.report.strategies import comparison_sections, plot_strategies, plot_strategies_png

__all__ = [
    "Cell", "Plot", "Provenance", "SearchTrees", "Section", "Table", "Text", "ViewedSolution", "Viewer", "comparison_sections", "format_cell", "plot_curves",
    "plot_curves_at_equal_compute", "plot_label_errors", "plot_reliability", "plot_scores_by_position", "plot_strategies", "plot_strategies_png",
    "render_report", "write_report",
]  # fmt: skip
