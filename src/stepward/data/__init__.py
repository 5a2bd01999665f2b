"""Formats in and out, one file per public format; segmentation of text into steps; the record store."""

from stepward.data.boxed import last_boxed
from stepward.data.load import FORMATS, Format, detect, read_examples, write_examples
from stepward.data.problems import problem_from_row, read_problems, write_problems
from stepward.data.rows import read_rows, write_rows
from stepward.data.segment import Rule, choose_rule, segment, spans
from stepward.data.set_aside import Rejected, SetAside
from stepward.data.store import read_records, write_records

__all__ = [
    "FORMATS", "Format", "Rejected", "Rule", "SetAside", "choose_rule", "detect", "last_boxed", "problem_from_row", "read_examples", "read_problems",
    "read_records", "read_rows", "segment", "spans", "write_examples", "write_problems", "write_records", "write_rows",
]  # fmt: skip
