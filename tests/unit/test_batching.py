from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.families import FAMILIES, tiny_tokenizer
from zsd.assets import bundled_teacher_path
from zsd.batching import Batch, PairSet, padding_waste, pair_layout, plan_batches
from zsd.errors import TeacherError

HYPOTHESES = ["This text is about sports.", "It is.", "This example is about naïve café 日本."]
TOKENIZERS = [*FAMILIES, "bundled"]


def tokenizer_of(name: str) -> Any:
    return AutoTokenizer.from_pretrained(bundled_teacher_path()) if name == "bundled" else tiny_tokenizer(name)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=25, deadline=None)
@example(texts=["", " ", "\n\t", "one [SEP] two </s> three", "a\u0000b\ufffd", "日本" * 50], max_length=64)
@given(texts=st.lists(st.text(max_size=80), min_size=1, max_size=4), max_length=st.sampled_from([50, 51, 64, 512]))
def test_a_pair_is_token_for_token_what_the_tokenizer_makes_of_it(name: str, texts: list[str], max_length: int) -> None:
    tokenizer = tokenizer_of(name)
    pairs = PairSet.build(tokenizer, pair_layout(tokenizer), texts, HYPOTHESES, max_length=max_length)
    length = int(pairs.lengths.max()) + 3
    order = np.random.default_rng(0).permutation(len(pairs))
    batch = pairs.batch(order, length=length)
    whole = 0
    for b, pair in enumerate(order):
        premise, hypothesis = texts[pair // len(HYPOTHESES)], HYPOTHESES[pair % len(HYPOTHESES)]
        expected = tokenizer(premise, hypothesis, truncation="only_first", max_length=max_length)
        assert set(batch) == set(expected)
        filled = len(expected["input_ids"])
        assert pairs.lengths[pair] == filled <= max_length
        for key, values in expected.items():
            assert batch[key][b, :filled].tolist() == values
        assert (batch["input_ids"][b, filled:] == tokenizer.pad_token_id).all()
        assert not batch["attention_mask"][b, filled:].any()
    for text in texts:
        lengths = [len(tokenizer(text, hypothesis)["input_ids"]) for hypothesis in HYPOTHESES]
        whole += max(lengths) <= max_length
    assert pairs.truncated == len(texts) - whole


def test_a_tokenizer_that_cuts_the_beginning_is_followed() -> None:
    tokenizer = AutoTokenizer.from_pretrained(bundled_teacher_path(), truncation_side="left")
    text = "alpha beta gamma delta epsilon zeta " * 20
    pairs = PairSet.build(tokenizer, pair_layout(tokenizer), [text], HYPOTHESES, max_length=40)
    batch = pairs.batch(np.arange(3), length=40)
    for k, hypothesis in enumerate(HYPOTHESES):
        expected = tokenizer(text, hypothesis, truncation="only_first", max_length=40)["input_ids"]
        assert batch["input_ids"][k].tolist() == expected


def test_a_hypothesis_that_leaves_no_room_is_named() -> None:
    tokenizer = tiny_tokenizer("bert")
    long = "This text is about " + "sports " * 60
    with pytest.raises(TeacherError, match=r"This text is about sports.*leaves no room for a text within 64"):
        PairSet.build(tokenizer, pair_layout(tokenizer), ["x"], [HYPOTHESES[0], long], max_length=64)


def test_no_text_makes_no_pair() -> None:
    tokenizer = tiny_tokenizer("roberta")
    pairs = PairSet.build(tokenizer, pair_layout(tokenizer), [], HYPOTHESES, max_length=64)
    assert len(pairs) == 0 and pairs.truncated == 0
    assert plan_batches(pairs.lengths, token_budget=64) == []


def test_missing_rows_are_repeats_of_the_first_pair() -> None:
    tokenizer = tiny_tokenizer("bert")
    pairs = PairSet.build(tokenizer, pair_layout(tokenizer), ["a goal", "shares fell"], HYPOTHESES, max_length=64)
    batch = pairs.batch(np.array([4, 1]), length=48, rows=5)
    for array in batch.values():
        assert array.shape == (5, 48)
        assert (array[2:] == array[0]).all()


def test_a_text_of_a_megabyte_keeps_only_what_the_model_can_see() -> None:
    tokenizer = tiny_tokenizer("bert")
    pairs = PairSet.build(tokenizer, pair_layout(tokenizer), ["a goal " * 150_000, "x"], HYPOTHESES, max_length=64)
    assert pairs.truncated == 1
    assert max(len(ids) for ids in pairs.premises) <= 64
    assert pairs.lengths.max() == 64


def test_a_tokenizer_that_joins_the_parts_is_refused() -> None:
    class Joined:
        pad_token_id, model_input_names, truncation_side = 0, ["input_ids"], "right"

        def __call__(self, *texts: str, **options: Any) -> dict[str, list[int]]:
            ids = [7] if len(texts) == 2 else [ord(c) for c in texts[0]]
            return {"input_ids": ids, "token_type_ids": [0] * len(ids)}

    with pytest.raises(TeacherError, match="does not keep premise and hypothesis whole"):
        pair_layout(Joined())


LENGTHS = st.lists(st.integers(1, 200), max_size=120).map(lambda values: np.array(values, dtype=np.int64))


@given(lengths=LENGTHS, budget=st.integers(1, 2000), bucketed=st.booleans())
def test_every_pair_stands_in_one_batch_that_holds_it(lengths: Any, budget: int, bucketed: bool) -> None:
    buckets = (16, 40, 64, 200) if bucketed else None
    batches = plan_batches(lengths, token_budget=budget, buckets=buckets)
    seen = Counter(int(pair) for batch in batches for pair in batch.pairs)
    assert seen == Counter(range(len(lengths)))
    assert all(lengths[batch.pairs].max() <= batch.length for batch in batches)
    assert all(batch.rows * batch.length <= budget or batch.rows == 1 for batch in batches)
    assert [b.length for b in batches] == sorted((b.length for b in batches), reverse=True)
    in_order = [int(lengths[pair]) for batch in batches for pair in batch.pairs]
    assert in_order == sorted(in_order, reverse=True)
    if buckets:
        assert {batch.length for batch in batches} <= set(buckets)
        assert all(batch.rows == max(1, budget // batch.length) for batch in batches)
        assert all(len(batch.pairs) == batch.rows for batch in batches[:-1])
    else:
        assert all(len(batch.pairs) == batch.rows and batch.length % 8 == 0 for batch in batches)


def test_rounding_up_stops_at_the_models_own_limit() -> None:
    (batch,) = plan_batches(np.array([57, 61]), token_budget=1000, max_length=61)
    assert batch.length == 61


def test_a_pair_longer_than_the_longest_bucket_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="65 tokens does not fit the longest bucket, 64"):
        plan_batches(np.array([3, 65]), token_budget=100, buckets=(16, 64))


def test_padding_waste_is_the_share_of_computed_tokens_that_are_not_real() -> None:
    lengths = np.array([10, 6, 4])
    batches = [
        Batch(pairs=np.array([0, 1]), rows=2, length=12),
        Batch(pairs=np.array([2]), rows=2, length=8),
    ]
    assert padding_waste(lengths, batches) == pytest.approx(1 - 20 / 40)
    assert padding_waste(np.array([], dtype=np.int64), []) == 0.0
