"""The worker's task: run a query on a database and on mutants of it, and compare it with reference queries."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

from stepward.core.record import canonical_json
from stepward.rewards.sql.compare import Row, arrangement, key_places, plain_rows, same_rows, within
from stepward.rewards.sql.database import Database, QueryError, open_database
from stepward.rewards.sql.query import constants, statements, tail_of

_KEPT = 4  # databases that stay open
_SHOWN = 5
_open: OrderedDict[str, Database] = OrderedDict()

SAME, REORDERED, DIFFERENT, UNKNOWN = "same", "columns differ", "different", "unknown"


def check(request: dict[str, Any]) -> dict[str, Any]:
    """{database, query, references, mutants} gives {columns, rows, n_rows}, with references also {agreement, against, where, mine, theirs}.

    A query that cannot be run gives {error, certain}.
    """
    try:
        database = _database(request["database"])
        columns, rows = database.run(_single(request["query"]))
    except QueryError as error:
        return {"error": str(error)[:300], "certain": error.certain}
    mine = plain_rows(rows)
    reply: dict[str, Any] = {"columns": columns, "rows": [list(row) for row in mine[:_SHOWN]], "n_rows": len(mine)}
    references = request.get("references", ())
    if references:
        shared = list(dict.fromkeys(value for query in (*references, request["query"]) for value in constants(query)))
        databases = [database, *(database.mutant(seed, shared) for seed in range(1, int(request.get("mutants", 0)) + 1))]
    found = [_against(reference, request["query"], databases) for reference in references]
    if found:
        rank = (SAME, REORDERED, UNKNOWN, DIFFERENT)
        reply |= min(found, key=lambda one: rank.index(one["agreement"]))
    return reply


def _single(query: str) -> str:
    pieces = statements(query)
    if len(pieces) != 1:
        raise QueryError(f"{len(pieces)} statements where one query is expected", certain=False)
    return pieces[0]


def _database(spec: dict[str, Any]) -> Database:
    """The database, kept open for the next call."""
    stamp = os.stat(spec["sqlite"]).st_mtime_ns if "sqlite" in spec and os.path.exists(spec["sqlite"]) else 0
    key = canonical_json([spec, stamp])
    if key not in _open:
        _open[key] = open_database(spec)
        while len(_open) > _KEPT:
            _open.popitem(last=False)
    _open.move_to_end(key)
    return _open[key]


def _against(reference: str, query: str, databases: list[Database]) -> dict[str, Any]:
    """How the query agrees with one reference: on every database, in the worst case."""
    worst: dict[str, Any] = {"agreement": SAME, "against": reference, "where": "all", "databases": len(databases)}
    tail = tail_of(reference)
    for number, database in enumerate(databases):
        try:
            columns, their_rows = database.run(_single(reference))
            _, my_rows = database.run(_single(query))
            full = database.run(tail.without_limit)[1] if tail.limited else None
        except QueryError as error:
            if number == 0:
                return {"agreement": UNKNOWN, "against": reference, "where": f"the reference does not run: {error}"[:300], "databases": len(databases)}
            continue
        mine, theirs = plain_rows(my_rows), plain_rows(their_rows)
        verdict = _compare(mine, theirs, None if full is None else plain_rows(full), tail.order, columns)
        if verdict == DIFFERENT:
            shown = {"mine": _part(mine, theirs), "theirs": _part(theirs, mine)}
            where = "the database" if number == 0 else f"mutant {number} of the database"
            return {"agreement": DIFFERENT, "against": reference, "where": where, "databases": len(databases)} | shown
        if verdict != SAME:
            worst |= {"agreement": verdict, "where": f"database {number}"}
    return worst


def _compare(mine: list[Row], theirs: list[Row], unlimited: list[Row] | None, order: tuple[str, ...], columns: list[str]) -> str:
    """`unlimited`: the reference's rows without its LIMIT, None when it has none; `order`: its outermost ordering terms."""
    widths = {len(row) for row in mine[:1]} | {len(row) for row in theirs[:1]}
    places = key_places(order, columns) if order else ()
    if len(widths) <= 1 and same_rows(mine, theirs):
        if not order or mine == theirs:
            return SAME
        if places is None:
            return UNKNOWN  # the same rows; whether their order is right cannot be seen in them
        return SAME if _keys(mine, places) == _keys(theirs, places) else DIFFERENT
    if unlimited is not None and len(mine) == len(theirs) and len(widths) <= 1 and within(mine, unlimited):
        if places is None:
            return UNKNOWN
        return SAME if _keys(mine, places) == _keys(theirs, places) else DIFFERENT
    if arrangement(mine, theirs) is not None:
        return REORDERED
    return DIFFERENT


def _keys(rows: list[Row], places: tuple[int, ...]) -> list[Row]:
    return [tuple(row[place] for place in places) for row in rows]


def _part(these: list[Row], those: list[Row]) -> list[list[Any]]:
    """A few rows that the other side has not, or the first ones."""
    other = set(those)
    return [list(row) for row in ([row for row in these if row not in other] or these)[:_SHOWN]]
