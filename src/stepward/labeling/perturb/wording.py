"""Wording operators: errors in what a step speaks of: units, owners, polarity, and what it derives itself from. Numbers are in `arithmetic`."""

from __future__ import annotations

import re
from random import Random

from stepward.labeling.perturb.perturbation import Edit, Operator
from stepward.labeling.perturb.site import Site, substituted
from stepward.rewards.quantities.unit import FAMILY, UNITS

_PLURALS = {"foot": "feet", "inch": "inches", "century": "centuries", "penny": "pennies"}
_MEASURED = re.compile(r"(?<=\d)[ -]?([A-Za-z]+)")  # the word right behind a numeral
_OPPOSITES = {
    "more": "fewer", "greater": "less", "larger": "smaller", "above": "below", "increases": "decreases", "increase": "decrease", "adds": "removes",
    "before": "after", "true": "false", "even": "odd", "positive": "negative", "maximum": "minimum", "always": "never", "at least": "at most",
}  # fmt: skip
_BOTH = {**_OPPOSITES, **{other: word for word, other in _OPPOSITES.items()}}
_POLARITY = re.compile(r"\b(" + "|".join(sorted(map(re.escape, _BOTH), key=len, reverse=True)) + r")\b", re.IGNORECASE)
_NOT = re.compile(r"\b(is|are|was|does|do|can|has) not (?=\w)")
_SAID = r"(?:an? )?[a-z]+(?=[.,;]|$)|divisible|equal|prime|even|odd|positive|negative|greater|less|larger|smaller"
_IS = re.compile(rf"\b(is|are|was) (?={_SAID})")


def _edit(site: Site, text: str, note: str) -> Edit | None:
    return None if text == site.text else Edit(site.with_text(text), site.at, note)


def _unit_change(site: Site, rng: Random) -> Edit | None:
    """A quantity in another unit of its kind, its number as it was."""
    places = []
    for match in _MEASURED.finditer(site.text):
        word = match[1].lower()
        unit = word if word in FAMILY else word.removesuffix("s")
        if unit in UNITS.get(FAMILY.get(unit, ""), {}):
            places.append((match, unit, unit != word))
    if not places:
        return None
    match, unit, plural = rng.choice(places)
    same = UNITS[FAMILY[unit]]
    others = sorted(other for other, factors in same.items() if not set(factors) & set(same[unit]) and len(other) > 3)
    if not others:
        return None
    chosen = rng.choice(others)
    other = _PLURALS.get(chosen, f"{chosen}s") if plural else chosen
    return _edit(site, f"{site.text[: match.start(1)]}{other}{site.text[match.end() :]}", f"the unit is {match[1]}, not {other}")


def _polarity(site: Site, rng: Random) -> Edit | None:
    """The opposite of what the step says: a word turned into its opposite, or "not" put in or taken out."""
    turned = list(_POLARITY.finditer(site.text))
    if turned:
        match = rng.choice(turned)
        other = _BOTH[match[0].lower()]
        other = other.capitalize() if match[0][0].isupper() else other
        return _edit(site, f"{site.text[: match.start()]}{other}{site.text[match.end() :]}", f"'{match[0]}' became '{other}'")
    denied = list(_NOT.finditer(site.text))
    if denied:
        match = rng.choice(denied)
        return _edit(site, f"{site.text[: match.end(1)]} {site.text[match.end() :]}", "'not' is missing")
    plain = [match for match in _IS.finditer(site.text) if "answer" not in site.text[: match.start()]]
    if not plain:
        return None
    match = rng.choice(plain)
    return _edit(site, f"{site.text[: match.end(1)]} not {site.text[match.end() :]}", "'not' is put in")


def _other_entity(site: Site, rng: Random) -> Edit | None:
    """What is derived is said of somebody else."""
    subject = site.subject or site.text
    owners = sorted((found.start(), name) for name in site.names if (found := re.search(rf"\b{name}\b", subject)))
    others = [name for name in site.names if not re.search(rf"\b{name}\b", site.text)]
    if not owners or not others:
        return None
    owner, other = owners[0][1], rng.choice(others)
    return _edit(site, re.sub(rf"\b{owner}\b", other, site.text, count=1), f"it is about {owner}, not {other}")


def _circular(site: Site, rng: Random) -> Edit | None:
    """A quantity derived from itself: its own name where the name of an earlier result belongs, which is what the control has."""
    subject = site.subject
    if subject is None or not site.equations or site.equations[0].start <= len(subject):
        return None
    named = {str(value): Site(site.trajectory, step).subject for step, value in site.results.items() if site.only_from(step)}
    places = [(token, named[token.text]) for token in site.equations[0].operands if named.get(token.text)]
    if not places:
        return None
    token, name = rng.choice(places)
    texts = [substituted(site.text, ((token, inside(words)),)) for words in (subject, name or "")]
    wrong, right = (site.with_text(text) for text in texts)
    return Edit(wrong, site.at, f"{inside(subject)} is derived from itself", control=(right, site.at))


def inside(subject: str) -> str:
    """A subject as it stands inside a sentence."""
    return subject[0].lower() + subject[1:] if subject.split()[0] in ("The", "Each", "A", "An") else subject


WORDING = (
    Operator("unit_change", _unit_change, "a quantity is given in another unit, its number unchanged"),
    Operator("polarity_flip", _polarity, "the step says the opposite"),
    Operator("other_entity", _other_entity, "what is derived is said of another entity"),
    Operator("circular", _circular, "a quantity is derived from itself"),
)
