from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from zsd.engines.registry import (
    ENGINE_NAMES,
    ENGINES,
    PRECISIONS,
    check_combination,
    combinations,
    find_engine,
    precisions_of,
    runs_on,
)
from zsd.errors import ConfigError


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_an_entry_names_a_class_that_knows_its_own_name(name: str) -> None:
    engine = getattr(importlib.import_module(ENGINES[name].module), ENGINES[name].class_name)
    assert engine.name == name


def test_combinations_are_those_of_the_entries() -> None:
    assert combinations("cpu") == [
        *(("torch", "fp32"), ("torch", "bf16"), ("torch", "draft")),
        *(("deepsparse", "fp32"), ("deepsparse", "int8")),
        *(("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"), ("openvino", "draft")),
        *(("onnxruntime", "fp32"), ("onnxruntime", "int8")),
        *(("native", "bf16"), ("native", "draft")),
    ]
    assert combinations("cuda") == [("torch", one) for one in ("fp32", "bf16", "fp16", "draft")]
    assert runs_on("cuda") == ["torch"] and combinations("tpu") == []
    assert all(precision in PRECISIONS for name in ENGINES for precision in precisions_of(name))


@pytest.mark.parametrize(
    ("name", "precision", "device", "message"),
    [
        ("warp", "fp32", None, "no engine 'warp': use one of auto, torch, deepsparse, openvino, onnxruntime"),
        ("deepsparse", "bf16", None, "deepsparse engine has no precision 'bf16': it has fp32, int8"),
        ("torch", "fp16", "cpu", "torch engine has no precision 'fp16' on cpu: it has fp32, bf16"),
        ("openvino", "fp32", "cuda", "'fp32' on cuda: it has none: use --engine torch"),
    ],
)
def test_what_no_engine_has_is_refused(name: str, precision: str, device: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_combination(name, precision, device)


def test_what_some_device_has_is_admitted_where_no_device_is_named() -> None:
    check_combination("torch", "fp16")
    check_combination("torch", "fp16", "cuda")
    assert find_engine("torch").class_name == "TorchEngine"


def test_asking_what_there_is_imports_nothing_heavy() -> None:
    heavy = "torch transformers onnx onnxruntime openvino deepsparse nncf"
    code = f"import sys, zsd.config, zsd.engines.registry; print(sorted(set('{heavy}'.split()) & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
