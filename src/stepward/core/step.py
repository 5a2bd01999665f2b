"""Step: one unit of a policy's work, and what the environment answered to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stepward.core.errors import InputError
from stepward.core.record import canonical_json, check_header, content_hash, freeze, header, record_kind, require, thaw


@record_kind("step")
@dataclass(frozen=True)
class Step:
    """`text` is what the policy wrote; `separator` the white space or marker that it ended the step with ("" at the end of a solution).

    `action` is the machine-readable part for an environment, `observation` what the environment answered: never scored or trained on
    as if the policy wrote it. `agent` names the author in a multi-agent system. `n_tokens` and `logprob` (natural log of the
    probability of the tokens written, under the sampling distribution's model) are measurements: they do not count in `key`.
    """

    text: str
    separator: str = ""
    action: Any = None
    observation: str | None = None
    agent: str = ""
    n_tokens: int | None = None
    logprob: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not isinstance(self.separator, str):
            raise InputError(f"Step.text and Step.separator must be strings, got {type(self.text).__name__} and {type(self.separator).__name__}")
        object.__setattr__(self, "action", freeze(self.action))

    @property
    def written(self) -> str:
        """All that the policy wrote: text and separator."""
        return self.text + self.separator

    @cached_property
    def key(self) -> str:
        """Hash of the content."""
        if self.action is None and self.observation is None and not self.agent:
            return content_hash("step", self.text, self.separator)
        return content_hash("step", self.text, self.separator, canonical_json([thaw(self.action), self.observation, self.agent]))

    def to_record(self) -> dict[str, Any]:
        return header("step") | {
            "text": self.text,
            "separator": self.separator,
            "action": thaw(self.action),
            "observation": self.observation,
            "agent": self.agent,
            "n_tokens": self.n_tokens,
            "logprob": self.logprob,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Step:
        check_header(record, "step")
        return cls(
            text=require(record, "text", str),
            separator=require(record, "separator", str),
            action=record.get("action"),
            observation=require(record, "observation", (str, type(None))),
            agent=require(record, "agent", str),
            n_tokens=require(record, "n_tokens", (int, type(None))),
            logprob=require(record, "logprob", (float, int, type(None))),
        )
