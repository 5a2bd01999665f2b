"""Lists of strategies as users type them: NAME:KEY=VALUE:..., with grids over values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from stepward.core import InputError
from stepward.search.load import STRATEGIES
from stepward.search.spec import Spec, split


def strategies_from(texts: Sequence[str]) -> list[Spec]:
    """The strategies of a list such as majority:n=1,4,16,beam:n=16:width=4; several values of a setting stand for a strategy each.

    What follows a comma begins a new strategy where it names one, else it is one more value. A value with commas of its own stands in brackets.

    Raises: InputError for what is no list of specs, or a strategy that is there twice.
    """
    found: list[Spec] = []
    for text in texts:
        for one in _pieces(text):
            for spec in _grid(_parsed(one)):
                if spec in found:
                    raise InputError(f"strategy {spec} is there twice")
                found.append(spec)
    return found


def _parsed(piece: str) -> Spec:
    try:
        return Spec.parse(piece)
    except InputError as error:
        names = [part.partition(":")[0].strip() for part in split(piece, ",")[1:] if ":" in part]
        strangers = [name for name in names if name[:1].isalpha()]
        if not strangers:
            raise
        raise InputError(f"{error}; if {strangers[0]!r} is to be a strategy of its own, there is none: choose one of {', '.join(STRATEGIES)}") from error


def _pieces(text: str) -> list[str]:
    pieces: list[str] = []
    for piece in split(text, ","):
        name = piece.partition(":")[0].strip()
        if name in STRATEGIES or not pieces:
            pieces.append(piece.strip())
        else:
            pieces[-1] += f",{piece.strip()}"
    return pieces


def _grid(spec: Spec) -> list[Spec]:
    values = [[(name, value.strip()) for value in split(text, ",")] for name, text in spec.settings.items()]
    return [Spec(spec.name, dict(chosen)) for chosen in product(*values)]
