"""Named: a class behind a name that users type, its fields introspected as parameters that text can set. Which names there are lives in each room's load.py."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from enum import Enum
from functools import cached_property
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from stepward.core.errors import InputError


@dataclass(frozen=True)
class Parameter:
    """One setting. `kind`: what it may be, in words; `default` None with `required` when there is none. `text`: it can be given as text."""

    name: str
    annotation: Any
    kind: str
    default: Any
    required: bool
    text: bool

    def parse(self, owner: str, value: Any) -> Any:
        """The value from what a user typed. Raises: InputError naming owner, parameter and what it may be."""
        from pydantic import TypeAdapter, ValidationError

        if not isinstance(value, str):
            return value
        if value.lower() in ("none", "null") and NoneType in get_args(self.annotation):
            return None
        adapter: TypeAdapter[Any] | None = TypeAdapter(self.annotation) if self.text else None
        for read in () if adapter is None else (adapter.validate_strings, adapter.validate_json):
            try:
                return read(value)
            except (ValidationError, ValueError):
                continue
        raise InputError(f"{owner}: {self.name} must be {self.kind}, got {value!r}")

    @property
    def shown_default(self) -> str:
        """The default as a help page shows it."""
        return "(must be given)" if self.required else str(self.default) if self.text else "(Python)"


Fill = Callable[[Any, "Named", Field[Any]], Any]  # (services, name, field) -> the field's value


@dataclass(frozen=True, kw_only=True)
class Named:
    """A name for the dataclass at `target` ("module:Class", inside `room`), with some fields `fixed` and others, which do nothing here, left `out`.

    Subclasses say what the names are of (`noun`), where the modules are (`room`), and which fields are filled from services instead of text (`filled`).
    """

    name: str
    target: str
    fixed: tuple[tuple[str, Any], ...] = ()
    out: tuple[str, ...] = ()
    about: str = ""

    noun: ClassVar[str] = "name"
    room: ClassVar[str] = "stepward"

    @cached_property
    def cls(self) -> Any:
        module, name = self.target.split(":")
        return getattr(import_module(f"{self.room}.{module}"), name)

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The types of the class's fields."""
        return get_type_hints(self.cls)

    @cached_property
    def fields(self) -> tuple[Field[Any], ...]:
        """The fields that this name leaves open."""
        closed = {*dict(self.fixed), *self.out}
        return tuple(field for field in fields(self.cls) if field.init and field.name not in closed)

    def filled(self, field: Field[Any]) -> Fill | None:
        """How a field is made from the services; None for one that is a parameter."""
        del field
        return None

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """What can be set, in the order of the class."""
        return tuple(parameter_of(field, self.hints[field.name]) for field in self.fields if self.filled(field) is None)

    @property
    def doc(self) -> str:
        """The class's own words: formula, differences from the paper, source."""
        return inspect.cleandoc(self.cls.__doc__ or "")

    @property
    def label(self) -> str:
        """The name as messages say it: method 'scan'."""
        return f"{self.noun} {self.name!r}"

    def parsed(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the settings. Raises: InputError for an unknown one, one that cannot be read, or one that is missing."""
        known = {parameter.name: parameter for parameter in self.parameters}
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise InputError(f"{self.label} has no parameter {unknown[0]!r}; it has: {', '.join(known) or 'none'}")
        given = {name: known[name].parse(self.name, value) for name, value in settings.items()}
        missing = [name for name, parameter in known.items() if parameter.required and name not in given]
        if missing:
            raise InputError(f"{self.label} needs the parameter {missing[0]!r} ({known[missing[0]].kind})")
        return given

    def make(self, services: Any, settings: Mapping[str, Any]) -> Any:
        """An instance with these settings (texts or values).

        Raises: InputError for an unknown setting, one out of range, or a missing service.
        """
        given = self.parsed(settings)
        taken = {field.name: fill(services, self, field) for field in self.fields if (fill := self.filled(field)) is not None}
        return self.cls(**dict(self.fixed) | taken | given)


def has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def default_of(field: Field[Any]) -> Any:
    """The field's default; None where it has none."""
    return field.default if field.default is not MISSING else field.default_factory() if field.default_factory is not MISSING else None


def parameter_of(field: Field[Any], annotation: Any) -> Parameter:
    return Parameter(field.name, annotation, _words(annotation), default_of(field), not has_default(field), _plain(annotation))


def _plain(annotation: Any) -> bool:
    """Whether a value of the type can be written as text."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType, tuple):
        return all(_plain(part) for part in get_args(annotation) if part is not Ellipsis)
    return origin is Literal or annotation in (int, float, str, bool, NoneType) or _choices(annotation) is not None


def _choices(annotation: Any) -> tuple[str, ...] | None:
    """The values of an enumeration."""
    return tuple(str(one.value) for one in annotation) if isinstance(annotation, type) and issubclass(annotation, Enum) else None


def _words(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(map(str, get_args(annotation)))
    if origin in (Union, UnionType):
        return " or ".join(_words(part) for part in get_args(annotation))
    if origin is tuple:
        return "a list of " + _words(get_args(annotation)[0])
    choices = _choices(annotation)
    if choices is not None:
        return " or ".join(choices)
    plain = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "none"}
    return plain.get(annotation) or f"a {getattr(annotation, '__name__', str(annotation))}"
