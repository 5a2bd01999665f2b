"""What vLLM's /pooling takes and answers for a process reward model, over any reward model of ours. Scoring and status codes live elsewhere."""

from __future__ import annotations

import math
import sys
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter

from stepward.core import Problem, StepScores, Trajectory
from stepward.core.record import nullable
from stepward.data.segment import segment
from stepward.serving.frames import FRAMES, split_conversation
from stepward.serving.limits import AtMost
from stepward.serving.refusal import Refusal
from stepward.serving.settings import ServeSettings

UNREADABLE = f"problem and solution cannot be told apart: the text is in no known chat template ({', '.join(FRAMES)}) and has no 'Step 1:'; send messages"
_LARGEST_ID = (1 << 31) - 1
VOCABULARY_KEYWORD = "x-stepward-vocabulary"


class Lenient(BaseModel):
    """No coercion; fields that are not known are passed over, as vLLM does."""

    model_config = ConfigDict(strict=True, extra="ignore")


class Message(Lenient):
    content: str


class SystemMessage(Message):
    role: Literal["system"]


class UserMessage(Message):
    role: Literal["user"]


class AssistantMessage(Message):
    role: Literal["assistant"]


class PoolingOptions(Lenient):
    """Fields of vLLM that change nothing here may be sent; those that would change the scores must be left out."""

    model: str | None = None
    task: Literal["token_classify", "encode", "reward"] | None = None
    encoding_format: Literal["float"] = "float"
    use_activation: bool | None = Field(
        default=None, description="false: natural logarithms of the two probabilities instead of these, which are logits up to a constant"
    )
    dimensions: None = None
    truncate_prompt_tokens: None = None
    step_tag: Annotated[str, Field(min_length=1)] | None = Field(default=None, description="what ends a step in the text; default: the server's")


def _integral(value: Any) -> Any:
    """249.0 is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


TokenId = Annotated[int, Field(ge=0, le=_LARGEST_ID, json_schema_extra={VOCABULARY_KEYWORD: True}), BeforeValidator(_integral)]
Ids = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]  # of a million wrong ids one is told


def _kind(value: Any) -> str | None:
    """Which of the forms of `input` this is."""
    if isinstance(value, str):
        return "<text>"
    if not isinstance(value, list):
        return None
    first = value[0] if value else ""
    return "<texts>" if isinstance(first, str) else "<id lists>" if isinstance(first, list) else "<ids>"


class PoolingInput(PoolingOptions):
    """`input`: one or many rendered conversations, as text or as token ids of the served model's tokenizer."""

    input: Annotated[
        Annotated[str, Tag("<text>")]
        | Annotated[list[str], Field(min_length=1), AtMost("max_items"), Tag("<texts>")]
        | Annotated[Ids, Tag("<ids>")]
        | Annotated[list[Ids], Field(min_length=1), AtMost("max_items"), Tag("<id lists>")],
        Discriminator(_kind, custom_error_type="input", custom_error_message="Input should be a text, a list of texts, token ids, or a list of token ids"),
    ]

    def conversations(self, tokenizer: Any) -> list[tuple[str, str] | None]:
        """(problem, solution) of every input; None where they cannot be told apart. Raises: Refusal 422 for ids without a tokenizer, or unknown ones."""
        if isinstance(self.input, str):
            return [split_conversation(self.input)]
        if isinstance(self.input[0], str):
            return [split_conversation(text) for text in self.input if isinstance(text, str)]
        lists: list[Any] = [self.input] if isinstance(self.input[0], int) else list(self.input)
        return [split_conversation(_decoded(ids, tokenizer)) for ids in lists]


def _length(value: Any) -> str | None:
    return f"<{len(value)}>" if isinstance(value, list | tuple) and len(value) in (2, 3) else None


class PoolingMessages(PoolingOptions):
    """`messages`: one problem by the user and its solution by the assistant. A system message is passed over: the model's own convention has its line."""

    messages: Annotated[
        Annotated[tuple[UserMessage, AssistantMessage], Tag("<2>"), Field(strict=False)]
        | Annotated[tuple[SystemMessage, UserMessage, AssistantMessage], Tag("<3>"), Field(strict=False)],
        Discriminator(
            _length, custom_error_type="messages", custom_error_message="Input should be a user's and an assistant's message, or a system's and these two"
        ),
    ]

    def conversations(self, _: Any) -> list[tuple[str, str] | None]:
        """(problem, solution), once."""
        return [(self.messages[-2].content, self.messages[-1].content)]


