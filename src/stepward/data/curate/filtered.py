"""Filtered: what a filter kept, and what it did with the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepward.core import Example


@dataclass(frozen=True)
class Filtered:
    """`kept` examples in their old order; `name` and `settings` of the filter; `counts` of what happened, for the data card."""

    kept: list[Example]
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """Name, settings and counts; the examples themselves are elsewhere."""
        return {"filter": self.name, "settings": dict(self.settings), "counts": dict(self.counts)}
