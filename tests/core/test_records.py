"""Every noun is immutable, hashed by content, and written and read back exactly."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import json_values, metadata, records, wild_texts

from stepward.core import (
    FormatError,
    FrozenDict,
    InputError,
    Outcome,
    Problem,
    SearchResult,
    Step,
    StepLabels,
    StepScores,
    Trajectory,
    Tree,
    canonical_json,
    content_hash,
    from_record,
)
from stepward.core.record import freeze, nullable, require, thaw


@settings(max_examples=80, deadline=None)
@given(records)
def test_a_record_survives_json_exactly(noun: Any) -> None:
    record = noun.to_record()
    text = json.dumps(record, allow_nan=False)
    again = from_record(json.loads(text))
    assert type(again) is type(noun)
    assert canonical_json(again.to_record()) == canonical_json(record)
    if not isinstance(noun, Tree | SearchResult):
        assert again == noun


@settings(max_examples=50, deadline=None)
@given(records)
def test_every_record_names_its_kind_and_version(noun: Any) -> None:
    record = noun.to_record()
    assert list(record)[:2] == ["kind", "version"]
    with pytest.raises(FormatError, match="upgrade stepward"):
        from_record({**record, "version": 99})


CAME_LATER = {"step": {"action"}, "step_scores": {"aspects"}, "step_labels": {"confidence", "bounds", "evidence"}}  # files of before have none of them


@settings(max_examples=300, deadline=None)
@given(records, st.data())
def test_a_record_without_one_of_its_fields_is_refused_by_name_or_is_one_of_before(noun: Any, data: st.DataObject) -> None:
    record = noun.to_record()
    field = data.draw(st.sampled_from([name for name in record if name not in ("kind", "version")]))
    del record[field]
    if field in CAME_LATER.get(noun.to_record()["kind"], ()):
        assert from_record(record).to_record().keys() == noun.to_record().keys()
        return
    with pytest.raises(FormatError) as caught:
        from_record(record)
    assert field in str(caught.value)


def test_an_unknown_kind_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(InputError, match=r"unknown record kind 'poem'.*problem.*trajectory"):
        from_record({"kind": "poem", "version": 1})


@settings(deadline=None)
@given(json_values)
def test_freezing_and_thawing_gives_equal_json(value: Any) -> None:
    assert canonical_json(freeze(value)) == canonical_json(value) == canonical_json(thaw(freeze(value)))


@settings(max_examples=40, deadline=None)
@given(metadata)
def test_a_frozen_dict_refuses_every_change_and_hashes_by_content(value: dict[str, Any]) -> None:
    frozen = freeze(value)
    for change in (
        lambda: frozen.update(a=1),
        lambda: frozen.__setitem__("a", 1),
        lambda: frozen.clear(),
        lambda: frozen.pop("a", None),
        lambda: frozen.setdefault("a", 1),
        lambda: frozen.__ior__({"a": 1}),
        lambda: frozen.popitem(),
    ):
        with pytest.raises(TypeError, match="immutable"):
            change()
    assert hash(frozen) == hash(freeze(dict(reversed(value.items()))))
    assert pickle.loads(pickle.dumps(frozen)) == frozen


def test_what_is_inside_a_frozen_value_is_frozen_too() -> None:
    problem = Problem("p", metadata={"list": [{"a": 1}]})
    inner = problem.metadata["list"][0]
    assert isinstance(inner, FrozenDict)
    with pytest.raises(TypeError):
        inner["a"] = 2


def test_changing_the_given_mapping_later_changes_nothing() -> None:
    given_metadata = {"a": [1]}
    problem = Problem("p", metadata=given_metadata)
    given_metadata["a"].append(2)
    assert thaw(problem.metadata) == {"a": [1]}


@pytest.mark.parametrize("noun", [Step("a"), Problem("p"), Trajectory(Problem("p")), Outcome(1.0), StepScores([0.5]), StepLabels([0.5], "value")])  # type: ignore[arg-type]
def test_fields_cannot_be_assigned(noun: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(noun, dataclasses.fields(noun)[0].name, "other")


@settings(deadline=None)
@given(st.lists(wild_texts, max_size=4), st.lists(wild_texts, max_size=4))
def test_content_hashes_differ_exactly_where_the_parts_differ(a: list[str], b: list[str]) -> None:
    assert (content_hash(*a) == content_hash(*b)) == (a == b)
    assert len(content_hash(*a)) == 32


def test_the_borders_of_hashed_parts_count() -> None:
    assert content_hash("ab", "c") != content_hash("a", "bc") != content_hash("abc")


def test_content_hashes_stay_the_same_between_versions() -> None:
    """Journals and files hold these; a change would orphan them."""
    assert content_hash("stepward") == "8a11b47f92df0116f6a47b6737d4533a"
    assert content_hash("a", "b") == "6a93c5780b9861cdd8d2761a748d9591"
    assert Step("a").key == "920589cd3a3b3f7747bcfd839f34755b"
    assert Problem("p").key == "836af9eeadd5d65c2d05d4a3ee1b98ac"
    assert Trajectory.from_texts("p", ["a", "b"]).key == "a23238e7a3b575a833d899645d44c332"
    assert content_hash("a") == content_hash(b"a")


def test_canonical_json_sorts_keys_and_refuses_nan() -> None:
    assert canonical_json({"b": 0.1, "a": ["é"]}) == '{"a":["é"],"b":0.1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_nan_becomes_null() -> None:
    assert nullable(np.array([0.5, np.nan])) == [0.5, None]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "field 'x': missing"),
        ({"x": True}, "field 'x': expected int, got bool"),
        ({"x": "1"}, "field 'x': expected int, got str '1'"),
        ({"x": None}, "field 'x': expected int, got NoneType"),
    ],
)
def test_require_names_field_and_found_value(record: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError) as caught:
        require(record, "x", int)
    assert message in str(caught.value)
