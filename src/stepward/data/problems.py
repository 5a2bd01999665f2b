"""Problems: readers for the public problem sets, by the fields of each row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stepward.core import FormatError, Problem
from stepward.core.record import require
from stepward.data.boxed import last_boxed
from stepward.data.code_problems import code_problem, is_code_row
from stepward.data.rows import OnError, PathLike, Row, read_rows, without, write_rows
from stepward.data.segment import segment
from stepward.data.set_aside import SetAside

_PROMPTS = ("problem", "question", "prompt")
_SVAMP = {"Body": "body", "Question": "question", "Answer": "answer", "ID": "id"}
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_UNIT = re.compile(r"([^()]*\S)\s*\(([^()]*)\)")


def read_problems(path: PathLike, *, on_error: OnError = "raise", set_aside: SetAside | None = None) -> Iterator[Problem]:
    """The problems of a file, streaming: JSON lines or one JSON array, plain or gzip.

    A row is recognised by its fields: our own records; GSM8K (a worked `answer` that ends in "#### 18": its steps become
    reference_steps, without the calculator's <<...>>, and thousands separators leave the answer); MATH, AIME, AMC and Minerva (`problem`,
    `solution`, `answer`, else the last \\boxed{} of the solution); OlympiadBench (`final_answer`); SVAMP and ASDiv (body and question
    are joined; ASDiv's unit in brackets leaves the answer); HumanEval and MBPP (see `code_problems`); any row with problem, question or prompt and,
    if known, an answer. Whole numbers stored as floats lose their ".0". A number as id gets the file's name in front. The row's other fields are metadata,
    as is GSM8K's whole answer (`worked_answer`).

    Raises: InputError for a missing file; FormatError for a malformed row.
    """
    name = Path(path).name.split(".")[0]
    return read_rows(path, lambda row: [problem_from_row(row, name=name)], on_error=on_error, set_aside=set_aside)


def write_problems(problems: Iterable[Problem], path: PathLike) -> int:
    """Write problems as records, one a line; how many."""
    return write_rows((problem.to_record() for problem in problems), path)


def problem_from_row(row: Row, *, name: str = "problem") -> Problem:
    """One problem; `name` goes in front of an id that is a number.

    Raises: FormatError naming the field.
    """
    if row.get("kind") == "problem":
        return Problem.from_record(row)
    if is_code_row(row):
        return code_problem(row)
    if "Body" in row and "Question" in row:
        row = {_SVAMP.get(field, field): value for field, value in row.items()}
    prompt, prompt_fields = _prompt(row)
    solution = _solution(row)
    answer, answer_fields = _answer(row, solution)
    extra: dict[str, Any] = {}
    if "####" in (answer or ""):
        worked, _, final = str(answer).rpartition("####")
        solution, answer, extra = worked.strip(), final.strip().replace(",", ""), {"worked_answer": answer}
    if "body" in row and answer is not None and (match := _UNIT.fullmatch(answer)):
        answer, extra = match[1], {"unit": match[2]}
    return Problem(
        prompt,
        answer,
        reference_steps=tuple(step.text for step in segment(_CALCULATOR.sub("", solution))) if solution else (),
        metadata=without(row, *prompt_fields, *answer_fields, "id", "unique_id") | extra,
        id=_identity(row, name),
    )


def _prompt(row: Row) -> tuple[str, tuple[str, ...]]:
    for field in _PROMPTS:
        if field in row:
            text: str = require(row, field, str)
            if not text.strip():
                raise FormatError("is empty", field=field)
            for before in ("context", "body"):
                if row.get(before):
                    text = _joined(require(row, before, str).strip(), text)
            return text, (field, "context", "body", *(other for other in _PROMPTS if row.get(other) == row[field]))
    raise FormatError(f"missing (nor is there {' or '.join(_PROMPTS[1:])})", field=_PROMPTS[0])


def _joined(before: str, question: str) -> str:
    return f"{before}{'' if before[-1] in '.,;:!?)' or before.endswith(chr(34)) else '.'} {question}"


def _solution(row: Row) -> str:
    """The worked solution; the first where several are given."""
    solution = row.get("solution")
    if isinstance(solution, list):
        solution = solution[0] if solution else None
    if not isinstance(solution, str | None):
        raise FormatError(f"expected a string or a list of strings, got {type(solution).__name__}", field="solution")
    return solution or ""


def _answer(row: Row, solution: str) -> tuple[str | None, tuple[str, ...]]:
    for field in ("answer", "final_answer"):
        value = row.get(field)
        if isinstance(value, list):
            if not all(isinstance(part, str) for part in value):
                raise FormatError("expected a list of strings", field=field)
            return ", ".join(value), (field,)
        if isinstance(value, bool | Mapping):
            raise FormatError(f"expected a string, a number or a list of strings, got {type(value).__name__}", field=field)
        if value is not None:
            return _number_text(value), (field,)
    return last_boxed(solution), ("answer", "final_answer")


def _number_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _identity(row: Row, name: str) -> str:
    for field in ("id", "unique_id", "idx"):
        value = row.get(field)
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return f"{name}-{value}"
    return ""
