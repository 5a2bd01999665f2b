"""AtMost: a list's length limit that belongs to the server's settings, enforced by validation and shown on the OpenAPI page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from stepward.serving.settings import ServeSettings

_KEYWORD = "x-stepward-limit"


@dataclass(frozen=True)
class AtMost:
    """`Annotated[list[T], AtMost("max_steps")]`: a longer list is refused before its elements are looked at. The settings are the validation's context."""

    limit: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), _KEYWORD: self.limit}

    def _check(self, value: Any, info: ValidationInfo) -> Any:
        settings = info.context
        if isinstance(value, list) and isinstance(settings, ServeSettings) and len(value) > (most := getattr(settings, self.limit)):
            raise PydanticCustomError("too_long", "{n} are more than this server's {limit} of {most}", {"n": len(value), "limit": self.limit, "most": most})
        return value


def with_limits(schema: Any, settings: ServeSettings) -> Any:
    """A JSON schema with every `AtMost` as maxItems."""
    if isinstance(schema, list):
        return [with_limits(item, settings) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: with_limits(value, settings) for key, value in schema.items() if key != _KEYWORD}
    return plain | {"maxItems": getattr(settings, schema[_KEYWORD])} if _KEYWORD in schema else plain
