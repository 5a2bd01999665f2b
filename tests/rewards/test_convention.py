"""Convention: one record that says everything, reads what older versions wrote, and refuses what cannot be read."""

from __future__ import annotations

import json
import random
from dataclasses import fields, replace

import pytest

from stepward.core import FormatError, InputError, Problem, Trajectory
from stepward.rewards.convention import Aspect, Convention
from stepward.rewards.encoding import encode
from stepward.rewards.families import FAMILIES, convention_from
from stepward.testing.fixtures import TOKENIZER_KINDS, tiny_tokenizer

TURNS = Convention(template="turns", first_turn="{problem} {step}", verdict="+", tokenisation="joint", read="header-end")
VERSION_1 = {
    "version": 1, "name": "stepward", "template": "raw", "system": "", "prompt_end": "\n", "marker": "\n", "tokenisation": "separate", "read": "marker",
    "head": "two-class", "good": 1, "activation": "softmax", "threshold": 0.5, "aggregation": "min", "max_tokens": 4096, "bos": True,
}  # fmt: skip


@pytest.mark.parametrize("convention", [Convention(), TURNS, *(family.convention for family in FAMILIES)], ids=lambda convention: convention.name)
def test_a_convention_survives_being_written_as_json(convention: Convention) -> None:
    record = json.loads(json.dumps(convention.to_json()))
    assert Convention.from_json(record) == convention
    assert set(record) == {"version", *(field.name for field in fields(Convention))}
    assert hash(Convention.from_json(record)) == hash(convention)


def test_a_tuple_of_one_good_class_is_that_class() -> None:
    assert Convention(good=(0,)) == Convention(good=0)
    assert Convention(head="three-class", good=(1, 2)).good_classes == (1, 2)


@pytest.mark.parametrize("kind", TOKENIZER_KINDS)
@pytest.mark.parametrize(
    "change", [{}, {"prompt_end": " -- ", "marker": " #\n"}, {"template": "chat", "system": "Judge.", "prompt_end": "ignored"}, {"bos": False}]
)
def test_entries_of_version_1_give_the_ids_that_version_1_gave(kind: str, change: dict[str, object]) -> None:
    """The encoder of version 1 in a few lines: every piece by itself, and a chat that opens with the generation prompt."""
    tokenizer, record = tiny_tokenizer(kind), {**VERSION_1, **change}
    convention = Convention.from_json(record)
    draw = random.Random(0)
    words = ["Tom", "has 7", "\n", "é中", " ", "x = 3.", "</s>"]

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    for _ in range(20):
        prompt, steps = " ".join(draw.choices(words, k=4)), ["".join(draw.choices(words, k=draw.randint(0, 5))) for _ in range(3)]
        bos = [tokenizer.bos_token_id] if record["bos"] and tokenizer.bos_token_id is not None else []
        if record["template"] == "raw":
            expected = [*bos, *ids(prompt + record["prompt_end"])]
        else:
            chat = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "@"}]
            head, tail = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False).split("@")
            framed = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in (head, tail)]
            expected = [*([] if framed[0][: len(bos)] == bos else bos), *framed[0], *ids(prompt), *framed[1]]
        for step in steps:
            expected += [*ids(step), *tokenizer(record["marker"], add_special_tokens=False)["input_ids"]]
        assert encode(Trajectory.from_texts(Problem(prompt), steps), tokenizer, convention).ids.tolist() == expected


