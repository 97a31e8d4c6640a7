from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from zsd.compile import export
from zsd.compile.export import exported_onnx
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.engines.deepsparse import DeepSparseEngine, _without_lines
from zsd.engines.fixed_shapes import bucket_lengths
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher, load_teacher


@pytest.fixture
def teacher(teacher_of: Callable[..., str], shared_cache: Path) -> NLITeacher:
    return load_teacher(teacher_of("bert"))


@pytest.mark.parametrize("limit", [8, 16, 50, 64, 512, 4098])
def test_buckets_end_at_the_models_limit_and_waste_little(limit: int) -> None:
    buckets = bucket_lengths(limit)
    assert list(buckets) == sorted(set(buckets)) and buckets[-1] == limit
    assert all(longer <= shorter * 1.25 for shorter, longer in itertools.pairwise(buckets))


def test_the_export_is_made_once_and_lies_in_the_cache(
    teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path))
    load_engine("deepsparse", teacher, Placement())
    (file,) = tmp_path.rglob("*.onnx")
    monkeypatch.setattr(export, "export_onnx", lambda *_: pytest.fail("exported twice"))
    load_engine("deepsparse", teacher, Placement())
    assert list((tmp_path / "onnx").iterdir()) == [file.parent]  # and nothing left half made


def test_two_processes_at_once_end_with_one_good_file_and_print_nothing(teacher: NLITeacher, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom zsd.teachers.nli import load_teacher\nfrom zsd.engines import load_engine\n"
        "from zsd.engines.base import Placement\nfrom zsd.labels import LabelSet\n"
        "from zsd.teachers.scoring import Scorer\nteacher = load_teacher(sys.argv[1])\n"
        "engine = load_engine('deepsparse', teacher, Placement())\n"
        "Scorer(teacher, engine, LabelSet(names=('a', 'b'))).score(['x'])"
    )
    environment = {**os.environ, "ZSD_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code, teacher.path]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [(*process.communicate(), process.returncode) for process in both] == [("", "", 0)] * 2
    (directory,) = (tmp_path / "onnx").iterdir()
    onnx.checker.check_model(str(directory / "model.onnx"))


def test_an_export_with_other_numbers_is_refused(
    teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = export._trace

    def trace_another_model(model: Any, inputs: Any, file: Path) -> None:
        model.classifier.bias.data += 0.1
        trace(model, inputs, file)

    monkeypatch.setenv("ZSD_CACHE", str(tmp_path))
    monkeypatch.setattr(export, "_trace", trace_another_model)
    with pytest.raises(EngineError, match=r"logits that are off by 0.1 .*: use --engine torch"):
        load_engine("deepsparse", teacher, Placement())


def test_the_exported_file_is_left_as_it_is(teacher: NLITeacher) -> None:
    file = exported_onnx(teacher)
    before = file.read_bytes()
    DeepSparseEngine(teacher, Placement())
    assert file.read_bytes() == before
    (length,) = {value.type.tensor_type.shape.dim[1].dim_param for value in onnx.load(str(file)).graph.input}
    assert length == "length"


def test_a_model_that_cannot_be_traced_is_one_line(
    teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("aten::strange is not\nsupported")

    monkeypatch.setattr(export, "_trace", fail)
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path))
    with pytest.raises(EngineError, match=r"does not export to ONNX \(aten::strange is not supported\)"):
        load_engine("deepsparse", teacher, Placement())
    assert list((tmp_path / "onnx").iterdir()) == []


def test_only_the_banner_is_dropped_from_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with _without_lines("Banner"):
        os.write(2, b"before\nBanner, Copyright\nafter\n")
    os.write(2, b"outside\n")
    assert capfd.readouterr().err == "before\nafter\noutside\n"


def test_deepsparse_that_is_not_installed_is_an_error(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepsparse", None)
    with pytest.raises(EngineError, match="not installed here"):
        load_engine("deepsparse", teacher, Placement())
