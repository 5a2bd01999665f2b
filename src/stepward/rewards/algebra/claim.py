"""Claim: one relation between two formulas, found in a step's text; a chain A = B = C holds two."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from stepward.rewards.algebra.parser import Tree, Unreadable, parse
from stepward.rewards.algebra.token import Token, tokenize

MAX_TEXT = 20_000  # characters of a text; a longer one is not read
MAX_CLAIMS = 60  # of a text
_REGION = re.compile(
    r"\\\[(?P<a>.{0,3000}?)\\\]|\$\$(?P<b>.{0,3000}?)\$\$|\\\((?P<c>.{0,1000}?)\\\)|(?<![\\$])\$(?P<d>[^$]{1,600}?)(?<!\\)\$(?!\d)"
    r"|\\begin\{(?:align|aligned|equation|gather|gathered|eqnarray|split)\*?\}(?P<e>.{0,5000}?)\\end\{(?:align|aligned|equation|gather|gathered|eqnarray|split)\*?\}",
    re.DOTALL,
)
_INNER = re.compile(r"\\(?:begin|end)\{(?:align|aligned|equation|gather|gathered|eqnarray|split)\*?\}")
_PLAIN = re.compile(
    r"(?<![\w\\.,$/*^+\-(=])(?:(?>(?>[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?)|sqrt(?=\()|\b[b-zB-HJ-Z]\b|(?<=[0-9)])[a-z](?![a-z])|[-+*/^()=−×÷²³√·]|\*\*)(?>\s*))+(?![\w\\$])"
)
_WORDS = re.compile(r"\b(?:and|or|if|so|for|when|where|then|since|thus|because|but|with|as)\b", re.I)  # inside \\text: they part formulas
_UNSURE = re.compile(r"[\d)]\s+-[\d(]|\d\s*x\s*\d|\d\s[A-Z]\b")  # "x = 5 -3" may be two formulas, x a sign, a capital a unit
_ALTERNATIVES = re.compile(
    r"\b(?:or|either|case|cases|if|when|where|for|suppose|assume|let|set|setting|try|trying|test\w*|check\w*|consider|possible|candidates?|guess|plug\w*|substitut\w*|at|whenever|otherwise)\b",
    re.I,
)


@dataclass(frozen=True, kw_only=True)
class Side:
    """A formula as a tree; `flags` say what makes a refutation unsafe."""

    tree: Tree
    flags: frozenset[str]
    symbols: frozenset[str]
    spelled: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """`left relation right` at characters `span` of the text. `link`: its place in its chain, `chain`: how many relations that has.

    `before`, `after`: the words around the chain, in its sentence.
    """

    relation: str
    left: Side
    right: Side
    span: tuple[int, int]
    text: str
    link: int
    chain: int
    before: str
    after: str

    @property
    def symbols(self) -> frozenset[str]:
        return self.left.symbols | self.right.symbols

    @property
    def flags(self) -> frozenset[str]:
        return self.left.flags | self.right.flags

    @property
    def conditional(self) -> bool:
        """Whether the words before it say that it holds in a case, is put up, or is one of several."""
        return _ALTERNATIVES.search(self.before[-80:]) is not None or re.match(r"\W*(?:or|when|if|for|where)\b", self.after) is not None


@lru_cache(maxsize=512)
def extract(text: str) -> tuple[Claim, ...]:
    """The claims of a text in order. Text beyond the length limit holds none."""
    if len(text) > MAX_TEXT or not re.search(r"[=<>≈≡≤≥≠]|\\(?:leq?|geq?|neq?|lt|gt|approx)", text):
        return ()
    claims: list[Claim] = []
    regions = list(_regions(text))
    for start, end in regions or list(_plain(text)):
        claims += _chains(text, start, end)
        if len(claims) > MAX_CLAIMS:
            break
    return tuple(claims[:MAX_CLAIMS])


def _regions(text: str) -> Iterator[tuple[int, int]]:
    for match in _REGION.finditer(text):
        start, end = match.span(str(match.lastgroup))
        while inner := _INNER.match(text, start + len(text[start:end]) - len(text[start:end].lstrip())):
            start = inner.end()
        closing = _INNER.search(text, start, end)
        yield start, closing.start() if closing else end


def _plain(text: str) -> Iterator[tuple[int, int]]:
    for match in _PLAIN.finditer(text):
        found = match[0]
        if "=" in found and re.search(r"[A-Za-z√]", found) and not _UNSURE.search(found) and found[0] not in "+-*/^)=−×÷":
            start = match.start()
            yield start, start + len(found.rstrip())


def _chains(text: str, start: int, end: int) -> Iterator[Claim]:
    """The claims of one region. A row that begins with a relation goes on with the row above."""
    tokens = tokenize(text, start, end)
    rows: list[list[Token]] = [[]]
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind in ("open", "brace_open")) - (token.kind in ("close", "brace_close"))
        if token.kind == "separator" and depth <= 0:
            following = tokens[index + 1] if index + 1 < len(tokens) else None
            if token.text == "row" and following is not None and following.kind == "relation":
                continue
            rows.append([])
        elif token.kind == "text" and depth <= 0 and _WORDS.search(token.text):
            rows.append([])
        else:
            rows[-1].append(token)
    several = sum(any(token.kind == "relation" for token in row) for row in rows)
    for row in rows:
        yield from _links(text, row, (start, end), several)


def _links(text: str, row: Sequence[Token], region: tuple[int, int], several: int) -> Iterator[Claim]:
    members: list[list[Token]] = [[]]
    relations: list[Token] = []
    depth = 0
    for token in row:
        depth += (token.kind in ("open", "brace_open")) - (token.kind in ("close", "brace_close"))
        if token.kind == "relation" and depth <= 0:
            relations.append(token)
            members.append([])
        else:
            members[-1].append(token)
    if not relations or any(token.text in (r"\in", r"\mid", r"\nmid", "≡", r"\sim", r"\cong", r"\pm") for token in relations):
        return
    sides = [_side(member, text) for member in members]
    before = _before(text, region[0])
    after = text[region[1] : region[1] + 60].lstrip("$\\)] \n")
    for link, relation in enumerate(relations):
        left, right = sides[link], sides[link + 1]
        if left is not None and right is not None:
            span = members[link][0].start, members[link + 1][-1].end
            yield Claim(
                relation=relation.text, left=left, right=right, span=span, text=text[span[0] : span[1]], link=link, chain=len(relations),
                before=before if several < 2 else f"{before} several", after=after,
            )  # fmt: skip


def _side(tokens: Sequence[Token], text: str) -> Side | None:
    try:
        tree, flags = parse(tokens)
    except Unreadable:
        return None
    return Side(tree=tree, flags=flags, symbols=frozenset(symbols_of(tree)), spelled=text[tokens[0].start : tokens[-1].end])


def _before(text: str, start: int) -> str:
    return re.split(r"[.;!?]\s|\n", text[max(0, start - 160) : start])[-1]


def symbols_of(tree: Tree) -> Iterator[str]:
    """The names of all symbols; a call of a function counts by its whole spelling."""
    if tree[0] == "s":
        if tree[1] != "π":
            yield tree[1]
    elif tree[0] == "f" and tree[1] == "call":
        yield f"{tree[2]}({tree[3]})"
        yield from symbols_of(tree[3])
    elif tree[0] != "n":
        for part in tree[1:]:
            if isinstance(part, list):
                yield from symbols_of(part)


def functions_of(tree: Tree) -> Iterator[str]:
    """The names of all known functions in it."""
    if tree[0] == "f":
        yield tree[1]
    if tree[0] != "n":
        for part in tree[1:]:
            if isinstance(part, list):
                yield from functions_of(part)


def has_decimals(tree: Tree) -> bool:
    """Whether a number with digits after the point occurs."""
    if tree[0] == "n":
        return len(tree) > 2 and bool(tree[2])
    return any(isinstance(part, list) and has_decimals(part) for part in tree[1:])
