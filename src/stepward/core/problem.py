"""Problem: what is asked, and what is known about the right answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stepward.core.errors import InputError
from stepward.core.record import FrozenDict, canonical_json, check_header, content_hash, freeze, header, record_kind, require, thaw


@record_kind("problem")
@dataclass(frozen=True, eq=True)
class Problem:
    """A task for a policy.

    `prompt` is the text that the policy reads. `answer` is the reference answer (None where unknown), `reference_steps` a reference
    solution, `environment` the specification of the environment that grades it (empty: the caller's). `images` are paths or URLs.
    `id` defaults to a hash of the content.
    """

    prompt: str
    answer: str | None = None
    reference_steps: tuple[str, ...] = ()
    environment: str = ""
    images: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=FrozenDict)
    id: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            raise InputError(f"Problem.prompt must be a string, got {type(self.prompt).__name__}")
        if self.answer is not None and not isinstance(self.answer, str):
            raise InputError(f"Problem.answer must be a string or None, got {self.answer!r}; write it as text, e.g. {str(self.answer)!r}")
        if isinstance(self.reference_steps, str) or isinstance(self.images, str):
            raise InputError("Problem.reference_steps and Problem.images are sequences of strings, not one string")
        object.__setattr__(self, "reference_steps", tuple(self.reference_steps))
        object.__setattr__(self, "images", tuple(self.images))
        object.__setattr__(self, "metadata", freeze(self.metadata))
        if not self.id:
            object.__setattr__(self, "id", self.key)

    @cached_property
    def key(self) -> str:
        """Hash of everything that defines the task; the id and metadata do not count."""
        return content_hash("problem", self.prompt, canonical_json([self.answer, self.reference_steps, self.environment, self.images]))

    def __hash__(self) -> int:
        return hash(self.key)

    def to_record(self) -> dict[str, Any]:
        return header("problem") | {
            "id": self.id,
            "prompt": self.prompt,
            "answer": self.answer,
            "reference_steps": list(self.reference_steps),
            "environment": self.environment,
            "images": list(self.images),
            "metadata": thaw(self.metadata),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Problem:
        check_header(record, "problem")
        return cls(
            prompt=require(record, "prompt", str),
            answer=require(record, "answer", (str, type(None))),
            reference_steps=tuple(require(record, "reference_steps", (list, tuple))),
            environment=require(record, "environment", str),
            images=tuple(require(record, "images", (list, tuple))),
            metadata=require(record, "metadata", Mapping),
            id=require(record, "id", str),
        )
