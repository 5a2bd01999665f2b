"""Which bodies are read packed, which padded, and that the difference is in the cost only."""

from __future__ import annotations

import copy
import logging
import threading
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine.reading import ClassHead, LogprobHead, n_distinct, naive, random_tree, tiny_body

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
