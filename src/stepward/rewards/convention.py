"""Convention: how a step-scoring model is read, as data that travels with the model. Rendering, loading and arithmetic live elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from stepward.core import AGGREGATIONS, FormatError, InputError, Scale

CONFIG_KEY = "stepward"  # where a model folder's config.json carries its convention
CONVENTION_VERSION = 2
EXAMPLE_ENTRY = '"stepward": {"version": 2, "template": "raw", "marker": "\\n", "good": 1}'

Template = Literal["raw", "chat", "turns"]
Opening = Literal["turn", "generation"]
Tokenisation = Literal["joint", "separate"]
ReadPosition = Literal["marker", "before-marker", "step-end", "before-step-end", "header-end", "prefix-end", "eos"]
HeadKind = Literal["two-class", "three-class", "value", "tokens", "log-ratio"]
Activation = Literal["softmax", "sigmoid", "margin", "none"]
Mode = Literal["accumulated", "difference"]
AfterError = Literal["continue", "stop"]
LastStep = Literal["marker", "turn-end"]
TokenForm = Literal["piece", "first-of-text"]
Strip = Literal["nothing", "steps", "all"]
_CHOICES = {
    "template": Template, "opening": Opening, "tokenisation": Tokenisation, "read": ReadPosition, "head": HeadKind, "activation": Activation,
    "mode": Mode, "after_error": AfterError, "last": LastStep, "token_form": TokenForm,
    "strip": Strip,
}  # fmt: skip
_N_CLASSES = {"two-class": 2, "three-class": 3}
_ON_PROBABILITIES = ("product", "geometric", "mean_logit")
_VERSION_1 = (
    "name", "template", "system", "prompt_end", "marker", "tokenisation", "read", "head", "good", "activation", "threshold", "aggregation", "max_tokens",
    "bos",
)  # fmt: skip


@dataclass(frozen=True)
class Aspect:
    """Another value of each step from the same head: the summed probability of `classes`; from `threshold` on the step has the property."""

    name: str
    classes: tuple[int, ...]
    threshold: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if not isinstance(self.name, str) or not isinstance(self.threshold, (int, float)):
            raise InputError(f"an aspect has a name, classes and a threshold that is a number, got {self!r}")


@dataclass(frozen=True, kw_only=True)
class Convention:
    """Everything that turns a trajectory into token ids and a model's output into step scores.

    **What the model reads.** Texts are written with `{problem}`, `{step}` and `{index}` (from 1) put in; all other braces stand for themselves.
    `template` "raw": `prompt step_0 marker between step_1 marker ...`, where `prompt` has `{problem}` and each step is written as `step` says. "chat": the
    tokenizer's chat template with the `system` line, if any, and `prompt` as the user's turn; the steps, written as in "raw", are the
    assistant's turn, which opens like a turn of a finished conversation (`opening` "turn") or with the template's generation prompt ("generation"). Where
    `prompt` has `{solution}`, the steps stand there, inside the user's turn. "turns": one user turn a step, the first written as
    `first_turn` (with `{problem}` and `{step}`), and after each the assistant's turn `verdict`, always the same.
    A step that numbers itself is not numbered twice: with `step` = "Step {index}: {step}", a text that begins with "Step 3:" (any number) stays as it is.
    `strip`: white space is dropped around a step's text ("steps"), or around the problem's too ("all"); `one_line`: line breaks within a step become spaces.
    A step's own separator is never written. Where `last` is "turn-end", the last step of a finished trajectory is followed by the token that ends the
    assistant's turn instead of the marker, and read there.

    **Which tokens.** `tokenisation` "separate": prompt, each step, each marker and each `between` become ids one by one and are joined. "joint": they are
    one text, tokenised together from one read position to the next, so that what is read never depends on what follows; special tokens of the template
    and of the convention's own texts cut it too (and with `read` "eos" the solution begins a text of its own). In both, special and added tokens that are
    spelled in the problem or in a step are plain text. `bos`: how many BOS tokens the ids begin with, where the tokenizer has one (those that a chat
    template writes count).

    **Where.** `read`: at the last token of the "marker"; at the token "before-marker"; at the last token of the step ("step-end") or the one before it
    ("before-step-end"); in turns, at the last token of the header that opens the assistant's turn ("header-end"). Models that score whole texts get one
    sequence a step, the text that ends there: they are read at its last token ("prefix-end"), or at an end-of-text token behind the marker ("eos").

    **What.** `head` gives K numbers z: "two-class" and "three-class" a classifier's logits; "tokens" the language model's logits of the K vocabulary
    pieces in `tokens` (with `token_form` "first-of-text": of the first piece that each of these texts is tokenised into); "value" one number;
    "log-ratio" sums of log p(token) - log p_ref(token), times `beta`, over all tokens of the solution so far (`mode` "accumulated") or of the step
    ("difference").
    score = `activation`(z / `temperature`): "softmax" the probability of the class or classes `good`; "margin" that of the class `good` minus that of the
    other one; "sigmoid" of a value or of a sum of log-ratios; "none" the number itself. `aspects` name other sums of class probabilities.
    `threshold`: below it a step counts as wrong. `aggregation`: the number for a trajectory that the model was made for. `max_tokens`: context limit;
    steps beyond it are unscored. `after_error` "stop": steps after the first wrong one are not judged.

    Raises: InputError for a value or a combination that cannot be read, with the remedy.
    """

    name: str = "stepward"
    template: Template = "raw"
    system: str = ""
    prompt: str = ""  # default: "{problem}\n" in a raw template, "{problem}" in a chat
    step: str = "{step}"
    marker: str = "\n"
    between: str = ""
    first_turn: str = ""
    verdict: str = ""
    opening: Opening = "turn"
    last: LastStep = "marker"
    strip: Strip = "nothing"
    one_line: bool = False
    tokenisation: Tokenisation = "separate"
    bos: int = 1
    read: ReadPosition = "marker"
    head: HeadKind = "two-class"
    good: int | tuple[int, ...] = 1
    tokens: tuple[str, ...] = ()
    token_form: TokenForm = "piece"
    activation: Activation = "softmax"
    temperature: float = 1.0
    beta: float = 1.0
    mode: Mode = "accumulated"
    aspects: tuple[Aspect, ...] = ()
    threshold: float = 0.5
    aggregation: str = "min"
    max_tokens: int = 4096
    after_error: AfterError = "continue"

    def __post_init__(self) -> None:
        self._check_types()
        if not self.prompt and self.template != "turns":
            object.__setattr__(self, "prompt", "{problem}\n" if self.template == "raw" else "{problem}")
        if not isinstance(self.good, int):
            object.__setattr__(self, "good", self.good[0] if len(self.good) == 1 else tuple(self.good))
        object.__setattr__(self, "tokens", tuple(self.tokens))
        object.__setattr__(self, "aspects", tuple(self.aspects))
        object.__setattr__(self, "bos", int(self.bos))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise InputError(f"Convention.{name} must be one of {', '.join(get_args(choices))}, got {getattr(self, name)!r}")
        self._check_texts()
        self._check_reading()
        self._check_numbers()

    @property
    def good_classes(self) -> tuple[int, ...]:
        """`good` as a tuple."""
        return (self.good,) if isinstance(self.good, int) else self.good

    @property
    def n_outputs(self) -> int:
        """K, how many numbers the head gives at a position."""
        return _N_CLASSES.get(self.head, len(self.tokens) or 1)

    @property
    def scale(self) -> Scale:
        """What the scores are: probabilities, differences of probabilities in [-1, 1] ("advantage"), raw values ("logit") or log-ratios."""
        if self.head == "log-ratio" and self.activation == "none":
            return "logratio"
        scales: dict[str, Scale] = {"softmax": "probability", "sigmoid": "probability", "margin": "advantage", "none": "logit"}
        return scales[self.activation]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        record = {"version": CONVENTION_VERSION, **asdict(self)}
        record["good"] = self.good if isinstance(self.good, int) else list(self.good)
        record["tokens"] = list(self.tokens)
        record["aspects"] = [{"name": aspect.name, "classes": list(aspect.classes), "threshold": aspect.threshold} for aspect in self.aspects]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Convention:
        """Read back what `to_json` wrote, now or in version 1; absent fields take their defaults.

        Raises: FormatError for an unknown field, no version or a newer one, which this stepward would misread.
        """
        version = record.get("version") if isinstance(record, Mapping) else None
        if version is None:
            raise FormatError(f"the entry {CONFIG_KEY!r} of config.json is not a scoring convention (it has no version); write {EXAMPLE_ENTRY}")
        if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= CONVENTION_VERSION:
            raise FormatError(f"convention version {version!r} is not readable here (this stepward reads 1 to {CONVENTION_VERSION}); upgrade stepward")
        given = {key: value for key, value in record.items() if key != "version"}
        unknown = sorted(set(given) - set(_VERSION_1 if version == 1 else (field.name for field in fields(cls))))
        if unknown:
            raise FormatError(f"unknown convention fields {', '.join(unknown)}; upgrade stepward", field=CONFIG_KEY)
        if version == 1:
            return cls(**_upgraded(given))
        if "aspects" in given:
            try:
                given["aspects"] = tuple(Aspect(**aspect) for aspect in given["aspects"])
            except TypeError as error:
                raise FormatError(f"an aspect is an object with name, classes and threshold, got {given['aspects']!r}", field=CONFIG_KEY) from error
        return cls(**given)

    def _check_types(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            kinds: Any = {str: str, int: int, float: (int, float), bool: bool, tuple: (tuple, list)}[type(item.default)]
            if item.name == "good":
                kinds = (int, tuple, list)
            if not isinstance(value, kinds) or (isinstance(value, bool) and item.name not in ("one_line", "bos")):
                raise InputError(f"Convention.{item.name} cannot be {value!r}; its default is {item.default!r}")
        if not all(isinstance(piece, str) for piece in self.tokens):
            raise InputError(f"Convention.tokens must be texts, got {self.tokens!r}")

    def _check_texts(self) -> None:
        turns = self.template == "turns"
        if self.system and self.template == "raw":
            raise InputError("Convention.system needs template='chat' or 'turns'; a raw template has no system line")
        if turns:
            _check_placeholders("first_turn", self.first_turn, must=("{problem}", "{step}"))
            if self.prompt:
                raise InputError(f"Convention.prompt is not used with template='turns'; write {self.prompt!r} into first_turn")
            if not self.verdict:
                raise InputError("Convention.verdict must not be empty with template='turns': it is the assistant's turn after every step")
            if self.tokenisation != "joint":
                raise InputError("Convention.template='turns' needs tokenisation='joint'")
        else:
            _check_placeholders("prompt", self.prompt, must=("{problem}",), may=("{solution}",) if self.template == "chat" else ())
            for name in ("first_turn", "verdict"):
                if getattr(self, name):
                    raise InputError(f"Convention.{name} needs template='turns', got template={self.template!r}")
            if "{solution}" in self.prompt and self.prompt.index("{solution}") < self.prompt.index("{problem}"):
                raise InputError("Convention.prompt must have {problem} before {solution}: a model reads from left to right")
        _check_placeholders("step", self.step, must=("{step}",), may=("{index}",))
        if "{index}" in self.step and self.step.index("{index}") > self.step.index("{step}"):
            raise InputError(f"Convention.step must have {{index}} before {{step}}, got {self.step!r}")
        if self.last == "turn-end" and (self.template != "chat" or "{solution}" in self.prompt or self.read != "marker"):
            raise InputError("Convention.last='turn-end' needs template='chat' with the steps in the assistant's turn, and read='marker'")

    def _check_reading(self) -> None:
        if (self.read == "header-end") != (self.template == "turns"):
            raise InputError(f"Convention.read='header-end' and template='turns' go together, got read={self.read!r} with template={self.template!r}")
        if self.read == "prefix-end" and self.marker:
            raise InputError(f"Convention.read='prefix-end' reads the end of a text, and a marker would not be it; leave it empty, got {self.marker!r}")
        if self.read in ("marker", "before-marker") and not self.marker:
            raise InputError(f"Convention.marker must not be empty with read={self.read!r}; use read='step-end' for steps without a marker")
        n_classes = _N_CLASSES.get(self.head)
        if self.head == "tokens":
            n_classes = len(self.tokens)
            if n_classes < 2 or len(set(self.tokens)) < n_classes or not all(self.tokens):
                raise InputError(f"Convention.head='tokens' needs two or more different vocabulary pieces in tokens, got {self.tokens!r}")
        elif self.tokens:
            raise InputError(f"Convention.tokens needs head='tokens', got head={self.head!r}")
        if self.token_form != "piece" and self.head != "tokens":
            raise InputError(f"Convention.token_form needs head='tokens', got head={self.head!r}")
        allowed = {"value": ("sigmoid", "none"), "log-ratio": ("none", "sigmoid"), "three-class": ("softmax",)}.get(self.head, ("softmax", "margin"))
        if self.activation not in allowed or (self.activation == "margin" and n_classes != 2):
            raise InputError(f"Convention.head={self.head!r} takes activation {' or '.join(allowed)}, got {self.activation!r}" + _margin_note(self.activation))
        if n_classes is None:
            if self.good != 1 or self.aspects:
                raise InputError(f"Convention.good and aspects name classes, and head={self.head!r} has none; leave them out")
            return
        _check_classes("good", self.good_classes, n_classes)
        if self.activation == "margin" and len(self.good_classes) != 1:
            raise InputError(f"Convention.activation='margin' needs one good class, got {self.good!r}")
        for aspect in self.aspects:
            if not isinstance(aspect, Aspect):
                raise InputError(f"Convention.aspects must be Aspect(name, classes, threshold) objects, got {aspect!r}")
            _check_classes(f"aspects {aspect.name!r}", aspect.classes, n_classes)

    def _check_numbers(self) -> None:
        low, high = {"probability": (0.0, 1.0), "advantage": (-1.0, 1.0)}.get(self.scale, (-math.inf, math.inf))
        if not low <= self.threshold <= high or not math.isfinite(self.threshold):
            raise InputError(f"Convention.threshold must lie in [{low:g}, {high:g}], got {self.threshold!r}")
        if self.aggregation not in AGGREGATIONS:
            raise InputError(f"Convention.aggregation must be one of {', '.join(AGGREGATIONS)}, got {self.aggregation!r}")
        if self.aggregation in _ON_PROBABILITIES and self.scale != "probability":
            raise InputError(f"Convention.aggregation {self.aggregation!r} needs probabilities, and these scores are of scale {self.scale!r}; use min or mean")
        if not isinstance(self.max_tokens, int) or self.max_tokens < 1:
            raise InputError(f"Convention.max_tokens must be at least 1, got {self.max_tokens!r}")
        if self.bos not in (0, 1, 2):
            raise InputError(f"Convention.bos is the number of BOS tokens that the ids begin with, 0, 1 or 2, got {self.bos!r}")
        if not self.temperature > 0.0 or not math.isfinite(self.temperature):
            raise InputError(f"Convention.temperature must be positive and finite, got {self.temperature!r}")
        if self.activation == "none" and self.temperature != 1.0:
            raise InputError(f"Convention.temperature divides logits, and activation='none' has none; leave it 1, got {self.temperature!r}")
        if self.head != "log-ratio" and (self.beta != 1.0 or self.mode != "accumulated"):
            raise InputError(f"Convention.beta and mode need head='log-ratio', got head={self.head!r}")
        if not self.beta > 0.0 or not math.isfinite(self.beta):
            raise InputError(f"Convention.beta must be positive and finite, got {self.beta!r}")


def _check_placeholders(name: str, text: str, *, must: tuple[str, ...], may: tuple[str, ...] = ()) -> None:
    for placeholder in ("{problem}", "{step}", "{index}", "{solution}"):
        count = text.count(placeholder)
        if placeholder in must and count != 1:
            raise InputError(f"Convention.{name} must have {placeholder} once, got {text!r}")
        if placeholder in may and count > 1:
            raise InputError(f"Convention.{name} can have {placeholder} once, got {text!r}")
        if count and placeholder not in (*must, *may):
            raise InputError(f"Convention.{name} cannot have {placeholder}, got {text!r}")


def _check_classes(name: str, classes: tuple[int, ...], n_classes: int) -> None:
    plain = all(isinstance(index, int) and not isinstance(index, bool) and 0 <= index < n_classes for index in classes)
    if not plain or not classes or len(set(classes)) < len(classes) or len(classes) == n_classes:
        raise InputError(f"Convention.{name} must name some, but not all, of the classes 0 to {n_classes - 1}, got {classes!r}")


def _margin_note(activation: str) -> str:
    return "; a margin is between two classes" if activation == "margin" else ""


def _upgraded(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of version 1 as those of version 2: the prompt's end was a field of its own, and the assistant's turn opened with the generation prompt."""
    fresh = {key: value for key, value in given.items() if key != "prompt_end"}
    if given.get("template", "raw") == "raw":
        return {**fresh, "prompt": "{problem}" + given.get("prompt_end", "\n")}
    return {**fresh, "opening": "generation"}
