"""The registry: a checkpoint is known by its config, tokenizer and weights; names and paths say nothing, an exact hub id only decides between the admitted."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from stepward.core import InputError
from stepward.rewards.convention import Convention
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.rewards.families import FAMILIES, Family, family_named, recognise
from stepward.rewards.load import load_reward_model
from stepward.rewards.loading import CheckpointFolder
from stepward.testing.checkpoints import tiny_checkpoint
from stepward.testing.family_tokenizers import family_tokenizer
from stepward.testing.fixtures import tiny_prm

DISTINCT = ("qwen2.5-math-prm", "reasonflux-prm-1.5b", "skywork-o1-open-prm", "pqm", "reasoneval-34b", "reasoneval-7b", "med-prm", "pathfinder-prm")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {family.name: tiny_checkpoint(family.name, root / str(number)) for number, family in enumerate(FAMILIES)}


def looked_at(folder) -> tuple[object, object, frozenset[str]]:
    checkpoint = CheckpointFolder(folder)
    return checkpoint.config, checkpoint.tokenizer, checkpoint.weight_names


def test_every_record_is_complete_and_no_name_or_hub_id_is_used_twice() -> None:
    names = [family.name for family in FAMILIES]
    ids = [hub_id for family in FAMILIES for hub_id in family.published]
    assert len(set(names)) == len(names)
    assert len(set(ids)) == len(ids)
    for family in FAMILIES:
        assert family.convention.name == family.name
        assert family.source.endswith(")")
        assert family.source[-6] == "("
        assert family.code
        assert family.architectures
        assert all(hub_id.count("/") == 1 for hub_id in family.published)


@pytest.mark.parametrize("name", DISTINCT)
def test_a_distinctive_checkpoint_is_recognised_wherever_it_lies(folders, name: str) -> None:
    assert recognise(*looked_at(folders[name])).name == name


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.published and family.name != "visual-prm"], ids=lambda family: family.name)
def test_every_published_hub_id_is_read_as_its_family(folders, family: Family) -> None:
    for hub_id in family.published:
        assert recognise(*looked_at(folders[family.name]), hub_id=hub_id) is family


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("math-shepherd", ("er-prm-mistral",)),
        ("rlhflow-mistral", ("rlhflow-deepseek", "versa-prm", "fover", "er-prm-llama")),
        ("pure-prm", ("trl-token-classification",)),
        ("math-psa", ("fover", "eurus-prm")),
    ],
)
def test_a_plain_architecture_admits_several_families_and_none_is_guessed(folders, name: str, others: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="--convention NAME") as refused:
        recognise(*looked_at(folders[name]))
    assert all(family in str(refused.value) for family in (name, *others))
    with pytest.raises(InputError):
        recognise(*looked_at(folders[name]), hub_id=family_named(name).published[0].lower() + "-v2")


def test_a_hub_id_cannot_make_a_checkpoint_what_its_config_is_not(folders) -> None:
    config, tokenizer, weights = looked_at(folders["math-shepherd"])
    with pytest.raises(InputError, match="er-prm-mistral"):
        recognise(config, tokenizer, weights, hub_id="Qwen/Qwen2.5-Math-PRM-7B")
    assert recognise(config, tokenizer, weights, hub_id="peiyi9979/math-shepherd-mistral-7b-prm").name == "math-shepherd"


def test_a_folder_called_like_a_published_model_is_still_what_it_is(tmp_path) -> None:
    folder = tiny_checkpoint("math-shepherd", tmp_path / "Qwen" / "Qwen2.5-Math-PRM-7B")
    with pytest.raises(InputError, match="math-shepherd"):
        DiscriminativeModel.from_pretrained(folder)


def test_architecture_labels_pieces_and_weights_each_can_rule_a_family_out() -> None:
    qwen, qwen_tokenizer = family_named("qwen2.5-math-prm"), family_tokenizer("qwen", added=("<extra_0>",))
    config = SimpleNamespace(architectures=["Qwen2ForProcessRewardModel"], num_labels=2)
    weights = {"model.norm.weight", *qwen.head_weights}
    assert qwen.matches(config, qwen_tokenizer, weights)
    assert qwen.matches(config, qwen_tokenizer), "weights that are not known yet rule nothing out"
    assert not qwen.matches(SimpleNamespace(architectures=["Qwen2ForCausalLM"], num_labels=2), qwen_tokenizer, weights)
    assert not qwen.matches(SimpleNamespace(architectures=None), qwen_tokenizer, weights)
    assert not qwen.matches(config, family_tokenizer("qwen"), weights)
    assert not qwen.matches(config, qwen_tokenizer, {"score.weight"})
    trl = family_named("trl-token-classification")
    assert trl.matches(SimpleNamespace(architectures=["Qwen2ForTokenClassification"], num_labels=2), qwen_tokenizer)
    assert not trl.matches(SimpleNamespace(architectures=["Qwen2ForTokenClassification"], num_labels=3), qwen_tokenizer)


def test_a_model_that_stepward_trained_carries_its_own_and_an_explicit_convention_wins(folders, tmp_path) -> None:
    own = Convention(marker="<extra_0>", tokenisation="joint", name="mine")
    folder = folders["qwen2.5-math-prm"]
    settings = json.loads((folder / "config.json").read_text())
    trained = tmp_path / "trained"
    trained.symlink_to(folder, target_is_directory=True)
    assert DiscriminativeModel.from_pretrained(trained).convention.name == "qwen2.5-math-prm"
    copy = tiny_checkpoint("qwen2.5-math-prm", tmp_path / "copy")
    (copy / "config.json").write_text(json.dumps(settings | {"stepward": own.to_json()}))
    assert DiscriminativeModel.from_pretrained(copy).convention == own
    assert DiscriminativeModel.from_pretrained(copy, convention=Convention(marker=" #")).convention == Convention(marker=" #")


@pytest.mark.parametrize("name", ["eurus-prm", "pathfinder-prm"])
def test_families_of_several_passes_are_not_read_in_one(folders, name: str) -> None:
    known = family_named(name).convention
    for convention in (known, replace(known, max_tokens=99)):
        with pytest.raises(InputError, match=f"{name} is read by the {family_named(name).reader} model"):
            DiscriminativeModel.from_pretrained(folders[name], convention=convention)
        assert type(load_reward_model(folders[name], convention=convention, reference="none")) is not DiscriminativeModel


def test_a_convention_for_another_tokenizer_is_refused(folders, tmp_path) -> None:
    with pytest.raises(InputError, match="'▁ки'"):
        DiscriminativeModel.from_pretrained(folders["math-psa"], convention=family_named("math-shepherd").convention)
    plain = tiny_prm("llama", tmp_path)
    with pytest.raises(InputError, match="'<extra_0>'"):
        DiscriminativeModel.from_pretrained(plain, convention=family_named("qwen2.5-math-prm").convention)
    with pytest.raises(InputError, match=r"has no '\?\?'"):
        DiscriminativeModel.from_pretrained(folders["math-psa"], convention=Convention(head="tokens", tokens=("Ġ+", "??")))


def test_unknown_families_list_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown convention 'x'.*math-shepherd"):
        family_named("x")
