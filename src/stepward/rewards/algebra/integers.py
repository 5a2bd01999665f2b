"""Statements about whole numbers: remainders, divisibility, greatest common divisors, primes, squares. Decided in place: the numbers are small."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import gcd, isqrt, lcm

from stepward.rewards.arithmetic.vocabulary import DENIAL, HYPOTHESIS
from stepward.rewards.verifiers.verdict import State, Verdict

MAX_DIGITS = 15
_N = r"(-?\d[\d,]{0,18}\d|-?\d)"
_WALL = r"(?<![\w.^_+*/\\{,=-])(?<![)}] )(?<!\b[A-Za-z] )"  # the number is not the end of something longer
_END = r"(?![\d^!_%])(?!\.\d)(?!\s*(?:[-+*/^=(]|\\(?:times|cdot|frac|pmod|mod|equiv)|mod\b|times\b))"
_D = r"\$?(?:\\[()])?\s*"  # a delimiter of formulas


def _congruent(a: int, b: int, m: int) -> bool | None:
    return None if m < 2 else (a - b) % m == 0


def _remainder(a: int, m: int, b: int) -> bool | None:
    return None if m < 1 else a % m == b if 0 <= b < m else None


def _division(a: int, m: int, q: int, r: int) -> bool | None:
    return None if m < 1 else a == q * m + r


def _divisible(a: int, m: int) -> bool | None:
    return None if m < 1 else a % m == 0


def is_prime(n: int) -> bool:
    """Deterministic Miller-Rabin for n < 3.3e24 (Sorenson and Webster, Strong pseudoprimes to twelve prime bases, 2015)."""
    if n < 2:
        return False
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    for prime in bases:
        if n % prime == 0:
            return n == prime
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(n, base, odd, twos) for base in bases)


def _passes(n: int, base: int, odd: int, twos: int) -> bool:
    x = pow(base, odd, n)
    if x in (1, n - 1):
        return True
    return any((x := x * x % n) == n - 1 for _ in range(twos - 1))


_DIVIDED = (
    rf"{_WALL}{_N}\s*(?:÷|/|divided by|\\div)\s*{_N}{_D}\s*(?:=|is|equals)\s*{_D}{_N}{_D},?\s*(?:with|and|R)\s*"
    rf"(?:a )?(?:remainder|remainder of|R)?(?: of| is)?\s*{_D}{_N}{_END}"
)
_TWO = rf"(?:of\s+|\(){_D}{_N}{_D}\s*(?:and|,)\s*{_D}{_N}{_D}\)?\s*(?:is|=)\s*{_D}{_N}{_END}"
_BOTH_DIVISIBLE = rf"{_WALL}{_N}{_D}\s+and\s+{_D}{_N}{_D}\s+are (?:both )?divisible by\s+{_D}{_N}{_END}"
_CONGRUENCE = rf"{_WALL}{_N}{_D}\s*(?:≡|\\equiv)\s*{_D}{_N}\s*(?:\\pmod\s*\{{?|\(?\\?mod\s*(?:ulo)?\s*|\\mod\s*){_N}"
_STATEMENTS: tuple[tuple[str, str, Callable[..., bool | None]], ...] = (
    ("remainder", _CONGRUENCE, _congruent),
    ("remainder", rf"{_WALL}{_N}\s*(?:\\mod|\\bmod|\bmod|%)\s*{_N}\s*=\s*{_N}{_END}", lambda a, m, b: _remainder(a, m, b)),
    ("division with remainder", _DIVIDED, _division),
    ("divisibility", rf"{_WALL}{_N}{_D}\s+is divisible by\s+{_D}{_N}{_END}", _divisible),
    ("divisibility", rf"{_WALL}{_N}{_D}\s+is not divisible by\s+{_D}{_N}{_END}", lambda a, m: None if m < 1 else a % m != 0),
    ("divisibility", rf"{_WALL}{_N}{_D}\s+is a multiple of\s+{_D}{_N}{_END}", _divisible),
    ("divisibility", _BOTH_DIVISIBLE, lambda a, b, m: None if m < 1 else a % m == 0 == b % m),
    ("greatest common divisor", rf"(?:greatest common (?:divisor|factor)|GCD|GCF|\\?\bgcd)\s*(?:\(GCD\)|\(GCF\))?\s*{_TWO}", lambda a, b, g: gcd(a, b) == g),
    ("least common multiple", rf"(?:least common multiple|LCM|\\?\blcm)\s*(?:\(LCM\))?\s*{_TWO}", lambda a, b, m: lcm(a, b) == m),
    ("prime", rf"{_WALL}{_N}{_D}\s+is (?:a )?prime(?: number)?\b(?! factor)", is_prime),
    ("prime", rf"{_WALL}{_N}{_D}\s+is not (?:a )?prime(?: number)?\b(?! factor)", lambda n: not is_prime(n)),
    ("square", rf"{_WALL}{_N}{_D}\s+is a perfect square\b", lambda n: n >= 0 and isqrt(n) ** 2 == n),
    ("square", rf"{_WALL}{_N}{_D}\s+is not a perfect square\b", lambda n: n < 0 or isqrt(n) ** 2 != n),
)
_COMPILED = tuple((kind, re.compile(pattern, re.IGNORECASE), holds) for kind, pattern, holds in _STATEMENTS)
_GOES_ON = re.compile(  # the first number ends something longer, or a range
    r"(?:[-+*/^=×÷·⋅−)}\]]|\\(?:times|cdot|div|frac|pm)|\b[A-Za-z]|[A-Za-z0-9]\(|\d|\b(?:between|from|through|to|than|of|least|most|number|product|sum|and|or))\s*(?:\\\(|\$)?\s*$"
)
_DENIED = re.compile(r"\b(?:false|untrue|neither|nor|none|no)\b", re.IGNORECASE)
_CUE = re.compile(r"divisible|multiple|mod|≡|equiv|remainder|prime|perfect square|gcd|lcm|common (?:divisor|factor|multiple)|GCF", re.IGNORECASE)


def check_integers(text: str) -> list[Verdict]:
    """A verdict on every statement of these kinds in a text."""
    if len(text) > 20_000 or not _CUE.search(text):
        return []
    return list(_checked(text))


def _checked(text: str) -> Iterator[Verdict]:
    for kind, pattern, holds in _COMPILED:
        for match in pattern.finditer(text):
            numbers = [int(group.replace(",", "")) for group in match.groups()]
            if any(abs(number) >= 10**MAX_DIGITS for number in numbers):
                continue
            truth = holds(*numbers)
            if truth is None:
                continue
            start, end = match.span()
            if _GOES_ON.search(text[max(0, start - 20) : start]):
                continue
            clause = re.split(r"[.;:!?]\s|\n", text[max(0, start - 80) : start])[-1]
            caution = (
                HYPOTHESIS.search(clause) or _DENIED.search(clause) or re.search(r"\b(?:or|because if|and|,)\s*$", clause) or DENIAL.search(text, end, end + 60)
            )
            if kind == "division with remainder":
                caution = HYPOTHESIS.search(clause)
            state = State.SUPPORTED if truth else State.ABSTAIN if caution else State.REFUTED
            reason = "holds" if truth else f"put up or qualified ({caution[0].strip()!r})" if caution else "does not hold"
            yield Verdict(state=state, verifier="algebra", kind=kind, text=match[0], span=(start, end), reason=reason, evidence={"numbers": numbers})
