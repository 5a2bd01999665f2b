"""Methods: every labeler by the name that users type, with its parameters, what it needs, and its source. How a method works is in its own file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

from stepward.core import Environment, InputError, Labeler, Policy, RewardModel, Sampling
from stepward.engine.named import Fill, Named
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


@dataclass(frozen=True, kw_only=True)
class Method(Named):
    """A name for a labeler (see `Named`)."""

    noun: ClassVar[str] = "method"
    room: ClassVar[str] = "stepward.labeling"

    def filled(self, field: Field[Any]) -> Fill | None:
        return _SERVICES.get(field.name)

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The services that it takes: policy, judge, tools."""
        return tuple(_NEEDS[field.name] for field in self.fields if field.name in _NEEDS)

    def make(self, services: Services, settings: Mapping[str, Any]) -> Labeler:
        return cast(Labeler, super().make(services, settings))


def _policy(services: Services, method: Named, _: Field[Any]) -> Policy:
    policy = services.prover or services.policy
    if policy is None:
        raise InputError(f"method {method.name!r} needs a policy (--policy)")
    return policy


def _completer(services: Services, method: Named, _: Field[Any]) -> Completer:
    return Completer(policy=_policy(services, method, _), environment=services.environment, sampling=services.sampling)


def _judge(services: Services, method: Named, field: Field[Any]) -> RewardModel | None:
    if services.judge is None:
        if field.default is not MISSING:
            return cast(RewardModel | None, field.default)
        raise InputError(f"method {method.name!r} needs a judge (--judge-model critic:POLICY, see docs/judges.md)")
    return services.judge


def _verifiers(services: Services, _: Named, __: Field[Any]) -> Any:
    from stepward.rewards.verifiers.load import PREFIX, load_tools

    return load_tools(PREFIX + services.tools).router.verifiers


_SERVICES: dict[str, Fill] = {
    "policy": _policy,
    "completer": _completer,
    "environment": lambda services, _, __: services.environment,
    "sampling": lambda services, _, __: services.sampling,
    "judge": _judge,
    "verifiers": _verifiers,
}
_NEEDS = {"policy": "policy", "completer": "policy", "judge": "judge", "verifiers": "tools"}
