"""Vocabulary: what words beside numbers mean for the reading of a claim. No logic lives here."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that end an expression: what stands on their other side belongs to the sentence, not to the calculation.
STOP_WORDS = _words(
    """a an the is are was were be been being will would can could may might must shall should has have had having do does did done so then thus hence
    therefore because since as for from to in into on onto at by with within without and or but if that this these those which who whom whose what
    when where while it its he she they we you i his her their our my your him them us there here not no nor than of off up down out about after
    before until equals equal gives give given giving gets get got make makes making means mean leaves leaving let lets let's also only just
    now next first second third finally both either neither every another such same we're it's that's yields yield becomes become results result"""
)

# Before the first number, these words say that the calculation began earlier, or that the number is a label.
LEFT_BLOCKERS = _words(
    """x times of by plus minus over and or less more fewer than from to between divided multiplied subtract subtracted subtracting add added adding
    divide multiply dividing multiplying twice double triple thrice half quarter third negative square squared cube cubed root power sum difference
    product quotient through versus vs until nor modulo mod base ratio per one two three four five six seven eight nine ten eleven twelve twenty
    thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion dozen second seconds minute minutes hour hours day days
    week weeks month months year years foot feet inch inches yard yards mile miles pound pounds ounce ounces page pages part parts step steps chapter
    number numbers no nos case problem question equation row column line figure table item version room grade level"""
)

# After the last number, these words change its value or carry the calculation on.
RIGHT_BLOCKERS = _words(
    """hundred hundreds thousand thousands million millions billion billions trillion dozen dozens score gross k m bn mn am pm st nd rd th o'clock a.m
    p.m plus minus over divided multiplied squared cubed more less fewer x out remainder remaining r mod modulo base factorial choose half halves
    point"""
)

# Scale words inside an expression: "3 dozen" is not 3.
SCALE_WORDS = _words(
    """hundred hundreds thousand thousands million millions billion billions trillion trillions dozen dozens score gross am pm o'clock squared cubed
    factorial choose"""
)

# Names of functions and relations: no unit of measure.
FUNCTION_WORDS = _words(
    """sin cos tan cot sec csc log ln exp sqrt gcd lcm mod max det lim floor ceil round root abs arcsin arccos arctan sinh cosh tanh min div modulo"""
)

SHORT_UNITS = _words(
    """cm mm km mi ft yd oz lb lbs kg mg ml cl dl hr hrs min mins sec secs yr yrs mph kph wpm gb mb kb tb usd eur gbp cc pc pcs sq cu km/h in. kj kw kwh
    hp"""
)

# Units of one family convert into each other, so two of them in one claim may hide a conversion.
_FAMILIES = {
    "time": "second sec minute min hour hr day week month year yr decade century shift night morning weekend fortnight quarter",
    "length": "mm cm m km millimeter centimeter meter kilometer millimetre centimetre metre kilometre inch in foot feet ft yard yd mile mi block lap",
    "mass": "g kg mg gram kilogram milligram lb pound oz ounce ton tonne",
    "volume": "ml l liter litre milliliter millilitre gallon quart pint cup tablespoon teaspoon ounce oz bottle jug scoop",
    "money": "dollar cent penny pennie nickel dime quarter euro usd buck",
    "count": "pair couple dozen half third fourth fifth sixth eighth tenth quarter part share percent",
    "angle": "degree radian revolution turn",
    "data": "kb mb gb tb byte kilobyte megabyte gigabyte bit",
}
CONVERTIBLE = {
    word: frozenset(family for family, words in _FAMILIES.items() if word in words.split()) for words in _FAMILIES.values() for word in words.split()
}
CONVERSION_RATIOS = frozenset({7, 12, 16, 24, 30, 36, 48, 52, 60, 90, 120, 144, 180, 365, 366, 1024, 1440, 1760, 3600, 5280, 10080})

DENOMINATORS = _words(
    """each piece person item unit student child bag box pack package ticket bottle book page apple orange egg cookie cake pizza acre employee worker
    trip game class team"""
)

# Anywhere in a step (or in the problem): another arithmetic may be meant by the same signs.
OTHER_ARITHMETIC = re.compile(
    r"\\[pb]?mod(?![a-z])|\bmod\b|\bmodul[oae]|\\equiv|≡|\bbase[-\s]*(?:[0-9]|\\?[($]|[a-z]\b|two|three|four|five|six|seven|eight|nine|ten|twelve|sixteen)"
    r"|\bbases\b|\b(?:binary|ternary|octal|hexadecimal)\b|[0-9]\s*_|(?<!order of )\boperation\b"
    r""
    r"|\\(?:star|oplus|otimes|circledast|diamond|clubsuit|spadesuit|heartsuit|bigstar|Delta|odot|boxplus)(?![a-zA-Z])|[⊕⊗★☆♣♠♥♦◇⋆]"
    r"|\bclock arithmetic\b|\broman numeral",
    re.IGNORECASE,
)

# Before the claim, in its clause: it is put up for inspection, not asserted.
HYPOTHESIS = re.compile(
    r"\b(?:if|whether|suppose|supposing|assume|assuming|imagine|try|trying|test|testing|guess|verify|verifying|unless|instead of|rather than"
    r"|not|never|incorrect(?:ly)?|wrong(?:ly)?|mistake(?:n|nly)?|claims?|claimed|says?|said|should|would have|could have|such that"
    r"|solve|satisf\w+|substitut\w+|plug\w*|equation)\b|n't\b",
    re.IGNORECASE,
)
# After the claim, in its sentence and the next: it is taken back or denied.
DENIAL = re.compile(
    r"\bnot\b|n't\b|contradict|impossib|incorrect|wrong|\bfalse\b|mistake|\berror|cannot|no solution|invalid|≠|\\neq?(?![a-z])|unequal"
    r"|\bfails?\b|instead|actually|\bwait\b|oops|correction|should be|\btoo (?:high|low|big|large|small|many|much|few)|remainder"
    r"|\brounded|\brounding|round (?:up|down)|nearest|approximat"
    r"|\bleft ?over|\br\s?[0-9]|\bhmm\b|unreasonable|inconsisten",
    re.IGNORECASE,
)


def singular(word: str) -> str:
    """The word in lower case without its plural ending."""
    lower = word.lower().rstrip(".")
    if lower in ("feet", "foot"):
        return "foot"
    if lower in ("inches", "boxes", "classes", "centuries", "pennies", "halves"):
        return {"inches": "inch", "boxes": "box", "classes": "class", "centuries": "century", "pennies": "penny", "halves": "half"}[lower]
    return lower[:-1] if len(lower) > 3 and lower.endswith("s") and not lower.endswith("ss") else lower
