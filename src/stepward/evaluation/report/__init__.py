"""The report: one self-contained HTML file with tables, plots and a viewer of solutions."""

from stepward.evaluation.report.page import format_cell, render_report, write_report
from stepward.evaluation.report.plots import (
    plot_curves,
    plot_curves_at_equal_compute,
    plot_label_errors,
    plot_reliability,
    plot_scores_by_position,
)
from stepward.evaluation.report.sections import Cell, Plot, Provenance, Section, Table, Text, ViewedSolution, Viewer

__all__ = [
    "Cell", "Plot", "Provenance", "Section", "Table", "Text", "ViewedSolution", "Viewer", "format_cell", "plot_curves", "plot_curves_at_equal_compute",
    "plot_label_errors", "plot_reliability", "plot_scores_by_position", "render_report", "write_report",
]  # fmt: skip
