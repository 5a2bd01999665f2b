"""Token: one sign of a step's text that matters for arithmetic, with its place in the text. Reading whole expressions is the parser's work."""

from __future__ import annotations

import re
from enum import IntEnum, auto
from fractions import Fraction
from typing import NamedTuple

from stepward.rewards.arithmetic.vocabulary import FUNCTION_WORDS, SHORT_UNITS, STOP_WORDS

MAX_NUMERAL = 60  # characters of one number


class Kind(IntEnum):
    """What a token is."""

    NUMBER = auto()  # 12  1,200  0.5  .5
    GLYPH = auto()  # a finished fraction: ½  \frac12
    OPERATOR = auto()  # text is one of + - * / ^
    SUPERSCRIPT = auto()  # ²
    FRACTION = auto()  # \frac, two brace groups follow
    OF = auto()  # "of" between a share and a number
    OPEN = auto()
    CLOSE = auto()
    BRACE_OPEN = auto()  # braces that group: after ^ and \frac
    BRACE_CLOSE = auto()
    PERCENT = auto()
    WORD = auto()  # a word that can be a unit
    STOP = auto()  # a word that cannot
    RELATION = auto()  # text is "=", "≈" or "?" (any other relation)
    COMMA = auto()
    COLON = auto()
    BREAK = auto()  # ends an expression: sentence, display, arrow
    NEWLINE = auto()
    GLUE = auto()  # transparent: $ and math delimiters, \text, \boxed, bold
    NOTE = auto()  # <<48/2=24>>
    OTHER = auto()  # anything that makes an expression unreadable


class Token(NamedTuple):
    kind: Kind
    text: str  # normalised
    start: int
    end: int


OPERAND_START = frozenset({Kind.NUMBER, Kind.GLYPH, Kind.FRACTION, Kind.OPEN})
OPERAND_END = frozenset({Kind.NUMBER, Kind.GLYPH, Kind.CLOSE, Kind.BRACE_CLOSE, Kind.PERCENT, Kind.SUPERSCRIPT})

