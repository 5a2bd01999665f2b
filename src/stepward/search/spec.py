"""Spec: a name with settings as users type it, NAME:KEY=VALUE:KEY=VALUE. What the names stand for is in load.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from stepward.core import InputError

_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True)
class Spec:
    """beam:n=16:width=4 is Spec("beam", {"n": "16", "width": "4"}). A value with colons of its own stands in parentheses: inner=(beam:n=16)."""

    name: str
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Raises: InputError for anything that is not NAME:KEY=VALUE:..."""
        name, *pairs = split(unwrapped(text.strip()), ":")
        settings: dict[str, str] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            key = key.strip().replace("-", "_")
            if not (equals and key):
                raise InputError(f"{text!r} must be NAME:KEY=VALUE:KEY=VALUE; {pair!r} is no KEY=VALUE (put a value with colons in parentheses)")
            if key in settings:
                raise InputError(f"{text!r} sets {key!r} twice")
            settings[key] = value.strip()
        if not name.strip():
            raise InputError(f"{text!r} names nothing; it must be NAME:KEY=VALUE:...")
        return cls(name.strip(), settings)

    def __str__(self) -> str:
        values = {key: f"({value})" if len(list(split(value, ":"))) > 1 or "," in value else value for key, value in self.settings.items()}
        return ":".join([self.name, *(f"{key}={value}" for key, value in values.items())])


def split(text: str, mark: str) -> list[str]:
    """The parts between marks that stand in no bracket. Raises: InputError for a bracket that is not closed."""
    return list(_parts(text, mark))


def unwrapped(text: str) -> str:
    """Without the one pair of parentheses around it all, if there is one."""
    inner = text[1:-1]
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for letter in inner:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return text
    return inner


def _parts(text: str, mark: str) -> Iterator[str]:
    depth, start = 0, 0
    for place, letter in enumerate(text):
        depth += (letter in _OPEN) - (letter in _CLOSE)
        if letter == mark and depth == 0:
            yield text[start:place]
            start = place + 1
    if depth:
        raise InputError(f"brackets do not match in {text!r}")
    yield text[start:]
