"""Token: one sign of a formula in LaTeX or plain text. Only what a formula can hold; anything else makes its formula unreadable."""

from __future__ import annotations

import re
from typing import NamedTuple


class Token(NamedTuple):
    kind: str  # number, letter, name, operator, open, close, relation, separator, text, command, other
    text: str
    start: int
    end: int


_SPACE = r"[^\S\n]+|\n|~|\\[,;:!\ ]|\\(?:left|right|bigl?|bigr|Bigl?|Bigr|biggl?|biggr|displaystyle|limits|nolimits)(?![a-zA-Z])"
_PATTERN = re.compile(
    rf"""
    (?P<space>{_SPACE}|\\hspace\{{[^{{}}]*\}}|&|\\(?:phantom)\{{[^{{}}]*\}})
  | (?P<number>[0-9]{{1,3}}(?:(?:,\\!|\{{,\\?!?\}}|,|\\,|\\!,)[0-9]{{3}})+(?![0-9])(?:\.[0-9]+)?|[0-9]+\.[0-9]+|[0-9]+|\.[0-9]+)
  | (?P<degree>\^\s*\{{?\s*\\circ(?![a-zA-Z])\s*\}}?|[°º]|\\degree(?![a-zA-Z]))
  | (?P<text>\\(?:text|mathrm|textrm|mbox|textbf|textit|mathbf|mathit|mathsf|operatorname|rm)\*?\s*\{{(?P<words>[^{{}}]*)\}})
  | (?P<frac>\\[dtc]?frac(?![a-zA-Z]))
  | (?P<row>\\\\(?:\[[0-9a-z.]*\])?)
  | (?P<separator>\\(?:implies|iff|[Ll]ong[rR]ightarrow|[Rr]ightarrow|Leftrightarrow|Longrightarrow|to|therefore
      |because|land|lor|q?quad)(?![a-zA-Z])|[;⇒→⟹⟶]|=>|,(?![0-9]{{3}}(?![0-9])))
  | (?P<relation><=|>=|!=|[=<>≤≥≠≈≡]|\\(?:leq?|geq?|neq?|lt|gt|approx|equiv|leqslant|geqslant|sim|cong|in|mid|nmid|pm|mp|propto|not|subset|cup|cap)(?![a-zA-Z]))
  | (?P<operator>\*\*|[-+*/^_!|−–×·⋅÷∕∗]|\\(?:times|cdot|ast|div)(?![a-zA-Z]))
  | (?P<root>\\sqrt(?![a-zA-Z])|√)
  | (?P<wrap>\\(?:boxed|fbox|underline|overline|boldsymbol|mathbb|mathcal)(?![a-zA-Z]))
  | (?P<bracket>\\?[{{}}()\[\]]|\\lfloor|\\rfloor|\\lceil|\\rceil|\\lvert|\\rvert|\\vert)
  | (?P<command>\\[a-zA-Z]+)
  | (?P<word>[A-Za-z]{{2,}})
  | (?P<letter>[A-Za-zα-ωπθλ])
  | (?P<prime>['′]+)
  | (?P<superscript>[⁰¹²³⁴⁵⁶⁷⁸⁹]+)
  | (?P<percent>\\?%)
  | (?P<money>\\\$|\$)
  | (?P<stop>[.?])
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPERATORS = {
    "−": "-",
    "–": "-",
    "×": "*",
    "·": "*",
    "⋅": "*",
    "∗": "*",
    "÷": "/",
    "∕": "/",
    "**": "^",
    r"\times": "*",
    r"\cdot": "*",
    r"\ast": "*",
    r"\div": "/",
}
_RELATIONS = {"<=": "≤", ">=": "≥", "!=": "≠", r"\leq": "≤", r"\le": "≤", r"\geq": "≥", r"\ge": "≥", r"\ne": "≠", r"\neq": "≠", r"\lt": "<", r"\gt": ">"}
_RELATIONS |= {r"\approx": "≈", r"\equiv": "≡", r"\leqslant": "≤", r"\geqslant": "≥"}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


def tokenize(text: str, start: int, end: int) -> list[Token]:
    """The tokens of text[start:end]; a row break of an alignment is a separator with text "row"."""
    tokens: list[Token] = []
    for match in _PATTERN.finditer(text, start, end):
        kind, found = str(match.lastgroup), match[0]
        a, b = match.span()
        if kind == "words":
            kind = "text"
        if kind in ("space", "money", "wrap"):
            continue
        if kind == "number":
            tokens.append(Token("number", re.sub(r"[^0-9.]", "", found), a, b))
        elif kind == "text":
            tokens.append(Token("text", match["words"].strip(), a, b))
        elif kind == "row":
            tokens.append(Token("separator", "row", a, b))
        elif kind == "operator":
            tokens.append(Token("operator", _OPERATORS.get(found, found), a, b))
        elif kind == "relation":
            tokens.append(Token("relation", _RELATIONS.get(found, found), a, b))
        elif kind == "bracket":
            tokens.append(_bracket(found, a, b))
        elif kind == "superscript":
            tokens.append(Token("superscript", found.translate(_SUPERSCRIPTS), a, b))
        elif kind == "stop" or kind == "separator":
            tokens.append(Token("separator", found, a, b))
        else:
            tokens.append(Token(kind, found, a, b))
    return tokens


def _bracket(found: str, start: int, end: int) -> Token:
    plain = found.lstrip("\\")
    if found in ("{", "}"):
        return Token("brace_open" if plain == "{" else "brace_close", plain, start, end)
    if found in (r"\{", r"\}"):
        return Token("other", found, start, end)  # a set
    if plain in ("lvert", "rvert", "vert"):
        return Token("operator", "|", start, end)
    return Token("open" if plain in ("(", "[", "lfloor", "lceil") else "close", plain, start, end)
