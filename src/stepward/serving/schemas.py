"""What /v1/score takes and answers. Reading bytes, scoring and status codes live elsewhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter

from stepward.core import InputError, Problem, Scale, Step, StepScores, Trajectory, Usage, aggregate
from stepward.core.record import nullable, thaw
from stepward.data.segment import Rule, segment
from stepward.serving.limits import AtMost
from stepward.serving.settings import ServeSettings

AggregationName = Literal["last", "min", "max", "mean", "product", "geometric", "softmin", "mean_logit"]
_SEPARATOR = "\n\n"


class Strict(BaseModel):
    """No coercion, no unknown fields: a typing mistake is an answer 422, never a score of something else."""

    model_config = ConfigDict(strict=True, extra="forbid")


class ProblemObject(Strict):
    """A problem with more than its prompt. Models that judge against a reference use `answer` and `reference_steps`. Images are not taken."""

    prompt: str
    answer: str | None = None
    reference_steps: Annotated[list[str], AtMost("max_steps")] = []
    environment: str = ""
    metadata: dict[str, Any] = {}
    id: str = ""

    def to_problem(self) -> Problem:
        return Problem(
            self.prompt,
            answer=self.answer,
            reference_steps=tuple(self.reference_steps),
            environment=self.environment,
            metadata=self.metadata,
            id=self.id,
        )


class StepObject(Strict):
    """A step with more than its text. `separator`: what ended it, by default a blank line, and nothing after the last step."""

    text: str
    separator: str | None = None
    observation: str | None = None
    agent: str = ""
    action: Any = None


def _text_or_object(value: Any) -> str | None:
    return "<text>" if isinstance(value, str) else "<object>" if isinstance(value, dict | BaseModel) else None


def _form(value: Any) -> str | None:
    """Which of the alternatives an object means."""
    if isinstance(value, dict):
        return next((f"<{name}>" for name in ("items", "text") if name in value), "<steps>")
    return None


TEXT_OR_OBJECT = Discriminator(_text_or_object, custom_error_type="text_or_object", custom_error_message="Input should be a text or an object")
FORM = Discriminator(_form, custom_error_type="form", custom_error_message="Input should be an object with a problem and its steps or text")


class Item(Strict):
    """What every form of a solution has. `ending`: whether the policy ended it, a limit cut it off, or it is still being written."""

    problem: Annotated[Annotated[str, Tag("<text>")] | Annotated[ProblemObject, Tag("<object>")], TEXT_OR_OBJECT]
    ending: Literal["finished", "truncated", "open"] = "finished"

    def trajectory(self) -> Trajectory:
        """The solution, segmented where it came as one text."""
        problem = self.problem.to_problem() if isinstance(self.problem, ProblemObject) else Problem(self.problem)
        return Trajectory(problem, self._steps(), finished=self.ending == "finished", truncated=self.ending == "truncated")

    def _steps(self) -> tuple[Step, ...]:
        raise NotImplementedError


class StepsItem(Item):
    """A solution as a list of steps."""

    steps: Annotated[
        list[Annotated[Annotated[str, Tag("<text>")] | Annotated[StepObject, Tag("<object>")], TEXT_OR_OBJECT]],
        Field(fail_fast=True),  # one mistake a solution is told: a list of them would cost more than the request
        AtMost("max_steps"),
    ]

    def _steps(self) -> tuple[Step, ...]:
        last = len(self.steps) - 1
        return tuple(_step(step, _SEPARATOR if index < last else "") for index, step in enumerate(self.steps))


class TextItem(Item):
    """A solution as one text, which the server splits into steps by `segmentation`; the answer tells them."""

    text: str
    segmentation: Rule = "auto"

    def _steps(self) -> tuple[Step, ...]:
        return segment(self.text, self.segmentation)


class Options(Strict):
    """`aggregation`: the one number for a solution; default: the server's."""

    aggregation: AggregationName | None = None


AnyItem = Annotated[Annotated[StepsItem, Tag("<steps>")] | Annotated[TextItem, Tag("<text>")], FORM]


class OneStepsItem(StepsItem, Options):
    """One solution as a list of steps."""

    @property
    def asked(self) -> list[StepsItem | TextItem]:
        return [self]


