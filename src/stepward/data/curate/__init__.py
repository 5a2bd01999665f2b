"""Curating labelled data: filters, splits and the data card. Filters take and give lists of examples and never change what a label says."""

from stepward.data.curate.balance import balance
from stepward.data.curate.card import data_card
from stepward.data.curate.confidence import keep_confident
from stepward.data.curate.contamination import Overlap, decontaminate
from stepward.data.curate.duplicates import drop_duplicates
from stepward.data.curate.filtered import Filtered
from stepward.data.curate.split import question_key, split_by_problem, split_in_two

__all__ = [
    "Filtered", "Overlap", "balance", "data_card", "decontaminate", "drop_duplicates", "keep_confident", "question_key", "split_by_problem", "split_in_two",
]  # fmt: skip
