from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from zsd.annotate_config import AnnotateConfig
from zsd.benchmark_config import BenchmarkConfig
from zsd.config import (
    CorpusConfig,
    DistillConfig,
    EvaluateConfig,
    LabelConfig,
    PredictConfig,
    RunConfig,
)
from zsd.errors import ConfigError
from zsd.options import Options, flag
from zsd.serve_config import ServeConfig

LABEL: dict[str, Any] = {"data": ("c.txt",), "output": "o", "label": ("a", "b")}
DISTILL: dict[str, Any] = {"soft_labels": "s", "output": "o"}
BENCHMARK: dict[str, Any] = {"model": ("m",), "data": ("t.csv",), "output": "o"}


@pytest.mark.parametrize("config", [CorpusConfig, LabelConfig, DistillConfig, EvaluateConfig, PredictConfig, RunConfig])
def test_every_field_tells_what_it_is(config: type[Options]) -> None:
    assert all(one.kw_only and one.metadata["help"] for one in fields(config))


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (LabelConfig, {"data": ()}),
        (LabelConfig, {"label": ()}),
        (LabelConfig, {"labels": "l.txt"}),
        (LabelConfig, {"limit": 0}),
        (LabelConfig, {"cpus_per_actor": 0}),
        (LabelConfig, {"unit_rows": 0}),
        (LabelConfig, {"cpu_actors": -1}),
        (LabelConfig, {"gpu_actors": -1}),
        (LabelConfig, {"cpu_actors": 0, "gpu_actors": 0}),
        (LabelConfig, {"temperature": 0.0}),
        (LabelConfig, {"temperature": float("inf")}),
        (LabelConfig, {"min_agreement": 1.5}),
        (LabelConfig, {"max_length": 0}),
        (LabelConfig, {"engine": "tensorflow"}),
        (LabelConfig, {"precision": "int3"}),
        (LabelConfig, {"engine": "deepsparse", "precision": "bf16"}),
        (LabelConfig, {"engine": "torch", "precision": "int8"}),
        (LabelConfig, {"output": ""}),
        (DistillConfig, {"num_workers": 0}),
        (DistillConfig, {"heldout_fraction": 0.0}),
        (DistillConfig, {"heldout_fraction": 1.0}),
        (BenchmarkConfig, {"data": ()}),
        (BenchmarkConfig, {"rounds": 0}),
        (BenchmarkConfig, {"speed_rows": 0}),
        (BenchmarkConfig, {"engines": ("torch",)}),
        (BenchmarkConfig, {"engines": ("torch:fp32", "tensorflow:fp32")}),
        (BenchmarkConfig, {"engines": ("torch:fp16",)}),
        (BenchmarkConfig, {"engines": ("onnxruntime:bf16",)}),
    ],
)
def test_what_is_refused_is_named(config: type[Options], wrong: dict[str, Any]) -> None:
    right = {LabelConfig: LABEL, DistillConfig: DISTILL, BenchmarkConfig: BENCHMARK}[config]
    config(**right)
    with pytest.raises(ConfigError) as caught:
        config(**{**right, **wrong})
    assert any(flag(name) in str(caught.value) for name in wrong)


def test_an_engine_computes_with_what_it_has_where_nothing_is_said() -> None:
    corpus: dict[str, Any] = {"data": ("c.txt",), "output": "o"}
    assert PredictConfig(model="m", engine="native", **corpus).chosen_precision == "bf16"
    assert (
        PredictConfig(model="m", **corpus).chosen_precision == EvaluateConfig(model="m", data=("t",)).chosen_precision
    )
    assert PredictConfig(model="m", **corpus).chosen_precision == "fp32"
    assert ServeConfig(model="m", engine="native").precision is None
    annotated = {**LABEL, "student_engine": "native"}
    assert AnnotateConfig(**annotated).chosen_student_precision == "bf16"
    assert AnnotateConfig(**LABEL).chosen_student_precision == "fp32"
    for make in (
        lambda: PredictConfig(model="m", engine="native", precision="fp32", **corpus),
        lambda: ServeConfig(model="m", engine="native", precision="fp32"),
        lambda: AnnotateConfig(**annotated, student_precision="fp32"),
    ):
        with pytest.raises(ConfigError, match=r"precision is 'fp32': the native engine has bf16$"):
            make()
    with pytest.raises(ConfigError, match="--precision is 'fp32': the native engine has bf16, draft"):
        LabelConfig(**LABEL, engine="native", precision="fp32")


def test_evaluate_refuses_no_data_and_no_rows() -> None:
    for wrong in ({"data": ()}, {"data": ("t.csv",), "limit": 0}):
        with pytest.raises(ConfigError):
            EvaluateConfig(model="m", **wrong)


def test_class_names_come_from_a_file_or_from_flags(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("a\nb\n")
    from_file = LabelConfig(data=("c.txt",), output="o", labels=str(file), template=("{}!",)).label_set()
    assert from_file == LabelConfig(**LABEL, template=("{}!",)).label_set()


@pytest.mark.parametrize(
    "given",
    [
        {"labels": "l.txt"},
        {"label": ("a", "b")},
        {"multi_label": True},
        {"test": ("t.csv",)},
        {"text_column": "body"},
        {"id_column": "id"},
        {"label_column": "topic"},
    ],
)
def test_the_example_has_its_own_corpus(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="without a corpus") as caught:
        RunConfig(**given)
    assert flag(next(iter(given))) in str(caught.value)


def test_run_checks_the_rest_for_the_example_too() -> None:
    assert RunConfig(limit=10).output == "zsd-run"
    for wrong in ({"limit": 0}, {"temperature": -1.0}, {"num_workers": 0}):
        with pytest.raises(ConfigError):
            RunConfig(**wrong)
    with pytest.raises(ConfigError, match="class names"):
        RunConfig(data=("c.txt",))
