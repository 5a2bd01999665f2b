"""TableVerifier: what a step says about cells and columns, checked against the problem's table."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from stepward.core.errors import MissingExtra
from stepward.engine.workers import FAILED, Limits, WorkerPool
from stepward.rewards.tables.claim import CellClaim, claims_in
from stepward.rewards.tables.table import Table, is_number, tables_of
from stepward.rewards.verifiers import State, StepContext, Verdict

TABLE_LIMITS = Limits(time_limit_s=5.0, memory_limit_mb=2048)
_VERSION = 2  # 2: a value ends its clause, and what is computed from cells is left alone
_UNITS = ("thousand", "million", "billion", "000s", "(k)", "(m)")


@dataclass(frozen=True, kw_only=True)
class TableVerifier:
    """Checks "the COLUMN of KEY is VALUE" and "the sum (average, largest, smallest) of the COLUMN is VALUE" against the problem's only table.

    A claim is read when the column's and the row's names are spelled in full and belong to one column and one row. Values agree when they are equal as
    numbers or round to each other at the last digit of the shorter one. Refuted when every table of the problem gives another number, which is a doubt only
    where it is not said what an aggregate is over ("the total price" may be that of a few rows); abstained from
    where a cell is no number, the header names a scale (thousands), or the problem has several tables in which the claim can be read.

    Semantics: a claim that holds says nothing about whether the step needed it. Aggregates are computed by DuckDB in a killable worker.
    Table-grounded step verification: TaTToo, Tool-Grounded Thinking PRM for Test-Time Scaling in Tabular Reasoning (2025), of which this is the
    rule-based part. Raises: MissingExtra without duckdb.
    """

    workers: int = 1
    limits: Limits = TABLE_LIMITS
    name: str = field(default="tables", init=False)

    def __post_init__(self) -> None:
        if find_spec("duckdb") is None:
            raise MissingExtra("duckdb", "tools")

    @property
    def fingerprint(self) -> str:
        return f"tables/{_VERSION}"

    @cached_property
    def _pool(self) -> WorkerPool:
        return WorkerPool("stepward.rewards.tables.run:aggregate", workers=self.workers, limits=self.limits, work="computing over a table")

    def reads(self, context: StepContext) -> bool:
        """The problem has a table, and the step a digit."""
        has_table = "tables" in context.trajectory.problem.metadata or ("|" in context.problem and "--" in context.problem)
        return has_table and any(character.isdigit() for character in context.text)

    async def verify(self, context: StepContext) -> list[Verdict]:
        """A verdict a claim."""
        tables = tables_of(context.trajectory.problem)
        read: dict[tuple[int, int], list[tuple[CellClaim, Table]]] = {}
        for table in tables:
            for claim in claims_in(context.text, table):
                read.setdefault(claim.span, []).append((claim, table))
        return [await self._judge(readings) for _, readings in sorted(read.items())]

    async def _judge(self, readings: list[tuple[CellClaim, Table]]) -> Verdict:
        claim, table = readings[0]
        if len(readings) > 1:
            return self._verdict(claim, State.ABSTAIN, "several columns or tables fit the words")
        place = table.column(claim.column)
        if place is None or any(unit in claim.column.lower() for unit in _UNITS):
            return self._verdict(claim, State.ABSTAIN, "the column is not unique, or its header names a scale")
        found = await self._value(claim, table, place)
        if isinstance(found, str):
            return self._verdict(claim, State.ABSTAIN, found)
        stated, digits = _number(claim.value)
        near = abs(found - stated) <= Fraction(1, 2 * 10**digits)
        cell_digits = _number(table.rows[table.keys[claim.key]][place])[1] if claim.key else digits
        near = near or (claim.key != "" and abs(found - stated) <= Fraction(1, 2 * 10**cell_digits) and cell_digits < digits)
        state = State.SUPPORTED if near else State.REFUTED
        truth = str(found) if found.denominator == 1 else f"{float(found):.10g}"
        evidence = {"column": claim.column, "row": claim.key, "aggregate": claim.aggregate, "value": truth}
        return self._verdict(claim, state, f"the table gives {truth}", exact=near or claim.explicit, **evidence)

    async def _value(self, claim: CellClaim, table: Table, place: int) -> Fraction | str:
        """The number that the table gives, or why it gives none."""
        if not claim.aggregate:
            cell = table.rows[table.keys[claim.key]][place]
            return _number(cell)[0] if is_number(cell) and ("%" in cell) == ("%" in claim.value) else f"the cell {cell!r} is no number of that kind"
        cells = table.numbers(place)
        if cells is None or any(("%" in cell) != ("%" in claim.value) for cell in cells):
            return "not every cell of the column is a number of that kind"
        reply: dict[str, Any] = await self._pool.call({"cells": [_digits(cell) for cell in cells], "function": claim.aggregate})
        return str(reply[FAILED]) if FAILED in reply else Fraction(int(reply["numerator"]), int(reply["denominator"]))

    def _verdict(self, claim: CellClaim, state: State, reason: str, *, exact: bool = True, **evidence: Any) -> Verdict:
        kind = "aggregate" if claim.aggregate else "cell"
        return Verdict(state=state, verifier=self.name, kind=kind, text=claim.text, span=claim.span, reason=reason, exact=exact, evidence=evidence)


def _digits(cell: str) -> str:
    """A number's digits with sign and point, nothing else."""
    kept = cell.strip().replace("−", "-")
    return "".join(character for character in kept if character.isdigit() or character in ".-")


def _number(cell: str) -> tuple[Fraction, int]:
    """The number, and how many decimals it shows."""
    digits = _digits(cell).rstrip(".")
    return Fraction(digits), len(digits.partition(".")[2])