class OneTextItem(TextItem, Options):
    """One solution as a text."""

    @property
    def asked(self) -> list[StepsItem | TextItem]:
        return [self]


class ManyItems(Options):
    """Many solutions, of one problem or of several."""

    items: Annotated[list[AnyItem], AtMost("max_items")]

    @property
    def asked(self) -> list[StepsItem | TextItem]:
        return list(self.items)


ScoreRequest = Annotated[Annotated[OneStepsItem, Tag("<steps>")] | Annotated[OneTextItem, Tag("<text>")] | Annotated[ManyItems, Tag("<items>")], FORM]
SCORE_REQUEST: TypeAdapter[OneStepsItem | OneTextItem | ManyItems] = TypeAdapter(ScoreRequest)


class UsageReport(BaseModel):
    """Compute in tokens, calls and FLOPs."""

    reward_tokens: int = Field(description="tokens that went through the model")
    reward_cached: int = Field(description="tokens that a cache or another request of the batch spared")
    reward_written: int = Field(description="tokens that a generative model wrote")
    policy_tokens: int
    policy_prefill: int
    policy_cached: int
    calls: int
    flops: int


class ItemScores(BaseModel):
    """Scores of one solution, one value a step; null exactly where `reasons` says why."""

    scores: list[float | None]
    reasons: list[str | None] = Field(description='why a step has no score; begins with "abstained" where the model looked and would not judge')
    rationales: list[str | None]
    aspects: dict[str, list[float | None]] = Field(description="other values of each step by name")
    first_error: int | None = Field(description="index of the first step below the threshold, -1 for none, null where a step without a score hides it")
    aggregate: float | None = Field(description="one number for the solution, abstentions left out; null where a step could not be scored")
    threshold: float
    scale: Scale
    source: dict[str, Any]
    usage: UsageReport = Field(description="what the result costs when it is computed alone")
    paid: UsageReport = Field(description="what it cost this server, with what caches and the batch spared")
    steps: list[str] | None = Field(default=None, description="the steps that a raw text was split into")


class ModelReport(BaseModel):
    name: str
    fingerprint: str


class ScoreAnswer(BaseModel):
    model: ModelReport
    aggregation: AggregationName
    results: list[ItemScores] = Field(description="one for each item, in order")


def item_scores(scores: StepScores, *, aggregation: str, usage: Usage, paid: Usage, steps: tuple[Step, ...] | None) -> dict[str, Any]:
    """An `ItemScores` object as JSON-like data."""
    overall = scores.overall(aggregation)
    report: dict[str, Any] = {
        "scores": nullable(scores.values),
        "reasons": list(scores.reasons),
        "rationales": list(scores.rationales),
        "aspects": {name: nullable(values) for name, values in scores.aspects.items()},
        "first_error": scores.first_error(),
        "aggregate": None if overall != overall else overall,
        "threshold": float(scores.threshold),
        "scale": scores.scale,
        "source": thaw(scores.source),
        "usage": usage_report(usage),
        "paid": usage_report(paid),
    }
    return report if steps is None else report | {"steps": [step.text for step in steps]}


def usage_report(usage: Usage) -> dict[str, int]:
    """A `UsageReport` as JSON-like data."""
    return {name: value for name, value in usage.to_record().items() if name != "wall_s"}


def check_aggregates(aggregation: str, scale: Scale) -> None:
    """Refuse an aggregation that needs probabilities for a model whose scores are none. Raises: InputError."""
    if scale != "probability":
        try:
            aggregate([-1.0, 2.0], aggregation)
        except InputError as error:
            raise InputError(
                f"aggregation {aggregation!r} needs probabilities, and this model's scores are of scale {scale!r}; use min, mean or last"
            ) from error


def read_request(value: Any, settings: ServeSettings) -> OneStepsItem | OneTextItem | ManyItems:
    """The request, checked against the settings' limits. Raises: pydantic.ValidationError."""
    return SCORE_REQUEST.validate_python(value, context=settings)


def _step(given: str | StepObject, separator: str) -> Step:
    if isinstance(given, str):
        return Step(given, separator)
    return Step(
        given.text,
        separator if given.separator is None else given.separator,
        action=given.action,
        observation=given.observation,
        agent=given.agent,
    )