def test_what_cannot_be_read_exactly_is_not_read_at_all() -> None:
    for record, message in (
        ({}, "no version"),
        ({"version": 99}, "version 99"),
        ({"version": True}, "version True"),
        ({"version": 2, "read_offset": 1}, "read_offset"),
        ({"version": 1, "prompt": "{problem}"}, "prompt"),
        ({"version": 2, "aspects": [{"label": 1}]}, "aspect"),
        ({"version": 2, "marker": 5}, "marker"),
        ({"version": 2, "head": "tokens", "tokens": ["+", ["-"]]}, "tokens must be texts"),
        ({"version": 2, "aspects": [{"name": "x", "classes": [0], "threshold": "high"}]}, "threshold that is a number"),
        ("raw", "no version"),
        ([1], "no version"),
        ({"version": 2, "threshold": "high"}, "threshold"),
        ({"version": 2, "max_tokens": 1.5}, "max_tokens"),
    ):
        with pytest.raises(InputError, match=message):
            Convention.from_json(record)
    with pytest.raises(FormatError):
        Convention.from_json({"version": 1, "prompt": "{problem}"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "xml"}, "template must be one of"),
        ({"head": "four-class"}, "head must be one of"),
        ({"marker": ""}, "marker must not be empty.*step-end"),
        ({"marker": "", "read": "before-marker"}, "marker must not be empty"),
        ({"good": 2}, "good must name some"),
        ({"good": True}, "good cannot be True"),
        ({"good": (0, 1)}, "but not all"),
        ({"good": ()}, "good must name some"),
        ({"threshold": 1.5}, r"threshold must lie in \[0, 1\]"),
        ({"threshold": -2.0, "activation": "margin"}, r"threshold must lie in \[-1, 1\]"),
        ({"threshold": float("nan"), "head": "value", "activation": "none"}, "threshold"),
        ({"aggregation": "median"}, "aggregation must be one of"),
        ({"aggregation": "product", "head": "value", "activation": "none"}, "needs probabilities"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"bos": 3}, "bos"),
        ({"system": "x"}, "system needs template='chat'"),
        ({"prompt": "no problem"}, r"prompt must have \{problem\} once"),
        ({"prompt": "{problem}{problem}"}, r"prompt must have \{problem\} once"),
        ({"prompt": "{problem} {solution}"}, r"prompt cannot have \{solution\}"),
        ({"prompt": "{solution} {problem}", "template": "chat"}, "from left to right"),
        ({"step": "Step {index}"}, r"step must have \{step\} once"),
        ({"step": "{step} ({index})"}, r"\{index\} before \{step\}"),
        ({"first_turn": "{problem}{step}"}, "first_turn needs template='turns'"),
        ({"verdict": "+"}, "verdict needs template='turns'"),
        ({"read": "header-end"}, "go together"),
        ({"last": "turn-end"}, "turn-end' needs template='chat'"),
        ({"tokens": ("+", "-")}, "tokens needs head='tokens'"),
        ({"token_form": "first-of-text"}, "token_form needs head='tokens'"),
        ({"head": "tokens"}, "two or more different vocabulary pieces"),
        ({"head": "tokens", "tokens": ("+", "+")}, "two or more different vocabulary pieces"),
        ({"head": "tokens", "tokens": ("+", "0", "-"), "activation": "margin"}, "between two classes"),
        ({"head": "three-class", "activation": "margin"}, "takes activation softmax"),
        ({"head": "value"}, "takes activation sigmoid or none"),
        ({"head": "value", "activation": "sigmoid", "good": 0}, "has none; leave them out"),
        ({"activation": "sigmoid"}, "takes activation softmax or margin"),
        ({"head": "log-ratio"}, "takes activation none"),
        ({"beta": 0.5}, "beta and mode need head='log-ratio'"),
        ({"mode": "difference"}, "beta and mode need head='log-ratio'"),
        ({"head": "log-ratio", "activation": "none", "beta": 0.0}, "beta must be positive"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"head": "value", "activation": "none", "temperature": 2.0}, "temperature divides logits"),
        ({"aspects": (Aspect("x", (5,), 0.5),)}, "aspects 'x' must name some"),
        ({"aspects": ("x",)}, "must be Aspect"),
    ],
)
def test_a_combination_that_cannot_be_read_is_refused_with_the_field(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Convention(**changes)


def test_turns_need_a_first_turn_a_verdict_and_joint_tokens() -> None:
    for changes, message in (
        ({"first_turn": "{problem}"}, "first_turn must have {step}"),
        ({"verdict": ""}, "verdict must not be empty"),
        ({"tokenisation": "separate"}, "needs tokenisation='joint'"),
        ({"read": "marker"}, "go together"),
        ({"prompt": "{problem}"}, "prompt is not used"),
    ):
        with pytest.raises(InputError, match=message.replace("{", r"\{")):
            replace(TURNS, **changes)


def test_a_convention_is_named_by_its_family_or_lies_in_a_json_file(tmp_path) -> None:
    assert convention_from("math-shepherd").tokens == ("▁+", "▁-")
    file = tmp_path / "own.json"
    file.write_text(json.dumps(Convention(marker=" #").to_json()))
    assert convention_from(str(file)) == Convention(marker=" #")
    with pytest.raises(InputError, match=r"unknown convention 'shepherd'.*math-shepherd.*JSON file"):
        convention_from("shepherd")
    with pytest.raises(InputError, match=r"absent\.json"):
        convention_from(str(tmp_path / "absent.json"))
    file.write_text("[1]")
    with pytest.raises(InputError, match="holds no convention but list"):
        convention_from(str(file))
    file.write_text("{")
    with pytest.raises(InputError, match="cannot read a convention"):
        convention_from(str(file))
