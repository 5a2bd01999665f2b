"""Words: steps that sort a list of words by looking at their letters. Problems that are a list of words and nothing else.

BIG-Bench's word sorting is written so (BIG-Bench Mistake: LLMs cannot find reasoning errors, but can correct them, 2023): "The first letter: "kitten":
"k" (11).", "We now have: (1) "ave" < (3) ["cider" ? "cowl"].", "The answer is ave cider cowl".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from stepward.rewards.verifiers.verdict import State, Verdict
from stepward.rewards.verifiers.verifier import StepContext

NAME = "words"
VERSION = 2
_LIST = re.compile(r"\s*[a-z][a-z'&.-]*(?:\s+[a-z][a-z'&.-]*){2,}\s*")
_LETTER = re.compile(r'"(?P<word>[^"]{1,40})": "(?P<letter>[^"])" \((?P<place>\d{1,2})\)')
_WHICH = re.compile(r"\b(first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth) letters?", re.IGNORECASE)
_ORDER = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_CHAIN = re.compile(r'(?:\(\d{1,2}\) )?(?:"[^"]{1,40}"|\[[^\[\]]{1,400}\])(?: [<?] (?:\(\d{1,2}\) )?(?:"[^"]{1,40}"|\[[^\[\]]{1,400}\]))+')
_GROUP = re.compile(r'(?:\((?P<place>\d{1,2})\) )?(?:"(?P<word>[^"]{1,40})"|\[(?P<words>[^\[\]]{1,400})\])')
_SUBPART = re.compile(r"(?:this )?subpart \[(?P<words>[^\[\]]{1,400})\]")
_ANSWER = re.compile(r"[Tt]he answer is:?\s+(?P<words>[a-z][a-z'&. -]*)")


@dataclass(frozen=True)
class Words:
    """`tools:words`: letters and their places in the alphabet, chains `"a" < "b"` and their places, words that are missing or new, the final list.

    Which subpart is taken up next, and whether that is the best next step, is not judged.
    """

    @property
    def name(self) -> str:
        return NAME

    @property
    def fingerprint(self) -> str:
        return f"{NAME}/{VERSION}"

    def reads(self, context: StepContext) -> bool:
        """Whether the problem is a list of words."""
        return len(context.problem) < 4000 and _LIST.fullmatch(context.problem) is not None

    async def verify(self, context: StepContext) -> list[Verdict]:
        if not self.reads(context) or len(context.text) > 20_000:
            return []
        words = context.problem.split()
        found = [*_letters(context.text, words), *_chains(context, words), *_answer(context.text, words)]
        return sorted(found, key=lambda verdict: verdict.span)


def _letters(text: str, words: list[str]) -> Iterator[Verdict]:
    """Each stated letter and place; and the list of all words at the first letter."""
    which = _WHICH.search(text)
    index = _ORDER.index(which[1].lower()) if which else 0
    named = list(_LETTER.finditer(text))
    for match in named:
        word, letter = match["word"], match["letter"].lower()
        right = letter in _letters_at(word, index) and int(match["place"]) == ord(letter) - ord("a") + 1
        yield _verdict(right, "letter", text, match.span(), f"letter {index + 1} of {word!r} is {word[index : index + 1]!r}")
    if named and index == 0:
        span = named[0].start(), named[-1].end()
        yield _verdict(Counter(match["word"] for match in named) == Counter(words), "list of words", text, span, "the words of the problem, each once")
    subpart = _SUBPART.search(text)
    if named and subpart is not None:
        asked = re.findall(r'"([^"]+)"', subpart["words"])
        span = named[0].start(), named[-1].end()
        yield _verdict(Counter(match["word"] for match in named) == Counter(asked), "list of words", text, span, "the words of the subpart, each once")


def _chains(context: StepContext, words: list[str]) -> Iterator[Verdict]:
    """Chains of "<" and "?": in order, each word at its place, and in a chain of all words none missing or new."""
    text = context.text
    for match in _CHAIN.finditer(text):
        if text[max(0, match.start() - 9) : match.start()].endswith("subpart "):
            continue
        groups = [
            (int(group["place"]) if group["place"] else None, [group["word"]] if group["word"] else re.findall(r'"([^"]+)"', group["words"]))
            for group in _GROUP.finditer(match[0])
        ]
        signs = re.findall(r" ([<?]) (?=\(|\"|\[)", re.sub(r"\[[^\]]*\]", "[]", match[0]))
        if groups[0][0] is not None:
            which = _WHICH.search(context.before[-1].text) if context.before else None
            index = _ORDER.index(which[1].lower()) if which else 0
            placed = all(place is None or all(chr(96 + place) in _letters_at(word, index) for word in group) for place, group in groups)
            yield _verdict(placed, "place", text, match.span(), "each word under its letter's place in the alphabet")
        if len(signs) == len(groups) - 1 and "?" not in signs:
            ordered = all(max(left) < min(right) for (_, left), (_, right) in pairwise(groups))
            yield _verdict(ordered, "order", text, match.span(), "each group before the next")
        everything = [word for _, group in groups for word in group]
        part = re.match(r" for the subpart", text[match.end() :]) is not None
        if not part and ("Hence" in text[: match.start()] or (groups[0][0] is not None and context.index == 1)):
            yield _verdict(Counter(everything) == Counter(words), "list of words", text, match.span(), "the words of the problem, each once")


def _answer(text: str, words: list[str]) -> Iterator[Verdict]:
    match = _ANSWER.search(text)
    if match is not None:
        yield _verdict(match["words"].split() == sorted(words), "answer", text, match.span(), "the words of the problem in order")


def _letters_at(word: str, index: int) -> set[str]:
    """The letter at an index, with and without counting apostrophes and the like."""
    return {word[index : index + 1], re.sub(r"[^a-z]", "", word)[index : index + 1]}


def _verdict(right: bool, kind: str, text: str, span: tuple[int, int], reason: str) -> Verdict:
    state = State.SUPPORTED if right else State.REFUTED
    return Verdict(state=state, verifier=NAME, kind=kind, text=text[span[0] : span[1]], span=span, reason=reason if right else f"not {reason}")
