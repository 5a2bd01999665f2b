"""Methods: every labeler by the name that users type, with its parameters, what it needs, and its source. How a method works is in its own file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import cached_property
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from stepward.core import Environment, InputError, Labeler, Policy, RewardModel, Sampling
from stepward.labeling.completer import Completer


@dataclass(frozen=True, kw_only=True)
class Services:
    """What labelers are made of; a method takes what it needs and says what is missing."""

    environment: Environment
    policy: Policy | None = None
    prover: Policy | None = None  # completes prefixes in place of `policy`, which then only writes
    judge: RewardModel | None = None  # a generative reward model
    tools: str = "all"  # verifiers
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class Parameter:
    """One setting of a method. `kind`: what it may be, in words; `default` None with `required` when there is none. `text`: it can be given as text."""

    name: str
    annotation: Any
    kind: str
    default: Any
    required: bool
    text: bool

    def parse(self, method: str, value: Any) -> Any:
        """The value from what a user typed. Raises: InputError naming method, parameter and what it may be."""
        from pydantic import TypeAdapter, ValidationError

        adapter: TypeAdapter[Any] = TypeAdapter(self.annotation)
        if not isinstance(value, str):
            return value
        if value.lower() in ("none", "null") and NoneType in get_args(self.annotation):
            return None
        for read in (adapter.validate_strings, adapter.validate_json):
            try:
                return read(value)
            except (ValidationError, ValueError):
                continue
        raise InputError(f"{method}: {self.name} must be {self.kind}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Method:
    """A name for a labeler: the class at `target` ("module:Class"), with some fields `fixed` and others, which do nothing here, left `out`."""

    name: str
    target: str
    fixed: tuple[tuple[str, Any], ...] = ()
    out: tuple[str, ...] = ()
    about: str = ""

    @cached_property
    def cls(self) -> Any:
        module, name = self.target.split(":")
        return getattr(import_module(f"stepward.labeling.{module}"), name)

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The services that it takes: policy, judge, tools."""
        return tuple(_NEEDS[field.name] for field in fields(self.cls) if field.name in _NEEDS and field.name not in dict(self.fixed))

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """What can be set, in the order of the class."""
        hints = get_type_hints(self.cls)
        fixed = {*dict(self.fixed), *self.out}
        open_fields = [field for field in fields(self.cls) if field.init and field.name not in _SERVICES and field.name not in fixed]
        return tuple(_parameter(field, hints[field.name]) for field in open_fields)

    @property
    def doc(self) -> str:
        """The class's own words: formula, semantics, differences from the paper, source."""
        return inspect.cleandoc(self.cls.__doc__ or "")

    def make(self, services: Services, settings: Mapping[str, Any]) -> Labeler:
        """The labeler with these settings (texts or values).

        Raises: InputError for an unknown setting, one out of range, or a missing service.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise InputError(f"method {self.name!r} has no parameter {unknown[0]!r}; it has: {', '.join(known) or 'none'}")
        given = {name: known[name].parse(self.name, value) for name, value in settings.items()}
        missing = [name for name, parameter in known.items() if parameter.required and name not in given]
        if missing:
            raise InputError(f"method {self.name!r} needs the parameter {missing[0]!r} ({known[missing[0]].kind})")
        taken = {field.name: _SERVICES[field.name](services, self, field) for field in fields(self.cls) if field.name in _SERVICES}
        return cast(Labeler, self.cls(**dict(self.fixed) | taken | given))


def _parameter(field: Field[Any], annotation: Any) -> Parameter:
    default = field.default if field.default is not MISSING else field.default_factory() if field.default_factory is not MISSING else None
    required = field.default is MISSING and field.default_factory is MISSING
    return Parameter(field.name, annotation, _words(annotation), default, required, _plain(annotation))


def _plain(annotation: Any) -> bool:
    """Whether a value of the type can be written as text."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType, tuple):
        return all(_plain(part) for part in get_args(annotation) if part is not Ellipsis)
    return origin is Literal or annotation in (int, float, str, bool, NoneType)


def _words(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(map(str, get_args(annotation)))
    if origin in (Union, UnionType):
        return " or ".join(_words(part) for part in get_args(annotation))
    if origin is tuple:
        return "a list of " + _words(get_args(annotation)[0])
    plain = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "none"}
    return plain.get(annotation) or f"a {getattr(annotation, '__name__', str(annotation))}"


def _policy(services: Services, method: Method, _: Field[Any]) -> Policy:
    policy = services.prover or services.policy
    if policy is None:
        raise InputError(f"method {method.name!r} needs a policy (--policy)")
    return policy


def _completer(services: Services, method: Method, _: Field[Any]) -> Completer:
    return Completer(policy=_policy(services, method, _), environment=services.environment, sampling=services.sampling)


def _judge(services: Services, method: Method, field: Field[Any]) -> RewardModel | None:
    if services.judge is None:
        if field.default is not MISSING:
            return cast(RewardModel | None, field.default)
        raise InputError(f"method {method.name!r} needs a judge (--judge-model critic:POLICY, see docs/judges.md)")
    return services.judge


def _verifiers(services: Services, _: Method, __: Field[Any]) -> Any:
    from stepward.rewards.verifiers.load import PREFIX, load_tools

    return load_tools(PREFIX + services.tools).router.verifiers


_SERVICES = {
    "policy": _policy,
    "completer": _completer,
    "environment": lambda services, _, __: services.environment,
    "sampling": lambda services, _, __: services.sampling,
    "judge": _judge,
    "verifiers": _verifiers,
}
_NEEDS = {"policy": "policy", "completer": "policy", "judge": "judge", "verifiers": "tools"}
