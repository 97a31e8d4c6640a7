from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zsd.assets import bundled_teacher_path
from zsd.inference import encode, pad, probabilities, token_logits
from zsd.students.layers import build_student
from zsd.students.spec import parse_student

TEXTS = ["a goal in stoppage time", "", "shares fell " * 60, "日本 naïve café", "x", "the probe lands on mars today"]


@pytest.fixture(scope="module", params=[False, True], ids=["single", "multi"])
def student(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return build_student(
        parse_student("layers:1"),
        teacher=bundled_teacher_path(),
        names=["a", "b", "c"],
        multi_label=request.param,
        seed=0,
    )


def one_by_one(model: Any, tokenizer: Any, text: str) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        logits = model.eval()(**tokenizer([text], truncation=True, return_tensors="pt")).logits
    multi_label = model.config.problem_type == "multi_label_classification"
    probs: np.ndarray[Any, Any] = (torch.sigmoid(logits) if multi_label else torch.softmax(logits, -1))[0].numpy()
    return probs


def run(student: tuple[Any, Any], texts: list[str], token_budget: int = 2048, max_length: int = 512) -> Any:
    model, tokenizer = student
    ids = encode(tokenizer, texts, max_length=max_length)
    return token_logits(model, tokenizer, ids, token_budget=token_budget)


@pytest.mark.parametrize("token_budget", [1, 64, 8192])
def test_batches_give_what_each_text_gives_alone_in_order(student: tuple[Any, Any], token_budget: int) -> None:
    model, tokenizer = student
    multi_label = model.config.problem_type == "multi_label_classification"
    probs_NK = probabilities(run(student, TEXTS, token_budget), multi_label=multi_label)
    expected_NK = np.stack([one_by_one(model, tokenizer, text) for text in TEXTS])
    np.testing.assert_allclose(probs_NK, expected_NK, atol=1e-5)
    assert probs_NK.dtype == np.float32


def test_no_text_gives_no_row_and_training_mode_is_put_back(student: tuple[Any, Any]) -> None:
    student[0].train()
    assert run(student, []).shape == (0, 3)
    assert student[0].training
    student[0].eval()


def test_texts_are_cut_at_max_length(student: tuple[Any, Any]) -> None:
    assert [len(ids) for ids in encode(student[1], TEXTS, max_length=8)] == [8, 2, 8, 6, 3, 8]
    short = run(student, ["alpha beta gamma delta"], max_length=4)
    np.testing.assert_allclose(short, run(student, ["alpha beta"]), atol=1e-5)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6), left=st.booleans())
@settings(max_examples=40, deadline=None)
def test_padding_keeps_every_token_and_rounds_up_to_eight(lengths: list[int], left: bool) -> None:
    class Tokenizer:
        pad_token_id = 9
        model_max_length = 512
        padding_side = "left" if left else "right"

    rows = [list(range(100, 100 + length)) for length in lengths]
    batch = pad(rows, Tokenizer())
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(rows), -(-max(lengths) // 8) * 8)
    for n, row in enumerate(rows):
        real = batch["attention_mask"][n].bool()
        assert batch["input_ids"][n][real].tolist() == row
        assert (batch["input_ids"][n][~real] == 9).all()
        assert bool(real[-1 if left else 0])


def test_padding_stops_at_what_the_model_takes(student: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _, tokenizer = student
    rows = [[5] * 50, [5] * 3]
    assert pad(rows, tokenizer)["input_ids"].shape == (2, 56)
    monkeypatch.setattr(tokenizer, "model_max_length", 50)
    assert pad(rows, tokenizer)["input_ids"].shape == (2, 50)
