"""A streamed file is readable at any moment, keeps what it had when its writer died, and ends up in order."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from stepward.core import InputError, Problem
from stepward.data import read_records, write_records
from stepward.data.streamed import RecordStream

PROBLEMS = [Problem(f"What is {number} + 1? — ü \ud800", str(number + 1)) for number in range(7)]
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_order_of_arrival_gives_the_same_bytes_as_writing_at_once(tmp_path: Path, suffix: str) -> None:
    files = []
    for seed in range(3):
        order = list(range(len(PROBLEMS)))
        random.Random(seed).shuffle(order)
        files.append(tmp_path / f"{seed}{suffix}")
        with RecordStream(files[-1]) as stream:
            for position in order:
                stream.add(position, PROBLEMS[position])
    at_once = tmp_path / f"at_once{suffix}"
    write_records(PROBLEMS, at_once)
    assert [list(read_records(file)) for file in files] == [PROBLEMS] * 3
    assert {file.read_bytes() for file in files if suffix == ".jsonl"} <= {at_once.read_bytes()}
    assert len({file.read_bytes() for file in files}) == 1
    assert not list(tmp_path.glob("*.part.jsonl"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_added_can_be_read_at_once_and_stays_when_the_body_fails(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"out{suffix}"
    stream = RecordStream(file)

    def cut_short() -> None:
        with stream:
            for count, position in enumerate((4, 0, 2), start=1):
                stream.add(position, PROBLEMS[position])
                assert len(list(read_records(stream.growing))) == count
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert list(read_records(stream.growing)) == [PROBLEMS[4], PROBLEMS[0], PROBLEMS[2]], "in the order in which they finished"


def test_an_old_file_stays_until_the_first_record_comes(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    write_records(PROBLEMS, file)
    with RecordStream(file) as stream:
        assert len(list(read_records(file))) == len(PROBLEMS)
        stream.add(0, PROBLEMS[3])
        assert list(read_records(file)) == [PROBLEMS[3]]


def test_no_records_are_a_file_without_records(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        with RecordStream(tmp_path / f"empty{suffix}"):
            pass
        assert list(read_records(tmp_path / f"empty{suffix}")) == []


def test_misuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out\.csv"):
        RecordStream(tmp_path / "out.csv")
    with RecordStream(tmp_path / "out.jsonl") as stream:
        stream.add(1, PROBLEMS[0])
        with pytest.raises(InputError, match="record 1 was added before"):
            stream.add(1, PROBLEMS[0])
