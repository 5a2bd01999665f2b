"""Parts of the reader by themselves: the prefix tree, the tiles of a pass, attention over them, and the slots of the pool."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.reading import random_tree

from stepward.engine.reader import attention
from stepward.engine.reader.attention import attend
from stepward.engine.reader.pool import Pool
from stepward.engine.reader.tiles import Costs, Piece, Rule, as_slice, tiles_of
from stepward.engine.reader.tree import Node, PrefixTree, depth_first

CPU = torch.device("cpu")


def settled_tree(seed: int, vocabulary: int) -> tuple[PrefixTree, list[Node], list[np.ndarray]]:
    """Random sequences in a tree whose slots are shuffled; every node but the root has some."""
    tree = PrefixTree()
    sequences = [query.ids for query in random_tree(seed, vocabulary=vocabulary)]
    ends = [tree.insert(ids) for ids in sequences]
    slots = np.random.default_rng(seed).permutation(10_000)
    at = 0
    for end in ends:
        for node in end.path():
            if node.slots is None:
                tree.settle(node, np.sort(slots[at : at + len(node)]))
                at += len(node)
    return tree, ends, sequences


@given(seed=st.integers(0, 10_000), vocabulary=st.integers(2, 30))
@settings(max_examples=40, deadline=None)
def test_a_tree_holds_every_prefix_once(seed: int, vocabulary: int) -> None:
    tree, ends, sequences = settled_tree(seed, vocabulary)
    for end, ids in zip(ends, sequences, strict=True):
        assert np.array_equal(np.concatenate([node.ids for node in end.path()]), ids)
        assert tree.insert(ids) is end
    prefixes = {tuple(ids[:length].tolist()) for ids in sequences for length in range(1, len(ids) + 1)}
    nodes = list(tree.resident())
    slots = np.concatenate([node.slots for node in nodes if node.slots is not None])
    assert len(np.unique(slots)) == len(slots) == sum(map(len, nodes)) == len(prefixes)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_depth_first_order_visits_every_node_in_one_stretch(seed: int) -> None:
    tree, ends, _ = settled_tree(seed, 4)
    order = depth_first(ends, tree.root)
    assert sorted(order) == list(range(len(ends)))
    for node in tree.resident():
        places = [place for place, index in enumerate(order) if node in ends[index].path()]
        assert places == list(range(places[0], places[0] + len(places)))


@given(seed=st.integers(0, 10_000), wanted=st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_eviction_frees_leaves_and_spares_what_is_needed(seed: int, wanted: int) -> None:
    tree, ends, _ = settled_tree(seed, 4)
    for stamp, end in enumerate(ends):
        tree.touch(end.path(), stamp)
    before = sum(map(len, tree.resident()))
    needed = set(ends[-1].path())
    spared = sum(map(len, needed))
    freed = sum(map(len, tree.evict(wanted, needed)))
    assert min(wanted, before - spared) <= freed <= before - spared
    assert sum(map(len, tree.resident())) == before - freed
    assert needed <= set(tree.resident())
    assert sum(map(len, tree.evict(10**6, ()))) == before - freed
    assert not tree.root.children


def window_of(size: int) -> Rule:
    return lambda query, key: (key <= query) & (key > query - size)


@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.integers(2, 30),
    overhead=st.sampled_from([1, 50, 1000, 10**9]),
    grain=st.sampled_from([1, 3, 64]),
    largest=st.sampled_from([1, 100, 10**9]),
    window=st.sampled_from([None, 1, 3, 8]),
    every=st.sampled_from([1, 3]),
)
@settings(max_examples=60, deadline=None)
def test_tiles_show_every_token_its_own_prefix_and_nothing_else(
    seed: int, vocabulary: int, overhead: int, grain: int, largest: int, window: int | None, every: int
) -> None:
    tree, _, _ = settled_tree(seed, vocabulary)
    nodes = list(tree.resident())
    pieces = [Piece(node, offsets) for node in nodes if len(offsets := np.arange(0, len(node), every))]
    rule = None if window is None else window_of(window)
    tiles = tiles_of(pieces, costs=Costs(overhead, grain, largest), rule=rule, dtype=torch.float32, device=CPU)
    rows = [(node, offset) for piece in pieces for node, offset in ((piece.node, int(offset)) for offset in piece.offsets)]
    assert [row for tile in tiles for row in range(tile.rows.start, tile.rows.stop)] == list(range(len(rows)))
    for tile in tiles:
        keys = np.arange(10_000)[tile.keys] if isinstance(tile.keys, slice) else tile.keys.numpy()
        assert len(keys) == len(np.unique(keys)) == tile.n_keys
        mask = torch.zeros(tile.rows.stop - tile.rows.start, tile.n_keys) if tile.full_mask is None else tile.full_mask
        for row, visible in zip(range(tile.rows.start, tile.rows.stop), mask == 0, strict=True):
            node, offset = rows[row]
            prefix = np.concatenate([above.slots for above in node.path() if above.slots is not None])[: node.start + offset + 1]
            assert set(keys[visible.numpy()].tolist()) == set(prefix[0 if window is None else -window :].tolist())


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize(("softcap", "with_sinks", "value_size"), [(None, False, 8), (2.0, False, 8), (None, True, 8), (1.5, True, 5)])
@pytest.mark.parametrize("overhead", [1, 300, 10**9])
@pytest.mark.parametrize("form", ["heads together", "heads alone", "fused"])
def test_attention_over_tiles_is_attention_over_each_tokens_prefix(
    heads: tuple[int, int], softcap: float | None, with_sinks: bool, value_size: int, overhead: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_has_fused", lambda _: form == "fused")  # what an accelerator would do
    monkeypatch.setattr(attention, "_SMALL", 1 << 15 if form == "heads together" else 0)
    (n_heads, n_shared), generator = heads, torch.Generator().manual_seed(0)
    tree, _, _ = settled_tree(3, 5)
    pieces = [Piece(node, np.arange(len(node))) for node in tree.resident()]
    n_rows = sum(map(len, pieces))
    queries = torch.randn(n_rows, n_heads, 8, generator=generator) * 2
    keys, values = torch.randn(n_shared, 10_000, 8, generator=generator), torch.randn(n_shared, 10_000, value_size, generator=generator)
    sinks = torch.randn(n_heads, generator=generator) if with_sinks else None
    tiles = tiles_of(pieces, costs=Costs(overhead, 4, 10**9), rule=None, dtype=torch.float32, device=CPU)
    with torch.inference_mode():
        out = attend(tiles, queries, keys, values, scale=0.3, softcap=softcap, sinks=sinks)
    row = 0
    for piece in pieces:
        for offset in piece.offsets.tolist():
            prefix = np.concatenate([above.slots for above in piece.node.path() if above.slots is not None])[: piece.node.start + offset + 1]
            for head in range(n_heads):
                shared = head // (n_heads // n_shared)
                scores = keys[shared, prefix].double() @ queries[row, head].double() * 0.3
                scores = softcap * torch.tanh(scores / softcap) if softcap is not None else scores
                weights = scores.exp() / (scores.exp().sum() + (sinks[head].double().exp() if sinks is not None else 0.0))
                torch.testing.assert_close(out[row, head].double(), weights @ values[shared, prefix].double(), atol=1e-5, rtol=1e-5)
            row += 1


def test_a_pool_keeps_what_lies_in_its_slots_while_it_grows_and_shrinks() -> None:
    pool = Pool(n_outputs=2, device=CPU)
    pool.grow(8)
    slots = pool.take(5)
    states = torch.arange(20.0).view(5, 4)
    pool.write(0, torch.from_numpy(slots), states.view(5, 2, 2).transpose(0, 1), states.view(5, 2, 2).transpose(0, 1) + 1)
    pool.write_states(torch.from_numpy(slots), states)
    pool.outputs[slots], pool.known[slots[:3]] = np.arange(10.0).reshape(5, 2), True
    pool.grow(20)
    assert (pool.capacity, pool.n_free) == (20, 15)
    assert not set(pool.take(15).tolist()) & set(slots.tolist())
    pool.shrink(4, slots[[4, 1]])
    assert (pool.capacity, pool.n_free) == (4, 2)
    assert pool.states is not None
    assert torch.equal(pool.states[:2], states[[4, 1]])
    assert torch.equal(pool.layers[0][0][:, :2].transpose(0, 1).reshape(2, 4), states[[4, 1]])
    assert torch.equal(pool.layers[0][1][:, :2].transpose(0, 1).reshape(2, 4), states[[4, 1]] + 1)
    assert pool.outputs[:2].tolist() == [[8.0, 9.0], [2.0, 3.0]]
    assert pool.known[:2].tolist() == [False, True]
    assert pool.slot_bytes == 2 * 2 * 2 * 4 + 4 * 4 + 2 * 8 + 1 + 24


@pytest.mark.parametrize(("slots", "expected"), [([3, 4, 5], slice(3, 6)), ([7], slice(7, 8)), ([3, 5, 4], None), ([1, 3], None), ([2, 2], None), ([], None)])
def test_only_consecutive_slots_become_a_slice(slots: list[int], expected: slice | None) -> None:
    assert as_slice(np.array(slots, dtype=np.int64)) == expected
