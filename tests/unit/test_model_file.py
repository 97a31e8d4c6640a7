from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.families import FAMILIES
from zsd.engines import load_engine, model_file
from zsd.engines.base import Placement
from zsd.engines.model_file import dense_file, narrow_file
from zsd.errors import EngineError
from zsd.teachers.nli import load_teacher


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_which_nothing_can_be_left_out_is_kept_once(
    family: str, teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = load_teacher(teacher_of(family))
    whole = dense_file(teacher)
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path))
    monkeypatch.setattr(model_file, "dense_file", lambda _: whole)
    made = narrow_file(teacher)
    assert (made == whole) == (family in ("deberta-v2", "modernbert"))
    kept = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert kept == (0 if made == whole else made.stat().st_size)
    monkeypatch.setattr(model_file, "narrow_to_first_token", lambda _: pytest.fail("looked through twice"))
    assert narrow_file(teacher) == made


@pytest.mark.parametrize("content", [b"", b"not a model"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "deepsparse"])
def test_a_damaged_file_is_one_line(
    engine: str,
    content: bytes,
    teacher_of: Callable[..., str],
    shared_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    for module in ("model_file", "deepsparse"):
        monkeypatch.setattr(f"zsd.engines.{module}.dense_file", lambda _: file)
    with pytest.raises(EngineError, match=r"model.onnx: is no ONNX model, or damaged: delete it"):
        load_engine(engine, load_teacher(teacher_of("bert")), Placement())
