"""Malformed requests get 4xx with the field and the reason, never 5xx, and repeat nothing that could not be sent back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.parts import HashModel, application, item

from stepward.serving.body import MAX_DEPTH, parse_json
from stepward.serving.refusal import Refusal, encoded

JSON = "application/json"
ROUTES = ("/v1/score", "/pooling", "/get_reward")


def send(cases: list[tuple[str, bytes, dict[str, str]]]) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with application(HashModel()) as (client, app):
            answers = [await client.post(path, content=body, headers=headers) for path, body, headers in cases]
            assert app.state.desk.n_items == 0
            return answers

    return asyncio.run(ask())


def nested(depth: int, kind: str = "[]") -> bytes:
    opening = {"[]": "[", "{}": '{"a":'}[kind]
    return (opening * depth + "1" + kind[1] * depth).encode()


NOT_JSON: dict[str, bytes] = {
    "nothing": b"",
    "half an object": b'{"problem": "p", "steps": [',
    "single quotes": b"{'problem': 'p'}",
    "two values": b"{} {}",
    "trailing comma": b'{"problem": "p", "steps": ["a",]}',
    "a comment": b'{"problem": "p" /* the problem */}',
    "NaN": b'{"problem": NaN}',
    "Infinity": b'{"problem": {"prompt": "p", "metadata": {"x": Infinity}}, "steps": []}',
    "-Infinity": b"[-Infinity]",
    "a number beyond doubles": b'{"problem": {"prompt": "p", "metadata": {"x": 1e999}}, "steps": []}',
    "an integer of 5000 digits": b"[" + b"9" * 5000 + b"]",
    "not UTF-8": b'{"problem": "\xff\xfe"}',
    "Latin-1": '{"problem": "é"}'.encode("latin-1"),
    "UTF-16": '{"problem": "p"}'.encode("utf-16"),
    "an encoded surrogate": b'{"problem": "\xed\xa0\x80", "steps": []}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "control characters": b'{"problem": "a\x00b", "steps": []}',
    "lists nested 33 deep": nested(MAX_DEPTH + 1),
    "lists nested 100,000 deep": nested(100_000),
    "objects nested 33 deep": nested(MAX_DEPTH + 1, "{}"),
    "objects nested 50,000 deep": nested(50_000, "{}"),
    "an unfinished nest": b"[" * 200_000,
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("path", ROUTES)
def test_what_is_not_json_is_400_and_says_where(path: str) -> None:
    answers = send([(path, body, {"content-type": JSON}) for body in NOT_JSON.values()])
    for name, answer in zip(NOT_JSON, answers, strict=True):
        assert answer.status_code == 400, f"{name}: {answer.status_code} {answer.text[:200]}"
        error = answer.json()["error"]
        assert (error["type"], error["param"]) == ("invalid_json", "body"), name
        assert len(answer.content) < 2000, f"{name} is repeated in the answer"


@pytest.mark.parametrize(
    "headers",
    [{}, {"content-type": ""}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}, {"content-type": "multipart/form-data"},
     {"content-type": "application/jsonp"}, {"content-type": JSON, "content-encoding": "gzip"}],
)  # fmt: skip
def test_another_content_type_is_415(headers: dict[str, str]) -> None:
    for answer in send([(path, json.dumps(item()).encode(), headers) for path in ROUTES]):
        assert answer.status_code == 415
        assert answer.json()["error"]["param"] in ("content-type", "content-encoding")


def test_json_content_types_are_taken() -> None:
    body = json.dumps(item()).encode()
    kinds = (JSON, "application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json")
    assert [answer.status_code for answer in send([("/v1/score", body, {"content-type": kind}) for kind in kinds])] == [200] * 4


WRONG: list[tuple[str, Any, str]] = [
    ("/v1/score", None, "body"),
    ("/v1/score", [], "body"),
    ("/v1/score", "text", "body"),
    ("/v1/score", 1e300, "body"),
    ("/v1/score", {}, "problem"),
    ("/v1/score", {"problem": "p"}, "steps"),
    ("/v1/score", {"steps": ["a"]}, "problem"),
    ("/v1/score", {"problem": None, "steps": []}, "problem"),
    ("/v1/score", {"problem": 3, "steps": []}, "problem"),
    ("/v1/score", {"problem": {}, "steps": []}, "problem.prompt"),
    ("/v1/score", {"problem": {"prompt": "p", "answer": 4}, "steps": []}, "problem.answer"),
    ("/v1/score", {"problem": {"prompt": "p", "images": ["/etc/passwd"]}, "steps": []}, "problem.images"),
    ("/v1/score", {"problem": {"prompt": "p", "metadata": []}, "steps": []}, "problem.metadata"),
    ("/v1/score", {"problem": "p", "steps": "one text"}, "steps"),
    ("/v1/score", {"problem": "p", "steps": {"0": "a"}}, "steps"),
    ("/v1/score", {"problem": "p", "steps": ["a", None]}, "steps.1"),
    ("/v1/score", {"problem": "p", "steps": ["a", 10**400]}, "steps.1"),
    ("/v1/score", {"problem": "p", "steps": [{"separator": ""}]}, "steps.0.text"),
    ("/v1/score", {"problem": "p", "steps": [{"text": "a", "score": 1}]}, "steps.0.score"),
    ("/v1/score", {"problem": "p", "steps": [], "text": "a"}, "steps"),
    ("/v1/score", {"problem": "p", "text": ["a"]}, "text"),
    ("/v1/score", {"problem": "p", "text": "a", "segmentation": "by moonlight"}, "segmentation"),
    ("/v1/score", {"problem": "p", "steps": [], "ending": "soon"}, "ending"),
    ("/v1/score", {"problem": "p", "steps": [], "aggregation": "median"}, "aggregation"),
    ("/v1/score", {"problem": "p", "steps": [], "agregation": "min"}, "agregation"),
    ("/v1/score", {"items": None}, "items"),
    ("/v1/score", {"items": {}}, "items"),
    ("/v1/score", {"items": [item(), 3]}, "items.1"),
    ("/v1/score", {"items": [item() | {"x" * 5000: 1}]}, "items.0." + "x" * 292 + "…"),
    ("/v1/score", {"items": [{"problem": "p", "steps": [["a"]]}]}, "items.0.steps.0"),
    ("/v1/score", {"items": [item() | {"aggregation": "min"}]}, "items.0.aggregation"),
    ("/pooling", {}, "input"),
    ("/pooling", {"input": []}, "input"),
    ("/pooling", {"input": [3, "a"]}, "input.1"),
    ("/pooling", {"input": [-1]}, "input.0"),
    ("/pooling", {"input": [2**40]}, "input.0"),
    ("/pooling", {"input": [True]}, "input.0"),
    ("/pooling", {"input": [1, 2]}, "input"),
    ("/pooling", {"input": {"prompt": "x"}}, "input"),
    ("/pooling", {"input": "x", "step_tag": ""}, "step_tag"),
    ("/pooling", {"input": "x", "encoding_format": "base64"}, "encoding_format"),
    ("/pooling", {"input": "x", "dimensions": 3}, "dimensions"),
    ("/pooling", {"input": "x", "truncate_prompt_tokens": 100}, "truncate_prompt_tokens"),
    ("/pooling", {"input": "x", "task": "embed"}, "task"),
    ("/pooling", {"messages": []}, "messages"),
    ("/pooling", {"messages": [{"role": "user", "content": "q"}]}, "messages"),
    ("/pooling", {"messages": [{"role": "assistant", "content": "q"}, {"role": "user", "content": "s"}]}, "messages.0.role"),
    ("/pooling", {"messages": [{"role": "user", "content": [{"type": "text"}]}, {"role": "assistant", "content": "s"}]}, "messages.0.content"),
    ("/get_reward", {}, "query"),
    ("/get_reward", {"query": "text", "prompts": "text"}, "query"),
    ("/get_reward", {"query": ["a"]}, "prompts"),
    ("/get_reward", {"query": ["a", "b"], "prompts": ["a"]}, "prompts"),
    ("/get_reward", {"query": [1], "prompts": ["a"]}, "query.0"),
]


def test_wrong_fields_are_422_and_named() -> None:
    answers = send([(path, json.dumps(body).encode(), {"content-type": JSON}) for path, body, _ in WRONG])
    for (path, body, field), answer in zip(WRONG, answers, strict=True):
        shown = json.dumps(body)[:80]
        assert answer.status_code == 422, f"{path} {shown}: {answer.status_code} {answer.text[:300]}"
        error = answer.json()["error"]
        assert field in (error["param"], *(detail["field"] for detail in error["details"])), f"{path} {shown}: {error}"
        assert all(detail["reason"] for detail in error["details"])


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/score", rb'{"problem": "\ud800", "steps": []}', "problem"),
        ("/v1/score", rb'{"problem": "p", "steps": ["ok", "\uDFFFx"]}', "steps.1"),
        ("/v1/score", rb'{"problem": {"prompt": "p", "metadata": {"a": [{"b": "\udc00"}]}}, "steps": []}', "problem.metadata.a.0.b"),
        ("/v1/score", rb'{"problem": "p", "steps": [], "\ud83d": 1}', r"\ud83d"),
        ("/pooling", rb'{"input": ["\udead"]}', "input.0"),
        ("/get_reward", rb'{"query": ["\udead"], "prompts": ["a"]}', "query.0"),
        ("/get_reward", rb'"\udead"', "body"),
    ],
)
def test_a_lone_surrogate_is_422_with_its_field(path: str, body: bytes, field: str) -> None:
    [answer] = send([(path, body, {"content-type": JSON})])
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["param"] == field


def test_a_surrogate_pair_is_a_character() -> None:
    body = rb'{"problem": "\ud83e\uddee", "steps": ["a"]}'
    [answer] = send([("/v1/score", body, {"content-type": JSON})])
    assert answer.status_code == 200


def read(body: bytes) -> Any:
    """The value, or the refusal, which can be sent whatever the body held."""
    try:
        return parse_json(body)
    except Refusal as refusal:
        encoded(refusal.to_json())
        return refusal


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
@settings(deadline=None, max_examples=100)
def test_whatever_json_says_is_read_or_refused(value: Any) -> None:
    found = read(json.dumps(value).encode())
    if isinstance(found, Refusal):
        assert found.status == 422
        assert any("\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False))
    else:
        assert found == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\ud8 ', max_size=60).map(str.encode))
@settings(deadline=None, max_examples=300)
def test_bytes_are_read_like_json_or_refused(body: bytes) -> None:
    found = read(body)
    if isinstance(found, Refusal):
        assert found.status in (400, 422)
    else:
        assert found == json.loads(body)


FIELDS = st.sampled_from(
    ["problem", "steps", "text", "items", "aggregation", "ending", "segmentation", "input", "messages", "query", "prompts", "labels", "model", "prompt", "role",
     "content", "metadata", "action", "separator", "step_tag", "truncate_prompt_tokens"]
)  # fmt: skip
BODIES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**31) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["user", "min", "a\n\nb", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=20,
)


def test_no_json_body_is_a_server_error() -> None:
    async def ask() -> None:
        async with application(HashModel()) as (client, _):

            @given(st.sampled_from(ROUTES), BODIES)
            @settings(deadline=None, max_examples=150)
            def check(path: str, body: Any) -> None:
                bodies.append((path, body))

            bodies: list[tuple[str, Any]] = []
            check()
            for path, body in bodies:
                answer = await client.post(path, content=json.dumps(body), headers={"content-type": JSON})
                assert answer.status_code in (200, 422), f"{path} {body!r}: {answer.status_code} {answer.text[:300]}"

    asyncio.run(ask())


def test_a_body_full_of_mistakes_costs_no_list_of_them() -> None:
    """Of each list one mistake is told: a million of them would take seconds of the server's own thread and gigabytes."""
    bodies: list[tuple[str, Any]] = [("/pooling", {"input": [-1] * 100_000}), ("/v1/score", {"items": [{"problem": "p", "steps": [1] * 1000}] * 100})]
    answers = send([(path, json.dumps(body).encode(), {"content-type": JSON}) for path, body in bodies])
    assert [answer.status_code for answer in answers] == [422, 422]
    assert [answer.json()["error"]["message"].rpartition("(")[2] for answer in answers] == [answers[0].json()["error"]["message"], "and 99 more)"]
