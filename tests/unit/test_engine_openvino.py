from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as core
import pytest

from zsd.compile.compiled import INT8_OPENVINO
from zsd.compile.export import exported_onnx
from zsd.compile.probes import stored_probes
from zsd.engines import load_engine, openvino
from zsd.engines.base import Placement
from zsd.engines.openvino import OpenVINOEngine
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher, load_teacher


@pytest.fixture
def teacher(teacher_of: Callable[..., str], shared_cache: Path) -> NLITeacher:
    return load_teacher(teacher_of("bert"))


def test_a_shape_is_compiled_once_for_all_lanes(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, expected = stored_probes(teacher).filling(7, 32)
    compiled: list[tuple[int, int]] = []
    compile_shape = OpenVINOEngine._compile

    def counted(self: OpenVINOEngine, rows: int, length: int) -> Any:
        compiled.append((rows, length))
        return compile_shape(self, rows, length)

    monkeypatch.setattr(OpenVINOEngine, "_compile", counted)
    engine = OpenVINOEngine(teacher, Placement(threads=2))
    compiled.clear()  # the least shape was tried
    assert engine.lanes.pool is not None
    for logits in engine.lanes.pool.map(engine.logits, [inputs] * 8):
        np.testing.assert_allclose(logits, expected, atol=1e-3)
    assert compiled == [(7, 32)]
    engine.close()


def test_a_shape_with_other_logits_than_torch_is_refused(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OpenVINOEngine(teacher, Placement())
    run = openvino._Compiled.__call__

    def wrong_in_a_late_row(self: Any, inputs: Mapping[str, Any]) -> Any:
        logits = run(self, inputs)
        if logits.shape[0] == 8:
            logits[6] += 2.9
        return logits

    monkeypatch.setattr(openvino._Compiled, "__call__", wrong_in_a_late_row)
    engine.logits(stored_probes(teacher).filling(4, 32)[0])
    with pytest.raises(EngineError, match=r"off by 2.9 for a batch of 8 x 32 tokens"):
        engine.logits(stored_probes(teacher).filling(8, 32)[0])


def test_openvino_that_is_not_installed_is_an_error(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match="OpenVINO is not installed here"):
        load_engine("openvino", teacher, Placement())


def test_a_processor_without_bf16_is_told(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "has_bf16", lambda _: False)
    with pytest.raises(EngineError, match="no bf16 instructions: use --precision fp32"):
        load_engine("openvino", teacher, Placement(), "bf16")


@pytest.mark.parametrize("weights", [b"", None])
def test_an_int8_form_whose_weights_are_gone_is_one_line(
    teacher: NLITeacher, tmp_path: Path, weights: bytes | None
) -> None:
    compiled = tmp_path / "compiled"
    shutil.copytree(teacher.path, compiled)
    file = compiled / INT8_OPENVINO
    file.parent.mkdir()
    core.save_model(core.Core().read_model(str(exported_onnx(teacher))), str(file))
    file.with_suffix(".bin").unlink()
    if weights is not None:
        file.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(EngineError, match=r"^OpenVINO cannot read .*int8\.xml: .*$"):
        load_engine("openvino", load_teacher(str(compiled)), Placement(), "int8")
