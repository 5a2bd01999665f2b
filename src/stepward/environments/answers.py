"""Answers: finding the final answer in a solution's text, and one spelling for answers that are plainly the same.

Pure string and rational arithmetic, linear in the text; nothing is evaluated. Deciding that two expressions are equal is the grader's.
"""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction

from stepward.data.boxed import BOX, closing_brace, last_boxed

MAX_CANONICAL_CHARS = 2000  # longer answers are only stripped
_MAX_DIGITS = 60

_HASHES = re.compile(r"^####[ \t]{0,3}(\$?-?[\d,./]+)[ \t]{0,3}$", re.MULTILINE)  # any other "####" before the last line is a heading
_PHRASE = re.compile(r"answer\s{0,3}(?:\*\*)?\s{0,3}(?:is\b\s{0,3}:?|:|=)([^\n]+)", re.IGNORECASE)
_FINAL = re.compile(r"final\s{1,3}answer\s{0,3}(?:\*\*)?\s{0,3}(?:is\b|:|=)", re.IGNORECASE)
_LETTER_A = re.compile(r"^A:[ \t]*([^\n]+)", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|,(?=\s)\s(?=(?:so|because|since|which|and|as|but)\b)|\*\*")

_NUMBER = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)")
_RATIO = re.compile(r"([+-]?)(\d+)/(\d+)")
_FRAC = re.compile(r"([+-]?)\\frac(?:\{([+-]?\d+)\}\{(\d+)\}|(\d)(\d))")
_UNITS = re.compile(r"(?P<number>[+-]?\d[\d,]*(?:\.\d+)?)\s+(?P<words>[A-Za-z]{3,}(?:[ -][A-Za-z]{2,}){0,4})")
_SCALES = frozenset(
    re.split(
        " ",
        "hundred thousand million billion trillion dozen percent percentage half halves third thirds quarter quarters fourth fourths fifth fifths tenth "
        "tenths hundredth hundredths sqrt pi sin cos tan log exp mod base degrees degree radians minus plus times over and less or remainder",
    )
)
_TEXT = re.compile(r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\(?:[,;:! ]|quad\b|qquad\b|displaystyle\b|limits\b)|~")
_DELIMITERS = re.compile(r"\\(?:left|right|big|Big|bigl|bigr|Bigl|Bigr)(?![A-Za-z])\s*")
_DEGREES = re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree\b|°")
_EQUALS_OR_BRACKET = re.compile(r"(?<![<>!:\\])=(?!=)|\\approx\b|≈|[{(\[]|[})\]]")
_SYMBOL_SIDE = re.compile(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([A-Za-z](?:,[A-Za-z])*\))?")
_UNICODE = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "×": "*", "÷": "/", "⁄": "/", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u200b": ""}
    | {"π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup "}
)
_CURRENCY = re.compile(r"^([+-]?)\\?[$€£¥]\s{0,3}(?=[\d.])")


def extract_answer(text: str) -> str | None:
    r"""The final answer that a solution states, as written; None when it states none.

    In this order: the last balanced `\boxed{...}`; the last `#### x`; the last "final answer: x", "the answer is x" or "answer: x"; a last
    line `A: x`. A statement inside an earlier box is overruled by a later one.
    """
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    _, marked, stated = text.rstrip().rpartition("\n")[2].rpartition("####")
    if marked and stated.strip():
        return stated.strip()
    for pattern in (_HASHES, _PHRASE, _LETTER_A):
        for found in deque(pattern.finditer(text), maxlen=1):
            stated = _statement(found.group(1))
            if stated:
                return stated
    return None


def states_answer(step: str) -> bool:
    r"""Does this step state the final answer in a form that nothing else uses: `\boxed{x}`, `#### x` or "final answer: x"?"""
    return last_boxed(step) is not None or _HASHES.search(step) is not None or _FINAL.search(step) is not None


def canonical_answer(answer: str) -> str:
    r"""One spelling for answers that are plainly the same, for counting votes; equal spellings mean equal answers.

    Takes off math delimiters, `\left`/`\right`, `\text`, spacing, currency signs, a final period, degree signs and unit words after a number
    ("18 dollars"); of an equation chain or `x = ...` keeps the last side; numbers by value ("7.0", "1,000", "2/4" and `\frac{2}{4}` become
    "7", "1000", "0.5" and "0.5"; a ratio whose decimals never end stays one, in lowest terms). A percent sign stays: "50%".
    """
    if len(answer) > MAX_CANONICAL_CHARS:
        return answer.strip()
    text = last_side(bare_answer(answer))
    text = _DEGREES.sub("", text).replace("\\%", "%").replace("\\$", "").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
    text = _TEXT.sub(lambda match: f" {match.group(1)} ", text)
    text = drop_unit_words(text.strip())
    percent = text.endswith("%")
    value = plain_number(text[:-1].strip() if percent else text)
    if value is not None:
        return spell_number(value) + ("%" if percent else "")
    text = " ".join(text.split())
    if re.fullmatch(r"[A-Za-z ,.'-]*[A-Za-z]{3}[A-Za-z ,.'-]*", text):
        return text.casefold()
    if re.fullmatch(r"\(\s*[A-Za-z]\s*\)", text):
        return text.strip("() ")
    return re.sub(r"(?<![0-9A-Za-z]) | (?![0-9A-Za-z])", "", text)


