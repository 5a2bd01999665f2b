"""Convention: how a step classifier is read, as data that travels with the model. Rendering and loading live elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from stepward.core import AGGREGATIONS, FormatError, InputError

CONFIG_KEY = "stepward"  # where a model folder's config.json carries its convention
CONVENTION_VERSION = 1
EXAMPLE_ENTRY = '"stepward": {"version": 1, "template": "raw", "marker": "\\n", "good": 1}'

Template = Literal["raw", "chat"]
Tokenisation = Literal["separate"]
ReadPosition = Literal["marker"]
HeadKind = Literal["two-class"]
Activation = Literal["softmax"]
_CHOICES = {"template": Template, "tokenisation": Tokenisation, "read": ReadPosition, "head": HeadKind, "activation": Activation}


@dataclass(frozen=True, kw_only=True)
class Convention:
    """Everything that turns a trajectory into token ids and a model's output into step scores.

    The reader's input is `[BOS] problem step_0 marker step_1 marker ...`. `template` "raw" writes the problem as prompt + `prompt_end`;
    "chat" renders it (after the `system` line, if any) as the user turn of the tokenizer's chat template, and the steps open the assistant turn.
    `marker` follows every step, in place of the step's own separator. `tokenisation` "separate": prompt, steps and markers become ids one by one and
    the ids are joined, so that no token spans two of them. `read` "marker": the score of a step is read at the last token of its marker.
    `head` "two-class" with `activation` "softmax": score = softmax(logits)[`good`]. `threshold`: below it a step counts as wrong.
    `aggregation`: the number for a trajectory that the model was made for. `max_tokens`: context limit. `bos`: begin with the tokenizer's
    BOS, where it has one.

    Raises: InputError for a value that this version cannot read.
    """

    name: str = "stepward"
    template: Template = "raw"
    system: str = ""
    prompt_end: str = "\n"
    marker: str = "\n"
    tokenisation: Tokenisation = "separate"
    read: ReadPosition = "marker"
    head: HeadKind = "two-class"
    good: int = 1
    activation: Activation = "softmax"
    threshold: float = 0.5
    aggregation: str = "min"
    max_tokens: int = 4096
    bos: bool = True

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise InputError(f"Convention.{name} must be one of {', '.join(get_args(choices))}, got {getattr(self, name)!r}")
        if not self.marker:
            raise InputError("Convention.marker must not be empty: the score of a step is read at its last token")
        if self.good not in (0, 1):
            raise InputError(f"Convention.good must be 0 or 1, the index of the class 'good', got {self.good!r}")
        if not 0.0 <= self.threshold <= 1.0:
            raise InputError(f"Convention.threshold must lie in [0, 1], got {self.threshold!r}")
        if self.aggregation not in AGGREGATIONS:
            raise InputError(f"Convention.aggregation must be one of {', '.join(AGGREGATIONS)}, got {self.aggregation!r}")
        if self.max_tokens < 1:
            raise InputError(f"Convention.max_tokens must be at least 1, got {self.max_tokens!r}")
        if self.system and self.template == "raw":
            raise InputError("Convention.system needs template='chat'; a raw template has no system line")

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {"version": CONVENTION_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Convention:
        """Read back what `to_json` wrote; absent fields take their defaults.

        Raises: FormatError for an unknown field, no version or a newer one, which this stepward would misread.
        """
        version = record.get("version")
        if version is None:
            raise FormatError(f"the entry {CONFIG_KEY!r} of config.json is not a scoring convention (it has no version); write {EXAMPLE_ENTRY}")
        if not isinstance(version, int) or not 1 <= version <= CONVENTION_VERSION:
            raise FormatError(f"convention version {version!r} is not readable here (this stepward reads 1 to {CONVENTION_VERSION}); upgrade stepward")
        given = {key: value for key, value in record.items() if key != "version"}
        unknown = sorted(set(given) - {field.name for field in fields(cls)})
        if unknown:
            raise FormatError(f"unknown convention fields {', '.join(unknown)}; upgrade stepward", field=CONFIG_KEY)
        return cls(**given)
