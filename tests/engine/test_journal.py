from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepward.core.errors import FormatError, InputError
from stepward.core.usage import Usage
from stepward.engine.entry import Entry, entry_key
from stepward.engine.journal import Durability, Journal, JournalError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def entry(index: int, size: int = 20) -> Entry:
    payload = {"text": f"result {index} " + "ü0123456789abcdef"[index % 16] * size, "value": index / 7}
    return Entry(key=entry_key("test", "maker", index), kind="test", payload=payload, usage=Usage(calls=1, policy_tokens=index), run="run 1")


@settings(max_examples=150, deadline=None)
@given(payload=JSON, tokens=st.integers(0, 2**53), flops=st.floats(0, 1e30))
def test_an_entry_survives_its_bytes_exactly(payload: Any, tokens: int, flops: float) -> None:
    made = Entry(key=entry_key("k", "f", [1]), kind="k", payload=payload, usage=Usage(policy_tokens=tokens, flops=flops), run="r")
    assert Entry.from_row(made.to_row()) == made


@settings(max_examples=200, deadline=None)
@given(size=st.sampled_from([10, 3000]), data=st.data())
def test_any_flipped_bit_of_an_entry_is_noticed(size: int, data: st.DataObject) -> None:
    row = list(entry(5, size).to_row())
    column = data.draw(st.sampled_from([0, 3, 6]))
    value = bytearray(row[column])
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    value[bit // 8] ^= 1 << bit % 8
    row[column] = bytes(value)
    with pytest.raises(FormatError, match="checksum"):
        Entry.from_row(tuple(row))


def test_keys_tell_kind_maker_and_request_apart() -> None:
    requests = [("sample", "a", [1]), ("score", "a", [1]), ("sample", "b", [1]), ("sample", "a", [2]), ("sample", "a", ["1"]), ("samplea", "", [1])]
    assert len({entry_key(*request) for request in requests}) == len(requests)


def test_what_was_put_is_there_after_reopening(tmp_path: Path) -> None:
    entries = [entry(index, size) for index, size in enumerate([0, 10, 2000, 50_000] * 50)]
    with Journal(tmp_path / "deep" / "j.sqlite") as journal:
        assert asyncio.run(journal.put_many(entries)) == entries
    with Journal(tmp_path / "deep" / "j.sqlite", durability=Durability.POWER) as journal:
        found = asyncio.run(journal.get_many([made.key for made in entries] + [entry_key("x", "y", 0)]))
        assert list(found.values())
        assert found == {made.key: made for made in entries}
        assert journal.stats().n_records == {"test": 200}
        assert journal.verify().n_good == 200
        assert journal.verify().ok


def test_the_first_writer_wins_and_the_second_gets_the_stored_result(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as one, Journal(tmp_path / "j.sqlite") as two:
        first = entry(1)
        second = Entry(key=first.key, kind="test", payload="another")
        assert asyncio.run(one.put(first)) == first
        assert asyncio.run(two.put_many([entry(2), second])) == [entry(2), first]
        assert asyncio.run(one.get(first.key)) == first


def test_many_puts_share_transactions(tmp_path: Path) -> None:
    async def main(journal: Journal) -> int:
        await asyncio.gather(*(journal.put(entry(index)) for index in range(3000)))
        return journal._batcher.n_batches

    with Journal(tmp_path / "j.sqlite") as journal:
        assert asyncio.run(main(journal)) <= 3
        assert journal.stats().n_records == {"test": 3000}


def test_a_payload_that_is_not_json_is_refused_alone(tmp_path: Path) -> None:
    async def main(journal: Journal) -> list[Any]:
        bad = Entry(key=entry_key("a", "b", 0), kind="a", payload=float("nan"))
        return await asyncio.gather(journal.put(entry(1)), journal.put_many([entry(3), bad]), journal.put(entry(2)), return_exceptions=True)

    with Journal(tmp_path / "j.sqlite") as journal:
        one, bad, two = asyncio.run(main(journal))
        assert (one, two) == (entry(1), entry(2))
        assert isinstance(bad, InputError)
        assert "null and a reason" in str(bad)
        assert journal.stats().n_records == {"test": 2} or asyncio.run(journal.get(entry(3).key)) is None


def test_a_damaged_record_is_reported_set_aside_and_can_be_written_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path) as journal:
        asyncio.run(journal.put_many([entry(1), entry(2), entry(3)]))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET payload = X'7B7D' WHERE key = ?", (bytes.fromhex(entry(2).key),))
    connection.close()
    with Journal(path) as journal:
        found = asyncio.run(journal.get_many([entry(index).key for index in (1, 2, 3)]))
        assert set(found) == {entry(1).key, entry(3).key}
        assert "checksum mismatch" in caplog.text
        assert journal.quarantined() == [(entry(2).key, "test", "checksum mismatch")]
        assert asyncio.run(journal.put(entry(2))) == entry(2)
        assert asyncio.run(journal.get(entry(2).key)) == entry(2)
        assert journal.stats().n_quarantined == 1
        assert "saved 2 records into a new one, set 1 aside" in caplog.text
    assert len(list(tmp_path.glob("j.sqlite.damaged-*"))) == 1


def test_writing_over_a_damaged_record_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path) as journal:
        asyncio.run(journal.put(entry(2)))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET usage = '{}'")
    connection.close()
    with Journal(path) as journal:
        assert asyncio.run(journal.put(entry(2))) == entry(2)
        assert journal.verify().n_good == 1
        assert journal.quarantined() == [(entry(2).key, "test", "checksum mismatch")]
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET run = 'another'")
    connection.close()
    with Journal(path) as journal:
        assert asyncio.run(journal.get(entry(2).key)) is None
        assert journal.stats().n_quarantined == 2  # the earlier one is still there


def test_verify_finds_damage_that_nobody_has_read_yet(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path) as journal:
        asyncio.run(journal.put_many([entry(index) for index in range(20)]))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET checksum = zeroblob(16) WHERE id IN (3, 9)")
    connection.close()
    with Journal(path) as journal:
        report = journal.verify()
        assert (report.n_good, report.n_set_aside, report.ok) == (18, 2, False)
        assert not journal.verify().ok  # still reported
        assert journal.verify().n_set_aside == 0


def test_a_journal_of_a_newer_stepward_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    Journal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalError, match=r"schema version 99, this stepward reads up to 1; upgrade"):
        Journal(path)


def test_files_of_something_else_are_left_alone(tmp_path: Path) -> None:
    other, text = tmp_path / "other.sqlite", tmp_path / "notes.txt"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    text.write_text("These are my notes, and they are long enough. " * 100)
    before = {path: path.read_bytes() for path in (other, text)}
    for path in before:
        with pytest.raises(JournalError, match="not a stepward journal"):
            Journal(path)
    assert {path: path.read_bytes() for path in before} == before
    assert not list(tmp_path.glob("*damaged*"))


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.stats()


def test_the_stored_payload_is_plain_json_that_other_tools_can_read(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(journal.put(entry(1)))
    connection = sqlite3.connect(tmp_path / "j.sqlite")
    payload = connection.execute("SELECT payload FROM records").fetchone()[0]
    connection.close()
    assert json.loads(payload) == entry(1).payload