def _form(value: Any) -> str:
    return "<messages>" if isinstance(value, PoolingMessages) or (isinstance(value, dict) and "input" not in value and "messages" in value) else "<input>"


PoolingRequest = Annotated[Annotated[PoolingInput, Tag("<input>")] | Annotated[PoolingMessages, Tag("<messages>")], Discriminator(_form)]
POOLING_REQUEST: TypeAdapter[PoolingInput | PoolingMessages] = TypeAdapter(PoolingRequest)


class PoolingRow(BaseModel):
    """One input's rows: one a step tag, or a step where the text has no tag."""

    index: int
    object: Literal["pooling"]
    data: list[list[float | None]] = Field(description="[1 - p, p] a step for probabilities, [score] on every other scale; null where `reasons` says why")
    reasons: list[str | None] | None = Field(default=None, description="there when a row has no value")
    error: str | None = Field(default=None, description="there when the input as a whole could not be read")


class PoolingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    prompt_tokens_details: None = None


class PoolingAnswer(BaseModel):
    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[PoolingRow]
    usage: PoolingUsage


def solutions(request: PoolingInput | PoolingMessages, tokenizer: Any, settings: ServeSettings) -> list[Trajectory | None]:
    """A trajectory for every input; None where problem and solution cannot be told apart.

    Raises: Refusal 422 for token ids that cannot be decoded, and for too many steps.
    """
    tag = request.step_tag or settings.step_tag
    found: list[Trajectory | None] = []
    for index, parts in enumerate(request.conversations(tokenizer)):
        n_tags = 0 if parts is None else parts[1].count(tag)
        trajectory = None if parts is None or n_tags > settings.max_steps else _trajectory(*parts, tag)
        n_steps = n_tags or (0 if trajectory is None else len(trajectory))
        if n_steps > settings.max_steps:
            field = f"input.{index}" if isinstance(request, PoolingInput) else "messages"
            raise Refusal(422, f"{field}: {n_steps} steps are more than this server's max_steps of {settings.max_steps}", field=field)
        found.append(trajectory)
    return found


def pooled(index: int, scores: StepScores, *, activated: bool = True) -> dict[str, Any]:
    """A `PoolingRow` as JSON-like data."""
    values = nullable(scores.values)
    rows = [_two_classes(value, activated) for value in values] if scores.scale == "probability" else [[value] for value in values]
    row: dict[str, Any] = {"index": index, "object": "pooling", "data": rows}
    return row | {"reasons": list(scores.reasons)} if scores.n_unscored else row


def unreadable(index: int) -> dict[str, Any]:
    """The `PoolingRow` of an input that no solution could be found in."""
    return {"index": index, "object": "pooling", "data": [], "error": UNREADABLE}


def _trajectory(problem: str, solution: str, tag: str) -> Trajectory:
    """One step a tag, white space around it dropped; what follows the last tag is no step. Without a tag the solution is segmented."""
    if tag not in solution:
        return Trajectory(Problem(problem), segment(solution), finished=True)
    return Trajectory.from_texts(problem, [piece.strip() for piece in solution.split(tag)[:-1]])


def _two_classes(prob: float | None, activated: bool) -> list[float | None]:
    if prob is None:
        return [None, None]
    return [1.0 - prob, prob] if activated else [_log(1.0 - prob), _log(prob)]


def _log(prob: float) -> float:
    return math.log(max(prob, sys.float_info.min))  # JSON has no infinity


def _decoded(ids: list[int], tokenizer: Any) -> str:
    if tokenizer is None:
        raise Refusal(422, "input: the served model has no tokenizer, so token ids mean nothing to it; send text or messages", field="input")
    size = len(tokenizer)
    unknown = next((token for token in ids if token >= size), None)
    if unknown is not None:
        raise Refusal(422, f"input: token id {unknown} is not in the vocabulary of {size}; use the served model's tokenizer", field="input")
    text = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    bos = tokenizer.bos_token
    ours = ids[0] == tokenizer.bos_token_id and not bos.startswith(tuple(frame.opens for frame in FRAMES.values()))  # some begin a turn with it
    return text.removeprefix(bos) if ours else text
