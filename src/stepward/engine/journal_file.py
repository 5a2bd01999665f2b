"""JournalFile: the SQLite file behind the journal. Synchronous; knows about locks, damage and repair, not about requests."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from stepward.core.errors import FormatError, StopRun
from stepward.engine.entry import Entry, Row
from stepward.engine.salvage import PAGE_SIZE, rows_of_file, rows_of_log

Result = TypeVar("Result")
logger = logging.getLogger("stepward.journal")

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x53577264  # "SWrd" in the file's header
_COLUMNS = "key, kind, codec, payload, usage, run, checksum"
_SCHEMA = (
    "CREATE TABLE records (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, kind TEXT, codec INTEGER, payload BLOB, usage TEXT, run TEXT, checksum BLOB)",
    "CREATE TABLE quarantine (id INTEGER PRIMARY KEY, key BLOB, kind TEXT, codec INTEGER, payload BLOB, usage TEXT, run TEXT, checksum BLOB,"
    " reason TEXT, found_at TEXT)",
)
_INSERT = f"INSERT OR IGNORE INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_ASIDE = f"INSERT INTO quarantine ({_COLUMNS}, reason, found_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CHUNK = 256  # keys a SELECT, rows a salvage transaction
_DAMAGED = (1, 11, 26)  # SQLITE_ERROR (our statements are right, so the schema is not), SQLITE_CORRUPT, SQLITE_NOTADB
_ERRORS = (sqlite3.Error, UnicodeDecodeError)  # the latter: SQLite quotes damaged text in its message


class JournalError(StopRun):
    """The journal cannot be read or written, so nothing more may be paid for: the run stops."""


class Durability(StrEnum):
    """What a committed record survives. PROCESS: kill -9 of the process. POWER: also a power failure; waits for the disk at every commit."""

    PROCESS = "process"
    POWER = "power"


class JournalFile:
    """Records in one SQLite file in WAL mode. Several processes may hold the same file; calls from several threads take turns.

    Nothing is ever written into a file that is known to be damaged. One bad record, or one complaint of SQLite, and the file is kept beside the journal
    as NAME.damaged-TIME; every record whose checksum is right starts a new file, the others go to its table `quarantine`. Records that an unfinished
    or damaged write-ahead log holds are taken over when the file is opened. All this is reported in `reports` and in the log "stepward.journal".
    """

    def __init__(self, path: str | os.PathLike[str], *, durability: Durability = Durability.PROCESS, busy_timeout_s: float = 60.0) -> None:
        self.path = Path(path)
        self.reports: list[str] = []
        self._durability = durability
        self._busy_timeout_s = busy_timeout_s
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._exclusively():
            self._open()

    def read(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The stored entries among `keys`."""
        return self._safely(lambda connection: self._read(connection, keys))

    def write(self, rows: Sequence[tuple[Entry, Row]]) -> list[Entry]:
        """Store all in one transaction, first writer wins; for each, the entry that is now stored under its key."""
        return self._safely(lambda connection: self._write(connection, rows))

    def verify(self) -> int:
        """Check every record and the file's own structure, and repair it if need be: the number of good records."""
        return self._safely(self._verify)

    def counts(self) -> tuple[dict[str, int], int]:
        """Records by kind, and the number of records set aside."""

        def count(connection: sqlite3.Connection) -> tuple[dict[str, int], int]:
            kinds = dict(connection.execute("SELECT kind, count(*) FROM records GROUP BY kind ORDER BY kind").fetchall())
            return kinds, connection.execute("SELECT count(*) FROM quarantine").fetchone()[0]

        return self._safely(count)

    def quarantined(self) -> list[tuple[str, str, str]]:
        """(key, kind, reason) of every record set aside."""
        rows = self._safely(lambda connection: connection.execute("SELECT key, kind, reason FROM quarantine ORDER BY id").fetchall())
        return [(key.hex() if isinstance(key, bytes) else str(key), str(kind), str(reason)) for key, kind, reason in rows]

    def close(self) -> None:
        """Close the file; the last process to close it folds the write-ahead log in."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # One operation, whatever state the file is in.

    def _safely(self, operation: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._lock:
            for _ in range(4):
                try:
                    connection = self._current()
                    result = operation(connection)
                    if not self._replaced():  # else another process repaired the file meanwhile: once more, on the new one
                        return result
                except _ERRORS as error:
                    if self._connection is not None and self._connection.in_transaction:
                        with contextlib.suppress(sqlite3.Error):
                            self._connection.execute("ROLLBACK")
                    if not _is_damage(error):
                        raise JournalError(f"journal {self.path}: {error}; check free space, permissions and whether another process holds it") from error
                    with self._exclusively():
                        self._repair(str(error))
            raise JournalError(f"journal {self.path} keeps being damaged while in use; check the disk, and that it is not on a network file system")

    def _current(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError(f"journal {self.path} is closed")
        if self._replaced():
            self._connection.close()
            with self._exclusively():
                self._open()
        return self._connection

    def _replaced(self) -> bool:
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def _read(self, connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        wanted = [bytes.fromhex(key) for key in keys]
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            places = ",".join("?" * len(chunk))
            for row in connection.execute(f"SELECT {_COLUMNS} FROM records WHERE key IN ({places})", chunk):
                entry = _checked(row)
                found[entry.key] = entry
        return found

    def _write(self, connection: sqlite3.Connection, rows: Sequence[tuple[Entry, Row]]) -> list[Entry]:
        with _transaction(connection):
            inserted = connection.executemany(_INSERT, [row for _, row in rows]).rowcount
        if inserted == len(rows):
            return [entry for entry, _ in rows]
        stored = self._read(connection, [entry.key for entry, _ in rows])
        if any(entry.key not in stored for entry, _ in rows):
            raise _Damage("the index does not find a record that it holds")
        return [stored[entry.key] for entry, _ in rows]

    def _verify(self, connection: sqlite3.Connection) -> int:
        complaint = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if complaint != "ok":
            raise _Damage(f"integrity check: {complaint}")
        return sum(1 for _ in map(_checked, connection.execute(f"SELECT {_COLUMNS} FROM records")))

    # Opening and repair; the caller holds the lock file.

    def _open(self) -> None:
        found = {row[0]: row for row in self._recoverable()}
        self._connection = None
        try:
            self._connection = self._prepared(self.path)
            self._inode = self.path.stat().st_ino
            if found:
                with _transaction(self._connection):
                    inserted = self._connection.executemany(_INSERT, found.values()).rowcount
                if inserted:
                    self._report(f"journal {self.path}: recovered {inserted} records of an unfinished or damaged write-ahead log")
        except _ERRORS as error:
            if not _is_damage(error):
                raise JournalError(f"journal {self.path}: {error}; check the path and its permissions") from error
            if self._connection is not None:
                self._connection.close()
            self._inode = self.path.stat().st_ino
            self._repair(str(error), found.values())
        with contextlib.suppress(FileNotFoundError):
            self._beside(".salvage").unlink()

    def _recoverable(self) -> Iterator[Row]:
        """Good rows in the write-ahead log and in what an interrupted repair left."""
        if self.path.exists():
            yield from _good(chain(rows_of_log(self._beside("-wal")), rows_of_file(self._beside(".salvage"))))

    def _repair(self, reason: str, rescued: Iterable[Row] = ()) -> None:
        """Replace the damaged file by a new one with all that can be read from it; the old one stays beside it."""
        if self._replaced():  # another process was faster
            self._open()
            return
        rows = {row[0]: row for row in chain(rescued, self._recoverable())}
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        old, log, new = self.path, self._beside("-wal"), self._beside(".salvage")
        with old.open("rb") as file:
            is_sqlite = file.read(16) == b"SQLite format 3\0"
        if not is_sqlite and not rows and next(_good(rows_of_file(old)), None) is None:
            raise JournalError(f"{old} is not a stepward journal ({reason}) and holds no readable record; move it away or name another path")
        for leftover in (new, self._beside(".salvage-wal"), self._beside(".salvage-shm")):
            leftover.unlink(missing_ok=True)
        connection = self._prepared(new)
        n_saved = n_bad = 0
        all_rows = chain(((None, *row) for row in rows.values()), rows_of_file(old))
        while chunk := list(islice(all_rows, _CHUNK)):
            good, bad, aside_before = [], [], []
            for row in chunk:
                if _looks_like_record(row):
                    try:
                        Entry.from_row(row[1:])
                        good.append(row[1:])
                    except FormatError as error:
                        bad.append((*row[1:], str(error), _now()))
                elif len(row) == 10 and row[0] is None:
                    aside_before.append(row[1:])
            with _transaction(connection):
                n_saved += connection.executemany(_INSERT, good).rowcount if good else 0
                connection.executemany(_INSERT_ASIDE, aside_before + bad)
                n_bad += len(bad)
        connection.close()
        aside = self._beside(f".damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
        if log.exists():
            shutil.copyfile(log, Path(f"{aside}-wal"))
        try:
            os.link(old, aside)
        except OSError:
            shutil.copyfile(old, aside)
        log.unlink(missing_ok=True)  # before the new file takes the name: an old log must never meet a new file
        self._beside("-shm").unlink(missing_ok=True)
        os.replace(new, old)
        self._report(f"journal {old}: the file was damaged ({reason}); kept it as {aside.name}, saved {n_saved} records into a new one, set {n_bad} aside")
        self._open()

    def _prepared(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False)
        try:
            connection.text_factory = lambda data: data.decode("utf-8", "replace")  # a damaged text must not hide its row
            n_tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if n_tables and owner != _APPLICATION_ID:
                raise JournalError(f"{path} is an SQLite file of something else, not a stepward journal; name another path")
            if owner == _APPLICATION_ID and version > SCHEMA_VERSION:
                raise JournalError(f"journal {path} has schema version {version}, this stepward reads up to {SCHEMA_VERSION}; upgrade stepward")
            if n_tables == 0:
                connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise JournalError(f"journal {path}: its file system allows no write-ahead log (got {mode!r}); put the journal on a local disk")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._durability is Durability.POWER else 'NORMAL'}")
            connection.execute("PRAGMA wal_autocheckpoint = 2000")
            if n_tables == 0:
                with _transaction(connection):
                    for statement in _SCHEMA:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif n_tables < len(_SCHEMA):
                raise _Damage("tables are missing")
            connection.execute("SELECT key FROM records ORDER BY id DESC LIMIT 1").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Only one process at a time opens or repairs."""
        try:
            import fcntl
        except ImportError:  # no such lock on this system
            yield
            return
        with self._beside(".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _report(self, message: str) -> None:
        self.reports.append(message)
        logger.warning(message)


class _Damage(sqlite3.DatabaseError):
    """Damage that we found ourselves."""


def _is_damage(error: Exception) -> bool:
    return isinstance(error, _Damage | UnicodeDecodeError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _checked(row: tuple[Any, ...]) -> Entry:
    try:
        return Entry.from_row(row)
    except FormatError as error:
        raise _Damage(f"a bad record: {error}") from error


def _good(rows: Iterable[tuple[Any, ...]]) -> Iterator[Row]:
    for row in rows:
        if _looks_like_record(row):
            try:
                Entry.from_row(row[1:])
            except FormatError:
                continue
            yield row[1:]


def _looks_like_record(row: tuple[Any, ...]) -> bool:
    return len(row) == 8 and row[0] is None and isinstance(row[1], bytes) and len(row[1]) == 16


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
