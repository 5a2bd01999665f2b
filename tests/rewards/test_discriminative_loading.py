"""Loading: heads under the checkpoints' own names and in every file form, adapters, number formats, devices; what is missing is named, nothing is guessed."""

from __future__ import annotations

import asyncio
import json
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stepward.core import InputError, MissingExtra, Trajectory
from stepward.policies.checkpoint import quiet_transformers
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.rewards.families import family_named
from stepward.rewards.loading import CheckpointFolder, Placement
from stepward.rewards.weight_files import WeightFiles
from stepward.testing.checkpoints import tiny_checkpoint

TRAJECTORY = Trajectory.from_texts("Tom has 3 apples. How many?", ["Tom has 7.", "So 7 - 2 = 5.", "", "The answer is 5."])


def values(folder, **options) -> np.ndarray:
    return asyncio.run(DiscriminativeModel.from_pretrained(folder, **options).score(TRAJECTORY)).values


def rewritten(folder, change) -> None:
    """Save the folder's weights again after `change` has worked on them."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["qwen2.5-math-prm", "pqm"])
def test_one_file_shards_and_pytorch_files_give_the_same_scores(tmp_path, name: str) -> None:
    found = [values(tiny_checkpoint(name, tmp_path / form, form=form)) for form in ("safetensors", "sharded", "bin")]
    assert np.isfinite(found[0]).all()
    assert found[0].tolist() == found[1].tolist() == found[2].tolist()
    assert sorted(file.name for file in (tmp_path / "sharded").glob("*.safetensors*"))[0] == "model-00001-of-00002.safetensors"


def test_only_the_rows_that_are_asked_for_are_read(tmp_path) -> None:
    folder = tiny_checkpoint("math-shepherd", tmp_path)
    files = WeightFiles(folder)
    whole = files.tensor("lm_head.weight")
    assert torch.equal(files.rows("lm_head.weight", [7, 3]), whole[[7, 3]])


def test_remote_code_is_never_asked_for(tmp_path) -> None:
    folder = tiny_checkpoint("qwen2.5-math-prm", tmp_path)
    assert "auto_map" in json.loads((folder / "config.json").read_text())
    (folder / "modeling_qwen2_rm.py").write_text("raise RuntimeError('remote code ran')")
    assert np.isfinite(values(folder)).all()


def test_a_missing_head_is_named(tmp_path) -> None:
    folder = tiny_checkpoint("skywork-o1-open-prm", tmp_path)
    convention = family_named("skywork-o1-open-prm").convention
    rewritten(folder, lambda tensors: [tensors.pop(name) for name in ("v_head.summary.weight", "v_head.summary.bias")])
    with pytest.raises(InputError, match=r"lacks trained weights.*v_head\.summary"):
        DiscriminativeModel.from_pretrained(folder, convention=convention)
    with pytest.raises(InputError, match="Qwen2ForPrmModel"):
        DiscriminativeModel.from_pretrained(folder)


def test_a_head_of_two_layers_needs_both(tmp_path) -> None:
    folder = tiny_checkpoint("qwen2.5-math-prm", tmp_path)
    rewritten(folder, lambda tensors: tensors.pop("score.2.weight"))
    with pytest.raises(InputError, match=r"score\.2\.weight"):
        DiscriminativeModel.from_pretrained(folder, convention=family_named("qwen2.5-math-prm").convention)


def test_head_weights_that_nothing_reads_are_named(tmp_path) -> None:
    folder = tiny_checkpoint("qwen2.5-math-prm", tmp_path)
    rewritten(folder, lambda tensors: tensors.update({"score.4.weight": torch.zeros(2, 2)}))
    with pytest.raises(InputError, match=r"does not use: score\.4\.weight"):
        DiscriminativeModel.from_pretrained(folder)


def test_a_head_of_another_size_is_refused(tmp_path) -> None:
    folder = tiny_checkpoint("reasoneval-34b", tmp_path)
    with pytest.raises(InputError, match=r"3 outputs.*reads 2"):
        DiscriminativeModel.from_pretrained(folder, convention=family_named("trl-token-classification").convention)


def test_a_backbone_without_all_its_weights_is_refused(tmp_path) -> None:
    folder = tiny_checkpoint("qwen2.5-math-prm", tmp_path)
    rewritten(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(InputError, match=r"lacks weights for layers\.1\.mlp\.up_proj\.weight"):
        DiscriminativeModel.from_pretrained(folder)


def test_a_tied_output_layer_is_the_embedding(tmp_path) -> None:
    folder = tiny_checkpoint("math-shepherd", tmp_path)
    convention = family_named("math-shepherd").convention
    rewritten(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}))
    untied = values(folder, convention=convention)
    rewritten(folder, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(InputError, match=r"lacks lm_head\.weight"):
        DiscriminativeModel.from_pretrained(folder, convention=convention)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": True}))
    assert values(folder, convention=convention) == pytest.approx(untied, abs=1e-6)


def test_logit_scales_of_the_language_model_count(tmp_path) -> None:
    """Granite divides its logits, Gemma caps them: the probabilities of two pieces change with that."""
    from stepward.rewards.head_weights import make_head

    checkpoint = CheckpointFolder(tiny_checkpoint("math-shepherd", tmp_path))
    convention = family_named("math-shepherd").convention
    hidden, none = torch.randn(5, 32), torch.zeros(5)
    plain = make_head(convention, checkpoint.files, checkpoint.tokenizer, checkpoint.config)(hidden, none)
    checkpoint.config.logits_scaling = 4.0
    assert torch.allclose(make_head(convention, checkpoint.files, checkpoint.tokenizer, checkpoint.config)(hidden, none), plain / 4.0)
    checkpoint.config.final_logit_softcapping = 0.5
    capped = make_head(convention, checkpoint.files, checkpoint.tokenizer, checkpoint.config)(hidden, none)
    assert torch.allclose(capped, 0.5 * torch.tanh(plain / 2.0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_number_formats_change_scores_a_little_and_the_head_stays_fp32(tmp_path, dtype: str) -> None:
    folder = tiny_checkpoint("skywork-o1-open-prm", tmp_path)
    model = DiscriminativeModel.from_pretrained(folder, dtype=dtype)
    assert model.body.dtype is getattr(torch, dtype)
    assert model.head.tensors[0].dtype is torch.float32
    assert values(folder, dtype=dtype) == pytest.approx(values(folder), abs=0.1)
    assert model.fingerprint != DiscriminativeModel.from_pretrained(folder).fingerprint


def test_placements_that_do_not_exist_are_refused(monkeypatch) -> None:
    for options, message in (
        ({"dtype": "int3"}, "dtype must be one of float32, bfloat16, float16"),
        ({"device": "gpu"}, "'gpu' is not a device; use cpu, cuda"),
        ({"device": "cuda:97"}, "'cuda:97' is not here"),
        ({"device": "meta"}, "'meta' is not here"),
        ({"load_in": "2bit"}, "load_in must be one of 8bit, 4bit"),
    ):
        with pytest.raises(InputError, match=message):
            Placement(**options)


def test_quantised_weights_need_their_package(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    folder = tiny_checkpoint("qwen2.5-math-prm", tmp_path)
    for load_in in ("8bit", "4bit"):
        with pytest.raises(MissingExtra, match=r"bitsandbytes is not installed.*stepward\[quantized\]"):
            DiscriminativeModel.from_pretrained(folder, load_in=load_in)


def adapter(base, folder):
    """A LoRA adapter on q and v with random weights, saved with a path to its base."""
    import peft
    from transformers import AutoModelForCausalLM

    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                torch.manual_seed(len(name))
                parameter.normal_(std=0.3)
    wrapped.save_pretrained(folder)
    return wrapped


def test_an_adapter_is_merged_into_its_base(tmp_path) -> None:
    base = tiny_checkpoint("math-psa", tmp_path / "base")
    convention = family_named("math-psa").convention
    wrapped = adapter(base, tmp_path / "adapter")
    model = DiscriminativeModel.from_pretrained(tmp_path / "adapter", convention=convention)
    encoded = model.encoder(TRAJECTORY)
    with torch.no_grad():
        logits = wrapped.eval()(torch.from_numpy(encoded.ids)[None]).logits[0, encoded.read]
    pieces = model.tokenizer.convert_tokens_to_ids(list(convention.tokens))
    expected = logits[:, pieces].double().softmax(-1)[:, 0].numpy()
    assert asyncio.run(model.score(TRAJECTORY)).values == pytest.approx(expected, abs=1e-5)
    assert values(base, convention=convention) != pytest.approx(expected, abs=1e-3)
    assert model.fingerprint != DiscriminativeModel.from_pretrained(base, convention=convention).fingerprint


def test_an_adapter_without_its_package_or_base_says_so(tmp_path, monkeypatch) -> None:
    base = tiny_checkpoint("math-psa", tmp_path / "base")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base), "peft_type": "LORA"}))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"peft is not installed.*stepward\[lora\]"):
        DiscriminativeModel.from_pretrained(tmp_path / "adapter", convention=family_named("math-psa").convention)
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="does not name its base model"):
        DiscriminativeModel.from_pretrained(tmp_path / "adapter")


def test_a_compiled_body_gives_the_same_scores(tmp_path, monkeypatch) -> None:
    """The real compiler takes minutes here; this one runs the same traced graph without generating code."""
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compile_module(self, backend="eager", **options))
    folder = tiny_checkpoint("universal-prm", tmp_path, layers=1)
    convention = family_named("universal-prm").convention
    model = DiscriminativeModel.from_pretrained(folder, convention=convention, compile=True)
    assert asyncio.run(model.score(TRAJECTORY)).values == pytest.approx(values(folder, convention=convention), abs=1e-5)

    async def twice():
        return await asyncio.gather(model.score(TRAJECTORY), model.score(TRAJECTORY.prefix(2)), model.score(TRAJECTORY))

    first, part, again = asyncio.run(twice())
    assert first == again
    assert part.values == pytest.approx(first.values[:2], abs=1e-5)


def test_what_is_no_checkpoint_says_what_to_give(tmp_path) -> None:
    folder = tiny_checkpoint("qwen2.5-math-prm", tmp_path / "a")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no 'stepward' entry|no model\.safetensors"):
        DiscriminativeModel.from_pretrained(folder)
    with pytest.raises(InputError, match=r"no model\.safetensors or pytorch_model\.bin"):
        DiscriminativeModel.from_pretrained(folder, convention=family_named("qwen2.5-math-prm").convention)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "qwen9_rm"}))
    with pytest.raises(InputError, match="knows no model type 'qwen9_rm'; remote code is not run"):
        DiscriminativeModel.from_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="cannot load a reward model"):
        DiscriminativeModel.from_pretrained(folder)
    damaged = tiny_checkpoint("qwen2.5-math-prm", tmp_path / "b")
    (damaged / "model.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(InputError, match="cannot read the weight file"):
        DiscriminativeModel.from_pretrained(damaged)
    poisoned = tiny_checkpoint("pqm", tmp_path / "c", form="bin")
    torch.save({"x": sys.exit}, poisoned / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"cannot read the weight file .* safely"):
        DiscriminativeModel.from_pretrained(poisoned)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", "[1]", "config.json holds no JSON object"),
        ("config.json", '{"model_type": "qwen2", "hidden_size": "wide"}', "hidden_size"),
        ("config.json", '{"model_type": "qwen2", "architectures": ["Qwen2ForPrmModel"], "hidden_size": 48, "stepward": 1}', "has no version"),
        ("model.safetensors.index.json", "{}", "list of weight files"),
        ("model.safetensors.index.json", "{", "list of weight files"),
        ("adapter_config.json", "[]", "holds no JSON object"),
        ("adapter_config.json", '{"base_model_name_or_path": 5}', "does not name its base model"),
    ],
)
def test_damaged_files_are_the_users_to_mend(tmp_path, file: str, text: str, message: str) -> None:
    folder = tiny_checkpoint("skywork-o1-open-prm", tmp_path)
    (folder / file).write_text(text)
    with pytest.raises(InputError, match=message):
        DiscriminativeModel.from_pretrained(folder)


def test_weights_of_another_size_than_the_config_says_are_refused(tmp_path) -> None:
    folder = tiny_checkpoint("skywork-o1-open-prm", tmp_path)
    rewritten(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(7)}))
    with pytest.raises(InputError, match=r"other sizes than its config.json says"):
        DiscriminativeModel.from_pretrained(folder)


def test_an_adapter_of_a_token_classifier_brings_its_head(tmp_path) -> None:
    import peft
    from transformers import AutoModelForTokenClassification

    base = tiny_checkpoint("trl-token-classification", tmp_path / "base")
    config = peft.LoraConfig(r=2, target_modules=["v_proj"], task_type="TOKEN_CLS")
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = peft.get_peft_model(AutoModelForTokenClassification.from_pretrained(base), config).eval()
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_B" in name or "modules_to_save" in name:
                    parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        wrapped.save_pretrained(tmp_path / "adapter")
    convention = family_named("trl-token-classification").convention
    model = DiscriminativeModel.from_pretrained(tmp_path / "adapter", convention=convention)
    encoded = model.encoder(TRAJECTORY)
    with torch.no_grad():
        expected = wrapped(torch.from_numpy(encoded.ids)[None]).logits[0, encoded.read].double().softmax(-1)[:, 1].numpy()
    assert asyncio.run(model.score(TRAJECTORY)).values == pytest.approx(expected, abs=1e-5)
    assert values(base, convention=convention) != pytest.approx(expected, abs=1e-3)


def test_a_hub_id_is_fetched_once_as_safetensors_and_decides_between_families(tmp_path, monkeypatch) -> None:
    """The hub is a folder here; what is asked of it is what matters."""
    folders = {"peiyi9979/math-shepherd-mistral-7b-prm": tiny_checkpoint("math-shepherd", tmp_path / "a"), "someone/old": tmp_path / "b"}
    tiny_checkpoint("pqm", tmp_path / "b", form="bin")
    asked: list[tuple[str, bool]] = []

    def snapshot_download(hub_id: str, *, ignore_patterns: list[str]) -> str:
        asked.append((hub_id, "*.bin" in ignore_patterns))
        if hub_id not in folders:
            raise OSError(f"{hub_id} is not here\nand more")
        return str(folders[hub_id])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert DiscriminativeModel.from_pretrained("peiyi9979/math-shepherd-mistral-7b-prm").convention.name == "math-shepherd"
    assert DiscriminativeModel.from_pretrained("someone/old").convention.name == "pqm"
    assert asked == [("peiyi9979/math-shepherd-mistral-7b-prm", True), ("someone/old", True), ("someone/old", False)]
    with pytest.raises(InputError, match="cannot load a reward model from 'no/such': no/such is not here; give a folder"):
        DiscriminativeModel.from_pretrained("no/such")
