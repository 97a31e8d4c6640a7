"""`zsd distill`, `predict`, `evaluate` and `benchmark` on a real Ray cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, pipeline

from zsd.assets import sample_path
from zsd.cli import main
from zsd.config import BenchmarkConfig, DistillConfig, PredictConfig
from zsd.distributed.benchmark import benchmark
from zsd.distributed.predict import predict
from zsd.distributed.train import distill
from zsd.errors import ConfigError, InputError
from zsd.inference import predict as run_student
from zsd.shards import Store, matrix
from zsd.students.checkpoint import load_checkpoint
from zsd.training_data import heldout_mask
from zsd.verify import verify_store

NAMES = ["technology", "sports", "health", "travel"]


def test_student_is_a_plain_transformers_checkpoint(distilled: Path) -> None:
    directory = str(distilled / "student")
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    assert [model.config.id2label[k] for k in range(4)] == NAMES
    assert model.config.num_hidden_layers == 3
    (scores,) = pipeline("text-classification", model=directory, top_k=None)(["The striker scored twice."])
    assert {one["label"] for one in scores} == set(NAMES)
    assert sum(one["score"] for one in scores) == pytest.approx(1, abs=1e-4)


def test_card_tells_where_the_student_comes_from(distilled: Path, labelled: Path) -> None:
    card = json.loads((distilled / "student" / "zsd.json").read_text())
    ids = Store(str(labelled)).read(["id"])["id"].to_pylist()
    assert card["heldout"]["rows"] == heldout_mask(ids).sum()
    assert card["train_rows"] + card["heldout"]["rows"] == len(ids)
    assert card["labels"]["names"] == NAMES
    assert 0 <= card["heldout"]["agreement"] <= 1
    assert not (distilled / "checkpoints").exists()


def test_student_learned_what_the_teacher_says(distilled: Path, labelled: Path) -> None:
    rows = Store(str(labelled)).read(["text", "probs"])
    model, tokenizer = load_checkpoint(distilled / "student")
    student_NK = run_student(model, tokenizer, rows["text"].to_pylist()).probs
    agreement = (student_NK.argmax(axis=1) == matrix(rows["probs"]).argmax(axis=1)).mean()
    assert agreement > 0.6  # 40 steps on 140 rows; chance is about 0.27


def test_two_workers_train_one_student(labelled: Path, tmp_path: Path) -> None:
    config = DistillConfig(soft_labels=str(labelled), output=str(tmp_path), num_workers=2, student="layers:1")
    card = distill(config, {"max_steps": 8, "per_device_train_batch_size": 8})
    assert card["workers"] == 2
    assert card["parameters"] > 0
    before = (tmp_path / "student" / "model.safetensors").stat().st_mtime_ns
    assert distill(config, {"max_steps": 8, "per_device_train_batch_size": 8}) == card
    assert (tmp_path / "student" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_killed_and_resumed_training_equals_uninterrupted(labelled: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _zsd_distill(labelled, whole).wait() == 0
    driver = _zsd_distill(labelled, killed)
    deadline = time.monotonic() + 240
    while not list((killed / "checkpoints" / "distill").glob("checkpoint_*")):
        assert driver.poll() is None, "the driver ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert not (killed / "student").exists()
    resumed = _zsd_distill(labelled, killed)
    assert resumed.wait() == 0
    one, other = (load_file(out / "student" / "model.safetensors") for out in (whole, killed))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        np.testing.assert_allclose(tensor.numpy(), other[name].numpy(), atol=1e-4, err_msg=name)


def _zsd_distill(labelled: Path, output: Path) -> subprocess.Popen[bytes]:
    arguments = ["--soft-labels", str(labelled), "--output", str(output), "--max_steps", "60", "--save_steps", "20"]
    arguments += ["--bf16", "false"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "zsd.cli", "distill", *arguments]
    return subprocess.Popen(command, start_new_session=True, env=environment, stderr=subprocess.DEVNULL)


def test_what_distill_refuses(labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no store"):
        distill(DistillConfig(soft_labels=str(tmp_path), output=str(tmp_path / "out")), {})
    config = DistillConfig(soft_labels=str(labelled), output=str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="label_smoothing_factor"):
        distill(config, {"label_smoothing_factor": 0.1})


def test_predictions_are_those_of_the_student(distilled: Path, tmp_path: Path) -> None:
    config = PredictConfig(
        model=str(distilled),
        data=(str(sample_path("test.csv")),),
        output=str(tmp_path / "out"),
        gpu_actors=0,
        cpu_actors=1,
    )
    manifest = predict(config)
    assert manifest["rows"] == manifest["rows_in"] == 169
    assert verify_store(str(tmp_path / "out")).problems == []
    rows = pq.read_table(tmp_path / "out" / "predictions")
    model, tokenizer = load_checkpoint(distilled / "student")
    expected_NK = run_student(model, tokenizer, rows["text"].to_pylist()).probs
    np.testing.assert_allclose(matrix(rows["probs"]), expected_NK, atol=1e-4)


def test_evaluate_counts_what_it_says(
    distilled: Path, gold_rows: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "figures.json"
    data = str(sample_path("test.csv"))
    assert main(["evaluate", "--model", str(distilled), "--data", data, "--json", str(target)]) == 0
    assert "accuracy" in capsys.readouterr().out
    model, tokenizer = load_checkpoint(distilled / "student")
    best_N = run_student(model, tokenizer, list(gold_rows)).probs.argmax(axis=1)
    right = [NAMES[k] == gold for k, gold in zip(best_N, gold_rows.values(), strict=True)]
    assert json.loads(target.read_text())["accuracy"] == pytest.approx(np.mean(right))


def test_benchmark_writes_figures_and_a_report(distilled: Path, tmp_path: Path, gold_rows: dict[str, str]) -> None:
    config = BenchmarkConfig(
        model=str(distilled),
        data=(str(sample_path("test.csv")),),
        output=str(tmp_path),
        limit=24,
        speed_rows=4,
        rounds=1,
        engines=("torch:fp32",),
    )
    result = benchmark(config)
    written = json.loads((tmp_path / "benchmark" / "benchmark.json").read_text())
    assert written["task"]["rows"] == 24
    kinds = {one["kind"]: one for one in written["contestants"]}
    assert kinds.keys() == {"pipeline", "recipe", "teacher", "student"}
    assert kinds["pipeline"]["speedup"] == 1
    assert kinds["pipeline"]["agreement"] == kinds["recipe"]["agreement"] == kinds["teacher"]["agreement"] == 1
    assert all(one["peak_share"] > 0 and one["flops_per_row"] > 0 for one in kinds.values())
    assert all(one["rows_per_second"] > 0 and one["peak_memory_mb"] > 0 for one in kinds.values())
    assert result["quality"]["teacher"]["accuracy"] > 0.5
    overhead = written["ray_overhead"]
    assert overhead["ratio"] == pytest.approx(overhead["label_rows_per_second"] / overhead["bare_rows_per_second"])
    page = (tmp_path / "benchmark" / "report.html").read_text()
    assert "transformers" in page
