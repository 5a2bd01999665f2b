"""The session's process: executes blocks of Python one after another in one namespace and says what each printed, valued and raised."""

from __future__ import annotations

import ast
import io
import json
import os
import sys
from typing import Any

_MAX_TEXT = 20_000
_MAX_REPR = 2000


def main() -> None:
    """Read {"blocks": [...], "echo": n} from standard input; report the last n blocks, as one line of JSON on standard output."""
    request = json.loads(sys.stdin.buffer.read())
    report = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    sys.stdin = io.StringIO("")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    results = [execute(code, namespace) for code in request["blocks"]]
    data = json.dumps(results[len(results) - request["echo"] :]).encode()
    while data:
        data = data[os.write(report, data) :]
    os._exit(0)


def execute(code: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Run one block, statement by statement; the result ends where an error was raised."""
    lines: list[dict[str, Any]] = []
    result: dict[str, Any] = {"lines": lines, "asserts": 0, "error": None}
    try:
        tree = ast.parse(code, "<block>")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 0
        result["error"] = {"type": type(error).__name__, "text": str(getattr(error, "msg", error))[:300], "line": line, "stage": "parse"}
        return result
    for node in tree.body:
        printed = io.StringIO()
        sys.stdout = sys.stderr = printed
        entry: dict[str, Any] = {"line": node.lineno, "end": node.end_lineno, "value": None, "shown": None}
        stage = "compile"
        try:
            if isinstance(node, ast.Expr):
                expression = compile(ast.Expression(node.value), "<block>", "eval")
                stage = "run"
                value = eval(expression, namespace)
                if value is not None:
                    entry |= {"value": repr(value)[:_MAX_REPR], "shown": str(value)[:_MAX_REPR]}
            else:
                statement = compile(ast.Module([node], []), "<block>", "exec")
                stage = "run"
                exec(statement, namespace)
                result["asserts"] += isinstance(node, ast.Assert)
                if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                    value = namespace[node.targets[0].id]
                    entry |= {"value": repr(value)[:_MAX_REPR], "shown": str(value)[:_MAX_REPR], "name": node.targets[0].id}
        except BaseException as error:
            result["error"] = {"type": type(error).__name__, "text": _text(error), "line": node.lineno, "stage": stage, "assert": isinstance(node, ast.Assert)}
            result["error"]["name"] = str(getattr(error, "name", None) or "")
        entry["printed"] = printed.getvalue()[:_MAX_TEXT]
        lines.append(entry)
        if result["error"]:
            break
    return result


def _text(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:
        return ""


if __name__ == "__main__":
    main()
