from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from zsd.assets import bundled_teacher_path
from zsd.errors import ConfigError
from zsd.training_data import Collator, TrainingOrder, heldout_mask, join_labels, split_labels

ids = st.lists(st.text(max_size=20), unique=True, max_size=60)


@given(ids=ids, seed=st.integers(0, 99), fraction=st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_a_row_stays_on_its_side_whatever_else_is_in_the_corpus(ids: list[str], seed: int, fraction: float) -> None:
    side = dict(zip(ids, heldout_mask(ids, fraction), strict=True))
    shuffled = random.Random(seed).sample(ids, len(ids))
    grown = [*shuffled[: len(ids) // 2], "another row", *shuffled[len(ids) // 2 :]]
    again = dict(zip(grown, heldout_mask(grown, fraction), strict=True))
    assert all(again[row_id] == held for row_id, held in side.items())


@given(ids=ids, low=st.floats(0.01, 0.98))
@settings(max_examples=40, deadline=None)
def test_a_larger_fraction_holds_out_the_same_rows_and_more(ids: list[str], low: float) -> None:
    assert not (heldout_mask(ids, low) & ~heldout_mask(ids, low + 0.01)).any()


def test_the_held_out_share_is_the_fraction_and_the_split_never_changes() -> None:
    names = [f"{n:032x}" for n in range(20_000)]
    for fraction in (0.05, 0.1, 0.5):
        assert heldout_mask(names, fraction).mean() == pytest.approx(fraction, abs=0.01)
    # A new version of zsd must not move rows across the split: these are written down.
    assert np.flatnonzero(heldout_mask(names[:60], 0.1)).tolist() == PINNED


PINNED = [36, 43, 47, 51]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_0_and_1_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="--heldout-fraction"):
        heldout_mask(["a"], fraction)


def test_a_batch_has_padded_tokens_and_labels_with_what_goes_along() -> None:
    tokenizer = AutoTokenizer.from_pretrained(bundled_teacher_path())
    probs_NK = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)
    rows = [
        {"input_ids": np.arange(5, dtype=np.uint16), "labels": join_labels(probs_NK[0], 1.5, False)},
        {"input_ids": np.arange(11, dtype=np.uint16), "labels": join_labels(probs_NK[1], 0.5, True)},
    ]
    batch = Collator(tokenizer)(rows)
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"].shape == (2, 16)
    assert batch["attention_mask"].sum(dim=1).tolist() == [5, 11]
    assert batch["labels"].dtype == torch.float32
    probs, weights, gold = split_labels(batch["labels"])
    np.testing.assert_array_equal(probs.numpy(), probs_NK)
    assert weights.tolist() == [1.5, 0.5]
    assert gold.tolist() == [False, True]


@given(n=st.integers(1, 400), batch=st.integers(1, 40), seed=st.integers(0, 99), epoch=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_every_row_in_full_batches_in_an_order_all_workers_agree_on(
    n: int, batch: int, seed: int, epoch: int
) -> None:
    lengths_N = np.random.default_rng(seed).integers(1, 500, size=n)

    def order() -> list[int]:
        sampler = TrainingOrder(lengths_N, batch=batch, seed=seed)
        torch.rand(3)
        sampler.set_epoch(epoch)
        rows = list(sampler)
        assert len(rows) == len(sampler)
        return rows

    counts = np.bincount(order(), minlength=n)
    assert counts.min() >= 1
    assert counts.sum() % batch == 0
    assert counts.sum() - n < batch  # only the last batch is filled up
    assert order() == order()


@given(copies=st.lists(st.floats(0, 4, width=32), min_size=1, max_size=60), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_rows_come_as_often_as_asked_for(copies: list[float], seed: int) -> None:
    copies_N = np.array([*copies, 1.0], dtype=np.float32)
    total = max(1, round(float(copies_N.sum())))
    sampler = TrainingOrder(np.ones(len(copies_N), dtype=np.int64), batch=1, seed=seed, copies=copies_N)
    counts = np.bincount(list(sampler), minlength=len(copies_N))
    assert counts.sum() == total
    expected_N = copies_N * (total / copies_N.sum())
    assert (np.abs(counts - expected_N) < 1 + 1e-3).all()
    assert (counts[copies_N == 0] == 0).all()


def test_epochs_and_seeds_differ_and_batches_hold_texts_of_about_one_length() -> None:
    lengths_N = np.random.default_rng(0).integers(1, 500, size=1000)
    sampler = TrainingOrder(lengths_N, batch=10, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(TrainingOrder(lengths_N, batch=10, seed=1)) != first
    spread = np.ptp(lengths_N[np.array(first)].reshape(-1, 10), axis=1)
    assert np.median(spread) < 50
    shuffled = np.array(list(TrainingOrder(lengths_N, batch=10, seed=0, by_length=False)))
    assert np.median(np.ptp(lengths_N[shuffled].reshape(-1, 10), axis=1)) > 200
