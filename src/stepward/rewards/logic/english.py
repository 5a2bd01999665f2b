"""English: sentences of controlled English as formulas. A strict grammar read left to right: what does not fit is not read, nothing is guessed.

    every wumpus is red · wumpuses are not sour · no cat is a dog · some A are B · everything that is big and red is a vumpus · red, cold things are round
    Max is a wumpus · 7 is a prime number · the cat chases the dog · Bob does not like the bear · Rex is either big or red
    if something is kind and it chases the cat then it is not red · if Dave is smart and Dave is kind then Dave is quiet

A phrase such as "prime number" is one predicate: what follows or clashes with phrases as opaque wholes does so whatever they mean, since one may put any
formula for a predicate.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepward.rewards.logic.formula import Atom, Every, Formula, Join, Not, Some, both, implies, opposite
from stepward.rewards.logic.words import ALL, ARTICLES, BE, DO, DUMMIES, EACH, NONE, OPEN, PLURAL_DUMMIES, PRONOUNS, STOP, TOKENS, Lexicon, verb_stem

_LONGEST = 4  # words of a phrase
_SHORT = (("isn't", "is not"), ("aren't", "are not"), ("doesn't", "does not"), ("don't", "do not"))
VARIABLE = "x"


def tokens_of(text: str) -> list[str]:
    """Words and commas; contractions written out. Other signs become a token that fits nothing."""
    text = text.replace("’", "'")
    for short, long in _SHORT:
        text = text.replace(short, long).replace(short.capitalize(), long.capitalize())
    found, at = [], 0
    for match in TOKENS.finditer(text):
        if text[at : match.start()].strip():
            found.append("�")
        found.append(match[0])
        at = match.end()
    if text[at:].strip(" \t\r\n.!?;"):
        found.append("�")
    return found


class Unread(Exception):
    """The tokens do not fit the grammar."""


def read_statement(text: str, lexicon: Lexicon) -> Formula | None:
    """The formula of a sentence without its full stop; None when the grammar does not cover all of it."""
    reader = Reader(tokens_of(text), lexicon)
    try:
        made = reader.statements()
    except Unread:
        return None
    return both(*made) if made and reader.done() else None


class Reader:
    """Reads clauses from a place in the tokens onward; raises `Unread`."""

    def __init__(self, tokens: Sequence[str], lexicon: Lexicon, start: int = 0) -> None:
        self.tokens, self.lexicon, self.at = list(tokens), lexicon, start
        self.open = False  # a variable may be spoken of as "it"

    def word(self, ahead: int = 0) -> str:
        """The token in lower case, "" past the end."""
        return self.raw(ahead).lower()

    def raw(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.tokens[place] if 0 <= place < len(self.tokens) else ""

    def take(self, *wanted: str) -> bool:
        if all(self.word(ahead) == word for ahead, word in enumerate(wanted)):
            self.at += len(wanted)
            return True
        return False

    def done(self) -> bool:
        while self.take(","):
            pass
        return self.at >= len(self.tokens)

    def statements(self) -> list[Formula]:
        """Statements joined by commas and "and", as far as they go; at least one."""
        made = [self.statement()]
        while True:
            start = self.at
            joined = self.take(",")
            if not (self.take("and") or joined) or not self.starts_clause():
                self.at = start
                return made
            made.append(self.statement())

    def statement(self) -> Formula:
        """One rule or fact."""
        if self.take("if"):
            return self.conditional()
        self.open = False
        return self.clause()

    def conditional(self) -> Formula:
        """What follows "if": conditions, "then" or a comma, and results."""
        self.open = False
        conditions, kind = [self.condition()], ""
        while self.word() in ("and", "or") or (self.word() == "," and self.word(1) == "and"):
            self.take(",")
            if kind and self.word() != kind:
                raise Unread
            kind = self.word()
            self.at += 1
            conditions.append(self.clause())
        comma = self.take(",")
        if not self.take("then") and not comma:
            raise Unread
        results = [self.clause()]
        while self.word() == "and" and self.starts_clause(1):
            self.at += 1
            results.append(self.clause())
        made = implies(Join("plain", tuple(conditions)) if kind == "or" else both(*conditions), both(*results))
        made = Every(VARIABLE, made) if self.open else made
        self.open = False
        return made

    def condition(self) -> Formula:
        """The first condition: it may speak of something, which is "it" from then on."""
        if self.word() in OPEN:
            self.at += 1
            self.open = True
            return self.predicate(VARIABLE)
        if self.word() in ARTICLES:
            self.at += 1
            self.open = True
            noun = self.noun(plural=False)
            return both(Atom(noun, (VARIABLE,)), self.predicate(VARIABLE))
        return self.clause()

    def clause(self) -> Formula:
        """A subject and what is said of it."""
        word = self.word()
        if word in PRONOUNS and self.open:
            self.at += 1
            return self.predicate(VARIABLE)
        if self.open and word in OPEN:  # a second "something" may be another one
            raise Unread
        if word in EACH | ARTICLES:
            self.at += 1
            return self.rule(Atom(self.noun(plural=False), (VARIABLE,)), every=word in EACH)
        if word in ALL or word in NONE:
            self.at += 1
            if self.take("that") or self.take("who"):
                if self.word() not in BE:
                    raise Unread
                self.at += 1
                given = self.complement(VARIABLE, relative=True)
                return self.rule(given, denied=word in NONE)
            said = self.predicate(VARIABLE)
            return Every(VARIABLE, Not(said) if word in NONE else said)
        if word in ("all", "no", "some"):
            self.at += 1
            plural = self.plural_ahead()
            if word == "all" and not plural:
                raise Unread
            kind = self.kinds() if plural else Atom(self.noun(plural=False), (VARIABLE,))
            if word == "some":
                return Some(VARIABLE, both(kind, self.predicate(VARIABLE)))
            return self.rule(kind, denied=word == "no", every=word == "all")
        if word == "not" and self.word(1) in ("all", "every"):
            self.at += 1
            return Not(self.clause())
        if self.plural_ahead():
            return self.rule(self.kinds())
        return self.predicate(self.individual())

    def rule(self, given: Formula, *, denied: bool = False, every: bool = False) -> Formula:
        said = self.predicate(VARIABLE)
        if every and isinstance(said, Not):
            return Every(VARIABLE, Join("none", (given, said.body)))
        return Every(VARIABLE, implies(given, opposite(said) if denied else said))

    def starts_clause(self, ahead: int = 0) -> bool:
        """Whether a subject with its verb comes next."""
        word, raw = self.word(ahead), self.raw(ahead)
        if word in EACH | ALL | NONE or word in ("all", "no", "some", "if", "the"):
            return True
        if word in PRONOUNS and self.open:
            return True
        for place in range(ahead, ahead + _LONGEST + 2):
            if self.word(place) in BE | DO:
                return place > ahead
            if self.word(place) in STOP or self.raw(place) in (",", ""):
                break
        return raw[:1].isupper() and (self.word(ahead + 2) == "the" or self.raw(ahead + 2)[:1].isupper())

    def plural_ahead(self) -> bool:
        """Whether a plural subject comes next: words and commas up to "are", or up to "do" or a verb behind "things"."""
        for place in range(_LONGEST + 4):
            word = self.word(place)
            if word in ("are", "do") or word in PLURAL_DUMMIES:
                return place > 0
            if word == "" or (word != "," and word in STOP):
                return False
        return False

    def kinds(self) -> Formula:
        """A plural subject: "wumpuses", "prime numbers", "red, cold things"."""
        words: list[str] = []
        commas = 0
        while self.word() not in BE | DO and self.raw() and (not words or words[-1] not in PLURAL_DUMMIES):
            if self.word() in STOP and self.word() not in DUMMIES | {"and"}:
                raise Unread
            if self.word() in (",", "and"):
                commas += 1
            else:
                words.append(self.word())
            self.at += 1
        if not words:
            raise Unread
        if words[-1] in PLURAL_DUMMIES and len(words) > 1:
            return both(*(Atom(word, (VARIABLE,)) for word in words[:-1]))
        if commas or len(words) > _LONGEST:
            raise Unread
        return Atom(" ".join((*words[:-1], self.lexicon.singular(words[-1]))), (VARIABLE,))

    def noun(self, *, plural: bool) -> str:
        """The words up to the verb, as one predicate."""
        words: list[str] = []
        while self.raw() and self.word() not in STOP and self.raw() not in (",", "�"):
            words.append(self.word())
            self.at += 1
            if self.word() in BE | DO:
                break
            if words and self.word(1) == "the":  # the next word is a verb
                break
        if not 0 < len(words) <= _LONGEST:
            raise Unread
        return " ".join((*words[:-1], self.lexicon.singular(words[-1]) if plural else words[-1]))

    def individual(self) -> str:
        """A name, a number or "the cat"."""
        if self.take("the"):
            words: list[str] = []
            while self.raw() and self.word() not in STOP and self.raw() not in (",", "�"):
                words.append(self.word())
                self.at += 1
                follows = self.word(1)
                if words and self.word() not in BE | DO and (follows == "the" or (self.raw(1)[:1].isupper() and self.word() not in STOP)):
                    break
            if not 0 < len(words) <= _LONGEST:
                raise Unread
            return "the " + " ".join(words)
        words = []
        while self.raw()[:1].isupper() or self.raw()[:1].isdigit():
            if self.word() in STOP or self.word() in self.lexicon.lower or len(words) == 3:
                raise Unread
            words.append(self.raw())
            self.at += 1
        if not words:
            raise Unread
        return " ".join(words)

    def object(self) -> str:
        """What a verb is done to: "the cat" or a name."""
        if self.take("the"):
            words: list[str] = []
            while self.raw() and self.word() not in STOP and self.raw() not in (",", "�"):
                words.append(self.word())
                self.at += 1
            if not 0 < len(words) <= _LONGEST:
                raise Unread
            return "the " + " ".join(words)
        if not self.raw()[:1].isupper():
            raise Unread
        return self.individual()

    def predicate(self, who: str) -> Formula:
        """A verb and what it says of `who`."""
        if self.word() in BE:
            self.at += 1
            return self.complement(who, relative=False)
        denied = False
        if self.word() in DO:
            if self.word(1) != "not":
                raise Unread
            self.at += 2
            denied = True
        verb = self.word()
        if verb in STOP or not verb.isalpha() or not self.raw()[:1].islower():
            raise Unread
        self.at += 1
        said = Atom(verb if denied else verb_stem(verb), (who, self.object()))
        return Not(said) if denied else said

    def complement(self, who: str, *, relative: bool) -> Formula:
        """What stands behind "is": one thing or several, joined by commas and one of "and", "or"."""
        kind = "either" if self.take("either") else "nor" if self.take("neither") else ""
        self.take("both")
        parts, joint = [self.item(who)], ""
        while True:
            start = self.at
            comma = self.take(",")
            word = self.word() if self.word() in ("and", "or", "nor") else ""
            self.at += bool(word)
            self.take("is") or self.take("are") if relative else None
            clause = not relative and self.starts_clause()
            if not (comma or word) or clause or not self.starts_item():
                self.at = start
                break
            if word and joint and word != joint:
                raise Unread
            joint = word or joint
            parts.append(self.item(who))
        if len(parts) == 1:
            if kind:
                raise Unread
            return parts[0]
        if kind == "nor":
            return both(*map(opposite, parts))
        if kind == "either":
            if joint != "or":
                raise Unread
            return Join("either", tuple(parts))
        if joint not in ("and", "or", ""):
            raise Unread
        return Join("plain", tuple(parts)) if joint == "or" else both(*parts)

    def starts_item(self) -> bool:
        word = self.word(1) if self.word() == "not" else self.word()
        raw = self.raw(1) if self.word() == "not" else self.raw()
        return word in ARTICLES or (word not in STOP and raw[:1].islower())

    def item(self, who: str) -> Formula:
        """[not] [a] one to four words, as one predicate."""
        denied = self.take("not")
        article = self.take("a") or self.take("an")
        words: list[str] = []
        while self.raw() and self.word() not in STOP and self.raw() not in (",", "�"):
            if words and self.raw()[:1].isupper():
                break
            words.append(self.word())
            self.at += 1
        if not 0 < len(words) <= _LONGEST:
            raise Unread
        if words[-1] in DUMMIES and len(words) > 1:
            said: Formula = both(*(Atom(word, (who,)) for word in words[:-1]))
        else:
            said = Atom(" ".join((*words[:-1], words[-1] if article else self.lexicon.predicate(words[-1]))), (who,))
        return Not(said) if denied else said
