"""Controls: the same step in other words, as right as before. They keep a learner from telling constructed errors by their style."""

from __future__ import annotations

import re
from random import Random

from stepward.labeling.perturb.perturbation import Edit, Operator
from stepward.labeling.perturb.site import Site, equations, substituted

_OPENERS = ("So ", "Then ", "Next, ", "Now ", "Thus ")
_CONNECTIVES = frozenset(
    ("So", "Then", "Next", "Now", "Thus", "Therefore", "Hence", "First", "Second", "Third", "Fourth", "Fifth", "Finally", "Lastly", "Also", "And", "But",
     "To", "If", "Since", "Because", "Let", "From")
)  # fmt: skip
_LOWERED = frozenset(
    ("The", "Each", "A", "An", "There", "It", "We", "This", "That", "In", "For", "All", "Every", "Both", "He", "She", "They", "You", "Our", "Its")
)  # fmt: skip
_FIRST = re.compile(r"[A-Z][A-Za-z]*")
CONTROL = "paraphrase"


def commuted(text: str, rng: Random) -> str:
    """The step with the terms of one sum, or the factors of one product, in the other order."""
    found = [equation for equation in equations(text) if len(equation.operands) == 2 and [token.text for token in equation.operators] in (["+"], ["*"])]
    if not found:
        return text
    left, right = rng.choice(found).operands
    return substituted(text, ((left, right.text), (right, left.text)))


def opened(text: str, rng: Random) -> str:
    """The step opened by a word such as "So", unless it has one."""
    first = _FIRST.match(text)
    if first is None or first[0] in _CONNECTIVES:
        return text
    return rng.choice(_OPENERS) + (text[0].lower() + text[1:] if first[0] in _LOWERED else text)


def paraphrased(text: str, rng: Random) -> str:
    """Reworded at random, sometimes not at all: commuted with chance 1/2, opened with chance 1/2. Says the same."""
    swap, begin = rng.random() < 0.5, rng.random() < 0.5
    text = commuted(text, rng) if swap else text
    return opened(text, rng) if begin else text


def _paraphrase(site: Site, rng: Random) -> Edit | None:
    ways = [text for text in (opened(commuted(site.text, rng), rng), commuted(site.text, rng), opened(site.text, rng)) if text != site.text]
    return Edit(site.with_text(rng.choice(ways)), site.at, "the same in other words") if ways else None


PARAPHRASE = Operator(CONTROL, _paraphrase, "the same step in other words", wrong=False)