_GLYPHS = {
    "½": "1/2",
    "⅓": "1/3",
    "⅔": "2/3",
    "¼": "1/4",
    "¾": "3/4",
    "⅕": "1/5",
    "⅖": "2/5",
    "⅗": "3/5",
    "⅘": "4/5",
    "⅙": "1/6",
    "⅚": "5/6",
    "⅛": "1/8",
    "⅜": "3/8",
    "⅝": "5/8",
    "⅞": "7/8",
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")

_PATTERN = re.compile(
    r"""
    (?P<space>[^\S\n\r\u2028\u2029\v\f]+ | \\[,;:!\ ] | \\q?quad(?![a-zA-Z])
      | \\(?:left|right|bigl?|bigr|Bigl?|Bigr|displaystyle|limits|small|large)(?![a-zA-Z]) )
  | (?P<times>(?:\*(?!\*)|[×·⋅∙∗✕✖])|\\(?:times|cdot|ast)(?![a-zA-Z])
      |(?<=[0-9])[xX](?=\$?[0-9])|(?<=[\s)%$])[xX](?=\s+\\?[($£€]?\s*\\?[0-9(.$]))
  | (?P<percent>\\?%|\bper\s?cent\b|％)
  | (?P<word>[^\W\d_⁰¹²³⁴⁵⁶⁷⁸⁹½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]+(?:['’\-][^\W\d_⁰¹²³⁴⁵⁶⁷⁸⁹½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]+)*)(?P<tail>[0-9_]\w*)?
  | (?P<note><<[^<>\n]{0,200}>>)
  | (?P<newline>[\n\r\u2028\u2029\v\f]\s*)
  | (?P<clock>[0-9]+:[0-9]+(?::[0-9]+)?)
  | (?P<number>[0-9]{1,3}(?:(?:,|\{,\}|\\,|,\\!)[0-9]{3})+(?![0-9])(?:\.[0-9]+)? | [0-9]+\.[0-9]+ | [0-9]+ | \.[0-9]+)
  | (?P<stuck>(?<=[0-9]),(?=[0-9]))
  | (?P<smallfrac>\\[dtc]?frac\s*[0-9]\s*[0-9](?![0-9]))
  | (?P<fraction>\\[dtc]?frac(?![a-zA-Z]))
  | (?P<degree>\^\s*\{?\s*\\circ(?![a-zA-Z])\s*\}? | [°º] | \\degree(?![a-zA-Z]) )
  | (?P<textunit>\\(?:text|mathrm|textrm|mbox|rm)\s*\{\s*[A-Za-z]{1,2}\.?\s*\} )
  | (?P<arrow>=>|-+>|→|⇒|⟹|⟶|↔|⇔|∴|\\(?:implies|iff|[Ll]ong[rR]ightarrow|[Rr]ightarrow|Leftrightarrow|to|therefore
      |begin\s*\{[a-z*]*\}|end\s*\{[a-z*]*\}|hline|item|par|newline)(?![a-zA-Z]))
  | (?P<other_relation>==+|!=|<=|>=|:=|=/=|[≠≤≥<>≡~∼]|\\(?:neq?|leq?|geq?|lt|gt|equiv|sim|propto|not|leqslant|geqslant|ll|gg|in)(?![a-zA-Z]))
  | (?P<approximately>[≈≃≅]|\\(?:approx|simeq|cong|doteq|fallingdotseq)(?![a-zA-Z]))
  | (?P<equals>[=＝])
  | (?P<bold>\*\*|__)
  | (?P<divide>[/÷∕⁄]|\\(?:div|slash)(?![a-zA-Z]))
  | (?P<dash>—|---?)
  | (?P<hyphen>(?<=[0-9])-(?=[A-Za-z]{3}))
  | (?P<minus>[-−–‒﹣－])
  | (?P<plus>[+＋])
  | (?P<caret>\^)
  | (?P<superscript>[⁰¹²³⁴⁵⁶⁷⁸⁹]+)
  | (?P<glyph>[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])
  | (?P<ellipsis>\.\.+|…|\\[lcv]?dots[a-z]?(?![a-zA-Z]))
  | (?P<display>\\[\[\]]|\$\$|\\\\(?:\[[0-9a-z.]*\])?)
  | (?P<glue>\\[()$]|[$£€¥₹]|\\(?:text|mathrm|textbf|textit|mathbf|textrm|mathit|mathsf|boldsymbol
      |underline|boxed|fbox|mbox|bf|rm|emph|color\s*\{[a-z]*\})(?![a-zA-Z])|[\u200b\ufeff])
  | (?P<brace_open>\{) | (?P<brace_close>\})
  | (?P<open>\() | (?P<close>\))
  | (?P<comma>[,，]) | (?P<colon>[:：])
  | (?P<stop>[.](?=\s|$|["')\]*$\\<]|[A-Z]) | [;；。?"“”#\[•●▪◦])
  | (?P<ampersand>&)
  | (?P<other>\\?.)
    """,
    re.VERBOSE | re.DOTALL,
)

_KIND_OF = {
    "note": Kind.NOTE, "newline": Kind.NEWLINE, "clock": Kind.OTHER, "stuck": Kind.OTHER, "fraction": Kind.FRACTION, "arrow": Kind.BREAK,
    "ellipsis": Kind.OTHER, "display": Kind.BREAK, "glue": Kind.GLUE, "brace_open": Kind.BRACE_OPEN, "brace_close": Kind.BRACE_CLOSE,
    "open": Kind.OPEN, "close": Kind.CLOSE,
    "comma": Kind.COMMA, "colon": Kind.COLON, "stop": Kind.BREAK, "other": Kind.OTHER,
    "percent": Kind.PERCENT, "dash": Kind.BREAK, "degree": Kind.WORD, "textunit": Kind.WORD,
}  # fmt: skip
_TEXT_OF = {"times": "*", "divide": "/", "minus": "-", "plus": "+", "caret": "^"}
_RELATION_OF = {"equals": "=", "approximately": "≈", "other_relation": "?"}
_OPERATOR_WORDS = {"times": "*", "plus": "+", "minus": "-"}
_AHEAD_OPERAND = re.compile(r"\s*\\?[$£€(]?\s*\\?\$?\s*\\?(?:[0-9(]|\.[0-9]|[dt]?frac)")


def tokenize(text: str, start: int = 0, end: int | None = None) -> list[Token]:
    """The tokens of text[start:end], spaces left out; spans count in `text`. Never fails: what is unknown becomes OTHER."""
    tokens: list[Token] = []
    for match in _PATTERN.finditer(text, start, len(text) if end is None else end):
        group = match.lastgroup or "other"
        if group == "space":
            continue
        a, b = match.span()
        if group in ("word", "tail"):
            tokens.append(_word(text, a, b, match["tail"] is not None, tokens[-1] if tokens else None))
        elif group == "number":
            literal = re.sub(r"[^0-9.]", "", match[0])
            good = len(literal) <= MAX_NUMERAL and not (len(literal) > 1 and literal[0] == "0" and literal[1] != ".")
            tokens.append(Token(Kind.NUMBER if good else Kind.OTHER, literal, a, b))
        elif group in _TEXT_OF:
            bullet = (
                group in ("times", "minus", "plus") and match[0] in "*-–+" and text[b : b + 1].isspace() and (not tokens or tokens[-1].kind == Kind.NEWLINE)
            )
            continues = bullet and len(tokens) > 1 and tokens[-2].kind in OPERAND_END and match[0] != "-"
            tokens.append(Token(Kind.BREAK if bullet and not continues else Kind.OPERATOR, "bullet" if bullet else _TEXT_OF[group], a, b))
        elif group in _RELATION_OF:
            tokens.append(Token(Kind.RELATION, _RELATION_OF[group], a, b))
        elif group == "bold":
            tokens.append(Token(Kind.OPERATOR, "^", a, b) if _is_power(text, a, b) else Token(Kind.GLUE, match[0], a, b))
        elif group == "smallfrac":
            digits = re.sub(r"[^0-9]", "", match[0])
            tokens.append(Token(Kind.GLYPH, f"{digits[0]}/{digits[1]}", a, b) if digits[1] != "0" else Token(Kind.OTHER, match[0], a, b))
        elif group == "glyph":
            tokens.append(Token(Kind.GLYPH, _GLYPHS[match[0]], a, b))
        elif group == "superscript":
            tokens.append(Token(Kind.SUPERSCRIPT, match[0].translate(_SUPERSCRIPTS)[:MAX_NUMERAL], a, b))
        elif group == "ampersand":
            beside = bool(tokens) and tokens[-1].kind == Kind.RELATION
            tokens.append(Token(Kind.GLUE if beside or re.match(r"\s*(?:=|\\approx|≈)", text[b : b + 20]) else Kind.BREAK, "&", a, b))
        elif group == "hyphen":
            tokens.append(Token(Kind.GLUE, "-", a, b))
        elif group == "degree":
            tokens.append(Token(Kind.WORD, "degree", a, b))
        elif group == "textunit":
            tokens.append(Token(Kind.WORD, match[0][match[0].index("{") + 1 : -1].strip(), a, b))
        else:
            tokens.append(Token(_KIND_OF[group], match[0], a, b))
    return _drop_comments(_resolve_braces(tokens))


def _is_power(text: str, a: int, b: int) -> bool:
    """Whether a double star stands between two operands, evenly spaced: 2**3 or 2 ** 3, not **2** or 2** 3."""
    if text[a] != "*":
        return False
    before, after = text[max(0, a - 2) : a], text[b : b + 2]
    spaced = before[-1:] == " " and after[:1] == " "
    left, right = (before.strip(), after.strip()) if spaced else (before[-1:], after[:1])
    return bool(left) and (left[-1].isdigit() or left[-1] == ")") and bool(right) and (right[0].isdigit() or right[0] == "(")


def _word(text: str, a: int, b: int, tail: bool, previous: Token | None) -> Token:
    """A word is a unit, the end of an expression, an operator in words, or (single letters, names with digits) not readable."""
    word = text[a:b]
    lower = word.lower().replace("’", "'")
    glued = previous is not None and previous.end == a and previous.kind in (Kind.NUMBER, Kind.CLOSE, Kind.GLYPH, Kind.SUPERSCRIPT)
    if tail or len(word) > 40:
        return Token(Kind.OTHER, lower, a, b)
    if glued:
        return Token(Kind.WORD if lower in SHORT_UNITS or (len(lower) > 3 and lower not in FUNCTION_WORDS and word.islower()) else Kind.OTHER, lower, a, b)
    if lower in _OPERATOR_WORDS and _AHEAD_OPERAND.match(text, b):
        return Token(Kind.OPERATOR, _OPERATOR_WORDS[lower], a, b)
    if lower == "of" and previous is not None and previous.kind in OPERAND_END and _AHEAD_OPERAND.match(text, b):
        return Token(Kind.OF, "of", a, b)
    if lower == "equals":
        return Token(Kind.RELATION, "=", a, b)
    if len(word) == 1:
        article = lower == "a" and re.match(r"\s[A-Za-z]{2}", text[b : b + 3]) is not None
        return Token(Kind.STOP if article or word == "I" else Kind.OTHER, lower, a, b)
    if lower in STOP_WORDS:
        return Token(Kind.STOP, lower, a, b)
    if lower in FUNCTION_WORDS and not (lower == "min" and previous is not None and previous.kind == Kind.NUMBER):
        return Token(Kind.OTHER, lower, a, b)
    if len(word) == 2 and lower not in SHORT_UNITS:
        return Token(Kind.OTHER, lower, a, b)
    if "-" in word and any(len(part) == 1 for part in word.split("-")):
        return Token(Kind.OTHER, lower, a, b)
    return Token(Kind.WORD, lower, a, b)


def _resolve_braces(tokens: list[Token]) -> list[Token]:
    """Keep the braces that are arguments of ^ and \\frac; make those of \\text and \\boxed transparent, and those of unknown commands unreadable."""
    if not any(token.kind in (Kind.BRACE_OPEN, Kind.BRACE_CLOSE) for token in tokens):
        return tokens
    resolved = list(tokens)
    stack: list[tuple[int, str]] = []  # index of the open brace, its role
    expected = ""  # the role of the next brace: "numerator", "denominator", "exponent"
    for index, token in enumerate(tokens):
        if token.kind == Kind.BRACE_OPEN:
            stack.append((index, expected))
            expected = ""
        elif token.kind == Kind.BRACE_CLOSE:
            if not stack:
                resolved[index] = token._replace(kind=Kind.OTHER)
                continue
            opened, role = stack.pop()
            if not role:
                kind = Kind.GLUE if opened and tokens[opened - 1].kind is Kind.GLUE and tokens[opened - 1].text[0] == "\\" else Kind.OTHER
                resolved[opened], resolved[index] = tokens[opened]._replace(kind=kind), token._replace(kind=kind)
            expected = "denominator" if role == "numerator" else ""
        else:
            expected = "numerator" if token.kind == Kind.FRACTION else "exponent" if token.kind == Kind.OPERATOR and token.text == "^" else ""
    for opened, _ in stack:
        resolved[opened] = tokens[opened]._replace(kind=Kind.OTHER)
    return resolved


def _drop_comments(tokens: list[Token]) -> list[Token]:
    """Make brackets transparent that hold words only and stand apart behind an operand: $20 (cost of a ticket) - $2."""
    for index, token in enumerate(tokens):
        if token.kind is not Kind.OPEN or not index or (tokens[index - 1].end == token.start and tokens[index - 1].kind is not Kind.GLUE):
            continue
        before = index - 1
        while before >= 0 and tokens[before].kind is Kind.GLUE:
            before -= 1
        end = index + 1
        while end < len(tokens) and end - index < 12 and tokens[end].kind in (Kind.WORD, Kind.STOP, Kind.COMMA):
            end += 1
        behind_operand = before >= 0 and tokens[before].kind in OPERAND_END | {Kind.WORD}
        if behind_operand and end > index + 1 and end < len(tokens) and tokens[end].kind is Kind.CLOSE:
            tokens[index : end + 1] = [inside._replace(kind=Kind.GLUE) for inside in tokens[index : end + 1]]
    return tokens


def numeral(token: Token) -> tuple[Fraction, int]:
    """The value of a NUMBER token and its count of digits after the point."""
    literal = token.text
    return Fraction(literal), len(literal) - literal.index(".") - 1 if "." in literal else 0
