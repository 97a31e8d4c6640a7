from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.families import LINES
from zsd.batching import PairSet, pair_layout
from zsd.compile.compiled import INT8_OPENVINO
from zsd.compile.export import exported_onnx
from zsd.compile.heldout import HeldOut, Rechecked
from zsd.compile.openvino_core import openvino_core
from zsd.compile.quantize_openvino import Product, attempts, find_products, quantize_openvino
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.teachers.nli import NLITeacher, load_teacher

ENOUGH = (
    Rechecked(alone=0.5, agreement=0.5, expected=1.0, within=1.0, share=0.01),
    Rechecked(alone=0.5, agreement=1.0, expected=0.98, within=0.1, share=0.03),
    Rechecked(alone=0.5, agreement=1.0, expected=0.99, within=0.2, share=0.01),
)


@pytest.fixture
def teacher(teacher_of: Callable[..., str], shared_cache: Path) -> NLITeacher:
    return load_teacher(teacher_of("bert"))


def calibration(teacher: NLITeacher) -> list[dict[str, Any]]:
    pairs = PairSet.build(teacher.tokenizer, pair_layout(teacher.tokenizer), LINES, ["It is so.", "No."], max_length=64)
    return [pairs.batch(np.arange(start, start + 2), length=64) for start in range(0, len(pairs), 2)]


def test_the_products_of_a_bert_are_found(teacher: NLITeacher) -> None:
    kinds = [product.kind for product in find_products(openvino_core().read_model(str(exported_onnx(teacher))))]
    # Of a layer: query, key, value, attention's two, its output, two of the feed-forward; then pooler and classifier.
    assert len(kinds) == 2 * 8 + 2
    assert kinds.count("attention") == 2 * 2 and kinds.count("narrowing") == 2


def test_attempts_leave_out_more_and_more_the_most_harmful_first() -> None:
    kinds = ("other", "attention", "attention", "other", "other", "narrowing") * 2
    harm = {"5": 1.0, "11": 2.0}

    def error(left_out: Sequence[str]) -> float:
        return sum(harm[name] for name in harm if name not in left_out)

    products = [Product(name=str(i), kind=kind) for i, kind in enumerate(kinds)]
    tried = [set(names) for names in attempts(products, error)]
    attention = {"1", "2", "7", "8"}
    assert tried[:3] == [attention, attention | {"11"}, attention | {"5", "11"}]
    assert all(fewer < more for fewer, more in itertools.pairwise(tried))
    assert len(tried[-1]) < len(kinds)


def test_int8_with_the_wanted_agreement_is_written_and_runs(
    teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = tmp_path / "compiled"
    shutil.copytree(teacher.path, compiled)
    inputs = calibration(teacher)
    torch_fp32 = load_engine("torch", teacher, Placement())
    exact = [torch_fp32.logits(batch) for batch in inputs]
    heldout = HeldOut.of_teacher(teacher, LabelSet(names=("so", "no")), LINES, torch_fp32.logits)
    measured: list[float] = []

    def with_recheck(logits_PC: npt.NDArray[np.float32], least: float, most: float) -> Rechecked:
        measured.append(float(np.abs(logits_PC - heldout.logits_PC).max()))
        return ENOUGH[len(measured) - 1]

    monkeypatch.setattr(heldout, "with_recheck", with_recheck)
    done = quantize_openvino(
        exported_onnx(teacher), inputs, heldout, compiled / INT8_OPENVINO, min_agreement=0.99, threads=1
    )
    assert len(measured) == 3 and done.agreement == 1.0 and done.integer == 18 - 6
    assert (done.within, done.rechecked) == (0.2, 0.01)
    assert sum(name.endswith("output/dense/MatMul") for name in done.left_out) == 2
    engine = load_engine("openvino", load_teacher(str(compiled)), Placement(), "int8")
    found = np.concatenate([engine.logits(batch) for batch in inputs])
    assert 0 < np.abs(found - np.concatenate(exact)).max() < 0.3 * np.ptp(np.concatenate(exact))


def test_an_agreement_that_cannot_be_reached_is_an_error(
    teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zsd.compile.quantize_openvino.attempts", lambda products, _: [(), (products[0].name,)])
    heldout = HeldOut.of_teacher(
        teacher, LabelSet(names=("so", "no")), LINES, load_engine("torch", teacher, Placement()).logits
    )
    never = Rechecked(alone=0.5, agreement=0.8, expected=0.9, within=0.0, share=0.0)
    monkeypatch.setattr(heldout, "with_recheck", lambda *_: never)
    with pytest.raises(EngineError, match=r"no int8 form .* reaches an agreement of 0.99 .*\(the best has 0.800\)"):
        quantize_openvino(
            exported_onnx(teacher),
            calibration(teacher)[:1],
            heldout,
            tmp_path / INT8_OPENVINO,
            min_agreement=0.99,
            threads=1,
        )
    assert list(tmp_path.iterdir()) == []
