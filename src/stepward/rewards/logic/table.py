"""Truth tables: rows of T and F under formulas, each cell checked against the row's own values of the propositions."""

from __future__ import annotations

from collections.abc import Mapping

from stepward.rewards.logic.formula import Atom, Formula, Join, Not, atoms
from stepward.rewards.logic.notation import looks_formal, read_formula
from stepward.rewards.verifiers import State, Verdict

_VALUES = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}
_MAX_ROWS = 256


def check_tables(text: str, verifier: str) -> list[Verdict]:
    """A verdict a row of each table whose first line names propositions and formulas of them ("p | q | p → q"); other tables are passed over."""
    verdicts: list[Verdict] = []
    header: list[tuple[str, Formula]] = []
    offset, n_rows = 0, 0
    for line in text.split("\n"):
        cells = [cell.strip().strip("$") for cell in line.strip().strip("|").split(" | " if "||" in line else "|")]
        start = offset + len(line) - len(line.lstrip())
        span = (start, start + len(line.strip()))
        offset += len(line) + 1
        if len(cells) < 2:
            header = []
            continue
        if all(set(cell) <= set("-: ") and cell for cell in cells):
            continue
        values = [_VALUES.get(cell.lower()) for cell in cells]
        if header and len(cells) == len(header) and all(value is not None for value in values) and n_rows < _MAX_ROWS:
            n_rows += 1
            verdicts += _row(header, [bool(value) for value in values], line.strip(), span, verifier)
        else:
            header = _header(cells)
    return verdicts


def _header(cells: list[str]) -> list[tuple[str, Formula]]:
    formulas = [(cell, read_formula(cell)) for cell in cells]
    if not any(looks_formal(cell) for cell in cells):
        return []
    known = [(cell, formula) for cell, formula in formulas if formula is not None and all(not atom.terms for atom in atoms(formula))]
    return known if len(known) == len(cells) else []


def _row(header: list[tuple[str, Formula]], values: list[bool], line: str, span: tuple[int, int], verifier: str) -> list[Verdict]:
    given = {formula.name: value for (_, formula), value in zip(header, values, strict=True) if isinstance(formula, Atom)}
    wrong, checked = [], 0
    for (cell, formula), value in zip(header, values, strict=True):
        if isinstance(formula, Atom) or any(atom.name not in given for atom in atoms(formula)):
            continue
        true = evaluate(formula, given)
        checked += true is not None
        if true is not None and true != value:
            wrong.append(f"{cell} is {'true' if true else 'false'}")
    if not checked:
        return []
    state = State.REFUTED if wrong else State.SUPPORTED
    reason = "; ".join(wrong) if wrong else f"{checked} cells hold"
    return [Verdict(state=state, verifier=verifier, kind="truth table", text=line[:200], span=span, reason=reason, evidence={"given": given})]


def evaluate(formula: Formula, given: Mapping[str, bool]) -> bool | None:
    """The value of a propositional formula; None where it has quantifiers."""
    if isinstance(formula, Atom):
        return given[formula.name]
    if isinstance(formula, Not):
        inner = evaluate(formula.body, given)
        return None if inner is None else not inner
    if not isinstance(formula, Join):
        return None
    parts = [evaluate(part, given) for part in formula.parts]
    known = [part for part in parts if part is not None]
    if len(known) != len(parts):
        return None
    if formula.kind in ("and", "or", "either", "plain"):
        return all(known) if formula.kind == "and" else any(known)
    if formula.kind in ("implies", "none"):
        return not known[0] or known[1]
    return (known[0] == known[1]) == (formula.kind == "iff")
