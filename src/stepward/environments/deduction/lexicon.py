"""Lexicon: every name, kind and quality that a problem or solution can use. Closed, so that a word-level tokenizer covers it. No sentences here."""

from __future__ import annotations

from stepward.environments.grade_school.lexicon import WORD, words

__all__ = ["KINDS", "NAMES", "PLURALS", "QUALITIES", "WORD", "every_word", "words"]

NAMES = ("Alex", "Fae", "Max", "Otto", "Polly", "Rex", "Sally", "Sam", "Stella", "Wren")
KINDS = (
    "blompus", "brimpus", "chorpus", "clampus", "drompus", "dumpus", "felpus", "florpus", "gorpus", "grimpus",
    "harpus", "impus", "jelpus", "jompus", "kempus", "lempus", "lorpus", "lumpus", "morpus", "numpus",
    "orpus", "plompus", "pompus", "quimpus", "rompus", "scrompus", "shumpus", "snarpus", "sterpus", "stimpus",
    "timpus", "trumpus", "tumpus", "umpus", "vempus", "vumpus", "wumpus", "yumpus", "zorpus", "zumpus",
)  # fmt: skip
QUALITIES = (
    "big", "blue", "bold", "brave", "bright", "brown", "calm", "clever", "cold", "curious",
    "dry", "fair", "fast", "fierce", "fresh", "gentle", "green", "happy", "heavy", "honest",
    "kind", "loud", "merry", "nice", "old", "polite", "proud", "quiet", "rare", "red",
    "rough", "round", "shy", "slow", "soft", "sour", "strong", "sweet", "warm", "wooden",
)  # fmt: skip
PLURALS = {kind: f"{kind}es" for kind in KINDS}

GRAMMAR = (
    "Every", "every", "Each", "All", "all", "No", "no", "Everything", "everything", "that", "If", "something", "then", "it", "is", "are", "not", "a", "an",
    "and", "or", "Since", "So", "the", "statement", "true", "false", "True", "Correction", "does", "follow",
)  # fmt: skip
SYMBOLS = tuple(".,:")


def every_word() -> list[str]:
    """All words of the environment, sorted; the same for every configuration."""
    plurals = [form for plural in PLURALS.values() for form in (plural, plural.capitalize())]
    return sorted({*NAMES, *KINDS, *QUALITIES, *plurals, *GRAMMAR, *SYMBOLS})
