"""Side: the tokens left or right of an equals sign that belong to it, and what around them makes their reading unsafe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepward.rewards.arithmetic.token import OPERAND_END, OPERAND_START, Kind, Token
from stepward.rewards.arithmetic.vocabulary import CONVERTIBLE, LEFT_BLOCKERS, RIGHT_BLOCKERS, singular

MAX_TOKENS = 100  # of one side
MAX_CHARACTERS = 200  # of one side
MAX_UNIT_WORDS = 4  # in a row

_TRANSPARENT = frozenset({Kind.GLUE, Kind.NOTE})
_BORDERS = frozenset({Kind.BREAK, Kind.NEWLINE, Kind.RELATION, Kind.COMMA, Kind.COLON, Kind.STOP})


@dataclass(frozen=True, slots=True)
class Side:
    """`tokens` without the transparent ones. An `obstacle` says why the side cannot be read with certainty, a `caution` why it may not be refuted.

    `bounded`: ends at a relation sign, so that it certainly is whole. `trail`: up to two words that follow a right side.
    """

    tokens: tuple[Token, ...]
    obstacle: str = ""
    caution: str = ""
    bounded: bool = False
    trail: tuple[str, ...] = ()


def left_side(tokens: Sequence[Token], at: int) -> Side:
    """The expression that ends just before the relation sign tokens[at]."""
    index = at - 1
    while index >= 0 and (tokens[index].kind is Kind.NEWLINE or tokens[index].text == "&" or tokens[index].text.startswith("\\\\")):
        index -= 1  # a chain that goes on in the next line
    collected: list[Token] = []
    depth = 0
    border = ""
    while index >= 0:
        token = tokens[index]
        kind = token.kind
        if kind in _TRANSPARENT:
            if depth == 0 and collected and collected[-1].kind in OPERAND_START and _closes(tokens, index):
                break
            index -= 1
            continue
        if kind in _BORDERS:
            if depth:
                border = "a bracket is open"
            break
        if kind is Kind.OPEN:
            if depth == 0:
                break
            depth -= 1
        elif kind is Kind.CLOSE:
            depth += 1
        elif kind is Kind.WORD and depth == 0 and collected and collected[-1].kind in OPERAND_START:
            break
        elif kind is Kind.OTHER:
            border = f"{token.text[:20]!r} is not arithmetic"
            break
        collected.append(token)
        if len(collected) > MAX_TOKENS or collected[0].end - token.start > MAX_CHARACTERS:
            border = "too long"
            break
        index -= 1
    collected.reverse()
    side = tuple(collected)
    if border or not side:
        return Side(side, obstacle=border or "empty")
    if depth:
        return Side(side, obstacle="a bracket is not closed")
    obstacle, caution = _left_border(tokens, index, side[0])
    return Side(side, obstacle=obstacle, caution=caution, bounded=index >= 0 and tokens[index].kind is Kind.RELATION)


def _closes(tokens: Sequence[Token], index: int) -> bool:
    """Whether the delimiter at `index` parts two separate pieces: an operand ends before it and another begins after."""
    before = index
    while before >= 0 and tokens[before].kind in _TRANSPARENT:
        before -= 1
    return index - before >= 2 and before >= 0 and tokens[before].kind in OPERAND_END


def _left_border(tokens: Sequence[Token], index: int, first: Token) -> tuple[str, str]:
    """Obstacle and caution from what stands before the first token of a left side."""
    border = tokens[index] if index >= 0 else None
    dash = first.kind is Kind.OPERATOR
    if dash and first.text not in "+-":
        return f"begins with {first.text!r}", ""
    if border is None or border.kind in _TRANSPARENT:
        return "", ""
    if border.kind is Kind.RELATION:
        return ("", "") if border.text != "?" else ("", "stands in a comparison")
    glued = border.end == first.start
    if border.kind in (Kind.WORD, Kind.STOP):
        if border.text in LEFT_BLOCKERS:
            return f"follows {border.text!r}", ""
        if glued:
            return f"glued to {border.text[:20]!r}", ""
        before = tokens[index - 1] if index else None
        if before is not None and before.kind in OPERAND_END and singular(border.text) in CONVERTIBLE:
            return f"follows {border.text!r}", ""
        if dash and first.text == "+":
            return "begins with '+'", ""
        return "", ("a word before a sign" if dash else "as" if border.text == "as" else "")
    before = next((tokens[k] for k in range(index - 1, max(-1, index - 4), -1) if tokens[k].kind not in _TRANSPARENT), None)
    if border.kind is Kind.OPEN:
        if (
            before is not None
            and before.kind not in (Kind.STOP, Kind.WORD, Kind.BREAK, Kind.NEWLINE, Kind.COMMA, Kind.COLON, Kind.RELATION)
            and not (before.kind in OPERAND_END and before.end < border.start)
        ):
            return "inside a bracket that is part of more", ""
        if before is not None and before.kind is Kind.WORD and before.end == border.start:
            return "inside a function's bracket", ""
        return "", ""
    if border.kind is Kind.COMMA:
        return ("follows a list", "") if before is not None and before.kind in OPERAND_END else ("", "")
    if border.kind is Kind.COLON:
        if before is not None and before.kind in OPERAND_END:
            named = index >= 2 and tokens[index - 2].kind is Kind.WORD and before.end == border.start
            return ("", "") if named else ("follows a ratio", "")
        return "", ""
    if border.kind is Kind.NEWLINE:
        if before is not None and before.kind in (Kind.OPERATOR, Kind.RELATION, Kind.OF, Kind.FRACTION):
            return "goes on from the line above", ""
        if dash and first.text == "+" and before is not None and before.kind in OPERAND_END:
            return "begins with '+'", ""
        return "", "a dash begins the line" if dash else ""
    if border.text == "bullet":
        return "", "a dash or a bullet begins the line"
    if before is not None and before.kind in (Kind.OPERATOR, Kind.OF, Kind.FRACTION):
        return "goes on from before", ""
    if glued and border.text in "#[":
        return f"follows {border.text!r}", ""
    return "", ""


def right_side(tokens: Sequence[Token], at: int) -> Side:
    """The expression that begins just after the relation sign tokens[at]."""
    index = at + 1
    while index < len(tokens) and (tokens[index].kind is Kind.NEWLINE or tokens[index].text.startswith("\\\\")):
        index += 1
    collected: list[Token] = []
    depth = 0
    obstacle = caution = ""
    n_glue = 0
    while index < len(tokens):
        token = tokens[index]
        kind = token.kind
        if kind in _TRANSPARENT:
            n_glue += 1
            index += 1
            continue
        last = collected[-1].kind if collected else None
        if kind in _BORDERS or (depth == 0 and kind is Kind.CLOSE):
            if depth:
                obstacle = "a bracket is open"
            break
        if kind is Kind.OTHER:
            obstacle = f"{token.text[:20]!r} is not arithmetic"
            break
        if depth == 0 and last is not None and (last in OPERAND_END or last is Kind.WORD):
            if kind is Kind.OPEN and _is_comment(tokens, index):
                break
            if kind is Kind.OPEN and tokens[index - 1].end < token.start:
                caution = "a bracket set apart"
            if kind in (Kind.NUMBER, Kind.GLYPH) or (kind is Kind.FRACTION and last is Kind.NUMBER):
                if n_glue < 2 and not (kind is Kind.GLYPH and token.end - token.start == 1):
                    obstacle = "two numbers in a row"
                if n_glue >= 2:
                    break
            if kind is Kind.WORD and not _is_unit(tokens, index):
                break
        if kind is Kind.OPEN:
            depth += 1
        elif kind is Kind.CLOSE:
            depth -= 1
        collected.append(token)
        n_glue = 0
        if obstacle:
            break
        if len(collected) > MAX_TOKENS or token.end - collected[0].start > MAX_CHARACTERS:
            obstacle = "too long"
            break
        index += 1
    side = tuple(collected)
    if obstacle or not side:
        return Side(side, obstacle=obstacle or "empty")
    if depth:
        return Side(side, obstacle="a bracket is not closed")
    obstacle, border_caution, trail = _right_border(tokens, index)
    return Side(side, obstacle=obstacle, caution=caution or border_caution, bounded=index < len(tokens) and tokens[index].kind is Kind.RELATION, trail=trail)


def _is_unit(tokens: Sequence[Token], index: int) -> bool:
    """Whether the words from `index` on lead to a sign, so that the expression goes on behind them."""
    words = 0
    while index < len(tokens) and words <= MAX_UNIT_WORDS:
        kind = tokens[index].kind
        if kind is Kind.WORD:
            words += 1
        elif kind not in _TRANSPARENT:
            return kind is Kind.RELATION or kind is Kind.SUPERSCRIPT or (kind is Kind.OPERATOR)
        index += 1
    return False


def _is_comment(tokens: Sequence[Token], index: int) -> bool:
    """Whether the bracket at `index`, set off by a space, begins with a word."""
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    return following is not None and following.kind in (Kind.WORD, Kind.STOP) and tokens[index - 1].end < tokens[index].start


def _right_border(tokens: Sequence[Token], index: int) -> tuple[str, str, tuple[str, ...]]:
    """Obstacle, caution and trailing words from what stands after the last token of a right side."""
    trail: list[str] = []
    ahead = index
    while ahead < len(tokens) and len(trail) < 3:
        token = tokens[ahead]
        if token.kind in (Kind.WORD, Kind.STOP):
            trail.append(token.text)
        elif token.kind not in _TRANSPARENT:
            break
        ahead += 1
    words = tuple(trail)
    border = tokens[index] if index < len(tokens) else None
    following = next((tokens[k] for k in range(index + 1, min(len(tokens), index + 4)) if tokens[k].kind not in _TRANSPARENT), None)
    if words and words[0] in RIGHT_BLOCKERS:
        return f"followed by {words[0]!r}", "", words
    after = tokens[ahead] if ahead < len(tokens) else None
    counted_on = after is not None and after.kind in OPERAND_START and after.kind is not Kind.OPEN
    if counted_on and any(word in ("and", "to", "or", "per", "for") or singular(word) in CONVERTIBLE for word in words):
        return f"followed by {' '.join(words)[:40]} and a number", "", words
    if border is None:
        return "", "", words
    if border.kind is Kind.COMMA and following is not None and following.kind in OPERAND_START:
        return "followed by a list", "", words
    if border.kind is Kind.COLON and following is not None and following.kind in OPERAND_START:
        return "followed by a ratio", "", words
    if border.kind is Kind.RELATION and border.text == "?":
        return "", "stands in a comparison", words
    if border.kind in (Kind.NEWLINE, Kind.BREAK) and following is not None and following.kind is Kind.OPERATOR:
        return "", "the next line begins with a sign", words
    if border.text == "?":
        return "", "asked, not said", words
    if words and words[0] == "of":
        return "", "a share of something", words
    return "", "", words
