"""Lexicon: every name, object, container and sentence pattern that a problem or solution can use. Closed, so that a word-level tokenizer covers it."""

from __future__ import annotations

import re

NAMES = (
    "Ada", "Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jane", "Kofi",
    "Lena", "Mia", "Nina", "Omar", "Paul", "Rosa", "Sam", "Tara", "Tom", "Uma", "Vera", "Zoe",
)  # fmt: skip
OBJECTS = (
    "apples", "balls", "beads", "books", "buttons", "cakes", "cards", "coins", "eggs", "flowers", "grapes", "kites",
    "lemons", "marbles", "pears", "pencils", "plums", "roses", "shells", "stamps", "stars", "stickers", "stones", "toys",
)  # fmt: skip
CONTAINERS = {"bag": "bags", "basket": "baskets", "box": "boxes", "bowl": "bowls", "crate": "crates", "drawer": "drawers", "jar": "jars", "shelf": "shelves"}

# Fields: O, o owner and object of the quantity; P its parent as an owner of the same object; Q the parent as a phrase ("Mia's apples");
# R, S, T parents as phrases; X, Y parents as owners; c, k numbers; F a fraction; B, D container and its plural. The first patterns are the plain ones.
FACTS: dict[str, tuple[str, ...]] = {
    "given": ("{O} has {c} {o}.", "{O} owns {c} {o}.", "There are {c} {o} that belong to {O}."),
    "pack": ("{O} has {k} {D} with {c} {o} each.", "{O} has {k} {D} of {c} {o}.", "{O} keeps {o} in {k} {D}, {c} {o} in each."),
    "sum": (
        "{O} has as many {o} as {L} together.",
        "{O} has as many {o} as {L} combined.",
        "The number of {o} that {O} has is the sum of {M}.",
        "{M} together make as many as {O} has {o}.",
    ),
    "difference": (
        "{O} has as many {o} as the difference between {R} and {S}.",
        "The number of {o} that {O} has is {R} less {S}.",
        "Take away {S} from {R} and you get the number of {o} that {O} has.",
    ),
    "plus": ("{O} has {c} more {o} than {P}.", "{O} has {c} {o} more than {P}.", "With {c} more {o} {P} would have as many as {O}."),
    "minus": ("{O} has {c} fewer {o} than {P}.", "{O} has {c} {o} fewer than {P}.", "With {c} fewer {o} {P} would have as many as {O}."),
    "times": ("{O} has {K} as many {o} as {P}.", "{O} owns {K} as many {o} as {P}.", "The number of {o} that {O} has is {K} what {P} has."),
    "share": (
        "{Q} are shared equally among {k} {D}.",
        "{Q} are packed equally into {k} {D}.",
        "{k} {D} hold {Q}, the same number in each.",
    ),
    "fraction": ("{O} has {F} as many {o} as {P}.", "{O} owns {F} as many {o} as {P}.", "The number of {o} that {O} has is {F} of what {P} has."),
    "percent": ("{O} has {c}% as many {o} as {P}.", "The number of {o} that {O} has is {c}% of what {P} has.", "{O} owns {c}% as many {o} as {P}."),
    "times_plus": ("{O} has {c} more than {K} as many {o} as {P}.", "The number of {o} that {O} has is {c} more than {K} what {P} has."),
    "times_minus": ("{O} has {c} less than {K} as many {o} as {P}.", "The number of {o} that {O} has is {c} less than {K} what {P} has."),
    "part_plus": ("{O} has {c} more than {F} as many {o} as {P}.", "The number of {o} that {O} has is {c} more than {F} of what {P} has."),
    "part_minus": ("{O} has {c} less than {F} as many {o} as {P}.", "The number of {o} that {O} has is {c} less than {F} of what {P} has."),
}
N_PLAIN = 2  # patterns per operation in plain wording

QUESTIONS = ("How many {o} does {O} have?", "What is the number of {o} that {O} has?", "Find how many {o} {O} has.")
QUESTIONS_EACH = ("How many {o} does {O} have?", "How many {o} are in {O}?", "Find how many {o} are in {O}.")
QUESTIONS_TOTAL = ("How many {o} do {L} have together?", "How many {o} do {L} have in total?", "Find how many {o} {L} have in all.")
QUESTIONS_TOTAL_MIXED = ("How many are {L} in total?", "How many are {L} together?", "Find how many {L} are in all.")
QUESTIONS_DIFFERENCE = ("How many more {o} does {X} have than {Y}?", "How many fewer {o} does {Y} have than {X}?", "Find how many more {o} {X} has than {Y}.")
QUESTIONS_DIFFERENCE_MIXED = ("How many more are {R} than {S}?", "How many fewer are {S} than {R}?", "What is the difference between {R} and {S}?")

PARTS = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 6: "sixth", 8: "eighth", 10: "tenth"}
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 7: "seven", 9: "nine"}

OTHER_WORDS = ("The", "the", "total", "difference", "answer", "is", "Correction", "each", "Each", "has", "as", "twice", "times", "a", "and", "'s")
SYMBOLS = tuple("0123456789+-*/=().,:?%")

WORD = re.compile(r"[A-Za-z]+|'s|[0-9]|[^\sA-Za-z0-9]")


def words(text: str) -> list[str]:
    """The words of a text: letters together, each digit and symbol alone, "'s" apart. Problems and solutions use `vocabulary` words only."""
    return WORD.findall(text)


def fraction_words(p: int, q: int) -> str:
    """The words for p/q: "half", "a third", "two thirds"."""
    if q == 2:
        return "half"
    return f"a {PARTS[q]}" if p == 1 else f"{COUNTS[p]} {PARTS[q]}s"


def times_words(k: int) -> str:
    return "twice" if k == 2 else f"{k} times"


def every_word() -> list[str]:
    """All words of the environment, sorted; the same for every configuration."""
    patterns = [pattern for group in FACTS.values() for pattern in group]
    for questions in (QUESTIONS, QUESTIONS_EACH, QUESTIONS_TOTAL, QUESTIONS_TOTAL_MIXED, QUESTIONS_DIFFERENCE, QUESTIONS_DIFFERENCE_MIXED):
        patterns.extend(questions)
    found = {word for pattern in patterns for word in words(re.sub(r"\{\w\}", " ", pattern))}
    found.update(NAMES, OBJECTS, CONTAINERS, CONTAINERS.values(), OTHER_WORDS, SYMBOLS, COUNTS.values())
    found.update(PARTS.values(), (f"{part}s" for part in PARTS.values() if part != "half"))
    return sorted(found)
