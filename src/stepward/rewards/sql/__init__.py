"""tools:sql, a verifier of steps that hold SQL: queries are run, in a locked-down database and a killable worker, and compared with what is said of them."""

from stepward.rewards.sql.query import Query, queries_in
from stepward.rewards.sql.verifier import SQL_LIMITS, SqlVerifier

__all__ = ["SQL_LIMITS", "Query", "SqlVerifier", "queries_in"]
