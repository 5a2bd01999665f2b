"""The record store gives every noun back exactly, from JSON lines and from Parquet."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import strategies

from stepward.core import Count, Example, FormatError, InputError, Problem, Step, StepLabels, StepScores, Trajectory, Usage, canonical_json
from stepward.data import SetAside, read_records, store, write_records

KINDS: dict[str, Any] = {
    "problem": strategies.problems,
    "step": strategies.steps,
    "outcome": strategies.outcomes,
    "trajectory": strategies.trajectories(),
    "step_scores": strategies.step_scores(),
    "step_labels": strategies.step_labels(),
    "example": strategies.examples(),
    "tree": strategies.trees(),
    "search_result": strategies.search_results(),
}
NAMES = ("store.jsonl", "store.jsonl.gz", "store.parquet")


def same(read: list[Any], written: list[Any]) -> bool:
    return [type(noun) for noun in read] == [type(noun) for noun in written] and [canonical_json(noun.to_record()) for noun in read] == [
        canonical_json(noun.to_record()) for noun in written
    ]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_every_noun_is_read_back_exactly(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    nouns = data.draw(st.lists(KINDS[kind], min_size=1, max_size=3))
    for name in NAMES:
        assert write_records(nouns, tmp_path / name) == len(nouns)
        assert same(list(read_records(tmp_path / name)), nouns), name


HARD_CASES = [
    Problem("lone \ud800 surrogate", metadata={"\udfff": ["\ud800"], "huge": 10**40, "tiny": 5e-324, "zero": -0.0, "third": 1 / 3}),
    Problem("zero \x00 byte, emoji 🙂, ﷽", "1e400"),
    Problem("", reference_steps=("", "\n")),
]


@pytest.mark.parametrize("name", NAMES)
def test_hard_cases(tmp_path: Path, name: str) -> None:
    write_records(HARD_CASES, tmp_path / name)
    again = list(read_records(tmp_path / name))
    assert same(again, HARD_CASES)
    assert again[0].metadata["huge"] == 10**40
    assert math.copysign(1, again[0].metadata["zero"]) == -1


@pytest.mark.parametrize("name", NAMES)
def test_unscored_values_keep_their_reasons(tmp_path: Path, name: str) -> None:
    scores = StepScores([0.1, math.nan], (None, "abstained: no claim"), usage=Usage(calls=2, flops=2**80))  # type: ignore[arg-type]
    write_records([scores], tmp_path / name)
    (again,) = read_records(tmp_path / name)
    assert again == scores
    assert math.isnan(again.values[1])


def labelled(index: int) -> Example:
    trajectory = Trajectory.from_texts(Problem(f"p{index}"), ["a", "b"])
    labels = StepLabels.from_counts([Count(index % 4 + 1, 5), Count(0, 5)])
    return Example(trajectory, labels, id=f"e{index}", source="test", metadata={"n": index})


def test_parquet_columns_are_typed_for_any_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_BATCH", 100)
    write_records(map(labelled, range(250)), tmp_path / "a.parquet")
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert file.num_row_groups == 3
    table = pq.read_table(tmp_path / "a.parquet", columns=["id", "labels", "record_json"])
    assert table["id"][2].as_py() == "e2"
    labels = table["labels"].combine_chunks()
    assert labels.field("first_error").to_pylist() == [1] * 250
    assert labels.field("values")[2].as_py() == [0.6, 0.0]
    assert table["record_json"].null_count == 250, "ordinary records need no escape"
    assert same(list(read_records(tmp_path / "a.parquet")), [labelled(index) for index in range(250)])


def test_a_text_that_parquet_cannot_hold_is_escaped_and_the_rest_stays_queryable(tmp_path: Path) -> None:
    write_records(HARD_CASES, tmp_path / "a.parquet")
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert "\\ud800" in rows[0]["record_json"]
    assert rows[0]["prompt"] == "lone ? surrogate"
    assert rows[1]["record_json"] is None


@pytest.mark.parametrize("name", NAMES)
def test_no_records_make_an_empty_store(tmp_path: Path, name: str) -> None:
    assert write_records([], tmp_path / name) == 0
    assert list(read_records(tmp_path / name)) == []


def test_json_lines_mix_kinds_and_parquet_does_not(tmp_path: Path) -> None:
    mixed = [Step("a"), Problem("p")]
    write_records(mixed, tmp_path / "a.jsonl")
    assert same(list(read_records(tmp_path / "a.jsonl")), mixed)
    with pytest.raises(InputError, match="one kind of record, got 'step' and 'problem'"):
        write_records(mixed, tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    def failing() -> Iterator[Step]:
        yield Step("a")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_records(failing(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_line_is_refused_or_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    write_records([Step("a"), Step("b"), Step("c")], file)
    torn = file.read_bytes().splitlines()
    torn[1] = torn[1][:20]
    file.write_bytes(b"\n".join(torn))
    with pytest.raises(FormatError, match=r"a.jsonl:2: not JSON"):
        list(read_records(file))
    aside = SetAside()
    assert [step.text for step in read_records(file, on_error="set_aside", set_aside=aside)] == ["a", "c"]
    assert [row.line for row in aside] == [2]


BAD_STEPS = '{"kind":"trajectory","version":1,"problem":{},"steps":[5],"finished":true,"truncated":false,"outcome":null}'
GOOD_PROBLEM = '{"kind":"problem","version":1,"id":"i","prompt":"p","answer":null,"reference_steps":[],"environment":"","images":[],"metadata":{}}'
NO_RECORDS = [
    '{"kind": "poem", "version": 1}',
    '{"kind": "step", "version": 9}',
    '{"kind": "step", "version": 1}',
    '{"a": 1}',
    BAD_STEPS.replace('"problem":{}', f'"problem":{GOOD_PROBLEM}'),
    '{"kind":"step_scores","version":1,"values":[{}],"reasons":[],"scale":"logit","threshold":0,"rationales":[],"source":{},"usage":{}}',
]


@pytest.mark.parametrize("line", NO_RECORDS)
def test_a_line_that_is_no_record_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(FormatError, match=r"a.jsonl:1: "):
        list(read_records(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("cut", [10, 200, -5])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "a.parquet"
    write_records([labelled(0)], file)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(FormatError, match="not a readable Parquet file"):
        list(read_records(file))
    aside = SetAside()
    assert list(read_records(file, on_error="set_aside", set_aside=aside)) == []
    assert len(aside) == 1


def test_a_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(FormatError, match="unknown record kind None"):
        list(read_records(tmp_path / "a.parquet"))


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    for act in (lambda: write_records([], tmp_path / "a.csv"), lambda: read_records(tmp_path / "a.csv")):
        with pytest.raises(InputError, match=r"end its name in one of .jsonl, .jsonl.gz, .parquet"):
            act()
