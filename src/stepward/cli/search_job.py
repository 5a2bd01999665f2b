"""SearchJob: what the verbs search and compare make strategies of: specifications, loaded once each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from stepward.cli.session import Session
from stepward.core import Environment, InputError, Policy, RewardModel, Sampling, Search
from stepward.search.budget import NO_BUDGET, Budget
from stepward.search.entry import Part, PartKind, Services
from stepward.search.load import strategy_named
from stepward.search.spec import Spec


@dataclass(frozen=True, kw_only=True)
class SearchJob:
    """`parts`: specifications of the policies and reward models that strategies take beside the main ones, by the name of their field."""

    policy: str
    model: str | None
    environment: str
    model_name: str | None = None
    part_names: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    sampling: Sampling = Sampling()
    budget: Budget = NO_BUDGET

    def check(self, specs: Sequence[Spec]) -> None:
        """Refuse what no strategy uses, before anything is loaded. Raises: InputError naming the option and the remedy."""
        names = " and ".join(sorted({repr(spec.name) for spec in specs}))
        usable: dict[str, PartKind] = {}
        for spec in specs:
            entry = strategy_named(spec.name)
            entry.check(spec.settings, model=self.model is not None)
            usable |= {name: part.kind for name, part in entry.all_parts(spec.settings).items()}
            for part in entry.all_parts(spec.settings).values():
                if part.required and part.name not in self.parts:
                    kind = "policy" if part.kind == "policy" else "reward model"
                    raise InputError(f"strategy {spec.name!r} needs a {kind} as its {part.name} (--with {part.name}=SPEC)")
        for name in self.part_names:
            if name not in self.parts:
                raise InputError(f"--with-name {name}=... names the model of --with {name}=SPEC, which was not given")
        for name in self.parts:
            if name not in usable:
                raise InputError(f"--with {name}=...: strategy {names} takes no {name}; it takes: {', '.join(usable) or 'nothing beside --policy and --model'}")
        if self.model is not None and not any(strategy_named(spec.name).uses_model(spec.settings) for spec in specs):
            raise InputError(f"--model scores steps; strategy {names} asks no reward model, so leave it out")

    def open(self, work: Session) -> OpenJob:
        return OpenJob(self, work)


@dataclass(frozen=True)
class OpenJob:
    """A job whose models are loaded when a strategy first needs them, once each."""

    job: SearchJob
    work: Session

    @cached_property
    def world(self) -> Environment:
        """The environment itself, which makes problems."""
        return self.work.environment(self.job.environment)

    @cached_property
    def grading(self) -> Environment:
        """The environment with its grades in the journal."""
        return self.work.grading(self.world)

    def strategy(self, spec: Spec) -> Search:
        """Raises: InputError for a setting that it does not have, or something that it needs and was not given."""
        entry = strategy_named(spec.name)
        usable = entry.all_parts(spec.settings)
        services = Services(
            policy=self._policy,
            environment=self.grading,
            model=self._model if entry.uses_model(spec.settings) else None,
            sampling=self.job.sampling,
            budget=self.job.budget,
            parts={name: self._part(usable[name]) for name in self.job.parts if name in usable},
        )
        return cast(Search, entry.make(services, spec.settings))

    @cached_property
    def _policy(self) -> Policy:
        return self.work.policy(self.job.policy, self.job.model_name)

    @cached_property
    def _model(self) -> RewardModel | None:
        return None if self.job.model is None else self.work.model(self.job.model)

    @cached_property
    def _loaded(self) -> dict[tuple[str, PartKind], Any]:
        return {}

    def _part(self, part: Part) -> Any:
        """What --with gives; a policy that is asked for probabilities without its journal, which keeps samples only."""
        key, spec = (part.name, part.kind), self.job.parts[part.name]
        if key not in self._loaded:
            self._loaded[key] = self.work.policy(spec, self.job.part_names.get(part.name)) if part.kind == "policy" else self.work.model(spec)
        found = self._loaded[key]
        return getattr(found, "inner", found) if part.reads else found


def parts_from(pairs: Sequence[str] | None, *, option: str = "--with", **short: str | None) -> dict[str, str]:
    """Parts from --with PART=SPEC and from options of their own (None: not given). Raises: InputError for what is no pair, or given twice."""
    found = {name: spec for name, spec in short.items() if spec is not None}
    for pair in pairs or []:
        name, equals, spec = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not spec:
            raise InputError(f"{option} must be PART=VALUE, such as prover=tiny, got {pair!r}")
        if name in found:
            raise InputError(f"{option} {name}: it is given twice")
        found[name] = spec
    return found


def settings_from(option: str, strategy: str, pairs: Sequence[str] | None, **short: Any) -> dict[str, Any]:
    """Settings of a strategy from --set NAME=VALUE and from options of their own (None: not given). Raises: InputError for what the strategy does not have."""
    entry = strategy_named(strategy)
    known = entry.names
    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"{option} must be NAME=VALUE, got {pair!r}; {strategy} has the parameters {', '.join(known) or '(none)'}")
        found[name.strip().replace("-", "_")] = value.strip()
    for name, value in short.items():
        if value is None:
            continue
        if name not in known:
            raise InputError(f"--{name} sets the parameter {name!r}, which strategy {strategy!r} does not have; it has: {', '.join(known) or 'none'}")
        if name in found:
            raise InputError(f"--{name} and {option} {name}={found[name]} say the same thing twice; give one of them")
        found[name] = str(value)
    return found
