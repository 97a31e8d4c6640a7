from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.families import FAMILIES, tiny_tokenizer
from zsd.assets import bundled_teacher_path
from zsd.batching import PairSet, pair_layout
from zsd.errors import TeacherError
from zsd.windows import window_starts

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
    assert len(pairs.premises.values) <= 65
    assert pairs.lengths.max() == 64


def test_a_tokenizer_that_joins_the_parts_is_refused() -> None:
    class Joined:
        pad_token_id, model_input_names, truncation_side = 0, ["input_ids"], "right"

        def __call__(self, *texts: str, **options: Any) -> dict[str, list[int]]:
            ids = [7] if len(texts) == 2 else [ord(c) for c in texts[0]]
            return {"input_ids": ids, "token_type_ids": [0] * len(ids)}

    with pytest.raises(TeacherError, match="does not keep premise and hypothesis whole"):
        pair_layout(Joined())


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("cut_left", [False, True])
@settings(max_examples=15, deadline=None)
@given(words=st.lists(st.integers(0, 90), min_size=1, max_size=3), max_length=st.sampled_from([50, 51, 64]))
def test_a_windowed_text_is_whole_in_its_windows(name: str, cut_left: bool, words: list[int], max_length: int) -> None:
    tokenizer = copy.deepcopy(tokenizer_of(name))
    tokenizer.truncation_side = "left" if cut_left else "right"
    layout = pair_layout(tokenizer)
    texts = [" ".join(f"word{n % 7} goal" for n in range(count)) for count in words]
    cut = PairSet.build(tokenizer, layout, texts, HYPOTHESES, max_length=max_length)
    pairs = PairSet.build(tokenizer, layout, texts, HYPOTHESES, max_length=max_length, windows=True)
    assert pairs.windowed == cut.truncated and pairs.truncated == 0
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    room = (
        max_length
        - layout.special_tokens
        - max(len(tokenizer(h, add_special_tokens=False)["input_ids"]) for h in HYPOTHESES)
    )
    expected = [(n, one[start : start + room]) for n, one in enumerate(ids) for start in window_starts(len(one), room)]
    assert pairs.rows.tolist() == [n for n, _ in expected]
    assert len(pairs) == len(expected) * len(HYPOTHESES)
    batch = pairs.batch(np.arange(len(pairs)), length=max_length)
    whole = cut.batch(np.arange(len(cut)), length=max_length)
    prefix = len(layout.prefix)
    for window, (n, tokens) in enumerate(expected):
        for k in range(len(HYPOTHESES)):
            p = window * len(HYPOTHESES) + k
            assert batch["input_ids"][p, prefix : prefix + len(tokens)].tolist() == tokens
            if len(ids[n]) <= room:  # a text that fits is what it is without windows
                for key in batch:
                    assert batch[key][p].tolist() == whole[key][n * len(HYPOTHESES) + k].tolist()
            assert batch["attention_mask"][p].sum() == pairs.lengths[p] <= max_length
