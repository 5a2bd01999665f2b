"""Arithmetic operators: errors in the numbers and signs of a step. A changed left side gets the result that it then has, so that only sense is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from random import Random

from stepward.labeling.perturb.perturbation import Edit, Operator
from stepward.labeling.perturb.site import Equation, Site
from stepward.rewards.arithmetic.token import Token

_DELTAS = (1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, 7, 8, 9, 10, -10, 20, -20)
_ANSWER = re.compile(r"answer is\s{0,3}(\d{1,12})")
_SWAPS = {"+": "-", "-": "+"}  # of equal looks: products and quotients would be made less often than unmade, which gives the error away
_PART = re.compile(r"\s?\*\s?(\d{1,3})\s?/\s?100\b")


def _edit(site: Site, text: str | None, note: str) -> Edit | None:
    return None if text is None or text == site.text else Edit(site.with_text(text), site.at, note)


def _number_slip(site: Site, rng: Random) -> Edit | None:
    """The stated result is off; what it is computed from stays."""
    whole = [equation for equation in site.equations if equation.result.text.isdigit()]
    answer = _ANSWER.search(site.text)
    if not whole and answer is None:
        return None
    shown = whole[-1].result.text if whole else answer[1] if answer is not None else ""
    value = str(int(shown) + rng.choice([delta for delta in _DELTAS if int(shown) + delta > 0]))
    if whole:
        text = site.text[: whole[-1].result.start] + value + whole[-1].after(value)
    else:
        text = _ANSWER.sub(lambda match: match[0][: -len(match[1])] + value, site.text, count=1)
    return _edit(site, text, f"the result is {shown}, not {value}")


def _candidates(rng: Random, pairs: list[tuple[Equation, Token]]) -> Iterator[tuple[Equation, Token]]:
    rng.shuffle(pairs)
    return iter(pairs)


def _off_by_one(site: Site, rng: Random) -> Edit | None:
    """One number that goes into a calculation is one too high or too low."""
    pairs = [(equation, token) for equation in site.equations for token in equation.operands if token.text.isdigit() and int(token.text) > 2]
    for equation, token in _candidates(rng, [pair for pair in pairs if pair[1].text != "100"]):
        for delta in rng.sample((1, -1), 2):
            if text := equation.rewritten((token, str(int(token.text) + delta))):
                return _edit(site, text, f"counts {int(token.text) + delta} instead of {token.text}")
    return None


def _operator_swap(site: Site, rng: Random) -> Edit | None:
    """Another operation on the same numbers."""
    pairs = [(equation, token) for equation in site.equations for token in equation.operators if token.text in _SWAPS]
    for equation, token in _candidates(rng, pairs):
        for other in _SWAPS[token.text]:
            if text := equation.rewritten((token, other)):
                return _edit(site, text, f"'{other}' instead of '{token.text}'")
    return None


def _other_quantity(site: Site, rng: Random) -> Edit | None:
    """A number of the problem, or an earlier result, that belongs to another quantity."""
    pairs = [(equation, token) for equation in site.equations for token in equation.operands if token.text != "100"]
    shown = {token.text for equation in site.equations for token in (*equation.operands, equation.result)}
    others = [number for number in site.numbers if number not in shown and number not in ("1", "100")]
    for equation, token in _candidates(rng, pairs):
        for other in rng.sample(others, len(others)):
            if text := equation.rewritten((token, other)):
                return _edit(site, text, f"{other} belongs to another quantity; {token.text} is meant")
    return None


def _misquoted(site: Site, rng: Random) -> Edit | None:
    """An earlier result is quoted wrongly."""
    results = {str(value): step for step, value in site.results.items()}
    pairs = [(equation, token) for equation in site.equations for token in equation.operands if token.text in results]
    for equation, token in _candidates(rng, pairs):
        for delta in rng.sample(_DELTAS, len(_DELTAS)):
            quoted = int(token.text) + delta if token.text.isdigit() else 0
            if quoted > 1 and str(quoted) not in site.numbers and (text := equation.rewritten((token, str(quoted)))):
                return _edit(site, text, f"step {results[token.text]} (counted from 0) says {token.text}, not {quoted}")
    return None


def _sign_error(site: Site, rng: Random) -> Edit | None:
    """A difference taken the wrong way round, its sign dropped."""
    del rng
    for equation in site.equations:
        if [token.text for token in equation.operators] == ["-"] and len(equation.operands) == 2:
            left, right = equation.operands
            if left.text != right.text:
                return _edit(site, equation.rewritten((left, right.text), (right, left.text), recompute=False), "the difference is taken the wrong way round")
    return None


def _wrong_rounding(site: Site, rng: Random) -> Edit | None:
    """A decimal result rounded away from its nearest neighbour."""
    del rng
    for equation in site.equations:
        shown = equation.result.text
        if "." not in shown:
            continue
        exact = _left_value(equation)
        unit = Fraction(1, 10 ** len(shown.split(".")[1]))
        if exact is None or exact == Fraction(shown):
            continue
        other = math.floor(exact / unit) * unit if Fraction(shown) > exact else math.ceil(exact / unit) * unit
        places = len(shown.split(".")[1])
        text = f"{site.text[: equation.result.start]}{float(other):.{places}f}{site.text[equation.result.end :]}"
        return _edit(site, text, f"{shown} is the nearest, not {float(other):.{places}f}")
    return None


def _left_value(equation: Equation) -> Fraction | None:
    from stepward.rewards.arithmetic.verdict import check_all

    found = [verdict for verdict in check_all(equation.text) if verdict.claim.right and verdict.claim.right[0].start == equation.result.start]
    return found[0].left if found else None


def _percent_as_number(site: Site, rng: Random) -> Edit | None:
    """A percentage taken as a plain number: the rule of another domain."""
    del rng
    match = _PART.search(site.text)
    if match is None:
        return None
    for equation in site.equations:
        if equation.start <= match.start() < equation.result.start:
            hundred = next((token for token in equation.operands if token.text == "100" and match.start() <= token.start < match.end()), None)
            if hundred is not None and (text := equation.rewritten((hundred, "10"))):
                return _edit(site, text, "a percentage is a share of 100")
    return None


ARITHMETIC = (
    Operator("number_slip", _number_slip, "the result of a right calculation is off"),
    Operator("off_by_one", _off_by_one, "a number that is counted is one too high or too low"),
    Operator("operator_swap", _operator_swap, "the numbers are combined by another operation"),
    Operator("other_quantity", _other_quantity, "the number of another quantity is used"),
    Operator("misquoted_result", _misquoted, "an earlier result is quoted wrongly"),
    Operator("sign_error", _sign_error, "a difference is taken the wrong way round"),
    Operator("wrong_rounding", _wrong_rounding, "a decimal is rounded to the wrong neighbour"),
    Operator("domain_inconsistency", _percent_as_number, "a percentage is taken as a share of ten, a rule that does not hold for percentages"),
)
