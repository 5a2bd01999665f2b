"""Example: a trajectory with its step labels, the row of every labelled data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepward.core.errors import CountMismatch
from stepward.core.labels import StepLabels
from stepward.core.record import FrozenDict, check_header, freeze, header, record_kind, require, thaw
from stepward.core.trajectory import Trajectory


@record_kind("example")
@dataclass(frozen=True)
class Example:
    """One labelled trajectory. `labels` is None when nothing is known about the steps; `source` names the data set or method."""

    trajectory: Trajectory
    labels: StepLabels | None = None
    id: str = ""
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=FrozenDict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", freeze(self.metadata))
        if not self.id:
            object.__setattr__(self, "id", self.trajectory.key)
        if self.labels is not None and len(self.labels) != len(self.trajectory):
            raise CountMismatch(f"example {self.id!r}: {len(self.trajectory)} steps but {len(self.labels)} labels")

    __hash__ = None  # type: ignore[assignment]

    def to_record(self) -> dict[str, Any]:
        return header("example") | {
            "id": self.id,
            "source": self.source,
            "trajectory": self.trajectory.to_record(),
            "labels": None if self.labels is None else self.labels.to_record(),
            "metadata": thaw(self.metadata),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Example:
        check_header(record, "example")
        labels = require(record, "labels", (Mapping, type(None)))
        return cls(
            trajectory=Trajectory.from_record(require(record, "trajectory", Mapping)),
            labels=None if labels is None else StepLabels.from_record(labels),
            id=require(record, "id", str),
            source=require(record, "source", str),
            metadata=require(record, "metadata", Mapping),
        )