def plain_number(text: str) -> Fraction | None:
    r"""The value of a short integer, decimal, `p/q` or `\frac{p}{q}` with digits only; None for anything else. Leading zeros are not read."""
    text = text.strip()
    if not text or len(text) > _MAX_DIGITS:
        return None
    if match := _NUMBER.fullmatch(text):
        digits = match.group(2).replace(",", "")
        if not digits.isascii() or ("," in text and digits[0] == "0") or re.match(r"0\d", digits):
            return None
        value = Fraction(digits.rstrip(".") if digits.endswith(".") else digits)
        return -value if match.group(1) == "-" else value
    match = _RATIO.fullmatch(text)
    parts: tuple[str, str, str] | None = None
    if match:
        parts = (match.group(1), match.group(2), match.group(3))
    elif match := _FRAC.fullmatch(text):
        parts = (match.group(1), match.group(2) or match.group(4), match.group(3) or match.group(5))
    if parts is None or not text.isascii() or int(parts[2]) == 0:
        return None
    value = Fraction(int(parts[1]), int(parts[2]))
    return -value if parts[0] == "-" else value


def spell_number(value: Fraction) -> str:
    """An integer, a finite decimal, or `p/q` in lowest terms."""
    if value.denominator == 1:
        return str(value.numerator)
    if not _ends(value.denominator):
        return f"{value.numerator}/{value.denominator}"
    places = 0
    while value.denominator != 1:
        value, places = value * 10, places + 1
    digits = str(abs(value.numerator)).rjust(places + 1, "0")
    return ("-" if value < 0 else "") + digits[:-places] + "." + digits[-places:]


def bare_answer(answer: str) -> str:
    r"""The answer without what surrounds it: white space, math delimiters, emphasis, a final period, `\left` and `\right`, thin spaces."""
    text = _DELIMITERS.sub("", _SPACING.sub(" ", answer.translate(_UNICODE).replace("{,}", ","))).strip()
    for _ in range(4):
        before = text
        text = text.strip().strip("*").strip()
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1].rstrip()
        for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
                text = text[len(opening) : -len(closing)].strip()
        if (inner := _whole_box(text)) is not None:
            text = inner
        if text.startswith("{") and len(text) > 2 and closing_brace(text, 0) == len(text) - 1:
            text = text[1:-1].strip()
        if text == before:
            break
    return _CURRENCY.sub(r"\1", text)


def last_side(text: str) -> str:
    """The right-most side of `x = ...` or of a chain of numbers such as `48/2 = 24`; any other text unchanged (`x + y = 5`, `x = 1, y = 2`)."""
    if "," in re.sub(r"\d,\d{3}(?!\d)", "", text) or ";" in text:
        return text
    sides = [side.strip() for side in _split_outside_brackets(text)]
    if len(sides) < 2 or not sides[-1]:
        return text
    lone = _SYMBOL_SIDE.fullmatch(sides[0]) is not None
    numeric = re.search(r"[A-Za-z]", re.sub(r"\\(?:d?frac|times|cdot|div|sqrt|pi|left|right)(?![A-Za-z])", "", sides[0])) is None
    return sides[-1] if lone or numeric or len(sides) > 2 else text


def drop_unit_words(text: str) -> str:
    """ "18 dollars per day" to "18"; words that change the number ("million", "percent", "half") keep it as written."""
    match = _UNITS.fullmatch(text)
    if match is None or any(word.lower() in _SCALES for word in re.split(r"[ -]", match.group("words"))):
        return text
    return match.group("number")


def _ends(denominator: int) -> bool:
    """Does a fraction with this denominator have a finite decimal expansion?"""
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def _split_outside_brackets(text: str) -> list[str]:
    """The sides of an equation chain; the n = 1 under a sum is none of them."""
    sides, start, depth = [], 0, 0
    for token in _EQUALS_OR_BRACKET.finditer(text):
        if token.group() in "{([":
            depth += 1
        elif token.group() in "})]":
            depth = max(0, depth - 1)
        elif depth == 0:
            sides.append(text[start : token.start()])
            start = token.end()
    return [*sides, text[start:]]


def _whole_box(text: str) -> str | None:
    match = BOX.match(text)
    if match is None or not text.startswith("{", match.end()) or closing_brace(text, match.end()) != len(text) - 1:
        return None
    return text[match.end() + 1 : -1].strip()


def _statement(rest: str) -> str:
    """The answer at the start of the rest of a line."""
    rest = rest.strip().lstrip("*: ").strip()
    for opening, closing in (("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")):
        if rest.startswith(opening):
            inner, found, _ = rest[len(opening) :].partition(closing)
            if found and not re.match(r"\d[\d,.]*\s+[A-Za-z]{2,}", inner):  # "$18 per day, not $20" is money, not mathematics
                return inner.strip()
    end = _SENTENCE_END.search(rest)
    return (rest[: end.start()] if end else rest).strip().rstrip(".")
