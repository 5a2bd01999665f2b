"""Theory: what a problem says, as formulas, and what it asks. Every sentence is read or named as unread."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from stepward.rewards.logic.english import read_statement, tokens_of
from stepward.rewards.logic.formula import Every, Formula, Join, Some, atoms, constants
from stepward.rewards.logic.notation import looks_formal, read_formula
from stepward.rewards.logic.sentence import MAX_TEXT, Sentence, sentences
from stepward.rewards.logic.words import STOP, Lexicon

_ASKS = re.compile(
    r"\btrue,? (?:or )?false\b|\bfollows? (?:logically )?from\b|\bbe (?:logically )?(?:inferred|concluded|deduced|derived)\b|\bentailed by\b", re.IGNORECASE
)
_STATED = re.compile(
    r"(?:\btrue or false\b|\bunknown\b|\buncertain\b|\bfalse\b|\bfollows?\b|\bfollowing statement\b)[^:]*:\s*(.+)\Z|\btrue or false that (.+)\Z", re.IGNORECASE
)
_OPTION = re.compile(r"(?:^|\s)\(?([A-E])[).:]\s*(true|false|unknown|uncertain)\b", re.IGNORECASE)
_LETTER = re.compile(r"[A-Za-z]\d?")
_HEADINGS = frozenset(
    ("here", "consider", "following", "based", "above", "below", "information", "context", "please", "options", "option", "given", "using", "read", "think")
)
_OPTIONS_ONLY = re.compile(r"(?:options?:?)?(?:\s*\(?[A-E][).:]\s*(?:true|false|unknown|uncertain)[,;]?)*\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Premise:
    """A sentence of the problem and the formula it stands for."""

    text: str
    formula: Formula


@dataclass(frozen=True)
class Theory:
    """`premises` in the order of the text, `question` (None where none was read), `unread` sentences, what the options A, B, ... stand for, and
    whether "unknown" is an answer (`three_valued`).

    `asks`: the problem asks whether a statement is true, or follows. `closed`: it asks that and every sentence of it was read, so that what is neither
    stated nor entailed does not follow.
    """

    premises: tuple[Premise, ...]
    question: Formula | None
    unread: tuple[str, ...]
    asks: bool
    options: tuple[tuple[str, str], ...] = ()
    three_valued: bool = False

    @property
    def deductive(self) -> bool:
        """Whether this is a problem of deduction at all: it asks for one, or consists of nothing but statements with a rule among them."""
        rules = any(isinstance(premise.formula, Every | Some | Join) for premise in self.premises)
        return bool(self.premises) and (self.asks or (rules and not self.unread))

    @property
    def closed(self) -> bool:
        return self.asks and not self.unread and bool(self.premises)

    @cached_property
    def words(self) -> frozenset[str]:
        """Names, and every word of a predicate, in lower case."""
        formulas = [premise.formula for premise in self.premises] + ([] if self.question is None else [self.question])
        found = {word for formula in formulas for atom in atoms(formula) for word in atom.name.lower().split()}
        found |= {word for formula in formulas for name in constants(formula) for word in name.lower().split()}
        return frozenset(found - STOP)

    @cached_property
    def symbols(self) -> frozenset[str]:
        """Predicates and names that the problem uses."""
        formulas = [premise.formula for premise in self.premises] + ([] if self.question is None else [self.question])
        return frozenset(symbol for formula in formulas for symbol in symbols(formula))


def symbols(formula: Formula) -> set[str]:
    """The predicates and the names in a formula."""
    return {atom.name for atom in atoms(formula)} | set(constants(formula))


def read(text: str, lexicon: Lexicon) -> Formula | None:
    """A sentence of controlled English, a formula, or a proposition of one letter."""
    found = read_statement(text, lexicon)
    return read_formula(text) if found is None and (looks_formal(text) or _LETTER.fullmatch(text)) else found


def lexicon_of(texts: Iterable[str]) -> Lexicon:
    """The words of a problem and of steps."""
    return Lexicon.of(tokens_of(sentence.text) for text in texts for sentence in sentences(text) if not looks_formal(sentence.text))


def read_theory(prompt: str, lexicon: Lexicon) -> Theory:
    """The theory of a problem's text."""
    premises: list[Premise] = []
    unread: list[str] = []
    question: Formula | None = None
    asks, waiting = False, False
    for sentence in sentences(prompt):
        if _OPTIONS_ONLY.fullmatch(sentence.text):
            continue
        if _ASKS.search(sentence.text):
            asks = True
            stated = _STATED.search(sentence.text)
            text = next((group for group in stated.groups() if group), "") if stated else ""
            question, waiting = (read(text.strip(" \"“”'"), lexicon), False) if text else (question, True)
        elif waiting or sentence.label in ("statement", "hypothesis", "query", "conclusion", "claim"):
            question, waiting = read(sentence.text, lexicon), False
        elif not sentence.asks and not _is_heading(sentence):
            formula = read(sentence.text, lexicon)
            if formula is None:
                unread.append(sentence.text)
            else:
                premises.append(Premise(sentence.text, formula))
    options = tuple((letter.upper(), meaning.lower()) for letter, meaning in _OPTION.findall(prompt))
    if len(prompt) > MAX_TEXT:
        unread.append(f"what stands behind character {MAX_TEXT}")
    return Theory(tuple(premises), question, tuple(unread), asks, options, re.search(r"\bun(?:known|certain)\b", prompt, re.IGNORECASE) is not None)


def _is_heading(sentence: Sentence) -> bool:
    """A line such as "Here are some facts and rules", which says nothing of the matter."""
    words = [word.lower() for word in tokens_of(sentence.text)]
    return bool(words) and all(word in STOP | _HEADINGS for word in words)
