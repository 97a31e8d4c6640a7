from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from zsd.assets import bundled_teacher_path
from zsd.errors import ConfigError, InputError
from zsd.training_data import Collator, LengthGroupedOrder, build_datasets, heldout_mask

ids = st.lists(st.text(max_size=20), unique=True, max_size=60)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(bundled_teacher_path())


def soft_labels(texts: list[str], k: int = 3, seed: int = 0) -> pa.Table:
    probs_NK = np.random.default_rng(seed).dirichlet(np.ones(k), size=len(texts)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(probs_NK.reshape(-1)), k)
    return pa.table({"id": [f"row-{n}" for n in range(len(texts))], "text": texts, "probs": column})


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


def test_every_row_is_on_one_side_with_its_own_tokens_and_probabilities(tokenizer: Any) -> None:
    texts = [f"text number {n} " + "word " * (n % 40) for n in range(300)]
    table = soft_labels(texts)
    train, heldout = build_datasets(table.to_batches(max_chunksize=70), tokenizer=tokenizer, max_length=24)
    assert len(train) + len(heldout) == 300
    mask_N = heldout_mask(table["id"].to_pylist())
    expected = table["probs"].to_pylist()
    for side, rows in ((train, np.flatnonzero(~mask_N)), (heldout, np.flatnonzero(mask_N))):
        assert len(side) == len(rows)
        for i, n in enumerate(rows):
            ids = tokenizer(texts[n], truncation=True, max_length=24)["input_ids"]
            assert side[i]["input_ids"].tolist() == ids
            assert side[i]["labels"].tolist() == expected[n]
            assert side.lengths[i] == len(ids)
    assert train.tokens.dtype == np.uint16


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_for_a_split_is_an_error_that_says_what_to_do(rows: int, tokenizer: Any) -> None:
    table = soft_labels(["a text"] * rows)
    with pytest.raises(InputError, match=rf"{rows} soft-labelled row.*label more rows"):
        build_datasets(table.to_batches(), tokenizer=tokenizer, max_length=8)


def test_a_batch_has_padded_tokens_and_soft_labels(tokenizer: Any) -> None:
    train, _ = build_datasets(
        soft_labels(["one two three " * (n + 1) for n in range(20)]).to_batches(), tokenizer=tokenizer, max_length=512
    )
    batch = Collator(tokenizer)([train[0], train[3]])
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"].shape[1] % 8 == 0
    assert batch["labels"].shape == (2, 3)
    assert batch["labels"].dtype == torch.float32
    assert batch["attention_mask"].sum(dim=1).tolist() == train.lengths[[0, 3]].tolist()


@given(n=st.integers(1, 400), batch=st.integers(1, 40), seed=st.integers(0, 99), epoch=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_every_row_once_in_an_order_all_workers_agree_on(n: int, batch: int, seed: int, epoch: int) -> None:
    lengths_N = np.random.default_rng(seed).integers(1, 500, size=n)

    def order() -> list[int]:
        sampler = LengthGroupedOrder(lengths_N, batch=batch, seed=seed)
        torch.rand(3)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert sorted(order()) == list(range(n))
    assert order() == order()


def test_epochs_and_seeds_differ_and_batches_hold_texts_of_about_one_length() -> None:
    lengths_N = np.random.default_rng(0).integers(1, 500, size=1000)
    sampler = LengthGroupedOrder(lengths_N, batch=10, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(LengthGroupedOrder(lengths_N, batch=10, seed=1)) != first
    spread = np.ptp(lengths_N[np.array(first)].reshape(-1, 10), axis=1)
    assert np.median(spread) < 50
