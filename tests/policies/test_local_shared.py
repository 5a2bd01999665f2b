"""What the sampler shares: equal rows are computed once, the states of common steps are kept once, and nothing is read twice."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch
from tests.policies.test_local import START, outcomes, policy

from stepward.core import Sampling, Step, Trajectory, Until, metered
from stepward.policies.local import LocalPolicy
from stepward.policies.sampler.blocks import Blocks
from stepward.policies.sampler.cache import untouched_zeros
from stepward.policies.sampler.pool import Pool
from stepward.policies.sampler.prefixes import Piece, PrefixStore, Segment
from stepward.policies.sampler.request import Request

SHORT = Sampling(max_step_tokens=12, max_tokens=40)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(2, 3, 5), (4, 0, 2), (1 << 14, 1 << 6)])
def test_memory_that_is_taken_as_it_is_written_holds_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    found = untouched_zeros(shape, like=torch.ones(1, dtype=dtype))
    assert torch.equal(found, torch.zeros(shape, dtype=dtype))
    found += 1
    assert torch.equal(found, torch.ones(shape, dtype=dtype))


@pytest.mark.parametrize("first_blocks", [None, 1])
def test_blocks_attend_to_exactly_what_each_row_wrote(first_blocks: int | None) -> None:
    """Random rows that write, fork, change their places and end, against attention over plain lists of keys and values."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    heads, grouped, size, layers = 2, 3, 4, 2
    blocks = Blocks(layers=layers, heads=heads, size=size, dtype=torch.float32, device=torch.device("cpu"), first_blocks=first_blocks)
    rows: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(3)]  # of every row: keys and values [layers, heads, size] of its positions
    for _ in range(150):
        n_rows = len(rows)
        blocks.begin(np.array([len(row) for row in rows]))
        new = torch.randn(2, layers, n_rows, heads, 1, size, generator=generator)
        for row in range(n_rows):
            rows[row] = [*rows[row], (new[0, :, row, :, 0], new[1, :, row, :, 0])]
        queries = torch.randn(n_rows, heads, grouped, size, generator=generator)
        for layer in range(layers):
            blocks.write(layer, new[0, layer], new[1, layer])
            mixed = blocks.mix(layer, blocks.scores(layer, queries).softmax(-1))
            for row in range(n_rows):
                keys, values = (torch.stack([pair[kind][layer] for pair in rows[row]], dim=1) for kind in (0, 1))  # [heads, positions, size]
                expected = (queries[row] @ keys.transpose(1, 2)).softmax(-1) @ values
                torch.testing.assert_close(mixed[row], expected, atol=1e-5, rtol=1e-4)
        event = rng.integers(5)
        if event == 0 and n_rows < 7:
            source = int(rng.integers(n_rows))
            blocks.copy([source], [n_rows])
            rows.append(rows[source])
        elif event == 1 and n_rows > 1:
            target = int(rng.integers(n_rows - 1))
            blocks.rename(n_rows - 1, target)
            rows[target] = rows.pop()
        elif event == 2 and n_rows < 7:
            rows.append([])
        if n_rows > 1 and rng.random() < 0.1:
            row = int(rng.integers(len(rows)))
            first = int(rng.integers(len(rows[row]) + 1))
            for layer, (keys, values) in enumerate(blocks.read(row, first, len(rows[row]))):
                for kind, found in enumerate((keys, values)):
                    expected = [pair[kind][layer] for pair in rows[row][first:]]
                    assert found.shape[1] == len(expected)
                    assert all(torch.equal(found[:, at], state) for at, state in enumerate(expected))


def test_states_of_common_steps_are_counted_once_and_go_with_their_last_user() -> None:
    def segment() -> Segment:
        return Segment([(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2))])  # 64 bytes

    store, trunk = PrefixStore(64 * 4), segment()
    for branch in range(3):
        store.put((0,), (1, 2, 3, 4, branch, 6, 7, 8), (Piece(trunk, 4), Piece(segment(), 4)))
    assert store.n_bytes == 64 * 4, "one trunk and three branches"
    pieces, length = store.find((0,), (1, 2, 3, 4, 0, 6, 9))
    assert (length, [piece.length for piece in pieces], pieces[0].segment) == (6, [4, 2], trunk)
    store.put((5,), (1, 2, 3, 4), (Piece(segment(), 4),))
    assert store.find((0,), (1, 2, 3, 4, 1, 6, 7, 8))[1] == 4, "the branch that was not used for longest has gone, its trunk stays"
    for group in range(6, 10):
        store.put((group,), (1, 2, 3, 4), (Piece(segment(), 4),))
    assert (store.n_bytes, store.find((0,), (1, 2, 3, 4))) == (64 * 4, ((), 0))


