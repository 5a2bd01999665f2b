"""The OpenAPI page: request bodies, which the routes read themselves, and the limits that this server has."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field, TypeAdapter

from stepward.core import Granularity, Scale
from stepward.serving.desk import Desk
from stepward.serving.limits import with_limits
from stepward.serving.openrlhf import RewardRequest
from stepward.serving.pooling import POOLING_REQUEST, VOCABULARY_KEYWORD
from stepward.serving.schemas import SCORE_REQUEST
from stepward.serving.settings import ServeSettings

_BODIES: dict[str, TypeAdapter[Any]] = {"/v1/score": SCORE_REQUEST, "/pooling": POOLING_REQUEST, "/get_reward": TypeAdapter(RewardRequest)}
_REF = "#/components/schemas/{model}"
_ABOUT = """Step scores from a process reward model. What cannot be scored is null with a reason, never a zero.

Limits of this server: {max_body_bytes} bytes a request, {max_items} solutions a request, {max_steps} steps a solution, {max_queue} solutions in the queue,
{request_timeout_s:g} seconds a request."""


class Detail(BaseModel):
    field: str
    reason: str


class ErrorObject(BaseModel):
    message: str
    type: str
    param: str | None = Field(description="the dotted path of the field that is wrong")
    code: int
    details: list[Detail]


class ErrorAnswer(BaseModel):
    """Every answer but 200, in OpenAI's and vLLM's shape."""

    error: ErrorObject


class StatusAnswer(BaseModel):
    status: Literal["ok", "loading", "ready", "draining", "failed"]


class ModelEntry(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    fingerprint: str = Field(description="names weights, tokenizer and convention: equal fingerprints mean equal scores")
    scale: Scale
    granularity: Granularity
    aggregation: str
    limits: dict[str, int] = Field(description="what one request may bring")


class ModelsAnswer(BaseModel):
    object: Literal["list"]
    data: list[ModelEntry]


def describe(app: FastAPI, settings: ServeSettings, desk: Desk) -> dict[str, Any]:
    """The OpenAPI document of this server."""
    document = get_openapi(title=app.title, version=app.version, description=_ABOUT.format(**vars(settings)), routes=app.routes)
    vocabulary = _vocabulary(desk)
    for path, adapter in _BODIES.items():
        schema = _plain(with_limits(adapter.json_schema(ref_template=_REF), settings), vocabulary)
        document["components"]["schemas"] |= schema.pop("$defs", {})
        document["paths"][path]["post"]["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return document


def _vocabulary(desk: Desk) -> int | None:
    """How many tokens the served model knows, 0 where it has no tokenizer; None while it is not loaded."""
    if desk.state != "ready":
        return None
    tokenizer = getattr(desk.model, "tokenizer", None)
    return 0 if tokenizer is None else len(tokenizer)


def _plain(schema: Any, vocabulary: int | None) -> Any:
    """The schema with the largest token id where ids stand, and without the forms that have ids where the model knows none."""
    if isinstance(schema, list):
        return [_plain(item, vocabulary) for item in schema if vocabulary != 0 or not _takes_ids(item)]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plain(value, vocabulary) for key, value in schema.items() if key != VOCABULARY_KEYWORD}
    return plain | {"maximum": vocabulary - 1} if VOCABULARY_KEYWORD in schema and vocabulary else plain


def _takes_ids(schema: Any) -> bool:
    """An array of token ids, or of such arrays."""
    while isinstance(schema, dict) and schema.get("type") == "array":
        schema = schema.get("items")
    return isinstance(schema, dict) and VOCABULARY_KEYWORD in schema
