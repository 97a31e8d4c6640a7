from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from tests.families import LINES
from zsd.batching import PairSet, pair_layout
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.engines.torch import TorchEngine, halves, lanes_for
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher, load_teacher


@pytest.fixture
def teacher(teacher_of: Callable[..., str]) -> NLITeacher:
    return load_teacher(teacher_of("bert"))


@pytest.fixture
def inputs(teacher: NLITeacher) -> dict[str, Any]:
    pairs = PairSet.build(teacher.tokenizer, pair_layout(teacher.tokenizer), LINES, ["It is so.", "No."], max_length=64)
    return pairs.batch(np.arange(len(pairs)), length=64)


def test_bf16_is_close_to_fp32(teacher: NLITeacher, inputs: dict[str, Any]) -> None:
    exact = load_engine("torch", teacher, Placement()).logits(inputs)
    rounded = load_engine("torch", teacher, Placement(), "bf16").logits(inputs)
    assert exact.dtype == rounded.dtype == np.float32
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(rounded, exact, atol=0.05 * float(np.ptp(exact)))


def test_the_threads_are_those_of_the_placement(teacher: NLITeacher) -> None:
    before = torch.get_num_threads()
    try:
        load_engine("torch", teacher, Placement(threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


class SmallGPU(TorchEngine):
    """Runs out of memory above so many padded tokens."""

    most = 200

    def _forward(self, inputs: Mapping[str, Any]) -> Any:
        if inputs["input_ids"].size > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return super()._forward(inputs)


def test_a_batch_too_large_for_the_gpu_is_halved_until_it_fits(teacher: NLITeacher, inputs: dict[str, Any]) -> None:
    engine = SmallGPU(teacher, Placement())
    expected = load_engine("torch", teacher, Placement()).logits(inputs)
    np.testing.assert_allclose(engine.logits(inputs), expected, atol=1e-5)


def test_the_token_budget_shrinks_to_what_fits_and_no_further(teacher: NLITeacher, inputs: dict[str, Any]) -> None:
    engine = SmallGPU(teacher, Placement())
    engine.most, engine.token_budget = 1000, 65536
    large = {name: np.tile(array, (5, 1)) for name, array in inputs.items()}  # 50 x 64 tokens: fits in quarters
    for _ in range(4):
        engine.logits(large)
    assert engine.token_budget == 25 * 64 // 2


def test_one_pair_too_large_for_the_gpu_is_an_error(teacher: NLITeacher, inputs: dict[str, Any]) -> None:
    engine = SmallGPU(teacher, Placement())
    engine.most = 10
    with pytest.raises(EngineError, match="one pair of 64 tokens does not fit"):
        engine.logits(inputs)


def test_token_types_that_the_model_does_not_take_are_left_out(teacher_of: Callable[..., str]) -> None:
    teacher = load_teacher(teacher_of("distilbert"))
    ids = np.array([[2, 5, 3, 6, 3]])
    offered = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    plain = TorchEngine(teacher, Placement()).logits(offered)
    teacher.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    np.testing.assert_array_equal(
        TorchEngine(teacher, Placement()).logits({**offered, "token_type_ids": np.zeros_like(ids)}), plain
    )


def test_the_halves_of_a_batch_are_its_rows_in_order() -> None:
    for rows in range(1, 6):
        ids = torch.arange(rows * 2).reshape(rows, 2)
        parts = halves({"input_ids": ids, "attention_mask": ids + 1})
        assert len(parts) == min(rows, 2) and all(len(part["input_ids"]) for part in parts)
        assert torch.equal(torch.cat([part["input_ids"] for part in parts]), ids)
        assert torch.equal(torch.cat([part["attention_mask"] for part in parts]), ids + 1)


@pytest.mark.parametrize(("threads", "lanes"), [(1, 1), (2, 2), (4, 4), (6, 6), (8, 8), (12, 6), (16, 8), (11, 1)])
def test_lanes_share_the_threads_evenly(threads: int, lanes: int) -> None:
    assert lanes_for(threads) == lanes


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_says_what_the_processor_says(precision: str, teacher: NLITeacher, inputs: dict[str, Any]) -> None:
    exact = load_engine("torch", teacher, Placement()).logits(inputs)
    found = load_engine("torch", teacher, Placement(device="cuda"), precision).logits(inputs)
    atol = {"fp32": 1e-3, "fp16": 0.02 * float(np.ptp(exact)), "bf16": 0.05 * float(np.ptp(exact))}[precision]
    np.testing.assert_allclose(found, exact, atol=atol)
