"""Typed perturbations of steps of a deduction: one word or phrase is changed so that the step says something else. Whether it follows is for a prover."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

_WORD = r"[A-Za-z0-9][\w'-]*"
_SENTENCE = re.compile(r"[^.?!\n:]+")
_BE = re.compile(r"(?P<head>.*?\b(?:is|are))(?P<deny> not)?(?P<article> an?)? (?P<said>[^,.;]+)", re.IGNORECASE)
_DO = re.compile(r"(?P<head>.*?)\b(?P<verb>does|do) not ", re.IGNORECASE)
_CLASS = re.compile(
    rf"(?P<each>(?:every|each|any) )?(?P<subject>{_WORD}(?: {_WORD})?) (?P<be>is|are)(?P<article> an?)? (?P<said>{_WORD}(?: {_WORD})?)", re.IGNORECASE
)
_SINCE = re.compile(r"(?P<since>since|because) (?P<reasons>.+), (?P<result>[^,]+)\Z", re.IGNORECASE | re.DOTALL)
_RESULT = re.compile(r"(?s)(?P<lead>.*(?:\b(?:so|then|therefore|thus|hence),? |, ))?(?P<body>[^,]+?)(?P<end>[.!]?\s*)\Z", re.IGNORECASE)
_QUANTIFIERS = ("every", "each", "any", "all", "no", "some", "if", "since", "because")


@dataclass(frozen=True)
class Corrupted:
    """A step after one change of a `kind`."""

    kind: str
    text: str


def corruptions(step: str, problem: str) -> list[Corrupted]:
    """Every single change that the operators can make to the step's conclusion (its last clause).

    negation: "not" put in; dropped not: "not" taken away; predicate: what is said of the subject exchanged for something that the problem speaks of and
    that no chain of its plain rules ("every A is B", "As are B") reaches from the subject, nor from what the problem says of it; swap: subject and predicate
    of a rule exchanged; premise: one of the reasons behind "since" left out.
    """
    match = _RESULT.match(step)
    if match is None:
        return []
    lead, body, end = match["lead"] or "", match["body"], match["end"]
    found = [Corrupted(operator.__name__.strip("_"), f"{lead}{changed}{end}") for operator in _OPERATORS for changed in operator(body, problem)]
    found += [Corrupted("premise", changed) for changed in _premise(step)]
    return [one for one in found if one.text.split() != step.split()]


def corrupt_logic(step: str, problem: str, *, seed: int = 0) -> Corrupted | None:
    """One of `corruptions`, the kind drawn first; None when there is none."""
    every = corruptions(step, problem)
    if not every:
        return None
    draw = random.Random(seed)
    kind = draw.choice(sorted({one.kind for one in every}))
    return draw.choice([one for one in every if one.kind == kind])


def _negation(body: str, _: str) -> Iterator[str]:
    match = _BE.match(body)
    if match and not match["deny"]:
        yield f"{match['head']} not{body[match.end('head') :]}"


def _dropped_not(body: str, _: str) -> Iterator[str]:
    match = _BE.match(body)
    if match and match["deny"]:
        yield match["head"] + body[match.end("deny") :]
    match = _DO.match(body)
    if match:
        verb = re.match(_WORD, body[match.end() :])
        if verb is not None and match["verb"].lower() == "does":
            yield match["head"] + _third_person(verb[0]) + body[match.end() + verb.end() :]


def _predicate(body: str, problem: str) -> Iterator[str]:
    match = _BE.match(body)
    if match is None:
        return
    subject, said = _key(re.sub(r"\b(?:is|are)\Z", "", match["head"].strip()).strip()), _key(match["said"])
    rules, facts = _told(problem)
    reached = _reach(rules, {subject, said, *(fact for who, fact in facts if who == subject)})
    kept = match["head"] + (match["deny"] or "")
    if match["deny"]:  # what the problem denies of anything may well be denied here
        reached |= {_key(denied["said"]) for sentence in _SENTENCE.findall(problem) if (denied := _BE.fullmatch(sentence.strip())) and denied["deny"]}
    for article, phrase in _phrases(problem, plural=match["head"].lower().endswith("are")):
        if bool(article) == bool(match["article"]) and _key(phrase) not in reached:
            yield f"{kept} {_with_article(phrase) if article else phrase}"


def _swap(body: str, _: str) -> Iterator[str]:
    match = _CLASS.fullmatch(body)
    if match is None or match["said"].lower().startswith("not"):
        return
    subject, said = match["subject"], match["said"]
    if match["each"] and match["article"]:
        yield f"{match['each']}{said} is {_with_article(subject)}"
    elif match["be"].lower() == "are" and subject.split()[0].lower() not in _QUANTIFIERS:
        yield f"{said[0].upper()}{said[1:]} are {subject[0].lower()}{subject[1:]}"


def _premise(step: str) -> Iterator[str]:
    match = _SINCE.match(step)
    if match is None:
        return
    reasons = re.split(r", (?:and )?| and (?=(?:every|each|all|no|everything|if|[A-Z]))", match["reasons"])
    if len(reasons) > 1:
        for left_out in range(len(reasons)):
            kept = [reason for place, reason in enumerate(reasons) if place != left_out]
            listed = kept[0] if len(kept) == 1 else f"{', '.join(kept[:-1])} and {kept[-1]}"
            yield f"{match['since']} {listed}, {match['result']}"


_OPERATORS: tuple[Callable[[str, str], Iterator[str]], ...] = (_negation, _dropped_not, _predicate, _swap)


def _told(problem: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What the problem says in plain rules (kind, said) and facts (name, said), negations left out."""
    rules: list[tuple[str, str]] = []
    facts: list[tuple[str, str]] = []
    for sentence in _SENTENCE.findall(problem):
        match = _BE.fullmatch(sentence.strip())
        if match is None or match["deny"]:
            continue
        head = re.sub(r"\s*\b(?:is|are)\Z", "", match["head"], flags=re.IGNORECASE)
        named = match["head"].endswith("is") and head.split()[:1] != [] and head.split()[0].lower() not in _QUANTIFIERS
        (facts if named else rules).append((_key(head), _key(match["said"])))
    return rules, facts


