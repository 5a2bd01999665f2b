"""The reader gives what the body and the head give one sequence at a time, and pays for distinct tokens only."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.reading import SETTINGS, ClassHead, LogprobHead, n_distinct, naive, random_tree, tiny_body

from stepward.core.errors import InputError
from stepward.engine.reader.pool import Pool
from stepward.engine.reader.query import Query, Reading
from stepward.engine.reader.reader import Reader

HEADS = (ClassHead, LogprobHead)
BODIES: dict[str, Any] = {}


def body_of(model_type: str) -> Any:
    """Bodies are never changed, so that tests share them."""
    if model_type not in BODIES:
        BODIES[model_type] = tiny_body(model_type)
    return BODIES[model_type]


def assert_true(body: Any, head: Any, queries: Sequence[Query], readings: Sequence[Reading], tolerance: float = 1e-4) -> None:
    assert len(readings) == len(queries)
    for truth, query, reading in zip(naive(body, head, queries), queries, readings, strict=True):
        assert reading.values.shape == (len(query.at), head.n_outputs)
        assert reading.values.dtype == np.float64
        np.testing.assert_allclose(reading.values, truth, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("head_type", HEADS)
@pytest.mark.parametrize("model_type", SETTINGS)
def test_readings_equal_one_by_one_computation_and_cost_the_distinct_tokens(model_type: str, head_type: Any) -> None:
    body, head = body_of(model_type), head_type()
    reader = Reader(body, head)
    assert reader.path == "packed"
    queries = random_tree(1, shift=head.shift)
    first, second = queries[: len(queries) // 3], queries[len(queries) // 3 :]
    assert_true(body, head, first, reader(first))
    assert reader.n_computed == n_distinct(first)
    assert_true(body, head, second, reader(second))
    assert reader.n_computed == n_distinct(queries)


@pytest.mark.parametrize(
    "options", [{"cache_bytes": 0}, {"cache_bytes": 1}, {"cache_bytes": 30_000}, {"max_batch_tokens": 5}, {"cache_bytes": 30_000, "max_batch_tokens": 1}]
)
@pytest.mark.parametrize("model_type", ["qwen2", "mistral", "gemma2"])
def test_neither_memory_nor_the_size_of_passes_changes_readings(model_type: str, options: dict[str, int]) -> None:
    body, head = body_of(model_type), LogprobHead()
    reader = Reader(body, head, **options)
    for seed in range(3):
        queries = random_tree(seed, shift=1)
        before = reader.n_computed
        readings = reader(queries)
        assert_true(body, head, queries, readings)
        assert sum(reading.n_computed for reading in readings) == reader.n_computed - before == n_distinct(queries)  # what is shared, is shared within a call
        assert reader.cached_bytes <= options.get("cache_bytes", 1 << 28)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seeds=st.lists(st.integers(0, 10_000), min_size=1, max_size=3),
    vocabulary=st.integers(2, 6),
    head_type=st.sampled_from(HEADS),
    model_type=st.sampled_from(["qwen2", "gpt2", "mistral"]),
    cache_bytes=st.sampled_from([0, 5_000, 20_000, 1 << 20]),
    max_batch_tokens=st.integers(1, 40),
)
def test_any_tries_in_any_order_through_any_cache(
    seeds: list[int], vocabulary: int, head_type: Any, model_type: str, cache_bytes: int, max_batch_tokens: int
) -> None:
    body, head = body_of(model_type), head_type()
    reader = Reader(body, head, cache_bytes=cache_bytes, max_batch_tokens=max_batch_tokens)
    for seed in seeds:
        queries = random_tree(seed, vocabulary=vocabulary, depth=2, shift=head.shift)
        readings = reader(queries)
        assert_true(body, head, queries, readings)
        assert all(
            reading.n_computed + reading.n_cached == (query.at[-1] + 1 if len(query.at) else 0) for query, reading in zip(queries, readings, strict=True)
        )
        assert sum(reading.n_computed for reading in readings) <= n_distinct(queries)
        assert reader.cached_bytes <= cache_bytes


@pytest.mark.parametrize("head_type", HEADS)
@pytest.mark.parametrize("model_type", ["qwen2", "phi3"])
def test_a_growing_beam_pays_for_its_new_tokens_and_reads_its_new_positions(model_type: str, head_type: Any) -> None:
    body, head, rng = body_of(model_type), head_type(), np.random.default_rng(5)
    reader = Reader(body, head)
    beam, so_far = [rng.integers(0, 61, 20)], []
    for _ in range(5):
        head.n_rows = 0
        children = [np.concatenate([prefix, rng.integers(0, 61, 6)]) for prefix in beam for _ in range(3)]
        queries = [Query(ids, np.arange(25, len(ids), 6)) for ids in children]
        before = n_distinct(so_far)
        so_far.extend(queries)
        readings = reader(queries)
        assert sum(reading.n_computed for reading in readings) == n_distinct(so_far) - before
        assert head.n_rows == len(queries)
        assert_true(body, head, queries, readings)
        beam = [children[index] for index in rng.choice(len(children), 2, replace=False)]


def test_the_same_call_again_costs_nothing() -> None:
    body, head = body_of("qwen2"), ClassHead()
    reader = Reader(body, head)
    queries = random_tree(2)
    first, head.n_rows = reader(queries), 0
    again = reader(queries[::-1])[::-1]
    assert [reading.n_computed for reading in again] == [0] * len(queries)
    assert head.n_rows == 0
    assert all(np.array_equal(one.values, other.values) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("model_type", ["qwen2", "phi3"])
def test_positions_that_were_not_read_before_cost_no_tokens(model_type: str) -> None:
    body, head, ids = body_of(model_type), ClassHead(), np.random.default_rng(0).integers(0, 61, 30)
    reader = Reader(body, head)
    reader([Query(ids, np.array([29]))])
    queries = [Query(ids, np.array([3, 17, 29])), Query(ids[:12], np.arange(12))]
    readings = reader(queries)
    assert [reading.n_computed for reading in readings] == [0, 0]
    assert_true(body, head, queries, readings)


def test_tokens_behind_the_last_position_are_not_read() -> None:
    reader = Reader(body_of("qwen2"), ClassHead())
    ids = np.arange(40)
    (reading,) = reader([Query(ids, np.array([4, 9]))])
    assert (reading.n_computed, reading.n_cached) == (10, 0)
    (nothing,) = reader([Query(ids, np.array([], dtype=np.int64))])
    assert (nothing.n_computed, nothing.n_cached, nothing.values.shape) == (0, 0, (0, 2))
    assert reader([]) == []


def test_new_tokens_are_charged_to_the_first_query_that_has_them() -> None:
    reader = Reader(body_of("qwen2"), ClassHead())
    stem = np.arange(10)
    queries = [Query(np.append(stem, tail), np.array([10])) for tail in (1, 2, 2)]
    assert [(reading.n_computed, reading.n_cached) for reading in reader(queries)] == [(11, 0), (1, 10), (0, 11)]
    assert (reader.n_computed, reader.n_cached) == (12, 21)


def test_what_was_used_least_recently_is_evicted_first() -> None:
    body, head, rng = body_of("qwen2"), ClassHead(), np.random.default_rng(6)
    sequences = [Query(rng.integers(0, 61, 50), np.array([49])) for _ in range(5)]
    reader = Reader(body, head, cache_bytes=160 * slot_bytes(body, head), max_batch_tokens=50)
    for index in (0, 1, 2, 0, 3):  # 3 have room: 1 makes way for 3
        reader([sequences[index]])
    assert [reader([sequences[index]])[0].n_computed for index in (0, 2, 3)] == [0, 0, 0]
    assert reader([sequences[1]])[0].n_computed == 50


def test_a_call_larger_than_the_cache_still_shares_all_its_prefixes() -> None:
    body, head, rng = body_of("qwen2"), ClassHead(), np.random.default_rng(8)
    stems = [rng.integers(0, 61, 40) for _ in range(4)]
    queries = [Query(np.concatenate([stems[index % 4], rng.integers(0, 61, 30)]), np.array([69])) for index in range(40)]
    reader = Reader(body, head, cache_bytes=40_000, max_batch_tokens=100)
    readings = reader(queries)
    assert reader.n_computed == n_distinct(queries)
    assert 0 < reader.cached_bytes <= 40_000
    assert_true(body, head, queries, readings)


def test_what_later_queries_of_a_call_need_makes_way_when_nothing_else_can() -> None:
    body, head, rng = body_of("qwen2"), ClassHead(), np.random.default_rng(9)
    cached, new = (Query(rng.integers(0, 61, length), np.array([length - 1])) for length in (90, 80))
    reader = Reader(body, head, cache_bytes=100 * slot_bytes(body, head), max_batch_tokens=1)
    reader([cached])
    readings = reader([new, cached])
    assert_true(body, head, [new, cached], readings)
    assert [reading.n_computed for reading in readings] == [80, 90]  # the 100 slots cannot hold both
    assert [reading.n_computed for reading in reader([cached, new])] == [0, 80]


@pytest.mark.parametrize("cache_slots", [0, 60, 500])
def test_a_call_uses_no_more_memory_than_the_cache_or_its_longest_query_and_a_pass(cache_slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    body, head, rng = body_of("qwen2"), ClassHead(), np.random.default_rng(10)
    reader = Reader(body, head, cache_bytes=cache_slots * slot_bytes(body, head), max_batch_tokens=40)
    capacities: list[int] = []
    grow = Pool.grow
    monkeypatch.setattr(Pool, "grow", lambda pool, capacity: (capacities.append(capacity), grow(pool, capacity))[1])
    for _ in range(3):
        reader([Query(rng.integers(0, 61, length), np.array([length - 1])) for length in (30, 70, 50, 20, 70)])
        assert 0 < max(capacities) <= max(cache_slots, 70 + 40)


def slot_bytes(body: Any, head: Any) -> int:
    """Bytes that a cached token takes."""
    reader = Reader(body, head)
    assert reader._packed is not None
    return reader._packed.cache.pool.slot_bytes


def test_clear_gives_memory_back() -> None:
    reader = Reader(body_of("qwen2"), ClassHead())
    queries = random_tree(3)
    reader(queries)
    assert reader.cached_bytes > 0
    reader.clear()
    assert reader.cached_bytes == 0
    assert sum(reading.n_computed for reading in reader(queries)) == n_distinct(queries)


def test_weights_that_change_in_place_are_noticed() -> None:
    body, head = tiny_body("qwen2"), ClassHead()
    reader = Reader(body, head)
    queries = random_tree(4)
    reader(queries)
    with torch.no_grad():
        body.layers[0].mlp.up_proj.weight.mul_(1.5)
    assert_true(body, head, queries, reader(queries))


def test_threads_take_turns() -> None:
    body, head = body_of("qwen2"), ClassHead()
    reader = Reader(body, head, cache_bytes=50_000, max_batch_tokens=64)
    batches = [random_tree(seed) for seed in range(8)]
    readings: dict[int, list[Reading]] = {}

    def work(parity: int) -> None:
        for index in range(parity, 8, 2):
            readings[index] = reader(batches[index])

    threads = [threading.Thread(target=work, args=(parity,)) for parity in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, queries in enumerate(batches):
        assert_true(body, head, queries, readings[index])
    assert reader.n_computed == sum(reading.n_computed for one in readings.values() for reading in one)


@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.3), (torch.float16, 0.05), (torch.float64, 1e-5)])
def test_other_number_formats(model_type: str, dtype: torch.dtype, tolerance: float) -> None:
    body, exact = tiny_body(model_type, dtype), tiny_body(model_type, torch.float64)
    exact.load_state_dict(body.state_dict())
    reader = Reader(body, ClassHead())
    assert reader.path == "packed"
    queries = random_tree(1)
    assert_true(exact, ClassHead(), queries, reader(queries), tolerance)


def test_a_failing_head_leaves_nothing_half_done_behind() -> None:
    body, head = body_of("qwen2"), ClassHead()
    reader = Reader(body, head)
    queries = random_tree(7)
    right, head.weight = head.weight, torch.zeros(2, 5)
    with pytest.raises(RuntimeError):
        reader(queries)
    head.weight = right
    assert_true(body, head, queries, reader(queries))
    assert reader.n_computed == n_distinct(queries)


@pytest.mark.parametrize(
    ("ids", "at", "what"),
    [
        ([1, 61], [0], "1..61"),
        ([-1], [0], "-1..-1"),
        ([1, 2], [2], r"\[2\]"),
        ([1, 2], [-1], r"\[-1\]"),
        ([1, 2], [1, 0], r"\[1, 0\]"),
        ([1, 2, 3], [1, 1], r"\[1, 1\]"),
    ],
)
def test_bad_queries_are_refused_by_their_values(ids: list[int], at: list[int], what: str) -> None:
    with pytest.raises(InputError, match=what):
        Reader(body_of("qwen2"), ClassHead())([Query(np.array(ids), np.array(at))])


def test_a_head_that_looks_back_cannot_read_the_first_token() -> None:
    with pytest.raises(InputError, match=r"\[0, 1\].*1\.\.2"):
        Reader(body_of("qwen2"), LogprobHead())([Query(np.array([1, 2, 3]), np.array([0, 1]))])


@pytest.mark.parametrize(("options", "what"), [({"cache_bytes": -1}, "cache_bytes is -1"), ({"max_batch_tokens": 0}, "max_batch_tokens is 0")])
def test_bad_options_are_refused(options: dict[str, int], what: str) -> None:
    with pytest.raises(InputError, match=what):
        Reader(body_of("qwen2"), ClassHead(), **options)


def test_a_body_in_training_mode_is_refused() -> None:
    body = tiny_body("qwen2").train()
    with pytest.raises(InputError, match="eval"):
        Reader(body, ClassHead())


def test_a_head_that_changes_in_place_is_noticed() -> None:
    class Trained(ClassHead):
        @property
        def tensors(self) -> tuple[torch.Tensor, ...]:
            return (self.weight,)

    body, head = body_of("qwen2"), Trained()
    reader = Reader(body, head)
    queries = random_tree(4)
    reader(queries)
    head.weight.mul_(1.5)
    assert_true(body, head, queries, reader(queries))


def test_a_body_that_went_into_training_mode_is_refused() -> None:
    body = tiny_body("qwen2")
    reader = Reader(body, ClassHead())
    body.train()
    with pytest.raises(InputError, match="eval"):
        reader(random_tree(1))


def test_a_body_that_went_into_another_number_format_is_read_anew() -> None:
    body, head = tiny_body("qwen2"), ClassHead()
    reader = Reader(body, head)
    queries = random_tree(4)
    reader(queries[: len(queries) // 2])
    body.double()
    assert_true(body, head, queries, reader(queries), 1e-5)
