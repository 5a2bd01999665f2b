"""Strategies by name: what text can set, what is refused and with which remedy, and what goes into what."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.search.exact import SOLVER, WORLD, Exact

from stepward.core import InputError, Policy
from stepward.search.beam import StepBeam
from stepward.search.budget import Budget
from stepward.search.entry import NOUNS, Component, Entry, EvaluatorEntry
from stepward.search.evaluator import Evaluator, Graded, Scored
from stepward.search.load import COMPONENTS, EVALUATORS, STRATEGIES, load_search, names_of, strategy_named
from stepward.search.spec import Spec
from stepward.search.strategy import Strategy
from stepward.search.workbench import Workbench

MODEL = Exact()


def load(name: str, **settings: Any) -> Any:
    return load_search(name, policy=SOLVER, environment=WORLD, model=MODEL, settings=settings)


@dataclass(frozen=True, kw_only=True)
class Outer(Strategy):
    """A strategy with one part of every sort."""

    inner: Strategy
    helper: Policy
    evaluators: tuple[Evaluator, ...] = ()
    judge: Evaluator | None = None

    name = "outer"

    async def grow(self, bench: Workbench) -> None:
        await self.inner.grow(bench)


class Outside(Entry):
    """A name for a class of this file."""

    room = "tests.search"


@pytest.fixture
def outer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "outer", Outside(name="outer", target="test_load:Outer"))


@pytest.mark.parametrize("entry", [*STRATEGIES.values(), *COMPONENTS.values()], ids=lambda entry: entry.label)
def test_every_name_leads_to_a_documented_class_whose_required_parts_can_be_given(entry: Entry) -> None:
    assert len(entry.doc) > 60, "help pages and docs are made of the class's own words"
    assert entry.about
    assert [parameter.name for parameter in entry.parameters if parameter.required and not parameter.text] == []
    if not isinstance(entry, Component):
        assert entry.name == entry.cls.name or entry.fixed, "results and help pages call it the same"


def test_every_strategy_of_the_room_has_a_name() -> None:
    found = set()
    for file in Path(inspect.getfile(StepBeam)).parent.glob("[a-z]*.py"):
        for one in vars(import_module(f"stepward.search.{file.stem}")).values():
            if inspect.isclass(one) and issubclass(one, Strategy) and "name" in vars(one):
                found.add(one)
    assert found - {entry.cls for entry in STRATEGIES.values()} == set()


def test_the_types_by_which_fields_are_recognised_exist() -> None:
    for path in NOUNS:
        module, _, name = path.rpartition(".")
        assert inspect.isclass(getattr(import_module(module), name))


def test_settings_are_texts_or_values() -> None:
    made = load("beam", width="3", expansions=2, aggregation="last")
    assert isinstance(made, StepBeam)
    assert (made.width, made.expansions, made.aggregation) == (3, 2, "last")


def test_n_is_width_times_expansions_where_a_strategy_has_no_n() -> None:
    assert load("beam", n="12", width="3").expansions == 4
    assert load("beam", n=8).expansions == 2, "the default width is 4"
    assert (load("dvts", n=16).groups, load("dvts", n=16, groups=2).expansions, load("diverse-beam", n=24, expansions=3, width=4).groups) == (4, 8, 2)
    for settings, message in (({"n": 16, "width": 3}, "multiple of 3"), ({"n": 8, "expansions": 2}, "not both"), ({"n": "many"}, "n must be a whole number")):
        with pytest.raises(InputError, match=message):
            load("beam", **settings)


def test_three_settings_have_keywords_of_their_own() -> None:
    made = load_search("beam", policy=SOLVER, environment=WORLD, model=MODEL, n=6, width=2, aggregation="last", budget=Budget(calls=5))
    assert isinstance(made, StepBeam)
    assert (made.width, made.expansions, made.aggregation, made.budget.calls) == (2, 3, "last", 5)


def test_what_does_not_fit_is_refused_with_the_remedy() -> None:
    for name, settings, message in (
        ("majority", {"width": "3"}, "strategy 'majority' has no parameter 'width'; it has: n"),
        ("best-of-n", {"aggregation": "median"}, "aggregation must be last or min or"),
        ("majority", {"n": "0"}, "at least 1"),
        ("majority", {"n": "3.5"}, "n must be a whole number, got '3.5'"),
        ("beem", {}, "unknown strategy 'beem'; choose one of majority"),
    ):
        with pytest.raises(InputError, match=message):
            load(name, **settings)
    with pytest.raises(InputError, match=r"needs a reward model \(--model\)"):
        load_search("beam", policy=SOLVER, environment=WORLD)
    with pytest.raises(InputError, match="strategy 'majority' has no part 'helper'; it has: none"):
        load_search("majority", policy=SOLVER, environment=WORLD, parts={"helper": SOLVER})


@pytest.mark.usefixtures("outer")
def test_strategies_and_evaluators_go_into_strategies_as_specs() -> None:
    settings = {"inner": "beam:n=4:width=2", "evaluators": "scored:aggregation=last+graded", "judge": "graded"}
    entry = strategy_named("outer")
    assert {name: (part.kind, part.required) for name, part in entry.all_parts(settings).items()} == {"helper": ("policy", True)}
    made: Any = load_search("outer", policy=SOLVER, environment=WORLD, model=MODEL, settings=settings, parts={"helper": SOLVER})
    assert (made.inner.width, made.inner.expansions) == (2, 2)
    assert made.evaluators == (Scored(model=MODEL, aggregation="last"), Graded())
    assert made.judge == Graded()
    assert made.helper is SOLVER
    assert entry.uses_model(settings)
    assert not entry.uses_model({"inner": "majority"})


@pytest.mark.usefixtures("outer")
def test_inner_parts_are_refused_like_outer_ones() -> None:
    def made(parts: dict[str, Any], **settings: Any) -> None:
        load_search("outer", policy=SOLVER, environment=WORLD, model=MODEL, settings=settings, parts=parts)

    for parts, settings, message in (
        ({"helper": SOLVER}, {}, "needs the parameter 'inner' .a strategy"),
        ({"helper": SOLVER}, {"inner": "beem"}, "unknown strategy 'beem'"),
        ({"helper": SOLVER}, {"inner": "majority", "judge": "best"}, "unknown evaluator 'best'; choose one of scored"),
        ({"helper": SOLVER}, {"inner": "majority:width=3"}, "strategy 'majority' has no parameter 'width'"),
        ({}, {"inner": "majority"}, "needs a policy as its helper .--with helper=SPEC."),
    ):
        with pytest.raises(InputError, match=message):
            made(parts, **settings)


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("majority", "majority", {}),
        (" beam : n=4 : answer-by=vote ", "beam", {"n": "4", "answer_by": "vote"}),
        ("outer:inner=(beam:n=4:width=2)", "outer", {"inner": "(beam:n=4:width=2)"}),
        ("(beam:n=4)", "beam", {"n": "4"}),
    ],
)
def test_a_spec_is_a_name_with_settings(text: str, name: str, settings: dict[str, str]) -> None:
    assert Spec.parse(text) == Spec(name, settings)
    assert Spec.parse(str(Spec.parse(text))) == Spec.parse(text)


@pytest.mark.parametrize("text", ["", ":n=4", "beam:n", "beam:=4", "beam:n=4:n=5", "beam:inner=(majority", "beam:x=)"])
def test_what_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Spec.parse(text)


def test_evaluators_are_components_like_the_others() -> None:
    assert all(isinstance(entry, EvaluatorEntry) for entry in EVALUATORS.values())
    assert set(names_of("evaluator")) == set(EVALUATORS)
