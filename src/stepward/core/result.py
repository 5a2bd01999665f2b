"""SearchResult: what a search chose, the tree that it chose from, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepward.core.record import FrozenDict, check_header, freeze, header, record_kind, require, thaw
from stepward.core.trajectory import Trajectory
from stepward.core.tree import Tree
from stepward.core.usage import NO_USAGE, Usage


@record_kind("search_result")
@dataclass(frozen=True, eq=False)
class SearchResult:
    """`chosen` is None, with a `reason`, when nothing could be chosen; it is then unscored, not wrong. `source` describes the search.

    `usage` is what the search cost with every request computed alone; `paid` what this run really spent on it: nothing for what a journal had, and less
    where caches or other requests had computed a prefix. `paid` belongs to the run and not to the result, so it is not written in records.
    """

    chosen: Trajectory | None
    tree: Tree
    usage: Usage = NO_USAGE
    reason: str | None = None
    source: Mapping[str, Any] = field(default_factory=FrozenDict)
    paid: Usage = NO_USAGE

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", freeze(self.source))
        if (self.chosen is None) != bool(self.reason):
            raise ValueError("a SearchResult has either a chosen trajectory or a reason why there is none")

    def to_record(self) -> dict[str, Any]:
        return header("search_result") | {
            "chosen": None if self.chosen is None else self.chosen.to_record(),
            "tree": self.tree.to_record(),
            "usage": self.usage.to_record(),
            "reason": self.reason,
            "source": thaw(self.source),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SearchResult:
        check_header(record, "search_result")
        chosen = require(record, "chosen", (Mapping, type(None)))
        return cls(
            chosen=None if chosen is None else Trajectory.from_record(chosen),
            tree=Tree.from_record(require(record, "tree", Mapping)),
            usage=Usage.from_record(require(record, "usage", Mapping)),
            reason=require(record, "reason", (str, type(None))),
            source=require(record, "source", Mapping),
        )
