"""Parser: the tokens of one side of a relation to a tree of plain lists, by recursive descent. It never executes anything.

A tree is JSON: ["n", "3/2"] a number, ["s", name] a symbol (opaque ones keep their spelling as name), ["+", a, b], ["*", a, b], ["/", a, b],
["^", a, b], ["-", a], ["f", name, arguments...] a known function.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from stepward.rewards.algebra.token import Token

Tree = list[Any]
MAX_TOKENS = 200
MAX_DEPTH = 40
MAX_NUMERAL = 40  # characters of a number

_FUNCTIONS = {
    r"\sin": "sin", r"\cos": "cos", r"\tan": "tan", r"\cot": "cot", r"\sec": "sec", r"\csc": "csc", r"\arcsin": "asin", r"\arccos": "acos",
    r"\arctan": "atan", r"\ln": "ln", r"\log": "log", r"\exp": "exp", r"\gcd": "gcd", r"\sinh": "sinh", r"\cosh": "cosh",
}  # fmt: skip
_PLAIN = {"sin": "sin", "cos": "cos", "tan": "tan", "ln": "ln", "log": "log", "sqrt": "sqrt", "gcd": "gcd", "lcm": "lcm"}
_GREEK = {
    r"\pi": ["s", "π"], r"\alpha": ["s", "α"], r"\beta": ["s", "β"], r"\gamma": ["s", "γ"], r"\theta": ["s", "θ"], r"\lambda": ["s", "λ"],
    r"\omega": ["s", "ω"], r"\phi": ["s", "φ"], r"\varphi": ["s", "φ"], r"\mu": ["s", "μ"], r"\sigma": ["s", "σ"], r"\rho": ["s", "ρ"],
    r"\delta": ["s", "δ"], r"\epsilon": ["s", "ε"], r"\ell": ["s", "l"], r"\zeta": ["s", "ζ"], r"\tau": ["s", "τ"], r"\Delta": ["s", "Δ"],
}  # fmt: skip
_CLOSING = {"(": ")", "[": "]", "lfloor": "rfloor", "lceil": "rceil"}
_CALLED = frozenset("fghpqPQFGHTRSDV")  # letters before a bracket that name functions


class Unreadable(Exception):
    """The tokens spell no formula within the limits; the message says why. Never leaves this package."""


def parse(tokens: Sequence[Token]) -> tuple[Tree, frozenset[str]]:
    """The tree, and flags of what makes a refutation unsafe: "unit" (words behind a number), "call" (f(...)), "percent", "log" (base not shown).

    Raises: Unreadable.
    """
    if not tokens or len(tokens) > MAX_TOKENS:
        raise Unreadable("empty" if not tokens else "too long")
    parser = _Parser(tokens)
    tree = parser.sum()
    if parser.at != len(tokens):
        raise Unreadable(f"unexpected {tokens[parser.at].text[:20]!r}")
    return tree, frozenset(parser.flags)


class _Parser:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.flags: set[str] = set()
        self.bars = 0

    def peek(self, ahead: int = 0) -> Token | None:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else None

    def operator(self, signs: str) -> str:
        token = self.peek()
        if token is not None and token.kind == "operator" and token.text in signs:
            self.at += 1
            return token.text
        return ""

    def sum(self) -> Tree:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable(f"nested more than {MAX_DEPTH} deep")
        total = self.product()
        while sign := self.operator("+-"):
            term = self.product()
            total = ["+", total, term if sign == "+" else ["-", term]]
        self.depth -= 1
        return total

    def product(self) -> Tree:
        total = self.signed()
        while True:
            if sign := self.operator("*/"):
                factor = self.signed()
                if sign == "/" and self.factor_follows():
                    raise Unreadable("a slash before a product: the denominator could end anywhere")
                total = [sign, total, factor]
            elif self.factor_follows():
                token = self.peek()
                if token is not None and token.kind == "number" and self.tokens[self.at - 1].kind == "number":
                    raise Unreadable("two numbers in a row")
                if token is not None and token.kind == "frac" and self.tokens[self.at - 1].kind == "number":
                    raise Unreadable("a number before a fraction: a mixed number or a product")
                total = ["*", total, self.power()]
            else:
                return total

    def factor_follows(self) -> bool:
        token = self.peek()
        if token is None:
            return False
        if token.kind == "operator" and token.text == "|":
            return self.bars == 0
        return token.kind in ("number", "letter", "open", "frac", "root", "command", "brace_open", "word", "text")

    def signed(self) -> Tree:
        sign = self.operator("+-")
        if sign:
            if self.operator("+-"):
                raise Unreadable("two signs in a row")
            inner = self.power()
            return ["-", inner] if sign == "-" else inner
        return self.power()

    def power(self) -> Tree:
        base = self.postfix(self.atom())
        token = self.peek()
        if token is not None and token.kind == "superscript":
            self.at += 1
            return self.postfix(["^", base, ["n", token.text]])
        if self.operator("^"):
            return self.postfix(["^", base, self.exponent()])
        return base

    def exponent(self) -> Tree:
        token = self.peek()
        if token is None:
            raise Unreadable("an exponent is missing")
        if token.kind == "brace_open":
            return self.braced()
        sign = self.operator("-")
        token = self.peek()
        if token is None or token.kind not in ("number", "letter", "open"):
            raise Unreadable("an exponent that is no number, letter or bracket")
        if token.kind == "number" and len(token.text) > 1 and not self.plain():
            raise Unreadable("a power of several digits without braces")
        inner = self.atom()
        return ["-", inner] if sign else inner

    def plain(self) -> bool:
        """Whether the formula holds no LaTeX, where 2^10 means the tenth power."""
        return not any(token.kind in ("command", "frac", "brace_open", "root") for token in self.tokens)

    def postfix(self, base: Tree) -> Tree:
        while True:
            token = self.peek()
            if token is None:
                return base
            if token.kind == "operator" and token.text == "!":
                self.at += 1
                if self.operator("!"):
                    raise Unreadable("a double factorial")
                base = ["f", "factorial", base]
            elif token.kind == "degree":
                self.at += 1
                base = ["*", base, ["f", "degree"]]
            elif token.kind == "percent":
                self.at += 1
                self.flags.add("percent")
                base = ["/", base, ["n", "100"]]
            elif token.kind == "text" and self.at and self.tokens[self.at - 1].kind in ("number", "close", "brace_close", "letter"):
                if any(character in "0123456789=+<>" for character in token.text):
                    raise Unreadable("a formula inside words")
                self.at += 1
                self.flags.add("unit")
                following = self.peek()
                if following is not None and following.text in ("^", "/", "superscript"):
                    raise Unreadable("a compound unit")
            else:
                return base

    def atom(self) -> Tree:
        token = self.peek()
        if token is None:
            raise Unreadable("an operand is missing")
        self.at += 1
        kind, text = token.kind, token.text
        if kind == "number":
            if len(text) > MAX_NUMERAL:
                raise Unreadable("a long number")
            return ["n", str(Fraction(text)), len(text.partition(".")[2])]
        if kind == "letter":
            return self.symbol(text)
        if kind == "open":
            return self.bracketed(text)
        if kind == "brace_open":
            self.at -= 1
            return self.braced()
        if kind == "frac":
            following = self.peek()
            if following is not None and following.kind == "number" and len(following.text) == 2 and following.text.isdigit():
                self.at += 1  # \\frac12
                return ["/", ["n", following.text[0]], ["n", following.text[1]]]
            return self.fraction()
        if kind == "root":
            return self.root()
        if kind == "operator" and text == "|":
            self.bars += 1
            inner = self.sum()
            self.bars -= 1
            if not self.operator("|"):
                raise Unreadable("a bar is not closed")
            return ["f", "abs", inner]
        if kind == "command":
            return self.command(text)
        if kind == "word" and text in _PLAIN:
            following = self.peek()
            if following is None or following.kind != "open":
                raise Unreadable(f"{text} without brackets")
            return self.call(_PLAIN[text])
        if kind == "word":
            return self.word(text)
        if kind == "text":
            self.flags.add("name")
            return ["s", f"\\text{{{text.lower()}}}"]
        raise Unreadable(f"unexpected {text[:20]!r}")

    def word(self, text: str) -> Tree:
        """Letters in a row: a product of one-letter symbols, or a name; in plain text it cannot be told which."""
        if len(text) > 3:
            raise Unreadable(f"the word {text[:20]!r}")
        self.flags.add("product of letters")
        tree: Tree = ["s", text[0]]
        for letter in text[1:]:
            tree = ["*", tree, ["s", letter]]
        opening = self.peek()
        if opening is not None and opening.kind == "open":
            raise Unreadable("a name before a bracket")
        following = self.peek()
        if following is not None and following.text in ("_", "'"):
            raise Unreadable("a subscript behind letters in a row")
        return ["*", tree[1], ["^", tree[2], self.exponent()]] if self.operator("^") else tree

    def symbol(self, name: str) -> Tree:
        if self.operator("_"):
            token = self.peek()
            if token is None:
                raise Unreadable("a subscript is missing")
            if token.kind == "brace_open":
                begin = self.at
                self.skip_braces()
                name += "_" + "".join(part.text for part in self.tokens[begin + 1 : self.at - 1])
            elif token.kind in ("number", "letter"):
                self.at += 1
                name += "_" + token.text
            else:
                raise Unreadable("a subscript")
        token = self.peek()
        if token is not None and token.kind == "prime":
            self.at += 1
            name += "'" * len(token.text)
            token = self.peek()
        if token is not None and token.kind == "open" and token.text == "(":
            if name[0] in _CALLED or "'" in name or "_" in name:
                self.flags.add("call")
                self.at += 1
                inner = self.bracketed("(")
                return ["f", "call", name, inner]
            self.flags.add("letter before a bracket")
        return ["s", "π" if name == "π" else name]

    def fraction(self) -> Tree:
        """A fraction; \\frac{d}{dx}(...) is a derivative."""
        above, below = self.argument(), self.argument()
        if below[0] == "*" and below[1] == ["s", "d"]:
            following = self.peek()
            if above != ["s", "d"] or below[2][0] != "s" or following is None or following.kind != "open":
                raise Unreadable("a derivative")
            self.at += 1
            return ["f", "diff", self.bracketed(following.text), below[2]]
        return ["/", above, below]

    def skip_braces(self) -> None:
        depth = 0
        while (token := self.peek()) is not None:
            depth += (token.kind == "brace_open") - (token.kind == "brace_close")
            self.at += 1
            if depth == 0:
                return
        raise Unreadable("a brace is not closed")

    def bracketed(self, opening: str) -> Tree:
        bars, self.bars = self.bars, 0
        inner = self.sum()
        self.bars = bars
        token = self.peek()
        if token is None or token.kind != "close" or token.text != _CLOSING[opening]:
            raise Unreadable("a bracket is not closed, or holds a list")
        self.at += 1
        if opening in ("lfloor", "lceil"):
            return ["f", {"lfloor": "floor", "lceil": "ceiling"}[opening], inner]
        return inner

    def braced(self) -> Tree:
        self.at += 1
        inner = self.sum()
        token = self.peek()
        if token is None or token.kind != "brace_close":
            raise Unreadable("a brace is not closed")
        self.at += 1
        return inner

    def argument(self) -> Tree:
        token = self.peek()
        if token is not None and token.kind == "brace_open":
            return self.braced()
        if token is not None and token.kind in ("letter",):
            self.at += 1
            return ["s", token.text]
        if token is not None and token.kind == "number" and len(token.text) == 1:
            self.at += 1
            return ["n", token.text]
        raise Unreadable("a fraction without braces")

    def root(self) -> Tree:
        token = self.peek()
        degree: Tree | None = None
        if token is not None and token.kind == "open" and token.text == "[":
            self.at += 1
            degree = self.bracketed("[")
            token = self.peek()
        if token is None:
            raise Unreadable("a root of nothing")
        inner = self.braced() if token.kind == "brace_open" else self.atom()
        return ["f", "sqrt", inner] if degree is None else ["f", "root", inner, degree]

    def command(self, text: str) -> Tree:
        if text in _GREEK:
            tree = _GREEK[text]
            return self.symbol(str(tree[1])) if tree[1] != "π" else tree
        if text in (r"\binom", r"\dbinom", r"\tbinom"):
            return ["f", "binomial", self.braced_argument(), self.braced_argument()]
        if text in _FUNCTIONS:
            return self.call(_FUNCTIONS[text])
        raise Unreadable(f"{text[:20]} is not read")

    def braced_argument(self) -> Tree:
        token = self.peek()
        if token is None or token.kind != "brace_open":
            raise Unreadable("an argument without braces")
        return self.braced()

    def call(self, name: str) -> Tree:
        exponent: Tree | None = None
        base: Tree | None = None
        if name == "log" and self.operator("_"):
            base = self.subscript()
        if self.operator("^"):
            exponent = self.exponent()
            if exponent == ["-", ["n", "1", 0]]:
                raise Unreadable("an inverse function")
        token = self.peek()
        if token is None:
            raise Unreadable(f"{name} of nothing")
        arguments = [base] if base is not None else []
        if token.kind == "open":
            self.at += 1
            arguments.insert(0, self.sum())
            while (comma := self.peek()) is not None and comma.kind == "separator" and comma.text == ",":
                self.at += 1
                arguments.append(self.sum())
            closing = self.peek()
            if closing is None or closing.kind != "close":
                raise Unreadable("a bracket is not closed")
            self.at += 1
            if (after := self.peek()) is not None and after.text in ("^", "!"):
                raise Unreadable("a power behind a function's bracket")
        else:
            arguments.insert(0, self.bare_argument())
        if name == "log" and base is None:
            self.flags.add("log")
        tree: Tree = ["f", "logb" if base is not None else name, *arguments]
        return tree if exponent is None else ["^", tree, exponent]

    def subscript(self) -> Tree:
        token = self.peek()
        if token is not None and token.kind == "brace_open":
            return self.braced()
        if token is None or token.kind not in ("number", "letter"):
            raise Unreadable("a subscript")
        self.at += 1
        return ["n", token.text] if token.kind == "number" else ["s", token.text]

    def bare_argument(self) -> Tree:
        """What a function without brackets applies to: \\sin 2x, \\log 8; ends before signs, functions and brackets."""
        tree = self.power()
        while ((token := self.peek()) is not None and token.kind in ("letter", "number", "degree")) or (
            token is not None and token.kind == "command" and token.text in _GREEK
        ):
            tree = ["*", tree, self.power()]
        if token is not None and token.kind in ("open", "frac", "root"):
            raise Unreadable("a function's argument could end anywhere")
        return tree
