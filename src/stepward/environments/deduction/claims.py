"""Claims: what a step's text says, read without judging it: cited statements and a conclusion, a retraction, or the verdict.

A small grammar read left to right. Sentences that hold words of the lexicon and do not fit it make the whole step unreadable: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal as Choice

from stepward.environments.deduction.lexicon import KINDS, NAMES, PLURALS, QUALITIES
from stepward.environments.deduction.statement import Literal, Statement, negated

_SENTENCES = re.compile(r"[\n;!?]|\.(?=\s|$)")
_TOKENS = re.compile(r"[a-z]+|[^\sa-z]")
_FILLERS = frozenset(
    ("so", "then", "thus", "therefore", "hence", "next", "first", "finally", "also", "now", "and", "but", ",", ":", "consequently", "however", "clearly")
)
_OPENINGS = (
    ("we", "know", "that"), ("we", "know"), ("it", "follows", "that"), ("this", "means", "that"), ("this", "means"), ("we", "are", "told", "that"),
    ("we", "conclude", "that"), ("it", "is", "given", "that"), ("we", "have", "that"), ("we", "can", "conclude", "that"), ("in", "conclusion"),
)  # fmt: skip
_SINCE = frozenset(("since", "because", "as"))
_THEREFORE = frozenset(("so", "then", "therefore", "thus", "hence"))
_RETRACTIONS = (("it", "does", "not", "follow", "that"), ("it", "doesn't", "follow", "that"))
_SUBJECTS = frozenset(("statement", "answer", "claim", "conclusion"))
_TRUTH = {"true": True, "false": False}
_NAMES = {name.lower(): name for name in NAMES}
_SINGULAR = {plural: kind for kind, plural in PLURALS.items()}
_KINDS, _QUALITIES = frozenset(KINDS), frozenset(QUALITIES)
_MEANINGFUL = frozenset((*_NAMES, *_KINDS, *_QUALITIES, *_SINGULAR, *_TRUTH))
_SHORT = (("isn't", "is not"), ("aren't", "are not"), ("isn’t", "is not"), ("aren’t", "are not"))
_MAX_TEXT = 2000


@dataclass(frozen=True)
class Claim:
    """`kind`: a conclusion, the retraction of a statement, the verdict on the question, or a statement that cites nothing.

    `cited`: what the sentence says the conclusion rests on. `statement`: what is concluded, retracted or stated; None for a verdict.
    `verdict`: true or false; None for the others. `correction`: it was announced as one.
    """

    kind: Choice["conclusion", "statement", "retraction", "verdict"]
    cited: tuple[Statement, ...] = ()
    statement: Statement | None = None
    verdict: bool | None = None
    correction: bool = False


@lru_cache(maxsize=65536)
def read_claims(text: str) -> tuple[Claim, ...] | None:
    """The claims of a step in order; None when it has none or holds a sentence that cannot be read.

    Sentences end at a full stop, a semicolon or a line end. A sentence without any name, kind, quality or verdict is prose and passes.
    """
    if len(text) > _MAX_TEXT:
        return None
    claims: list[Claim] = []
    for sentence in _SENTENCES.split(text):
        lowered = sentence.lower()
        for short, long in _SHORT:
            lowered = lowered.replace(short, long)
        tokens = _TOKENS.findall(lowered)
        if _MEANINGFUL.isdisjoint(tokens):
            continue
        found = _Reader(tokens).sentence()
        if found is None:
            return None
        claims.extend(found)
    return tuple(claims) or None


class _Reader:
    """Reads one sentence; every method returns None, wherever it stopped, when the tokens do not fit."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens, self.at = [*tokens, "", "", ""], 0
        self.end = len(tokens)

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[min(self.at + ahead, self.end)]

    def take(self, *wanted: str) -> bool:
        """Step over these tokens in a row, if they come next."""
        if tuple(self.tokens[self.at : self.at + len(wanted)]) != wanted:
            return False
        self.at += len(wanted)
        return True

    def fillers(self) -> None:
        while self.at < self.end and (self.peek() in _FILLERS or any(self.take(*opening) for opening in _OPENINGS)):
            self.at += self.peek() in _FILLERS

    def sentence(self) -> list[Claim] | None:
        self.fillers()
        correction = self.take("correction")
        self.fillers()
        if any(self.take(*retraction) for retraction in _RETRACTIONS):
            made = self.statement()
            return [Claim("retraction", (), made[0], correction=correction)] if made and len(made) == 1 and self.done() else None
        verdict = self.verdict()
        if verdict is not None:
            return [Claim("verdict", (), None, verdict, correction)] if self.done() else None
        since = self.peek() in _SINCE or (self.peek() == "given" and self.peek(1) == "that")
        if since:
            self.at += 2 if self.peek() == "given" else 1
        return self.argument(since, correction)

    def argument(self, since: bool, correction: bool) -> list[Claim] | None:
        """ "since A, B and C, D"; "A and B, so D"; "D because A and B"; "A and B"."""
        groups: list[tuple[bool, list[Statement]]] = []  # whether what stands before can end the reasons, and the statements
        ends = False
        while True:
            made = self.statement()
            if made is None:
                return None
            groups.append((ends, made))
            if self.done():
                break
            if groups and self.peek() in _SINCE and not since:
                self.at += 1
                reasons = self.listing()
                concluded = [statement for _, group in groups for statement in group]
                return [Claim("conclusion", tuple(reasons), one, correction=correction) for one in concluded] if reasons else None
            comma = self.take(",")
            marked = comma and self.take("and") and self.peek() in _THEREFORE
            marked = marked or self.peek() in _THEREFORE
            if marked:
                self.at += 1
                self.take(",")
                self.fillers()
                if not since:
                    return self.concluded([statement for _, group in groups for statement in group], correction)
            conjoined = self.tokens[self.at - 1] == "and" if comma else self.take("and")
            if not (comma or marked or conjoined):
                return None
            ends = marked or (comma and not conjoined)
        if not since:
            return [Claim("statement", (), one, correction=correction) for _, group in groups for one in group]
        if len(groups) < 2 or not groups[-1][0]:
            return None
        reasons = [statement for _, group in groups[:-1] for statement in group]
        return [Claim("conclusion", tuple(reasons), one, correction=correction) for one in groups[-1][1]]

    def concluded(self, reasons: list[Statement], correction: bool) -> list[Claim] | None:
        """What follows "so": statements or a verdict."""
        verdict = self.verdict()
        if verdict is not None:
            stated = [Claim("statement", (), one, correction=correction) for one in reasons]
            return [*stated, Claim("verdict", (), None, verdict, correction)] if self.done() else None
        concluded = self.listing()
        return [Claim("conclusion", tuple(reasons), one, correction=correction) for one in concluded] if concluded else None

    def listing(self) -> list[Statement] | None:
        """Statements joined by commas and "and", to the end of the sentence."""
        found: list[Statement] = []
        while True:
            made = self.statement()
            if made is None:
                return None
            found += made
            if self.done():
                return found
            joined = self.take(",")
            if not (self.take("and") or joined):
                return None

    def done(self) -> bool:
        while self.peek() in (".", ",") and self.at < self.end:
            if self.at + 1 < self.end:
                return False
            self.at += 1
        return self.at >= self.end

    def verdict(self) -> bool | None:
        if self.peek() in _TRUTH and self.at + 1 == self.end:  # "True."
            self.at += 1
            return _TRUTH[self.tokens[self.at - 1]]
        start = self.at
        self.take("the") or self.take("this")
        self.take("final")
        if self.peek() in _SUBJECTS:
            self.at += 1
            if self.take("is", ":") or self.take("is") or self.take(":") or self.take("="):
                flipped = self.take("not")
                if self.peek() in _TRUTH:
                    self.at += 1
                    return _TRUTH[self.tokens[self.at - 1]] != flipped
        self.at = start
        return None

    def statement(self) -> list[Statement] | None:
        """One statement, or several that share a subject: "Rex is big and red"."""
        start = self.peek()
        if start in _NAMES and self.peek(1) == "is":
            self.at += 2
            return self.predicates(_NAMES[start], frozenset())
        body = self.body()
        if body is None:
            return None
        literals, denied = body
        return self.predicates("", frozenset(map(negated, literals)), denied=denied)

    def body(self) -> tuple[list[Literal], bool] | None:
        """The subject of a rule and its verb: what it speaks of, and whether it says "no"."""
        start = self.peek()
        if start in ("every", "each", "no", "any") and self.peek(1) in _KINDS and self.peek(2) == "is":
            self.at += 3
            return [(self.tokens[self.at - 2], True)], start == "no"
        if start in ("all", "no") and self.peek(1) in _SINGULAR and self.peek(2) == "are":
            self.at += 3
            return [(_SINGULAR[self.tokens[self.at - 2]], True)], start == "no"
        if start in _SINGULAR and self.peek(1) == "are":
            self.at += 2
            return [(_SINGULAR[start], True)], False
        if start in ("everything", "anything", "nothing", "everyone", "anyone") and self.peek(1) in ("that", "who") and self.peek(2) == "is":
            self.at += 3
            literals = self.phrases("and")
            return (literals, start == "nothing") if literals and self.take("is") else None
        if start == "if" and self.peek(1) in ("something", "someone", "anything", "it") and self.peek(2) == "is":
            self.at += 3
            literals = self.phrases("and")
            self.take(",")
            self.take("then")
            return (literals, False) if literals and (self.take("it", "is") or self.take("they", "are")) else None
        return None

    def predicates(self, who: str, given: frozenset[Literal], *, denied: bool = False) -> list[Statement] | None:
        """What is said of the subject: one phrase, several joined by "or" (one statement), or several joined by "and" (one statement each)."""
        first = self.phrase()
        if first is None:
            return None
        alternatives = [first]
        while self.peek() == "or" and not denied:
            self.at += 1
            another = self.phrase()
            if another is None:
                return None
            alternatives.append(another)
        if len(alternatives) > 1:
            return [Statement(who, given.union(alternatives))]
        found = [first]
        while self.peek() == "and" and not denied and self.starts_phrase(1):
            self.at += 1
            another = self.phrase()
            if another is None:
                return None
            found.append(another)
        return [Statement(who, given | {negated(one) if denied else one}) for one in found]

    def phrases(self, joint: str) -> list[Literal] | None:
        found: list[Literal] = []
        while True:
            one = self.phrase()
            if one is None:
                return None
            found.append(one)
            if not self.take(joint):
                return found
            self.take("it", "is") or self.take("is")

    def starts_phrase(self, ahead: int) -> bool:
        token = self.peek(ahead)
        return token in ("a", "an", "not") or token in _QUALITIES or (token in _SINGULAR and self.peek(ahead + 1) != "are")

    def phrase(self) -> Literal | None:
        holds = not self.take("not")
        if self.take("a") or self.take("an"):
            word = self.peek() if self.peek() in _KINDS else None
        else:
            word = self.peek() if self.peek() in _QUALITIES else _SINGULAR.get(self.peek())
        if word is None:
            return None
        self.at += 1
        return word, holds