def drawn(writer: LocalPolicy, n: int, **options: Any) -> list[Trajectory]:
    return asyncio.run(writer.sample(START, n, until=Until.END, **options))


def test_rows_that_are_equal_so_far_are_computed_once() -> None:
    greedy = Sampling(temperature=0.0, max_tokens=40)
    writer = policy()
    [alone] = drawn(writer, 1, sampling=greedy)
    assert writer._worker.pool is not None
    n_alone = writer._worker.pool.n_slot_passes
    assert outcomes(drawn(writer, 9, sampling=greedy)) == [outcomes(alone)] * 9
    assert writer._worker.pool.n_slot_passes == 2 * n_alone, "nine equal draws cost one"


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_sequences_computed_are_the_distinct_ones(kind: str) -> None:
    """A decoder's work is the number of different starts of the draws, whichever request they belong to; the draws are those of one at a time."""
    writer = policy(kind)
    ids = writer.rendering.render(START).ids

    def draws(pool: Pool, n: int, first: int) -> Request:
        sampling = Sampling(temperature=0.3, max_tokens=30, max_step_tokens=30)
        request = Request(
            prompt=ids, ids=ids, key=START.key, n_steps=0, n_tokens=0, n=n, draw=first, until=Until.END, sampling=sampling, max_length=len(ids) + 30
        )
        pool.add(request)
        return request

    with torch.inference_mode():
        pool = writer._make_pool()
        requests = [draws(pool, 16, 0), draws(pool, 8, 16)]
        while not pool.idle:
            pool.advance()
        together = [draw.tokens for request in requests for draw in request.future.result(timeout=0)]
        assert pool.n_slot_passes == len({tokens[:length] for tokens in together for length in range(len(tokens))})
        assert pool.n_row_passes == sum(map(len, together)) > pool.n_slot_passes
        for at, tokens in enumerate(together):
            request = draws(pool, 1, at)
            while not pool.idle:
                pool.advance()
            assert request.future.result(timeout=0)[0].tokens == tokens


def test_steps_that_were_written_are_never_read_again() -> None:
    """A step by step search pays for the prompt once. (Where a step's text is tokenised otherwise than it was sampled, it is read again from there on.)"""
    writer = policy(continuation="ids")
    n_prompt = len(writer.prompt_tokens(START.problem))

    async def grow() -> list[Trajectory]:
        sampling = Sampling(max_step_tokens=60, max_tokens=240)
        grown, frontier = [], [START]
        for _ in range(3):
            children = [child for prefix in frontier for child in await writer.sample(prefix, 3, sampling=sampling)]
            grown += children
            frontier = [child for child in children if not child.ended][:3]
        return grown

    with metered() as ledger:
        grown = asyncio.run(grow())
    assert max(map(len, grown)) == 3
    assert ledger.paid.policy_tokens == ledger.usage.policy_tokens
    assert ledger.paid.policy_prefill == n_prompt - 1, "the prompt's last token is fed with the first that is written"
    assert ledger.usage.policy_prefill > 3 * n_prompt, "what the requests cost when each is alone"


def test_what_was_written_elsewhere_is_paid_for() -> None:
    writer = policy()
    prefix = Trajectory(START.problem, (Step("So 3 + 4 = 7.", "\n"),))
    n_known = len(writer.rendering.render(prefix).ids)
    for n_paid in (n_known - 1, 0):
        with metered() as ledger:
            asyncio.run(writer.sample(prefix, 2, sampling=SHORT))
        assert (ledger.paid.policy_prefill, ledger.paid.policy_cached) == (n_paid, 2 * n_known - n_paid)
