"""Environments by specification, and the problems that they or a file provide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from stepward.core import Environment, InputError, Problem

FORMS = (
    "grade-school (2 to 12 operations), grade-school:easy (1 to 4, small numbers), "
    "deduction (3 to 6 derivations; also :simple, :easy, :medium and :hard), maths, code (programs, run in the sandbox)"
)


@runtime_checkable
class ProblemSource(Protocol):
    """An environment that can make problems without end; train, dev and test never overlap."""

    def problems(self, seed: int, n: int, *, split: str = "train", start: int = 0) -> Iterator[Problem]: ...


def load_environment(spec: str) -> Environment:
    """The environment that a specification names.

    Raises: InputError listing the known forms.
    """
    if spec in ("grade-school", "grade-school:full", "grade-school:easy"):
        from stepward.environments.grade_school import GradeSchool

        return GradeSchool.easy() if spec.endswith(":easy") else GradeSchool.full()
    name, _, level = spec.partition(":")
    if name == "deduction" and level in ("", "simple", "easy", "medium", "hard"):
        from stepward.environments.deduction import Deduction

        return {"simple": Deduction.simple, "easy": Deduction.easy, "hard": Deduction.hard}.get(level, Deduction.medium)()
    if spec == "maths":
        from stepward.environments.maths import Maths

        return Maths()
    if spec == "code":
        from stepward.environments.code import Code

        return Code()
    raise InputError(f"unknown environment {spec!r}; known forms: {FORMS}")


def make_problems(environment: Environment, *, seed: int, n: int, split: str) -> list[Problem]:
    """`n` problems of the environment's own.

    Raises: InputError when it has none.
    """
    if not isinstance(environment, ProblemSource):
        raise InputError(f"environment {environment.fingerprint} makes no problems of its own; give a file of problems (--data)")
    return list(environment.problems(seed, n, split=split))
