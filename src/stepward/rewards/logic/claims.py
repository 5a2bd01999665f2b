"""Claims: what a step says in a deduction: statements, conclusions with the reasons they cite, verdicts on the question, retractions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from stepward.rewards.logic.english import Reader, Unread, tokens_of
from stepward.rewards.logic.formula import Atom, Formula, both, opposite
from stepward.rewards.logic.notation import looks_formal, read_formula
from stepward.rewards.logic.sentence import Sentence, sentences
from stepward.rewards.logic.theory import Theory, read
from stepward.rewards.logic.words import Lexicon

Kind = Literal["statement", "conclusion", "citation", "verdict", "unknown", "retraction", "unread", "assumption"]

_THEREFORE = "so|then|therefore|thus|hence|consequently|accordingly|∴"
_OPENING = re.compile(
    rf"(?:(?:{_THEREFORE}|and|but|next|first|firstly|second|secondly|third|finally|lastly|also|now|however|clearly|similarly|again|moreover|furthermore"
    r"|as a result|in conclusion|in other words|that is|correction|indeed|in fact)\b[,:]?\s+|∴\s*"
    r"|(?:we (?:also )?(?:know|see|find|get|have|infer|deduce|are told|are given|can (?:conclude|infer|deduce|say|see)|conclude)"
    r"(?: that| from the (?:facts|rules|premises) that)?|this (?:means|implies|shows|gives us|gives)(?: that)?"
    r"|it (?:follows|is given|is known|is true|must be)(?: that)?|(?:which|this) means(?: that)?"
    r"|the (?:problem|context|text|premises?|facts?|rules?) (?:says?|states?|tells? us)(?: that)?"
    r"|by (?:modus ponens|modus tollens|elimination|contraposition))[,:]?\s+)*",
    re.IGNORECASE,
)
_ASSUMED = re.compile(
    r"\b(?:suppos(?:e|ing)\b|assum(?:e|ing|ption)\b|imagine\b|hypothetical|for (?:the sake of )?contradiction|case \d|pretend|were to)", re.IGNORECASE
)
_AIM = re.compile(
    r"(?:we (?:need|want|have|must|will|are going|aim|should)\b|let's|let us|let me|to (?:show|prove|find|determine|check|see|decide|answer)\b"
    r"|consider\b|look\b|i\b|the (?:question|goal|task)\b)",
    re.IGNORECASE,
)
_WHETHER = re.compile(r"\b(?:whether|might|may|could|can|would|possibl[ey]|perhaps|probably|likely|should|unless|cannot|can't)\b", re.IGNORECASE)
_RETRACTED = re.compile(
    r"it (?:does not|doesn't) follow that |(?:we|i) cannot (?:conclude|infer|deduce) that |there is no way to (?:conclude|infer|deduce) that ", re.IGNORECASE
)
_DENIED = re.compile(r"it is (?:false|not true|not the case) that ", re.IGNORECASE)
_TRUTH = r"(?P<not>not )?(?:\(?(?P<letter>[a-e])\)?[).:]*\s*)?(?P<truth>true|false|unknown|uncertain|undetermined)?"
_VERDICT = re.compile(
    r"(?:(?:the|our|my|final|given|correct)\s+)*(?:statement|answer|claim|conclusion|hypothesis|result|query|option|question)"
    rf"(?:\s+[\"“](?P<quote>[^\"”]+)[\"”])?\s*(?:is|must be|:|=)+\s*(?:that (?:it|the statement) is\s+)?{_TRUTH}",
    re.IGNORECASE,
)
_REPEATED = ("statement", "question", "query", "hypothesis", "claim")  # labels behind which the problem is told again
_ASIDE = re.compile(r"\s*[(\[](?:given|by|from|rule|premise|fact|step|see|using)\b[^()\[\]]*[)\]]\Z", re.IGNORECASE)
_BARE = re.compile(r"(?:\\boxed\{)?(?P<truth>true|false|unknown|uncertain)\}?", re.IGNORECASE)
_QUOTED = re.compile(rf"[\"“](?P<quote>[^\"”]+)[\"”] (?:is|must be) {_TRUTH}", re.IGNORECASE)
_TAIL = re.compile(
    rf"(.+?),?\s+(?:and\s+)?(?:{_THEREFORE})\s+((?:the|this|that)\s+(?:final\s+)?(?:statement|answer|claim|conclusion|hypothesis|option)\b.+)", re.IGNORECASE
)
_FORMAL = re.compile(
    r"(?:since|because|from|given|by)\s+(?P<reasons>.+?),\s*(?:(?:so|then|therefore|thus|hence)\b,?\s*)?"
    r"(?:(?:we|you|one) (?:get|have|infer|conclude|deduce|obtain|know)s?(?: that)?|it follows that)?:?\s*(?P<result>[^,]+)",
    re.IGNORECASE,
)
_SINCE = ("since", "because", "as", "from")
_RESULT = ("so", "then", "therefore", "thus", "hence", "consequently")
_NEXT = (("we", "get"), ("we", "have"), ("we", "infer"), ("we", "conclude"), ("we", "can", "conclude"), ("we", "deduce"), ("we", "know"), ("it", "follows"))


@dataclass(frozen=True)
class Claim:
    """`formula` is what is said to hold (None where it could not be read), `cited` the reasons that the sentence gives for it.

    *unknown*: the question's statement is said to be neither true nor false. *assumption*: something is supposed for the sake of argument.
    """

    kind: Kind
    text: str
    span: tuple[int, int]
    formula: Formula | None = None
    cited: tuple[Formula, ...] = ()


def read_claims(text: str, theory: Theory, lexicon: Lexicon) -> list[Claim]:
    """The claims of a step in order. Sentences without any word of the theory, questions and announcements claim nothing."""
    return [claim for sentence in sentences(text) for claim in _claims(sentence, theory, lexicon)]


def _claims(sentence: Sentence, theory: Theory, lexicon: Lexicon) -> Iterator[Claim]:
    if sentence.asks or sentence.label in _REPEATED:
        return
    if aside := _ASIDE.search(sentence.text):
        sentence = replace(sentence, text=sentence.text[: aside.start()], span=(sentence.span[0], sentence.span[0] + aside.start()))
    if _ASSUMED.search(sentence.text):
        yield Claim("assumption", sentence.text, sentence.span)
        return
    tail = _TAIL.fullmatch(sentence.text)
    if tail:
        start = sentence.span[0]
        for part in (1, 2):
            yield from _claims(Sentence(tail[part], (start + tail.start(part), start + tail.end(part))), theory, lexicon)
        return
    opening = _OPENING.match(sentence.text)
    at = opening.end() if opening else 0
    marked = re.search(rf"\b(?:{_THEREFORE})\b|∴|follows|implies|means|conclude|infer|deduce", sentence.text[:at], re.IGNORECASE) is not None
    body, span = sentence.text[at:], (sentence.span[0] + at, sentence.span[1])
    if body in theory.symbols and not theory.options:  # a proposition
        yield Claim("conclusion" if marked else "statement", body, span, Atom(body))
        return
    made = _verdict(body, span, theory, lexicon) or _retraction(body, span, lexicon) or _argument(body, span, lexicon, marked)
    if made:
        yield from made
    elif _about(body, theory) and not _AIM.match(body):
        yield Claim("unread", sentence.text, sentence.span)


def _about(body: str, theory: Theory) -> bool:
    """Whether the sentence holds a word of the theory, or a formula."""
    words = {word.lower() for word in tokens_of(body)}
    return looks_formal(body) or any(
        word in theory.words or word.removesuffix("s") in theory.words or word.removesuffix("es") in theory.words for word in words
    )


def _verdict(body: str, span: tuple[int, int], theory: Theory, lexicon: Lexicon) -> list[Claim]:
    match = _VERDICT.fullmatch(body.strip(" .*")) or _BARE.fullmatch(body.strip(" .*$")) or _QUOTED.fullmatch(body)
    if match is None:
        return []
    found = match.groupdict()
    truth = (found.get("truth") or dict(theory.options).get((found.get("letter") or "").upper()) or "").lower()
    if not truth:
        return []
    stated = read(found["quote"], lexicon) if found.get("quote") else theory.question
    if truth in ("unknown", "uncertain", "undetermined"):
        return [Claim("unknown", body, span, None if found.get("not") else stated)]
    if stated is None or (found.get("not") and theory.three_valued):  # "not true" may be false or unknown
        return [Claim("verdict", body, span)]
    holds = (truth == "true") != bool(found.get("not"))
    return [Claim("verdict", body, span, stated if holds else opposite(stated))]


def _retraction(body: str, span: tuple[int, int], lexicon: Lexicon) -> list[Claim]:
    match = _RETRACTED.match(body)
    if match is None:
        return []
    stated = read(body[match.end() :], lexicon)
    return [] if stated is None else [Claim("retraction", body, span, stated)]


def _argument(body: str, span: tuple[int, int], lexicon: Lexicon, marked: bool) -> list[Claim]:
    """Statements with or without reasons; empty where they cannot be read."""
    denied = _DENIED.match(body)
    if denied:
        stated = read(body[denied.end() :], lexicon)
        return [] if stated is None else [Claim("conclusion" if marked else "statement", body, span, opposite(stated))]
    if _WHETHER.search(body):
        return []
    if looks_formal(body):
        return _formal(body, span, marked)
    reader = Reader(tokens_of(body), lexicon)
    try:
        made = _sentence(reader, body, span, marked)
    except Unread:
        return []
    return made if reader.done() else []


def _sentence(reader: Reader, body: str, span: tuple[int, int], marked: bool) -> list[Claim]:
    """Since A and B, C · C because A · A and B, so C · A and B."""
    since = reader.word() in _SINCE or (reader.word() == "given" and reader.word(1) == "that")
    if since:
        reader.at += 1 + (reader.word() == "given")
    parts: list[tuple[str, Formula]] = [("", reader.statement())]
    while not reader.done():
        if reader.word() in ("since", "because") and not since:
            reader.at += 1
            concluded = [formula for _, formula in parts]
            reasons = reader.statements()
            return _concluded(reasons, concluded, body, span)
        comma = reader.tokens[reader.at - 1] == "," or reader.take(",")
        conjoined = reader.take("and")
        marks = reader.word() in _RESULT
        reader.at += marks
        while marks and reader.take(","):
            pass
        for words in _NEXT:
            if reader.take(*words):
                reader.take("that")
                marks = True
        if not (comma or conjoined or marks):
            raise Unread
        parts.append(("so" if marks else "," if comma and not conjoined else "and", reader.statement()))
    ends = [place for place, (joint, _) in enumerate(parts) if joint == "so" or (since and joint == ",")]
    if since:
        if not ends:
            raise Unread
        return _concluded([formula for _, formula in parts[: ends[-1]]], [formula for _, formula in parts[ends[-1] :]], body, span)
    first = ends[0] if ends else len(parts)
    stated = [Claim("conclusion" if marked else "statement", body, span, formula) for _, formula in parts[:first]]
    return stated + [Claim("conclusion", body, span, formula) for _, formula in parts[first:]]


def _concluded(reasons: list[Formula], results: list[Formula], body: str, span: tuple[int, int]) -> list[Claim]:
    cited = [Claim("citation", body, span, reason) for reason in reasons]
    return [*cited, Claim("conclusion", body, span, both(*results), tuple(reasons))]


def _formal(body: str, span: tuple[int, int], marked: bool) -> list[Claim]:
    """A formula, or formulas with a result: "From p → q and p, we get q"."""
    stated = read_formula(body)
    if stated is not None:
        return [Claim("conclusion" if marked else "statement", body, span, stated)]
    match = _FORMAL.fullmatch(body)
    if match is None:
        return []
    reasons = [read_formula(piece) for piece in re.split(r",\s*(?:and\s+)?|\s+and\s+", match["reasons"])]
    result = read_formula(match["result"])
    known = [reason for reason in reasons if reason is not None]
    return _concluded(known, [result], body, span) if result is not None and len(known) == len(reasons) else []
