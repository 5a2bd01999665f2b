"""SqlVerifier: runs the queries of a step and compares what comes out with what the step says and with the reference query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from stepward.core.errors import InputError
from stepward.engine.workers import FAILED, Limits, WorkerPool
from stepward.rewards.sql.query import Query, is_query, queries_in, statements
from stepward.rewards.sql.run import DIFFERENT, SAME
from stepward.rewards.verifiers import State, StepContext, Verdict

SQL_LIMITS = Limits(time_limit_s=5.0, memory_limit_mb=2048)
_VERSION = 2  # 2: mutants keep references whole; other dialects and templates are not refuted


@dataclass(frozen=True, kw_only=True)
class SqlVerifier:
    """Runs each query of a step on the problem's database and decides three kinds of claims.

    - *query*: it can be run. Refuted when the database itself blames the query: a syntax error, an unknown table or column.
    - *stated result*: a number of rows, or the value of a one-cell result, that the text right behind the query states.
    - *answer*: in the last step of a finished solution, that the query gives what a reference query gives, where the problem's reference answer is SQL
      (several acceptable references: one after the other, with semicolons). Rows are compared as multisets, as lists where the reference orders them, on
      the database and on `mutants` copies with rows removed, doubled and changed and with the queries' own
      constants in them. Any difference refutes. Equal rows support the claim "gives the
      reference's rows on these databases", which is less than equivalence. The same rows with more columns, or with columns in another order, are
      abstained from.

    The database is in the problem's metadata: "database": {"sqlite": PATH} (run by SQLite), or "tables": {NAME: {"columns": [...], "rows": [[...]]}} (run by
    DuckDB). Untrusted queries run in a killable worker, on a copy in memory, where only SELECT is allowed; what outgrows time, memory or 20,000 rows is
    abstained from. Nothing is refuted in code fenced as another dialect than the database's; templates ("...") and queries without a fence, behind which
    words may follow, cannot fail to run.

    Comparison by execution: Semantic Evaluation for Text-to-SQL with Distilled Test Suites (2020).
    Raises: MissingExtra when a table of the problem needs DuckDB and it is not installed (as an abstention's reason).
    """

    mutants: int = 12
    workers: int = 1
    limits: Limits = SQL_LIMITS
    name: str = field(default="sql", init=False)

    def __post_init__(self) -> None:
        if self.mutants < 0:
            raise InputError(f"SqlVerifier.mutants must be at least 0, got {self.mutants}")

    @property
    def fingerprint(self) -> str:
        return f"sql/{_VERSION}" + (f"/mutants={self.mutants}" if self.mutants != 12 else "")

    @cached_property
    def _pool(self) -> WorkerPool:
        return WorkerPool("stepward.rewards.sql.run:check", workers=self.workers, limits=self.limits, work="running SQL")

    def reads(self, context: StepContext) -> bool:
        """The problem has a database, and the step a query."""
        return _database(context) is not None and ("select" in context.text.lower() or "with" in context.text.lower())

    async def verify(self, context: StepContext) -> list[Verdict]:
        """Verdicts on every query of the step."""
        database = _database(context)
        if database is None:
            return []
        found = queries_in(context.text)
        answer = context.trajectory.problem.answer
        references = statements(answer) if context.is_last and answer is not None and is_query(answer) else []
        verdicts: list[Verdict] = []
        for query in found:
            last = query is found[-1]
            reply = await self._pool.call(
                {
                    "database": dict(database),
                    "query": query.text,
                    "references": references if last else [],
                    "mutants": self.mutants if references and last else 0,
                }
            )
            verdicts += self._judge(query, reply, own=query.dialect in ("", "sql", "sqlite" if "sqlite" in database else "duckdb"))
        return verdicts

    def _judge(self, query: Query, reply: Mapping[str, Any], *, own: bool) -> list[Verdict]:
        """`own`: the query is written for this database; what fails in another dialect may be right there."""
        verdicts = self._decide(query, reply)
        if own:
            return verdicts
        return [replace(one, state=State.ABSTAIN, reason=f"{query.dialect}: {one.reason}") if one.state is State.REFUTED else one for one in verdicts]

    def _decide(self, query: Query, reply: Mapping[str, Any]) -> list[Verdict]:
        if FAILED in reply:
            return [self._verdict(query, State.ABSTAIN, "query", str(reply[FAILED]))]
        if "error" in reply:
            state = State.REFUTED if reply["certain"] and query.complete else State.ABSTAIN
            return [self._verdict(query, state, "query", f"it does not run: {reply['error']}")]
        verdicts = [self._verdict(query, State.SUPPORTED, "query", "it runs", n_rows=reply["n_rows"])]
        if query.n_rows is not None:
            same = query.n_rows == reply["n_rows"]
            verdicts.append(self._verdict(query, _either(same), "stated result", f"{reply['n_rows']} rows where {query.n_rows} are stated"))
        if query.value is not None and reply["n_rows"] == 1 and len(reply["columns"]) == 1:
            verdicts += self._stated_value(query, query.value, reply["rows"][0][0])
        if "agreement" in reply:
            verdicts.append(self._answer(query, reply))
        return verdicts

    def _stated_value(self, query: Query, stated: str, cell: Any) -> list[Verdict]:
        """The one cell of the result beside the number that the text states; rounding of the last digits is allowed."""
        if not isinstance(cell, int | float) or isinstance(cell, bool):
            return []
        digits = stated.replace("−", "-").replace("$", "").replace(",", "")
        unit = Fraction(1, 10 ** len(digits.partition(".")[2]))
        near = abs(Fraction(digits) - Fraction(cell)) < unit
        return [self._verdict(query, _either(near), "stated result", f"the result is {cell} where {stated} is stated", value=cell)]

    def _answer(self, query: Query, reply: Mapping[str, Any]) -> Verdict:
        evidence = {name: reply[name] for name in ("against", "where", "databases", "mine", "theirs") if name in reply}
        if reply["agreement"] == SAME:
            return self._verdict(query, State.SUPPORTED, "answer", f"the reference's rows on {reply['databases']} databases", **evidence)
        if reply["agreement"] == DIFFERENT:
            return self._verdict(query, State.REFUTED, "answer", "other rows than the reference's", **evidence)
        return self._verdict(query, State.ABSTAIN, "answer", f"compared with the reference: {reply['agreement']}", **evidence)

    def _verdict(self, query: Query, state: State, kind: str, reason: str, **evidence: Any) -> Verdict:
        return Verdict(state=state, verifier=self.name, kind=kind, text=query.text[:200], span=query.span, reason=reason, evidence=evidence)


def _either(holds: bool) -> State:
    return State.SUPPORTED if holds else State.REFUTED


def _database(context: StepContext) -> Mapping[str, Any] | None:
    metadata = context.trajectory.problem.metadata
    database, tables = metadata.get("database"), metadata.get("tables")
    if isinstance(database, Mapping) and isinstance(database.get("sqlite"), str):
        return database
    return {"tables": tables} if isinstance(tables, Mapping) and _are_tables(list(tables.values())) else None


def _are_tables(tables: Sequence[Any]) -> bool:
    return all(isinstance(table, Mapping) and "columns" in table and "rows" in table for table in tables)
