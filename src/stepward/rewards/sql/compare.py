"""Comparing results of queries: as lists where the order is asked for, as multisets otherwise. Numbers may differ in the last digits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import permutations
from typing import Any

Row = tuple[Any, ...]
_MAX_PERMUTED = 5  # columns whose order is tried


def plain(cell: Any) -> Any:
    """A cell as null, number or text; 2 and 2.0 are the same, and so are numbers equal to 9 significant digits."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return int(cell)
    if isinstance(cell, Decimal | float):
        number = float(cell)
        if not math.isfinite(number):
            return str(number)
        rounded = float(f"{number:.9g}")
        return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded
    if isinstance(cell, int):
        return cell
    if isinstance(cell, date | datetime | time):
        return cell.isoformat()
    return cell.hex() if isinstance(cell, bytes) else str(cell)


def plain_rows(rows: Sequence[Row]) -> list[Row]:
    return [tuple(plain(cell) for cell in row) for row in rows]


def same_rows(mine: Sequence[Row], theirs: Sequence[Row]) -> bool:
    """Equal as multisets, the columns in their order."""
    return Counter(mine) == Counter(theirs)


def arrangement(mine: Sequence[Row], theirs: Sequence[Row]) -> tuple[int, ...] | None:
    """Columns of mine, in an order that makes the rows equal to theirs as multisets; mine may have more columns. None when there is none. Of many columns
    only the cells of each are compared, so that an order is not denied where there may be one.

    With no rows on either side nothing can be told: the first columns stand for the rest.
    """
    if not theirs or not mine:
        return tuple(range(len(theirs[0]) if theirs else 0)) if len(mine) == len(theirs) else None
    n_mine, n_theirs = len(mine[0]), len(theirs[0])
    if len(mine) != len(theirs) or n_mine < n_theirs:
        return None
    straight = tuple(range(n_theirs))
    if n_mine == n_theirs and same_rows(mine, theirs):
        return straight
    if n_mine > _MAX_PERMUTED:  # too many orders to try: whether each column is one of mine, of which several may hold the same
        cells = [Counter(row[place] for row in mine) for place in range(n_mine)]
        places = [cells.index(column) if (column := Counter(row[place] for row in theirs)) in cells else -1 for place in straight]
        return tuple(places) if -1 not in places else None
    wanted = Counter(theirs)
    return next((order for order in permutations(range(n_mine), n_theirs) if Counter(tuple(row[place] for place in order) for row in mine) == wanted), None)


def within(mine: Sequence[Row], theirs: Sequence[Row]) -> bool:
    """Whether every row of mine is one of theirs, counted."""
    return not Counter(mine) - Counter(theirs)


def key_places(order: Sequence[str], columns: Sequence[str]) -> tuple[int, ...] | None:
    """Where the ordering terms stand among the result's columns; None when one is no column of the result."""
    names = [column.lower() for column in columns]
    places: list[int] = []
    for term in order:
        name = term.strip('"`[]').rsplit(".", 1)[-1].strip('"`[]').lower()
        if term.isdigit() and 1 <= int(term) <= len(columns):
            places.append(int(term) - 1)
        elif names.count(name) == 1:
            places.append(names.index(name))
        elif names.count(term.lower()) == 1:
            places.append(names.index(term.lower()))
        else:
            return None
    return tuple(places)
