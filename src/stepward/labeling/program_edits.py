"""Edits of one line of a Python program: mutations, which change its meaning, and refactorings, which keep it. Intent only: what an edit really does is for
the tests to say. Which lines to edit and what the results are called is in `mutation`."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from stepward.environments.code.program import read_python

Intent = Literal["mutation", "refactoring"]


@dataclass(frozen=True)
class Edit:
    """Characters `start` to `end` of the program become `text`; they lie in one line. `operator`: the type of the edit."""

    intent: Intent
    operator: str
    start: int
    end: int
    text: str

    def apply(self, program: str) -> str:
        return program[: self.start] + self.text + program[self.end :]


_NEGATED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "in": "not in", "not in": "in", "is": "is not", "is not": "is"}
_BOUNDARY = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_FLIPPED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_ARITHMETIC = {"+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "+", "**": "*", "&": "|", "|": "&", "^": "&", "<<": ">>", ">>": "<<"}
_CALLS = {
    "min": "max", "max": "min", "any": "all", "all": "any", "ceil": "floor", "floor": "ceil", "upper": "lower", "lower": "upper", "sum": "len",
    "sorted": "list", "startswith": "endswith", "endswith": "startswith", "isupper": "islower", "islower": "isupper", "isdigit": "isalpha",
    "isalpha": "isdigit", "lstrip": "rstrip", "rstrip": "lstrip", "sin": "cos", "cos": "sin", "append": "extend",
}  # fmt: skip
_OPERATOR = re.compile(r"not\s+in\b|is\s+not\b|in\b|is\b|and\b|or\b|[-+*/%&|^<>=!@]+")


def mutations(program: str) -> list[Edit]:
    """Every rule-based mutation, in the order of the text: comparison (negated), boundary, arithmetic, constant, variable, logic, condition, return,
    statement, loop, call, augmented. Docstrings, annotations, messages of errors and f-strings are left alone.

    Raises: SyntaxError for a program that is no Python.
    """
    return _unique(program, "mutation", _mutated(_Source(program)))


def refactorings(program: str) -> list[Edit]:
    """Every rule-based refactoring: flipped comparisons of plain operands, doubled negations of conditions, parentheses, constants written as sums.

    Raises: SyntaxError for a program that is no Python.
    """
    return _unique(program, "refactoring", _refactored(_Source(program)))


def choose(edits: Sequence[Edit], n: int, seed: int | str) -> list[Edit]:
    """`n` of the edits (all where there are fewer), types of edit taken in turn in a random order; the same ones for the same seed."""
    generator = random.Random(f"{seed}")
    waiting: dict[str, list[Edit]] = {}
    for edit in generator.sample(list(edits), len(edits)):
        waiting.setdefault(edit.operator, []).append(edit)
    types = sorted(waiting)
    generator.shuffle(types)
    rounds = zip_longest(*(waiting[name] for name in types))
    return [edit for turn in rounds for edit in turn if edit is not None][:n]


Change = tuple[str, int, int, str]  # operator, start, end, text


def _unique(program: str, intent: Intent, changes: Iterator[Change]) -> list[Edit]:
    """Those that are Python, differ from the program, and differ from each other."""
    found: dict[str, Edit] = {}
    original = ast.dump(read_python(program))
    for operator, start, end, text in changes:
        edit = Edit(intent, operator, start, end, text)
        changed = edit.apply(program)
        if changed in found or "\n" in program[start:end] or "\n" in text:
            continue
        try:
            tree = ast.dump(read_python(changed))
        except (SyntaxError, RecursionError):
            continue
        if intent == "refactoring" or tree != original:
            found[changed] = edit
    return sorted(found.values(), key=lambda edit: (edit.start, edit.end, edit.operator, edit.text))


class _Source:
    """A program's tree with character positions, and the nodes that may be edited."""

    def __init__(self, program: str) -> None:
        self.text = program
        self.tree = read_python(program)
        self._lines = [0]
        for line in program.split("\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)
        self.nodes = list(self._walk(self.tree, ()))

    def _walk(self, node: ast.AST, parameters: tuple[str, ...]) -> Iterator[tuple[ast.AST, tuple[str, ...]]]:
        """The nodes with the names of the function around them."""
        if isinstance(node, ast.JoinedStr | ast.Raise | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        if isinstance(node, ast.FunctionDef):
            inner = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
            parameters = tuple(sorted({argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]} | inner))
            for line in node.body:
                yield from self._walk(line, parameters)
            return
        yield node, parameters
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "decorator_list", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self._walk(child, parameters)

    def at(self, line: int, column: int) -> int:
        """Character of a line (from 1) and a column counted in bytes."""
        start = self._lines[line - 1]
        return start + len(self.text[start : self._lines[line]].encode()[:column].decode("utf-8", "ignore"))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def quote(self, node: ast.expr | ast.stmt) -> str:
        start, end = self.span(node)
        return self.text[start:end]

    def between(self, left: ast.expr, right: ast.expr) -> tuple[int, int, str] | None:
        """The operator that stands between two operands: its span and its spelling with single spaces."""
        start, end = self.span(left)[1], self.span(right)[0]
        match = _OPERATOR.search(self.text, start, end)
        return None if match is None else (match.start(), match.end(), " ".join(match[0].split()))


def _mutated(source: _Source) -> Iterator[Change]:
    for node, names in source.nodes:
        if isinstance(node, ast.Compare):
            for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
                if found := source.between(left, right):
                    start, end, sign = found
                    for operator, table in (("comparison", _NEGATED), ("boundary", _BOUNDARY)):
                        if sign in table:
                            yield operator, start, end, table[sign]
        elif isinstance(node, ast.BinOp):
            if (found := source.between(node.left, node.right)) and found[2] in _ARITHMETIC:
                yield "arithmetic", found[0], found[1], _ARITHMETIC[found[2]]
        elif isinstance(node, ast.BoolOp):
            if (found := source.between(node.values[0], node.values[1])) and len(node.values) == 2:
                yield "logic", found[0], found[1], "or" if isinstance(node.op, ast.And) else "and"
        elif isinstance(node, ast.UnaryOp):
            if isinstance(node.op, ast.Not | ast.USub):
                yield "logic" if isinstance(node.op, ast.Not) else "arithmetic", *source.span(node), f"({source.quote(node.operand)})"
        elif isinstance(node, ast.Constant):
            yield from _constants(source, node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in _CALLS:
                yield "call", *source.span(node), _CALLS[node.id]
            elif node.id in names:
                for other in [name for name in names if name != node.id]:
                    yield "variable", *source.span(node), other
        elif isinstance(node, ast.Attribute) and node.attr in _CALLS:
            end = source.span(node)[1]
            yield "call", end - len(node.attr), end, _CALLS[node.attr]
        elif isinstance(node, ast.stmt):
            yield from _statements(source, node)


def _constants(source: _Source, node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", *source.span(node), str(not value)
    elif isinstance(value, int | float):
        yield "constant", *source.span(node), repr(value + 1)
    elif isinstance(value, str):
        yield "constant", *source.span(node), repr(value + "x" if len(value) < 2 else value[:-1])


def _statements(source: _Source, node: ast.stmt) -> Iterator[Change]:
    start, end = source.span(node)
    if isinstance(node, ast.If | ast.While):
        yield "condition", *source.span(node.test), f"not ({source.quote(node.test)})"
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "return", *source.span(node.value), "None"
    elif isinstance(node, ast.Break | ast.Continue):
        yield "loop", start, end, "continue" if isinstance(node, ast.Break) else "break"
    elif isinstance(node, ast.AugAssign):
        sign = source.between(node.target, node.value)
        if sign and sign[2][:-1] in _ARITHMETIC:
            yield "augmented", sign[0], sign[1], _ARITHMETIC[sign[2][:-1]] + "="
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Expr):
        yield "statement", start, end, "pass"


def _refactored(source: _Source) -> Iterator[Change]:
    for node, _ in source.nodes:
        if isinstance(node, ast.Compare) and len(node.comparators) == 1 and all(map(_plain, (node.left, node.comparators[0]))):
            found = source.between(node.left, node.comparators[0])
            if found and found[2] in _FLIPPED:
                yield "flip", *source.span(node), f"{source.quote(node.comparators[0])} {_FLIPPED[found[2]]} {source.quote(node.left)}"
        elif isinstance(node, ast.If | ast.While):
            yield "double negation", *source.span(node.test), f"not (not ({source.quote(node.test)}))"
        elif isinstance(node, ast.Return | ast.Assign) and node.value is not None:
            yield "parentheses", *source.span(node.value), f"({source.quote(node.value)})"
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            yield "sum", *source.span(node), f"({node.value + 1} - 1)"


def _plain(node: ast.expr) -> bool:
    """A name or a constant: the order in which the two are read does not matter."""
    return isinstance(node, ast.Name | ast.Constant)
