from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zsd.compile import export
from zsd.engines import load_engine, onnxruntime
from zsd.engines.base import Placement
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher, load_teacher


@pytest.fixture
def teacher(teacher_of: Callable[..., str], shared_cache: Path) -> NLITeacher:
    return load_teacher(teacher_of("bert"))


def test_onnxruntime_that_is_not_installed_is_an_error(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="ONNX Runtime is not installed here"):
        load_engine("onnxruntime", teacher, Placement())


def test_a_file_that_is_no_model_is_one_line(
    teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    monkeypatch.setattr(onnxruntime, "narrow_file", lambda _: tmp_path / "model.onnx")
    with pytest.raises(EngineError, match=r"ONNX Runtime cannot run .*model.onnx: "):
        load_engine("onnxruntime", teacher, Placement())


def test_a_batch_that_fails_names_the_model(teacher: NLITeacher, shared_cache: Path) -> None:
    engine = load_engine("onnxruntime", teacher, Placement())
    ids = np.zeros((2, teacher.max_length + 1), dtype=np.int64)  # more positions than the model has
    with pytest.raises(EngineError, match=r"ONNX Runtime cannot run .*narrow.*model.onnx: "):
        engine.logits(dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ids))


def test_the_export_is_shared_with_the_other_engines(
    teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path))
    load_engine("onnxruntime", teacher, Placement()).close()
    monkeypatch.setattr(export, "export_onnx", lambda *_: pytest.fail("exported twice"))
    load_engine("openvino", teacher, Placement()).close()
    assert sorted(file.parts[-3] for file in tmp_path.rglob("*.onnx")) == ["narrow", "onnx"]
