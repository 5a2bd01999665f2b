"""tools:tables, a verifier of what steps say about the cells and columns of a table."""

from stepward.rewards.tables.table import Table, tables_of
from stepward.rewards.tables.verifier import TableVerifier

__all__ = ["Table", "TableVerifier", "tables_of"]
