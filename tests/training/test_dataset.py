"""From examples to batches: no label is lost silently, no order depends on anything but the seed and the epoch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stepward.core import Example, InputError, Problem, StepLabels, Trajectory
from stepward.rewards.convention import Convention
from stepward.rewards.encoding import Encoder
from stepward.testing.fixtures import tiny_tokenizer
from stepward.training.collation import collate, epoch_batches
from stepward.training.dataset import StepDataset, censor

ENCODER = Encoder(tiny_tokenizer("byte-bpe"), Convention())
SOFT = StepLabels(np.array([0.9, math.nan, 0.25, 0.0]), "value", (True, None, True, False), first_error=None, reasons=(None, "timed out", None, None))


def example(labels: StepLabels | None, *, prompt: str = "Tom", last: str = "four") -> Example:
    return Example(Trajectory.from_texts(Problem(prompt), ["one", "two", "three", last]), labels)


def test_soft_labels_stay_soft_and_unlabelled_steps_are_not_supervised() -> None:
    data = StepDataset.build([example(SOFT)], ENCODER)
    assert data.rows[0].target.tolist() == [0.9, 0.25, 0.0]
    assert data.rows[0].steps.tolist() == [0, 2, 3]
    hard = StepDataset.build([example(SOFT)], ENCODER, target="hard")
    assert hard.rows[0].target.tolist() == [1.0, 1.0, 0.0]
    batch = collate(hard.rows + data.rows)
    assert batch.target.tolist() == pytest.approx([1.0, 1.0, 0.0, 0.9, 0.25, 0.0])


def test_each_target_sits_on_the_position_of_its_own_step() -> None:
    data = StepDataset.build([example(SOFT)], ENCODER)
    encoded = ENCODER(example(SOFT).trajectory)
    assert data.rows[0].read.tolist() == encoded.read[[0, 2, 3]].tolist()
    batch = collate([data.rows[0], StepDataset.build([example(SOFT, prompt="Tom has 3 apples")], ENCODER).rows[0]])
    for row, column in zip(batch.rows.tolist(), batch.columns.tolist(), strict=True):
        assert batch.mask[row, column] == 1
    assert int(batch.mask.sum()) == batch.n_tokens


def test_censoring_keeps_everything_up_to_and_including_the_first_error() -> None:
    labels = StepLabels.from_hard([True, False, False, True], semantics="local", first_error=1)
    assert censor(labels, 4).tolist() == [True, True, False, False]
    assert censor(StepLabels.from_hard([True] * 4, semantics="local", first_error=-1), 4).all()
    data = StepDataset.build([example(labels)], ENCODER, keep="to_first_error")
    assert data.rows[0].steps.tolist() == [0, 1]
    assert len(data.rows[0]) == data.rows[0].read[-1] + 1, "tokens after the last supervised step are not computed"
    assert (data.counts.n_supervised, data.counts.n_censored, data.counts.n_steps) == (2, 2, 4)


def test_a_labelled_step_beyond_the_context_is_an_error_or_counted() -> None:
    labels = StepLabels.from_hard([True] * 4, semantics="prefix")
    short = Encoder(ENCODER.text_ids, Convention(max_tokens=40))
    rows = [example(labels, last="long " * 60), example(labels)]
    with pytest.raises(InputError, match=r"labelled step 3 does not fit the context of 40 tokens"):
        StepDataset.build(rows, short)
    data = StepDataset.build(rows, short, on_overflow="unscored")
    assert (data.counts.n_overflow, data.counts.n_supervised, data.counts.n_rows) == (1, 7, 2)
    unlabelled_tail = StepLabels.from_hard([True, True, True, None], semantics="prefix")
    assert StepDataset.build([example(unlabelled_tail, last="long " * 60)], short).counts.n_supervised == 3


def test_examples_with_nothing_to_learn_from_are_counted_and_an_empty_set_is_refused() -> None:
    data = StepDataset.build([example(None), example(SOFT)], ENCODER)
    assert (data.counts.n_examples, data.counts.n_rows, data.counts.n_unlabelled) == (2, 1, 5)
    with pytest.raises(InputError, match="none of 1 examples"):
        StepDataset.build([example(None)], ENCODER)
    with pytest.raises(InputError, match="none of 1 examples"):
        StepDataset.build([example(StepLabels(np.array([0.5] * 4), "value"))], ENCODER, target="hard")


def test_labels_that_mean_different_things_are_never_mixed() -> None:
    other = StepLabels.from_hard([True] * 4, semantics="prefix")
    with pytest.raises(InputError, match="prefix, value"):
        StepDataset.build([example(SOFT), example(other)], ENCODER)


def test_an_epoch_holds_every_row_once_within_the_token_limit_in_a_reproducible_order() -> None:
    lengths = np.random.default_rng(0).integers(5, 200, 500)
    epochs = [epoch_batches(lengths, batch_tokens=1000, seed=3, epoch=epoch) for epoch in (0, 0, 1)]
    assert epochs[0] == epochs[1]
    assert epochs[0] != epochs[2]
    for batches in epochs:
        assert sorted(index for batch in batches for index in batch) == list(range(500))
        assert max(len(batch) * int(lengths[batch].max()) for batch in batches) <= 1000
    real = sum(int(lengths[batch].sum()) for batch in epochs[0])
    assert real / sum(len(batch) * int(lengths[batch].max()) for batch in epochs[0]) > 0.85, "little padding"
    assert epoch_batches(np.array([50]), batch_tokens=10, seed=0, epoch=0) == [[0]], "a row longer than a batch goes alone"
