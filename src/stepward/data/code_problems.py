"""Code problems: rows of the public sets HumanEval (Chen et al., 2021), MBPP (Austin et al., 2021; sanitized)."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from stepward.core import FormatError, Problem
from stepward.core.record import require
from stepward.data.rows import OnError, PathLike, Row, read_rows
from stepward.data.set_aside import SetAside

ENVIRONMENT = "code"


def read_code_problems(path: PathLike, *, on_error: OnError = "raise", set_aside: SetAside | None = None) -> Iterator[Problem]:
    """The problems of a file that holds such rows only, streaming: JSON lines or one JSON array, plain or gzip.

    Raises: InputError for a missing file; FormatError for a malformed row.
    """
    return read_rows(path, lambda row: [code_problem(row)], on_error=on_error, set_aside=set_aside)


def is_code_row(row: Row) -> bool:
    """Whether the row has the fields of HumanEval's or MBPP's."""
    return ("entry_point" in row and "test" in row) or ("test_list" in row and "code" in row)


def code_problem(row: Row) -> Problem:
    """One problem. `answer` holds the tests, a Python text that imports what it tests from `program`; `reference_steps` the reference program;
    `metadata` the function to be written (HumanEval).

    HumanEval: the prompt is code, which a solution continues. MBPP: the prompt is the task with its first test, as its authors show it.

    Raises: FormatError naming the field.
    """
    if "entry_point" in row:
        prompt, test, entry = require(row, "prompt", str), require(row, "test", str), require(row, "entry_point", str)
        return Problem(
            prompt,
            f"from program import {entry}\n\n{test.strip()}\n\ncheck({entry})\n",
            reference_steps=(require(row, "canonical_solution", str),),
            environment=ENVIRONMENT,
            metadata={"entry_point": entry},
            id=require(row, "task_id", str),
        )
    if "test_list" in row:
        code = require(row, "code", str).replace("\r\n", "\n")
        tests = [*row.get("test_imports", ()), *require(row, "test_list", list)]
        names = [name for name in _defined(code) if re.search(rf"\b{name}\b", "\n".join(tests))]
        text = require(row, "prompt", str) if "prompt" in row else require(row, "text", str)
        return Problem(
            f"{text.strip()}\nYour code should pass this test:\n{require(row, 'test_list', list)[0]}",
            "\n".join([*([f"from program import {', '.join(names)}"] if names else []), *tests]) + "\n",
            reference_steps=(code,),
            environment=ENVIRONMENT,
            id=f"mbpp-{row.get('task_id')}",
        )
    raise FormatError("neither a HumanEval row (entry_point) nor an MBPP row (test_list)", field="entry_point")


def _defined(code: str) -> list[str]:
    """Functions and classes of the reference program, which is read and never run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd escapes in it are not our business
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError) as error:
            raise FormatError(f"the reference program is no Python: {error}", field="code") from None
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