def _reach(rules: Collection[tuple[str, str]], start: set[str]) -> set[str]:
    reached = set(start)
    while True:
        more = {said for kind, said in rules if kind in reached} - reached
        if not more:
            return reached
        reached |= more


def _phrases(problem: str, *, plural: bool) -> list[tuple[str, str]]:
    """What the problem says of things, with the article before it: one entry for each way that it is written."""
    found: dict[tuple[str, str], None] = {}
    for sentence in _SENTENCE.findall(problem):
        match = _BE.fullmatch(sentence.strip())
        if match is None or (re.search(r" (?:and|or|true|false) ", f" {match['said']} ") is not None):
            continue
        are = match["head"].lower().endswith("are")
        if are == plural or (not are and not match["article"] and not plural):
            found[("a" if match["article"] else "", match["said"].strip())] = None
    return list(found)


def _key(text: str) -> str:
    """A kind or quality without quantifier and number, roughly; a name as it is."""
    words = [word for word in text.split() if word.lower() not in _QUANTIFIERS]
    if not words:
        return ""
    last = words[-1].lower()
    for ending, singular in (("ies", "y"), ("uses", "us"), ("ches", "ch"), ("sses", "ss"), ("xes", "x"), ("s", "")):
        if last.endswith(ending) and not last.endswith(("us", "ss")):
            last = last[: -len(ending)] + singular
            break
    return " ".join([*(word.lower() for word in words[:-1]), last])


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[:1].lower() in 'aeiou' else 'a'} {phrase}"


def _third_person(verb: str) -> str:
    return f"{verb[:-1]}ies" if verb.endswith("y") and verb[-2:-1] not in "aeiou" else f"{verb}{'es' if verb.endswith(('ch', 'sh', 's', 'x', 'z')) else 's'}"
