"""Entry: a strategy, or an evaluator inside one, by the name that users type, with its parameters and what it needs. Which there are is in load.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, replace
from functools import cached_property
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

from stepward.core import ChoicePolicy, Environment, InputError, LogprobPolicy, Policy, RewardModel, Sampling
from stepward.engine.named import Fill, Named, Parameter, default_of, has_default
from stepward.search.budget import NO_BUDGET, Budget
from stepward.search.spec import Spec, split, unwrapped

PartKind = Literal["policy", "model"]


@dataclass(frozen=True, kw_only=True)
class Services:
    """What strategies are made of. `parts`: further policies and reward models, by the name of the field that takes them (prover, judge, ...)."""

    policy: Policy
    environment: Environment
    model: RewardModel | None = None
    sampling: Sampling = Sampling()
    budget: Budget = NO_BUDGET
    parts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A policy or reward model beside the main ones: the field that takes it, and whether there must be one. `reads`: a policy asked for probabilities."""

    name: str
    kind: PartKind
    required: bool
    reads: bool = False


@dataclass(frozen=True, kw_only=True)
class Entry(Named):
    """A name for a strategy (see `Named`).

    Fields are recognised by their types: policies and reward models come from services; evaluators, critics and the like (see NOUNS) and inner strategies from
    specs (NAME:KEY=VALUE:...); all else is a parameter that text can set. Where a class has `width` and `expansions` but no `n`, n stands for the
    product of `groups`, `width` and `expansions` (see `factors`).
    """

    noun: ClassVar[str] = "strategy"
    room: ClassVar[str] = "stepward.search"

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The policies and reward models beside the main ones that it takes itself."""
        return {found.name: found for one in self.fields if (found := self._part(one)) is not None}

    @cached_property
    def takes_model(self) -> bool:
        """Whether it has a place for the reward model of --model."""
        return any(one.name == "model" for one in self.fields)

    @cached_property
    def nested(self) -> dict[str, Noun]:
        """The fields that hold a component or a strategy, or several."""
        return {one.name: noun for one in self.fields if (noun := _noun(self.hints[one.name])) is not None}

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        plain = super().parameters
        return tuple(replace(one, kind=self.nested[one.name].words, text=True) if one.name in self.nested else one for one in plain)

    @cached_property
    def factors(self) -> tuple[str, ...]:
        """The parameters whose product n is short for, the one that follows from n first; none where the class has an n, or no width and expansions."""
        names = [parameter.name for parameter in self.parameters]
        return tuple(name for name in ("groups", "expansions", "width") if name in names) if {"width", "expansions"} <= {*names} and "n" not in names else ()

    def filled(self, field: Field[Any]) -> Fill | None:
        if field.name in _MAIN:
            return _MAIN[field.name]
        return _from_parts if self._part(field) is not None else None

    def all_parts(self, settings: Mapping[str, Any]) -> dict[str, Part]:
        """Its own parts, and those of the components and strategies that the settings put into it."""
        found = dict(self.parts)
        for entry, inner in self._inside(settings):
            found |= entry.all_parts(inner)
        return found

    def uses_model(self, settings: Mapping[str, Any]) -> bool:
        """Whether it, or something that the settings put into it, takes the reward model of --model."""
        return self.takes_model or any(entry.uses_model(inner) for entry, inner in self._inside(settings))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The settings that it takes."""
        return tuple(parameter.name for parameter in self.parameters) + (("n",) if self.factors else ())

    def check(self, settings: Mapping[str, Any], *, model: bool) -> None:
        """Refuse what making it would refuse, as far as that can be told without making anything; `model`: whether there is a reward model."""
        unknown = [name for name in settings if name not in self.names]
        if unknown:
            raise InputError(f"{self.label} has no parameter {unknown[0]!r}; it has: {', '.join(self.names) or 'none'}")
        if not model and any(one.name == "model" and not has_default(one) for one in self.fields):
            raise InputError(f"{self.label} needs a reward model (--model); majority needs none")
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, value in self._with_n(settings).items():
            if name not in self.nested:
                known[name].parse(self.name, value)
        for entry, inner in self._inside(settings):
            entry.check(inner, model=model)

    def make(self, services: Services, settings: Mapping[str, Any]) -> Any:
        self.check(settings, model=services.model is not None)
        given = self._with_n(settings)
        built = {name: self.nested[name].build(services, value) for name, value in given.items() if name in self.nested and isinstance(value, str)}
        return super().make(services, given | built)

    def _with_n(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """n in terms of its factors: all but the one that follows are as given or as they are by default."""
        given = dict(settings)
        if not self.factors or "n" not in given:
            return given
        open_ones = [name for name in self.factors if name not in given and name != "width"]
        if not open_ones:
            raise InputError(f"{self.label}: n is {self.n_words}; give n or {self.factors[0]}, not both")
        known = {parameter.name: parameter for parameter in self.parameters}
        n = replace(known["width"], name="n").parse(self.name, given.pop("n"))
        rest = 1
        for name in self.factors:
            if name != open_ones[0]:
                rest *= known[name].parse(self.name, given.get(name, known[name].default))
        if rest < 1 or n < 1 or n % rest:
            others = " x ".join(name for name in self.factors[::-1] if name != open_ones[0])
            raise InputError(f"{self.label}: n must be a multiple of {rest} ({others}), got {n}")
        return given | {open_ones[0]: n // rest}

    @property
    def n_words(self) -> str:
        """What n is short for."""
        return " x ".join(self.factors[::-1])

    def _inside(self, settings: Mapping[str, Any]) -> Iterator[tuple[Entry, Mapping[str, Any]]]:
        for name, noun in self.nested.items():
            if isinstance(value := settings.get(name), str):
                yield from ((noun.entry(spec.name), spec.settings) for spec in noun.specs(value))

    def _part(self, field: Field[Any]) -> Part | None:
        hint = self.hints[field.name]
        kind = _part_kind(hint)
        reads = any({LogprobPolicy, ChoicePolicy} & {*getattr(one, "__mro__", ())} for one in _members(hint))
        return None if field.name in _MAIN or kind is None else Part(field.name, kind, not has_default(field), reads)


@dataclass(frozen=True, kw_only=True)
class Component(Entry):
    """A name for something that strategies are composed of: `what` of NOUNS it is."""

    what: str

    @property
    def label(self) -> str:
        return f"{self.what} {self.name!r}"


@dataclass(frozen=True, kw_only=True)
class EvaluatorEntry(Component):
    """A name for an evaluator."""

    what: str = "evaluator"


@dataclass(frozen=True)
class Noun:
    """What a nested field holds: a strategy or a component, `what` of NOUNS, or `several` of them joined by +."""

    what: str
    several: bool

    @property
    def words(self) -> str:
        known = f"{self.what} (NAME:KEY=VALUE:..., one of {', '.join(self.names)})"
        return f"a list, joined by +, of: {known}" if self.several else f"{'an' if known[0] in 'aeiou' else 'a'} {known}"

    @property
    def names(self) -> tuple[str, ...]:
        """The known ones."""
        from stepward.search.load import names_of

        return names_of(self.what)

    def specs(self, text: str) -> list[Spec]:
        return [Spec.parse(one) for one in (split(unwrapped(text), "+") if self.several else [text])]

    def entry(self, name: str) -> Entry:
        from stepward.search.load import component_named, strategy_named

        return strategy_named(name) if self.what == "strategy" else component_named(self.what, name)

    def build(self, services: Services, text: str) -> Any:
        made = tuple(self.entry(spec.name).make(services, spec.settings) for spec in self.specs(text))
        return made if self.several else made[0]


NOUNS = {
    "stepward.search.strategy.Strategy": "strategy",
    "stepward.search.evaluator.Evaluator": "evaluator",
    "stepward.search.feedback.Critic": "critic",
    "stepward.search.revise.Reviser": "reviser",
    "stepward.search.preference.Preference": "preference",
    "stepward.search.equilibrium.Reporter": "reporter",
    "stepward.search.helper.HelpRule": "rule",
    "stepward.search.retrieval.Index": "index",
}  # the type that a field is declared with -> what messages call it


def _policy(services: Services, _: Named, __: Field[Any]) -> Policy:
    return services.policy


def _model(services: Services, entry: Named, field: Field[Any]) -> RewardModel | None:
    del entry  # has checked that there is one where there must be
    return default_of(field) if services.model is None else services.model


def _from_parts(services: Services, entry: Named, field: Field[Any]) -> Any:
    given = services.parts.get(field.name)
    if given is None and not has_default(field):
        kind = {"policy": "policy", "model": "reward model"}[_part_kind(entry.hints[field.name]) or "policy"]
        raise InputError(f"{entry.label} needs a {kind} as its {field.name} (--with {field.name}=SPEC)")
    return default_of(field) if given is None else given


_MAIN: dict[str, Fill] = {
    "policy": _policy,
    "environment": lambda services, _, __: services.environment,
    "model": _model,
    "sampling": lambda services, _, __: services.sampling,
    "budget": lambda services, _, __: services.budget,
}


def _part_kind(annotation: Any) -> PartKind | None:
    for one in _members(annotation):
        line = getattr(one, "__mro__", ())
        if Policy in line:
            return "policy"
        if RewardModel in line:
            return "model"
    return None


def _noun(annotation: Any) -> Noun | None:
    several = get_origin(annotation) is tuple
    for one in _members(get_args(annotation)[0] if several else annotation):
        names = (f"{base.__module__}.{base.__qualname__}" for base in getattr(one, "__mro__", ()))
        found = next((NOUNS[name] for name in names if name in NOUNS), None)
        if found is not None:
            return Noun(found, several)
    return None


def _members(annotation: Any) -> list[Any]:
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    return [part for part in parts if part is not NoneType]
