"""Words: which words the grammar of controlled English gives a role of its own, and what the singular of a noun is. No sentences here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TOKENS = re.compile(r"[A-Za-z0-9][A-Za-z0-9'’_-]*|,")
BE = frozenset(("is", "are"))
DO = frozenset(("does", "do"))
EACH = frozenset(("every", "each", "any"))
OPEN = frozenset(("something", "someone", "anything", "anyone", "somebody", "anybody"))
ALL = frozenset(("everything", "everyone", "anything", "anyone", "everybody"))
NONE = frozenset(("nothing", "nobody"))
PRONOUNS = frozenset(("it", "they", "he", "she"))
DUMMIES = frozenset(("thing", "things", "people", "person", "persons", "one", "ones"))
PLURAL_DUMMIES = frozenset(("things", "people", "persons", "ones"))
ARTICLES = frozenset(("a", "an"))
_FUNCTION_WORDS = """
the this that these those which who whom whose what where when why how there here not no nor neither either both and or but if then else unless
except only just even all some most many few several other another same such more less than of in on at by for with without from to into as was
were be been being am will would can could may might must shall should has have had having always never sometimes usually often probably likely
possibly maybe perhaps very quite rather too so therefore thus hence because since given we i you them him her us me my your his its their our
false true unknown uncertain statement answer conclusion claim question premise premises rule rules fact facts suppose assume let know follows
follow cannot can't don't doesn't isn't aren't won't also again already still yet now first next finally either's exactly least almost nearly up
down out about after before between
"""
STOP = BE | DO | EACH | OPEN | ALL | NONE | PRONOUNS | ARTICLES | frozenset(_FUNCTION_WORDS.split())
_IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose", "feet": "foot", "teeth": "tooth", "oxen": "ox",
    "lice": "louse", "cacti": "cactus", "fungi": "fungus", "bacteria": "bacterium", "dice": "die",
}  # fmt: skip


def singulars(word: str) -> list[str]:
    """What a plural may be the plural of, the likeliest first; the word itself where it does not look like one."""
    if word in _IRREGULAR:
        return [_IRREGULAR[word]]
    if word.endswith("men") and len(word) > 4:
        return [word[:-2] + "an"]
    if word.endswith("ies") and len(word) > 4:
        return [word[:-3] + "y", word[:-1]]
    if word.endswith("ves"):
        return [word[:-3] + "f", word[:-3] + "fe", word[:-1]]
    if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        return [word[:-2], word[:-1]]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return [word[:-1]]
    return [word]


def verb_stem(word: str) -> str:
    """chases and chase give chase, watches and watch give watch."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes", "oes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


@dataclass(frozen=True)
class Lexicon:
    """The nouns that a text uses (their last words, in the singular), and every word that it uses uncapitalised."""

    nouns: frozenset[str]
    lower: frozenset[str]

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]]) -> Lexicon:
        """Nouns: what follows "a", "every" and the like, and the subjects of "are"."""
        texts = [list(tokens) for tokens in sentences]
        nouns = {_head(tokens, at + 1) for tokens in texts for at, word in enumerate(tokens) if word.lower() in EACH | ARTICLES}
        nouns.discard("")
        plurals = {tokens[at - 1].lower() for tokens in texts for at, word in enumerate(tokens) if word == "are" and at > 0}
        for plural in sorted(plurals - STOP - DUMMIES - {","}):
            candidates = singulars(plural)
            nouns.add(next((word for word in candidates if word in nouns), candidates[0]))
        lower = {word for tokens in texts for word in tokens if word[0].islower()}
        return cls(frozenset(nouns), frozenset(lower))

    def singular(self, plural: str) -> str:
        """The noun of a plural subject."""
        candidates = singulars(plural)
        return next((word for word in candidates if word in self.nouns), candidates[0])

    def predicate(self, word: str) -> str:
        """The last word of what something is said to be: a plural of a known noun becomes that noun, anything else stays."""
        return next((one for one in singulars(word) if one in self.nouns), word)


def _head(tokens: Sequence[str], start: int) -> str:
    """The last word of the noun phrase that begins here."""
    end = start
    while end < len(tokens) and tokens[end] != "," and tokens[end].lower() not in STOP:
        end += 1
    return tokens[end - 1].lower() if end > start else ""
