"""Loading: the format is told by the fields; problems of every public set; the real files read completely."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.data import rows

from stepward.core import Example, FormatError, InputError, Problem, Trajectory
from stepward.data import (
    FORMATS,
    SetAside,
    detect,
    last_boxed,
    problem_from_row,
    read_examples,
    read_problems,
    read_records,
    write_examples,
    write_problems,
    write_records,
    write_rows,
)

OFFICIAL = {
    "normalised": rows.NORMALISED,
    "processbench": rows.PROCESSBENCH,
    "prm800k": rows.PRM800K,
    "math_shepherd": rows.MATH_SHEPHERD,
    "prmbench": rows.PRMBENCH,
    "stepwise": rows.STEPWISE,
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_format_is_told_by_the_fields(name: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_rows(OFFICIAL[name], file)
    assert detect(file) == name
    examples = list(read_examples(file))
    assert examples == list(read_examples(file, name))
    assert write_examples(examples, tmp_path / "again.jsonl", name)
    assert list(read_examples(tmp_path / "again.jsonl")) == examples
    for store in ("a.jsonl", "a.parquet"):
        write_examples(examples, tmp_path / store)
        assert list(read_examples(tmp_path / store)) == examples


def test_options_reach_the_format(tmp_path: Path) -> None:
    write_rows(rows.PRM800K, tmp_path / "a.jsonl")
    assert len(list(read_examples(tmp_path / "a.jsonl", paths="chosen", neutral="mask"))) == 3
    with pytest.raises(InputError, match="'prm800k' format has no option among flavour"):
        read_examples(tmp_path / "a.jsonl", flavour=1)
    aside = SetAside()
    (tmp_path / "a.jsonl").write_text(json.dumps(rows.PROCESSBENCH[0]) + "\nbroken\n")
    assert len(list(read_examples(tmp_path / "a.jsonl", on_error="set_aside", set_aside=aside))) == len(aside) == 1


@pytest.mark.parametrize("first", ["broken", '{"poem": "a"}', '{"problem": "p", "generator": "g"}'])
def test_a_bad_first_row_is_set_aside_like_any_other(first: str, tmp_path: Path) -> None:
    file, aside = tmp_path / "a.jsonl", SetAside()
    file.write_text(first + "\n" + json.dumps(rows.PROCESSBENCH[0]) + "\n")
    assert len(list(read_examples(file, on_error="set_aside", set_aside=aside))) == 1
    assert [row.line for row in aside] == [1]
    file.write_text(first + "\n")
    with pytest.raises(FormatError, match=r"a.jsonl:1: "):
        read_examples(file, on_error="set_aside", set_aside=SetAside())


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    write_rows([{"poem": "a"}], tmp_path / "a.jsonl")
    with pytest.raises(FormatError, match=r"a.jsonl:1: no known format has the fields poem; known are normalised: problem"):
        read_examples(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match=f"unknown format 'csv'; choose one of {', '.join(FORMATS)}"):
        read_examples(tmp_path / "a.jsonl", "csv")
    with pytest.raises(InputError, match="no such file"):
        read_examples(tmp_path / "gone.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    assert list(read_examples(tmp_path / "empty.jsonl")) == []
    write_records([Problem("p")], tmp_path / "problems.jsonl")
    with pytest.raises(FormatError, match="expected examples, got a Problem"):
        list(read_examples(tmp_path / "problems.jsonl"))


@pytest.mark.parametrize(
    ("row", "prompt", "answer", "identity"),
    [
        ({"question": "How many?", "answer": "3 + 4 = <<3+4=7>>7.\nSo 1,007.\n#### 1,007"}, "How many?", "1007", None),
        ({"problem": "p", "solution": "s \\boxed{\\frac{1}{2}}", "answer": "1/2", "unique_id": "test/1"}, "p", "1/2", "test/1"),
        ({"problem": "p", "solution": "so \\boxed{3^{x}}.", "idx": 4}, "p", "3^{x}", "set-4"),
        ({"id": 60, "problem": "p", "question": "p", "answer": 27.0}, "p", "27", "set-60"),
        ({"id": 1, "context": None, "question": "q", "final_answer": ["2", "3"], "solution": ["s"]}, "q", "2, 3", "set-1"),
        ({"Body": "There are 9 cats", "Question": "How many?", "Answer": 9.5, "ID": "chal-1"}, "There are 9 cats. How many?", "9.5", "chal-1"),
        ({"body": "Two apples are here.", "question": "How many?", "answer": "2 (apples)", "idx": 0}, "Two apples are here. How many?", "2", "set-0"),
        ({"prompt": "p"}, "p", None, None),
        ({"prompt": "p", "answer": 4, "id": "mine"}, "p", "4", "mine"),
    ],
)
def test_problems_of_every_set(row: dict[str, Any], prompt: str, answer: str | None, identity: str | None) -> None:
    problem = problem_from_row(row, name="set")
    assert (problem.prompt, problem.answer) == (prompt, answer)
    assert problem.id == (identity or problem.key)


def test_gsm8k_solutions_become_steps_without_calculator_marks() -> None:
    problem = problem_from_row({"question": "q", "answer": "3 + 4 = <<3+4=7>>7.\nSo 7.\n#### 7"})
    assert problem.reference_steps == ("3 + 4 = 7.", "So 7.")
    assert "<<3+4=7>>" in problem.metadata["worked_answer"]


@pytest.mark.parametrize(
    ("row", "field"),
    [({"answer": "1"}, "problem"), ({"problem": 3}, "problem"), ({"problem": " "}, "problem"), ({"problem": "p", "answer": True}, "answer"),
     ({"problem": "p", "answer": {"a": 1}}, "answer"), ({"problem": "p", "answer": [1]}, "answer"), ({"problem": "p", "solution": 3}, "solution")],
)  # fmt: skip
def test_malformed_problems_are_refused(row: dict[str, Any], field: str, tmp_path: Path) -> None:
    write_rows([row], tmp_path / "a.jsonl")
    with pytest.raises(FormatError, match=f"a.jsonl:1: field '{field}'"):
        list(read_problems(tmp_path / "a.jsonl"))


def test_problems_are_written_as_records(tmp_path: Path) -> None:
    problems = [Problem("p", "1", ("a",)), Problem("q")]
    assert write_problems(problems, tmp_path / "a.jsonl") == 2
    assert list(read_problems(tmp_path / "a.jsonl")) == problems


def test_last_boxed() -> None:
    assert last_boxed("\\boxed{1} and \\boxed{\\frac{a}{b}}") == "\\frac{a}{b}"
    assert last_boxed("\\boxed{\\{1\\}}") == "\\{1\\}"
    assert last_boxed("\\boxed{1") is None
    assert last_boxed("so \\boxed 7.") == "7"
    assert last_boxed("\\boxed{1} and \\boxed{2") == "1"
    assert last_boxed("none") is None


STEP_FILES = {
    "processbench_gsm8k_dev": (207, "prefix"),
    "processbench_math_dev": (519, "prefix"),
    "prmbench_dev": (3158, "local"),
    "prm800k_phase1_test": (1784, "local"),
    "bigbench_mistake_dev": (600, "prefix"),
    "mr_ben_dev": (2267, "prefix"),
    "perl_premises": (753, "local"),
    "agentprocessbench_hotpotqa": (250, "local"),
}


@pytest.mark.parametrize("name", STEP_FILES)
def test_every_step_file_reads_completely_and_round_trips(name: str, shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "steps" / f"{name}.jsonl.gz"
    count, semantics = STEP_FILES[name]
    assert detect(file) == "normalised"
    examples = list(read_examples(file))
    assert len(examples) == count
    assert {example.labels.semantics for example in examples if example.labels is not None} == {semantics}

    assert write_examples(examples, tmp_path / "again.jsonl", "normalised") == count
    with gzip.open(file, "rb") as official, (tmp_path / "again.jsonl").open("rb") as again:
        assert all(json.loads(line) == json.loads(written) for line, written in zip(official, again, strict=True))


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".parquet"])
def test_real_examples_survive_the_store(suffix: str, shared_data: Path, tmp_path: Path) -> None:
    examples = [example for name in STEP_FILES for example in islice(read_examples(shared_data / "steps" / f"{name}.jsonl.gz"), 25)]
    write_records(examples, tmp_path / f"a{suffix}")
    assert list(read_records(tmp_path / f"a{suffix}")) == examples


def test_the_known_labels_of_the_first_processbench_row(shared_data: Path) -> None:
    example: Example = next(read_examples(shared_data / "steps" / "processbench_gsm8k_dev.jsonl.gz"))
    assert example.id == "gsm8k-0"
    assert example.labels is not None
    assert example.labels.first_error == 1
    assert example.labels.hard == (True, False, False, False)


PROBLEM_FILES = {
    "aime24": 30, "amc23": 40, "asdiv": 2215, "gsm8k_test": 1319, "math500": 500, "minerva_math": 272, "olympiadbench": 675, "svamp": 1000,
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEM_FILES)
def test_every_problem_file_reads_completely_with_answers_and_distinct_ids(name: str, shared_data: Path) -> None:
    problems = list(read_problems(shared_data / "problems" / f"{name}.jsonl.gz"))
    assert len(problems) == PROBLEM_FILES[name]
    assert all(problem.answer for problem in problems)
    assert len({problem.id for problem in problems}) == len(problems)
    assert isinstance(Trajectory(problems[0]).key, str)
