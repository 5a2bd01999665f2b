"""--budget WHAT=LIMIT: what each search may spend."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from stepward.core import InputError
from stepward.search.budget import Budget

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_WHAT = tuple(Budget.__dataclass_fields__)
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="WHAT=LIMIT",
        help=f"The most that one search may spend; it then answers with its best so far. WHAT: {', '.join(_WHAT)}. LIMIT: 500, 2k, 1.5e12. Repeatable.",
    ),
]


def budget_from(pairs: Sequence[str] | None) -> Budget:
    """Raises: InputError for an unknown limit, one given twice, or one that is no positive number."""
    limits: dict[str, int | float] = {}
    for pair in pairs or []:
        what, equals, limit = pair.partition("=")
        name = what.strip().replace("-", "_")
        if not equals or name not in _WHAT:
            raise InputError(f"--budget must be WHAT=LIMIT with WHAT one of {', '.join(_WHAT)}, got {pair!r}")
        if name in limits:
            raise InputError(f"--budget {name} is given twice")
        value = _number(limit, pair)
        if name != "seconds" and value != int(value):
            raise InputError(f"--budget {name} must be a whole number, got {limit!r}")
        limits[name] = value if name == "seconds" else int(value)
    return Budget(**limits)  # type: ignore[arg-type]  # whole numbers where they are due


def _number(text: str, pair: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:e[+-]?\d+)?)\s*([kmgt]?)\s*", text.replace("_", "").replace(",", ""), re.IGNORECASE)
    if found is None:
        raise InputError(f"--budget {pair}: the limit must be a positive number such as 500, 2k or 1.5e12")
    return float(found[1]) * _UNITS[found[2].lower()]
