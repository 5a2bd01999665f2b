"""Databases in a worker: opened read-only or copied, with every door but SELECT shut. Runs in a process that may be killed at any time."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

MAX_ROWS = 20_000
Rows = list[tuple[Any, ...]]
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_REFUSED_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}
_NUMERIC = re.compile(r"INT|REAL|FLOA|DOUB|NUM|DEC", re.IGNORECASE)


class QueryError(Exception):
    """The query could not be run; `certain` when that is the query's own fault on this schema (syntax, unknown table or column)."""

    def __init__(self, message: str, *, certain: bool) -> None:
        super().__init__(message)
        self.certain = certain


class SqliteDatabase:
    """SQLite, in memory, that may only be read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "replace")

    @classmethod
    def from_file(cls, path: str) -> SqliteDatabase:
        """A copy of the file, so that nothing can be written to it."""
        memory = sqlite3.connect(":memory:")
        source = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        with source:
            source.backup(memory)
        source.close()
        return cls(memory)

    def lock(self) -> SqliteDatabase:
        """From now on only SELECT."""

        def allow(action: int, _: str | None, second: str | None, *__: Any) -> int:
            refused = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _REFUSED_FUNCTIONS
            return sqlite3.SQLITE_OK if action in _ALLOWED and not refused else sqlite3.SQLITE_DENY

        self._connection.set_authorizer(allow)
        return self

    def run(self, query: str) -> tuple[list[str], Rows]:
        """Column names and rows. Raises: QueryError."""
        try:
            cursor = self._connection.execute(query)
            rows = cursor.fetchmany(MAX_ROWS + 1)
        except sqlite3.OperationalError as error:
            raise QueryError(str(error), certain=_certain(str(error))) from error
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
            raise QueryError(f"{type(error).__name__}: {error}", certain=False) from error
        if len(rows) > MAX_ROWS:
            raise QueryError(f"more than {MAX_ROWS} rows", certain=False)
        return [column[0] for column in cursor.description or ()], rows

    def mutant(self, seed: int, constants: Sequence[Any] = ()) -> SqliteDatabase:
        """A copy in which some rows are gone, some are doubled, values of a column have changed places, and `constants` stand in some rows; all constraints
        that the tables declare still hold.

        Every other copy returns rows whose order was not asked for in the reverse of its usual order.
        """
        copy = sqlite3.connect(":memory:")
        self._connection.set_authorizer(None)
        self._connection.backup(copy)
        self.lock()
        draw = random.Random(seed)
        copy.execute("PRAGMA foreign_keys=OFF")
        names = [name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%'")]
        for name in names:
            _mutate(copy, name, draw, constants)
        _mend(copy)
        copy.commit()
        copy.execute(f"PRAGMA reverse_unordered_selects={'ON' if seed % 2 else 'OFF'}")
        return SqliteDatabase(copy).lock()


def _mutate(copy: sqlite3.Connection, table: str, draw: random.Random, constants: Sequence[Any]) -> None:
    quoted = '"' + table.replace('"', '""') + '"'
    rows = copy.execute(f"SELECT * FROM {quoted} LIMIT 5000").fetchall()
    described = copy.execute(f"PRAGMA table_info({quoted})").fetchall()
    if not rows or not described:
        return
    kept = [list(row) for row in rows if draw.random() > 0.2]
    for row in draw.sample(kept, k=max(1, len(kept) // 5)) if kept else []:
        kept.append(list(row))
    for column, (_, _, declared, *_) in enumerate(described):
        if not kept:
            return
        if draw.random() < 0.5:
            pass
        elif _NUMERIC.search(declared or "") and draw.random() < 0.5 and not any(described[column][5:6]):
            for row in kept:
                if isinstance(row[column], int | float) and draw.random() < 0.3:
                    row[column] += draw.choice((-1, 1, 2))
        else:
            values = [row[column] for row in kept]
            chosen = draw.sample(range(len(kept)), k=max(1, len(kept) // 3))
            for place, other in zip(chosen, chosen[1:] + chosen[:1], strict=True):
                kept[place][column] = values[other]
        fitting = [value for value in constants if isinstance(value, str) != bool(_NUMERIC.search(declared or ""))]
        if fitting and not any(described[column][5:6]):
            for row in draw.sample(kept, k=max(1, len(kept) // 4)):
                row[column] = draw.choice(fitting)
    copy.execute(f"DELETE FROM {quoted}")
    copy.executemany(f"INSERT OR IGNORE INTO {quoted} VALUES ({', '.join('?' * len(described))})", kept)


def _mend(copy: sqlite3.Connection) -> None:
    """Remove rows that refer to rows that are gone: queries that are equal where references hold must not differ here."""
    try:
        while lost := {(table, rowid) for table, rowid, *_ in copy.execute("PRAGMA foreign_key_check") if rowid is not None}:
            for table, rowid in sorted(lost):
                quoted = '"' + table.replace('"', '""') + '"'
                copy.execute(f"DELETE FROM {quoted} WHERE rowid = ?", (rowid,))
    except sqlite3.Error:
        return  # references to what no table has


class DuckDatabase:
    """DuckDB over given tables, in memory, without access to files or the net."""

    def __init__(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        import duckdb

        self._tables = tables
        self._duckdb = duckdb
        self._connection = duckdb.connect(":memory:", config={"threads": "1", "memory_limit": "512MB", "enable_external_access": "false"})
        for name, table in tables.items():
            columns, rows = list(table["columns"]), [list(row) for row in table["rows"]]
            kinds = [_kind([row[place] for row in rows]) for place in range(len(columns))]
            declared = ", ".join(f"{_quoted(column)} {kind}" for column, kind in zip(columns, kinds, strict=True))
            self._connection.execute(f"CREATE TABLE {_quoted(name)} ({declared})")
            if rows:
                made = [tuple(_cell(cell, kind) for cell, kind in zip(row, kinds, strict=True)) for row in rows]
                self._connection.executemany(f"INSERT INTO {_quoted(name)} VALUES ({', '.join('?' * len(columns))})", made)
        self._connection.execute("SET lock_configuration = true")

    def run(self, query: str) -> tuple[list[str], Rows]:
        """Column names and rows. Raises: QueryError."""
        try:
            parsed = self._connection.extract_statements(query)
            if len(parsed) != 1 or parsed[0].type != self._duckdb.StatementType.SELECT:
                raise QueryError("only one SELECT is run", certain=False)
            cursor = self._connection.execute(query)
            rows = cursor.fetchmany(MAX_ROWS + 1)
        except (self._duckdb.ParserException, self._duckdb.BinderException, self._duckdb.CatalogException) as error:
            raise QueryError(str(error).splitlines()[0], certain=True) from error
        except self._duckdb.Error as error:
            raise QueryError(f"{type(error).__name__}: {str(error).splitlines()[0]}", certain=False) from error
        if len(rows) > MAX_ROWS:
            raise QueryError(f"more than {MAX_ROWS} rows", certain=False)
        return [column[0] for column in cursor.description or ()], rows

    def mutant(self, seed: int, constants: Sequence[Any] = ()) -> DuckDatabase:
        """As for SQLite: rows gone, rows doubled, values in other places, constants in some rows."""
        draw = random.Random(seed)
        tables: dict[str, dict[str, Any]] = {}
        for name, table in self._tables.items():
            kept = [list(row) for row in table["rows"] if draw.random() > 0.2]
            kept += [list(row) for row in draw.sample(kept, k=max(1, len(kept) // 5))] if kept else []
            for place in range(len(table["columns"])):
                if draw.random() < 0.5 and len(kept) > 1:
                    values = [row[place] for row in kept]
                    for row, value in zip(kept, values[1:] + values[:1], strict=True):
                        row[place] = value
                texts = any(isinstance(row[place], str) for row in kept)
                fitting = [value for value in constants if isinstance(value, str) == texts]
                if fitting and kept:
                    draw.choice(kept)[place] = draw.choice(fitting)
            tables[name] = {"columns": table["columns"], "rows": kept}
        return DuckDatabase(tables)


Database = SqliteDatabase | DuckDatabase


def open_database(spec: Mapping[str, Any]) -> Database:
    """The database of a problem: {"sqlite": path} or {"tables": {name: {"columns": [...], "rows": [[...]]}}}. Raises: QueryError."""
    try:
        if "sqlite" in spec:
            return SqliteDatabase.from_file(spec["sqlite"]).lock()
        return DuckDatabase(spec["tables"])
    except Exception as error:
        raise QueryError(f"the database could not be opened: {error}", certain=False) from error


def _certain(message: str) -> bool:
    """Whether SQLite blames the query and not the limits or the authorizer."""
    return message.startswith(("no such column", "no such table", "ambiguous column name", "misuse of aggregate")) or "syntax error" in message


def _kind(values: Sequence[Any]) -> str:
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool) for value in known):
        return "BOOLEAN"
    if known and all(isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62 for value in known):
        return "BIGINT"
    if known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return "DOUBLE"
    return "VARCHAR"


def _cell(value: Any, kind: str) -> Any:
    converters: dict[str, Callable[[Any], Any]] = {"DOUBLE": float, "VARCHAR": str}
    return value if value is None or kind not in converters else converters[kind](value)


def _quoted(name: str) -> str:
    return '"' + str(name).replace('"', '""') + '"'
