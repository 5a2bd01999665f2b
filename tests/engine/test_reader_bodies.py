"""Which bodies are read packed, which padded, and that the difference is in the cost only."""

from __future__ import annotations

import copy
import logging
import threading
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine.reading import TINY, ClassHead, LogprobHead, n_distinct, naive, random_tree, tiny_body
from transformers import CONFIG_MAPPING

from stepward.engine.reader import interface, probe
from stepward.engine.reader.forward import Unsupported
from stepward.engine.reader.query import Query
from stepward.engine.reader.reader import Reader

DECODERS: dict[str, dict[str, Any]] = {
    "cohere": {},
    "deepseek_v3": {
        "num_key_value_heads": 4, "kv_lora_rank": 8, "q_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "head_dim": 4,
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    },
    "gemma3_text": {"head_dim": 8, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "gpt_neox": {},
    "gpt_oss": {"head_dim": 8, "sliding_window": 5, "num_local_experts": 4, "num_experts_per_tok": 2},
    "granite": {"attention_multiplier": 0.2, "residual_multiplier": 0.7},
    "llama4_text": {"head_dim": 8, "attention_chunk_size": 6, "num_local_experts": 2, "intermediate_size_mlp": 48},
    "olmo2": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "qwen3_moe": {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "starcoder2": {"sliding_window": 6},
}  # fmt: skip


def difference(body: Any, head: Any, reader: Reader, queries: list[Query]) -> float:
    pairs = zip(naive(body, head, queries), reader(queries), strict=True)
    return max(float(np.abs(truth - reading.values).max(initial=0.0) / max(1.0, np.abs(truth).max(initial=0.0))) for truth, reading in pairs)


@pytest.mark.parametrize("model_type", DECODERS)
def test_decoders_of_transformers_are_read_packed(model_type: str) -> None:
    body, head = tiny_body(model_type, **DECODERS[model_type]), ClassHead()
    reader = Reader(body, head, max_batch_tokens=50)
    assert (reader.path, reader.reason) == ("packed", "")
    queries = random_tree(1)
    assert difference(body, head, reader, queries) < 1e-4
    assert reader.n_computed == n_distinct(queries)


@pytest.mark.parametrize(
    ("model_type", "changes", "reason"),
    [
        ("mamba", {"state_size": 4}, "takes no position ids"),
        ("bloom", {"n_layer": 2, "n_head": 4}, "takes no position ids"),
        ("gptj", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}, "no attention that can be replaced"),
        ("diffllama", {}, "attends more than once"),
        ("lfm2", {"layer_types": ["conv", "full_attention", "conv"], "block_multiple_of": 4}, "gives other states"),
        ("bert", {}, "not causal"),
    ],
)
def test_other_bodies_are_read_padded_and_the_log_says_why(model_type: str, changes: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture) -> None:
    body, head = tiny_body(model_type, **changes), ClassHead()
    with caplog.at_level(logging.WARNING, logger="stepward"):
        reader = Reader(body, head, max_batch_tokens=60)
    assert reader.path == "padded"
    assert reason in reader.reason
    assert reader.reason in caplog.text
    assert reader.cached_bytes == 0
    queries = random_tree(1)
    assert difference(body, head, reader, queries + queries[:3]) < 1e-4
    again = reader([queries[0], queries[0]])
    assert (again[0].n_cached, again[1].n_computed) == (0, 0)


def test_padded_reading_knows_heads_that_look_back() -> None:
    body, head = tiny_body("mamba", state_size=4), LogprobHead()
    assert difference(body, head, Reader(body, head), random_tree(2, shift=1)) < 1e-4


@pytest.mark.parametrize(
    ("model_type", "rope"),
    [
        ("llama", {"rope_type": "dynamic", "factor": 2.0}),
        ("phi3", {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}),
    ],
)
def test_positions_that_depend_on_the_length_do_not_leak_between_sequences(model_type: str, rope: dict[str, Any]) -> None:
    changes = {"max_position_embeddings": 20 if model_type == "llama" else 40, "original_max_position_embeddings": 20}
    body, head = tiny_body(model_type, rope_parameters={"rope_theta": 10000.0, **rope}, **changes), ClassHead()
    reader = Reader(body, head)
    assert reader.path == "packed"
    ids = np.random.default_rng(0).integers(0, 61, 33)
    queries = [Query(ids[:length], np.arange(length)) for length in (12, 33, 19, 21, 8)]
    pristine = copy.deepcopy(body)
    for _ in range(2):
        for query, reading in zip(queries, reader(queries), strict=True):
            (truth,) = naive(copy.deepcopy(pristine), head, [query])  # a body remembers the longest sequence that it saw
            np.testing.assert_allclose(reading.values, truth, atol=1e-4, rtol=1e-4)
    assert reader.n_computed == 19 + 2 * (33 + 21)


def test_the_model_stays_as_it_was() -> None:
    body = tiny_body("gemma2", attn_implementation="eager")
    ids = torch.arange(30)[None]
    with torch.no_grad():
        before = body(input_ids=ids).last_hidden_state
    Reader(body, ClassHead())(random_tree(1))
    assert body.config._attn_implementation == "eager"
    with torch.no_grad():
        assert torch.equal(body(input_ids=ids).last_hidden_state, before)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_others_may_use_the_model_while_it_is_read(implementation: str) -> None:
    body = tiny_body("phi3", attn_implementation=implementation)
    ids, seen = torch.arange(30)[None], []
    with torch.no_grad():
        truth = body(input_ids=ids).last_hidden_state

    def meanwhile() -> None:
        with torch.no_grad():
            seen.append((body.config._attn_implementation, body(input_ids=ids).last_hidden_state))

    def start_other(*_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            other = threading.Thread(target=meanwhile)
            other.start()
            other.join()

    reader = Reader(body, ClassHead())
    handle = body.layers[1].register_forward_pre_hook(start_other)
    queries = random_tree(1)
    readings = reader(queries)
    handle.remove()
    assert seen[0][0] == "stepward_packed"
    assert torch.equal(seen[0][1], truth)
    for reading, expected in zip(readings, naive(body, ClassHead(), queries), strict=True):
        np.testing.assert_allclose(reading.values, expected, atol=1e-4, rtol=1e-4)


def test_two_readers_of_one_body_do_not_mind_each_other() -> None:
    body, heads = tiny_body("phi3"), (ClassHead(), LogprobHead())
    readers = [Reader(body, head) for head in heads]
    queries = random_tree(3, shift=1)
    results: list[float] = [1.0, 1.0]

    def work(index: int) -> None:
        results[index] = difference(body, heads[index], readers[index], queries)

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(results) < 1e-4
    assert body.config._attn_implementation != "stepward_packed"


@pytest.mark.parametrize("model_type", ["qwen2", "mistral", "llama", "qwen3"])
def test_written_out_blocks_and_the_models_own_agree(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body, head, queries = tiny_body(model_type), ClassHead(), random_tree(4)
    written_out = Reader(body, head)
    assert written_out.form == "lean"
    lean = written_out(queries)

    def never(_: Any) -> Any:
        raise Unsupported("not here")

    monkeypatch.setattr(probe, "LeanForward", never)
    reader = Reader(body, head)
    assert reader.form == "interface"
    for one, other in zip(lean, reader(queries), strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-4, rtol=1e-4)
        assert (one.n_computed, one.n_cached) == (other.n_computed, other.n_cached)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about its use of transformers
def test_adapters_are_read_through_the_model() -> None:
    import peft

    plain = tiny_body("qwen2")
    expected = naive(plain, ClassHead(), random_tree(5))
    body = peft.get_peft_model(plain, peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)).eval()
    reader = Reader(body, ClassHead())
    assert (reader.path, reader.form) == ("packed", "interface")
    assert difference(body, ClassHead(), reader, random_tree(5)) < 1e-4
    assert max(np.abs(one - other).max(initial=0.0) for one, other in zip(expected, naive(body, ClassHead(), random_tree(5)), strict=True)) > 0.1


@pytest.mark.parametrize("model_type", ["qwen2", "phi3"])
def test_errors_of_ours_are_not_taken_for_a_body_that_cannot(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(interface, "attend", broken)
    monkeypatch.setattr("stepward.engine.reader.lean.attend", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        Reader(tiny_body(model_type), ClassHead())


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("llama", {"sliding_window": 20}),
        ("mistral", {"sliding_window": 20, "layer_types": ["full_attention"] * 3}),
        ("mistral", {"sliding_window": 20, "use_sliding_window": False}),
        ("qwen2", {"sliding_window": 20, "use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention", "full_attention"]}),
    ],
)
def test_windows_are_those_that_the_models_class_heeds(model_type: str, changes: dict[str, Any]) -> None:
    body, head = tiny_body(model_type, **changes), ClassHead()  # longer than what a probe reads
    reader = Reader(body, head)
    assert reader.form == "lean"
    ids = np.random.default_rng(0).integers(0, 61, 60)
    assert difference(body, head, reader, [Query(ids, np.arange(60)), Query(ids[:50], np.arange(50))]) < 1e-4


@pytest.mark.parametrize("max_batch_tokens", [200, 10])
def test_scales_that_go_by_the_index_in_a_pass_do_not_leak_between_sequences(max_batch_tokens: int) -> None:
    changes = DECODERS["llama4_text"] | {"attn_temperature_tuning": True, "floor_scale": 20, "attn_scale": 2.0, "no_rope_layers": [1, 0, 1]}
    body, head = tiny_body("llama4_text", **changes), ClassHead()
    reader = Reader(body, head, max_batch_tokens=max_batch_tokens)
    assert reader.path == "packed"
    ids = np.random.default_rng(0).integers(0, 61, (9, 45))
    queries = [Query(row[:length], np.arange(length)) for row, length in zip(ids, (18, 45, 19, 20, 44, 8, 17, 16, 15), strict=True)]
    assert difference(body, head, reader, queries) < 1e-4


def test_what_follows_counts_where_positions_depend_on_the_length() -> None:
    body, head = tiny_body("llama", max_position_embeddings=20, rope_parameters={"rope_theta": 10000.0, "rope_type": "dynamic", "factor": 2.0}), ClassHead()
    reader = Reader(copy.deepcopy(body), head)
    query = Query(np.random.default_rng(0).integers(0, 61, 50), np.array([5, 12]))
    (truth,) = naive(body, head, [query])
    np.testing.assert_allclose(reader([query])[0].values, truth, atol=1e-4, rtol=1e-4)


def test_a_body_with_parts_of_other_modalities_stays_as_it_was() -> None:
    from transformers import AutoModel, Gemma3Config

    text = {**TINY, "head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 28, "patch_size": 14}
    torch.manual_seed(0)
    body = AutoModel.from_config(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)).eval()
    body.config.vision_config._attn_implementation = "eager"
    named = [module.config._attn_implementation for module in body.modules() if hasattr(module, "config")]
    reader, head = Reader(body, ClassHead()), ClassHead()
    assert reader.path == "packed"
    assert difference(body, head, reader, random_tree(1)) < 1e-4
    assert [module.config._attn_implementation for module in body.modules() if hasattr(module, "config")] == named


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about its use of transformers
def test_a_switch_of_adapters_is_noticed() -> None:
    import peft

    plain, head, queries = tiny_body("qwen2"), ClassHead(), random_tree(5)
    reader = Reader(plain, head)
    assert difference(plain, head, reader, queries) < 1e-4
    options = {"r": 4, "target_modules": ["q_proj", "up_proj"], "init_lora_weights": False}
    body = peft.get_peft_model(plain, peft.LoraConfig(**options)).eval()
    assert difference(body, head, reader, queries) < 1e-4
    assert reader.form == "interface"
    body.add_adapter("other", peft.LoraConfig(**options))
    body.eval()
    for name in ("other", "default"):
        body.set_adapter(name)
        assert difference(body, head, reader, queries) < 1e-4
    with body.disable_adapter():
        assert difference(body, head, reader, queries) < 1e-4
    assert difference(body, head, reader, queries) < 1e-4


def test_a_body_that_turns_out_not_to_share_is_read_padded_from_then_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    body, head, queries = tiny_body("phi3"), ClassHead(), random_tree(1)
    reader = Reader(body, head)
    assert reader.path == "packed"

    def never(*_: Any) -> Any:
        raise Unsupported("not so many tokens")

    monkeypatch.setattr(interface.InterfaceForward, "compute", never)
    assert difference(body, head, reader, queries) < 1e-4
    assert (reader.path, reader.form, reader.reason, reader.cached_bytes) == ("padded", "plain", "not so many tokens", 0)
    assert "not so many tokens" in caplog.text


def test_a_sequence_that_is_too_long_fails_alone() -> None:
    body, head = tiny_body("gpt2", n_positions=30, max_position_embeddings=30), ClassHead()
    reader = Reader(body, head)
    with pytest.raises(Exception, match="index out of range"):
        reader([Query(np.arange(40), np.array([39]))])
    assert reader.path == "packed"
    assert difference(body, head, reader, [Query(np.arange(20), np.arange(20))]) < 1e-4


def test_blocks_with_other_parts_than_their_kind_has_are_not_written_out() -> None:
    class Wrapped(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.inner(states) * 0.5

    body, head = tiny_body("llama"), ClassHead()
    body.layers[1].mlp = Wrapped(body.layers[1].mlp)
    reader = Reader(body, head)
    assert (reader.path, reader.form) == ("packed", "interface")
    assert difference(body, head, reader, random_tree(1)) < 1e-4


@pytest.mark.skipif("gemma4_text" not in CONFIG_MAPPING, reason="transformers is older than this model")
def test_a_mask_that_comes_as_a_view_of_itself_is_the_same_mask() -> None:
    changes = {"global_head_dim": 8, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 61, "num_kv_shared_layers": 1}
    kinds = ["sliding_attention", "full_attention", "full_attention"]
    body, head = tiny_body("gemma4_text", head_dim=8, sliding_window=5, layer_types=kinds, **changes), ClassHead()
    reader = Reader(body, head)
    assert (reader.path, reader.reason) == ("packed", "")
    assert difference(body, head, reader, random_tree(1)) < 1e-4


@pytest.mark.skipif("deepseek_v4" not in CONFIG_MAPPING, reason="transformers is older than this model")
def test_tokens_that_are_compressed_by_the_hundred_are_read_padded() -> None:
    changes = {"head_dim": 16, "num_key_value_heads": 1, "q_lora_rank": 16, "o_lora_rank": 8, "o_groups": 2, "index_n_heads": 2, "index_head_dim": 16}
    moe = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    kinds = ["sliding_attention", "heavily_compressed_attention", "sliding_attention"]
    body, head = tiny_body("deepseek_v4", layer_types=kinds, **changes, **moe), ClassHead()
    reader = Reader(body, head)
    ids = np.random.default_rng(0).integers(0, 61, 150)
    queries = [Query(ids[:100], np.arange(100)), Query(ids, np.arange(150))]
    assert max(difference(body, head, reader, [query]) for query in queries) < 1e-4
    assert reader.path == "padded"
